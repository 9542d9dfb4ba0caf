//! The boundary that keeps every record as a row: for a time, or for ever.
//!
//! A record comes once and goes once. Rows lie in the order in which they go, so that neither
//! costs more when a key has many, nor when many keys are kept.

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
    /// Rows by the instant at which they go, if ever.
    rows: BTreeMap<i64, Vec<(K, R)>>,
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
            rows: BTreeMap::new(),
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
        if let Some(restored) = self.saving.restore() {
            for Saved { key, row } in restored.rows {
                expires = false;
                self.take(clock.epoch, key, row, out);
            }
            self.saving.is_restored();
        }
        for (key, row) in events {
            self.take(clock.epoch, key, row, out);
        }
        while let Some(entry) = self.rows.first_entry().filter(|_| expires) {
            if *entry.key() > watermark {
                break;
            }
            for (key, row) in entry.remove() {
                self.saving.gone(|| saved(&key, &row));
                out.push(((key, row.into_record()), clock.epoch, -1));
            }
        }
        if clock.mark == Mark::Checkpoint {
            self.saving.save(clock.epoch, 0);
        } else {
            self.saving.hand_over();
        }
    }

    fn take(
        &mut self,
        epoch: Epoch,
        key: K,
        row: R,
        out: &mut Vec<((K, R::Record), Epoch, isize)>,
    ) {
        self.saving.put(|| saved(&key, &row));
        let Some(how_long) = self.how_long else {
            out.push(((key, row.into_record()), epoch, 1));
            return;
        };
        out.push(((key.clone(), row.clone().into_record()), epoch, 1));
        // The watermark from which the row is gone.
        let goes_at = row.time().saturating_add(how_long);
        match self.rows.last_entry() {
            Some(mut newest) if *newest.key() == goes_at => newest.get_mut().push((key, row)),
            _ => self.rows.entry(goes_at).or_default().push((key, row)),
        }
    }
}

fn saved<K: Clone, R: Clone>(key: &K, row: &R) -> Saved<K, R> {
    Saved {
        key: key.clone(),
        row: row.clone(),
    }
}
