//! Bounded stores of what was not taken: late and rejected records, counted for ever, the newest
//! kept. Keyed by stream, partition and position, so that a replay overwrites instead of adding.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::changes::{Changes, Lasting, identity_of};
use super::clock::Clock;
use super::decode::Notice;
use super::feed::Mark;
use super::vault::Boundary;
use crate::row::{EncodeError, Row};
use crate::time::Epoch;

/// How many records a store keeps; older ones, by epoch and then by place, make room.
pub const KEPT: usize = 10_000;

type Place = (Epoch, u16, u32, u64, u64);

/// Takes the changes of a view, epoch by epoch.
pub type Sink = Box<dyn FnMut(Epoch, Vec<(Row, i64)>)>;

/// Where a store shows what it has.
pub struct Shown {
    /// Takes the rows.
    pub rows: Sink,
    /// Takes how many records there ever were.
    pub total: Box<dyn FnMut(u64)>,
}

/// A store as it is saved: one row a record, and one with the count.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    epoch: Epoch,
    number: u64,
    stream: String,
    partition: u32,
    position: u64,
    reason: String,
    record: String,
    time: Option<i64>,
}

impl Lasting for Saved {
    fn identity(&self) -> Result<Vec<u8>, EncodeError> {
        identity_of(&(self.epoch, self.number))
    }

    fn owner(&self) -> u64 {
        0
    }

    fn is_dealt() -> bool {
        // A store lives on one worker, wherever its place in the catalog puts it.
        false
    }
}

/// The value of a record's row.
#[derive(Serialize)]
struct Value<'a> {
    record: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<i64>,
}

/// One store; it lives on one worker, so that its bound does not depend on their number.
pub struct Store {
    names: Vec<String>,
    saving: Changes<Saved>,
    shown: Shown,
    kept: BTreeMap<Place, Notice>,
    total: u64,
}

impl Store {
    /// Starts with what was saved. `names` are the streams of the catalog.
    pub fn new(names: Vec<String>, boundary: Boundary, shown: Shown, is_mine: bool) -> Store {
        Store {
            names,
            saving: Changes::new(boundary, move |_| is_mine),
            shown,
            kept: BTreeMap::new(),
            total: 0,
        }
    }

    /// Takes a closed epoch.
    pub fn retire(&mut self, clock: &Clock, mut notices: Vec<Notice>) {
        let mut changes = Vec::new();
        if let Some(restored) = self.saving.restore() {
            for saved in restored.rows {
                self.saving.put(|| saved.clone());
                self.restore(saved, &mut changes);
            }
            self.saving.is_restored();
        }
        // Records made from one record share its place; they are told apart by their order.
        notices.sort();
        for notice in notices {
            self.total += 1;
            let place = (
                clock.epoch,
                notice.stream,
                notice.partition,
                notice.position,
                self.total,
            );
            self.show(&notice, 1, &mut changes);
            self.saving.put(|| saved(&self.names, &place, &notice));
            self.kept.insert(place, notice);
            if self.kept.len() > KEPT
                && let Some((place, oldest)) = self.kept.pop_first()
            {
                self.show(&oldest, -1, &mut changes);
                self.saving.gone(|| saved(&self.names, &place, &oldest));
            }
        }
        if !changes.is_empty() {
            (self.shown.total)(self.total);
            (self.shown.rows)(clock.epoch, changes);
        }
        if clock.mark == Mark::Checkpoint {
            self.saving.save(clock.epoch, 0);
        } else {
            self.saving.hand_over();
        }
    }

    fn show(&self, notice: &Notice, diff: i64, changes: &mut Vec<(Row, i64)>) {
        let name = self
            .names
            .get(usize::from(notice.stream))
            .map_or("", String::as_str);
        let value = Value {
            record: &notice.record,
            reason: &notice.reason,
            time: notice.time,
        };
        let key = (name, notice.partition, notice.position);
        match Row::new(&key, &value, None) {
            Ok(row) => changes.push((row, diff)),
            Err(error) => tracing::error!(%error, "a late or rejected record cannot be shown"),
        }
    }

    fn restore(&mut self, saved: Saved, changes: &mut Vec<(Row, i64)>) {
        self.total = self.total.max(saved.number);
        // A stream that no query reads any more is not in the catalog; its records go with it.
        let Some(stream) = self.names.iter().position(|name| *name == saved.stream) else {
            return;
        };
        let notice = Notice {
            stream: u16::try_from(stream).unwrap_or(u16::MAX),
            partition: saved.partition,
            position: saved.position,
            reason: saved.reason,
            record: saved.record,
            time: saved.time,
        };
        self.show(&notice, 1, changes);
        let place = (
            saved.epoch,
            notice.stream,
            notice.partition,
            notice.position,
            saved.number,
        );
        self.kept.insert(place, notice);
    }
}

/// A record as it is saved.
fn saved(names: &[String], (epoch, .., number): &Place, notice: &Notice) -> Saved {
    Saved {
        epoch: *epoch,
        number: *number,
        stream: names
            .get(usize::from(notice.stream))
            .cloned()
            .unwrap_or_default(),
        partition: notice.partition,
        position: notice.position,
        reason: notice.reason.clone(),
        record: notice.record.clone(),
        time: notice.time,
    }
}
