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
//! A session grows where it lies. When it is to be closed is noted as of when it began; only when
//! that time comes is it noted anew, by where it ends then.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::rc::Rc;

use differential_dataflow::hashable::Hashable;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::aggregate::Aggregate;
use super::changes::{Changes, Lasting, identity_of};
use super::clock::Clock;
use super::decode::Notice;
use super::feed::Mark;
use super::folding::Map;
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
#[derive(Clone)]
struct Open<A> {
    start: i64,
    end: i64,
    /// What tells it from the other sessions of its key; see [`Saved`].
    origin: i64,
    /// Whether it is among this epoch's, and not shown as it is.
    is_touched: bool,
    /// Whether it is among those that changed and are not noted as they are.
    is_unsaved: bool,
    acc: A,
}

/// How many sessions may have changed before their rows are copied. A session that changes in each
/// epoch is copied once for so many, since its accumulator may be large.
const UNSAVED: usize = 1024;

/// Room for so many keys is not given back.
const LEAST_ROOM: usize = 1024;

/// The open sessions of a key: mostly one, which needs no memory of its own.
type OfKey<A> = SmallVec<[Open<A>; 1]>;

/// A session's key and origin.
type Name<K> = (K, i64);

/// One change of the table of sessions.
pub type Update<K, V> = (((K, Window), V), Epoch, isize);

/// One worker's share of the boundary.
pub struct Sessions<K, T, A: Aggregate<T>> {
    shape: SessionShape,
    aggregate: Rc<A>,
    changes: Changes<Saved<K, A::Acc>>,
    /// The open sessions of each key that has any, by start. Two may have the same where one was
    /// closed to a record of another partition.
    open: Map<K, OfKey<A::Acc>>,
    /// When to see whether a session, by its origin, is to be closed: not later than it ends.
    /// Some of those named are gone.
    ends: BTreeSet<(i64, K, i64)>,
    /// Final sessions by end.
    done: BTreeMap<i64, Vec<Saved<K, A::Acc>>>,
    /// Sessions of this epoch, which are not shown or noted as they are.
    touched: Vec<Name<K>>,
    /// Sessions that changed; their changes are not noted yet.
    unsaved: Vec<Name<K>>,
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
            open: Map::default(),
            ends: BTreeSet::new(),
            done: BTreeMap::new(),
            touched: Vec::new(),
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
        for name in std::mem::take(&mut self.touched) {
            let Some(open) = find(&mut self.open, &name).filter(|open| open.is_touched) else {
                continue;
            };
            open.is_touched = false;
            if !self.shape.final_only {
                let value = self.aggregate.finish(&open.acc);
                out.push(update(&name.0, open.start, open.end, value, epoch, 1));
            }
            if self.changes.is_noting() && !open.is_unsaved {
                open.is_unsaved = true;
                self.unsaved.push(name);
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
        for name in self.unsaved.drain(..) {
            if let Some(open) = find(&mut self.open, &name).filter(|open| open.is_unsaved) {
                open.is_unsaved = false;
                self.changes.put(|| open.clone().into_row(name.0));
            }
        }
    }

    /// Whether a session is closed to a record, or altogether, by a watermark.
    fn is_closed(&self) -> impl Fn(i64, i64) -> bool + use<K, T, A> {
        let (shape, past) = (self.shape, self.past);
        move |end, watermark| shape.is_closed(end, watermark) || closes_at(end, 0) <= past
    }

    fn take(
        &mut self,
        event: Arriving<K, A::Acc>,
        epoch: Epoch,
        out: &mut Vec<Update<K, A::Out>>,
        late: &mut Vec<Notice>,
    ) {
        let (mut start, mut end) = (event.time, event.time.saturating_add(self.shape.gap));
        let (is_closed, is_told) = (self.is_closed(), self.is_told());
        let mut merged: Option<Open<A::Acc>> = None;
        let mut of_key = self.open.get_mut(&event.key);
        while let Some(of_key) = &mut of_key {
            // A session that is closed to this record may lie among those that are not.
            let met = of_key.iter().rposition(|open| {
                open.start <= end && open.end >= start && !is_closed(open.end, event.watermark)
            });
            let Some(at) = met else {
                break;
            };
            let open = of_key.remove(at);
            (start, end) = (start.min(open.start), end.max(open.end));
            if !open.is_touched && !self.shape.final_only {
                let value = self.aggregate.finish(&open.acc);
                out.push(update(&event.key, open.start, open.end, value, epoch, -1));
            }
            if let Some(into) = &mut merged {
                self.aggregate.merge(&mut into.acc, &open.acc);
                self.changes.gone(|| open.into_row(event.key.clone()));
            } else {
                merged = Some(open);
            }
        }
        let open = match merged {
            Some(mut open) => {
                self.aggregate.merge(&mut open.acc, &event.acc);
                Open { start, end, ..open }
            }
            None if is_closed(end, event.watermark) => {
                late.push(notice(event));
                return;
            }
            None => {
                self.ends.insert((end, event.key.clone(), event.time));
                Open::new(start, end, event.time, event.acc)
            }
        };
        match of_key {
            Some(of_key) => put(of_key, open, &event.key, is_told, &mut self.touched),
            None => self.insert(event.key, open),
        }
    }

    fn close(&mut self, watermark: i64, epoch: Epoch, out: &mut Vec<Update<K, A::Out>>) {
        let is_closed = self.is_closed();
        while let Some((end, ..)) = self.ends.first() {
            if !is_closed(*end, watermark) {
                break;
            }
            let Some((_, key, origin)) = self.ends.pop_first() else {
                break;
            };
            let Some(of_key) = self.open.get_mut(&key) else {
                continue;
            };
            let Some(at) = of_key.iter().position(|open| open.origin == origin) else {
                continue;
            };
            let end = of_key[at].end;
            if !is_closed(end, watermark) {
                self.ends.insert((end, key, origin));
                continue;
            }
            let open = of_key.remove(at);
            if of_key.is_empty() {
                self.open.remove(&key);
            }
            if self.shape.final_only {
                let value = self.aggregate.finish(&open.acc);
                out.push(update(&key, open.start, end, value, epoch, 1));
            }
            if !self.shape.is_replay {
                let is_unsaved = open.is_unsaved;
                let row = open.into_row(key);
                if is_unsaved {
                    self.changes.put(|| row.clone());
                }
                self.done.entry(end).or_default().push(row);
            }
        }
        // Memory follows the sessions that are open, not the most that ever were.
        if self.open.capacity() > LEAST_ROOM.max(8 * self.open.len()) {
            self.open.shrink_to(2 * self.open.len());
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
            self.ends.insert((row.end, row.key.clone(), origin));
            let open = Open::new(row.start, row.end, origin, row.acc);
            self.insert(row.key, open);
        }
    }

    fn insert(&mut self, key: K, open: Open<A::Acc>) {
        let is_told = self.is_told();
        let of_key = self.open.entry(key.clone()).or_default();
        put(of_key, open, &key, is_told, &mut self.touched);
    }

    /// Whether anybody is told of sessions before they are final.
    fn is_told(&self) -> bool {
        !self.shape.final_only || self.changes.is_noting()
    }
}

/// An open session by its name.
fn find<'o, K: Hash + Eq, A>(
    open: &'o mut Map<K, OfKey<A>>,
    (key, origin): &Name<K>,
) -> Option<&'o mut Open<A>> {
    // The newest are those that change.
    let mut of_key = open.get_mut(key)?.iter_mut().rev();
    of_key.find(|open| open.origin == *origin)
}

/// Puts a session among those of its key, and among those that changed if anybody is told of them.
fn put<K: Clone, A>(
    of_key: &mut OfKey<A>,
    mut open: Open<A>,
    key: &K,
    is_told: bool,
    touched: &mut Vec<Name<K>>,
) {
    if is_told && !open.is_touched {
        open.is_touched = true;
        touched.push((key.clone(), open.origin));
    }
    let at = of_key.partition_point(|other| (other.start, other.end) < (open.start, open.end));
    of_key.insert(at, open);
}

impl<A> Open<A> {
    fn new(start: i64, end: i64, origin: i64, acc: A) -> Open<A> {
        Open {
            start,
            end,
            origin,
            is_touched: false,
            is_unsaved: false,
            acc,
        }
    }

    fn into_row<K>(self, key: K) -> Saved<K, A> {
        Saved {
            key,
            start: self.start,
            end: self.end,
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
