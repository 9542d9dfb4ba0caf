//! Replay: files to their end, every window closed, final rows out, in order. The same output for
//! any number of workers and any split.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};

use super::cuts::{Cutter, Reading, SPLIT_BYTES};
use super::restore;
use super::run::{Dataflow, Hands, RunError, Said, Setup};
use crate::dataflow::bounded::Shown;
use crate::dataflow::decode::Counted;
use crate::dataflow::feed::{Change, Mark, PartitionChange, Plan};
use crate::dataflow::vault::NoVault;
use crate::query::{Answers, BuildError, Catalog, Fail, Outlet, Query};
use crate::row::{Ordered, Row, consolidate};
use crate::source::{Source, SourceError};
use crate::state::StateError;
use crate::time::{Epoch, hours};

/// How many epochs may be between the files and the slowest worker.
const IN_FLIGHT: u64 = 4;

/// What to replay.
pub struct Replay {
    /// The query.
    pub query: Query,
    /// What is known of it; of this query alone.
    pub catalog: Catalog,
    /// The streams' files. A stream without a source has no records.
    pub sources: Vec<Box<dyn Source>>,
    /// How many workers.
    pub workers: usize,
    /// How much of a partition one worker decodes at a time; affects speed only.
    pub split_bytes: usize,
    /// Whether rows are made and counted, but neither written nor kept.
    pub only_counts: bool,
}

/// What came out.
#[derive(Debug)]
pub struct Replayed {
    /// The rows and how often each occurs, in order; none where they are only counted.
    pub rows: Vec<(Row, i64)>,
    /// How many rows there are, the same one as often as it occurs.
    pub count: i64,
    /// Records read, good and bad.
    pub events: u64,
    /// Records that could not be read.
    pub rejected: u64,
    /// Records that were late for every window.
    pub late: u64,
}

/// Why a replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The query cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// User code that sees more than one record panicked.
    #[error("query '{0}' failed: {1}")]
    Failed(String, String),
    /// The workers stopped.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The data directory cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The data directory does not hold what was asked for.
    #[error("{0}")]
    Refused(String),
}

impl Replay {
    /// A replay of one query on one worker.
    pub fn new(query: Query, catalog: Catalog, sources: Vec<Box<dyn Source>>) -> Replay {
        Replay {
            query,
            catalog,
            sources,
            workers: 1,
            split_bytes: SPLIT_BYTES,
            only_counts: false,
        }
    }

    /// Runs it to the end.
    pub fn run(self) -> Result<Replayed, ReplayError> {
        let kept = Arc::new(Kept::default());
        let (said_sender, said) = channel();
        let times = restore::times(None, &self.catalog);
        let mut sources = self.sources;
        for source in &mut sources {
            source.leave_unread();
        }
        let readings = readings(sources, &self.catalog)?;
        let hands = {
            let (kept, only_counts) = (Arc::clone(&kept), self.only_counts);
            move |_| Hands {
                vault: Rc::new(NoVault),
                outlet: Box::new(KeepAll {
                    kept: Arc::clone(&kept),
                    only_counts,
                }),
            }
        };
        let dataflow = Dataflow::start(Setup {
            queries: vec![self.query],
            catalog: self.catalog,
            workers: self.workers,
            times,
            // Files have no arrival, so nothing is ahead of it.
            max_ahead: hours(1),
            final_only: true,
            hands: Arc::new(hands),
            said: Box::new(move |said| {
                if let Said::Closed(frontier) = said {
                    let _ = said_sender.send(frontier);
                }
            }),
        })?;
        let mut closed = 0;
        let mut epochs = Epochs {
            readings,
            cutter: Cutter::new(self.split_bytes),
            epoch_bytes: self.workers.max(1) * SPLIT_BYTES,
            last: 0,
        };
        let mut positions = BTreeMap::new();
        while let Some(plan) = epochs.next(&mut positions)? {
            while epochs.last.saturating_sub(closed) > IN_FLIGHT {
                let ended = |_| RunError::Panicked("the workers ended early".to_owned());
                closed = said.recv().map_err(ended)?;
            }
            dataflow.feed(plan)?;
        }
        dataflow.feed(Plan {
            epoch: epochs.last + 1,
            mark: Mark::End,
            ..Plan::default()
        })?;
        let counted = dataflow.counted.clone();
        dataflow.finish()?;
        for reading in &mut epochs.readings {
            // What the workers could not read is an error too.
            reading.source.partitions()?;
        }
        kept.finish(&counted)
    }
}

pub(super) fn readings(
    sources: Vec<Box<dyn Source>>,
    catalog: &Catalog,
) -> Result<Vec<Reading>, BuildError> {
    let reading = |source: Box<dyn Source>| {
        let stream = catalog.stream(source.stream()).ok_or_else(|| {
            let known = catalog.stream_names().join(", ");
            BuildError::UnknownStream(source.stream().to_owned(), known)
        })?;
        Ok(Reading { source, stream })
    };
    sources.into_iter().map(reading).collect()
}

struct Epochs {
    readings: Vec<Reading>,
    cutter: Cutter,
    /// How much of a partition an epoch takes: as much as all workers decode at once. What it is
    /// made into then stays in their caches on its way to the answer.
    epoch_bytes: usize,
    last: Epoch,
}

impl Epochs {
    /// The next epoch; none at the end of all files.
    fn next(
        &mut self,
        positions: &mut BTreeMap<(u16, u32), u64>,
    ) -> Result<Option<Plan>, SourceError> {
        let mut plan = Plan {
            epoch: self.last + 1,
            ..Plan::default()
        };
        for reading in &mut self.readings {
            for partition in reading.source.partitions()? {
                let stream = reading.stream;
                let position = positions.entry((stream, partition.id)).or_insert_with(|| {
                    let (partition, change) = (partition.id, Change::Appeared);
                    plan.changes.push(PartitionChange {
                        stream,
                        partition,
                        change,
                        position: 0,
                    });
                    0
                });
                *position = self.cutter.take(
                    reading,
                    partition.id,
                    *position,
                    self.epoch_bytes,
                    None,
                    &mut plan.tasks,
                )?;
            }
        }
        if plan.tasks.is_empty() && plan.changes.is_empty() {
            return Ok(None);
        }
        self.last = plan.epoch;
        Ok(Some(plan))
    }
}

/// The rows of all workers, added up.
#[derive(Default)]
pub(super) struct Kept {
    rows: Mutex<Runs>,
    /// Rows that are only counted.
    count: AtomicI64,
    late: Mutex<u64>,
    failed: Mutex<Option<ReplayError>>,
}

impl Kept {
    fn add(&self, rows: Vec<(Row, i64)>) {
        let mut all = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        all.count += rows.len();
        all.epochs.push(rows);
        // Rows that revise each other are netted each time the bag has doubled.
        if all.count > (2 * all.netted).max(1 << 20) {
            let rows = all.take();
            all.netted = rows.len();
            all.count = rows.len();
            all.epochs.push(rows);
        }
    }

    /// What came out once the workers have ended.
    pub fn finish(&self, counted: &[Arc<Counted>]) -> Result<Replayed, ReplayError> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = failed.take() {
            return Err(error);
        }
        let sum = |of: fn(&Counted) -> &AtomicU64| -> u64 {
            counted
                .iter()
                .map(|counted| of(counted).load(Ordering::Acquire))
                .sum()
        };
        let rejected = sum(|counted| &counted.rejected);
        let rows = self.in_order();
        let listed: i64 = rows.iter().map(|(_, times)| times).sum();
        Ok(Replayed {
            count: listed + self.count.load(Ordering::Acquire),
            rows,
            events: sum(|counted| &counted.taken) + rejected,
            rejected,
            late: *self.late.lock().unwrap_or_else(PoisonError::into_inner),
        })
    }

    fn in_order(&self) -> Vec<(Row, i64)> {
        let mut all = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        all.take()
    }
}

/// Rows as they came: epochs of a worker, each in order.
#[derive(Default)]
struct Runs {
    epochs: Vec<Vec<(Row, i64)>>,
    count: usize,
    /// How many there were when they were last netted.
    netted: usize,
}

impl Runs {
    /// All rows in order, each with how often it occurs.
    fn take(&mut self) -> Vec<(Row, i64)> {
        let mut rows = Vec::with_capacity(std::mem::take(&mut self.count));
        let epochs = std::mem::take(&mut self.epochs).into_iter();
        rows.extend(
            epochs
                .flatten()
                .map(|(row, times)| (Ordered::from(row), times)),
        );
        let rows = consolidate(rows).into_iter();
        rows.map(|(Ordered { row, .. }, times)| (row, times))
            .collect()
    }
}

/// Keeps all rows, and of late and rejected records how many there are.
pub(super) struct KeepAll {
    pub kept: Arc<Kept>,
    pub only_counts: bool,
}

impl Outlet for KeepAll {
    fn rows(&self, _query: &str) -> Answers {
        let kept = Arc::clone(&self.kept);
        if self.only_counts {
            return Answers::Counts(Box::new(move |rows| {
                kept.count.fetch_add(rows, Ordering::AcqRel);
            }));
        }
        Answers::Rows(Box::new(move |_, _, rows| kept.add(rows)))
    }

    fn late(&self, _query: &str) -> Shown {
        let kept = Arc::clone(&self.kept);
        let total = move |total| {
            *kept.late.lock().unwrap_or_else(PoisonError::into_inner) = total;
        };
        Shown {
            rows: Box::new(|_, _| {}),
            total: Box::new(total),
        }
    }

    fn failed(&self, query: &str) -> Fail {
        let (kept, query) = (Arc::clone(&self.kept), query.to_owned());
        Rc::new(move |reason| {
            let said = ReplayError::Failed(query.clone(), reason);
            kept.failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(said);
        })
    }

    fn rejected(&self, _stream: &str) -> Shown {
        Shown {
            rows: Box::new(|_, _| {}),
            total: Box::new(|_| {}),
        }
    }
}
