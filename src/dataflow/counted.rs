//! The boundary of windows by number: so many records of a key, one after the other.
//!
//! Which records are together depends on their order, so they are taken in canonical order (event
//! time, stream, partition, position) once the watermark has passed them, and none that comes
//! later can stand before. A record costs what its place among those that wait does.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use super::clock::Clock;
use super::feed::Mark;
use super::stamp::Stamp;
use super::vault::Boundary;
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
    /// The number of the window among those of its key.
    number: u64,
    /// How many records it has.
    count: u64,
    acc: A,
}

struct Open<A> {
    number: u64,
    count: u64,
    stamp: Stamp,
    /// While there are no records, that of the window before.
    acc: A,
}

/// One change of the table of windows.
pub type Update<K, V> = (((K, u64), V), Epoch, isize);

/// One worker's share of the boundary.
pub struct Counted<K, T, A: Aggregate<T>> {
    shape: CountShape,
    aggregate: Rc<A>,
    boundary: Boundary,
    /// Records that wait, in canonical order. Pairs of a join may stand in one place.
    waiting: BTreeMap<Stamp, Vec<(K, A::Acc)>>,
    /// The window of each key that is not full.
    open: BTreeMap<K, Open<A::Acc>>,
    /// Full windows by the time of their last record.
    full: BTreeMap<i64, Vec<(K, u64, Stamp, A::Acc)>>,
    restored: Vec<Saved<K, A::Acc>>,
}

impl<K, T, A> Counted<K, T, A>
where
    K: Clone + Ord + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Aggregate<T>,
{
    /// Starts with the rows saved for this worker.
    pub fn new(
        shape: CountShape,
        aggregate: Rc<A>,
        boundary: Boundary,
        is_mine: impl Fn(&K) -> bool,
    ) -> Self {
        let restored = boundary.restore::<Saved<K, A::Acc>>(|row| is_mine(&row.key));
        Counted {
            shape,
            aggregate,
            boundary,
            waiting: BTreeMap::new(),
            open: BTreeMap::new(),
            full: BTreeMap::new(),
            restored,
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
        let restored = std::mem::take(&mut self.restored);
        // The epoch restored is shown as it was.
        let is_restoring = !restored.is_empty();
        if !is_restoring && !self.shape.is_replay && clock.mark != Mark::End {
            self.expire(watermark, epoch, out);
        }
        for row in restored {
            self.restore(row, epoch, out);
        }
        for Arriving { key, stamp, acc } in events {
            self.waiting.entry(stamp).or_default().push((key, acc));
        }
        while let Some(entry) = self.waiting.first_entry().filter(|_| !is_restoring) {
            if entry.key().time > watermark {
                break;
            }
            let (stamp, records) = entry.remove_entry();
            for (key, acc) in records {
                self.take(key, &stamp, acc, epoch, out);
            }
        }
        if clock.mark == Mark::Checkpoint {
            self.boundary.save(epoch, self.rows());
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
        });
        if open.count == 0 {
            open.acc = acc;
        } else {
            self.aggregate.merge(&mut open.acc, &acc);
        }
        open.count += 1;
        open.stamp = stamp.clone();
        if open.count < self.shape.size {
            return;
        }
        let (number, acc) = (open.number, open.acc.clone());
        (open.number, open.count) = (number + 1, 0);
        let value = self.aggregate.finish(&acc);
        out.push((((key.clone(), number), value), epoch, 1));
        if !self.shape.is_replay {
            let full = self.full.entry(stamp.time).or_default();
            full.push((key, number, stamp.clone(), acc));
        }
    }

    fn expire(&mut self, watermark: i64, epoch: Epoch, out: &mut Vec<Update<K, A::Out>>) {
        while let Some(entry) = self.full.first_entry() {
            if watermark < entry.key().saturating_add(self.shape.keep) {
                break;
            }
            for (key, number, _, acc) in entry.remove() {
                out.push((((key, number), self.aggregate.finish(&acc)), epoch, -1));
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
            Kind::Waiting => self.waiting.entry(stamp).or_default().push((key, acc)),
            Kind::Open => {
                let open = Open {
                    number,
                    count,
                    stamp,
                    acc,
                };
                self.open.insert(key, open);
            }
            Kind::Full => {
                let value = self.aggregate.finish(&acc);
                out.push((((key.clone(), number), value), epoch, 1));
                let full = self.full.entry(stamp.time).or_default();
                full.push((key, number, stamp, acc));
            }
        }
    }

    fn rows(&self) -> Vec<Saved<K, A::Acc>> {
        let waiting = self.waiting.iter().flat_map(|(stamp, records)| {
            let records = records.iter();
            records.map(move |(key, acc)| saved(Kind::Waiting, key, stamp, (0, 1), acc))
        });
        let open = self.open.iter().map(|(key, open)| {
            let numbers = (open.number, open.count);
            saved(Kind::Open, key, &open.stamp, numbers, &open.acc)
        });
        let size = self.shape.size;
        let full = self.full.values().flatten();
        let full = full
            .map(|(key, number, stamp, acc)| saved(Kind::Full, key, stamp, (*number, size), acc));
        waiting.chain(open).chain(full).collect()
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
