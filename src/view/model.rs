//! The views against a model: one ordered map per epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use serde_json::json;

use super::{
    Change, History, KeyRange, Labels, Leaving, Page, QuerySpec, ReadError, RowPosition, View,
    Views,
};
use crate::row::{Row, consolidated};
use crate::time::{Epoch, Timestamp};

/// The key and value of a row; the value also says when it is final.
type Small = (String, u8);
type Bag = BTreeMap<Small, i64>;

fn row((key, value): &Small) -> Row {
    let final_at = (*value > 0).then(|| Timestamp(i64::from(*value)));
    Row::new(key, value, final_at).unwrap()
}

fn spec(name: &str) -> QuerySpec {
    let key_schema = json!({"type": "string"});
    QuerySpec {
        name: name.into(),
        key_schema,
        ..QuerySpec::default()
    }
}

fn labels(epoch: Epoch) -> Labels {
    Labels {
        epoch,
        ..Labels::default()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Apply(usize, Vec<(Small, i64)>),
    /// Rows leave that became final up to so many ms later than those that left before.
    Leave(u8),
    Publish(u64),
    Read(Read),
}

#[derive(Clone, Debug)]
struct Read {
    epoch: prop::sample::Index,
    range: Range,
    limit: usize,
    final_at: Option<u8>,
}

#[derive(Clone, Debug)]
enum Range {
    All,
    Key(String),
    Prefix(String),
    Between(Option<String>, Option<String>),
}

impl Range {
    fn holds(&self, key: &str) -> bool {
        match self {
            Range::All => true,
            Range::Key(only) => key == only,
            Range::Prefix(start) => key.starts_with(start.as_str()),
            Range::Between(from, to) => {
                from.as_ref().is_none_or(|from| key >= from.as_str())
                    && to.as_ref().is_none_or(|to| key < to.as_str())
            }
        }
    }

    fn real(&self, spec: &QuerySpec) -> KeyRange {
        match self {
            Range::All => Ok(KeyRange::all()),
            Range::Key(only) => KeyRange::key(spec, only),
            Range::Prefix(start) => KeyRange::prefix(spec, start),
            Range::Between(from, to) => KeyRange::between(spec, from.as_deref(), to.as_deref()),
        }
        .unwrap()
    }
}

fn key() -> impl Strategy<Value = String> {
    "[ab\\x00]{0,2}"
}

fn range() -> impl Strategy<Value = Range> {
    prop_oneof![
        Just(Range::All),
        key().prop_map(Range::Key),
        key().prop_map(Range::Prefix),
        (prop::option::of(key()), prop::option::of(key())).prop_map(|(a, b)| Range::Between(a, b)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let changes = prop::collection::vec(((key(), 0_u8..8), -2_i64..4), 0..12);
    let read = (
        any::<prop::sample::Index>(),
        range(),
        1_usize..6,
        prop::option::of(0_u8..8),
    );
    prop_oneof![
        1 => (0_u8..3).prop_map(Step::Leave),
        3 => (0_usize..3, changes).prop_map(|(shard, changes)| Step::Apply(shard, changes)),
        2 => (1_u64..4).prop_map(Step::Publish),
        3 => read.prop_map(|(epoch, range, limit, final_at)| {
            Step::Read(Read { epoch, range, limit, final_at })
        }),
    ]
}

/// What the views should say: the whole bag at each published epoch.
struct Model {
    open: Epoch,
    now: Bag,
    bags: BTreeMap<Epoch, Bag>,
    /// The rows that became final up to this are gone, and none comes any more.
    left: u8,
}

impl Model {
    fn expected(&self, at: Epoch, read: &Read) -> Vec<Small> {
        let shown = self.bags[&at].iter().filter(|((key, value), count)| {
            **count > 0
                && read.range.holds(key)
                && read.final_at.is_none_or(|w| *value > 0 && *value <= w)
        });
        shown
            .flat_map(|(row, count)| {
                std::iter::repeat_n(row.clone(), usize::try_from(*count).unwrap())
            })
            .collect()
    }
}

fn small(row: &Row) -> Small {
    (
        serde_json::from_str(row.key()).unwrap(),
        serde_json::from_str(row.value()).unwrap(),
    )
}

/// Every row of a range, page by page; each page is as full as it can be.
fn read_all(view: &View, at: Epoch, read: &Read) -> Result<Vec<Small>, ReadError> {
    let (range, mut next, mut all) = (read.range.real(view.spec()), None, Vec::new());
    let final_at = read.final_at.map(|w| Timestamp(w.into()));
    loop {
        let Page {
            rows,
            next: position,
        } = view.read(at, &range, next.as_ref(), read.limit, final_at)?;
        let before = all.len();
        for (row, count) in &rows {
            all.extend(std::iter::repeat_n(
                small(row),
                usize::try_from(*count).unwrap(),
            ));
        }
        let Some(position) = position else {
            assert!(all.len() - before <= read.limit);
            return Ok(all);
        };
        assert_eq!(
            all.len() - before,
            read.limit,
            "only the last page may be short"
        );
        next = Some(RowPosition::from_bytes(position.as_bytes()).unwrap());
    }
}

fn check_changes(model: &Model, views: &Views, from: Epoch, to: Epoch) {
    let view = views.query("q").unwrap();
    let span = views.span(view.spec(), from, to).unwrap();
    assert_eq!((span.from(), span.to()), (from, to));
    let changes = view.changes(&span).unwrap();
    let mut bag = model.bags[&from].clone();
    for Change { row, diff, .. } in &changes {
        assert_ne!(*diff, 0);
        *bag.entry(small(row)).or_default() += diff;
    }
    bag.retain(|_, count| *count != 0);
    assert_eq!(bag, model.bags[&to]);
    assert!(changes.is_sorted_by_key(|change| (change.diff > 0, change.row.clone())));
}

fn check_read(views: &Views, model: &Model, read: &Read) {
    let Some(since) = views.since() else {
        assert_eq!(views.labels_at(1), Err(ReadError::NotReady));
        return;
    };
    let view = views.query("q").unwrap();
    let epochs: Vec<Epoch> = model.bags.keys().copied().collect();
    let at = epochs[read.epoch.index(epochs.len())];
    let upper = *epochs.last().unwrap();
    if at < since {
        let gone = ReadError::Gone { at, since };
        assert_eq!(views.labels_at(at), Err(gone.clone()));
        assert_eq!(views.span(view.spec(), at, upper), Err(gone.clone()));
        assert_eq!(read_all(view, at, read), Err(gone));
        return;
    }
    assert_eq!(views.labels_at(at).unwrap().epoch, at);
    assert_eq!(read_all(view, at, read).unwrap(), model.expected(at, read));
    check_changes(model, views, at, upper);
    check_changes(model, views, since, at);
}

fn run(steps: Vec<Step>, history: History, together: bool) {
    let views = Views::new(1, vec![spec("q"), spec("idle")], vec![], 3, history);
    views.set_ready();
    let view = views.query("q").unwrap();
    let mut model = Model {
        open: 1,
        now: Bag::new(),
        bags: BTreeMap::new(),
        left: 0,
    };
    let leaving = |upto| {
        if together {
            Leaving::Together(upto)
        } else {
            Leaving::OneByOne
        }
    };
    for step in steps {
        match step {
            Step::Leave(more) if together => {
                model.left += more;
                let left = model.left;
                model
                    .now
                    .retain(|(_, value), _| *value == 0 || *value > left);
                for shard in 0..3 {
                    let upto = Some(Timestamp(left.into()));
                    view.take_in(shard, model.open, leaving(upto), Vec::new());
                }
            }
            Step::Leave(_) => {}
            Step::Apply(shard, mut changes) => {
                changes.retain(|((_, value), _)| *value == 0 || *value > model.left);
                for (row, diff) in &changes {
                    *model.now.entry(row.clone()).or_default() += diff;
                }
                model.now.retain(|_, count| *count != 0);
                let changes: Vec<_> = changes.iter().map(|(r, d)| (row(r), *d)).collect();
                view.take_in(shard, model.open, leaving(None), consolidated(changes));
            }
            Step::Publish(gap) => {
                views.publish(labels(model.open));
                model.bags.insert(model.open, model.now.clone());
                assert_eq!(views.upper().unwrap().epoch, model.open);
                let sum: i64 = model.now.values().sum();
                assert_eq!(view.row_count(), u64::try_from(sum).unwrap_or(0));
                model.open += gap;
            }
            Step::Read(read) => check_read(&views, &model, &read),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_read_equals_the_model(
        steps in prop::collection::vec(step(), 0..60),
        epochs in 1_usize..8,
        bytes in prop_oneof![0_usize..2_000, Just(1 << 20)],
        span_ms in 1_u64..16,
        together in any::<bool>(),
    ) {
        run(steps, History { epochs, bytes, span_ms }, together);
    }
}

#[test]
fn history_is_bounded_and_rows_that_left_leave_nothing() {
    let history = History {
        epochs: 10,
        bytes: usize::MAX,
        span_ms: u64::MAX,
    };
    let views = Views::new(1, vec![spec("q")], vec![], 2, history);
    let view = views.query("q").unwrap();
    let rows = || (0..50_u8).map(|n| ("key".to_string(), n));
    for epoch in 1..1000 {
        let diff = if epoch % 2 == 1 { 1 } else { -1 };
        view.apply(0, epoch, rows().map(|r| (row(&r), diff)).collect());
        views.publish(labels(epoch));
    }
    assert_eq!(
        (views.since(), view.row_count(), view.anomalies()),
        (Some(990), 50, 0)
    );
    assert!(view.memory_bytes() < 50 * 1000, "{}", view.memory_bytes());
    view.apply(0, 1000, rows().map(|r| (row(&r), -1)).collect());
    // Nobody applies any more, and it is forgotten all the same.
    for epoch in 1000..1100 {
        views.publish(labels(epoch));
    }
    assert_eq!((view.row_count(), view.memory_bytes()), (0, 0));
}

#[test]
fn rows_that_leave_together_are_read_as_of_before_and_then_take_nothing() {
    let history = History {
        epochs: 10,
        bytes: usize::MAX,
        span_ms: u64::MAX,
    };
    let views = Views::new(1, vec![spec("q")], vec![], 1, history);
    views.set_ready();
    let view = views.query("q").unwrap();
    let take_in = |epoch, upto, rows: Vec<(Row, i64)>| {
        let leaving = Leaving::Together(upto);
        view.take_in(0, epoch, leaving, consolidated(rows));
        views.publish(labels(epoch));
    };
    let rows = |of: u8| (0..5_000).map(move |n| (row(&(format!("{n}"), of)), 1));
    take_in(1, None, rows(1).chain(rows(2)).collect());
    take_in(2, None, vec![(row(&("7".into(), 1)), -1)]);
    take_in(3, Some(Timestamp(1)), Vec::new());
    let count = |at| {
        let page = view.read(at, &KeyRange::all(), None, usize::MAX, None);
        page.unwrap().rows.len()
    };
    assert_eq!([1, 2, 3].map(count), [10_000, 9_999, 5_000]);
    assert_eq!(view.row_count(), 5_000);
    let span = views.span(view.spec(), 2, 3).unwrap();
    let gone = view.changes(&span).unwrap();
    assert_eq!(gone.len(), 4_999, "each is told once, in several runs");
    assert!(gone.iter().all(|change| change.diff == -1));
    let held = view.memory_bytes();
    // One that comes after its time is not shown, and not lost in silence.
    take_in(4, None, vec![(row(&("late".into(), 1)), 1)]);
    assert_eq!((count(4), view.row_count()), (5_000, 5_000));
    assert_eq!(view.anomalies(), 1);
    for epoch in 5..50 {
        views.publish(labels(epoch));
    }
    assert_eq!(count(49), 5_000);
    assert!(view.memory_bytes() < held * 2 / 3);
    take_in(50, Some(Timestamp(2)), Vec::new());
    for epoch in 51..80 {
        views.publish(labels(epoch));
    }
    assert_eq!((view.row_count(), view.memory_bytes()), (0, 0));
}

#[test]
fn the_view_that_changes_most_bounds_the_history_of_all() {
    let history = History {
        bytes: 10_000,
        ..History::default()
    };
    let views = Views::new(1, vec![spec("busy"), spec("idle")], vec![], 1, history);
    views.set_ready();
    for epoch in 1..=100 {
        let rows = (0..10).map(|n| (row(&(format!("{epoch}"), n)), 1));
        views.query("busy").unwrap().apply(0, epoch, rows.collect());
        views.publish(labels(epoch));
    }
    let since = views.since().unwrap();
    assert!((50..100).contains(&since), "{since}");
    let read = |at| {
        views
            .query("idle")
            .unwrap()
            .read(at, &KeyRange::all(), None, 1, None)
    };
    assert_eq!(read(since), Ok(Page::default()));
    assert_eq!(
        read(since - 1),
        Err(ReadError::Gone {
            at: since - 1,
            since
        })
    );
    // One epoch larger than the whole history is shown nevertheless.
    let rows = (0..1000_u32).map(|n| (row(&(format!("{n}"), 9)), 1));
    views.query("busy").unwrap().apply(0, 101, rows.collect());
    views.publish(labels(101));
    assert_eq!(
        (views.since(), views.labels_at(101).map(|l| l.epoch)),
        (Some(101), Ok(101))
    );
}

#[test]
fn epochs_show_up_in_order_and_once() {
    let views = Views::new(1, vec![spec("q")], vec!["s".into()], 1, History::default());
    let told = Arc::new(AtomicU64::new(0));
    let listener = Arc::clone(&told);
    views.on_publish(Box::new(move |epoch| {
        listener.fetch_add(epoch, Ordering::Relaxed);
    }));
    for epoch in [5, 5, 3, 9] {
        views.publish(labels(epoch));
    }
    assert_eq!(told.load(Ordering::Relaxed), 14);
    assert_eq!(views.labels_at(9), Err(ReadError::NotReady));
    views.set_ready();
    let at = |at| views.labels_at(at).map(|labels| labels.epoch);
    assert_eq!((at(5), at(8), at(9)), (Ok(5), Ok(5), Ok(9)));
    assert_eq!(at(4), Err(ReadError::Gone { at: 4, since: 5 }));
    assert_eq!(at(10), Err(ReadError::Future { at: 10, upper: 9 }));
    assert_eq!(views.late("q").unwrap().spec().name, "q/late");
    assert_eq!(views.rejected("s").unwrap().spec().name, "s/rejected");
    views.query("q").unwrap().fail("it divided by zero".into());
    let failed = views
        .query("q")
        .unwrap()
        .read(9, &KeyRange::all(), None, 1, None);
    assert_eq!(
        failed.unwrap_err().to_string(),
        "query 'q' failed: it divided by zero"
    );
}

#[test]
fn a_row_that_moves_between_workers_is_summed() {
    let views = Views::new(1, vec![spec("q")], vec![], 2, History::default());
    let view = views.query("q").unwrap();
    let moving = ("a".to_string(), 1);
    view.apply(0, 1, vec![(row(&moving), 2)]);
    view.apply(1, 1, vec![(row(&moving), -1)]);
    views.publish(labels(1));
    let page = view.read(1, &KeyRange::all(), None, 10, None).unwrap();
    assert_eq!(
        page.rows
            .iter()
            .map(|(_, count)| *count)
            .collect::<Vec<_>>(),
        [1]
    );
}

#[test]
#[should_panic(expected = "epoch 3 is changed after it was published")]
fn a_published_epoch_does_not_change() {
    let views = Views::new(1, vec![spec("q")], vec![], 1, History::default());
    views.publish(labels(3));
    views
        .query("q")
        .unwrap()
        .apply(0, 3, vec![(row(&("a".into(), 1)), 1)]);
}
