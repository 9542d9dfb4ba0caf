//! Watermarks as data: one clock per epoch, computed from the same input on every worker.
//!
//! Per partition the watermark is the highest event time read minus the stream's lateness bound;
//! per stream the minimum over its partitions that are not idle. It never goes back: a partition
//! that appears or revives gets the stream's watermark as its floor, and with all partitions idle
//! it stays.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;

use super::feed::{Announcement, Change, Mark, PartitionChange};
use crate::time::{Epoch, Timestamp};

/// A watermark before anything is known: below every instant.
pub const NONE: i64 = i64::MIN;

/// A stream of clocks: one per epoch, on every worker.
pub type Clocks<'s> = Stream<'s, Epoch, Vec<Rc<Clock>>>;

/// What every worker knows of a closed epoch.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The epoch.
    pub epoch: Epoch,
    /// Per stream of the catalog the watermark in ms after the epoch; [`NONE`] before any event.
    pub watermarks: Vec<i64>,
    /// What the epoch asks of the operators.
    pub mark: Mark,
    /// What each chunk's partition knew before it.
    before: BTreeMap<(u16, u32, u32), Before>,
}

impl Clock {
    /// The clock of an epoch in which nothing happened, for tests of single operators.
    pub fn at(epoch: Epoch) -> Clock {
        Clock {
            epoch,
            watermarks: Vec::new(),
            mark: Mark::None,
            before: BTreeMap::new(),
        }
    }

    /// The watermark of a query that reads these streams: the minimum, [`NONE`] while any is.
    pub fn over(&self, streams: &[u16]) -> i64 {
        streams
            .iter()
            .map(|s| self.watermarks[usize::from(*s)])
            .min()
            .unwrap_or(NONE)
    }

    /// What the partition knew before one of the epoch's chunks.
    pub fn before(&self, stream: u16, partition: u32, place: u32) -> Before {
        self.before
            .get(&(stream, partition, place))
            .copied()
            .unwrap_or(Before::NOTHING)
    }
}

/// What a partition knew before a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// The highest event time before it.
    pub highest: i64,
    /// The watermark the partition got when it appeared or revived.
    pub floor: i64,
}

impl Before {
    const NOTHING: Before = Before {
        highest: NONE,
        floor: NONE,
    };
}

/// The highest event time of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Highest {
    pub(crate) stream: u16,
    pub(crate) partition: u32,
    pub(crate) place: u32,
    pub(crate) time: i64,
}

/// A partition's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionTime {
    /// The next position to read.
    pub position: u64,
    /// The highest event time read; [`NONE`] before any.
    pub highest: i64,
    /// The watermark it got when it appeared or revived; [`NONE`] before any.
    pub floor: i64,
    /// Whether it holds the stream back no longer.
    pub idle: bool,
}

/// A stream's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTime {
    /// The lateness bound in ms.
    pub lateness: i64,
    /// The watermark; [`NONE`] before any event.
    pub watermark: i64,
    /// Its partitions.
    pub partitions: BTreeMap<u32, PartitionTime>,
}

impl StreamTime {
    /// A stream of which nothing was read.
    pub fn new(lateness: i64) -> StreamTime {
        StreamTime {
            lateness,
            watermark: NONE,
            partitions: BTreeMap::new(),
        }
    }

    /// A partition's own watermark.
    pub fn partition_watermark(&self, partition: &PartitionTime) -> i64 {
        lagging(partition.highest, self.lateness).max(partition.floor)
    }

    fn partition(&mut self, id: u32) -> &mut PartitionTime {
        let floor = self.watermark;
        self.partitions.entry(id).or_insert(PartitionTime {
            position: 0,
            highest: NONE,
            floor,
            idle: false,
        })
    }

    fn apply(&mut self, said: PartitionChange) {
        let floor = self.watermark;
        let partition = self.partition(said.partition);
        match said.change {
            Change::Appeared => partition.position = said.position,
            Change::Idle => partition.idle = true,
            Change::Revived => {
                partition.idle = false;
                partition.floor = floor;
            }
        }
    }

    fn advance(&mut self) {
        let active = self.partitions.values().filter(|p| !p.idle);
        if let Some(least) = active.map(|p| self.partition_watermark(p)).min() {
            self.watermark = self.watermark.max(least);
        }
    }
}

/// `time - by`, where [`NONE`] stays itself.
pub fn lagging(time: i64, by: i64) -> i64 {
    if time == NONE {
        NONE
    } else {
        time.saturating_sub(by)
    }
}

/// A watermark as readers see it.
pub fn visible(watermark: i64) -> Option<Timestamp> {
    (watermark != NONE).then_some(Timestamp(watermark))
}

/// The time of every stream of the catalog; advanced epoch by epoch, equal on every worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Per stream of the catalog.
    pub streams: Vec<StreamTime>,
}

impl Times {
    fn close(&mut self, said: Announcement, mut highest: Vec<Highest>) -> Clock {
        for change in said.changes {
            self.streams[usize::from(change.stream)].apply(change);
        }
        highest.sort_unstable_by_key(|h| (h.stream, h.partition, h.place));
        let mut before = BTreeMap::new();
        for h in highest {
            let partition = self.streams[usize::from(h.stream)].partition(h.partition);
            let known = Before {
                highest: partition.highest,
                floor: partition.floor,
            };
            before.insert((h.stream, h.partition, h.place), known);
            partition.highest = partition.highest.max(h.time);
        }
        for (stream, partition, _, end) in said.chunks {
            self.streams[usize::from(stream)]
                .partition(partition)
                .position = end;
        }
        for stream in &mut self.streams {
            match said.mark {
                Mark::End => stream.watermark = i64::MAX,
                Mark::None | Mark::Checkpoint => stream.advance(),
            }
        }
        let watermarks = self.streams.iter().map(|s| s.watermark).collect();
        Clock {
            epoch: said.epoch,
            watermarks,
            mark: said.mark,
            before,
        }
    }
}

/// Emits each epoch's clock once the highest times of all its chunks are known. `report` sees each
/// epoch's times as they are after it.
pub fn clocks<'s>(
    announcements: Stream<'s, Epoch, Vec<Announcement>>,
    highest: Stream<'s, Epoch, Vec<Highest>>,
    mut times: Times,
    mut report: impl FnMut(&Clock, &Times) + 'static,
) -> Clocks<'s> {
    let mut builder = OperatorBuilder::new("Clock".to_owned(), announcements.scope());
    let mut announcements = builder.new_input(announcements.broadcast(), Pipeline);
    let mut highest = builder.new_input(highest.broadcast(), Pipeline);
    let (out, clocks) = builder.new_output::<Vec<Rc<Clock>>>();
    let mut out = OutputBuilder::from(out);
    builder.build(move |_capabilities| {
        let mut open = BTreeMap::new();
        let mut known: BTreeMap<Epoch, Vec<Highest>> = BTreeMap::new();
        move |frontiers| {
            announcements.for_each(|cap, said| {
                for said in said.drain(..) {
                    open.insert(said.epoch, (cap.delayed(&said.epoch, 0), said));
                }
            });
            highest.for_each(|cap, found| {
                if let Some(epoch) = cap.least() {
                    known.entry(*epoch).or_default().append(found);
                }
            });
            while let Some(entry) = open.first_entry() {
                if frontiers
                    .iter()
                    .any(|frontier| frontier.less_equal(entry.key()))
                {
                    break;
                }
                let (epoch, (cap, said)) = entry.remove_entry();
                let clock = times.close(said, known.remove(&epoch).unwrap_or_default());
                report(&clock, &times);
                out.activate().session(&cap).give(Rc::new(clock));
            }
        }
    });
    clocks
}
