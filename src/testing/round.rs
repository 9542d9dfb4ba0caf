//! One epoch's input, as a test writes it down.

use bytes::Bytes;

use crate::dataflow::feed::{Change, Mark, Task};
use crate::record::{Chunk, Format, LastRecord, Message, Positions, Span};
use crate::time::{Epoch, Timestamp};

/// Records of one partition.
#[derive(Clone, Debug)]
pub struct Records {
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: u32,
    /// What they are.
    pub format: Format,
    /// Lines, or frames of messages that say their positions.
    pub positions: Positions,
    /// The records.
    pub bytes: Vec<u8>,
    /// When they arrived; nothing is ahead of no arrival.
    pub arrival: Option<Timestamp>,
}

impl Records {
    /// Where each begins, after the first.
    fn begins(&self) -> Vec<usize> {
        if self.positions == Positions::Framed {
            return Message::all(&self.bytes)
                .map(|(at, _)| at)
                .skip(1)
                .collect();
        }
        memchr::memchr_iter(b'\n', &self.bytes)
            .map(|at| at + 1)
            .collect()
    }
}

/// What one epoch takes in.
///
/// ```
/// use waterclock::testing::{Change, Round};
///
/// let round = Round::new()
///     .records("clicks", 0, r#"{"user_id":"u1","click_time":0}"#)
///     .change("clicks", 1, Change::Idle)
///     .chunks(64);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Its records, in order within each partition.
    pub records: Vec<Records>,
    /// What partitions did before the records. That a partition appears, or is back with records,
    /// need not be said.
    pub changes: Vec<(String, u32, Change)>,
    /// About how many bytes a chunk has; one chunk per [`Records`] where nothing is said.
    pub chunk_bytes: Option<usize>,
    /// What the epoch asks besides.
    pub mark: Mark,
    /// Its number; one more than the last where nothing is said.
    pub epoch: Option<Epoch>,
}

impl Round {
    /// An epoch without input.
    pub fn new() -> Round {
        Round::default()
    }

    /// Adds records that nothing bounds in time.
    #[must_use]
    pub fn records(self, stream: &str, partition: u32, ndjson: &str) -> Round {
        self.arrived(stream, partition, ndjson, None)
    }

    /// Adds records that arrived then.
    #[must_use]
    pub fn arrived(
        mut self,
        stream: &str,
        partition: u32,
        ndjson: &str,
        arrival: Option<Timestamp>,
    ) -> Round {
        let (stream, mut bytes) = (stream.to_owned(), ndjson.as_bytes().to_vec());
        if bytes.last().is_some_and(|last| *last != b'\n') {
            bytes.push(b'\n');
        }
        self.records.push(Records {
            stream,
            partition,
            format: Format::Json,
            positions: Positions::Bytes,
            bytes,
            arrival,
        });
        self
    }

    /// Adds messages of a topic, which say their positions; those increase.
    #[must_use]
    pub fn messages(
        mut self,
        stream: &str,
        partition: u32,
        format: Format,
        messages: &[Message<'_>],
    ) -> Round {
        let mut bytes = Vec::new();
        for message in messages {
            message.write(&mut bytes);
        }
        self.records.push(Records {
            stream: stream.to_owned(),
            partition,
            format,
            positions: Positions::Framed,
            bytes,
            arrival: None,
        });
        self
    }

    /// Adds something a partition did.
    #[must_use]
    pub fn change(mut self, stream: &str, partition: u32, change: Change) -> Round {
        self.changes.push((stream.to_owned(), partition, change));
        self
    }

    /// Cuts the records into chunks of about so many bytes, at least a line each.
    #[must_use]
    pub fn chunks(self, bytes: usize) -> Round {
        Round {
            chunk_bytes: Some(bytes),
            ..self
        }
    }

    /// Asks something of every operator.
    #[must_use]
    pub fn mark(self, mark: Mark) -> Round {
        Round { mark, ..self }
    }

    /// Gives it a number, which must be greater than any before.
    #[must_use]
    pub fn at(self, epoch: Epoch) -> Round {
        Round {
            epoch: Some(epoch),
            ..self
        }
    }
}

/// Where the next task goes: its partition's position and place, and whose turn it is.
pub(super) struct Cut {
    pub stream: u16,
    pub position: u64,
    pub place: u32,
    pub turn: u64,
}

impl Cut {
    /// Cuts records into tasks and moves on.
    pub fn tasks(&mut self, records: &Records, chunk_bytes: Option<usize>, tasks: &mut Vec<Task>) {
        let most = chunk_bytes.unwrap_or(usize::MAX).max(1);
        let (begins, end) = (records.begins(), records.bytes.len());
        let mut begin = 0;
        for (at, next) in begins.iter().zip(begins.iter().skip(1).chain([&end])) {
            if next - begin > most && *at < end {
                tasks.push(self.task(records, &records.bytes[begin..*at]));
                begin = *at;
            }
        }
        if begin < end {
            tasks.push(self.task(records, &records.bytes[begin..]));
        }
    }

    fn task(&mut self, records: &Records, bytes: &[u8]) -> Task {
        let start = self.position;
        self.position = match LastRecord::of(bytes) {
            Some(last) if records.positions == Positions::Framed => last.position + 1,
            _ => start + bytes.len() as u64,
        };
        let task = Task {
            stream: self.stream,
            place: self.place,
            worker: self.turn,
            chunk: Chunk {
                partition: records.partition,
                start,
                end: self.position,
                format: records.format.clone(),
                positions: records.positions,
                bytes: Bytes::copy_from_slice(bytes),
                spans: vec![Span {
                    first: start,
                    offset: 0,
                    len: bytes.len(),
                    arrival: records.arrival,
                }],
                unread: None,
                lost: 0,
            },
        };
        self.place += 1;
        self.turn = self.turn.wrapping_add(1);
        task
    }
}
