//! A shard's rows, in groups that leave together.
//!
//! Final rows of a table of windows go once their retention has passed, all that became final at
//! one instant at once, and that may be a million. So such rows are kept in a group for each
//! instant, and that it has left is one note, whatever its size: who reads a later epoch passes it
//! by. Its rows are removed when no epoch that has them can be read any more, a run at a time.

use std::cmp::Ordering;
use std::collections::binary_heap::PeekMut;
use std::collections::btree_map::{Entry, Range};
use std::collections::{BTreeMap, BinaryHeap};
use std::mem::size_of;
use std::ops::Bound;

use super::versions::Versions;
use crate::row::{Ordered, Row};
use crate::time::{Epoch, Timestamp};

/// Rows that leave together.
#[derive(Debug, Default)]
struct Group {
    rows: BTreeMap<Ordered, Versions>,
    /// How many rows there are at the newest epoch.
    count: i64,
    bytes: usize,
    /// The epoch as of which the rows are gone.
    left: Option<Epoch>,
}

/// All rows of a shard.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// By when their rows become final; under `None` the rows that leave one by one.
    by_instant: BTreeMap<Option<Timestamp>, Group>,
    /// Whether final rows leave together.
    is_together: bool,
    bytes: usize,
}

/// What a change of a row found, and left.
pub(super) struct Changed {
    pub row: Row,
    pub before: i64,
    pub after: i64,
    /// Whether the row is new to the shard.
    pub is_new: bool,
}

/// What left at an epoch.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The groups, by the instant at which their rows became final.
    pub instants: Vec<Timestamp>,
    pub rows: i64,
    pub bytes: usize,
}

/// About what a row takes: its allocation, and its place in the map, which is filled to two thirds.
pub(super) fn row_bytes(row: &Row) -> usize {
    const PLACE: usize = size_of::<(Ordered, Versions)>() * 3 / 2;
    const ROUNDED: usize = 16;
    PLACE + ROUNDED + row.bytes()
}

impl Groups {
    /// Has final rows leave together from here on; said before there are any.
    pub fn leave_together(&mut self) {
        self.is_together = true;
    }

    fn group_of(&self, row: &Row) -> Option<Timestamp> {
        row.final_at().filter(|_| self.is_together)
    }

    /// Changes how often a row occurs. One that comes after its group has left is not taken.
    pub fn change(
        &mut self,
        row: Ordered,
        epoch: Epoch,
        since: Epoch,
        diff: i64,
    ) -> Option<Changed> {
        let group = self.by_instant.entry(self.group_of(&row.row)).or_default();
        if group.left.is_some() {
            return None;
        }
        group.count += diff;
        let changed = match group.rows.entry(row) {
            Entry::Vacant(place) => {
                let row = place.key().row.clone();
                place.insert(Versions::new(epoch, diff));
                let bytes = row_bytes(&row);
                group.bytes += bytes;
                self.bytes += bytes;
                Changed {
                    row,
                    before: 0,
                    after: diff,
                    is_new: true,
                }
            }
            Entry::Occupied(mut place) => {
                let row = place.key().row.clone();
                let versions = place.get_mut();
                let before = versions.newest();
                versions.prune(since);
                versions.add(epoch, diff);
                Changed {
                    row,
                    before,
                    after: versions.newest(),
                    is_new: false,
                }
            }
        };
        Some(changed)
    }

    /// Has all rows leave that became final up to an instant. Costs what groups there are.
    pub fn leave(&mut self, epoch: Epoch, upto: Timestamp) -> Left {
        let mut left = Left::default();
        let due = (Bound::Excluded(None), Bound::Included(Some(upto)));
        for (instant, group) in self.by_instant.range_mut(due) {
            if group.left.is_none() {
                group.left = Some(epoch);
                left.instants.extend(*instant);
                left.rows += group.count;
                left.bytes += group.bytes;
            }
        }
        left
    }

    /// Removes at most so many rows of a group that has left; says how many, 0 once it is empty.
    pub fn remove(&mut self, instant: Timestamp, most: usize) -> usize {
        let Some(group) = self.by_instant.get_mut(&Some(instant)) else {
            return 0;
        };
        let mut removed = 0;
        while removed < most
            && let Some((row, _)) = group.rows.pop_first()
        {
            self.bytes -= row_bytes(&row.row);
            removed += 1;
        }
        if removed == 0 {
            self.by_instant.remove(&Some(instant));
        }
        removed
    }

    /// Forgets of a row what no epoch from `since` on needs.
    pub fn prune(&mut self, row: Row, since: Epoch) {
        let instant = self.group_of(&row);
        let Some(group) = self.by_instant.get_mut(&instant) else {
            return;
        };
        let row = Ordered::from(row);
        let Some(versions) = group.rows.get_mut(&row) else {
            return;
        };
        versions.prune(since);
        if !versions.is_gone() {
            return;
        }
        group.rows.remove(&row);
        let bytes = row_bytes(&row.row);
        group.bytes -= bytes;
        self.bytes -= bytes;
        // One that has left is still named in the log, which removes it.
        if group.rows.is_empty() && group.left.is_none() {
            self.by_instant.remove(&instant);
        }
    }

    /// The rows of a range, in order, of all groups that are there at an epoch.
    pub fn range<'a>(&'a self, at: Epoch, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Merged<'a> {
        let is_there = |group: &&Group| group.left.is_none_or(|left| at < left);
        let there = self.by_instant.values().filter(is_there);
        let heads = there.filter_map(|group| Head::of(group.rows.range::<[u8], _>(range)));
        Merged {
            heads: heads.collect(),
        }
    }

    /// The rows of a row's key at the newest epoch, in order. All are in one group: it goes by the
    /// key when a row becomes final.
    pub fn of_key(&self, row: &Row) -> impl Iterator<Item = (&Ordered, &Versions)> {
        let key = row.order_of_key();
        let from = (Bound::Included(key), Bound::Unbounded);
        let group = self.by_instant.get(&self.group_of(row));
        let rows = group.filter(|group| group.left.is_none());
        let rows = rows.map(|group| group.rows.range::<[u8], _>(from));
        let of_key = move |(other, _): &(&Ordered, _)| other.row.order_of_key() == key;
        rows.into_iter().flatten().take_while(of_key)
    }

    /// The rows of a group from behind one on, in order.
    pub fn rows_after<'a>(
        &'a self,
        instant: Timestamp,
        after: Option<&Ordered>,
    ) -> impl Iterator<Item = (&'a Ordered, &'a Versions)> + use<'a> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let group = self.by_instant.get(&Some(instant));
        let rows = group.map(|group| group.rows.range::<Ordered, _>((from, Bound::Unbounded)));
        rows.into_iter().flatten()
    }

    /// About how many bytes the rows take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All rows, those that are only history included.
    #[cfg(test)]
    pub fn all(&self) -> impl Iterator<Item = &Versions> {
        self.by_instant
            .values()
            .flat_map(|group| group.rows.values())
    }
}

/// A group's next row, and those behind it.
struct Head<'a> {
    row: &'a Ordered,
    versions: &'a Versions,
    rest: Range<'a, Ordered, Versions>,
}

impl<'a> Head<'a> {
    fn of(mut rest: Range<'a, Ordered, Versions>) -> Option<Head<'a>> {
        let (row, versions) = rest.next()?;
        Some(Head {
            row,
            versions,
            rest,
        })
    }
}

/// The least row is the greatest head, as the heap wants it.
impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.row.cmp(self.row)
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.row == other.row
    }
}

impl Eq for Head<'_> {}

/// The rows of several groups in order.
pub(super) struct Merged<'a> {
    heads: BinaryHeap<Head<'a>>,
}

impl<'a> Iterator for Merged<'a> {
    type Item = (&'a Ordered, &'a Versions);

    fn next(&mut self) -> Option<Self::Item> {
        let mut head = self.heads.peek_mut()?;
        let next = (head.row, head.versions);
        match head.rest.next() {
            Some(following) => (head.row, head.versions) = following,
            None => drop(PeekMut::pop(head)),
        }
        Some(next)
    }
}
