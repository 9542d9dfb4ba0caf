//! Changes of a database's rows, in the JSON envelope that Debezium puts around them.
//!
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html> describes it:
//! `op` with the row `before` and `after`, either bare or as the `payload` beside a `schema`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::decode::guard;
use super::json::Reader;
use super::reading::received;
use crate::record::{Envelope, Event, Op};
use crate::time::Timestamp;

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    op: Option<&'a str>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    source: Option<Source>,
    ts_ms: Option<i64>,
}

#[derive(Deserialize)]
struct Source {
    ts_ms: Option<i64>,
}

/// Reads one change: what it does, and the row it does it with.
pub(super) fn read<T: Event>(bytes: &[u8], beside: &Envelope<'_>) -> Result<(Op, T), String> {
    let not_ours = |cause| format!("not a Debezium envelope: {cause}");
    let mut change: Change<'_> = serde_json::from_slice(bytes).map_err(not_ours)?;
    if let (Some(payload), None) = (change.payload, change.op) {
        change = serde_json::from_str(payload.get()).map_err(not_ours)?;
    }
    let committed = change.source.and_then(|source| source.ts_ms);
    let committed = committed.or(change.ts_ms).map(Timestamp);
    let beside = beside.at(committed.or(beside.timestamp));
    let row = |name: &str, row: Option<&RawValue>| {
        let row = row.ok_or_else(|| format!("a change that has no '{name}'"))?;
        received(|| Reader::default().read(row.get()), &beside)
            .map_err(|reason| format!("'{name}': {reason}"))
    };
    match change.op {
        Some("c") => Ok((Op::Insert, row("after", change.after)?)),
        Some("u") => Ok((Op::Update, row("after", change.after)?)),
        Some("r") => Ok((Op::Put, row("after", change.after)?)),
        // A database that logs keys only leaves nothing of the row; its key may do.
        Some("d") => row("before", change.before)
            .or_else(|reason| guard(|| T::tombstone(&beside))?.ok_or(reason))
            .map(|row| (Op::Delete, row)),
        Some("t") => Err(
            "the table was truncated, which takes rows away without naming \
             them: take a new snapshot"
                .to_owned(),
        ),
        Some(other) => Err(format!("'{other}' is no operation on a row")),
        None => Err("not a Debezium envelope: it has no 'op'".to_owned()),
    }
}
