//! How far every partition was read, and which of them are silent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::cuts::{Cutter, EPOCH_BYTES, Reading};
use crate::dataflow::clock::{NONE, PartitionTime, StreamTime, Times};
use crate::dataflow::feed::{Change, Mark, PartitionChange, Plan};
use crate::query::Catalog;
use crate::source::SourceError;
use crate::state::{JournalEntry, PartitionChange as JournalledChange, PartitionEvent};

/// All partitions of all sources.
pub(super) struct Partitions {
    readings: Vec<Reading>,
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
    /// plan is accepted.
    pub fn next(
        &mut self,
        now: Instant,
        room: usize,
        cutter: &mut Cutter,
        plan: &mut Plan,
    ) -> Result<(), SourceError> {
        let silence = self
            .looked_at
            .map_or(Duration::ZERO, |then| now.duration_since(then));
        self.looked_at = Some(now);
        let mut room = room.min(EPOCH_BYTES * self.readings.len().max(1));
        let mut outcome = Ok(());
        for reading in &mut self.readings {
            let stream = reading.stream;
            let found = match reading.source.partitions() {
                Ok(found) => found,
                Err(error) => {
                    outcome = Err(error);
                    continue;
                }
            };
            let share = (room / found.len().max(1)).clamp(1, EPOCH_BYTES);
            for partition in found {
                let mut say = |change| {
                    plan.changes.push(PartitionChange {
                        stream,
                        partition: partition.id,
                        change,
                    });
                };
                let known = self.known.entry((stream, partition.id)).or_insert(Known {
                    position: partition.first,
                    ..Known::default()
                });
                if !known.is_told {
                    say(Change::Appeared);
                }
                known.end = partition.end;
                let before = plan.tasks.len();
                let taken = cutter.take(
                    reading,
                    partition.id,
                    known.position,
                    share,
                    None,
                    &mut plan.tasks,
                );
                if let Err(error) = taken {
                    outcome = Err(error);
                    continue;
                }
                let bytes: usize = plan.tasks[before..]
                    .iter()
                    .map(|task| task.chunk.bytes.len())
                    .sum();
                room = room.saturating_sub(bytes);
                if plan.tasks.len() > before {
                    if known.idle {
                        say(Change::Revived);
                    }
                } else {
                    known.quiet += silence;
                    if known.quiet >= self.idle_timeout && !known.idle {
                        say(Change::Idle);
                    }
                }
            }
        }
        outcome
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
            let Some(reading) = self.readings.iter_mut().find(|r| r.stream == stream) else {
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
        let reading = self
            .readings
            .iter_mut()
            .find(|reading| reading.stream == stream);
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
        for reading in &mut self.readings {
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
