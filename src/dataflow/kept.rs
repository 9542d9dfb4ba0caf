//! The boundary that keeps every record as a row: for a time, or for ever.
//!
//! A record comes once and goes once. Rows lie in the order in which they go, so that neither
//! costs more when a key has many, nor when many keys are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::feed::Mark;
use super::vault::Boundary;
use crate::time::Epoch;

/// A row that goes at an instant, or never.
pub trait Going {
    /// The watermark from which the row is gone; `i64::MAX` for never.
    fn goes_at(&self, how_long: Option<i64>) -> i64;
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

/// One worker's share of the boundary.
pub struct Kept<K, R> {
    boundary: Boundary,
    /// How long a row is kept, in ms; for ever where nothing is said.
    how_long: Option<i64>,
    /// Rows by the instant at which they go.
    rows: BTreeMap<i64, Vec<(K, R)>>,
    restored: Vec<Saved<K, R>>,
}

impl<K, R> Kept<K, R>
where
    K: Clone + Serialize + serde::de::DeserializeOwned + Send + 'static,
    R: Going + Clone + Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    /// Starts with the rows saved for this worker.
    pub fn new(boundary: Boundary, how_long: Option<i64>, is_mine: impl Fn(&K) -> bool) -> Self {
        let restored = boundary.restore::<Saved<K, R>>(|saved| is_mine(&saved.key));
        Kept {
            boundary,
            how_long,
            rows: BTreeMap::new(),
            restored,
        }
    }

    /// Takes a closed epoch: its records, then its watermark. Emits the changes of the table.
    pub fn retire(
        &mut self,
        clock: &Clock,
        watermark: i64,
        events: Vec<(K, R)>,
        out: &mut Vec<((K, R), Epoch, isize)>,
    ) {
        let restored = std::mem::take(&mut self.restored);
        // The epoch restored is shown as it was.
        let expires = restored.is_empty() && clock.mark != Mark::End;
        let restored = restored.into_iter().map(|Saved { key, row }| (key, row));
        for (key, row) in restored.chain(events) {
            let goes_at = row.goes_at(self.how_long);
            out.push(((key.clone(), row.clone()), clock.epoch, 1));
            self.rows.entry(goes_at).or_default().push((key, row));
        }
        while let Some(entry) = self.rows.first_entry().filter(|_| expires) {
            if *entry.key() > watermark {
                break;
            }
            let gone = entry.remove().into_iter();
            out.extend(gone.map(|row| (row, clock.epoch, -1)));
        }
        if clock.mark == Mark::Checkpoint {
            let rows = self.rows.values().flatten().cloned();
            let rows = rows.map(|(key, row)| Saved { key, row }).collect();
            self.boundary.save(clock.epoch, rows);
        }
    }
}
