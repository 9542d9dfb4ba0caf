//! Restarts under other settings or another query: what was answered stays, what still counts is
//! counted, and nothing is read as what it is not.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::time::Duration;

use sales::{Sale, per_shop, sale, written};
use serde::{Deserialize, Serialize};
use waterclock::prelude::*;
use waterclock::query::Overrides;
use waterclock::testing::{Round, Steps};

#[path = "support/sales.rs"]
mod sales;

const NAME: &str = "sales_per_shop";

type Build<V> = for<'s> fn(Flow<'s>) -> Table<'s, (Text, Window), V>;

fn query<V: Arrangeable>(build: Build<V>) -> Query {
    Query::new(NAME, "", build)
}

/// The streams' own lateness bounds, which are none.
fn punctual() -> Overrides {
    Overrides::default()
}

/// An hour of lateness.
fn patient(streams: &[&str]) -> Overrides {
    let hour = Duration::from_secs(3600);
    let mut overrides = Overrides::default();
    for stream in streams {
        overrides.lateness.insert((*stream).to_owned(), hour);
    }
    overrides
}

fn start(query: Query, overrides: &Overrides) -> Steps {
    Steps::with(vec![query], 2, None, overrides)
}

/// Takes a checkpoint, and goes on from it as another query, with other bounds, on more workers.
fn restart(mut steps: Steps, query: Query, overrides: &Overrides) -> Steps {
    let saved = steps.checkpoint();
    drop(steps);
    Steps::with(vec![query], 3, Some(saved), overrides)
}

/// Feeds one epoch.
fn take(steps: &mut Steps, stream: &str, lines: &[String]) {
    steps.epoch(Round::new().records(stream, 0, &lines.join("\n")));
}

fn rows(steps: &Steps) -> Vec<String> {
    written(&steps.rows(NAME))
}

#[test]
fn a_longer_lateness_bound_reopens_no_window() {
    let mut steps = start(query(per_shop), &punctual());
    take(
        &mut steps,
        "sales",
        &[sale("a", 1, 5), sale("a", 1, 6), sale("a", 1, 35)],
    );
    let mut steps = restart(steps, query(per_shop), &patient(&["sales"]));
    assert_eq!(steps.watermark("sales"), Some(Timestamp(35_000)));

    take(&mut steps, "sales", &[sale("a", 1, 7), sale("a", 1, 36)]);
    assert_eq!(
        rows(&steps),
        [
            r#"["a",{"start":0,"end":10000}] 2"#,
            r#"["a",{"start":30000,"end":40000}] 2"#,
        ]
    );
    assert_eq!(steps.late_total(NAME), 1);
}

fn overlapping(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(sliding(seconds(20)).every(seconds(10)))
        .count()
}

#[test]
fn a_shorter_lateness_bound_closes_open_windows_and_loses_none() {
    let mut steps = start(query(overlapping), &patient(&["sales"]));
    take(&mut steps, "sales", &[sale("a", 1, 5), sale("a", 1, 100)]);
    let before = rows(&steps);
    assert_eq!(before.len(), 4, "{before:?}");

    let mut steps = restart(steps, query(overlapping), &punctual());
    assert_eq!(rows(&steps), before);
    assert_eq!(steps.watermark("sales"), Some(Timestamp(100_000)));

    take(&mut steps, "sales", &[sale("a", 1, 6)]);
    assert_eq!((rows(&steps), steps.late_total(NAME)), (before, 1));
}

/// A sale elsewhere, in a stream of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Export(Sale);

impl Event for Export {
    const STREAM: &'static str = "exports";
    const LATENESS: Duration = seconds(0);

    fn time(&self) -> Timestamp {
        self.0.at
    }
}

fn with_exports(flow: Flow) -> Table<(Text, Window), u64> {
    let exports = flow.stream::<Export>().map(|export| export.0.clone());
    flow.stream::<Sale>()
        .union(exports)
        .key_by(|sale| sale.shop.clone())
        .window(sliding(seconds(20)).every(seconds(10)))
        .count()
}

#[test]
fn a_query_that_reads_one_more_stream_shows_no_window_twice() {
    let mut steps = start(query(overlapping), &punctual());
    take(&mut steps, "sales", &[sale("a", 1, 5), sale("a", 1, 12)]);
    let before = [
        r#"["a",{"start":-10000,"end":10000}] 1"#,
        r#"["a",{"start":0,"end":20000}] 2"#,
        r#"["a",{"start":10000,"end":30000}] 1"#,
    ];
    assert_eq!(rows(&steps), before);

    // The new stream has said nothing yet, so that no window closes any more.
    let mut steps = restart(steps, query(with_exports), &punctual());
    assert_eq!(rows(&steps), before);
    take(&mut steps, "exports", &[sale("a", 1, 13)]);
    assert_eq!(
        rows(&steps),
        [
            r#"["a",{"start":-10000,"end":10000}] 1"#,
            r#"["a",{"start":0,"end":20000}] 3"#,
            r#"["a",{"start":10000,"end":30000}] 2"#,
        ]
    );
}

fn per_minute(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(tumbling(minutes(1)))
        .count()
}

fn least(flow: Flow) -> Table<(Text, Window), i64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(tumbling(minutes(1)))
        .min(|sale| sale.amount)
}

fn greatest(flow: Flow) -> Table<(Text, Window), i64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(tumbling(minutes(1)))
        .max(|sale| sale.amount)
}

#[test]
fn windows_of_another_size_or_aggregate_start_anew() {
    let changes = [
        (query(per_shop), query(per_minute), "1"),
        (query(per_minute), query(per_shop), "1"),
        (query(least), query(greatest), "2"),
    ];
    for (query, other, value) in changes {
        let mut steps = start(query, &punctual());
        let both = [sale("a", 7, 15), sale("a", 8, 45)];
        take(&mut steps, "sales", &both);
        assert!(!rows(&steps).is_empty());

        let mut steps = restart(steps, other, &punctual());
        assert_eq!(rows(&steps), Vec::<String>::new());
        take(&mut steps, "sales", &[sale("a", 2, 50)]);
        let rows = rows(&steps);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert!(rows[0].ends_with(&format!("60000}}] {value}")), "{rows:?}");
    }
}

/// A shop as it was from a time on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Shop {
    name: Text,
    country: Text,
    at: Timestamp,
}

impl Event for Shop {
    const STREAM: &'static str = "shops";
    const LATENESS: Duration = seconds(0);

    fn time(&self) -> Timestamp {
        self.at
    }
}

impl Entity for Shop {
    type Key = Text;

    fn key(&self) -> Text {
        self.name.clone()
    }
}

fn shop(name: &str, country: &str, second: i64) -> String {
    format!(r#"{{"name":"{name}","country":"{country}","at":{second}000}}"#)
}

fn per_country(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .as_of::<Shop>(hours(5))
        .filter(|(_, shop)| shop.is_some())
        .key_by(|(_, shop)| {
            shop.as_ref()
                .map_or_else(Text::default, |shop| shop.country.clone())
        })
        .window(tumbling(minutes(20)))
        .count()
}

#[test]
fn a_record_that_waits_for_its_time_survives_a_shorter_lateness_bound() {
    let mut steps = start(query(per_country), &patient(&["sales", "shops"]));
    take(
        &mut steps,
        "shops",
        &[shop("a", "fr", 1), shop("a", "de", 200)],
    );
    take(&mut steps, "sales", &[sale("a", 1, 50), sale("a", 1, 200)]);
    assert_eq!(rows(&steps), Vec::<String>::new());

    // Under the new bound its time has passed.
    let mut steps = restart(steps, query(per_country), &punctual());
    steps.epoch(Round::new());
    assert_eq!(
        rows(&steps),
        [
            r#"["de",{"start":0,"end":1200000}] 1"#,
            r#"["fr",{"start":0,"end":1200000}] 1"#,
        ]
    );
}
