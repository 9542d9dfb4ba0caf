//! Rows that a view lets go of together, beside the same rows taken away one by one.

use waterclock::query::Overrides;
use waterclock::time::Epoch;
use waterclock::view::{KeyRange, View};

use super::*;

/// Windows that overlap, wait for late sales, and are kept for less than time leaps.
fn counts(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(
            sliding(seconds(20))
                .every(seconds(10))
                .allowed_lateness(seconds(5))
                .keep(seconds(30)),
        )
        .count()
}

/// Shown as they are, but for those of one shop: they leave together.
fn together(flow: Flow) -> Table<(Text, Window), u64> {
    counts(flow)
        .filter(|(shop, _), _| shop != "c")
        .map_values(|_, count| 2 * count)
}

/// The same rows, of which something is made: they are taken away.
fn one_by_one(flow: Flow) -> Table<(Text, Window), u64> {
    together(flow).distinct()
}

/// All rows at an epoch.
fn rows_at(view: &View, at: Epoch) -> Vec<(String, String, Option<Timestamp>)> {
    let page = view.read(at, &KeyRange::all(), None, usize::MAX, None);
    let rows = page.unwrap().rows.into_iter().map(|(row, count)| {
        assert_eq!(count, 1);
        let (key, value) = (row.key().to_owned(), row.value().to_owned());
        (key, value, row.final_at())
    });
    rows.collect()
}

/// Compares rows and changes of all epochs that can be read; gives how many rows left.
fn compare(service: &Service) -> usize {
    // What is up goes in the epoch after the one that said so; then nothing changes.
    let seen = service.epoch();
    service.until("another epoch", || service.epoch() > seen + 1);
    let views = &service.live.views;
    let (these, those) = (views.query("together"), views.query("one_by_one"));
    let (these, those) = (these.unwrap(), those.unwrap());
    let (since, upper) = (views.since().unwrap(), service.epoch());
    let mut left = 0;
    for at in (since..=upper).filter(|at| views.labels_of(*at).is_some()) {
        assert_eq!(rows_at(these, at), rows_at(those, at), "at epoch {at}");
        for (from, to) in [(since, at), (at, upper)] {
            let changes = |view: &View| {
                let span = views.span(view.spec(), from, to).unwrap();
                view.changes(&span).unwrap()
            };
            assert_eq!(changes(these), changes(those), "from {from} to {to}");
            if to == upper {
                left = left.max(changes(these).iter().filter(|it| it.is_expiry).count());
            }
        }
    }
    assert_eq!(these.row_count(), those.row_count());
    left
}

#[test]
fn rows_that_leave_together_are_the_same_as_of_every_epoch() {
    let (home, feed) = (tempfile::tempdir().unwrap(), Feed::new(1));
    let start = || {
        let queries = vec![
            Query::new("together", "", together),
            Query::new("one_by_one", "", one_by_one),
        ];
        // Epochs follow each other fast; none is forgotten while it is looked at.
        let history = History {
            epochs: usize::MAX,
            bytes: usize::MAX,
            span_ms: u64::MAX,
        };
        let options = LiveOptions {
            history,
            ..options()
        };
        start_queries(home.path(), &feed, queries, &Overrides::default(), options)
    };
    let (mut service, mut left, mut second) = (start(), 0, 0);
    for round in 0..40_i64 {
        // Steps within a window, over one, and past all that is kept.
        second += [1, 4, 9, 23, 2, 120, 7][usize::try_from(round % 7).unwrap()];
        let shop = |n: i64| ["a", "b", "c", "d", "e"][usize::try_from(n % 5).unwrap()];
        let lines: Vec<_> = (0..4)
            .map(|n| sale(shop(round * n + n), 1, second + n))
            .collect();
        service.take(&lines);
        if round % 9 == 4 {
            service.checkpoint().unwrap();
        }
        if round % 13 == 12 {
            left += compare(&service);
            let newest = |service: &Service| {
                let view = service.live.views.query("together").unwrap();
                rows_at(view, service.epoch())
            };
            let before = newest(&service);
            service.stop();
            service = start();
            service.until_ready();
            assert_eq!(newest(&service), before, "after a restart");
        }
    }
    left += compare(&service);
    assert!(left > 20, "only {left} rows left");
    service.stop();
}
