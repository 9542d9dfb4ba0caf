//! The boundary of windows by number: so many records of a key, one after the other.
//!
//! Which records are together depends on their order, so they are taken in canonical order (event
//! time, stream, partition, position) once the watermark has passed them, and none that comes
//! later can stand before. A record costs what its place among those that wait does.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::rc::Rc;

use differential_dataflow::hashable::Hashable;
use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use super::changes::{Changes, Lasting, identity_of};
use super::clock::Clock;
use super::feed::Mark;
use super::stamp::Stamp;
use super::vault::Boundary;
use crate::row::EncodeError;
use crate::time::Epoch;

/// What is asked of windows by number.
#[derive(Clone, Copy, Debug)]
pub struct CountShape {
    /// How many records make a window.
    pub size: u64,
    /// How long a row is kept after its last record, in ms.
    pub keep: i64,
    /// Whether rows stay for ever: a replay ends before they would go.
    pub is_replay: bool,
}

/// A record on its way to its window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arriving<K, A> {
    /// The key.
    pub key: K,
    /// Where it stands in the canonical order.
    pub stamp: Stamp,
    /// The accumulator of it alone.
    pub acc: A,
}

impl<K: Clone, A: Clone> Arriving<K, A> {
    fn row(&self, number: u64) -> Saved<K, A> {
        saved(
            Kind::Waiting,
            &self.key,
            &self.stamp,
            (number, 1),
            &self.acc,
        )
    }
}

/// What a saved row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    /// A record that waits for the watermark.
    Waiting,
    /// A window that is not full.
    Open,
    /// A full one.
    Full,
}

/// A row of the boundary as it is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    bound = "K: Serialize + serde::de::DeserializeOwned, A: Serialize + serde::de::DeserializeOwned"
)]
pub struct Saved<K, A> {
    kind: Kind,
    key: K,
    /// Where the last of its records stands.
    stamp: Stamp,
    /// The number of the window among those of its key; of a record that waits, its number among
    /// those of its key in one place.
    number: u64,
    /// How many records it has.
    count: u64,
    acc: A,
}

impl<K, A> Lasting for Saved<K, A>
where
    K: Clone + Hash + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Clone + Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    fn identity(&self) -> Result<Vec<u8>, EncodeError> {
        let key = &self.key;
        match self.kind {
            Kind::Waiting => identity_of(&(0_u8, key, &self.stamp, self.number)),
            Kind::Open => identity_of(&(1_u8, key)),
            Kind::Full => identity_of(&(2_u8, key, self.number)),
        }
    }

    fn owner(&self) -> u64 {
        self.key.hashed()
    }
}

/// How many windows may have changed before their rows are copied: those of a busy key are copied
/// once for so many.
const UNSAVED: usize = 1024;

struct Open<A> {
    number: u64,
    count: u64,
    stamp: Stamp,
    /// While there are no records, that of the window before.
    acc: A,
    /// Whether its key is among those whose change is not noted yet.
    is_unsaved: bool,
}

/// A record that waits.
struct Waiting<K, A> {
    key: K,
    acc: A,
    /// Its number among those of its key in one place, if it is noted: not what goes in the epoch
    /// in which it came.
    noted: Option<u64>,
}

/// One change of the table of windows.
pub type Update<K, V> = (((K, u64), V), Epoch, isize);

/// One worker's share of the boundary.
pub struct Counted<K, T, A: Aggregate<T>> {
    shape: CountShape,
    aggregate: Rc<A>,
    changes: Changes<Saved<K, A::Acc>>,
    /// Records that wait, in canonical order. Pairs of a join may stand in one place.
    waiting: BTreeMap<Stamp, Vec<Waiting<K, A::Acc>>>,
    /// The window of each key that is not full.
    open: BTreeMap<K, Open<A::Acc>>,
    /// Full windows by the time of their last record.
    full: BTreeMap<i64, Vec<(K, u64, Stamp, A::Acc)>>,
    /// The keys whose open window changed.
    unsaved: Vec<K>,
}

impl<K, T, A> Counted<K, T, A>
where
    K: Clone + Ord + Hash + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Aggregate<T>,
{
    /// Starts with the rows saved for this worker.
    pub fn new(
        shape: CountShape,
        aggregate: Rc<A>,
        boundary: Boundary,
        owns: impl Fn(u64) -> bool + 'static,
    ) -> Self {
        Counted {
            shape,
            aggregate,
            changes: Changes::new(boundary, owns),
            waiting: BTreeMap::new(),
            open: BTreeMap::new(),
            full: BTreeMap::new(),
            unsaved: Vec::new(),
        }
    }

    /// Takes a closed epoch: its records, then its watermark. Emits the changes of the table.
    pub fn retire(
        &mut self,
        clock: &Clock,
        watermark: i64,
        events: Vec<Arriving<K, A::Acc>>,
        out: &mut Vec<Update<K, A::Out>>,
    ) {
        let epoch = clock.epoch;
        // The epoch restored is shown as it was.
        let mut is_restoring = false;
        if let Some(restored) = self.changes.restore() {
            for row in restored.rows {
                is_restoring = true;
                self.restore(row, epoch, out);
            }
            self.changes.is_restored();
        }
        if !is_restoring && !self.shape.is_replay && clock.mark != Mark::End {
            self.expire(watermark, epoch, out);
        }
        for event in events {
            let stays = event.stamp.time > watermark && self.changes.is_noting();
            let noted = stays.then(|| self.number_of(&event));
            if let Some(number) = noted {
                self.changes.came(|| event.row(number));
            }
            self.wait(event, noted);
        }
        while let Some(entry) = self.waiting.first_entry().filter(|_| !is_restoring) {
            if entry.key().time > watermark {
                break;
            }
            let (stamp, records) = entry.remove_entry();
            for Waiting { key, acc, noted } in records {
                if let Some(number) = noted {
                    let row = || saved(Kind::Waiting, &key, &stamp, (number, 1), &acc);
                    self.changes.gone(row);
                }
                self.take(key, &stamp, acc, epoch, out);
            }
        }
        if clock.mark == Mark::Checkpoint {
            self.save_changed();
            self.changes.save(epoch, 0);
        } else {
            if self.unsaved.len() >= UNSAVED {
                self.save_changed();
            }
            self.changes.hand_over();
        }
    }

    /// A record's number among those of its key that wait in its place. They go together.
    fn number_of(&self, event: &Arriving<K, A::Acc>) -> u64 {
        let here = self.waiting.get(&event.stamp).into_iter().flatten();
        let alike = (0..).zip(here.filter(|other| other.key == event.key));
        alike.last().map_or(0, |(last, _)| last + 1)
    }

    fn wait(&mut self, Arriving { key, stamp, acc }: Arriving<K, A::Acc>, noted: Option<u64>) {
        let waiting = Waiting { key, acc, noted };
        self.waiting.entry(stamp).or_default().push(waiting);
    }

    /// Notes the open windows that changed, as they are.
    fn save_changed(&mut self) {
        for key in self.unsaved.drain(..) {
            if let Some(open) = self.open.get_mut(&key) {
                open.is_unsaved = false;
                self.changes.put(|| open.row(&key));
            }
        }
    }

    fn take(
        &mut self,
        key: K,
        stamp: &Stamp,
        acc: A::Acc,
        epoch: Epoch,
        out: &mut Vec<Update<K, A::Out>>,
    ) {
        let open = self.open.entry(key.clone()).or_insert_with(|| Open {
            number: 0,
            count: 0,
            stamp: stamp.clone(),
            acc: acc.clone(),
            is_unsaved: false,
        });
        if open.count == 0 {
            open.acc = acc;
        } else {
            self.aggregate.merge(&mut open.acc, &acc);
        }
        open.count += 1;
        open.stamp = stamp.clone();
        if self.changes.is_noting() && !open.is_unsaved {
            open.is_unsaved = true;
            self.unsaved.push(key.clone());
        }
        if open.count < self.shape.size {
            return;
        }
        let (number, acc) = (open.number, open.acc.clone());
        (open.number, open.count) = (number + 1, 0);
        let value = self.aggregate.finish(&acc);
        out.push((((key.clone(), number), value), epoch, 1));
        if !self.shape.is_replay {
            let size = self.shape.size;
            self.changes
                .came(|| saved(Kind::Full, &key, stamp, (number, size), &acc));
            let full = self.full.entry(stamp.time).or_default();
            full.push((key, number, stamp.clone(), acc));
        }
    }

    fn expire(&mut self, watermark: i64, epoch: Epoch, out: &mut Vec<Update<K, A::Out>>) {
        while let Some(entry) = self.full.first_entry() {
            if watermark < entry.key().saturating_add(self.shape.keep) {
                break;
            }
            for (key, number, stamp, acc) in entry.remove() {
                let value = self.aggregate.finish(&acc);
                let size = self.shape.size;
                self.changes
                    .gone(|| saved(Kind::Full, &key, &stamp, (number, size), &acc));
                out.push((((key, number), value), epoch, -1));
            }
        }
    }

    fn restore(&mut self, row: Saved<K, A::Acc>, epoch: Epoch, out: &mut Vec<Update<K, A::Out>>) {
        let Saved {
            kind,
            key,
            stamp,
            number,
            count,
            acc,
        } = row;
        match kind {
            Kind::Waiting => {
                let event = Arriving { key, stamp, acc };
                // Rows come in order, those of earlier versions without a number.
                let number = self.number_of(&event);
                self.changes.put(|| event.row(number));
                self.wait(event, Some(number));
            }
            Kind::Open => {
                let is_unsaved = false;
                let open = Open {
                    number,
                    count,
                    stamp,
                    acc,
                    is_unsaved,
                };
                self.changes.put(|| open.row(&key));
                self.open.insert(key, open);
            }
            Kind::Full => {
                self.changes
                    .put(|| saved(Kind::Full, &key, &stamp, (number, count), &acc));
                let value = self.aggregate.finish(&acc);
                out.push((((key.clone(), number), value), epoch, 1));
                let full = self.full.entry(stamp.time).or_default();
                full.push((key, number, stamp, acc));
            }
        }
    }
}

impl<A: Clone> Open<A> {
    fn row<K: Clone>(&self, key: &K) -> Saved<K, A> {
        let numbers = (self.number, self.count);
        saved(Kind::Open, key, &self.stamp, numbers, &self.acc)
    }
}

fn saved<K: Clone, A: Clone>(
    kind: Kind,
    key: &K,
    stamp: &Stamp,
    (number, count): (u64, u64),
    acc: &A,
) -> Saved<K, A> {
    Saved {
        kind,
        key: key.clone(),
        stamp: stamp.clone(),
        number,
        count,
        acc: acc.clone(),
    }
}
