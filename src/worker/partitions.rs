//! How far every partition was read, and which of them are silent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::cuts::{Cutter, EPOCH_BYTES, Reading};
use super::restore::Origins;
use crate::dataflow::clock::{NONE, PartitionTime, StreamTime, Times};
use crate::dataflow::feed::{Change, Mark, PartitionChange, Plan, Task};
use crate::query::Catalog;
use crate::source::SourceError;
use crate::state::{JournalEntry, PartitionChange as JournalledChange, PartitionEvent};

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
    /// When the sources were last looked at with room to read.
    looked_at: Option<Instant>,
    streams: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    position: u64,
    end: u64,
    idle: bool,
    /// Whether the dataflow was told of it.
    is_told: bool,
    /// How long nothing came while we were reading.
    quiet: Duration,
}

impl Partitions {
    /// Starts at the positions of a checkpoint.
    pub fn new(readings: Vec<Reading>, times: &Times, idle_timeout: Duration) -> Partitions {
        let mut known = BTreeMap::new();
        for (stream, time) in (0..).zip(&times.streams) {
            for (id, p) in &time.partitions {
                let (position, idle) = (p.position, p.idle);
                let at = Known {
                    position,
                    idle,
                    is_told: true,
                    ..Known::default()
                };
                known.insert((stream, *id), at);
            }
        }
        let held = |reading| Held { reading, up: None };
        let readings = readings.into_iter().map(held).collect();
        Partitions {
            readings,
            known,
            idle_timeout,
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
            for (_, id) in self
                .known
                .keys()
                .filter(|(stream, _)| *stream == reading.stream)
            {
                let of_stream = origins.entry(reading.stream).or_default();
                of_stream.insert(*id, reading.source.origin(*id));
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
                .or_default();
            known.idle = change.change == Change::Idle;
            known.is_told = true;
        }
        for task in &plan.tasks {
            let known = self
                .known
                .entry((task.stream, task.chunk.partition))
                .or_default();
            known.position = task.chunk.end;
            known.quiet = Duration::ZERO;
        }
    }

    /// Cuts a journalled epoch again.
    pub fn again(
        &mut self,
        entry: &JournalEntry,
        catalog: &Catalog,
        cutter: &mut Cutter,
        plan: &mut Plan,
    ) -> Result<(), SourceError> {
        for event in &entry.events {
            // What no query reads any more is not fed any more.
            let Some(stream) = catalog.stream(&event.stream) else {
                continue;
            };
            let change = match event.change {
                JournalledChange::Appeared => Change::Appeared,
                JournalledChange::Idle => Change::Idle,
                JournalledChange::Revived => Change::Revived,
            };
            let partition = event.partition;
            self.find(stream, partition)?;
            plan.changes.push(PartitionChange {
                stream,
                partition,
                change,
            });
        }
        for (name, reached) in &entry.streams {
            let Some(stream) = catalog.stream(name) else {
                continue;
            };
            let Some(reading) = find(&mut self.readings, stream) else {
                continue;
            };
            for (partition, until) in reached {
                let known = self
                    .known
                    .get(&(stream, *partition))
                    .copied()
                    .unwrap_or_default();
                let from = known.position;
                let tasks = &mut plan.tasks;
                let to = cutter.take(reading, *partition, from, usize::MAX, Some(*until), tasks)?;
                if to < *until {
                    return Err(SourceError::Gone {
                        stream: name.clone(),
                        partition: *partition,
                        position: *until,
                        first: from,
                        end: to,
                    });
                }
            }
        }
        self.accept(plan);
        Ok(())
    }

    /// Notes a partition, at the first position its source still has.
    fn find(&mut self, stream: u16, partition: u32) -> Result<(), SourceError> {
        let reading = find(&mut self.readings, stream);
        if let Some(reading) = reading
            && !self.known.contains_key(&(stream, partition))
        {
            let found = reading.source.partitions()?;
            let position = found
                .iter()
                .find(|p| p.id == partition)
                .map_or(0, |p| p.first);
            self.known.insert(
                (stream, partition),
                Known {
                    position,
                    ..Known::default()
                },
            );
        }
        Ok(())
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
    tasks.iter().map(|task| task.chunk.bytes.len()).sum()
}

/// One look at a source.
struct Look {
    /// How long ago the last look was, if nothing kept us from reading since.
    silence: Duration,
    /// How many bytes may be taken.
    room: usize,
    idle_after: Duration,
}

impl Look {
    fn at(
        &self,
        reading: &mut Reading,
        known: &mut BTreeMap<(u16, u32), Known>,
        cutter: &mut Cutter,
        plan: &mut Plan,
    ) -> Result<(), SourceError> {
        let stream = reading.stream;
        let found = reading.source.partitions()?;
        let share = (self.room / found.len().max(1)).clamp(1, EPOCH_BYTES);
        let mut outcome = Ok(());
        for partition in &found {
            let known = known.entry((stream, partition.id)).or_insert(Known {
                position: partition.first,
                ..Known::default()
            });
            let at = plan.changes.len();
            known.end = partition.end;
            let (id, from, before) = (partition.id, known.position, plan.tasks.len());
            let taken = cutter.take(reading, id, from, share, None, &mut plan.tasks);
            // What was read before an error is fed, and must be announced like any other.
            let change = match (plan.tasks.len() > before, &taken) {
                _ if !known.is_told => Some(Change::Appeared),
                (true, _) => known.idle.then_some(Change::Revived),
                (false, Ok(_)) => known.fell_silent(self),
                (false, Err(_)) => None,
            };
            let change = change.map(|change| PartitionChange {
                stream,
                partition: id,
                change,
            });
            plan.changes.splice(at..at, change);
            outcome = outcome.and(taken.map(|_| ()));
        }
        // A partition that the source lists no more sends nothing more.
        for ((_, id), known) in known.range_mut((stream, 0)..=(stream, u32::MAX)) {
            let is_listed = found.iter().any(|partition| partition.id == *id);
            if let Some(change) = (!is_listed).then(|| known.fell_silent(self)).flatten() {
                plan.changes.push(PartitionChange {
                    stream,
                    partition: *id,
                    change,
                });
            }
        }
        outcome
    }
}

impl Known {
    /// Takes note of silence; says when it has lasted long enough.
    fn fell_silent(&mut self, look: &Look) -> Option<Change> {
        self.quiet += look.silence;
        (self.quiet >= look.idle_after && !self.idle).then_some(Change::Idle)
    }
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
        })
        .collect();
    entry
}
