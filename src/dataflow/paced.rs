//! Output at a measured pace: changes wait and are shown together, every so often.
//!
//! The clock is the number of epochs, which is in milliseconds and in the journal, so that a
//! restart shows the same at the same epochs. Rows that are final do not wait. What waits is a
//! boundary's state, since what had been shown is the rows without it.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::time::Duration;

use differential_dataflow::hashable::Hashable;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::changes::{Changes, Lasting, identity_among};
use super::clock::Clock;
use super::feed::Mark;
use super::vault::Boundary;
use crate::row::EncodeError;
use crate::time::{Epoch, millis_of, reading_plain_times};

/// A change that waits, as it is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "K: Serialize + DeserializeOwned, V: Serialize + DeserializeOwned")]
pub struct Saved<K, V> {
    row: Text<(K, V)>,
    final_at: i64,
    diff: i64,
}

impl<K, V> Lasting for Saved<K, V>
where
    K: Clone + Hash + Serialize + DeserializeOwned + Send + 'static,
    V: Clone + Serialize + DeserializeOwned + Send + 'static,
{
    fn identity(&self) -> Result<Vec<u8>, EncodeError> {
        let text = serde_json::to_string(&self.row);
        identity_among(&self.final_at, &text.map_err(serde::ser::Error::custom)?)
    }

    fn owner(&self) -> u64 {
        match &self.row {
            Text::Of((key, _)) => key.hashed(),
            Text::Unread(_) => 0,
        }
    }
}

/// Key and row, saved as JSON, since rows may be of any type.
#[derive(Clone, Debug)]
enum Text<R> {
    Of(R),
    /// What no longer reads back.
    Unread(String),
}

impl<R: Serialize> Serialize for Text<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Text::Of(row) => {
                let text = serde_json::to_string(row);
                serializer.serialize_str(&text.map_err(serde::ser::Error::custom)?)
            }
            Text::Unread(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de, R: DeserializeOwned> Deserialize<'de> for Text<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Windows may begin before the first instant that a record may have.
        let row = reading_plain_times(|| serde_json::from_str(&text).ok());
        Ok(row.map_or(Text::Unread(text), Text::Of))
    }
}

/// How a row changes once it no longer waits.
struct Waiting {
    diff: isize,
    /// Whether the change is noted: not what passes in the epoch in which it came.
    is_noted: bool,
}

type Row<K, V> = (K, V);
type Change<K, V> = (Row<K, V>, Epoch, isize);

/// One worker's share of what waits.
pub struct Paced<K, V> {
    saving: Changes<Saved<K, V>>,
    every: u64,
    /// Changes by the watermark that lets them pass, netted.
    waiting: BTreeMap<i64, BTreeMap<Row<K, V>, Waiting>>,
    last: Option<Epoch>,
}

impl<K, V> Paced<K, V>
where
    K: Ord + Hash + Clone + Serialize + DeserializeOwned + Send + 'static,
    V: Ord + Clone + Serialize + DeserializeOwned + Send + 'static,
{
    /// Starts with what waited on this worker.
    pub fn new(
        boundary: Boundary,
        every: Duration,
        owns: impl Fn(u64) -> bool + 'static,
    ) -> Paced<K, V> {
        Paced {
            saving: Changes::new(boundary, owns),
            every: millis_of(every).max(1).unsigned_abs(),
            waiting: BTreeMap::new(),
            last: None,
        }
    }

    /// Takes a closed epoch's changes; `final_at` says from which watermark a row is final.
    pub fn retire(
        &mut self,
        clock: &Clock,
        watermark: i64,
        changes: Vec<Change<K, V>>,
        final_at: impl Fn(&Row<K, V>) -> i64,
        out: &mut Vec<Change<K, V>>,
    ) {
        let epoch = clock.epoch;
        if self.last.is_none() {
            // The rows come as they are, and were shown without what waits.
            out.extend(changes);
            self.restore(epoch, out);
        } else {
            let is_time = |last| epoch / self.every > last / self.every;
            let until = if self.last.is_some_and(is_time) {
                i64::MAX
            } else {
                watermark
            };
            for (row, _, diff) in changes {
                self.wait(final_at(&row), row, diff, until);
            }
            self.pass(until, epoch, out);
        }
        self.last = Some(epoch);
        if clock.mark == Mark::Checkpoint {
            self.saving.save(epoch, 0);
        } else {
            self.saving.hand_over();
        }
    }

    fn restore(&mut self, epoch: Epoch, out: &mut Vec<Change<K, V>>) {
        let Some(restored) = self.saving.restore() else {
            return;
        };
        // What no longer reads back does not wait any more: its row is shown as it is.
        let mut unread = Vec::new();
        for saved in restored.rows {
            let diff = isize::try_from(saved.diff).unwrap_or_default();
            let Text::Of(row) = &saved.row else {
                unread.push(saved);
                continue;
            };
            out.push((row.clone(), epoch, -diff));
            let (row, is_noted) = (row.clone(), true);
            let waiting = self.waiting.entry(saved.final_at).or_default();
            waiting.insert(row, Waiting { diff, is_noted });
            self.saving.put(|| saved);
        }
        self.saving.is_restored();
        for saved in unread {
            self.saving.gone(|| saved);
        }
    }

    /// Has a change wait for what is let pass `until` now, or later.
    fn wait(&mut self, final_at: i64, row: Row<K, V>, diff: isize, until: i64) {
        let copy = (final_at > until && self.saving.is_noting()).then(|| row.clone());
        let waiting = self.waiting.entry(final_at).or_default();
        let waiting = waiting.entry(row).or_insert(Waiting {
            diff: 0,
            is_noted: false,
        });
        waiting.diff += diff;
        let Some(row) = copy else {
            return;
        };
        let saved = saved(row, final_at, waiting.diff);
        match (waiting.diff, waiting.is_noted) {
            (0, _) => self.saving.gone(|| saved),
            (_, true) => self.saving.put(|| saved),
            (_, false) => self.saving.came(|| saved),
        }
        waiting.is_noted = true;
    }

    fn pass(&mut self, until: i64, epoch: Epoch, out: &mut Vec<Change<K, V>>) {
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() > until {
                break;
            }
            let (final_at, rows) = entry.remove_entry();
            for (row, waiting) in rows {
                if waiting.is_noted {
                    let row = || saved(row.clone(), final_at, waiting.diff);
                    self.saving.gone(row);
                }
                if waiting.diff != 0 {
                    out.push((row, epoch, waiting.diff));
                }
            }
        }
    }
}

fn saved<K, V>(row: Row<K, V>, final_at: i64, diff: isize) -> Saved<K, V> {
    Saved {
        row: Text::Of(row),
        final_at,
        diff: i64::try_from(diff).unwrap_or_default(),
    }
}
