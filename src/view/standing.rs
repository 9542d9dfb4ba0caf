//! How the inputs are doing now, as opposed to what an epoch includes of them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::time::Timestamp;

/// What keeps something from going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What, in a sentence that names the object.
    pub why: Arc<str>,
    /// Since when.
    pub since: Timestamp,
}

/// How a stream is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What keeps the whole stream from being read.
    pub trouble: Option<Trouble>,
    /// Its partitions.
    pub partitions: BTreeMap<u32, PartitionStanding>,
}

/// How a partition is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionStanding {
    /// The position after the last record there now.
    pub end: u64,
    /// For how long nothing came while it was being read, in ms.
    pub silent_ms: u64,
    /// Whether it waits for the slower partitions of its stream (`max_drift`).
    pub is_ahead: bool,
    /// What keeps it from being read.
    pub trouble: Option<Trouble>,
}

/// How the streams of a service are doing; written by who reads them.
#[derive(Debug, Default)]
pub struct Standings(RwLock<BTreeMap<String, Standing>>);

impl Standings {
    /// Says how a stream is doing. A trouble that was known keeps the time it began.
    pub fn set(&self, stream: &str, mut standing: Standing) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = all.get(stream) {
            keep_since(&mut standing.trouble, before.trouble.as_ref());
            for (id, partition) in &mut standing.partitions {
                let before = before.partitions.get(id);
                keep_since(
                    &mut partition.trouble,
                    before.and_then(|p| p.trouble.as_ref()),
                );
            }
        }
        all.insert(stream.to_owned(), standing);
    }

    /// How a stream is doing, as last said.
    pub fn of(&self, stream: &str) -> Standing {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(stream).cloned().unwrap_or_default()
    }
}

fn keep_since(now: &mut Option<Trouble>, before: Option<&Trouble>) {
    if let (Some(now), Some(before)) = (now, before)
        && now.why == before.why
    {
        now.since = before.since;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(why: &str, since: i64) -> Standing {
        let trouble = Trouble {
            why: why.into(),
            since: Timestamp(since),
        };
        Standing {
            trouble: Some(trouble),
            ..Standing::default()
        }
    }

    #[test]
    fn a_trouble_began_when_it_was_first_told() {
        let all = Standings::default();
        assert_eq!(all.of("clicks"), Standing::default());
        all.set("clicks", standing("the broker is down", 1));
        all.set("clicks", standing("the broker is down", 5));
        assert_eq!(all.of("clicks"), standing("the broker is down", 1));
        all.set("clicks", standing("the topic is gone", 7));
        assert_eq!(all.of("clicks"), standing("the topic is gone", 7));
        all.set("clicks", Standing::default());
        assert_eq!(all.of("clicks").trouble, None);
    }
}
