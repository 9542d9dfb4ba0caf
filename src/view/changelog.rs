//! What changed in an answer over a run of epochs: which rows came and went, which of those that
//! went had expired, and which became final.

use std::collections::BTreeMap;

use super::{ReadError, View};
use crate::row::{Ordered, Row};
use crate::time::{Epoch, Timestamp};

/// Successive published epochs, each with a query's watermark: what changes are read over. The
/// first is where the reader stands; the changes are those after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    first: Mark,
    rest: Vec<Mark>,
}

/// An epoch, and the query's watermark at it.
type Mark = (Epoch, Option<Timestamp>);

impl Span {
    pub(super) fn new(first: Mark, rest: Vec<Mark>) -> Span {
        Span { first, rest }
    }

    /// The epoch whose answer is known.
    pub fn from(&self) -> Epoch {
        self.first.0
    }

    /// The newest epoch.
    pub fn to(&self) -> Epoch {
        self.last().0
    }

    /// The query's watermark at the newest epoch.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.last().1
    }

    fn last(&self) -> Mark {
        *self.rest.last().unwrap_or(&self.first)
    }

    /// The watermark that an epoch after the first found.
    pub(super) fn before(&self, epoch: Epoch) -> Option<Timestamp> {
        let earlier = self.rest.partition_point(|(other, _)| *other < epoch);
        let last = earlier.checked_sub(1).map_or(self.first, |i| self.rest[i]);
        last.1
    }
}

/// How often a row came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The row.
    pub row: Row,
    /// By how much its number of occurrences changed; not 0.
    pub diff: i64,
    /// Whether it went because its time was up, and not because it was corrected.
    pub is_expiry: bool,
}

/// Whether a row that an epoch takes away was final before: then nothing corrects it any more, and
/// it has expired.
pub(super) fn has_expired(row: &Row, watermark_before: Option<Timestamp>) -> bool {
    row.final_at()
        .is_some_and(|at| watermark_before >= Some(at))
}

/// The rows of an answer that are not final yet, by when they will be: finds those that become
/// final at the cost of what changes, not of what is there.
#[derive(Debug, Default)]
pub struct Finals {
    waiting: BTreeMap<(Timestamp, Ordered), i64>,
}

impl Finals {
    /// The rows that wait at the first epoch of a span; only those that its last watermark makes
    /// final where `all` is false. Reads every row of the view.
    pub fn at(view: &View, span: &Span, all: bool) -> Result<Finals, ReadError> {
        let (epoch, watermark) = span.first;
        let mut waiting = BTreeMap::new();
        view.scan(epoch, |row, count| {
            let waits = |at: &Timestamp| watermark < Some(*at);
            let is_wanted = |at: &Timestamp| all || span.watermark() >= Some(*at);
            if let Some(at) = row.row.final_at().filter(waits).filter(is_wanted) {
                *waiting.entry((at, row.clone())).or_insert(0) += count;
            }
        })?;
        Ok(Finals { waiting })
    }

    /// Goes over the epochs of a span, one by one; gives the rows that became final, in row order,
    /// as additions. Must be called for each span in turn.
    pub fn advance(&mut self, view: &View, span: &Span) -> Result<Vec<Change>, ReadError> {
        let mut epochs: BTreeMap<Epoch, Vec<(Ordered, i64)>> = BTreeMap::new();
        view.log(span, |epoch, row, diff| {
            if row.row.final_at().is_some() {
                epochs.entry(epoch).or_default().push((row.clone(), diff));
            }
        })?;
        let mut became = Vec::new();
        let mut before = span.first.1;
        for (epoch, watermark) in &span.rest {
            let changes = epochs.remove(epoch).unwrap_or_default();
            became.extend(self.pass(changes, (before, *watermark)));
            before = *watermark;
        }
        became.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let change = |(row, diff): (Ordered, i64)| Change {
            row: row.row,
            diff,
            is_expiry: false,
        };
        Ok(became.into_iter().map(change).collect())
    }

    /// Goes over the changes of one epoch, with the watermarks before and after it; gives the rows
    /// that became final and how often each did, earliest first.
    pub(super) fn pass(
        &mut self,
        changes: impl IntoIterator<Item = (Ordered, i64)>,
        (before, after): (Option<Timestamp>, Option<Timestamp>),
    ) -> Vec<(Ordered, i64)> {
        for (row, diff) in changes {
            if diff > 0 || !has_expired(&row.row, before) {
                self.add(row, diff);
            }
        }
        let mut became = Vec::new();
        while let Some(entry) = self.waiting.first_entry()
            && after >= Some(entry.key().0)
        {
            let ((_, row), count) = entry.remove_entry();
            if count > 0 {
                became.push((row, count));
            }
        }
        became
    }

    fn add(&mut self, row: Ordered, diff: i64) {
        let Some(at) = row.row.final_at() else {
            return;
        };
        let place = (at, row);
        let count = self.waiting.remove(&place).unwrap_or(0) + diff;
        if count != 0 {
            self.waiting.insert(place, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::view::{History, Labels, QuerySpec, StreamLabel, Views};

    /// A row: its name, its value, and when it is final.
    type Small = (u8, u8, i64);
    type Bag = BTreeMap<Small, i64>;

    /// What an epoch does: the watermark moves on, rows are corrected, expire, and come.
    #[derive(Clone, Debug)]
    struct Step {
        pace: i64,
        corrected: Vec<(prop::sample::Index, u8)>,
        expired: Vec<prop::sample::Index>,
        added: Vec<(u8, i64)>,
    }

    fn step() -> impl Strategy<Value = Step> {
        let index = any::<prop::sample::Index>;
        (
            0_i64..6,
            prop::collection::vec((index(), 0_u8..3), 0..3),
            prop::collection::vec(index(), 0..2),
            prop::collection::vec((0_u8..9, -2_i64..12), 0..4),
        )
            .prop_map(|(pace, corrected, expired, added)| Step {
                pace,
                corrected,
                expired,
                added,
            })
    }

    /// What is known of an epoch, naively.
    #[derive(Clone, Debug, Default)]
    struct Seen {
        watermark: Option<i64>,
        became: Bag,
        expired: Bag,
        bag: Bag,
    }

    struct World {
        views: Views,
        seen: Vec<Seen>,
    }

    const SHARDS: usize = 2;

    fn chosen(bag: &Bag, of: impl Fn(i64) -> bool, index: prop::sample::Index) -> Option<Small> {
        let rows: Vec<Small> = bag.keys().filter(|row| of(row.2)).copied().collect();
        (!rows.is_empty()).then(|| rows[index.index(rows.len())])
    }

    fn shift(bag: &mut Bag, row: Small, by: i64) {
        let count = bag.entry(row).or_insert(0);
        *count += by;
        if *count == 0 {
            bag.remove(&row);
        }
    }

    impl World {
        fn of(steps: &[Step]) -> World {
            let spec = QuerySpec {
                name: "q".into(),
                streams: vec!["s".into()],
                has_final: true,
                ..QuerySpec::default()
            };
            let history = History::default();
            let views = Views::new(1, vec![spec], vec![], SHARDS, history);
            views.set_ready();
            let seen = vec![Seen::default()];
            let mut world = World { views, seen };
            world.publish(0, None);
            for step in steps {
                world.close(step);
            }
            world
        }

        fn close(&mut self, step: &Step) {
            let before = self.seen.last().unwrap().clone();
            let is_final = |at: i64| before.watermark.is_some_and(|w| at <= w);
            let mut seen = Seen {
                bag: before.bag.clone(),
                ..Seen::default()
            };
            let mut changes = Vec::new();
            for index in &step.expired {
                if let Some(row) = chosen(&seen.bag, is_final, *index) {
                    shift(&mut seen.bag, row, -1);
                    shift(&mut seen.expired, row, 1);
                    changes.push((row, -1));
                }
            }
            for (index, value) in &step.corrected {
                if let Some(row) = chosen(&seen.bag, |at| !is_final(at), *index) {
                    let other = (row.0, *value, row.2);
                    shift(&mut seen.bag, row, -1);
                    shift(&mut seen.bag, other, 1);
                    changes.extend([(row, -1), (other, 1)]);
                }
            }
            for (name, after) in &step.added {
                let row = (*name, 0, before.watermark.unwrap_or(0) + after);
                shift(&mut seen.bag, row, 1);
                changes.push((row, 1));
            }
            // Half of the worlds begin without a watermark.
            let paced = step.pace > 0 || before.watermark.is_some();
            seen.watermark = paced.then(|| before.watermark.unwrap_or(0) + step.pace);
            let is_final = |w: Option<i64>, row: &Small| w.is_some_and(|w| row.2 <= w);
            for (row, count) in &seen.bag {
                if is_final(seen.watermark, row) {
                    shift(&mut seen.became, *row, *count);
                }
            }
            for (row, count) in &seen.expired {
                shift(&mut seen.became, *row, *count);
            }
            for (row, count) in &before.bag {
                if is_final(before.watermark, row) {
                    shift(&mut seen.became, *row, -count);
                }
            }
            let epoch = self.seen.len() as Epoch;
            let row =
                |(name, value, at): Small| Row::new(&name, &value, Some(Timestamp(at))).unwrap();
            for (small, diff) in changes {
                let shard = usize::from(small.0) % SHARDS;
                let view = self.views.query("q").unwrap();
                view.apply(shard, epoch, vec![(row(small), diff)]);
            }
            self.publish(epoch, seen.watermark);
            self.seen.push(seen);
        }

        fn publish(&self, epoch: Epoch, watermark: Option<i64>) {
            let label = StreamLabel {
                watermark: watermark.map(Timestamp),
                ..StreamLabel::default()
            };
            self.views.publish(Labels {
                epoch,
                streams: [("s".to_owned(), label)].into(),
                ..Labels::default()
            });
        }

        fn span(&self, from: usize, to: usize) -> Span {
            let view = self.views.query("q").unwrap();
            let span = self.views.span(view.spec(), from as Epoch, to as Epoch);
            span.unwrap()
        }

        /// What became final over these epochs.
        fn became(&self, from: usize, to: usize) -> Bag {
            let mut bag = Bag::new();
            for seen in &self.seen[from + 1..=to] {
                seen.became
                    .iter()
                    .for_each(|(row, n)| shift(&mut bag, *row, *n));
            }
            bag
        }
    }

    fn small(row: &Row) -> Small {
        let of = |json: &str| json.parse().unwrap();
        (of(row.key()), of(row.value()), row.final_at().unwrap().0)
    }

    fn bag_of(changes: &[Change]) -> Bag {
        assert!(changes.is_sorted_by_key(|change| change.row.clone()));
        assert!(
            changes
                .iter()
                .all(|change| change.diff > 0 && !change.is_expiry)
        );
        let mut bag = Bag::new();
        for change in changes {
            shift(&mut bag, small(&change.row), change.diff);
        }
        bag
    }

    fn check_finals(world: &World, from: usize, middle: usize, to: usize) {
        let view = world.views.query("q").unwrap();
        // Kept up over two spans, and found for both at once.
        let mut finals = Finals::at(view, &world.span(from, from), true).unwrap();
        let first = finals.advance(view, &world.span(from, middle)).unwrap();
        let second = finals.advance(view, &world.span(middle, to)).unwrap();
        assert_eq!(bag_of(&first), world.became(from, middle));
        assert_eq!(bag_of(&second), world.became(middle, to));
        let whole = world.span(from, to);
        let mut finals = Finals::at(view, &whole, false).unwrap();
        let became = finals.advance(view, &whole).unwrap();
        assert_eq!(bag_of(&became), world.became(from, to));
    }

    fn check_expiries(world: &World, from: usize, to: usize) {
        let view = world.views.query("q").unwrap();
        for change in view.changes(&world.span(from, to)).unwrap() {
            let row = small(&change.row);
            let expired = world.seen[from + 1..=to]
                .iter()
                .any(|seen| seen.expired.contains_key(&row));
            assert_eq!(change.is_expiry, change.diff < 0 && expired, "{row:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn finals_and_expiries_are_those_of_a_naive_look(
            steps in prop::collection::vec(step(), 1..14),
            places in prop::array::uniform3(any::<prop::sample::Index>()),
        ) {
            let world = World::of(&steps);
            let mut places = places.map(|place| place.index(world.seen.len()));
            places.sort_unstable();
            let [from, middle, to] = places;
            check_finals(&world, from, middle, to);
            check_expiries(&world, from, to);
        }
    }
}
