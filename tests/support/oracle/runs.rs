//! What the engine answers, epoch by epoch.

use std::collections::BTreeMap;

use waterclock::prelude::millis;
use waterclock::query::{Catalog, Overrides};
use waterclock::row::Row;
use waterclock::source::Source;
use waterclock::testing::{Bag, Mark, MemorySource, Round, Saved, Steps};
use waterclock::time::Epoch;
use waterclock::worker::replay::Replay;

use super::answers::Rows;
use super::cases::{Input, PARTITIONS};
use super::names::{QUERIES, streams_of};
use super::queries::{STREAMS, changed, queries};

/// How a dataflow is run. None of it may change an answer.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub workers: usize,
    /// Bytes per chunk; all of a partition's in one where nothing is said.
    pub chunk_bytes: Option<usize>,
    /// How many epochs the workers are given at once.
    pub at_once: usize,
}

/// The lateness bound of streams, in ms.
fn lateness(ms: i64, streams: &[&str]) -> Overrides {
    let bound = millis(u64::try_from(ms).expect("a lateness bound is positive"));
    Overrides {
        lateness: streams.iter().map(|s| ((*s).to_owned(), bound)).collect(),
    }
}

/// Starts the queries of a shape.
pub fn start(shape: usize, late_ms: i64, manner: Manner, saved: Option<Saved>) -> Steps {
    let overrides = lateness(late_ms, &STREAMS);
    Steps::with(queries(shape), manner.workers, saved, &overrides)
}

/// Starts some of the queries from a checkpoint of all, one of them with other logic.
pub fn start_changed(
    shape: usize,
    late_ms: i64,
    manner: Manner,
    saved: Saved,
    names: &[&str],
) -> Steps {
    let overrides = lateness(late_ms, &streams_of_all(names));
    Steps::with(
        changed(shape, names),
        manner.workers,
        Some(saved),
        &overrides,
    )
}

/// The streams that any of the queries reads.
pub fn streams_of_all(queries: &[&str]) -> Vec<&'static str> {
    let reads = |stream: &&&str| queries.iter().any(|q| streams_of(q).contains(stream));
    STREAMS.iter().filter(reads).copied().collect()
}

/// The number of an epoch. Numbers have gaps, as those of a wall clock do.
pub fn number(at: usize) -> Epoch {
    7 + 3 * at as Epoch
}

/// Feeds the inputs of a range; the last one asks something besides.
pub fn feed(
    steps: &mut Steps,
    manner: Manner,
    inputs: &[Input],
    range: std::ops::Range<usize>,
    mark: Mark,
) {
    let last = range.end - 1;
    let rounds = range.map(|at| Round {
        chunk_bytes: manner.chunk_bytes,
        mark: if at == last { mark } else { Mark::None },
        ..inputs[at].round().at(number(at))
    });
    let rounds: Vec<_> = rounds.collect();
    for group in rounds.chunks(manner.at_once.max(1)) {
        steps.feed(group.to_vec());
        steps.settle();
    }
}

/// Everything a run said, to be compared as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub changes: BTreeMap<&'static str, Vec<(Epoch, Bag)>>,
    pub late: BTreeMap<&'static str, Bag>,
    pub late_total: BTreeMap<&'static str, u64>,
    pub rejected: BTreeMap<&'static str, Bag>,
    pub watermarks: BTreeMap<&'static str, Vec<(Epoch, Option<i64>)>>,
}

impl Said {
    pub fn of(steps: &Steps) -> Said {
        let queries = || QUERIES.iter().copied();
        let streams = || STREAMS.iter().copied();
        let watermarks = streams().map(|s| {
            let all = steps.watermarks(s).into_iter();
            (s, all.map(|(epoch, w)| (epoch, w.map(|w| w.0))).collect())
        });
        Said {
            changes: queries().map(|q| (q, steps.changes(q))).collect(),
            late: queries().map(|q| (q, steps.late(q))).collect(),
            late_total: queries().map(|q| (q, steps.late_total(q))).collect(),
            rejected: streams().map(|s| (s, steps.rejected(s))).collect(),
            watermarks: watermarks.collect(),
        }
    }
}

impl Said {
    /// This run and one that went on from its last epoch, as one. The first that the other says is
    /// what it restored: what this one left.
    pub fn then(mut self, next: Said) -> Said {
        for (query, said) in &mut self.changes {
            let (restored_at, _) = next.watermarks[STREAMS[0]][0];
            let restored = |(epoch, _): &&(Epoch, Bag)| *epoch == restored_at;
            let first = next.changes[query].first().filter(restored);
            let first = first.map(|(_, rows)| plain(rows)).unwrap_or_default();
            let mut left = Rows::new();
            for (_, changes) in said.iter() {
                fold(&mut left, changes);
            }
            assert_eq!(first, left, "{query} as restored");
            let later = next.changes[query].iter();
            said.extend(later.filter(|(epoch, _)| *epoch > restored_at).cloned());
        }
        for (stream, watermarks) in &mut self.watermarks {
            let mut later = next.watermarks[stream].iter().copied();
            assert_eq!(later.next(), watermarks.last().copied(), "{stream}");
            watermarks.extend(later);
        }
        Said {
            changes: self.changes,
            watermarks: self.watermarks,
            ..next
        }
    }
}

/// Rows in the oracle's words.
pub fn plain(bag: &Bag) -> Rows {
    let row = |row: &Row| {
        let final_at = row.final_at().map(|at| at.0);
        (row.key().to_string(), row.value().to_string(), final_at)
    };
    bag.iter().map(|(r, count)| (row(r), *count)).collect()
}

/// Adds an epoch's changes to rows.
pub fn fold(rows: &mut Rows, changes: &Bag) {
    for (row, diff) in plain(changes) {
        let count = rows.entry(row).or_insert(0);
        *count += diff;
    }
    rows.retain(|_, count| *count != 0);
}

/// Replays the inputs as files through one query: its rows, and how many records were late and
/// rejected.
pub fn replay(
    shape: usize,
    late_ms: i64,
    query: &str,
    inputs: &[Input],
    workers: usize,
    split_bytes: usize,
) -> (Rows, u64, u64) {
    let mut all = queries(shape).into_iter();
    let query = all.find(|q| q.name == query).expect("a query of ours");
    let reads = streams_of(&query.name);
    let overrides = lateness(late_ms, reads);
    let catalog = Catalog::of(std::slice::from_ref(&query), &overrides).expect("it builds");
    let mut texts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in inputs.iter().flat_map(|input| &input.lines) {
        let partitions = texts.entry(line.stream).or_default();
        partitions.resize(PARTITIONS as usize, String::new());
        partitions[line.partition as usize] += &line.text;
    }
    let sources = reads.iter().map(|stream| -> Box<dyn Source> {
        let texts = texts.get(stream).into_iter().flatten();
        let texts: Vec<&str> = texts.map(String::as_str).collect();
        Box::new(MemorySource::new(stream, &texts))
    });
    let mut replay = Replay::new(query, catalog, sources.collect());
    (replay.workers, replay.split_bytes) = (workers, split_bytes);
    let replayed = replay.run().expect("it runs to the end");
    (plain(&replayed.rows), replayed.late, replayed.rejected)
}
