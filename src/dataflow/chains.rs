//! Sessions of the rows of a table. Rows come and go, so sessions merge, and split again.
//!
//! Each key's rows lie in order of time. A row that comes joins the sessions it is near to: that
//! costs finding its place, however long they are. A row that goes may leave a gap, so what is
//! left of its session is read anew: once an epoch, however many went. Behind the boundaries:
//! nothing of this is saved.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::rc::Rc;

use differential_dataflow::consolidation::{consolidate, consolidate_updates};

use super::aggregate::Aggregate;
use super::clock::Clock;
use super::feed::Mark;
use super::folding::Map;
use crate::time::{Epoch, Timestamp, Window};

/// A change of the table: a key, and a row with its time in ms.
pub type Change<K, V> = ((K, (i64, V)), Epoch, isize);

/// A change of the table of sessions.
pub type Update<K, O> = (((K, Window), O), Epoch, isize);

/// One worker's share of the keys.
pub struct Chains<K, V, A: Aggregate<V>> {
    /// How far apart two rows of a session may be, in ms.
    gap: i64,
    aggregate: Rc<A>,
    groups: Map<K, Group<V, A::Acc>>,
    /// Whether only the rows at the end are wanted.
    final_only: bool,
}

/// The rows of one key.
struct Group<V, A> {
    /// How often each occurs, by time.
    rows: BTreeMap<i64, BTreeMap<V, isize>>,
    /// The sessions by their first row's time.
    sessions: BTreeMap<i64, Session<A>>,
    /// Those that were made in this epoch, and are not shown yet.
    unshown: BTreeSet<i64>,
}

struct Session<A> {
    /// The time of the last row.
    last: i64,
    acc: A,
}

impl<V, A> Default for Group<V, A> {
    fn default() -> Self {
        Group {
            rows: BTreeMap::new(),
            sessions: BTreeMap::new(),
            unshown: BTreeSet::new(),
        }
    }
}

impl<K, V, A> Chains<K, V, A>
where
    K: Clone + Hash + Ord,
    V: Ord,
    A: Aggregate<V>,
    A::Out: Ord,
{
    /// Begins without rows.
    pub fn new(gap: i64, aggregate: A, final_only: bool) -> Self {
        Chains {
            gap,
            aggregate: Rc::new(aggregate),
            groups: Map::default(),
            final_only,
        }
    }

    /// Takes a closed epoch's changes; emits those of the sessions.
    pub fn retire(
        &mut self,
        clock: &Clock,
        mut changes: Vec<Change<K, V>>,
        out: &mut Vec<Update<K, A::Out>>,
    ) {
        changes.sort_by(|((a, _), ..), ((b, _), ..)| a.cmp(b));
        let mut changes = changes.into_iter().peekable();
        while let Some(((key, row), _, diff)) = changes.next() {
            let mut net = vec![(row, diff)];
            while let Some(((_, row), _, diff)) = changes.next_if(|((other, _), ..)| *other == key)
            {
                net.push((row, diff));
            }
            consolidate(&mut net);
            let before = out.len();
            let mut group = self.groups.remove(&key).unwrap_or_default();
            let mut gone = |start, session: Session<A::Acc>| {
                out.push(self.update(&key, start, &session, clock.epoch, -1));
            };
            self.change(&mut group, net, &mut gone);
            let fresh = std::mem::take(&mut group.unshown).into_iter();
            if !self.final_only {
                let fresh = fresh.filter_map(|start| Some((start, group.sessions.get(&start)?)));
                out.extend(fresh.map(|(start, s)| self.update(&key, start, s, clock.epoch, 1)));
                // What was made anew as it was is no change.
                let mut changed = out.split_off(before);
                consolidate_updates(&mut changed);
                out.append(&mut changed);
            }
            if !group.rows.is_empty() {
                self.groups.insert(key, group);
            }
        }
        if self.final_only && clock.mark == Mark::End {
            for (key, group) in &self.groups {
                let sessions = group.sessions.iter();
                out.extend(sessions.map(|(at, s)| self.update(key, *at, s, clock.epoch, 1)));
            }
        }
    }

    fn update(
        &self,
        key: &K,
        start: i64,
        session: &Session<A::Acc>,
        epoch: Epoch,
        diff: isize,
    ) -> Update<K, A::Out> {
        let window = Window {
            start: Timestamp(start),
            end: Timestamp(session.last.saturating_add(self.gap)),
        };
        let value = self.aggregate.finish(&session.acc);
        (((key.clone(), window), value), epoch, diff)
    }

    /// Applies net changes: what goes first, so that what comes finds sessions as they are without.
    fn change(
        &self,
        group: &mut Group<V, A::Acc>,
        net: Vec<((i64, V), isize)>,
        gone: &mut impl FnMut(i64, Session<A::Acc>),
    ) {
        let (goes, comes): (Vec<_>, Vec<_>) = net.into_iter().partition(|(_, diff)| *diff < 0);
        let mut torn = Vec::new();
        for ((time, value), diff) in goes {
            group.count(time, value, diff);
            let holding = group.sessions.range(..=time).next_back();
            let holding = holding.filter(|(_, session)| session.last >= time);
            if let Some((start, last)) = holding.map(|(start, session)| (*start, session.last)) {
                group.take(start, self.final_only, gone);
                torn.push((start, last));
            }
        }
        for (start, last) in torn {
            self.read(group, start, last);
        }
        for ((time, value), diff) in comes {
            self.add(group, time, &value, diff, gone);
            group.count(time, value, diff);
        }
    }

    /// Makes sessions of the rows between two times, where there are none.
    fn read(&self, group: &mut Group<V, A::Acc>, start: i64, last: i64) {
        let mut made: Vec<(i64, Session<A::Acc>)> = Vec::new();
        for (time, values) in group.rows.range(start..=last) {
            for value in values.iter().flat_map(|(value, n)| repeated(value, *n)) {
                match made.last_mut() {
                    Some((_, session)) if *time <= session.last.saturating_add(self.gap) => {
                        session.last = *time;
                        self.aggregate.add(&mut session.acc, value);
                    }
                    _ => {
                        let (last, acc) = (*time, self.aggregate.one(value));
                        made.push((*time, Session { last, acc }));
                    }
                }
            }
        }
        group.unshown.extend(made.iter().map(|(start, _)| *start));
        group.sessions.extend(made);
    }

    /// Adds a row, so many times, to the sessions it is near to, which become one.
    fn add(
        &self,
        group: &mut Group<V, A::Acc>,
        time: i64,
        value: &V,
        count: isize,
        gone: &mut impl FnMut(i64, Session<A::Acc>),
    ) {
        let (mut start, mut last, mut acc) = (time, time, None::<A::Acc>);
        let reach = time.saturating_add(self.gap);
        while let Some((at, _)) = (group.sessions.range(..=reach).next_back())
            .filter(|(_, session)| session.last.saturating_add(self.gap) >= time)
        {
            let at = *at;
            let Some(met) = group.take(at, self.final_only, gone) else {
                break;
            };
            (start, last) = (start.min(at), last.max(met.last));
            match &mut acc {
                Some(acc) => self.aggregate.merge(acc, &met.acc),
                None => acc = Some(met.acc),
            }
        }
        let mut values = repeated(value, count);
        let mut acc = match (acc, values.next()) {
            (Some(mut acc), Some(value)) => {
                self.aggregate.add(&mut acc, value);
                acc
            }
            (None, Some(value)) => self.aggregate.one(value),
            (_, None) => return,
        };
        values.for_each(|value| self.aggregate.add(&mut acc, value));
        group.unshown.insert(start);
        group.sessions.insert(start, Session { last, acc });
    }
}

fn repeated<V>(value: &V, count: isize) -> impl Iterator<Item = &V> {
    std::iter::repeat_n(value, usize::try_from(count).unwrap_or(0))
}

impl<V: Ord, A: Clone> Group<V, A> {
    fn count(&mut self, time: i64, value: V, diff: isize) {
        let values = self.rows.entry(time).or_default();
        match values.entry(value) {
            Entry::Vacant(slot) => drop(slot.insert(diff)),
            Entry::Occupied(mut count) => {
                *count.get_mut() += diff;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        if values.is_empty() {
            self.rows.remove(&time);
        }
    }

    /// Takes a session out; if it was shown, it is gone.
    fn take(
        &mut self,
        start: i64,
        final_only: bool,
        gone: &mut impl FnMut(i64, Session<A>),
    ) -> Option<Session<A>> {
        let session = self.sessions.remove(&start)?;
        if !self.unshown.remove(&start) && !final_only {
            let (last, acc) = (session.last, session.acc.clone());
            gone(start, Session { last, acc });
        }
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataflow::several::{count, max};

    type Rows = BTreeMap<(u8, i64, i8), isize>;
    type Shown = BTreeMap<((u8, Window), (u64, i8)), isize>;

    /// Each key's rows in order, cut where two are too far apart.
    fn naive(rows: &Rows, gap: i64) -> Shown {
        let mut shown = Shown::new();
        for key in 0..3 {
            let of_key = rows.iter().filter(|((other, ..), _)| *other == key);
            let all: Vec<(i64, i8)> = of_key
                .flat_map(|((_, time, n), count)| vec![(*time, *n); count.unsigned_abs()])
                .collect();
            for part in all.chunk_by(|a, b| b.0 - a.0 <= gap) {
                let window = Window {
                    start: Timestamp(part[0].0),
                    end: Timestamp(part[part.len() - 1].0 + gap),
                };
                let greatest = part.iter().map(|(_, n)| *n).max().unwrap();
                shown.insert(((key, window), (part.len() as u64, greatest)), 1);
            }
        }
        shown
    }

    proptest! {
        #[test]
        fn sessions_are_those_of_the_rows_that_are_there(
            epochs in prop::collection::vec(
                prop::collection::vec(
                    (0..3_u8, 0..40_i64, 0..3_i8, 1..3_isize, any::<bool>()),
                    0..14,
                ),
                1..12,
            ),
            gap in 1..6_i64,
        ) {
            let aggregate = || (count(), max(|n: &i8| *n));
            let mut chains = Chains::new(gap, aggregate(), false);
            let mut at_the_end = Chains::new(gap, aggregate(), true);
            let (mut rows, mut shown) = (Rows::new(), Shown::new());
            for (epoch, changes) in (1..).zip(epochs) {
                let mut input = Vec::new();
                for (key, time, n, count, goes) in changes {
                    let there = rows.entry((key, time, n)).or_insert(0);
                    let diff = if goes { -*there } else { count };
                    *there += diff;
                    input.push(((key, (time, n)), epoch, diff));
                }
                rows.retain(|_, count| *count > 0);
                let mut out = Vec::new();
                at_the_end.retire(&Clock::at(epoch), input.clone(), &mut out);
                prop_assert_eq!(&out, &[]);
                chains.retire(&Clock::at(epoch), input, &mut out);
                for (row, _, diff) in out {
                    *shown.entry(row).or_insert(0) += diff;
                }
                shown.retain(|_, count| *count != 0);
                prop_assert_eq!(&shown, &naive(&rows, gap));
                let held: usize = chains.groups.values().map(|group| group.rows.len()).sum();
                let times: BTreeSet<_> = rows.keys().map(|(key, time, _)| (key, time)).collect();
                prop_assert_eq!(held, times.len(), "nothing is kept of rows that went");
            }
            let mut out = Vec::new();
            let mut end = Clock::at(1000);
            end.mark = Mark::End;
            at_the_end.retire(&end, Vec::new(), &mut out);
            let last: Shown = out.into_iter().map(|(row, _, diff)| (row, diff)).collect();
            prop_assert_eq!(last, shown);
        }
    }
}
