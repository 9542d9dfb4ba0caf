//! Which records make an epoch: a bounded number of bytes from each partition, cut into chunks
//! that the workers decode in parallel.

use crate::dataflow::feed::Task;
use crate::source::{Source, SourceError};

/// How much of a partition one epoch takes, in bytes.
pub const EPOCH_BYTES: usize = 8 << 20;

/// How much of a partition one worker decodes at a time where nothing else is said, in bytes.
pub const SPLIT_BYTES: usize = 1 << 20;

/// A source, and how far each of its partitions was read.
pub struct Reading {
    /// The source.
    pub source: Box<dyn Source>,
    /// The stream, by its place in the catalog.
    pub stream: u16,
}

/// Cuts epochs; remembers whose turn it is to decode.
#[derive(Debug)]
pub struct Cutter {
    split_bytes: usize,
    turn: u64,
}

impl Cutter {
    /// Cuts chunks of about `split_bytes`.
    pub fn new(split_bytes: usize) -> Cutter {
        Cutter {
            split_bytes: split_bytes.max(1),
            turn: 0,
        }
    }

    /// Takes from one partition, from `position` on, up to `epoch_bytes` or `until`. Returns the
    /// position after what was taken.
    #[allow(clippy::too_many_arguments, reason = "one cut, fully described")]
    pub fn take(
        &mut self,
        reading: &mut Reading,
        partition: u32,
        position: u64,
        epoch_bytes: usize,
        until: Option<u64>,
        tasks: &mut Vec<Task>,
    ) -> Result<u64, SourceError> {
        let (mut position, mut left) = (position, epoch_bytes);
        // Of a partition that was taken from before, the places go on.
        let is_of =
            |task: &&Task| task.stream == reading.stream && task.chunk.partition == partition;
        let last = tasks.iter().rev().find(is_of);
        let mut place = last.map_or(0, |task| task.place + 1);
        // Chunks end where records do. A remainder is not worth a chunk, which reads far to find
        // the end of its only record.
        let least = (self.split_bytes / 16).min(left.saturating_sub(1));
        while left > least && until.is_none_or(|until| position < until) {
            let most = left.min(self.split_bytes);
            let Some(chunk) = reading.source.read(partition, position, most, until)? else {
                break;
            };
            position = chunk.end;
            left = left.saturating_sub(chunk.size().max(1));
            tasks.push(Task {
                stream: reading.stream,
                place,
                worker: self.turn,
                chunk,
            });
            place += 1;
            self.turn = self.turn.wrapping_add(1);
        }
        Ok(position)
    }
}
