//! Messages of topics as records: what comes beside them, their formats, and changes of databases.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use waterclock::prelude::*;
use waterclock::record::Message;
use waterclock::row::Row;
use waterclock::testing::{Bag, Steps};

mod changes;
mod formats;
mod received;

/// A message without anything beside its value.
fn message(position: u64, value: &[u8]) -> Message<'_> {
    Message {
        position,
        timestamp: None,
        is_append_time: false,
        key: None,
        headers: &[],
        value: Some(value),
    }
}

/// A message of a key.
fn keyed<'a>(position: u64, key: &'a str, value: Option<&'a str>) -> Message<'a> {
    Message {
        key: Some(key.as_bytes()),
        value: value.map(str::as_bytes),
        ..message(position, b"")
    }
}

/// Rows as a test writes them down: `KEY VALUE`.
fn written(rows: &Bag) -> Vec<String> {
    let line = |(row, count): &(Row, i64)| {
        assert_eq!(*count, 1, "{row:?}");
        format!("{} {}", row.key(), row.value())
    };
    rows.iter().map(line).collect()
}

/// What was not taken and why: `POSITION REASON`.
fn reasons(rows: &Bag) -> Vec<String> {
    let line = |(row, _): &(Row, i64)| {
        let key: (String, u32, u64) = serde_json::from_str(row.key()).unwrap();
        let value: serde_json::Value = serde_json::from_str(row.value()).unwrap();
        format!("{} {}", key.2, value["reason"].as_str().unwrap())
    };
    rows.iter().map(line).collect()
}

/// One query on two workers.
fn start<K, V>(name: &str, build: for<'s> fn(Flow<'s>) -> Table<'s, K, V>) -> Steps
where
    K: Arrangeable,
    V: Arrangeable,
{
    Steps::start(vec![Query::new(name, "", build)], 2)
}
