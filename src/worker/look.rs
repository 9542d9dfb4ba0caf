//! One look at a source: what its partitions have, and which of them are silent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cuts::{Cutter, EPOCH_BYTES, Reading};
use crate::dataflow::clock::NONE;
use crate::dataflow::feed::{Change, PartitionChange, Plan, Task};
use crate::record::LastRecord;
use crate::source::{Partition, SourceError};

/// What is known of a partition.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub position: u64,
    pub end: u64,
    pub idle: bool,
    /// Whether the dataflow was told of it.
    pub is_told: bool,
    /// How long nothing came while we were reading.
    pub quiet: Duration,
    /// The highest event time of a closed epoch; `NONE` before any.
    pub highest: i64,
    /// Whether it waits for slower partitions.
    pub is_ahead: bool,
    /// What keeps it from being read.
    pub problem: Option<Arc<str>>,
    /// What the last record before the position looked like, of sources that want to know.
    pub last: Option<LastRecord>,
}

impl Known {
    /// A partition that stands at a position.
    pub fn at(position: u64) -> Known {
        Known {
            position,
            end: position,
            idle: false,
            is_told: false,
            quiet: Duration::ZERO,
            highest: NONE,
            is_ahead: false,
            problem: None,
            last: None,
        }
    }

    /// Takes note of silence; says when it has lasted long enough.
    fn fell_silent(&mut self, look: &Look) -> Option<Change> {
        self.quiet += look.silence;
        (self.quiet >= look.idle_after && !self.idle).then_some(Change::Idle)
    }
}

/// One look at a source.
pub(super) struct Look {
    /// How long ago the last look was, if nothing kept us from reading since.
    pub silence: Duration,
    /// How many bytes may be taken.
    pub room: usize,
    pub idle_after: Duration,
    /// How far a partition may run ahead of the slowest of its stream, in ms of event time.
    pub max_drift: Option<i64>,
}

impl Look {
    pub fn at(
        &self,
        reading: &mut Reading,
        known: &mut BTreeMap<(u16, u32), Known>,
        cutter: &mut Cutter,
        plan: &mut Plan,
    ) -> Result<(), SourceError> {
        let stream = reading.stream;
        let found = reading.source.partitions()?;
        let share = (self.room / found.len().max(1)).clamp(1, EPOCH_BYTES);
        let limit = self.limit(stream, known);
        let mut outcome = Ok(());
        for partition in &found {
            let known = known
                .entry((stream, partition.id))
                .or_insert_with(|| Known::at(partition.first));
            known.end = partition.end;
            known.problem.clone_from(&partition.problem);
            known.is_ahead = known.is_told && known.highest > limit;
            let (id, at, before) = (partition.id, plan.changes.len(), plan.tasks.len());
            let taken = if known.is_ahead {
                Ok(known.position)
            } else {
                let tasks = &mut plan.tasks;
                cutter.take(reading, id, known.position, share, None, tasks)
            };
            // What was read before an error is fed, and must be announced like any other.
            let has_records = plan.tasks[before..].iter().any(Task::has_records);
            let change = self.change(partition, known, has_records, taken.is_ok());
            let change = change.map(|change| PartitionChange {
                stream,
                partition: id,
                change,
                position: known.position,
            });
            plan.changes.splice(at..at, change);
            outcome = outcome.and(taken.map(|_| ()));
        }
        self.unlisted(stream, &found, known, plan);
        outcome
    }

    /// What a partition did since the last look.
    fn change(
        &self,
        partition: &Partition,
        known: &mut Known,
        has_records: bool,
        is_read: bool,
    ) -> Option<Change> {
        if !known.is_told {
            return Some(Change::Appeared);
        }
        if has_records {
            return known.idle.then_some(Change::Revived);
        }
        let is_silent = is_read && partition.is_live && !known.is_ahead;
        is_silent.then(|| known.fell_silent(self)).flatten()
    }

    /// The highest event time that is not too far ahead: a drift beyond the slowest partition that
    /// is not idle.
    fn limit(&self, stream: u16, known: &BTreeMap<(u16, u32), Known>) -> i64 {
        let Some(drift) = self.max_drift else {
            return i64::MAX;
        };
        let active = known.range((stream, 0)..=(stream, u32::MAX));
        let times = active.filter(|(_, known)| !known.idle && known.highest != NONE);
        let slowest = times.map(|(_, known)| known.highest).min();
        slowest.map_or(i64::MAX, |slowest| slowest.saturating_add(drift))
    }

    /// A partition that the source lists no more sends nothing more.
    fn unlisted(
        &self,
        stream: u16,
        found: &[Partition],
        known: &mut BTreeMap<(u16, u32), Known>,
        plan: &mut Plan,
    ) {
        for ((_, id), known) in known.range_mut((stream, 0)..=(stream, u32::MAX)) {
            let is_listed = found.iter().any(|partition| partition.id == *id);
            if let Some(change) = (!is_listed).then(|| known.fell_silent(self)).flatten() {
                plan.changes.push(PartitionChange {
                    stream,
                    partition: *id,
                    change,
                    position: known.position,
                });
            }
        }
    }
}
