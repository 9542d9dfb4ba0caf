//! Reading made-up events by position: a partition's position is the number of its line.

use std::collections::BTreeMap;
use std::iter;

use bytes::Bytes;

use super::NexmarkOptions;
use super::arrivals::Arrivals;
use super::events::Events;
use crate::record::{Chunk, Format, Positions, Span};
use crate::source::{Clock, Partition, Source, SourceError};
use crate::time::Timestamp;

/// A stream of made-up events.
pub struct NexmarkSource {
    stream: String,
    options: NexmarkOptions,
    events: Events,
    partitions: Vec<Reading>,
    pace: Option<Pace>,
}

/// How far a partition was read.
struct Reading {
    arrivals: Arrivals,
    /// The number over all partitions of the line that arrives next.
    line: u64,
}

/// Lets events come as time passes, at their own rate.
struct Pace {
    clock: Clock,
    start: Timestamp,
    /// How many lines there were at the start.
    before: u64,
}

impl NexmarkSource {
    /// All events at once: without an end to them, more than can be read.
    pub fn new(stream: &str, options: NexmarkOptions) -> NexmarkSource {
        let begin = |_| Reading {
            arrivals: Arrivals::new(&options, 0),
            line: 0,
        };
        NexmarkSource {
            stream: stream.to_owned(),
            events: Events::new(&options),
            partitions: (0..options.partitions.max(1)).map(begin).collect(),
            options,
            pace: None,
        }
    }

    /// Lets the events come as time passes, as many a second as happen in a second.
    #[must_use]
    pub fn paced(mut self, clock: Clock) -> NexmarkSource {
        let start = clock();
        self.pace = Some(Pace {
            clock,
            start,
            before: 0,
        });
        self
    }

    /// The lines of the first partition to their end, about a megabyte at a time.
    pub fn chunks(mut self) -> impl Iterator<Item = Result<Bytes, SourceError>> {
        let mut position = 0;
        iter::from_fn(move || {
            let read = self.read(0, position, 1 << 20, None).transpose()?;
            Some(read.map(|chunk| {
                position = chunk.end;
                chunk.bytes
            }))
        })
    }

    /// How many lines there are by now.
    fn lines(&self) -> u64 {
        let all = match self.options.events {
            0 => u64::MAX,
            events => events,
        };
        self.pace.as_ref().map_or(all, |pace| {
            let elapsed = (pace.clock)().0.saturating_sub(pace.start.0).max(0);
            pace.before
                .saturating_add(in_time(elapsed, self.options.rate))
                .min(all)
        })
    }

    /// How many of so many lines are a partition's.
    fn of_partition(&self, lines: u64, partition: u32) -> u64 {
        let others = u64::from(self.options.partitions.max(1));
        lines.saturating_sub(u64::from(partition)).div_ceil(others)
    }
}

/// How many events of a rate there are in so many ms.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a pace, which need not be exact"
)]
fn in_time(ms: i64, rate: f64) -> u64 {
    (ms as f64 * rate / 1000.0) as u64
}

impl Source for NexmarkSource {
    fn stream(&self) -> &str {
        &self.stream
    }

    fn partitions(&mut self) -> Result<Vec<Partition>, SourceError> {
        let lines = self.lines();
        let partition = |id| Partition::new(id, 0, self.of_partition(lines, id));
        let count = self.options.partitions.max(1);
        Ok((0..count).map(partition).collect())
    }

    fn read(
        &mut self,
        partition: u32,
        position: u64,
        max_bytes: usize,
        until: Option<u64>,
    ) -> Result<Option<Chunk>, SourceError> {
        // What was read before is there, whatever the pace.
        let there = self.of_partition(self.lines(), partition);
        let until = until.unwrap_or(there);
        let others = u64::from(self.options.partitions.max(1));
        let at = usize::try_from(partition).unwrap_or(usize::MAX);
        let Some(reading) = self.partitions.get_mut(at) else {
            return Ok(None);
        };
        let first = position
            .saturating_mul(others)
            .saturating_add(partition.into());
        if first < reading.line {
            *reading = Reading {
                arrivals: Arrivals::new(&self.options, first),
                line: first,
            };
        }
        let (mut text, mut end) = (String::new(), position);
        while end < until && (text.is_empty() || text.len() < max_bytes) {
            let Some(event) = reading.arrivals.next(&self.options) else {
                break;
            };
            reading.line += 1;
            if reading.line > first && (reading.line - 1 - first).is_multiple_of(others) {
                self.events.write(&self.options, event, &mut text);
                end += 1;
            }
        }
        if text.is_empty() {
            return Ok(None);
        }
        Ok(Some(Chunk {
            partition,
            start: position,
            end,
            format: Format::Json,
            positions: Positions::Records,
            spans: vec![Span {
                first: position,
                offset: 0,
                len: text.len(),
                arrival: None,
            }],
            bytes: text.into(),
            unread: None,
            lost: 0,
        }))
    }

    fn origin(&self, _partition: u32) -> String {
        let NexmarkOptions {
            kind,
            seed,
            rate,
            base,
            out_of_order,
            late_ppm,
            late,
            partitions,
            ..
        } = &self.options;
        // Where they end is no matter.
        format!(
            "nexmark {kind:?} of seed {seed} at {rate}/s from {base}, \
             out of order {out_of_order:?}, {late_ppm} ppm late {late:?}, in {partitions}"
        )
    }

    fn resume(&mut self, positions: &BTreeMap<u32, u64>) {
        if let Some(pace) = &mut self.pace {
            pace.before = positions.values().sum();
            pace.start = (pace.clock)();
        }
    }

    fn is_bounded(&self) -> bool {
        self.options.events > 0
    }
}
