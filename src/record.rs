//! Records: what a stream may carry, and the raw chunks that sources hand to the dataflow.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::time::{Timestamp, seconds};

/// Text that holds up to 24 bytes without an allocation: for keys.
pub type Text = compact_str::CompactString;

/// Something that happened at a time. A stream of events is append-only.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use waterclock::prelude::*;
///
/// #[derive(Clone, Debug, Serialize, Deserialize)]
/// struct Click {
///     user_id: Text,
///     click_time: Timestamp,
/// }
///
/// impl Event for Click {
///     const STREAM: &'static str = "clicks";
///     fn time(&self) -> Timestamp {
///         self.click_time
///     }
/// }
/// ```
pub trait Event: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// The stream that carries these records, as URLs and configuration name it.
    const STREAM: &'static str;
    /// How much older than the newest record of its partition a record may be before it is late.
    const LATENESS: Duration = seconds(5);

    /// The event time of the record.
    fn time(&self) -> Timestamp;
}

/// A record that replaces the last one of its key: a stream of entities is read as a table.
pub trait Entity: Event {
    /// What identifies the entity.
    type Key;

    /// The key whose row this record replaces.
    fn key(&self) -> Self::Key;

    /// Whether the record removes its key's row (a tombstone).
    fn is_deleted(&self) -> bool {
        false
    }
}

/// How the bytes of a chunk divide into records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// One JSON object a line; empty lines are no records.
    Ndjson,
    /// Comma-separated values; the header names the fields.
    Csv {
        /// The column names, in order.
        header: Arc<[String]>,
    },
}

/// How positions advance within a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Positions {
    /// A record's position is the offset of its first byte (files).
    Bytes,
    /// A record's position is its number; every non-empty line counts one (the embedded log).
    Records,
}

/// A run of records of a chunk that arrived together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Position of the first record.
    pub first: u64,
    /// Where the span's bytes start in the chunk.
    pub offset: usize,
    /// How many bytes it has.
    pub len: usize,
    /// When the records arrived (log append time); `None` where nothing bounds event times (files).
    pub arrival: Option<Timestamp>,
}

/// A bounded run of whole records of one partition, as bytes: what a source reads at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The partition read.
    pub partition: u32,
    /// Position of the first record.
    pub start: u64,
    /// Position after the last record: where the next read starts.
    pub end: u64,
    /// How the bytes divide into records.
    pub format: Format,
    /// How positions advance.
    pub positions: Positions,
    /// The raw bytes.
    pub bytes: Arc<[u8]>,
    /// The runs of records in `bytes`, in order.
    pub spans: Vec<Span>,
}
