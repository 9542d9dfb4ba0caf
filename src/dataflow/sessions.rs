//! The session boundary: records of a key with no gap between them are one window.
//!
//! A record at `t` spans `[t, t + gap)` and is merged with every open session that it overlaps or
//! touches. Which sessions are open depends on rows, so records are taken in journal order (epoch,
//! stream, partition, position), each judged by its own partition's watermark just before it: a
//! session that ends at or before that, less 1 ms, is closed to it and never merges again. A
//! record is late if what it would be merged into has ended.
//!
//! A record looks at the open sessions of its key, and they are few: they end later than the
//! watermark less the allowed lateness. How long they are, and how many there were, is no matter.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::rc::Rc;

use differential_dataflow::hashable::Hashable;
use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use super::changes::{Changes, Lasting, identity_of};
use super::clock::Clock;
use super::decode::Notice;
use super::feed::Mark;
use super::panes::closes_at;
use super::vault::Boundary;
use crate::row::EncodeError;
use crate::time::{Epoch, Timestamp, Window};

/// What is asked of sessions; in ms.
#[derive(Clone, Copy, Debug)]
pub struct SessionShape {
    /// How long after a record a session still takes another.
    pub gap: i64,
    /// How long after its end a session still takes records.
    pub allowed: i64,
    /// How long a final session is kept.
    pub keep: i64,
    /// Whether only final rows are wanted.
    pub final_only: bool,
    /// Whether final rows stay for ever: a replay ends before they would go.
    pub is_replay: bool,
}

impl SessionShape {
    /// Whether a record is late by its own partition, should no session take it.
    pub fn is_late(&self, time: i64, watermark: i64) -> bool {
        self.is_closed(time.saturating_add(self.gap), watermark)
    }

    fn is_closed(&self, end: i64, watermark: i64) -> bool {
        watermark >= closes_at(end, self.allowed)
    }
}

/// A record on its way to its session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arriving<K, A> {
    /// The key.
    pub key: K,
    /// Where it stands in the journal's order, within its epoch: stream, partition, position, part.
    pub place: (u16, u32, u64, u16),
    /// The event time in ms.
    pub time: i64,
    /// Its partition's watermark just before it.
    pub watermark: i64,
    /// The accumulator of it alone.
    pub acc: A,
    /// The record as it came, where it may be late.
    pub raw: Option<String>,
}

/// A row of the boundary as it is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    bound = "K: Serialize + serde::de::DeserializeOwned, A: Serialize + serde::de::DeserializeOwned"
)]
pub struct Saved<K, A> {
    key: K,
    start: i64,
    end: i64,
    /// What tells it from the other sessions of its key, however it grows: the time of a record of
    /// its own, in ms. No record begins a session at a time that another, still there, goes over.
    #[serde(default)]
    origin: Option<i64>,
    /// Whether it was final when the row was written; it may be since, by the watermark that is
    /// noted with all rows.
    is_final: bool,
    acc: A,
}

impl<K, A> Lasting for Saved<K, A>
where
    K: Clone + Hash + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Clone + Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    fn identity(&self) -> Result<Vec<u8>, EncodeError> {
        identity_of(&(&self.key, self.origin))
    }

    fn owner(&self) -> u64 {
        self.key.hashed()
    }
}

/// A session that takes records.
struct Open<A> {
    origin: i64,
    /// Whether it is among those that changed, as far as they are remembered.
    is_unsaved: bool,
    acc: A,
}

/// How many sessions may have changed before their rows are copied. A session that changes in each
/// epoch is copied once for so many, since its accumulator may be large.
const UNSAVED: usize = 1024;

/// A session: its key, its start and its end. Two of a key may have the same start where one was
/// closed to a record of another partition.
type Place<K> = (K, i64, i64);

/// One change of the table of sessions.
pub type Update<K, V> = (((K, Window), V), Epoch, isize);

/// One worker's share of the boundary.
pub struct Sessions<K, T, A: Aggregate<T>> {
    shape: SessionShape,
    aggregate: Rc<A>,
    changes: Changes<Saved<K, A::Acc>>,
    /// Open sessions.
    open: BTreeMap<Place<K>, Open<A::Acc>>,
    /// The open sessions by end.
    ends: BTreeSet<(i64, K, i64)>,
    /// Final sessions by end.
    done: BTreeMap<i64, Vec<Saved<K, A::Acc>>>,
    /// Sessions of this epoch, which are not shown or noted as they are.
    touched: BTreeSet<Place<K>>,
    /// Sessions that changed, where they were then; their changes are not noted yet.
    unsaved: Vec<Place<K>>,
    /// The watermark that was noted with the rows it began with, less the lateness allowed then:
    /// what was final at it is, whatever is allowed now.
    past: i64,
}

impl<K, T, A> Sessions<K, T, A>
where
    K: Clone + Ord + Hash + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Aggregate<T>,
{
    /// Starts with the rows saved for this worker.
    pub fn new(
        shape: SessionShape,
        aggregate: Rc<A>,
        boundary: Boundary,
        owns: impl Fn(u64) -> bool + 'static,
    ) -> Self {
        Sessions {
            shape,
            aggregate,
            changes: Changes::new(boundary, owns),
            open: BTreeMap::new(),
            ends: BTreeSet::new(),
            done: BTreeMap::new(),
            touched: BTreeSet::new(),
            unsaved: Vec::new(),
            past: i64::MIN,
        }
    }

    /// Takes a closed epoch: its records, then its watermark. Emits the changes of the table.
    pub fn retire(
        &mut self,
        clock: &Clock,
        watermark: i64,
        mut events: Vec<Arriving<K, A::Acc>>,
        out: &mut Vec<Update<K, A::Out>>,
        late: &mut Vec<Notice>,
    ) {
        let epoch = clock.epoch;
        // The epoch restored is shown as it was.
        if let Some(restored) = self.changes.restore() {
            self.past = restored.note.unwrap_or(i64::MIN);
            for row in restored.rows {
                self.restore(row, epoch, out);
            }
        } else if clock.mark != Mark::End && !self.shape.is_replay {
            self.expire(watermark, epoch, out);
        }
        events.sort_by_key(|event| event.place);
        for event in events {
            self.take(event, epoch, out, late);
        }
        for at in std::mem::take(&mut self.touched) {
            let Some(open) = self.open.get_mut(&at) else {
                continue;
            };
            if !self.shape.final_only {
                let value = self.aggregate.finish(&open.acc);
                out.push(update(&at.0, at.1, at.2, value, epoch, 1));
            }
            if self.changes.is_noting() {
                open.is_unsaved = true;
                self.unsaved.push(at);
            }
        }
        // Only now: what was restored did not change by being shown.
        self.changes.is_restored();
        self.close(watermark, epoch, out);
        if clock.mark == Mark::Checkpoint {
            self.save_changed();
            let past = watermark.saturating_sub(self.shape.allowed);
            self.changes.save(epoch, past.max(self.past));
        } else {
            if self.unsaved.len() >= UNSAVED {
                self.save_changed();
            }
            self.changes.hand_over();
        }
    }

    /// Notes the sessions that changed, those that are still open, as they are.
    fn save_changed(&mut self) {
        for at in self.unsaved.drain(..) {
            // One that went on to another place is remembered there.
            if let Some(open) = self.open.get_mut(&at).filter(|open| open.is_unsaved) {
                open.is_unsaved = false;
                self.changes.put(|| open.row(at));
            }
        }
    }

    /// Whether a session is closed to a record, or altogether, by a watermark.
    fn is_closed(&self, end: i64, watermark: i64) -> bool {
        self.shape.is_closed(end, watermark) || closes_at(end, 0) <= self.past
    }

    fn take(
        &mut self,
        event: Arriving<K, A::Acc>,
        epoch: Epoch,
        out: &mut Vec<Update<K, A::Out>>,
        late: &mut Vec<Notice>,
    ) {
        let (mut start, mut end) = (event.time, event.time.saturating_add(self.shape.gap));
        let mut merged = Vec::new();
        loop {
            // A session that is closed to this record may lie among those that are not.
            let key = || event.key.clone();
            let of_key = (key(), i64::MIN, i64::MIN)..=(key(), end, i64::MAX);
            let met = self.open.range(of_key).rev().find(|((.., until), _)| {
                *until >= start && !self.is_closed(*until, event.watermark)
            });
            let Some((at, _)) = met else {
                break;
            };
            let at = at.clone();
            (start, end) = (start.min(at.1), end.max(at.2));
            merged.extend(self.remove(&at, epoch, out).map(|open| (at, open)));
        }
        if merged.is_empty() && self.is_closed(end, event.watermark) {
            late.push(notice(event));
            return;
        }
        let mut merged = merged.into_iter();
        let (origin, acc) = match merged.next() {
            Some((_, mut open)) => {
                for (at, other) in merged {
                    self.aggregate.merge(&mut open.acc, &other.acc);
                    self.changes.gone(|| other.into_row(at));
                }
                self.aggregate.merge(&mut open.acc, &event.acc);
                (open.origin, open.acc)
            }
            None => (event.time, event.acc),
        };
        self.insert((event.key, start, end), origin, acc);
    }

    fn insert(&mut self, at: Place<K>, origin: i64, acc: A::Acc) {
        self.ends.insert((at.2, at.0.clone(), at.1));
        if !self.shape.final_only || self.changes.is_noting() {
            self.touched.insert(at.clone());
        }
        let is_unsaved = false;
        let open = Open {
            origin,
            is_unsaved,
            acc,
        };
        self.open.insert(at, open);
    }

    /// Takes an open session out; its row goes if it was shown.
    fn remove(
        &mut self,
        at: &Place<K>,
        epoch: Epoch,
        out: &mut Vec<Update<K, A::Out>>,
    ) -> Option<Open<A::Acc>> {
        let open = self.open.remove(at)?;
        self.ends.remove(&(at.2, at.0.clone(), at.1));
        if !self.touched.remove(at) && !self.shape.final_only {
            let value = self.aggregate.finish(&open.acc);
            out.push(update(&at.0, at.1, at.2, value, epoch, -1));
        }
        Some(open)
    }

    fn close(&mut self, watermark: i64, epoch: Epoch, out: &mut Vec<Update<K, A::Out>>) {
        while let Some((end, ..)) = self.ends.first() {
            if !self.is_closed(*end, watermark) {
                break;
            }
            let Some((end, key, start)) = self.ends.pop_first() else {
                break;
            };
            let at = (key, start, end);
            let Some(open) = self.open.remove(&at) else {
                continue;
            };
            if self.shape.final_only {
                let value = self.aggregate.finish(&open.acc);
                out.push(update(&at.0, start, end, value, epoch, 1));
            }
            if !self.shape.is_replay {
                let is_unsaved = open.is_unsaved;
                let row = open.into_row(at);
                if is_unsaved {
                    self.changes.put(|| row.clone());
                }
                self.done.entry(end).or_default().push(row);
            }
        }
    }

    /// Removes the sessions whose retention has passed.
    fn expire(&mut self, watermark: i64, epoch: Epoch, out: &mut Vec<Update<K, A::Out>>) {
        while let Some(entry) = self.done.first_entry() {
            let end = *entry.key();
            if watermark < end.saturating_add(self.shape.keep) {
                break;
            }
            for row in entry.remove() {
                let value = self.aggregate.finish(&row.acc);
                out.push(update(&row.key, row.start, end, value, epoch, -1));
                self.changes.gone(|| row);
            }
        }
    }

    fn restore(
        &mut self,
        mut row: Saved<K, A::Acc>,
        epoch: Epoch,
        out: &mut Vec<Update<K, A::Out>>,
    ) {
        // Earlier versions did not say: the time of its last record does as well.
        let origin = row.origin.unwrap_or(row.end.saturating_sub(self.shape.gap));
        row.origin = Some(origin);
        row.is_final |= closes_at(row.end, 0) <= self.past;
        if row.is_final {
            let value = self.aggregate.finish(&row.acc);
            out.push(update(&row.key, row.start, row.end, value, epoch, 1));
            self.changes.put(|| row.clone());
            self.done.entry(row.end).or_default().push(row);
        } else {
            self.insert((row.key, row.start, row.end), origin, row.acc);
        }
    }
}

impl<A> Open<A> {
    fn row<K>(&self, at: Place<K>) -> Saved<K, A>
    where
        A: Clone,
    {
        let (origin, is_unsaved) = (self.origin, false);
        let acc = self.acc.clone();
        Open {
            origin,
            is_unsaved,
            acc,
        }
        .into_row(at)
    }

    fn into_row<K>(self, (key, start, end): Place<K>) -> Saved<K, A> {
        Saved {
            key,
            start,
            end,
            origin: Some(self.origin),
            is_final: false,
            acc: self.acc,
        }
    }
}

fn update<K: Clone, V>(
    key: &K,
    start: i64,
    end: i64,
    value: V,
    epoch: Epoch,
    diff: isize,
) -> Update<K, V> {
    let window = Window {
        start: Timestamp(start),
        end: Timestamp(end),
    };
    (((key.clone(), window), value), epoch, diff)
}

fn notice<K, A>(event: Arriving<K, A>) -> Notice {
    let (stream, partition, position, _) = event.place;
    Notice {
        stream,
        partition,
        position,
        reason: "late".to_owned(),
        record: event.raw.unwrap_or_default(),
        time: Some(event.time),
    }
}

#[cfg(test)]
mod tests;
