//! What a service answers, as types. What an older or newer service leaves out is nothing here, and
//! what it says besides is passed over.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::view::{CheckpointInfo, LineVerdict};

/// Rows of a query as of an epoch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Pull {
    /// The closed epoch that is answered.
    pub as_of: u64,
    /// The event-time watermark at that epoch, in ms.
    pub complete_through: Option<i64>,
    /// Whether the answer lags behind its input.
    #[serde(default)]
    pub stale: bool,
    /// How long ago it included all of its input, where it is stale.
    pub age_ms: Option<u64>,
    /// Per stream and partition the next position not yet included.
    #[serde(default)]
    pub positions: BTreeMap<String, BTreeMap<u32, u64>>,
    /// The rows, in order.
    pub rows: Vec<PulledRow>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// A row of an answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PulledRow {
    /// Its key.
    pub key: Value,
    /// Its value.
    pub value: Value,
    /// Whether it will not change any more; `None` where rows are never final.
    #[serde(rename = "final")]
    pub is_final: Option<bool>,
}

/// Several queries at one epoch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Snapshot {
    /// The epoch.
    pub as_of: u64,
    /// Their answers by name.
    pub queries: BTreeMap<String, Pull>,
}

/// What changed between two epochs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Diff {
    /// The epoch that is compared with.
    pub from: u64,
    /// The epoch that is compared.
    pub as_of: u64,
    /// The changes, removals before additions.
    pub changes: Vec<PulledChange>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// A row that came or went.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PulledChange {
    /// `+` or `-`.
    pub op: char,
    /// The row's key.
    pub key: Value,
    /// The row's value.
    pub value: Value,
}

/// What became of posted records.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Posted {
    /// How many were accepted.
    pub accepted: u64,
    /// The lines that were not.
    pub rejected: Vec<LineVerdict>,
    /// A read after this token includes them.
    pub token: String,
}

/// Every query.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct QueryList {
    /// The service's time of day, in ms.
    #[serde(default)]
    pub now: i64,
    /// Whether it has caught up.
    #[serde(default)]
    pub ready: bool,
    /// Whether any answer lags behind its input.
    #[serde(default)]
    pub stale: bool,
    /// The queries.
    pub queries: Vec<QueryInfo>,
}

/// A query and what it is complete for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct QueryInfo {
    /// Its name.
    pub name: String,
    /// The streams it reads.
    pub streams: Vec<String>,
    /// The oldest epoch that can be read.
    pub since: Option<u64>,
    /// The newest epoch.
    pub upper: Option<u64>,
    /// Its event-time watermark, in ms.
    pub watermark: Option<i64>,
    /// Its rows.
    pub rows: u64,
    /// Records that came too late for it.
    pub late: u64,
    /// Records of its streams that could not be read.
    pub rejected: u64,
    /// Why it failed, if it did.
    pub failed: Option<String>,
}

/// Every stream.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct StreamList {
    /// The streams.
    pub streams: Vec<StreamInfo>,
}

/// A stream and how far it is read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// What feeds it.
    pub source: Option<String>,
    /// Its watermark, in ms.
    pub watermark: Option<i64>,
    /// Records that could not be read.
    pub rejected: u64,
    /// What keeps it from being read.
    pub problem: Option<Hindrance>,
    /// Its partitions.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition and how far it is read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PartitionInfo {
    /// Its number.
    pub partition: u32,
    /// The next position not yet included.
    pub position: u64,
    /// How many records there are beyond.
    pub lag: u64,
    /// Its watermark, in ms.
    pub watermark: Option<i64>,
    /// Whether nothing came for a while.
    pub idle: bool,
    /// For how long nothing came.
    pub silent_ms: i64,
    /// Whether it waits for slower ones.
    pub ahead: bool,
    /// What keeps it from being read.
    pub problem: Option<Hindrance>,
}

/// What keeps an input from being read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Hindrance {
    /// A sentence.
    pub reason: String,
    /// Since when, in ms.
    pub since: Option<i64>,
}

/// Every sink.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SinkList {
    /// The sinks.
    pub sinks: Vec<SinkInfo>,
}

/// A sink and how it fares.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SinkInfo {
    /// Its name.
    pub name: String,
    /// The query whose answer it sends.
    pub query: String,
    /// Where to.
    pub topic: String,
    /// How it fares, in a word.
    pub state: String,
    /// Why it does not run.
    pub reason: Option<String>,
    /// Messages not yet committed.
    pub waiting_messages: u64,
    /// How far it is behind, in ms.
    pub lag_ms: Option<i64>,
    /// Messages committed.
    pub committed_messages: u64,
}

/// The retained checkpoints.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CheckpointList {
    /// Newest first.
    pub checkpoints: Vec<CheckpointInfo>,
    /// Why the last one that was tried failed.
    #[serde(default)]
    pub problem: Option<String>,
}
