//! The join of two tables: each change meets the rows that the other side has for its key.
//!
//! What a key has is found once for both: a list for each side of the changes it had. A join is
//! linear in its changes, so it makes no difference that a row and its removal are both in the
//! list; they are taken out before they are half of it. So a change costs what it meets, with no
//! order to keep. Behind the boundaries: nothing of this is saved.

use std::hash::Hash;
use std::slice::from_ref;

use differential_dataflow::consolidation::consolidate_slice;
use smallvec::SmallVec;

use super::dense::Dense;
use super::intervals::Side;
use super::settling::{FinalAt, Settling};
use crate::time::Epoch;

/// A change of either table.
pub type Change<K, A, B> = ((K, Side<A, B>), Epoch, isize);

/// One worker's share of a join.
pub struct Joined<K, A, B> {
    groups: Dense<K, Group<A, B>>,
    settling: Settling<K>,
}

impl<K: Clone + Hash + Eq, A: Ord, B: Ord> Joined<K, A, B> {
    /// A join of no rows; of keys that are settled none are kept.
    pub fn new(settled_at: Option<FinalAt<K>>) -> Self {
        Joined {
            groups: Dense::default(),
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
            let settling = &mut self.settling;
            let (key, group) = self.groups.get_or_insert(key, |key| {
                settling.note(key);
                Group::Empty
            });
            match &side {
                Side::Left(left) => {
                    out.extend(group.rights().iter().map(|(right, times)| {
                        ((key.clone(), pair(left, right)), epoch, diff * times)
                    }));
                }
                Side::Right(right) => {
                    out.extend(group.lefts().iter().map(|(left, times)| {
                        ((key.clone(), pair(left, right)), epoch, diff * times)
                    }));
                }
            }
            *group = std::mem::take(group).changed(side, diff);
            if group.is_empty() {
                let key = key.clone();
                self.groups.remove(&key);
            }
        }
        for key in self.settling.settled(watermark) {
            self.groups.remove(&key);
        }
    }
}

/// The changes of one key. Many a key has a single row, which needs no memory of its own.
#[derive(Default)]
enum Group<A, B> {
    #[default]
    Empty,
    Left((A, isize)),
    Right((B, isize)),
    Many(Box<(Changes<A>, Changes<B>)>),
}

impl<A: Ord, B: Ord> Group<A, B> {
    fn lefts(&self) -> &[(A, isize)] {
        match self {
            Group::Left(change) => from_ref(change),
            Group::Many(sides) => &sides.0.list,
            Group::Empty | Group::Right(_) => &[],
        }
    }

    fn rights(&self) -> &[(B, isize)] {
        match self {
            Group::Right(change) => from_ref(change),
            Group::Many(sides) => &sides.1.list,
            Group::Empty | Group::Left(_) => &[],
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Group::Empty => true,
            Group::Left((_, times)) | Group::Right((_, times)) => *times == 0,
            Group::Many(sides) => sides.0.list.is_empty() && sides.1.list.is_empty(),
        }
    }

    fn changed(self, side: Side<A, B>, diff: isize) -> Self {
        match (self, side) {
            (Group::Empty, Side::Left(row)) => Group::Left((row, diff)),
            (Group::Empty, Side::Right(row)) => Group::Right((row, diff)),
            (Group::Left((one, times)), Side::Left(row)) if one == row => {
                Group::Left((one, times + diff))
            }
            (Group::Right((one, times)), Side::Right(row)) if one == row => {
                Group::Right((one, times + diff))
            }
            (group, side) => {
                let mut sides = group.into_sides();
                match side {
                    Side::Left(row) => sides.0.push(row, diff),
                    Side::Right(row) => sides.1.push(row, diff),
                }
                Group::Many(sides)
            }
        }
    }

    #[allow(
        clippy::unnecessary_box_returns,
        reason = "what is in a box stays in it"
    )]
    fn into_sides(self) -> Box<(Changes<A>, Changes<B>)> {
        let (mut lefts, mut rights) = (Changes::default(), Changes::default());
        match self {
            Group::Many(sides) => return sides,
            Group::Empty => {}
            Group::Left((row, diff)) => lefts.push(row, diff),
            Group::Right((row, diff)) => rights.push(row, diff),
        }
        Box::new((lefts, rights))
    }
}

/// The changes that one side of a key had.
struct Changes<V> {
    list: SmallVec<[(V, isize); 1]>,
    /// How many rows they take away.
    removed: usize,
}

impl<V> Default for Changes<V> {
    fn default() -> Self {
        Changes {
            list: SmallVec::new(),
            removed: 0,
        }
    }
}

impl<V: Ord> Changes<V> {
    fn push(&mut self, row: V, diff: isize) {
        self.list.push((row, diff));
        self.removed += removed(diff);
        if self.removed > 0 && 4 * self.removed >= self.list.len() {
            self.net();
        }
    }

    fn net(&mut self) {
        let left = consolidate_slice(&mut self.list);
        self.list.truncate(left);
        if self.list.capacity() > 2 * left {
            self.list.shrink_to_fit();
        }
        self.removed = self.list.iter().map(|(_, diff)| removed(*diff)).sum();
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

    impl<K, A: Ord, B: Ord> Joined<K, A, B> {
        fn listed(&self) -> usize {
            let listed = |group: &Group<A, B>| group.lefts().len() + group.rights().len();
            self.groups.values().map(listed).sum()
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
            (out.drain(..).count(), joined.listed())
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
                let listed = joined.listed();
                prop_assert!(listed <= 2 * rows.unsigned_abs(), "{listed} of {rows} rows");
            }
        }
    }
}
