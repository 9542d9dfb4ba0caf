//! Nexmark: the queries answer as Flink SQL 2.3 does, to the last row, with one worker and with
//! two; those that Flink was not asked answer as a plain evaluation does. The events are made up
//! here; of the rows their number and a digest are known.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;
use sha2::{Digest, Sha256};
use waterclock::Query;
use waterclock::query::{Catalog, Overrides};
use waterclock::row::Row;
use waterclock::source::Source;
use waterclock::source::nexmark::{Kind, NexmarkOptions, NexmarkSource};
use waterclock::testing::MemorySource;
use waterclock::time::seconds;
use waterclock::worker::replay::Replay;

use known::Known;

mod known;
#[path = "../../queries/mod.rs"]
mod queries;

/// A query that reads whole events.
const WHOLE: &str = "q20";

/// A hundred thousand events, out of order by up to five seconds.
fn events() -> NexmarkOptions {
    NexmarkOptions {
        rate: 1000.0,
        events: 100_000,
        out_of_order: seconds(5),
        ..NexmarkOptions::default()
    }
}

/// The same, two in a hundred of them later than that, by up to twenty seconds.
fn late_events() -> NexmarkOptions {
    NexmarkOptions {
        late_ppm: 20_000,
        late: seconds(20),
        ..events()
    }
}

#[test]
fn events_out_of_order_have_the_answers_of_flink() {
    compare("nexmark", &events(), known::FLINK);
}

#[test]
fn events_out_of_order_have_the_answers_of_a_plain_evaluation() {
    compare("nexmark", &events(), known::PLAIN);
}

#[test]
fn late_events_have_the_answers_of_flink() {
    compare("nexmark", &late_events(), known::FLINK_LATE);
    compare("nexmark", &late_events(), known::PLAIN_LATE);
}

#[test]
fn clicks_have_the_answer_of_flink() {
    let options = NexmarkOptions {
        kind: Kind::Clicks { users: 1000 },
        rate: 10.0,
        ..events()
    };
    compare("clicks", &options, known::FLINK_CLICKS);
}

#[test]
fn every_query_has_an_answer_to_compare() {
    let known: Vec<&str> = known::FLINK
        .iter()
        .chain(known::PLAIN)
        .map(|k| k.query)
        .collect();
    for query in queries::nexmark::all() {
        assert!(
            known.contains(&&*query.name),
            "nothing is known of '{}'",
            query.name
        );
    }
}

/// Replays each query with one and two workers, and holds its rows against the known ones.
fn compare(stream: &str, options: &NexmarkOptions, known: &[Known]) {
    let text = text(options);
    let mut queries: BTreeMap<String, Query> = queries::all()
        .into_iter()
        .map(|query| (query.name.clone(), query))
        .collect();
    for known in known {
        let query = queries.remove(known.query).expect("the query is there");
        let rows = replay(&query, stream, &text, 1);
        assert!(
            rows == replay(&query, stream, &text, 2),
            "{}: workers show",
            known.query
        );
        let lines = rows.iter().flat_map(|(row, count)| {
            let line = line(row.key(), row.value(), known.columns);
            std::iter::repeat_n(line, usize::try_from(*count).expect("rows are there"))
        });
        let lines: Vec<String> = lines.collect();
        let (rows, digest) = (lines.len(), digest(lines));
        assert_eq!(
            (rows, &*digest),
            (known.rows, known.sha256),
            "{}",
            known.query
        );
    }
}

/// All events as lines.
fn text(options: &NexmarkOptions) -> String {
    let mut text = String::new();
    for bytes in NexmarkSource::new("any", options.clone()).chunks() {
        let bytes = bytes.expect("it can be read");
        text.push_str(str::from_utf8(&bytes).expect("events are text"));
    }
    text
}

/// The side table of q13: a value for two of three keys.
fn side_input() -> String {
    let keys = (0..10_000).filter(|key| key % 3 != 0);
    let line = |key| {
        format!(
            "{{\"key\":{key},\"value\":\"value-{}\"}}\n",
            key * 7919 % 10_000
        )
    };
    keys.map(line).collect()
}

/// The query's rows, and how often each occurs. On one worker only what it wants of the events is
/// decoded; on more all is, as if another query wanted that.
fn replay(query: &Query, stream: &str, text: &str, workers: usize) -> Vec<(Row, i64)> {
    let mut beside = vec![query.clone()];
    if workers > 1 {
        let whole = queries::nexmark::all().into_iter();
        beside.extend(whole.filter(|q| q.name == WHOLE && q.name != query.name));
    }
    let catalog = Catalog::of(&beside, &Overrides::default()).expect("they build");
    let mut sources: Vec<Box<dyn Source>> = vec![Box::new(MemorySource::new(stream, &[text]))];
    if catalog.stream("side_input").is_some() {
        let side = side_input();
        sources.push(Box::new(MemorySource::new("side_input", &[&side])));
    }
    let mut replay = Replay::new(query.clone(), catalog, sources);
    replay.workers = workers;
    replay.run().expect("it runs").rows
}

/// A row's columns, as Flink writes them.
fn line(key: &str, value: &str, columns: &str) -> String {
    let read = |json: &str| serde_json::from_str(json).expect("a row is JSON");
    let (key, value): (Value, Value) = (read(key), read(value));
    let cells = columns.split(',').map(|column| match (column, &value) {
        ("user", _) => text_of(&key[0]),
        ("window_start", Value::Number(_)) => text_of(&key[1]["start"]),
        ("window_end", Value::Number(_)) => text_of(&key[1]["end"]),
        ("clicks", count) => text_of(count),
        ("euros", row) | ("price", row @ Value::Object(_)) if row[column].is_f64() => {
            format!("{:.3}", row[column].as_f64().expect("euros are a number"))
        }
        (_, row) => text_of(row.get(column).expect("the row has the column")),
    });
    cells.collect::<Vec<_>>().join(",")
}

fn text_of(cell: &Value) -> String {
    let text = cell
        .as_str()
        .map_or_else(|| cell.to_string(), str::to_owned);
    assert!(
        !text.contains([',', '"', '\n']),
        "CSV would quote it: {text}"
    );
    text
}

fn digest(mut lines: Vec<String>) -> String {
    lines.sort_unstable();
    let mut digest = Sha256::new();
    for line in lines {
        digest.update(line);
        digest.update("\n");
    }
    let mut hex = String::new();
    for byte in digest.finalize() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
