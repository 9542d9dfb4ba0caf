//! How far every partition was read, and which of them are silent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cuts::{Cutter, EPOCH_BYTES, Reading};
use super::look::{Known, Look};
use super::restore::{Origin, Origins};
use crate::dataflow::clock::{NONE, PartitionTime, StreamTime, Times};
use crate::dataflow::feed::{Change, Mark, PartitionChange, Plan, Task};
use crate::query::Catalog;
use crate::record::{LastRecord, Positions};
use crate::source::SourceError;
use crate::state::{JournalEntry, PartitionChange as JournalledChange, PartitionEvent};
use crate::time::Timestamp;
use crate::view::{PartitionStanding, Standing, Trouble};

/// How long to wait before a source that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A source, and why and since when it is held up.
struct Held {
    reading: Reading,
    up: Option<(String, Instant)>,
}

/// All partitions of all sources.
pub(super) struct Partitions {
    readings: Vec<Held>,
    known: BTreeMap<(u16, u32), Known>,
    idle_timeout: Duration,
    max_drift: BTreeMap<u16, i64>,
    /// When the sources were last looked at with room to read.
    looked_at: Option<Instant>,
    streams: usize,
}

impl Partitions {
    /// Starts at the positions of a checkpoint, before which the last records looked like `lasts`.
    pub fn new(
        mut readings: Vec<Reading>,
        times: &Times,
        lasts: &BTreeMap<(u16, u32), LastRecord>,
        idle_timeout: Duration,
        max_drift: BTreeMap<u16, i64>,
    ) -> Partitions {
        let mut known = BTreeMap::new();
        for (stream, time) in (0..).zip(&times.streams) {
            for (id, p) in &time.partitions {
                let at = Known {
                    idle: p.idle,
                    is_told: true,
                    highest: p.highest,
                    last: lasts.get(&(stream, *id)).copied(),
                    ..Known::at(p.position)
                };
                known.insert((stream, *id), at);
            }
        }
        for Reading { source, stream } in &mut readings {
            for ((_, id), known) in known.range((*stream, 0)..=(*stream, u32::MAX)) {
                if let Some(last) = known.last {
                    source.recognise(*id, known.position, last);
                }
            }
        }
        let held = |reading| Held { reading, up: None };
        let readings = readings.into_iter().map(held).collect();
        Partitions {
            readings,
            known,
            idle_timeout,
            max_drift,
            looked_at: None,
            streams: times.streams.len(),
        }
    }

    /// Says that there was no room to read: silence during that time is ours, not the partition's.
    pub fn not_read(&mut self) {
        self.looked_at = None;
    }

    /// Takes what is there, up to `room` bytes, into a plan. Nothing counts as read before the
    /// plan is accepted. A source that cannot be read is tried again later; the others go on.
    pub fn next(&mut self, now: Instant, room: usize, cutter: &mut Cutter, plan: &mut Plan) {
        let silence = (self.looked_at).map_or(Duration::ZERO, |then| now.duration_since(then));
        self.looked_at = Some(now);
        let mut room = room.min(EPOCH_BYTES * self.readings.len().max(1));
        let mut waiting = self.readings.len();
        for held in &mut self.readings {
            let look = Look {
                silence,
                room: room / waiting.max(1),
                idle_after: self.idle_timeout,
                max_drift: self.max_drift.get(&held.reading.stream).copied(),
            };
            waiting -= 1;
            let is_held = |(_, since): &(String, Instant)| now.duration_since(*since) < RETRY;
            if held.up.as_ref().is_some_and(is_held) {
                continue;
            }
            let before = plan.tasks.len();
            let looked = look.at(&mut held.reading, &mut self.known, cutter, plan);
            room = room.saturating_sub(bytes(&plan.tasks[before..]));
            let stream = held.reading.source.stream();
            match looked {
                Ok(()) => {
                    if held.up.take().is_some() {
                        tracing::info!(stream, "the stream is read again");
                    }
                }
                Err(error) => {
                    let why = error.to_string();
                    if held.up.as_ref().is_none_or(|(before, _)| *before != why) {
                        tracing::error!(stream, %why, "the stream is held up; trying again");
                    }
                    held.up = Some((why, now));
                }
            }
        }
    }

    /// What the partitions are read from.
    pub fn origins(&self) -> Origins {
        let mut origins = Origins::new();
        for Held { reading, .. } in &self.readings {
            let known = self
                .known
                .range((reading.stream, 0)..=(reading.stream, u32::MAX));
            for ((_, id), known) in known {
                let origin = Origin {
                    name: reading.source.origin(*id),
                    last: known.last,
                };
                let of_stream = origins.entry(reading.stream).or_default();
                of_stream.insert(*id, origin);
            }
        }
        origins
    }

    /// Takes a plan as fed.
    pub fn accept(&mut self, plan: &Plan) {
        for change in &plan.changes {
            let known = self
                .known
                .entry((change.stream, change.partition))
                .or_insert_with(|| Known::at(change.position));
            known.idle = change.change == Change::Idle;
            known.is_told = true;
        }
        for (i, task) in plan.tasks.iter().enumerate() {
            let known = self
                .known
                .entry((task.stream, task.chunk.partition))
                .or_insert_with(|| Known::at(task.chunk.start));
            known.position = task.chunk.end;
            if task.has_records() {
                known.quiet = Duration::ZERO;
            }
            let is_of = |other: &Task| {
                (other.stream, other.chunk.partition) == (task.stream, task.chunk.partition)
            };
            let is_last = !plan.tasks[i + 1..].first().is_some_and(is_of);
            if is_last && task.chunk.positions == Positions::Framed {
                known.last = LastRecord::of(&task.chunk.bytes).or(known.last);
            }
        }
    }

    /// Cuts a journalled epoch again; says whether it is whole. Where a source waits for records
    /// that were read before, call again later with the same plan.
    pub fn again(
        &mut self,
        entry: &JournalEntry,
        catalog: &Catalog,
        cutter: &mut Cutter,
        plan: &mut Plan,
    ) -> Result<bool, SourceError> {
        plan.changes = changes(entry, catalog);
        let mut is_whole = true;
        for (name, reached) in &entry.streams {
            // What no query reads any more is not fed any more.
            let Some(stream) = catalog.stream(name) else {
                continue;
            };
            let Some(reading) = find(&mut self.readings, stream) else {
                continue;
            };
            for (partition, until) in reached {
                let from = taken(plan, stream, *partition)
                    .or_else(|| self.known.get(&(stream, *partition)).map(|k| k.position))
                    .or_else(|| appeared_at(plan, stream, *partition))
                    .unwrap_or_default();
                let tasks = &mut plan.tasks;
                match cutter.take(reading, *partition, from, usize::MAX, Some(*until), tasks) {
                    Ok(to) if to >= *until => {}
                    Ok(to) => {
                        return Err(SourceError::Gone {
                            stream: name.clone(),
                            partition: *partition,
                            position: *until,
                            first: from,
                            end: to,
                        });
                    }
                    Err(SourceError::Waiting { .. }) => is_whole = false,
                    Err(error) => return Err(error),
                }
            }
        }
        if is_whole {
            self.accept(plan);
        }
        Ok(is_whole)
    }

    /// Says to the sources that all epochs of the journal were cut again.
    pub fn resume(&mut self) {
        for Held { reading, .. } in &mut self.readings {
            let known = self
                .known
                .range((reading.stream, 0)..=(reading.stream, u32::MAX));
            let positions = known
                .map(|((_, id), known)| (*id, known.position))
                .collect();
            reading.source.resume(&positions);
        }
    }

    /// Hears how far event time has come in a closed epoch.
    pub fn hear(&mut self, times: &Times) {
        for ((stream, partition), known) in &mut self.known {
            let time = times.streams.get(usize::from(*stream));
            if let Some(time) = time.and_then(|time| time.partitions.get(partition)) {
                known.highest = time.highest;
            }
        }
    }

    /// How each stream is doing.
    pub fn standings(&self, now: Timestamp) -> impl Iterator<Item = (&str, Standing)> {
        let trouble = move |why: &Arc<str>| Trouble {
            why: Arc::clone(why),
            since: now,
        };
        self.readings.iter().map(move |Held { reading, up }| {
            let held = up.as_ref().map(|(why, _)| Arc::from(why.as_str()));
            let problem = held.or_else(|| reading.source.problem());
            let known = self
                .known
                .range((reading.stream, 0)..=(reading.stream, u32::MAX));
            let partitions = known.map(|((_, id), known)| {
                let standing = PartitionStanding {
                    end: known.end,
                    silent_ms: u64::try_from(known.quiet.as_millis()).unwrap_or(u64::MAX),
                    is_ahead: known.is_ahead,
                    trouble: known.problem.as_ref().map(trouble),
                };
                (*id, standing)
            });
            let standing = Standing {
                trouble: problem.as_ref().map(trouble),
                partitions: partitions.collect(),
            };
            (reading.source.stream(), standing)
        })
    }

    /// The position after the last record of a partition, as last seen.
    pub fn end(&self, stream: u16, partition: u32) -> u64 {
        self.known
            .get(&(stream, partition))
            .map_or(0, |known| known.end)
    }

    /// The positions reached, as times without watermarks.
    pub fn times(&self) -> Times {
        let mut streams = vec![StreamTime::new(0); self.streams];
        for ((stream, partition), known) in &self.known {
            let time = PartitionTime {
                position: known.position,
                highest: NONE,
                floor: NONE,
                idle: known.idle,
            };
            streams[usize::from(*stream)]
                .partitions
                .insert(*partition, time);
        }
        Times { streams }
    }

    /// Tells the sources what the newest checkpoint holds.
    pub fn checkpointed(&mut self, times: &Times) {
        for Held { reading, .. } in &mut self.readings {
            let time = times.streams.get(usize::from(reading.stream));
            for (id, partition) in time.into_iter().flat_map(|time| &time.partitions) {
                reading.source.checkpointed(*id, partition.position);
            }
        }
    }

    /// Lets sources go of what no restart will read again.
    pub fn release(&mut self, times: &Times) {
        for Held { reading, .. } in &mut self.readings {
            let Some(time) = times.streams.get(usize::from(reading.stream)) else {
                continue;
            };
            for (id, partition) in &time.partitions {
                if let Err(error) = reading.source.release(*id, partition.position) {
                    tracing::warn!(%error, "old records are kept longer");
                }
            }
        }
    }
}

fn find(readings: &mut [Held], stream: u16) -> Option<&mut Reading> {
    let mut readings = readings.iter_mut().map(|held| &mut held.reading);
    readings.find(|reading| reading.stream == stream)
}

fn bytes(tasks: &[Task]) -> usize {
    tasks.iter().map(|task| task.chunk.size()).sum()
}

/// What partitions did in a journalled epoch.
fn changes(entry: &JournalEntry, catalog: &Catalog) -> Vec<PartitionChange> {
    let change = |event: &PartitionEvent| {
        let change = match event.change {
            JournalledChange::Appeared => Change::Appeared,
            JournalledChange::Idle => Change::Idle,
            JournalledChange::Revived => Change::Revived,
        };
        Some(PartitionChange {
            stream: catalog.stream(&event.stream)?,
            partition: event.partition,
            change,
            position: event.position,
        })
    };
    entry.events.iter().filter_map(change).collect()
}

/// The position after what a plan takes of a partition.
fn taken(plan: &Plan, stream: u16, partition: u32) -> Option<u64> {
    let is_of = |task: &&Task| task.stream == stream && task.chunk.partition == partition;
    plan.tasks
        .iter()
        .rev()
        .find(is_of)
        .map(|task| task.chunk.end)
}

fn appeared_at(plan: &Plan, stream: u16, partition: u32) -> Option<u64> {
    let is_of =
        |change: &&PartitionChange| change.stream == stream && change.partition == partition;
    plan.changes
        .iter()
        .find(is_of)
        .map(|change| change.position)
}

/// A plan's line in the journal.
pub(super) fn entry(plan: &Plan, run: u64, catalog: &Catalog) -> JournalEntry {
    let name = |stream: u16| catalog.streams[usize::from(stream)].name.clone();
    let mut entry = JournalEntry {
        epoch: plan.epoch,
        run,
        checkpoint: plan.mark == Mark::Checkpoint,
        ..JournalEntry::default()
    };
    for task in &plan.tasks {
        let stream = entry.streams.entry(name(task.stream)).or_default();
        stream.insert(task.chunk.partition, task.chunk.end);
    }
    entry.events = (plan.changes.iter())
        .map(|change| PartitionEvent {
            stream: name(change.stream),
            partition: change.partition,
            change: match change.change {
                Change::Appeared => JournalledChange::Appeared,
                Change::Idle => JournalledChange::Idle,
                Change::Revived => JournalledChange::Revived,
            },
            position: change.position,
        })
        .collect();
    entry
}
