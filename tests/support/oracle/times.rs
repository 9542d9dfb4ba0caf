//! What each record's partition knew before it, and each stream after each epoch: watermarks,
//! read from the definition.

use std::collections::BTreeMap;

use waterclock::testing::Change;

use super::cases::{Fed, Input};
use super::queries::STREAMS;

/// A record, and the watermark of its partition just before it.
#[derive(Clone, Debug)]
pub struct Judged {
    pub line: Fed,
    /// Which of the epochs it came in.
    pub epoch: usize,
    /// None before any event.
    pub watermark: Option<i64>,
}

/// Everything known after an epoch.
#[derive(Clone, Debug, Default)]
pub struct Prefix {
    /// The lines so far.
    pub lines: Vec<Judged>,
    /// Which epoch was the last.
    pub epoch: usize,
    /// Each stream's watermark.
    pub watermarks: BTreeMap<&'static str, Option<i64>>,
    /// Each stream's watermark after the epoch before.
    before: BTreeMap<&'static str, Option<i64>>,
}

impl Prefix {
    /// The watermark of a query that reads these streams.
    pub fn over(&self, streams: &[&str]) -> Option<i64> {
        least(&self.watermarks, streams)
    }

    /// The same, after the epoch before.
    pub fn over_before(&self, streams: &[&str]) -> Option<i64> {
        least(&self.before, streams)
    }
}

fn least(watermarks: &BTreeMap<&'static str, Option<i64>>, streams: &[&str]) -> Option<i64> {
    // `None` is less than any watermark.
    streams.iter().map(|stream| watermarks[stream]).min()?
}

#[derive(Clone, Copy, Default)]
struct Partition {
    highest: Option<i64>,
    floor: Option<i64>,
    is_idle: bool,
}

impl Partition {
    fn watermark(&self, lateness: i64) -> Option<i64> {
        self.highest.map(|time| time - lateness).max(self.floor)
    }
}

/// What is known after each epoch.
pub fn prefixes(inputs: &[Input], lateness: i64) -> Vec<Prefix> {
    let mut partitions: BTreeMap<(&str, u32), Partition> = BTreeMap::new();
    let mut now = Prefix {
        watermarks: STREAMS.iter().map(|stream| (*stream, None)).collect(),
        ..Prefix::default()
    };
    let mut all = Vec::new();
    for (epoch, input) in inputs.iter().enumerate() {
        now.epoch = epoch;
        now.before = now.watermarks.clone();
        for (stream, partition, change) in &input.changes {
            let partition = partitions.entry((stream, *partition)).or_default();
            match change {
                Change::Idle => partition.is_idle = true,
                Change::Appeared | Change::Revived => {
                    partition.is_idle = false;
                    partition.floor = now.watermarks[stream];
                }
            }
        }
        for line in &input.lines {
            let partition = partitions
                .get_mut(&(line.stream, line.partition))
                .expect("a partition appears before its records");
            now.lines.push(Judged {
                line: line.clone(),
                epoch,
                watermark: partition.watermark(lateness),
            });
            partition.highest = partition.highest.max(line.time());
        }
        for (stream, watermark) in &mut now.watermarks {
            let active = partitions
                .iter()
                .filter(|((of, _), partition)| of == stream && !partition.is_idle);
            let least = active
                .map(|(_, partition)| partition.watermark(lateness))
                .min();
            *watermark = (*watermark).max(least.flatten());
        }
        all.push(now.clone());
    }
    all
}
