//! The interval join: records of two streams that have one key and happened close together.
//!
//! Both sides lie in order of key and canonical order, so that a record finds its partners where
//! they are and looks at no others, however much is held. What is held goes once the watermark has
//! passed everything that could still meet it.

use std::collections::BTreeMap;
use std::hash::Hash;

use differential_dataflow::hashable::Hashable;
use serde::{Deserialize, Serialize};

use super::changes::{Changes, Lasting, identity_of};
use super::clock::Clock;
use super::feed::Mark;
use super::stamp::Stamp;
use super::vault::Boundary;
use crate::row::EncodeError;

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

impl<K, A, B> Lasting for Held<K, A, B>
where
    K: Clone + Hash + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Clone + Serialize + serde::de::DeserializeOwned + Send + 'static,
    B: Clone + Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    fn identity(&self) -> Result<Vec<u8>, EncodeError> {
        identity_of(&(&self.key, self.is_left(), &self.stamp))
    }

    fn owner(&self) -> u64 {
        self.key.hashed()
    }
}

impl<K, A, B> Held<K, A, B> {
    fn is_left(&self) -> bool {
        matches!(self.side, Side::Left(_))
    }
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
    changes: Changes<Held<K, A, B>>,
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
    K: Clone + Ord + Hash + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Clone + Serialize + serde::de::DeserializeOwned + Send + 'static,
    B: Clone + Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    /// Starts with the rows saved for this worker.
    pub fn new(
        boundary: Boundary,
        (before, after): (i64, i64),
        owns: impl Fn(u64) -> bool + 'static,
    ) -> Self {
        Intervals {
            changes: Changes::new(boundary, owns),
            before,
            after,
            lefts: Records::new(),
            rights: Records::new(),
            going: BTreeMap::new(),
        }
    }

    /// Takes a closed epoch: its records, then its watermark.
    pub fn retire(
        &mut self,
        clock: &Clock,
        watermark: i64,
        events: Vec<Held<K, A, B>>,
        out: &mut Vec<Pair<A, B>>,
    ) {
        if let Some(restored) = self.changes.restore() {
            // Their pairs were made.
            for held in restored.rows {
                self.changes.put(|| held.clone());
                self.hold(held);
            }
            self.changes.is_restored();
        }
        for event in events {
            self.meet(&event, out);
            let copy = self.changes.is_noting().then(|| event.clone());
            let is_new = self.hold(event);
            match copy {
                Some(copy) if is_new => self.changes.came(|| copy),
                Some(copy) => self.changes.put(|| copy),
                None => {}
            }
        }
        while let Some(entry) = self.going.first_entry() {
            if *entry.key() > watermark {
                break;
            }
            for (is_left, key, stamp) in entry.remove() {
                self.let_go(is_left, (key, stamp));
            }
        }
        if clock.mark == Mark::Checkpoint {
            self.changes.save(clock.epoch, 0);
        } else {
            self.changes.hand_over();
        }
    }

    fn let_go(&mut self, is_left: bool, at: (K, Stamp)) {
        let left = |(watermark, left)| (watermark, Side::Left(left));
        let right = |(watermark, right)| (watermark, Side::Right(right));
        let gone = if is_left {
            self.lefts.remove(&at).map(left)
        } else {
            self.rights.remove(&at).map(right)
        };
        if let Some((watermark, side)) = gone {
            let (key, stamp) = at;
            self.changes.gone(|| Held {
                key,
                stamp,
                watermark,
                side,
            });
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

    /// Says whether there was none in its place.
    fn hold(&mut self, event: Held<K, A, B>) -> bool {
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
            Side::Left(left) => {
                let before = self.lefts.insert((key, stamp), (watermark, left));
                before.is_none()
            }
            Side::Right(right) => {
                let before = self.rights.insert((key, stamp), (watermark, right));
                before.is_none()
            }
        }
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
