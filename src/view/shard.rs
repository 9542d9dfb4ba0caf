//! One worker's part of a view: the versions of its rows in order, and the log of their changes.
//!
//! A row has a version for each epoch that changed how often it occurs. What is needed only for
//! epochs before `since` is pruned by following the log entries that fall out of the history, so
//! the cost of forgetting follows the changes, never the number of rows.

use std::collections::VecDeque;
use std::mem::size_of;
use std::ops::Bound;

use super::groups::{Groups, Left, row_bytes};
use crate::row::{Ordered, Row};
use crate::time::{Epoch, Timestamp};

/// How many rows or changes are looked at during one hold of a shard's lock.
pub(super) const RUN: usize = 256;

/// A change of the log.
#[derive(Debug)]
struct Change {
    row: Row,
    diff: i64,
    /// Whether the row has versions to prune once this falls out of the history.
    prunes: bool,
}

/// What an epoch changed, in the order it was applied.
#[derive(Debug)]
struct EpochLog {
    epoch: Epoch,
    changes: Vec<Change>,
    /// The groups of rows that left, by the instant at which these had become final.
    left: Vec<Timestamp>,
}

/// What a run of changes did besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// Bytes that the log took on, and the rows it alone keeps from now on.
    pub history_bytes: usize,
    /// How many rows came, less those that went.
    pub rows: i64,
    /// Rows that now occur less than never, and did not before, or came after their time.
    pub anomalies: u64,
}

/// The place of the next change to read: an epoch of the log and an index in it, or among the
/// groups that left and behind which of a group's rows.
#[derive(Debug)]
pub(super) struct LogPosition {
    epoch: Epoch,
    index: usize,
    group: usize,
    after: Option<Ordered>,
}

impl LogPosition {
    /// Before the first change after an epoch.
    pub fn after(epoch: Epoch) -> LogPosition {
        LogPosition::at(epoch.saturating_add(1))
    }

    fn at(epoch: Epoch) -> LogPosition {
        LogPosition {
            epoch,
            index: 0,
            group: 0,
            after: None,
        }
    }
}

/// The rows and the log of one worker.
#[derive(Debug, Default)]
pub(super) struct Shard {
    rows: Groups,
    log: VecDeque<EpochLog>,
    newest: Epoch,
    log_bytes: usize,
}

const CHANGE_BYTES: usize = size_of::<Change>() + size_of::<(Epoch, i64)>();

impl Shard {
    /// Has final rows leave together from here on; said before there are any.
    pub fn leave_together(&mut self) {
        self.rows.leave_together();
    }

    /// Has all rows that became final up to an instant leave at an epoch, before its changes.
    pub fn leave(&mut self, epoch: Epoch, upto: Timestamp) -> Left {
        let left = self.rows.leave(epoch, upto);
        if !left.instants.is_empty() {
            self.open(epoch);
            let log = self.log.back_mut().expect("the epoch's log was opened");
            log.left.extend_from_slice(&left.instants);
        }
        left
    }

    /// Takes in changes at an epoch; each row occurs at most once in them.
    pub fn apply(
        &mut self,
        epoch: Epoch,
        since: Epoch,
        changes: impl Iterator<Item = (Ordered, i64)>,
    ) -> Effect {
        self.open(epoch);
        let log = self.log.back_mut().expect("the epoch's log was opened");
        let mut effect = Effect::default();
        for (row, diff) in changes {
            let Some(changed) = self.rows.change(row, epoch, since, diff) else {
                effect.anomalies += 1;
                continue;
            };
            effect.rows += diff;
            effect.anomalies += u64::from(changed.before >= 0 && changed.after < 0);
            let row = changed.row;
            effect.history_bytes += CHANGE_BYTES + if diff < 0 { row_bytes(&row) } else { 0 };
            self.log_bytes += CHANGE_BYTES;
            log.changes.push(Change {
                row,
                diff,
                prunes: !changed.is_new,
            });
        }
        effect
    }

    /// Makes the newest log that of an epoch.
    fn open(&mut self, epoch: Epoch) {
        assert!(
            self.newest <= epoch,
            "epoch {epoch} is applied to a shard that is already at {}",
            self.newest
        );
        self.newest = epoch;
        if self.log.back().is_none_or(|last| last.epoch < epoch) {
            self.log.push_back(EpochLog {
                epoch,
                changes: Vec::new(),
                left: Vec::new(),
            });
        }
    }

    /// Forgets at most `budget` changes that no epoch from `since` on needs; says how many.
    pub fn compact(&mut self, since: Epoch, budget: usize) -> usize {
        let mut done = 0;
        while done < budget {
            let Some(oldest) = self.log.front_mut().filter(|log| log.epoch <= since) else {
                break;
            };
            if let Some(change) = oldest.changes.pop() {
                done += 1;
                self.log_bytes -= CHANGE_BYTES;
                if change.prunes {
                    self.rows.prune(change.row, since);
                }
            } else if let Some(instant) = oldest.left.last() {
                match self.rows.remove(*instant, budget - done) {
                    0 => drop(oldest.left.pop()),
                    removed => done += removed,
                }
            } else {
                self.log.pop_front();
            }
        }
        done
    }

    /// Visits at most [`RUN`] rows of a range with how often they occur at `at`, zero included.
    /// Gives the last one visited if there may be more.
    pub fn visit(
        &self,
        at: Epoch,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        mut each: impl FnMut(&Ordered, i64),
    ) -> Option<Ordered> {
        let mut last = None;
        let mut visited = 0;
        for (row, versions) in self.rows.range(at, (from, to)).take(RUN) {
            each(row, versions.at(at));
            visited += 1;
            last = Some(row);
        }
        last.filter(|_| visited == RUN).cloned()
    }

    /// The first row of a row's key that is there at the newest epoch, and how many there are,
    /// counted up to 2.
    pub fn newest_of(&self, row: &Row) -> (Option<Row>, i64) {
        let (mut first, mut count) = (None, 0);
        for (row, versions) in self.rows.of_key(row) {
            if count > 1 {
                break;
            }
            if versions.newest() > 0 {
                first.get_or_insert_with(|| row.row.clone());
                count += versions.newest();
            }
        }
        (first, count)
    }

    /// Visits a bounded run of changes up to and with epoch `to`; says where the next one starts.
    pub fn changes(
        &self,
        from: LogPosition,
        to: Epoch,
        mut each: impl FnMut(Epoch, &Ordered, i64),
    ) -> Option<LogPosition> {
        let mut room = RUN;
        let mut next = from;
        let first = self.log.partition_point(|log| log.epoch < next.epoch);
        for log in self.log.range(first..).take_while(|log| log.epoch <= to) {
            if log.epoch > next.epoch {
                next = LogPosition::at(log.epoch);
            }
            for change in log.changes.iter().skip(next.index) {
                if room == 0 {
                    return Some(next);
                }
                each(log.epoch, &change.row.clone().into(), change.diff);
                next.index += 1;
                room -= 1;
            }
            for instant in log.left.iter().skip(next.group) {
                let after = next.after.take();
                let mut last = after.as_ref();
                for (row, versions) in self.rows.rows_after(*instant, last) {
                    if room == 0 {
                        next.after = last.cloned();
                        return Some(next);
                    }
                    // It may have left before its group, and be history since.
                    if versions.newest() != 0 {
                        each(log.epoch, row, -versions.newest());
                    }
                    last = Some(row);
                    room -= 1;
                }
                next.group += 1;
            }
        }
        None
    }

    /// About how many bytes the rows and their history take.
    pub fn bytes(&self) -> usize {
        self.log_bytes + self.rows.bytes()
    }

    /// How many rows are kept at all, those that are only history included.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.rows.all().count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::versions::Versions;
    use super::*;

    fn row(n: u32) -> Ordered {
        Row::new(&n, &(), None).unwrap().into()
    }

    fn counts(shard: &Shard, at: Epoch) -> Vec<(String, i64)> {
        let mut seen = Vec::new();
        shard.visit(at, (Bound::Unbounded, Bound::Unbounded), |row, count| {
            seen.push((row.row.key().to_string(), count));
        });
        seen.retain(|(_, count)| *count != 0);
        seen
    }

    #[test]
    fn each_epoch_sees_its_own_version_until_it_is_pruned() {
        let mut shard = Shard::default();
        shard.apply(1, 0, [(row(1), 1), (row(2), 3)].into_iter());
        shard.apply(2, 0, [(row(1), -1)].into_iter());
        shard.apply(4, 0, [(row(1), 2)].into_iter());
        let ones = |at| {
            counts(&shard, at)
                .iter()
                .find(|(key, _)| key == "1")
                .map(|(_, n)| *n)
        };
        assert_eq!(
            [0, 1, 2, 3, 4].map(ones),
            [None, Some(1), None, None, Some(2)]
        );
        assert_eq!(shard.compact(3, usize::MAX), 3);
        let ones = |at| {
            counts(&shard, at)
                .iter()
                .find(|(key, _)| key == "1")
                .map(|(_, n)| *n)
        };
        assert_eq!([3, 4].map(ones), [None, Some(2)]);
    }

    #[test]
    fn a_row_that_left_takes_nothing_once_its_history_is_pruned() {
        let mut shard = Shard::default();
        for n in 0..1000 {
            shard.apply(1, 0, [(row(n), 1)].into_iter());
        }
        shard.apply(2, 0, (0..1000).map(|n| (row(n), -1)));
        shard.apply(3, 0, [(row(7), 1)].into_iter());
        shard.apply(3, 0, [(row(7), -1)].into_iter());
        while shard.compact(3, 100) > 0 {}
        assert_eq!((shard.kept(), shard.bytes(), shard.log.len()), (0, 0, 0));
    }

    #[test]
    fn a_row_that_stays_keeps_one_version_once_its_history_is_pruned() {
        let mut shard = Shard::default();
        for epoch in 1..100 {
            shard.apply(epoch, 0, [(row(1), 1)].into_iter());
        }
        let older = |shard: &Shard| shard.rows.all().map(Versions::older).sum::<usize>();
        assert_eq!(
            (older(&shard), shard.compact(50, usize::MAX), older(&shard)),
            (98, 50, 49)
        );
        shard.compact(98, usize::MAX);
        assert_eq!(
            (older(&shard), counts(&shard, 98)),
            (1, vec![("1".into(), 98)])
        );
        shard.compact(99, usize::MAX);
        assert_eq!(
            (older(&shard), counts(&shard, 99)),
            (0, vec![("1".into(), 99)])
        );
    }

    #[test]
    fn a_negative_count_is_kept_and_counted_once() {
        let mut shard = Shard::default();
        assert_eq!(shard.apply(1, 0, [(row(1), -1)].into_iter()).anomalies, 1);
        assert_eq!(shard.apply(2, 0, [(row(1), -1)].into_iter()).anomalies, 0);
        assert_eq!(shard.apply(3, 0, [(row(1), 3)].into_iter()).anomalies, 0);
        assert_eq!(counts(&shard, 3), [("1".to_string(), 1)]);
    }
}
