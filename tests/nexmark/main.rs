//! Nexmark: the queries answer as Flink SQL 2.3 does, to the last row, with one worker and with
//! two. The events are made up here; of Flink's rows the number and a digest are known.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use waterclock::Query;
use waterclock::query::{Catalog, Overrides};
use waterclock::source::Source;
use waterclock::source::nexmark::{Kind, NexmarkOptions, NexmarkSource};
use waterclock::testing::MemorySource;
use waterclock::time::seconds;
use waterclock::worker::replay::Replay;

#[path = "../../queries/mod.rs"]
mod queries;

/// An answer of Flink: the query's name, its columns, how many rows, and the digest of them all as
/// sorted lines of CSV.
struct Known {
    query: &'static str,
    columns: &'static str,
    rows: usize,
    sha256: &'static str,
}

/// A hundred thousand events, out of order by up to five seconds.
fn events() -> NexmarkOptions {
    NexmarkOptions {
        rate: 1000.0,
        events: 100_000,
        out_of_order: seconds(5),
        ..NexmarkOptions::default()
    }
}

#[test]
fn out_of_order_events_have_the_answers_of_flink() {
    compare(
        "nexmark",
        &events(),
        &[
            Known {
                query: "q1",
                columns: "auction,bidder,euros,ts,extra",
                rows: 92_000,
                sha256: "0ce7f9dd251382de9dee81a189afacb3b9dbd2c4dd56143de51cac7a543e93fe",
            },
            Known {
                query: "q2",
                columns: "auction,price",
                rows: 370,
                sha256: "efce19040df0c7478cfa68cf5a95796cd1f537587d9e417a3f44564132b9f65f",
            },
            Known {
                query: "q22",
                columns: "auction,bidder,price,channel,dir1,dir2,dir3",
                rows: 92_000,
                sha256: "5b31b682f69e69ffc8e72b0c828153c65dd9e283b95eb9820fa8391763c4180f",
            },
        ],
    );
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
        for workers in [1, 2] {
            let lines = replay(query.clone(), stream, &text, workers, known.columns);
            let rows = lines.len();
            let what = format!("{} with {workers} workers", known.query);
            assert_eq!(
                (rows, &*digest(lines)),
                (known.rows, known.sha256),
                "{what}"
            );
        }
    }
}

/// All events as lines.
fn text(options: &NexmarkOptions) -> String {
    let mut source = NexmarkSource::new("any", options.clone());
    let (mut text, mut position) = (String::new(), 0);
    while let Some(chunk) = source
        .read(0, position, 1 << 20, None)
        .expect("it can be read")
    {
        position = chunk.end;
        text.push_str(str::from_utf8(&chunk.bytes).expect("events are text"));
    }
    text
}

/// The query's rows, each as a line of CSV.
fn replay(query: Query, stream: &str, text: &str, workers: usize, columns: &str) -> Vec<String> {
    let source: Box<dyn Source> = Box::new(MemorySource::new(stream, &[text]));
    let five = [(stream.to_owned(), Duration::from_secs(5))];
    let overrides = Overrides {
        lateness: five.into(),
    };
    let catalog = Catalog::of(std::slice::from_ref(&query), &overrides).expect("it builds");
    let mut replay = Replay::new(query, catalog, vec![source]);
    replay.workers = workers;
    let replayed = replay.run().expect("it runs");
    let lines = replayed.rows.iter().flat_map(|(row, count)| {
        let line = line(&row.key, &row.value, columns);
        std::iter::repeat_n(line, usize::try_from(*count).expect("rows are there"))
    });
    lines.collect()
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
        ("euros", row) => format!("{:.3}", row[column].as_f64().expect("euros are a number")),
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

#[test]
fn clicks_have_the_answer_of_flink() {
    let options = NexmarkOptions {
        kind: Kind::Clicks { users: 1000 },
        rate: 10.0,
        ..events()
    };
    compare(
        "clicks",
        &options,
        &[Known {
            query: "clicks_per_user",
            columns: "user,window_start,window_end,clicks",
            rows: 65_332,
            sha256: "ae7305c848cc8ef1c25d3c6ba0f09692916b5cc34363f7cee56b7004c87f0439",
        }],
    );
}
