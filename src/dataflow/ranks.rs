//! The first rows of each key, in an order: kept up to date by what changes.
//!
//! Each key's rows lie in order, so that a change costs what finding its place does, and reading
//! the first few, however many rows there are behind them. Behind the boundaries: nothing of this
//! is saved.

use std::collections::BTreeMap;
use std::hash::Hash;

use smallvec::SmallVec;

use super::clock::Clock;
use super::dense::Dense;
use super::feed::Mark;
use super::settling::{FinalAt, Settling};
use crate::time::Epoch;

/// A change of what is ranked: a key and a row.
pub type Change<K, R> = ((K, R), Epoch, isize);

/// How many rows of a key lie in a list. To move them costs less than a tree of them does.
const FEW: usize = 16;

/// What is shown of the first rows of a key; often they are one.
pub type Shown<S> = SmallVec<[S; 1]>;

/// The rows of one key.
struct Group<R, S> {
    /// All that may ever be among the first.
    rows: Rows<R>,
    /// What is shown of the first.
    shown: Shown<S>,
    /// Whether the epoch changed it.
    is_touched: bool,
}

/// One worker's share of the keys.
pub struct Ranks<K, R, S, F> {
    groups: Dense<K, Group<R, S>>,
    /// How many rows are first.
    first: usize,
    /// Whether rows only come: what is behind the first then never matters.
    only_grows: bool,
    /// What is shown of the first rows.
    show: F,
    /// Whether only the rows at the end are wanted.
    final_only: bool,
    /// Which groups are at their end before all input is.
    settling: Settling<K>,
}

impl<K, R, S, F> Ranks<K, R, S, F>
where
    K: Clone + Hash + Ord,
    R: Ord,
    S: Clone + Eq,
    F: Fn(&[&R]) -> Shown<S>,
{
    /// Shows something of the first rows of each key.
    pub fn new(first: usize, only_grows: bool, final_only: bool, show: F) -> Self {
        Ranks {
            groups: Dense::default(),
            first,
            only_grows,
            show,
            final_only,
            settling: Settling::default(),
        }
    }

    /// Lets go of groups, and shows them if only the end is wanted, when they are settled.
    #[must_use]
    pub fn settled_at(self, settled_at: Option<FinalAt<K>>) -> Self {
        Ranks {
            settling: Settling::new(settled_at),
            ..self
        }
    }

    /// Takes a closed epoch's changes, and its watermark; emits how what is shown changes.
    pub fn retire(
        &mut self,
        clock: &Clock,
        watermark: i64,
        changes: Vec<Change<K, R>>,
        out: &mut Vec<((K, S), Epoch, isize)>,
    ) {
        let mut touched = Vec::new();
        for ((key, row), _, diff) in changes {
            let settling = &mut self.settling;
            let (key, group) = self.groups.get_or_insert(key, |key| {
                settling.note(key);
                Group::default()
            });
            let has_changed = if self.only_grows {
                group.insert(row, diff, self.first)
            } else {
                group.rows.change(row, diff);
                true
            };
            if has_changed && !std::mem::replace(&mut group.is_touched, true) {
                touched.push(key.clone());
            }
        }
        for key in touched {
            let Some(group) = self.groups.get_mut(&key) else {
                continue;
            };
            group.is_touched = false;
            if !self.final_only {
                group.show(&key, self.first, &self.show, clock.epoch, out);
            }
            if group.rows.len() == 0 {
                self.groups.remove(&key);
            }
        }
        for key in self.settling.settled(watermark) {
            if let Some(mut group) = self.groups.remove(&key) {
                group.show(&key, self.first, &self.show, clock.epoch, out);
            }
        }
        if self.final_only && clock.mark == Mark::End {
            for (key, group) in self.groups.iter_mut() {
                group.show(key, self.first, &self.show, clock.epoch, out);
            }
        }
    }
}

impl<R, S> Default for Group<R, S> {
    fn default() -> Self {
        Group {
            rows: Rows::Few(SmallVec::new()),
            shown: Shown::new(),
            is_touched: false,
        }
    }
}

impl<R: Ord, S: Clone + Eq> Group<R, S> {
    /// Takes a row unless as many others are before it; says whether it did.
    fn insert(&mut self, row: R, diff: isize, first: usize) -> bool {
        let is_full = self.rows.len() >= first;
        if is_full && self.rows.last().is_none_or(|last| *last < row) {
            return false;
        }
        self.rows.change(row, diff);
        if self.rows.len() > first {
            self.rows.pop_last();
        }
        true
    }

    /// Emits what is shown now and was not before, and the other way round.
    fn show<K: Clone>(
        &mut self,
        key: &K,
        first: usize,
        show: &impl Fn(&[&R]) -> Shown<S>,
        epoch: Epoch,
        out: &mut Vec<((K, S), Epoch, isize)>,
    ) {
        let rows = self.rows.first(first);
        let now = if rows.is_empty() {
            Shown::new()
        } else {
            show(&rows)
        };
        let before = std::mem::replace(&mut self.shown, now);
        for (at, old) in before.iter().enumerate() {
            if self.shown.get(at) != Some(old) {
                out.push(((key.clone(), old.clone()), epoch, -1));
            }
        }
        for (at, new) in self.shown.iter().enumerate() {
            if before.get(at) != Some(new) {
                out.push(((key.clone(), new.clone()), epoch, 1));
            }
        }
    }
}

/// Different rows in order, and how often each occurs.
enum Rows<R> {
    Few(SmallVec<[(R, isize); 1]>),
    Many(BTreeMap<R, isize>),
}

impl<R: Ord> Rows<R> {
    fn len(&self) -> usize {
        match self {
            Rows::Few(rows) => rows.len(),
            Rows::Many(rows) => rows.len(),
        }
    }

    fn last(&self) -> Option<&R> {
        match self {
            Rows::Few(rows) => rows.last().map(|(row, _)| row),
            Rows::Many(rows) => rows.last_key_value().map(|(row, _)| row),
        }
    }

    fn pop_last(&mut self) {
        match self {
            Rows::Few(rows) => drop(rows.pop()),
            Rows::Many(rows) => drop(rows.pop_last()),
        }
    }

    /// The first `n`, each as often as it occurs.
    fn first(&self, n: usize) -> Vec<&R> {
        match self {
            Rows::Few(rows) => first(rows.iter().map(|(row, count)| (row, count)), n),
            Rows::Many(rows) => first(rows.iter(), n),
        }
    }

    fn change(&mut self, row: R, diff: isize) {
        use std::collections::btree_map::Entry;
        match self {
            Rows::Few(rows) => match rows.binary_search_by(|(other, _)| other.cmp(&row)) {
                Ok(at) => {
                    rows[at].1 += diff;
                    if rows[at].1 == 0 {
                        rows.remove(at);
                    }
                }
                Err(at) if rows.len() < FEW => rows.insert(at, (row, diff)),
                Err(_) => {
                    let few = std::mem::take(rows).into_iter();
                    *self = Rows::Many(few.chain([(row, diff)]).collect());
                }
            },
            Rows::Many(rows) => match rows.entry(row) {
                Entry::Vacant(slot) => drop(slot.insert(diff)),
                Entry::Occupied(mut count) => {
                    *count.get_mut() += diff;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
            },
        }
    }
}

fn first<'r, R>(rows: impl Iterator<Item = (&'r R, &'r isize)>, n: usize) -> Vec<&'r R> {
    let times = |count: &isize| usize::try_from(*count).unwrap_or(0).min(n);
    let rows = rows.flat_map(|(row, count)| std::iter::repeat_n(row, times(count)));
    rows.take(n).collect()
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;
    use crate::dataflow::clock::Clock;
    use crate::time::Timestamp;

    type Placed = BTreeMap<(u8, (u64, i8)), isize>;

    /// The first `n` rows of each key with their places, by sorting all.
    fn naive(rows: &BTreeMap<(u8, i8), isize>, n: usize) -> Placed {
        let mut shown = Placed::new();
        for key in 0..4 {
            let of_key = rows.iter().filter(|((other, _), _)| *other == key);
            let mut all: Vec<i8> = of_key
                .flat_map(|((_, row), count)| vec![*row; usize::try_from(*count).unwrap()])
                .collect();
            all.sort_unstable();
            for (place, row) in (1..).zip(all.into_iter().take(n)) {
                shown.insert((key, (place, row)), 1);
            }
        }
        shown
    }

    #[test]
    fn where_only_the_end_is_wanted_a_group_is_shown_and_let_go_when_it_is_settled() {
        let first = |rows: &[&i8]| Shown::from([*rows[0]]);
        let ranks = Ranks::new(1, false, true, first);
        let mut ranks = ranks.settled_at(Some(Rc::new(|key: &i64| Timestamp(*key))));
        let mut out = Vec::new();
        let mut epoch = |watermark, changes: Vec<(i64, i8)>| {
            let changes = changes.into_iter().map(|change| (change, 1, 1)).collect();
            ranks.retire(&Clock::at(1), watermark, changes, &mut out);
            (std::mem::take(&mut out), ranks.groups.len())
        };
        assert_eq!(epoch(4, vec![(5, 2), (9, 3)]), (vec![], 2));
        assert_eq!(epoch(5, vec![(5, 1)]), (vec![((5, 1), 1, 1)], 1));
        assert_eq!(epoch(8, vec![]), (vec![], 1));
        assert_eq!(epoch(9, vec![]), (vec![((9, 3), 1, 1)], 0));
    }

    proptest! {
        #[test]
        fn the_first_rows_are_those_of_a_sort(
            epochs in prop::collection::vec(
                prop::collection::vec((0..4_u8, -20..20_i8, 1..3_isize, any::<bool>()), 0..40),
                1..12,
            ),
            n in 1..6_usize,
            only_grows in any::<bool>(),
        ) {
            let place = |rows: &[&i8]| (1..).zip(rows.iter().map(|r| **r)).collect();
            let mut ranks = Ranks::new(n, only_grows, false, place);
            let (mut rows, mut shown) = (BTreeMap::new(), Placed::new());
            for (epoch, changes) in (0..).zip(epochs) {
                let mut input = Vec::new();
                for (key, row, count, goes) in changes {
                    let there = rows.entry((key, row)).or_insert(0);
                    let diff = if goes && !only_grows { -*there } else { count };
                    *there += diff;
                    if diff != 0 {
                        input.push(((key, row), epoch, diff));
                    }
                }
                rows.retain(|_, count| *count > 0);
                let mut out = Vec::new();
                ranks.retire(&Clock::at(epoch), 0, input, &mut out);
                for (row, _, diff) in out {
                    *shown.entry(row).or_insert(0) += diff;
                }
                shown.retain(|_, count| *count != 0);
                prop_assert_eq!(&shown, &naive(&rows, n));
                let held: usize = ranks.groups.values().map(|group| group.rows.len()).sum();
                if only_grows {
                    prop_assert!(held <= n * ranks.groups.len(), "and none of those behind");
                } else {
                    prop_assert_eq!(held, rows.len(), "nothing is kept of rows that went");
                }
            }
        }
    }
}
