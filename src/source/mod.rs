//! Edges in: where records come from. Every source can be re-read by position.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::record::{Chunk, LastRecord};
use crate::time::Timestamp;

pub mod file;
pub mod generator;
pub mod kafka;
pub mod log;
pub mod nexmark;
pub mod registry;
mod visits;

/// The wall clock, handed in by `main`: milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a source says of one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The partition's number.
    pub id: u32,
    /// Where reading begins if the partition is new to the service.
    pub first: u64,
    /// The position after the last record there now.
    pub end: u64,
    /// Whether silence means that nothing was written. While a source waits for records that are
    /// there, or cannot tell, its partition is not idle.
    pub is_live: bool,
    /// What keeps it from being read, in a sentence.
    pub problem: Option<Arc<str>>,
}

impl Partition {
    /// A partition of which nothing else is to be said.
    pub fn new(id: u32, first: u64, end: u64) -> Partition {
        Partition {
            id,
            first,
            end,
            is_live: true,
            problem: None,
        }
    }
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
    /// Records of a topic are gone before they were read.
    #[error(
        "stream '{stream}': topic '{topic}' partition {partition} begins at offset {first}, but \
         {position} is next: {} records are lost; set on_lost = \"skip\" in [streams.{stream}] to \
         go on and have them counted, or start with --from-scratch",
        first - position
    )]
    Lost {
        /// The stream read.
        stream: String,
        /// The topic read.
        topic: String,
        /// The partition read.
        partition: u32,
        /// The offset that is next.
        position: u64,
        /// The first offset there.
        first: u64,
        /// The offset after the last one there.
        end: u64,
    },
    /// What was read of a topic is not in it any more.
    #[error(
        "stream '{stream}': topic '{topic}' partition {partition} {change}: the topic was made \
         anew, or its newest records were lost; start with --from-scratch to read it from its \
         beginning"
    )]
    Recreated {
        /// The stream read.
        stream: String,
        /// The topic read.
        topic: String,
        /// The partition read.
        partition: u32,
        /// What shows it.
        change: String,
    },
    /// What was read before is not there yet: a broker does not answer, say.
    #[error("stream '{stream}': waiting for partition {partition} from position {position} on")]
    Waiting {
        /// The stream read.
        stream: String,
        /// The partition read.
        partition: u32,
        /// The position asked for.
        position: u64,
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
    /// and none at or after `until` where it is given. `None` when nothing is there now. Records up
    /// to `until` were read before: a source for which they may still come says that it is
    /// [waiting](SourceError::Waiting).
    fn read(
        &mut self,
        partition: u32,
        position: u64,
        max_bytes: usize,
        until: Option<u64>,
    ) -> Result<Option<Chunk>, SourceError>;

    /// Lets chunks be [unread](crate::record::Unread): whoever takes them reads them. What goes
    /// wrong then is what [`partitions`](Source::partitions) says next.
    fn leave_unread(&mut self) {}

    /// What a partition is read from, in a word: positions saved for one origin mean nothing in
    /// another.
    fn origin(&self, partition: u32) -> String;

    /// Says what the last record before the position of a checkpoint looked like. A source in whose
    /// place another one may be put looks whether it still is there.
    fn recognise(&mut self, partition: u32, position: u64, last: LastRecord) {
        let _ = (partition, position, last);
    }

    /// Says that the records before `position` were read, before the service starts to. A source of
    /// which none can get lost says so where they are gone.
    fn expect(&self, partition: u32, position: u64) -> Result<(), SourceError> {
        let _ = (partition, position);
        Ok(())
    }

    /// Registers who is to be woken when records arrive. A source that cannot tell is polled.
    fn on_arrival(&mut self, wake: Wake) {
        let _ = wake;
    }

    /// Says that everything read before was read again, up to these positions; what comes now is
    /// new. Without any the stream is read for the first time.
    fn resume(&mut self, positions: &BTreeMap<u32, u64>) {
        let _ = positions;
    }

    /// What keeps the whole stream from being read, in a sentence.
    fn problem(&self) -> Option<Arc<str>> {
        None
    }

    /// Says that a checkpoint holds everything before `position`.
    fn checkpointed(&mut self, partition: u32, position: u64) {
        let _ = (partition, position);
    }

    /// Whether the source has an end: a file that is not tailed. The end of its input closes all
    /// its windows only in `replay`.
    fn is_bounded(&self) -> bool {
        false
    }

    /// Says that no restart will read positions before `position` again. Does nothing where the
    /// records belong to somebody else.
    fn release(&mut self, partition: u32, position: u64) -> Result<(), SourceError> {
        let _ = (partition, position);
        Ok(())
    }
}
