//! A hash map for what is held by key, be it of millions: entries lie in the order in which they
//! came, and a table of eight bytes an entry finds them.
//!
//! The map of the standard library has its entries in the table, of which an eighth to more than a
//! half is empty, and moves all of them whenever it grows. Here only the table does, and it is the
//! one thing that is reached at random: it fits into the cache long after the entries do not.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// How many entries are allocated at once, but for the first, which are few in a small map.
const PIECE: usize = 1 << 10;

/// A map from keys to values; at most 2^32 of them.
pub(super) struct Dense<K, V> {
    places: HashTable<Place>,
    /// The entries, with no gap among them. All pieces but the last are full.
    pieces: Vec<Vec<(K, V)>>,
    hasher: foldhash::fast::RandomState,
}

/// Where an entry is, and half of its key's hash: so the table grows without looking at entries,
/// and hardly an entry is looked at in vain.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    hash: u32,
    at: u32,
}

impl Place {
    fn new(hash: u32, at: usize) -> Place {
        let at = u32::try_from(at).expect("fewer than 2^32 keys of a worker");
        Place { hash, at }
    }

    fn at(self) -> usize {
        self.at as usize
    }

    fn spread(self) -> u64 {
        spread(self.hash)
    }

    /// Whether the key, whose hash this is, lies here.
    fn is_of<K: Eq, V>(self, key: &K, hash: u32, pieces: &[Vec<(K, V)>]) -> bool {
        self.hash == hash && pieces[self.at() / PIECE][self.at() % PIECE].0 == *key
    }
}

/// The table takes a place by a hash's low bits, and tells neighbours apart by the high ones: both
/// have to depend on all that is known of it.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl<K, V> Default for Dense<K, V> {
    fn default() -> Self {
        Dense {
            places: HashTable::new(),
            pieces: Vec::new(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }
}

impl<K: Hash + Eq, V> Dense<K, V> {
    /// The table will not grow before there are so many more.
    pub fn reserve(&mut self, more: usize) {
        self.places.reserve(more, |place| place.spread());
    }

    /// All entries, in any order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.pieces
            .iter()
            .flatten()
            .map(|(key, value)| (key, value))
    }

    /// All entries, in any order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        let entries = self.pieces.iter_mut().flatten();
        entries.map(|(key, value)| (&*key, value))
    }

    /// The value of a key, if it has one.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.find(key, self.hash(key))?;
        Some(self.entry(at).1)
    }

    /// A key and its value; one that is made for it if it has none.
    pub fn get_or_insert(&mut self, key: K, make: impl FnOnce(&K) -> V) -> (&K, &mut V) {
        let (hash, next) = (self.hash(&key), self.places.len());
        let pieces = &self.pieces;
        let is_it = |place: &Place| place.is_of(&key, hash, pieces);
        let at = match self
            .places
            .entry(spread(hash), is_it, |place| place.spread())
        {
            Entry::Occupied(place) => place.get().at(),
            Entry::Vacant(slot) => {
                let value = make(&key);
                slot.insert(Place::new(hash, next));
                self.append(next, (key, value));
                next
            }
        };
        self.entry(at)
    }

    /// Gives a key that is not there a value.
    pub fn insert(&mut self, key: K, value: V) {
        let (hash, next) = (self.hash(&key), self.places.len());
        debug_assert!(self.find(&key, hash).is_none(), "it is not there");
        let place = Place::new(hash, next);
        self.places
            .insert_unique(place.spread(), place, |place| place.spread());
        self.append(next, (key, value));
    }

    /// Takes out the value of a key, if it has one.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let hash = self.hash(key);
        let at = self.find(key, hash)?;
        let (place, last) = (Place::new(hash, at), self.places.len() - 1);
        let found = self.places.find_entry(place.spread(), |one| *one == place);
        found.ok()?.remove();
        // The last entry takes the place, so that there is no gap.
        let mut gone = self.pieces.last_mut()?.pop()?;
        if self.pieces.last().is_some_and(Vec::is_empty) {
            self.pieces.pop();
        }
        if at < last {
            let moved = Place::new(self.hash(&gone.0), last);
            let found = self.places.find_mut(moved.spread(), |one| *one == moved);
            *found? = Place::new(moved.hash, at);
            std::mem::swap(&mut gone, &mut self.pieces[at / PIECE][at % PIECE]);
        }
        Some(gone.1)
    }

    fn hash(&self, key: &K) -> u32 {
        let hash = self.hasher.hash_one(key);
        #[allow(clippy::cast_possible_truncation, reason = "both halves are in it")]
        let folded = (hash ^ (hash >> 32)) as u32;
        folded
    }

    fn find(&self, key: &K, hash: u32) -> Option<usize> {
        let pieces = &self.pieces;
        let is_it = |place: &Place| place.is_of(key, hash, pieces);
        let found = self.places.find(spread(hash), is_it);
        found.map(|place| place.at())
    }

    fn entry(&mut self, at: usize) -> (&K, &mut V) {
        let (key, value) = &mut self.pieces[at / PIECE][at % PIECE];
        (key, value)
    }

    /// Puts an entry behind the others, where this is its place.
    fn append(&mut self, at: usize, entry: (K, V)) {
        if at.is_multiple_of(PIECE) {
            let room = if at == 0 { 0 } else { PIECE };
            self.pieces.push(Vec::with_capacity(room));
        }
        self.pieces[at / PIECE].push(entry);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl<K, V> Dense<K, V> {
        pub fn len(&self) -> usize {
            self.places.len()
        }

        pub fn values(&self) -> impl Iterator<Item = &V> {
            self.pieces.iter().flatten().map(|(_, value)| value)
        }
    }

    /// A number, of which many have the same hash.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Key(u16);

    impl Hash for Key {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            (self.0 % 50).hash(state);
        }
    }

    proptest! {
        #[test]
        fn it_is_what_an_ordered_map_is(
            steps in prop::collection::vec((0..3_u8, 0..2000_u16), 0..9000),
        ) {
            let (mut dense, mut naive) = (Dense::default(), BTreeMap::new());
            for (step, key) in steps {
                let (key, value) = (Key(key), u32::from(key));
                match step {
                    0 => prop_assert_eq!(dense.remove(&key), naive.remove(&key)),
                    1 => prop_assert_eq!(dense.get_mut(&key), naive.get_mut(&key)),
                    _ => {
                        *dense.get_or_insert(key, |_| value).1 += 1;
                        *naive.entry(key).or_insert(value) += 1;
                    }
                }
                prop_assert_eq!(dense.len(), naive.len());
            }
            let mut values: Vec<u32> = dense.values().copied().collect();
            let mut expected: Vec<u32> = naive.into_values().collect();
            values.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(values, expected);
            prop_assert_eq!(dense.pieces.len(), dense.len().div_ceil(PIECE));
        }
    }
}
