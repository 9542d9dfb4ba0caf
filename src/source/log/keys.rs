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

/// The keys remembered, oldest first.
#[derive(Debug, Default)]
pub(super) struct Keys {
    places: BTreeMap<Fingerprint, Place>,
    order: VecDeque<(Timestamp, Fingerprint, Place)>,
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
    pub fn push(&mut self, arrival: Timestamp, key: Fingerprint, place: Place) {
        self.places.insert(key, place);
        self.order.push_back((arrival, key, place));
    }

    /// Forgets what is neither young enough nor among the newest.
    pub fn expire(&mut self, now: Timestamp, options: &LogOptions) {
        while self.order.len() > options.min_keys {
            let Some((arrival, key, place)) = self.order.front().copied() else {
                break;
            };
            if arrival.plus(options.keep_keys_for) > now {
                break;
            }
            self.order.pop_front();
            // A key used again after it was forgotten has a younger place.
            if self.places.get(&key) == Some(&place) {
                self.places.remove(&key);
            }
        }
    }

    /// The oldest segment that a remembered key lies in.
    pub fn oldest_segment(&self) -> Option<u64> {
        self.order.front().map(|(_, _, place)| place.segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::millis;

    #[test]
    fn old_keys_go_but_the_newest_stay() {
        let options = LogOptions {
            keep_keys_for: millis(100),
            min_keys: 2,
            ..LogOptions::default()
        };
        let mut keys = Keys::default();
        for n in 0..5_u64 {
            let key = fingerprint(&n.to_le_bytes());
            keys.push(
                Timestamp(n.cast_signed()),
                key,
                Place {
                    segment: n,
                    offset: 28,
                },
            );
        }
        keys.expire(Timestamp(101), &options);
        assert_eq!((keys.len(), keys.oldest_segment()), (3, Some(2)));
        keys.expire(Timestamp(10_000), &options);
        assert_eq!((keys.len(), keys.oldest_segment()), (2, Some(3)));
        assert_eq!(keys.find(fingerprint(&0_u64.to_le_bytes())), None);
    }

    #[test]
    fn a_key_used_again_is_found_at_its_younger_place() {
        let options = LogOptions {
            keep_keys_for: millis(1),
            min_keys: 1,
            ..LogOptions::default()
        };
        let mut keys = Keys::default();
        let (old, new) = (
            Place {
                segment: 0,
                offset: 28,
            },
            Place {
                segment: 9,
                offset: 28,
            },
        );
        keys.push(Timestamp(0), 7, old);
        keys.push(Timestamp(50), 7, new);
        keys.expire(Timestamp(60), &options);
        assert_eq!(keys.find(7), Some(new));
    }
}
