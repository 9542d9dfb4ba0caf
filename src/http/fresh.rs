//! How old an answer is: since when input that was acknowledged may be missing from it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::time::{Epoch, Timestamp};
use crate::view::Labels;

/// How many looks at the ends of the logs are kept, and how far apart they are, in ms. An answer
/// that lacks older input than this has the age that it had when it last was younger, and more.
const LOOKS: usize = 600;
const APART: i64 = 100;

/// Compares, whenever an epoch is shown, what it includes with what had been acknowledged when.
pub(super) struct Freshness {
    begun: Timestamp,
    looks: Mutex<VecDeque<Look>>,
    /// By stream: the newest epoch shown includes all that was acknowledged until then.
    whole: RwLock<BTreeMap<String, Timestamp>>,
}

/// Where the logs ended at a time.
struct Look {
    at: Timestamp,
    ends: BTreeMap<String, u64>,
}

impl Freshness {
    pub(super) fn new(begun: Timestamp) -> Freshness {
        Freshness {
            begun,
            looks: Mutex::default(),
            whole: RwLock::default(),
        }
    }

    /// Takes note of an epoch that is being shown, and of where each posted stream ends.
    pub(super) fn shown(&self, now: Timestamp, labels: &Labels, end: impl Fn(&str) -> Option<u64>) {
        let posted = labels.streams.iter().filter_map(|(name, label)| {
            let position = label.partitions.get(&0).map_or(0, |part| part.position);
            Some((name, position, end(name)?))
        });
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut whole = self.whole.write().unwrap_or_else(PoisonError::into_inner);
        let mut ends = BTreeMap::new();
        for (name, position, end) in posted {
            let included = |look: &Look| look.ends.get(name).is_some_and(|end| *end <= position);
            let until = if end <= position {
                Some(now)
            } else {
                looks
                    .iter()
                    .rev()
                    .find(|look| included(look))
                    .map(|look| look.at)
            };
            let place = whole.entry(name.clone()).or_insert(self.begun);
            *place = (*place).max(until.unwrap_or(self.begun));
            ends.insert(name.clone(), end);
        }
        keep(&mut looks, Look { at: now, ends });
    }

    /// Whether an epoch was cut before the service started, so that its number says how old it is.
    /// Where the clock stepped back, or numbers were left out after a loss of power, it was not.
    pub(super) fn is_before(&self, epoch: Epoch) -> bool {
        i64::try_from(epoch).is_ok_and(|cut| cut < self.begun.0)
    }

    /// Up to when the answer of an epoch includes all input of these streams.
    pub(super) fn until<'a>(
        &self,
        labels: &Labels,
        streams: impl IntoIterator<Item = &'a String>,
    ) -> Timestamp {
        // An epoch's number is the time of day at which it was cut.
        let cut = Timestamp(i64::try_from(labels.epoch).unwrap_or(i64::MAX));
        let whole = self.whole.read().unwrap_or_else(PoisonError::into_inner);
        streams
            .into_iter()
            .filter_map(|name| whole.get(name))
            .fold(cut, |until, whole| until.min(*whole))
    }

    /// Takes note of where a stream ends that is being posted to; says how long its oldest
    /// acknowledged record that is not shown yet has waited, at least.
    pub(super) fn posted(
        &self,
        now: Timestamp,
        labels: &Labels,
        stream: &str,
        end: u64,
    ) -> Duration {
        let label = labels.streams.get(stream);
        let position = label
            .and_then(|label| label.partitions.get(&0))
            .map(|part| part.position);
        if end <= position.unwrap_or(0) {
            return Duration::ZERO;
        }
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = [(stream.to_owned(), end)].into();
        keep(&mut looks, Look { at: now, ends });
        // The first look that found a record beyond what is shown.
        let beyond = |look: &&Look| {
            look.ends
                .get(stream)
                .is_some_and(|end| Some(*end) > position)
        };
        let since = looks.iter().find(beyond).map_or(now, |look| look.at);
        Duration::from_millis(u64::try_from(now.0.saturating_sub(since.0)).unwrap_or(0))
    }
}

/// Keeps a look unless the last one was a moment ago.
fn keep(looks: &mut VecDeque<Look>, look: Look) {
    if let Some(last) = looks.back_mut()
        && look.at.0 < last.at.0.saturating_add(APART)
    {
        for (stream, end) in look.ends {
            last.ends.entry(stream).or_insert(end);
        }
        return;
    }
    looks.push_back(look);
    if looks.len() > LOOKS {
        looks.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{PartitionLabel, StreamLabel};

    fn labels(epoch: u64, position: u64) -> Labels {
        let partition = PartitionLabel {
            position,
            ..PartitionLabel::default()
        };
        let label = StreamLabel {
            partitions: [(0, partition)].into(),
            ..StreamLabel::default()
        };
        Labels {
            epoch,
            streams: [("clicks".to_owned(), label)].into(),
            ..Labels::default()
        }
    }

    #[test]
    fn an_answer_is_as_old_as_the_oldest_input_it_lacks() {
        let fresh = Freshness::new(Timestamp(0));
        let show = |now: i64, position: u64, end: u64| {
            let labels = labels(u64::try_from(now).unwrap(), position);
            fresh.shown(Timestamp(now), &labels, |_| Some(end));
            let until = fresh.until(&labels, &["clicks".to_owned()]);
            let backlog = fresh.posted(Timestamp(now), &labels, "clicks", end);
            (now - until.0, backlog.as_millis())
        };
        assert_eq!(show(1000, 5, 5), (0, 0));
        assert_eq!(
            show(2000, 5, 9),
            (1000, 0),
            "four records came in the last second"
        );
        assert_eq!(show(3000, 6, 20), (2000, 1000));
        assert_eq!(
            show(4000, 9, 20),
            (2000, 1000),
            "all that was there at 2000"
        );
        assert_eq!(show(5000, 20, 20), (0, 0));
        // A query that does not read the stream is not older for it.
        assert_eq!(fresh.until(&labels(5000, 1), &[]), Timestamp(5000));
    }

    #[test]
    fn an_age_goes_on_growing_when_the_looks_are_forgotten() {
        let fresh = Freshness::new(Timestamp(0));
        for n in 0..1000 {
            let labels = labels(n * 100, 5);
            let now = Timestamp(i64::try_from(n * 100).unwrap());
            fresh.shown(now, &labels, |_| Some(5 + n));
        }
        let until = fresh.until(&labels(99_900, 5), &["clicks".to_owned()]);
        assert_eq!(until, Timestamp(0));
    }
}
