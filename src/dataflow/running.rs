//! Sums of windows that overlap, each made from the one before: a window costs each of its keys a
//! few merges, however many panes it has.
//!
//! When a window is read as a whole, sums from each of its panes to its end are kept. A window
//! after it is such a sum and what its newer panes add up to; once none of the old panes is in it,
//! it is read as a whole itself. Nothing has to be taken off, so any aggregate will do.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::ops::Range;

use super::folding::Map;

/// Rows by pane, key, and how many of the pane's windows were closed to them.
type Panes<K, A> = BTreeMap<i64, Map<(K, u32), A>>;

/// What windows have in common with the next ones.
pub(super) struct Running<K, A> {
    /// The last window's start; where the last one that was read as a whole ends; and where the
    /// last one does.
    start: i64,
    until: i64,
    end: i64,
    sums: Map<K, Sums<A>>,
    /// Keys that have rows the sums have not: such as only later windows take, or such as came
    /// when their pane had been read. With the last pane and the greatest number of closed windows.
    apart: Map<K, (i64, u32)>,
}

struct Sums<A> {
    /// The sums from a pane to `until`, the earliest pane last.
    back: Vec<(i64, A)>,
    /// The sum from there to `end`.
    front: Option<A>,
}

impl<K: Clone + Hash + Eq, A: Clone> Running<K, A> {
    pub fn new() -> Running<K, A> {
        Running {
            start: i64::MIN,
            until: i64::MIN,
            end: i64::MIN,
            sums: Map::default(),
            apart: Map::default(),
        }
    }

    /// A row of a pane is not what it was.
    pub fn changed(&mut self, pane: i64, key: &K, closed: u32) {
        if pane < self.end {
            self.note(pane, key, closed);
        }
    }

    fn note(&mut self, pane: i64, key: &K, closed: u32) {
        let (last, most) = self.apart.entry(key.clone()).or_insert((pane, closed));
        (*last, *most) = (pane.max(*last), closed.max(*most));
    }

    /// Hands out the sum of each key of a window. `place` is that of the window among those of a
    /// pane. Windows come in order.
    pub fn window(
        &mut self,
        window: Range<i64>,
        panes: &Panes<K, A>,
        place: impl Fn(i64) -> u32,
        merge: impl Fn(&mut A, &A),
        mut emit: impl FnMut(&K, A),
    ) {
        let Range { start, end } = window;
        if start < self.start || start >= self.until {
            self.read_whole(start..end, panes, &merge);
        } else {
            self.read_on(end, panes, &merge);
        }
        self.start = start;
        self.apart.retain(|_, (last, _)| *last >= start);
        self.sums.retain(|key, sums| {
            while sums.back.last().is_some_and(|(pane, _)| *pane < start) {
                sums.back.pop();
            }
            let mut sum = sums.back.last().map(|(_, sum)| sum.clone());
            match (&mut sum, &sums.front) {
                (Some(sum), Some(front)) => merge(sum, front),
                (None, front) => sum.clone_from(front),
                (Some(_), None) => {}
            }
            let Some(sum) = sum else { return false };
            if !self.apart.contains_key(key) {
                emit(key, sum);
            }
            true
        });
        for (key, (_, most)) in &self.apart {
            let mut sum: Option<A> = None;
            let mut row = (key.clone(), 0);
            for (pane, rows) in panes.range(start..end) {
                for closed in 0..=place(*pane).min(*most) {
                    row.1 = closed;
                    match (rows.get(&row), &mut sum) {
                        (Some(acc), Some(sum)) => merge(sum, acc),
                        (Some(acc), None) => sum = Some(acc.clone()),
                        (None, _) => {}
                    }
                }
            }
            if let Some(sum) = sum {
                emit(key, sum);
            }
        }
    }

    fn read_whole(&mut self, window: Range<i64>, panes: &Panes<K, A>, merge: &impl Fn(&mut A, &A)) {
        (self.until, self.end) = (window.end, window.end);
        (self.sums, self.apart) = (Map::default(), Map::default());
        for (pane, rows) in panes.range(window).rev() {
            for ((key, closed), acc) in rows {
                if *closed > 0 {
                    self.note(*pane, key, *closed);
                    continue;
                }
                let mut sum = acc.clone();
                if let Some(sums) = self.sums.get_mut(key) {
                    if let Some((_, later)) = sums.back.last() {
                        merge(&mut sum, later);
                    }
                    sums.back.push((*pane, sum));
                } else {
                    let (back, front) = (vec![(*pane, sum)], None);
                    self.sums.insert(key.clone(), Sums { back, front });
                }
            }
        }
    }

    fn read_on(&mut self, end: i64, panes: &Panes<K, A>, merge: &impl Fn(&mut A, &A)) {
        let from = std::mem::replace(&mut self.end, end);
        for (pane, rows) in panes.range(from..end.max(from)) {
            for ((key, closed), acc) in rows {
                if *closed > 0 {
                    self.note(*pane, key, *closed);
                    continue;
                }
                let Some(sums) = self.sums.get_mut(key) else {
                    let (back, front) = (Vec::new(), Some(acc.clone()));
                    self.sums.insert(key.clone(), Sums { back, front });
                    continue;
                };
                match &mut sums.front {
                    Some(front) => merge(front, acc),
                    None => sums.front = Some(acc.clone()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PANES: i64 = 6;

    /// Strings merge in any order once they are sorted, and show what is in them.
    fn merge(sum: &mut Vec<u16>, other: &Vec<u16>) {
        sum.extend(other);
        sum.sort_unstable();
    }

    proptest! {
        #[test]
        fn a_window_is_the_sum_of_its_panes(
            epochs in prop::collection::vec(
                (
                    prop::collection::vec((0..4_u8, 0..PANES + 4, 0..PANES), 0..12),
                    1..9_i64,
                ),
                1..14,
            ),
        ) {
            let mut running = Running::new();
            let mut panes: Panes<u8, Vec<u16>> = BTreeMap::new();
            let (mut next, mut number) = (0_i64, 0_u16);
            for (rows, closing) in epochs {
                for (key, ahead, closed) in rows {
                    // Of the panes of the windows to come, and of later ones.
                    let pane = next + ahead;
                    let closed = u32::try_from(closed).expect("it is positive");
                    running.changed(pane, &key, closed);
                    let rows = panes.entry(pane).or_default();
                    merge(rows.entry((key, closed)).or_default(), &vec![number]);
                    number += 1;
                }
                for start in next..next + closing {
                    let window = start..start + PANES;
                    // Windows begin with each pane: the oldest of a pane begins that much before.
                    let place = |pane: i64| u32::try_from(start - (pane - PANES + 1)).unwrap();
                    let mut naive: BTreeMap<u8, Vec<u16>> = BTreeMap::new();
                    for (pane, rows) in panes.range(window.clone()) {
                        for ((key, closed), acc) in rows {
                            if *closed <= place(*pane) {
                                merge(naive.entry(*key).or_default(), acc);
                            }
                        }
                    }
                    // One that holds nothing is not asked for.
                    if naive.is_empty() {
                        continue;
                    }
                    let mut sums = BTreeMap::new();
                    running.window(window, &panes, place, merge, |key, sum| {
                        assert!(sums.insert(*key, sum).is_none(), "a key has one sum");
                    });
                    prop_assert_eq!(&sums, &naive, "from {}", start);
                }
                next += closing;
                panes.retain(|pane, _| *pane >= next);
            }
        }
    }
}
