//! Output at a measured pace: changes wait and are shown together, every so often.
//!
//! The clock is the number of epochs, which is in milliseconds and in the journal, so that a
//! restart shows the same at the same epochs. Rows that are final do not wait. What waits is a
//! boundary's state, since what had been shown is the rows without it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::feed::Mark;
use super::vault::Boundary;
use crate::time::{Epoch, millis_of, reading_plain_times};

/// A change that waits, as it is saved: key and row as JSON, since rows may be of any type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    row: String,
    final_at: i64,
    diff: i64,
}

type Change<R> = (R, Epoch, isize);

/// One worker's share of what waits.
pub struct Paced<R> {
    boundary: Boundary,
    every: u64,
    /// Changes by the watermark that lets them pass, netted.
    waiting: BTreeMap<i64, BTreeMap<R, isize>>,
    restored: Vec<Saved>,
    last: Option<Epoch>,
}

impl<R> Paced<R>
where
    R: Ord + Clone + Serialize + serde::de::DeserializeOwned,
{
    /// Starts with what waited on this worker.
    pub fn new(boundary: Boundary, every: Duration, is_mine: impl Fn(&R) -> bool) -> Self {
        // What no longer reads back does not wait any more: its row is shown as it is.
        let is_ours = |saved: &Saved| saved.row().is_some_and(|row| is_mine(&row));
        let restored = boundary.restore::<Saved>(is_ours);
        Paced {
            boundary,
            every: millis_of(every).max(1).unsigned_abs(),
            waiting: BTreeMap::new(),
            restored,
            last: None,
        }
    }

    /// Takes a closed epoch's changes; `final_at` says from which watermark a row is final.
    pub fn retire(
        &mut self,
        clock: &Clock,
        watermark: i64,
        changes: Vec<Change<R>>,
        final_at: impl Fn(&R) -> i64,
        out: &mut Vec<Change<R>>,
    ) {
        let epoch = clock.epoch;
        let is_first = self.last.is_none();
        if is_first {
            // The rows come as they are, and were shown without what waits.
            out.extend(changes);
            for saved in std::mem::take(&mut self.restored) {
                let (Some(row), Ok(diff)) = (saved.row::<R>(), isize::try_from(saved.diff)) else {
                    continue;
                };
                out.push((row.clone(), epoch, -diff));
                let waiting = self.waiting.entry(saved.final_at).or_default();
                waiting.insert(row, diff);
            }
        } else {
            for (row, _, diff) in changes {
                let waiting = self.waiting.entry(final_at(&row)).or_default();
                let count = waiting.entry(row).or_insert(0);
                *count += diff;
            }
        }
        let is_time = self
            .last
            .is_some_and(|last| epoch / self.every > last / self.every);
        while let Some(entry) = self.waiting.first_entry().filter(|_| !is_first) {
            if !is_time && *entry.key() > watermark {
                break;
            }
            let passing = entry.remove().into_iter().filter(|(_, diff)| *diff != 0);
            out.extend(passing.map(|(row, diff)| (row, epoch, diff)));
        }
        self.last = Some(epoch);
        if clock.mark == Mark::Checkpoint {
            self.boundary.save(epoch, self.rows());
        }
    }

    fn rows(&self) -> Vec<Saved> {
        let rows = self.waiting.iter().flat_map(|(final_at, rows)| {
            let rows = rows.iter().filter(|(_, diff)| **diff != 0);
            rows.filter_map(|(row, diff)| {
                Some(Saved {
                    row: serde_json::to_string(row).ok()?,
                    final_at: *final_at,
                    diff: i64::try_from(*diff).ok()?,
                })
            })
        });
        rows.collect()
    }
}

impl Saved {
    fn row<R: serde::de::DeserializeOwned>(&self) -> Option<R> {
        // Windows may begin before the first instant that a record may have.
        reading_plain_times(|| serde_json::from_str(&self.row).ok())
    }
}
