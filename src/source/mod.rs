//! Edges in: where records come from. Every source can be re-read by position.

use std::sync::Arc;

use crate::record::Chunk;
use crate::time::Timestamp;

pub mod file;
pub mod generator;
pub mod log;
pub mod registry;
mod visits;

/// The wall clock, handed in by `main`: milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a source says of one of its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The partition's number.
    pub id: u32,
    /// The first position that can still be read.
    pub first: u64,
    /// The position after the last record there now.
    pub end: u64,
}

/// Why a source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The operating system refused.
    #[error("stream '{stream}': cannot read {object}: {cause}")]
    Io {
        /// The stream read.
        stream: String,
        /// The file or directory.
        object: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The position asked for is no longer, or not yet, there.
    #[error(
        "stream '{stream}' partition {partition}: position {position} is not there \
         (readable: {first} to {end})"
    )]
    Gone {
        /// The stream read.
        stream: String,
        /// The partition read.
        partition: u32,
        /// The position asked for.
        position: u64,
        /// The first position that can be read.
        first: u64,
        /// The position after the last record.
        end: u64,
    },
    /// The bytes are not what was written.
    #[error("stream '{stream}': {object} is damaged: {detail}")]
    Damaged {
        /// The stream read.
        stream: String,
        /// The file and place.
        object: String,
        /// What is wrong.
        detail: String,
    },
    /// A file that may only grow became another one.
    #[error(
        "stream '{stream}': {object} {change}; a file may only grow while it is read, so give the \
         new file to the stream under another name and start it from scratch"
    )]
    Replaced {
        /// The stream read.
        stream: String,
        /// The file.
        object: String,
        /// What happened to it.
        change: String,
    },
}

/// Called by a source when there may be something new to read; cheap, from any thread.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// A stream's records, by partition and position.
pub trait Source: Send {
    /// The stream this source feeds.
    fn stream(&self) -> &str;

    /// The partitions known now, in order of their numbers.
    fn partitions(&mut self) -> Result<Vec<Partition>, SourceError>;

    /// Reads whole records from `position` on: at most about `max_bytes`, but at least one record,
    /// and none at or after `until` where it is given. `None` when nothing is there now.
    fn read(
        &mut self,
        partition: u32,
        position: u64,
        max_bytes: usize,
        until: Option<u64>,
    ) -> Result<Option<Chunk>, SourceError>;

    /// What a partition is read from, in a word: positions saved for one origin mean nothing in
    /// another.
    fn origin(&self, partition: u32) -> String;

    /// Registers who is to be woken when records arrive. A source that cannot tell is polled.
    fn on_arrival(&mut self, wake: Wake);

    /// Whether the source has an end: a file that is not tailed. The end of its input closes all
    /// its windows only in `replay`.
    fn is_bounded(&self) -> bool {
        false
    }

    /// Says that no restart will read positions before `position` again.
    fn release(&mut self, partition: u32, position: u64) -> Result<(), SourceError>;
}
