//! What a view is of, how much history it keeps, and why a read is refused.

use serde_json::Value;

use crate::time::{Epoch, Timestamp};

/// What is known of a query besides its rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuerySpec {
    /// The name in URLs.
    pub name: String,
    /// The first line of its documentation.
    pub doc: String,
    /// JSON Schema of the row keys; `Null` where it is not known.
    pub key_schema: Value,
    /// JSON Schema of the row values; `Null` where it is not known.
    pub value_schema: Value,
    /// The streams it reads.
    pub streams: Vec<String>,
    /// Whether its rows become final.
    pub has_final: bool,
}

/// How final rows leave a view once they have been kept for as long as they are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Each is a change of its own.
    OneByOne,
    /// All that became final at one instant leave together, at the cost of one. Those up to the
    /// instant that is named leave now. Whether they leave so never changes while a service runs.
    Together(Option<Timestamp>),
}

impl Leaving {
    /// Whether rows leave now that are not among the changes.
    pub(super) fn is_due(self) -> bool {
        matches!(self, Leaving::Together(Some(_)))
    }
}

/// How much of the past the views keep readable: whichever bound is reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// How many published epochs.
    pub epochs: usize,
    /// How many bytes of changes per view.
    pub bytes: usize,
    /// How far back from the newest epoch, in milliseconds: epochs are numbered by them.
    pub span_ms: u64,
}

impl Default for History {
    fn default() -> History {
        History {
            epochs: 1024,
            bytes: 64 << 20,
            span_ms: 5 * 60 * 1000,
        }
    }
}

/// Why a view cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nothing is published yet, or the journal is still being replayed.
    #[error("the service is not ready: it is still catching up; try again in a moment")]
    NotReady,
    /// The epoch is not published yet.
    #[error("epoch {at} is not there yet: the newest is {upper}")]
    Future {
        /// The epoch asked for.
        at: Epoch,
        /// The newest published one.
        upper: Epoch,
    },
    /// The epoch's history has been given up.
    #[error("epoch {at} is gone: the oldest that can be read is {since}; read without `at`")]
    Gone {
        /// The epoch asked for.
        at: Epoch,
        /// The oldest readable one.
        since: Epoch,
    },
    /// The text is no key, or no prefix of one.
    #[error("query '{query}': '{text}' is no key: {reason}")]
    BadKey {
        /// The query read.
        query: String,
        /// What was written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are no position that a page gave out.
    #[error("the cursor is damaged: use it as it was given, or read from the start")]
    BadPosition,
    /// The query failed and has no answer.
    #[error("query '{query}' failed: {reason}")]
    Failed {
        /// The query read.
        query: String,
        /// What went wrong.
        reason: String,
    },
}
