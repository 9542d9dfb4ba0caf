//! The join of two tables: each change meets the rows that the other side has for its key.
//!
//! A side's rows of a key are the changes it had, in a list. A join is linear in its changes, so
//! it makes no difference that a row and its removal are both in the list; they are taken out
//! before they are half of it. So a change costs what it meets, with no order to keep. Behind the
//! boundaries: nothing of this is saved.

use std::hash::Hash;

use differential_dataflow::consolidation::consolidate_slice;
use smallvec::SmallVec;

use super::folding::Map;
use super::intervals::Side;
use super::settling::{FinalAt, Settling};
use crate::time::Epoch;

/// A change of either table.
pub type Change<K, A, B> = ((K, Side<A, B>), Epoch, isize);

/// One worker's share of a join.
pub struct Joined<K, A, B> {
    lefts: Rows<K, A>,
    rights: Rows<K, B>,
    settling: Settling<K>,
}

impl<K: Clone + Hash + Eq, A: Ord, B: Ord> Joined<K, A, B> {
    /// A join of no rows; of keys that are settled none are kept.
    pub fn new(settled_at: Option<FinalAt<K>>) -> Self {
        Joined {
            lefts: Rows(Map::default()),
            rights: Rows(Map::default()),
            settling: Settling::new(settled_at),
        }
    }

    /// Takes a closed epoch's changes, in any order, and its watermark; emits the changes of the
    /// pairs.
    pub fn retire<P>(
        &mut self,
        epoch: Epoch,
        watermark: i64,
        changes: Vec<Change<K, A, B>>,
        pair: impl Fn(&A, &B) -> P,
        out: &mut Vec<((K, P), Epoch, isize)>,
    ) {
        for ((key, side), _, diff) in changes {
            match side {
                Side::Left(left) => {
                    let met = self.rights.of(&key).iter();
                    out.extend(met.map(|(right, times)| {
                        ((key.clone(), pair(&left, right)), epoch, diff * times)
                    }));
                    self.lefts.change(key, left, diff, &mut self.settling);
                }
                Side::Right(right) => {
                    let met = self.lefts.of(&key).iter();
                    out.extend(met.map(|(left, times)| {
                        ((key.clone(), pair(left, &right)), epoch, diff * times)
                    }));
                    self.rights.change(key, right, diff, &mut self.settling);
                }
            }
        }
        for key in self.settling.settled(watermark) {
            self.lefts.0.remove(&key);
            self.rights.0.remove(&key);
        }
    }
}

/// The rows of one side.
struct Rows<K, V>(Map<K, Group<V>>);

/// The changes of one key.
struct Group<V> {
    /// Many a key has a single row, which needs no memory of its own.
    changes: SmallVec<[(V, isize); 1]>,
    /// How many rows they take away.
    removed: usize,
}

impl<K: Clone + Hash + Eq, V: Ord> Rows<K, V> {
    fn of(&self, key: &K) -> &[(V, isize)] {
        self.0.get(key).map_or(&[], |group| &group.changes)
    }

    fn change(&mut self, key: K, row: V, diff: isize, settling: &mut Settling<K>) {
        use std::collections::hash_map::Entry;
        match self.0.entry(key) {
            Entry::Vacant(slot) => {
                settling.note(slot.key());
                let changes = SmallVec::from([(row, diff)]);
                let removed = removed(diff);
                slot.insert(Group { changes, removed });
            }
            Entry::Occupied(mut slot) => {
                let group = slot.get_mut();
                group.changes.push((row, diff));
                group.removed += removed(diff);
                if 4 * group.removed >= group.changes.len() {
                    group.net();
                }
                if group.changes.is_empty() {
                    slot.remove();
                }
            }
        }
    }
}

impl<V: Ord> Group<V> {
    fn net(&mut self) {
        let left = consolidate_slice(&mut self.changes);
        self.changes.truncate(left);
        if self.changes.capacity() > 2 * left {
            self.changes.shrink_to_fit();
        }
        self.removed = self.changes.iter().map(|(_, diff)| removed(*diff)).sum();
    }
}

fn removed(diff: isize) -> usize {
    diff.min(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;
    use crate::time::Timestamp;

    type Bag<R> = BTreeMap<R, isize>;

    impl<K, V> Rows<K, V> {
        fn listed(&self) -> usize {
            self.0.values().map(|group| group.changes.len()).sum()
        }
    }

    fn add<R: Ord>(bag: &mut Bag<R>, row: R, diff: isize) {
        *bag.entry(row).or_insert(0) += diff;
        bag.retain(|_, count| *count != 0);
    }

    fn naive(lefts: &Bag<(u8, u8)>, rights: &Bag<(u8, i8)>) -> Bag<(u8, (u8, i8))> {
        let mut pairs = Bag::new();
        for ((key, left), times) in lefts {
            for ((_, right), also) in rights.iter().filter(|((other, _), _)| other == key) {
                add(&mut pairs, (*key, (*left, *right)), times * also);
            }
        }
        pairs
    }

    #[test]
    fn nothing_is_kept_of_keys_that_are_settled() {
        let mut joined = Joined::new(Some(Rc::new(|key: &i64| Timestamp(*key))));
        let mut out = Vec::new();
        let mut epoch = |watermark, changes: Vec<(i64, Side<u8, u8>)>| {
            let changes = changes.into_iter().map(|change| (change, 1, 1)).collect();
            joined.retire(1, watermark, changes, |a, b| (*a, *b), &mut out);
            (
                out.drain(..).count(),
                joined.lefts.listed() + joined.rights.listed(),
            )
        };
        let both = vec![(5, Side::Left(1)), (9, Side::Left(2)), (5, Side::Right(3))];
        assert_eq!(epoch(4, both), (1, 3));
        assert_eq!(epoch(5, vec![(9, Side::Right(4))]), (1, 2));
        assert_eq!(epoch(i64::MAX, vec![(9, Side::Right(5))]), (1, 0));
    }

    proptest! {
        #[test]
        fn pairs_are_those_of_all_rows(
            epochs in prop::collection::vec(
                prop::collection::vec((0..3_u8, 0..4_u8, any::<bool>(), -2..3_isize), 0..12),
                1..12,
            ),
        ) {
            let mut joined = Joined::new(None);
            let (mut lefts, mut rights, mut pairs) = (Bag::new(), Bag::new(), Bag::new());
            for (epoch, changes) in (0..).zip(epochs) {
                let mut input = Vec::new();
                for (key, row, is_left, diff) in changes {
                    let there = if is_left {
                        lefts.get(&(key, row)).copied()
                    } else {
                        rights.get(&(key, row.cast_signed())).copied()
                    };
                    let diff = diff.max(-there.unwrap_or(0));
                    if diff == 0 {
                        continue;
                    }
                    if is_left {
                        add(&mut lefts, (key, row), diff);
                        input.push(((key, Side::Left(row)), epoch, diff));
                    } else {
                        let row = row.cast_signed();
                        add(&mut rights, (key, row), diff);
                        input.push(((key, Side::Right(row)), epoch, diff));
                    }
                }
                let mut out = Vec::new();
                joined.retire(epoch, 0, input, |a: &u8, b: &i8| (*a, *b), &mut out);
                for (pair, at, diff) in out {
                    prop_assert_eq!(at, epoch);
                    add(&mut pairs, pair, diff);
                }
                prop_assert_eq!(&pairs, &naive(&lefts, &rights));
                let rows: isize = lefts.values().chain(rights.values()).sum();
                let listed = joined.lefts.listed() + joined.rights.listed();
                prop_assert!(listed <= 2 * rows.unsigned_abs(), "{listed} of {rows} rows");
            }
        }
    }
}
