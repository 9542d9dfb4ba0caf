//! The idempotency keys of one stream: where the frame of each lies, and which may be forgotten.
//!
//! Answers stay on disk; memory per key is small and does not depend on the key's length.

use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest, Sha256};

use super::LogOptions;
use crate::time::Timestamp;

/// Identifies a key: the first half of its SHA-256.
pub(super) type Fingerprint = u128;

/// Where a frame lies: first position of its segment, and offset in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: u64,
    pub offset: u64,
}

/// A key remembered, with its arrival.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remembered {
    pub arrival: Timestamp,
    pub key: Fingerprint,
    pub place: Place,
}

/// The keys remembered, oldest first.
#[derive(Debug, Default)]
pub(super) struct Keys {
    places: BTreeMap<Fingerprint, Place>,
    order: VecDeque<Remembered>,
    /// How many keys lie in each segment.
    per_segment: BTreeMap<u64, usize>,
}

/// The fingerprint of a key.
pub(super) fn fingerprint(key: &[u8]) -> Fingerprint {
    let hash: [u8; 32] = Sha256::digest(key).into();
    Fingerprint::from_le_bytes(*hash.first_chunk().expect("a SHA-256 has 32 bytes"))
}

impl Keys {
    pub fn find(&self, key: Fingerprint) -> Option<Place> {
        self.places.get(&key).copied()
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Remembers the newest key.
    pub fn push(&mut self, remembered: Remembered) {
        self.places.insert(remembered.key, remembered.place);
        self.order.push_back(remembered);
        *self
            .per_segment
            .entry(remembered.place.segment)
            .or_default() += 1;
    }

    /// Forgets what is neither young enough nor among the newest.
    pub fn expire(&mut self, now: Timestamp, options: &LogOptions) {
        while self.order.len() > options.min_keys {
            let old = self
                .order
                .front()
                .filter(|oldest| is_old(oldest, now, options));
            let Some(Remembered { key, place, .. }) = old.copied() else {
                break;
            };
            self.order.pop_front();
            self.places.remove(&key);
            self.leave(place);
        }
    }

    /// Puts keys in order that were pushed as a scan found them: of those found twice, because one
    /// was carried over or used again, the one found last counts.
    pub fn settle(&mut self) {
        self.order
            .retain(|found| self.places.get(&found.key) == Some(&found.place));
        self.order
            .make_contiguous()
            .sort_by_key(|found| found.arrival);
        self.per_segment.clear();
        for found in &self.order {
            *self.per_segment.entry(found.place.segment).or_default() += 1;
        }
    }

    /// The keys, with their number in `carried`, that are remembered for being among the newest
    /// only, oldest first.
    pub fn old(
        &self,
        now: Timestamp,
        options: &LogOptions,
    ) -> impl Iterator<Item = (usize, Remembered)> {
        let old = move |(_, found): &(usize, Remembered)| is_old(found, now, options);
        self.order.iter().copied().enumerate().take_while(old)
    }

    /// Takes note that a key lies elsewhere now.
    pub fn carried(&mut self, number: usize, place: Place) {
        let Some(found) = self.order.get_mut(number) else {
            return;
        };
        let from = std::mem::replace(&mut found.place, place);
        self.places.insert(found.key, place);
        *self.per_segment.entry(place.segment).or_default() += 1;
        self.leave(from);
    }

    /// The oldest segment that a remembered key lies in.
    pub fn oldest_segment(&self) -> Option<u64> {
        self.per_segment.keys().next().copied()
    }

    fn leave(&mut self, place: Place) {
        if let Some(count) = self.per_segment.get_mut(&place.segment) {
            *count -= 1;
            if *count == 0 {
                self.per_segment.remove(&place.segment);
            }
        }
    }
}

fn is_old(found: &Remembered, now: Timestamp, options: &LogOptions) -> bool {
    found.arrival.plus(options.keep_keys_for) <= now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::millis;

    fn at(arrival: i64, key: Fingerprint, segment: u64) -> Remembered {
        Remembered {
            arrival: Timestamp(arrival),
            key,
            place: Place {
                segment,
                offset: 28,
            },
        }
    }

    #[test]
    fn old_keys_go_but_the_newest_stay() {
        let options = LogOptions {
            keep_keys_for: millis(100),
            min_keys: 2,
            ..LogOptions::default()
        };
        let mut keys = Keys::default();
        for n in 0..5_u8 {
            keys.push(at(n.into(), n.into(), n.into()));
        }
        keys.expire(Timestamp(101), &options);
        assert_eq!((keys.len(), keys.oldest_segment()), (3, Some(2)));
        keys.expire(Timestamp(10_000), &options);
        assert_eq!((keys.len(), keys.oldest_segment()), (2, Some(3)));
        assert_eq!((keys.find(2), keys.find(3).is_some()), (None, true));
    }

    #[test]
    fn keys_found_twice_or_out_of_order_are_settled() {
        let options = LogOptions {
            keep_keys_for: millis(10),
            min_keys: 1,
            ..LogOptions::default()
        };
        let mut keys = Keys::default();
        for found in [
            at(0, 1, 0),
            at(5, 2, 0),
            at(50, 3, 1),
            at(0, 1, 2),
            at(60, 2, 2),
        ] {
            keys.push(found);
        }
        keys.settle();
        assert_eq!((keys.len(), keys.oldest_segment()), (3, Some(1)));
        let old: Vec<_> = keys
            .old(Timestamp(65), &options)
            .map(|(n, found)| (n, found.key))
            .collect();
        assert_eq!(old, [(0, 1), (1, 3)]);
        keys.carried(
            1,
            Place {
                segment: 3,
                offset: 99,
            },
        );
        assert_eq!(
            (keys.oldest_segment(), keys.find(3).unwrap().segment),
            (Some(2), 3)
        );
        keys.expire(Timestamp(65), &options);
        assert_eq!((keys.len(), keys.find(2).unwrap().segment), (1, 2));
    }
}
