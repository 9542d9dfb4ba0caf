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
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use super::clock::Clock;
use super::decode::Notice;
use super::feed::Mark;
use super::panes::closes_at;
use super::vault::Boundary;
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
    is_final: bool,
    acc: A,
}

/// A session: its key, its start and its end. Two of a key may have the same start where one was
/// closed to a record of another partition.
type Place<K> = (K, i64, i64);

/// One change of the table of sessions.
pub type Update<K, V> = (((K, Window), V), Epoch, isize);

/// One worker's share of the boundary.
pub struct Sessions<K, T, A: Aggregate<T>> {
    shape: SessionShape,
    aggregate: Rc<A>,
    boundary: Boundary,
    /// Open sessions.
    open: BTreeMap<Place<K>, A::Acc>,
    /// The open sessions by end.
    ends: BTreeSet<(i64, K, i64)>,
    /// Final sessions by end, with their starts.
    done: BTreeMap<i64, Vec<(K, i64, A::Acc)>>,
    /// Sessions of this epoch that are not shown as they are.
    unshown: BTreeSet<Place<K>>,
    restored: Vec<Saved<K, A::Acc>>,
}

impl<K, T, A> Sessions<K, T, A>
where
    K: Clone + Ord + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Aggregate<T>,
{
    /// Starts with the rows saved for this worker.
    pub fn new(
        shape: SessionShape,
        aggregate: Rc<A>,
        boundary: Boundary,
        is_mine: impl Fn(&K) -> bool,
    ) -> Self {
        let restored = boundary.restore::<Saved<K, A::Acc>>(|row| is_mine(&row.key));
        Sessions {
            shape,
            aggregate,
            boundary,
            open: BTreeMap::new(),
            ends: BTreeSet::new(),
            done: BTreeMap::new(),
            unshown: BTreeSet::new(),
            restored,
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
        let restored = std::mem::take(&mut self.restored);
        // The epoch restored is shown as it was.
        let expires = restored.is_empty() && clock.mark != Mark::End;
        if expires && !self.shape.is_replay {
            self.expire(watermark, epoch, out);
        }
        for row in restored {
            self.restore(row, epoch, out);
        }
        events.sort_by_key(|event| event.place);
        for event in events {
            self.take(event, epoch, out, late);
        }
        for at in std::mem::take(&mut self.unshown) {
            if let Some(acc) = self.open.get(&at) {
                out.push(update(
                    &at.0,
                    at.1,
                    at.2,
                    self.aggregate.finish(acc),
                    epoch,
                    1,
                ));
            }
        }
        self.close(watermark, epoch, out);
        if clock.mark == Mark::Checkpoint {
            self.boundary.save(epoch, self.rows());
        }
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
                *until >= start && !self.shape.is_closed(*until, event.watermark)
            });
            let Some((at, _)) = met else {
                break;
            };
            let at = at.clone();
            (start, end) = (start.min(at.1), end.max(at.2));
            merged.extend(self.remove(&at, epoch, out));
        }
        if merged.is_empty() && self.shape.is_closed(end, event.watermark) {
            late.push(notice(event));
            return;
        }
        let mut accs = merged.into_iter();
        let acc = match accs.next() {
            Some(mut acc) => {
                for other in accs {
                    self.aggregate.merge(&mut acc, &other);
                }
                self.aggregate.merge(&mut acc, &event.acc);
                acc
            }
            None => event.acc,
        };
        self.insert((event.key, start, end), acc);
    }

    fn insert(&mut self, at: Place<K>, acc: A::Acc) {
        self.ends.insert((at.2, at.0.clone(), at.1));
        if !self.shape.final_only {
            self.unshown.insert(at.clone());
        }
        self.open.insert(at, acc);
    }

    /// Takes an open session out; its row goes if it was shown.
    fn remove(
        &mut self,
        at: &Place<K>,
        epoch: Epoch,
        out: &mut Vec<Update<K, A::Out>>,
    ) -> Option<A::Acc> {
        let acc = self.open.remove(at)?;
        self.ends.remove(&(at.2, at.0.clone(), at.1));
        if !self.shape.final_only && !self.unshown.remove(at) {
            let value = self.aggregate.finish(&acc);
            out.push(update(&at.0, at.1, at.2, value, epoch, -1));
        }
        Some(acc)
    }

    fn close(&mut self, watermark: i64, epoch: Epoch, out: &mut Vec<Update<K, A::Out>>) {
        while let Some((end, ..)) = self.ends.first() {
            if !self.shape.is_closed(*end, watermark) {
                break;
            }
            let Some((end, key, start)) = self.ends.pop_first() else {
                break;
            };
            let Some(acc) = self.open.remove(&(key.clone(), start, end)) else {
                continue;
            };
            if self.shape.final_only {
                let value = self.aggregate.finish(&acc);
                out.push(update(&key, start, end, value, epoch, 1));
            }
            if !self.shape.is_replay {
                let done = self.done.entry(end).or_default();
                done.push((key, start, acc));
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
            for (key, start, acc) in entry.remove() {
                let value = self.aggregate.finish(&acc);
                out.push(update(&key, start, end, value, epoch, -1));
            }
        }
    }

    fn restore(&mut self, row: Saved<K, A::Acc>, epoch: Epoch, out: &mut Vec<Update<K, A::Out>>) {
        let Saved {
            key,
            start,
            end,
            is_final,
            acc,
        } = row;
        if is_final {
            let value = self.aggregate.finish(&acc);
            out.push(update(&key, start, end, value, epoch, 1));
            self.done.entry(end).or_default().push((key, start, acc));
        } else {
            self.insert((key, start, end), acc);
        }
    }

    fn rows(&self) -> Vec<Saved<K, A::Acc>> {
        let row = |key: &K, start, end, is_final, acc: &A::Acc| Saved {
            key: key.clone(),
            start,
            end,
            is_final,
            acc: acc.clone(),
        };
        let open = self.open.iter();
        let open = open.map(|((key, start, end), acc)| row(key, *start, *end, false, acc));
        let done = self.done.iter().flat_map(|(end, sessions)| {
            let sessions = sessions.iter();
            sessions.map(move |(key, start, acc)| row(key, *start, *end, true, acc))
        });
        open.chain(done).collect()
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
