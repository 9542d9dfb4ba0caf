//! Bytes to records, and what each record's partition knew just before it. Chunks of a partition
//! decode in parallel on all workers; only their highest times travel.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Filter;

use super::clock::{Clocks, Highest, NONE, lagging};
use super::feed::Task;
use super::json::Reader;
use super::lines::{RawLines, readable};
use super::reading::{Found, for_each_record, read_json};
use super::retire::{retire, stamped};
use crate::record::{Chunk, Envelope, Event, Format, Op};
use crate::time::{Epoch, Timestamp};

/// A record on its way, with the place it came from.
#[derive(Clone, Debug)]
pub struct Rec<T> {
    /// The event time in ms.
    pub time: i64,
    /// Its partition's watermark just before it; what is late is judged by this alone.
    pub watermark: i64,
    /// Its position in the partition.
    pub position: u64,
    /// The partition.
    pub partition: u32,
    /// The stream, by its place in the catalog.
    pub stream: u16,
    /// Which of the records made from the one at this position.
    pub part: u16,
    /// The record.
    pub data: T,
}

impl<T> Rec<T> {
    /// The same record with other data.
    pub fn with<U>(&self, data: U) -> Rec<U> {
        Rec {
            time: self.time,
            watermark: self.watermark,
            position: self.position,
            partition: self.partition,
            stream: self.stream,
            part: self.part,
            data,
        }
    }
}

/// Records in order of one partition's positions.
pub type Batch<T> = Rc<Vec<Rec<T>>>;

/// Records that say what they do to their table: a batch that has some that do more than be put.
pub struct Changes<T>(pub Vec<(Op, Rec<T>)>);

/// A record that was not taken, and why: kept, bounded, and readable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Notice {
    /// The stream, by its place in the catalog.
    pub stream: u16,
    /// The partition.
    pub partition: u32,
    /// The position.
    pub position: u64,
    /// Why.
    pub reason: String,
    /// The raw record, or the record as the query saw it.
    pub record: String,
    /// Its event time in ms where it has one.
    pub time: Option<i64>,
}

/// What is counted of a stream's decoding, over all workers.
#[derive(Debug, Default)]
pub struct Counted {
    /// Records taken.
    pub taken: AtomicU64,
    /// Records rejected.
    pub rejected: AtomicU64,
}

/// How a stream's records are judged when they are decoded.
#[derive(Clone, Debug)]
pub struct Intake {
    /// The stream, by its place in the catalog.
    pub stream: u16,
    /// The lateness bound in ms.
    pub lateness: i64,
    /// How far ahead of its arrival an event time may be.
    pub max_ahead: Duration,
    /// What is counted.
    pub counted: Arc<Counted>,
}

/// A stream's records, and what comes beside them.
pub struct Decoded<'s> {
    /// Batches of `Vec<Rec<T>>` or [`Changes<T>`], with the type hidden so that all queries can
    /// share them.
    pub batches: Stream<'s, Epoch, Vec<Rc<dyn Any>>>,
    /// What was rejected.
    pub rejected: Stream<'s, Epoch, Vec<Notice>>,
}

/// Reads one record and judges its time; the reason if it is no good.
pub fn read_line<T: Event>(
    line: &[u8],
    arrival: Option<Timestamp>,
    max_ahead: Duration,
) -> Result<T, String> {
    let beside = Envelope::bare(0, 0, arrival);
    let record: T = read_json(line.trim_ascii(), &beside, &mut Reader::default())?;
    judge_time(&record, arrival, max_ahead)?;
    Ok(record)
}

fn judge_time<T: Event>(
    record: &T,
    arrival: Option<Timestamp>,
    max_ahead: Duration,
) -> Result<Timestamp, String> {
    let time = guard(|| record.time())?;
    if !time.is_valid() {
        return Err("event time outside the years 1 to 9999".to_owned());
    }
    if arrival.is_some_and(|arrival| time > arrival.plus(max_ahead)) {
        return Err("ahead".to_owned());
    }
    Ok(time)
}

thread_local! {
    static CAUGHT: Cell<Caught> = const { Cell::new(Caught::Not) };
}

/// Who catches a panic on this thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caught {
    /// Nobody.
    Not,
    /// Each [`guard`] its own.
    Alone,
    /// The [`guard_all`] that runs: it will run the code again, alone.
    Together,
}

/// Whether a panic on this thread now is user code's and will be caught.
pub fn is_guarded() -> bool {
    CAUGHT.get() != Caught::Not
}

/// Runs user code over many records, each under its own [`guard`]. As long as none panics, one
/// catch serves for all of them; after a panic `pass` runs once more, with a catch for each. So it
/// must not go on from what it did before.
pub fn guard_all<R>(mut pass: impl FnMut() -> R) -> R {
    let outer = CAUGHT.replace(Caught::Together);
    let result = catch_unwind(AssertUnwindSafe(&mut pass));
    CAUGHT.set(outer);
    result.unwrap_or_else(|_| pass())
}

/// Runs user code that sees one record; a panic becomes the reason the record is rejected.
pub fn guard<R>(code: impl FnOnce() -> R) -> Result<R, String> {
    if CAUGHT.get() == Caught::Together {
        return Ok(code());
    }
    let outer = CAUGHT.replace(Caught::Alone);
    let result = catch_unwind(AssertUnwindSafe(code));
    CAUGHT.set(outer);
    result.map_err(|panic| {
        let said = (panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        format!("the query's code panicked: {said}")
    })
}

/// The first half of decoding: records and each chunk's highest time, before anything is known of
/// the chunks before it.
pub struct Raw<'s, T: 'static> {
    chunks: Stream<'s, Epoch, Vec<RawChunk<T>>>,
    rejected: Stream<'s, Epoch, Vec<Notice>>,
    intake: Intake,
    /// The highest time of each chunk.
    pub highest: Stream<'s, Epoch, Vec<Highest>>,
}

struct RawChunk<T> {
    partition: u32,
    place: u32,
    /// Each record's `watermark` holds the highest time before it in this chunk, for now.
    records: Vec<Rec<T>>,
    /// What each record does to its table; empty where all of them are put.
    ops: Vec<Op>,
    /// Whether times never go back within a partition: a change of a database comes after the one
    /// before it, whatever its clock said.
    is_ordered: bool,
}

/// Decodes one stream's chunks where the feed sends them.
pub fn decode<'s, T: Event>(
    tasks: Stream<'s, Epoch, Vec<Task>>,
    intake: Intake,
    lines: RawLines,
) -> Raw<'s, T> {
    let stream = intake.stream;
    let mut builder = OperatorBuilder::new(format!("Decode {}", T::STREAM), tasks.scope());
    let ours = tasks.filter(move |task| task.stream == stream);
    let mut input = builder.new_input(ours, Exchange::new(|task: &Task| task.worker));
    let (chunks_out, chunks) = builder.new_output::<Vec<RawChunk<T>>>();
    let (highest_out, highest) = builder.new_output::<Vec<Highest>>();
    let (rejected_out, rejected) = builder.new_output::<Vec<Notice>>();
    let mut chunks_out = OutputBuilder::from(chunks_out);
    let mut highest_out = OutputBuilder::from(highest_out);
    let mut rejected_out = OutputBuilder::from(rejected_out);
    let judged_by = intake.clone();
    builder.build(move |_capabilities| {
        move |_frontiers| {
            input.for_each(|cap, tasks| {
                let Some(&epoch) = cap.least() else { return };
                for mut task in tasks.drain(..) {
                    task.chunk.fetch();
                    let Taken {
                        records,
                        ops,
                        highest,
                        refused,
                    } = decode_chunk::<T>(&task.chunk, epoch, &judged_by);
                    let (partition, place) = (task.chunk.partition, task.place);
                    let is_ordered = task.chunk.format == Format::Debezium;
                    lines.remember(epoch, stream, task.chunk);
                    chunks_out
                        .activate()
                        .session(&cap.delayed(&epoch, 0))
                        .give(RawChunk {
                            partition,
                            place,
                            records,
                            ops,
                            is_ordered,
                        });
                    highest_out
                        .activate()
                        .session(&cap.delayed(&epoch, 1))
                        .give(Highest {
                            stream,
                            partition,
                            place,
                            time: highest,
                        });
                    if !refused.is_empty() {
                        rejected_out
                            .activate()
                            .session(&cap.delayed(&epoch, 2))
                            .give_iterator(refused.into_iter());
                    }
                }
            });
        }
    });
    Raw {
        chunks,
        rejected,
        intake,
        highest,
    }
}

impl<'s, T: Event> Raw<'s, T> {
    /// The second half: each record learns its partition's watermark just before it.
    pub fn judge(self, clocks: Clocks<'s>) -> Decoded<'s> {
        let Intake {
            stream, lateness, ..
        } = self.intake;
        let judged = retire(self.chunks, clocks, Pipeline, stamped, "Judge", move |_| {
            move |clock, chunks: Vec<RawChunk<T>>, batches, _: &mut Vec<()>| {
                for mut chunk in chunks {
                    let before = clock.before(stream, chunk.partition, chunk.place);
                    for record in &mut chunk.records {
                        let highest = before.highest.max(record.watermark);
                        record.watermark = lagging(highest, lateness).max(before.floor);
                        if chunk.is_ordered {
                            record.time = record.time.max(highest);
                        }
                    }
                    let batch: Rc<dyn Any> = if chunk.ops.is_empty() {
                        Rc::new(chunk.records)
                    } else {
                        Rc::new(Changes(chunk.ops.into_iter().zip(chunk.records).collect()))
                    };
                    batches.push(batch);
                }
            }
        });
        Decoded {
            batches: judged.main,
            rejected: self.rejected,
        }
    }
}

/// What was in a chunk.
struct Taken<T> {
    records: Vec<Rec<T>>,
    /// What the records do, where some do more than be put.
    ops: Vec<Op>,
    /// The highest time.
    highest: i64,
    refused: Vec<Notice>,
}

fn decode_chunk<T: Event>(chunk: &Chunk, epoch: Epoch, intake: &Intake) -> Taken<T> {
    let taken = guard_all(|| taken::<T>(chunk, epoch, intake));
    let (good, bad) = (taken.records.len() as u64, taken.refused.len() as u64);
    intake.counted.taken.fetch_add(good, Ordering::Relaxed);
    intake.counted.rejected.fetch_add(bad, Ordering::Relaxed);
    taken
}

fn taken<T: Event>(chunk: &Chunk, epoch: Epoch, intake: &Intake) -> Taken<T> {
    let mut records = Vec::with_capacity(chunk.bytes.len() / 64);
    let mut ops = Vec::new();
    let mut highest = NONE;
    let mut refused = Vec::new();
    let (partition, stream) = (chunk.partition, intake.stream);
    let notice = |position, reason, record| Notice {
        stream,
        partition,
        position,
        reason,
        record,
        time: None,
    };
    if chunk.lost > 0 {
        let (lost, next) = (chunk.lost, chunk.start + chunk.lost);
        let reason = format!("lost: the {lost} positions before {next} are no longer there");
        refused.push(notice(chunk.start, reason, String::new()));
    }
    for_each_record::<T>(chunk, epoch, |found: Found<'_, T>| {
        let position = found.position;
        let taken = found.read.and_then(|(op, record)| {
            let time = judge_time(&record, found.arrival, intake.max_ahead)?;
            Ok((op, record, time.0))
        });
        match taken {
            Ok((op, data, time)) => {
                if op != Op::Put && ops.is_empty() {
                    ops.resize(records.len(), Op::Put);
                }
                if op != Op::Put || !ops.is_empty() {
                    ops.push(op);
                }
                records.push(Rec {
                    time,
                    watermark: highest,
                    position,
                    partition,
                    stream,
                    part: 0,
                    data,
                });
                highest = highest.max(time);
            }
            Err(reason) => refused.push(notice(position, reason, readable(found.raw))),
        }
    });
    Taken {
        records,
        ops,
        highest,
        refused,
    }
}
