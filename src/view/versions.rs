//! How often a row occurs, epoch by epoch.

use crate::time::Epoch;

/// How often a row occurs, by epoch. Most rows have one version, and it takes no allocation.
#[derive(Debug)]
pub(super) struct Versions {
    epoch: Epoch,
    count: i64,
    /// What was before, oldest first; none most of the time, and then one word.
    #[allow(clippy::box_collection, reason = "one word in each row, and not three")]
    older: Option<Box<Vec<(Epoch, i64)>>>,
}

impl Versions {
    /// Of a row that comes at an epoch.
    pub fn new(epoch: Epoch, count: i64) -> Versions {
        Versions {
            epoch,
            count,
            older: None,
        }
    }

    /// How often the row occurs at the newest epoch.
    pub fn newest(&self) -> i64 {
        self.count
    }

    pub fn at(&self, at: Epoch) -> i64 {
        if self.epoch <= at {
            return self.count;
        }
        let mut before = self.older.iter().flat_map(|older| older.iter().rev());
        let before = before.find(|(epoch, _)| *epoch <= at);
        before.map_or(0, |(_, count)| *count)
    }

    pub fn add(&mut self, epoch: Epoch, diff: i64) {
        if self.epoch < epoch {
            let older = self.older.get_or_insert_default();
            older.push((self.epoch, self.count));
            self.epoch = epoch;
        }
        self.count += diff;
    }

    /// Forgets what no epoch from `since` on needs.
    pub fn prune(&mut self, since: Epoch) {
        if self.epoch <= since {
            self.older = None;
        }
        let Some(older) = &mut self.older else {
            return;
        };
        let settled = older.partition_point(|(epoch, _)| *epoch <= since);
        let Some(newest) = settled.checked_sub(1) else {
            return;
        };
        // To have been absent is what no version says, too.
        let needless = if older[newest].1 == 0 {
            settled
        } else {
            newest
        };
        older.drain(..needless);
        if older.is_empty() {
            self.older = None;
        }
    }

    /// Whether no epoch that may still be read has the row.
    pub fn is_gone(&self) -> bool {
        self.count == 0 && self.older.is_none()
    }

    /// How many older versions there are.
    #[cfg(test)]
    pub fn older(&self) -> usize {
        self.older.as_ref().map_or(0, |older| older.len())
    }
}
