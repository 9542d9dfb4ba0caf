//! The log as a source: reads acknowledged records back by position, a bounded chunk at a time.

use std::path::Path;
use std::sync::Arc;

use super::cursor::{Cursor, Problem, Taken};
use super::queue::Queue;
use super::visible::Visible;
use crate::record::{Chunk, Format, Positions};
use crate::source::{Partition, Source, SourceError, Wake};

/// A reader of one stream of the log. Several may read the same stream.
pub struct LogSource {
    visible: Arc<Visible>,
    queue: Arc<Queue>,
    stream: usize,
    /// Where the last read ended: reading on from there needs no search.
    cursor: Option<Cursor>,
    /// Kept so that the log's weak reference lives as long as this reader.
    wake: Option<Wake>,
}

impl LogSource {
    pub(super) fn new(visible: Arc<Visible>, queue: Arc<Queue>, stream: usize) -> LogSource {
        LogSource {
            visible,
            queue,
            stream,
            cursor: None,
            wake: None,
        }
    }

    /// Puts the cursor on a position and takes from there to the end of its segment at most.
    fn take(&mut self, position: u64, taken: &mut Taken) -> Result<u64, SourceError> {
        let spot = self
            .visible
            .spot(position)
            .ok_or_else(|| self.gone(0, position))?;
        let len = spot.len;
        // The cursor is put back only after success, so an error never leaves one astray.
        let mut cursor = match self.cursor.take() {
            Some(at) if at.position == position && at.segment == spot.segment => at,
            _ => Cursor::open(spot, position)
                .map_err(|(path, problem)| self.unreadable(&path, problem))?,
        };
        cursor.extend_to(len);
        cursor
            .take(taken)
            .map_err(|problem| self.unreadable(&cursor.path, problem))?;
        let reached = cursor.position;
        self.cursor = Some(cursor);
        Ok(reached)
    }

    fn gone(&self, partition: u32, position: u64) -> SourceError {
        let (first, end) = self.visible.range();
        let stream = self.visible.stream.clone();
        SourceError::Gone {
            stream,
            partition,
            position,
            first,
            end,
        }
    }

    fn unreadable(&self, path: &Path, problem: Problem) -> SourceError {
        let stream = self.visible.stream.clone();
        let object = format!("log segment '{}'", path.display());
        match problem {
            Problem::Io(cause) => SourceError::Io {
                stream,
                object,
                cause,
            },
            Problem::Damaged(..) => {
                let detail = format!("{problem}; restore it from a copy");
                SourceError::Damaged {
                    stream,
                    object,
                    detail,
                }
            }
        }
    }
}

impl Source for LogSource {
    fn stream(&self) -> &str {
        &self.visible.stream
    }

    fn partitions(&mut self) -> Result<Vec<Partition>, SourceError> {
        let (first, end) = self.visible.range();
        Ok(vec![Partition::new(0, first, end)])
    }

    fn read(
        &mut self,
        partition: u32,
        position: u64,
        max_bytes: usize,
        until: Option<u64>,
    ) -> Result<Option<Chunk>, SourceError> {
        let (first, end) = self.visible.range();
        if partition != 0 || position < first || position > end {
            return Err(self.gone(partition, position));
        }
        let stop = until.map_or(end, |until| until.min(end));
        let mut taken = Taken {
            bytes: Vec::new(),
            spans: Vec::new(),
            max_bytes,
            stop,
            full: false,
        };
        let mut at = position;
        while at < stop && !taken.full {
            let reached = self.take(at, &mut taken)?;
            if reached == at && !taken.full {
                return Err(self.gone(partition, at));
            }
            at = reached;
        }
        Ok((at > position).then(|| Chunk {
            partition,
            start: position,
            end: at,
            format: Format::Json,
            positions: Positions::Records,
            bytes: taken.bytes.into(),
            spans: taken.spans,
            unread: None,
            lost: 0,
        }))
    }

    fn origin(&self, _partition: u32) -> String {
        "log".to_owned()
    }

    /// What was read was acknowledged, and durable before that.
    fn expect(&self, _partition: u32, position: u64) -> Result<(), SourceError> {
        let (_, end) = self.visible.range();
        if position <= end {
            return Ok(());
        }
        let newest = self.visible.segments().back().map(|it| it.path.clone());
        Err(SourceError::Damaged {
            stream: self.visible.stream.clone(),
            object: newest.map_or("its log".to_owned(), |path| {
                format!("log segment '{}'", path.display())
            }),
            detail: format!(
                "it ends at position {end}, and records up to {position} were acknowledged and \
                 read; restore it from a copy, or start with --from-scratch to do without them"
            ),
        })
    }

    fn on_arrival(&mut self, wake: Wake) {
        self.visible.register(&wake);
        self.wake = Some(wake);
    }

    /// Deletes, soon, the segments before `position` that nothing else keeps.
    fn release(&mut self, partition: u32, position: u64) -> Result<(), SourceError> {
        if partition != 0 {
            return Err(self.gone(partition, position));
        }
        self.queue.release(self.stream, position);
        Ok(())
    }
}
