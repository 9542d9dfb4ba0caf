//! The interval join: records of two streams that have one key and happened close together.
//!
//! Both sides lie in order of key and canonical order, so that a record finds its partners where
//! they are and looks at no others, however much is held. What is held goes once the watermark has
//! passed everything that could still meet it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::feed::Mark;
use super::stamp::Stamp;
use super::vault::Boundary;

/// Which of the two a record is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Side<A, B> {
    /// Of the left stream.
    Left(A),
    /// Of the right stream.
    Right(B),
}

/// A record on its way to its partners; also a row of the boundary as it is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "K: Serialize + serde::de::DeserializeOwned, \
                 A: Serialize + serde::de::DeserializeOwned, \
                 B: Serialize + serde::de::DeserializeOwned")]
pub struct Held<K, A, B> {
    /// The key.
    pub key: K,
    /// Where it stands in the canonical order.
    pub stamp: Stamp,
    /// Its partition's watermark just before it.
    pub watermark: i64,
    /// The record.
    pub side: Side<A, B>,
}

/// Two records that met; they stand where the later one does.
pub struct Pair<A, B> {
    /// The place of the later record; its part tells pairs of one record apart.
    pub stamp: Stamp,
    /// The watermark of the later record's partition just before it.
    pub watermark: i64,
    /// The records.
    pub data: (A, B),
}

type Records<K, T> = BTreeMap<(K, Stamp), (i64, T)>;

/// One worker's share of the boundary.
pub struct Intervals<K, A, B> {
    boundary: Boundary,
    /// How much earlier and later than a left record a right one may be, in ms.
    before: i64,
    after: i64,
    lefts: Records<K, A>,
    rights: Records<K, B>,
    /// What goes when; whether it is of the left.
    going: BTreeMap<i64, Vec<(bool, K, Stamp)>>,
}

impl<K, A, B> Intervals<K, A, B>
where
    K: Clone + Ord + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Clone + Serialize + serde::de::DeserializeOwned + Send + 'static,
    B: Clone + Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    /// Starts with the rows saved for this worker: their pairs were made.
    pub fn new(
        boundary: Boundary,
        (before, after): (i64, i64),
        is_mine: impl Fn(&K) -> bool,
    ) -> Self {
        let restored = boundary.restore::<Held<K, A, B>>(|held| is_mine(&held.key));
        let mut intervals = Intervals {
            boundary,
            before,
            after,
            lefts: Records::new(),
            rights: Records::new(),
            going: BTreeMap::new(),
        };
        for held in restored {
            intervals.hold(held);
        }
        intervals
    }

    /// Takes a closed epoch: its records, then its watermark.
    pub fn retire(
        &mut self,
        clock: &Clock,
        watermark: i64,
        events: Vec<Held<K, A, B>>,
        out: &mut Vec<Pair<A, B>>,
    ) {
        for event in events {
            self.meet(&event, out);
            self.hold(event);
        }
        while let Some(entry) = self.going.first_entry() {
            if *entry.key() > watermark {
                break;
            }
            for (is_left, key, stamp) in entry.remove() {
                let at = (key, stamp);
                if is_left {
                    self.lefts.remove(&at);
                } else {
                    self.rights.remove(&at);
                }
            }
        }
        if clock.mark == Mark::Checkpoint {
            self.boundary.save(clock.epoch, self.rows());
        }
    }

    fn meet(&self, event: &Held<K, A, B>, out: &mut Vec<Pair<A, B>>) {
        let Held {
            key, stamp, side, ..
        } = event;
        let time = stamp.time;
        let mine = (stamp, event.watermark);
        match side {
            Side::Left(left) => {
                let near = near(&self.rights, key, time, self.before, self.after);
                out.extend(near.map(|(stamp, watermark, right)| {
                    pair(mine, (stamp, watermark), (left.clone(), right.clone()))
                }));
            }
            Side::Right(right) => {
                let near = near(&self.lefts, key, time, self.after, self.before);
                out.extend(near.map(|(stamp, watermark, left)| {
                    pair(mine, (stamp, watermark), (left.clone(), right.clone()))
                }));
            }
        }
    }

    fn hold(&mut self, event: Held<K, A, B>) {
        let Held {
            key,
            stamp,
            watermark,
            side,
        } = event;
        let is_left = matches!(side, Side::Left(_));
        let reach = if is_left { self.after } else { self.before };
        let goes_at = stamp.time.saturating_add(reach);
        let going = self.going.entry(goes_at).or_default();
        going.push((is_left, key.clone(), stamp.clone()));
        match side {
            Side::Left(left) => drop(self.lefts.insert((key, stamp), (watermark, left))),
            Side::Right(right) => drop(self.rights.insert((key, stamp), (watermark, right))),
        }
    }

    fn rows(&self) -> Vec<Held<K, A, B>> {
        let held = |(key, stamp): &(K, Stamp), watermark, side| Held {
            key: key.clone(),
            stamp: stamp.clone(),
            watermark,
            side,
        };
        let lefts = self.lefts.iter();
        let lefts = lefts.map(|(at, (w, left))| held(at, *w, Side::Left(left.clone())));
        let rights = self.rights.iter();
        let rights = rights.map(|(at, (w, right))| held(at, *w, Side::Right(right.clone())));
        lefts.chain(rights).collect()
    }
}

/// The records of a key from so long before a time to so long after it.
fn near<'r, K: Clone + Ord, T>(
    records: &'r Records<K, T>,
    key: &K,
    time: i64,
    before: i64,
    after: i64,
) -> impl Iterator<Item = (&'r Stamp, i64, &'r T)> {
    let edge = |time| {
        let stamp = Stamp {
            time,
            ..Stamp::default()
        };
        (key.clone(), stamp)
    };
    let first = edge(time.saturating_sub(before));
    let end = edge(time.saturating_add(after).saturating_add(1));
    let near = records.range(first..end);
    near.map(|((_, stamp), (watermark, record))| (stamp, *watermark, record))
}

fn pair<A, B>(one: (&Stamp, i64), other: (&Stamp, i64), data: (A, B)) -> Pair<A, B> {
    use differential_dataflow::hashable::Hashable;
    let (earlier, later) = if one.0 < other.0 {
        (one, other)
    } else {
        (other, one)
    };
    let [low, high, ..] = earlier.0.hashed().to_le_bytes();
    let part = later.0.part ^ u16::from_le_bytes([low, high]);
    Pair {
        stamp: Stamp {
            part,
            ..later.0.clone()
        },
        watermark: later.1,
        data,
    }
}
