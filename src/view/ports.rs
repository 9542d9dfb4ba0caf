//! What the outside may ask of the running service besides reading views: ports that the edges
//! implement and `http` calls, so that no edge knows another.

use serde::{Deserialize, Serialize};

use crate::time::Epoch;

/// Records posted to a stream.
#[derive(Clone, Debug)]
pub struct PostRequest {
    /// The records as raw JSON lines, in order; none is empty or holds a line break.
    pub lines: Vec<Vec<u8>>,
    /// The client's idempotency key.
    pub idempotency_key: Option<String>,
    /// SHA-256 of the request's body.
    pub digest: [u8; 32],
}

/// Why one line was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineVerdict {
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// What became of a post; durable when it is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostAnswer {
    /// How many records were accepted.
    pub accepted: u64,
    /// The lines that were not.
    pub rejected: Vec<LineVerdict>,
    /// Position after the last record of this post, in partition 0 of the stream.
    pub position: u64,
}

/// Why a post was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// No such stream takes posts.
    #[error("stream '{0}' does not exist")]
    UnknownStream(String),
    /// The stream is read from elsewhere.
    #[error("stream '{0}' is read from {1} and takes no posts")]
    NotPostable(String, String),
    /// Another body was posted under this key before.
    #[error("idempotency key '{0}' was used with another body")]
    KeyReused(String),
    /// More is waiting than the service lets wait.
    #[error("stream '{0}' has too many posts waiting")]
    Overloaded(String),
    /// The log cannot be written, for example because the disk is full.
    #[error("stream '{stream}': cannot write the log: {cause}")]
    Storage {
        /// The stream posted to.
        stream: String,
        /// What the system said.
        cause: String,
    },
    /// The budget of memory and the file beyond it are used up.
    #[error(
        "stream '{0}': the memory of the service and its file are used up; let queries keep less, \
         or raise memory.budget_bytes or memory.file_bytes and restart"
    )]
    Memory(String),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

/// Called once with the outcome of a post, from any thread.
pub type PostReply = Box<dyn FnOnce(Result<PostAnswer, IngestError>) + Send>;

/// Takes records in.
pub trait Ingest: Send + Sync {
    /// Whether posts to `stream` can be taken; the error says why not.
    fn accepts(&self, stream: &str) -> Result<(), IngestError>;

    /// Appends records to a stream; `reply` is called when they are durable. Never blocks: what
    /// is beyond the bound of waiting posts is answered `Overloaded`.
    fn post(&self, stream: &str, request: PostRequest, reply: PostReply);

    /// The position after the last durable record of the stream's partition 0.
    fn end(&self, stream: &str) -> Option<u64>;
}

/// A published checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// The closed epoch it is of; also its name.
    pub epoch: Epoch,
    /// The run it was written in.
    pub run: u64,
    /// When it was published, in milliseconds since the Unix epoch.
    pub published_at: i64,
    /// Bytes of its segments.
    pub bytes: u64,
    /// Rows of its segments.
    pub rows: u64,
    /// The label under which it is kept until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// Takes and lists checkpoints.
pub trait Checkpoints: Send + Sync {
    /// Takes one at the next closed epoch; `reply` is called when it is published or failed. One
    /// with a label is kept until it is deleted.
    fn take(
        &self,
        label: Option<String>,
        reply: Box<dyn FnOnce(Result<CheckpointInfo, String>) + Send>,
    );

    /// Why the last one that was tried failed, if it did.
    fn problem(&self) -> Option<String>;

    /// The retained ones, newest first.
    fn list(&self) -> Vec<CheckpointInfo>;
}
