//! The boundary that keeps every record as a row: for a time, or for ever.
//!
//! A record comes once and goes once. The rows that came with an epoch lie together in the order in
//! which they go, so that neither costs more when a key has many, nor when many keys are kept.

use std::collections::BTreeMap;
use std::hash::Hash;

use differential_dataflow::hashable::Hashable;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::changes::{Changes, Lasting, identity_among};
use super::clock::Clock;
use super::feed::Mark;
use super::vault::Boundary;
use crate::row::EncodeError;
use crate::time::Epoch;

/// A row that goes a set time after an instant, or never.
pub trait Going: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// What is shown of it.
    type Record;

    /// The instant, in ms.
    fn time(&self) -> i64;

    /// A copy of that alone.
    fn record(&self) -> Self::Record;

    /// Gives that alone.
    fn into_record(self) -> Self::Record;
}

/// A row as it is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    bound = "K: Serialize + serde::de::DeserializeOwned, R: Serialize + serde::de::DeserializeOwned"
)]
pub struct Saved<K, R> {
    key: K,
    row: R,
}

impl<K, R> Lasting for Saved<K, R>
where
    K: Clone + Hash + Serialize + DeserializeOwned + Send + 'static,
    R: Clone + Serialize + DeserializeOwned + Send + 'static,
{
    /// A row says which record it was: no key has two that are alike.
    fn identity(&self) -> Result<Vec<u8>, EncodeError> {
        identity_among(&self.key, &self.row)
    }

    fn owner(&self) -> u64 {
        self.key.hashed()
    }
}

/// One worker's share of the boundary.
pub struct Kept<K, R> {
    saving: Changes<Saved<K, R>>,
    /// How long a row is kept, in ms; for ever where nothing is said.
    how_long: Option<i64>,
    /// The rows that came with an epoch, if they ever go: the next to go is the last. By the
    /// watermark at which that one goes, and the epoch.
    runs: BTreeMap<(i64, Epoch), Vec<(K, R)>>,
}

impl<K, R> Kept<K, R>
where
    K: Clone + Hash + Serialize + DeserializeOwned + Send + 'static,
    R: Going,
{
    /// Starts with the rows saved for this worker.
    pub fn new(
        boundary: Boundary,
        how_long: Option<i64>,
        owns: impl Fn(u64) -> bool + 'static,
    ) -> Self {
        Kept {
            saving: Changes::new(boundary, owns),
            how_long,
            runs: BTreeMap::new(),
        }
    }

    /// Takes a closed epoch: its records, then its watermark. Emits the changes of the table.
    pub fn retire(
        &mut self,
        clock: &Clock,
        watermark: i64,
        events: Vec<(K, R)>,
        out: &mut Vec<((K, R::Record), Epoch, isize)>,
    ) {
        // The epoch restored is shown as it was.
        let mut expires = clock.mark != Mark::End;
        let mut rows = Vec::new();
        if let Some(restored) = self.saving.restore() {
            for Saved { key, row } in restored.rows {
                expires = false;
                self.saving.put(|| saved(&key, &row));
                rows.push((key, row));
            }
            self.saving.is_restored();
        }
        for (key, row) in &events {
            self.saving.put(|| saved(key, row));
        }
        if rows.is_empty() {
            rows = events;
        } else {
            rows.extend(events);
        }
        self.show(clock.epoch, rows, out);
        while let Some(entry) = self.runs.first_entry().filter(|_| expires) {
            let (goes_at, came) = *entry.key();
            if goes_at > watermark {
                break;
            }
            let mut run = entry.remove();
            while let Some((key, row)) = run.pop_if(|(_, row)| self.goes_at(row) <= Some(watermark))
            {
                self.saving.gone(|| saved(&key, &row));
                out.push(((key, row.into_record()), clock.epoch, -1));
            }
            self.wait(came, run);
        }
        if clock.mark == Mark::Checkpoint {
            self.saving.save(clock.epoch, 0);
        } else {
            self.saving.hand_over();
        }
    }

    /// Shows rows that come, and has them wait for when they go.
    fn show(
        &mut self,
        epoch: Epoch,
        mut rows: Vec<(K, R)>,
        out: &mut Vec<((K, R::Record), Epoch, isize)>,
    ) {
        if self.how_long.is_none() {
            let rows = rows.into_iter();
            out.extend(rows.map(|(key, row)| ((key, row.into_record()), epoch, 1)));
            return;
        }
        let shown = rows.iter();
        out.extend(shown.map(|(key, row)| ((key.clone(), row.record()), epoch, 1)));
        // Most came in order of time, which a sort in that order makes use of.
        rows.sort_by_key(|(_, row)| row.time());
        rows.reverse();
        rows.shrink_to_fit();
        self.wait(epoch, rows);
    }

    /// Has rows that came with an epoch wait, those that go first at the end.
    fn wait(&mut self, came: Epoch, mut rows: Vec<(K, R)>) {
        let next = rows.last().and_then(|(_, row)| self.goes_at(row));
        let Some(goes_at) = next else { return };
        if rows.capacity() > 2 * rows.len() {
            rows.shrink_to_fit();
        }
        self.runs.insert((goes_at, came), rows);
    }

    /// The watermark from which a row is gone, if ever.
    fn goes_at(&self, row: &R) -> Option<i64> {
        Some(row.time().saturating_add(self.how_long?))
    }
}

fn saved<K: Clone, R: Clone>(key: &K, row: &R) -> Saved<K, R> {
    Saved {
        key: key.clone(),
        row: row.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;
    use crate::dataflow::vault::{Boundaries, NoVault};

    impl Going for (i64, u8) {
        type Record = (i64, u8);

        fn time(&self) -> i64 {
            self.0
        }

        fn record(&self) -> (i64, u8) {
            *self
        }

        fn into_record(self) -> (i64, u8) {
            self
        }
    }

    proptest! {
        #[test]
        fn a_row_is_there_until_the_watermark_has_passed_its_time_by_as_much(
            epochs in prop::collection::vec(
                (prop::collection::vec((0..3_u8, 0..40_i64), 0..12), 0..9_i64),
                1..12,
            ),
        ) {
            type Row = Saved<u8, (i64, u8)>;
            let vault = Rc::new(NoVault);
            let boundary = Boundary::new::<Row>("kept".into(), vault, &mut Boundaries::new());
            let mut kept = Kept::new(boundary, Some(10), |_| true);
            let (mut rows, mut there) = (Vec::new(), Vec::new());
            let (mut watermark, mut nth) = (0, 0);
            for (epoch, (events, step)) in (0..).zip(epochs) {
                watermark += step;
                let mut input = Vec::new();
                for (key, time) in events {
                    nth += 1;
                    input.push((key, (time, nth)));
                }
                rows.extend(input.clone());
                rows.retain(|(_, (time, _))| time + 10 > watermark);
                let mut out = Vec::new();
                kept.retire(&Clock::at(epoch), watermark, input, &mut out);
                for (row, at, diff) in out {
                    prop_assert_eq!(at, epoch);
                    if diff > 0 {
                        there.push(row);
                    } else {
                        there.retain(|other| *other != row);
                    }
                }
                there.sort_unstable();
                rows.sort_unstable();
                prop_assert_eq!(&there, &rows);
                let held: usize = kept.runs.values().map(Vec::len).sum();
                prop_assert_eq!(held, rows.len(), "nothing is held of rows that went");
            }
        }
    }
}
