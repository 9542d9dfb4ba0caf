//! What a service answered, once more: from one of its checkpoints through the epochs of its
//! journal to one of them, on any number of workers. Reads its data directory and changes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::cuts::{Cutter, SPLIT_BYTES};
use super::partitions::Partitions;
use super::replay::{KeepAll, Kept, ReplayError, Replayed, readings};
use super::restore::{self, Fate};
use super::run::{Dataflow, Hands, RunError, Said, Setup};
use crate::dataflow::clock::{Times, visible};
use crate::dataflow::feed::Plan;
use crate::dataflow::vault::{Encode, Saved, Vault, Work};
use crate::query::{Catalog, Query};
use crate::source::Source;
use crate::state::{
    BucketOptions, Checkpoint, CheckpointStore, Fingerprint, JournalEntry, JournalReader,
};
use crate::time::{Epoch, Timestamp, hours};

/// How many epochs may be between the journal and the slowest worker.
const IN_FLIGHT: usize = 4;

/// What to reproduce.
pub struct Reproduction {
    /// The query.
    pub query: Query,
    /// What is known of it; of this query alone.
    pub catalog: Catalog,
    /// The sources of its streams, as the service had them.
    pub sources: Vec<Box<dyn Source>>,
    /// In which bucket the checkpoints are; in the data directory where there is none.
    pub bucket: Option<BucketOptions>,
    /// Which checkpoint to begin with; 0 for none, and then the journal must reach back to the
    /// first epoch. The newest that serves, where nothing is said.
    pub checkpoint: Option<Epoch>,
    /// The last epoch; the last of the journal, where nothing is said.
    pub to: Option<Epoch>,
    /// How many workers.
    pub workers: usize,
    /// How far ahead of its arrival an event time may be.
    pub max_ahead: Duration,
}

/// What came out, and what it includes.
#[derive(Debug)]
pub struct Reproduced {
    /// The rows as of the epoch, and what was read on the way.
    pub replayed: Replayed,
    /// The checkpoint it began with.
    pub checkpoint: Option<Epoch>,
    /// The epoch that the rows are as of: the last one that is not after the one asked for.
    pub as_of: Epoch,
    /// No event at or before this was expected any more.
    pub complete_through: Option<Timestamp>,
    /// How far each partition was read.
    pub positions: BTreeMap<String, BTreeMap<u32, u64>>,
}

impl Reproduction {
    /// Runs the epochs.
    pub fn run(self, data_dir: &Path) -> Result<Reproduced, ReplayError> {
        let checkpoint = self.choose(data_dir)?;
        let manifest = checkpoint.as_ref().map(Checkpoint::manifest);
        let (from, times) = (
            manifest.map(|manifest| manifest.epoch),
            restore::times(manifest, &self.catalog),
        );
        let lasts = restore::lasts(manifest, &self.catalog);
        let mut epochs = JournalReader::inspect(data_dir, from.unwrap_or(0))?.peekable();
        let kept = Arc::new(Kept::default());
        let (dataflow, heard) = start(Setup {
            queries: vec![self.query],
            catalog: self.catalog.clone(),
            workers: self.workers,
            times: times.clone(),
            max_ahead: self.max_ahead,
            final_only: false,
            hands: hands(checkpoint, &kept),
            said: Box::new(|_| {}),
        })?;
        let readings = readings(self.sources, &self.catalog)?;
        let mut run = Run {
            partitions: Partitions::new(readings, &times, &lasts, hours(1), BTreeMap::new()),
            cutter: Cutter::new(SPLIT_BYTES),
            catalog: &self.catalog,
            dataflow: &dataflow,
            heard,
            open: VecDeque::new(),
            times,
            as_of: 0,
        };
        if let Some(epoch) = from {
            run.feed(Plan {
                epoch,
                ..Plan::default()
            })?;
        }
        let to = self.to.unwrap_or(Epoch::MAX);
        let is_asked_for =
            |entry: &Result<JournalEntry, _>| !matches!(entry, Ok(e) if e.epoch > to);
        while let Some(entry) = epochs.next_if(is_asked_for) {
            run.again(&entry?)?;
        }
        // Whether the epoch asked for was ever shown can only be told from what came after it.
        if self.to.is_some_and(|to| to > run.as_of) && epochs.peek().is_none() {
            return Err(ReplayError::Refused(format!(
                "epoch {to} is not in the journal of '{}', which ends with epoch {}",
                data_dir.display(),
                run.as_of
            )));
        }
        run.finish()?;
        let Run { times, as_of, .. } = run;
        let counted = dataflow.counted.clone();
        dataflow.finish()?;
        let (complete_through, positions) = labels(&self.catalog, &times);
        Ok(Reproduced {
            replayed: kept.finish(&counted)?,
            checkpoint: from,
            as_of,
            complete_through,
            positions,
        })
    }

    /// The checkpoint to begin with, if its rows are those of this query.
    fn choose(&self, data_dir: &Path) -> Result<Option<Checkpoint>, ReplayError> {
        if let (Some(checkpoint), Some(to)) = (self.checkpoint, self.to)
            && checkpoint > to
        {
            return Err(ReplayError::Refused(format!(
                "checkpoint {checkpoint} is later than epoch {to}; name an older one"
            )));
        }
        let limit = self.checkpoint.or(self.to).unwrap_or(Epoch::MAX);
        let store = CheckpointStore::inspect(data_dir, self.bucket.as_ref())?;
        let chosen = store.newest_valid_through(limit)?;
        let Some(checkpoint) = chosen.filter(|_| self.checkpoint != Some(0)) else {
            return match self.checkpoint {
                None | Some(0) => Ok(None),
                Some(epoch) => Err(no_checkpoint(epoch)),
            };
        };
        let manifest = checkpoint.manifest();
        if let Some(epoch) = self.checkpoint.filter(|epoch| *epoch != manifest.epoch) {
            return Err(no_checkpoint(epoch));
        }
        for query in &self.catalog.queries {
            let saved = manifest.queries.get(&query.name);
            if saved != Some(&Fingerprint(query.fingerprint())) {
                return Err(ReplayError::Refused(format!(
                    "checkpoint {} was not written with this query '{}'; run the build that wrote \
                     it, or replay from the beginning with --checkpoint 0",
                    manifest.epoch, query.name
                )));
            }
        }
        for (boundary, fate) in restore::fates(&checkpoint, &self.catalog)? {
            if let Fate::Refused(reason) = fate {
                return Err(ReplayError::Refused(format!(
                    "the saved state '{boundary}' does not fit this build: {reason}; run the \
                     build that wrote it"
                )));
            }
        }
        Ok(Some(checkpoint))
    }
}

fn no_checkpoint(epoch: Epoch) -> ReplayError {
    ReplayError::Refused(format!(
        "there is no whole checkpoint of epoch {epoch}; `waterclock checkpoint list --data-dir` \
         shows those there are"
    ))
}

/// Epochs under way.
struct Run<'a> {
    partitions: Partitions,
    cutter: Cutter,
    catalog: &'a Catalog,
    dataflow: &'a Dataflow,
    heard: Receiver<Said>,
    /// Epochs fed and not closed.
    open: VecDeque<Epoch>,
    /// As of the newest epoch heard of.
    times: Times,
    /// The newest epoch fed.
    as_of: Epoch,
}

impl Run<'_> {
    /// Feeds a journalled epoch with the cuts it had.
    fn again(&mut self, entry: &JournalEntry) -> Result<(), ReplayError> {
        let mut plan = Plan {
            epoch: entry.epoch,
            ..Plan::default()
        };
        let (catalog, cutter) = (self.catalog, &mut self.cutter);
        if !self.partitions.again(entry, catalog, cutter, &mut plan)? {
            return Err(ReplayError::Refused(format!(
                "the records of epoch {} are not there yet; try again when its sources answer",
                entry.epoch
            )));
        }
        self.feed(plan)
    }

    fn feed(&mut self, plan: Plan) -> Result<(), ReplayError> {
        self.as_of = plan.epoch;
        self.open.push_back(plan.epoch);
        self.dataflow.feed(plan)?;
        self.wait_for(IN_FLIGHT)
    }

    /// Waits until no more than so many epochs are open; each tells its times before it closes.
    fn wait_for(&mut self, most: usize) -> Result<(), ReplayError> {
        while self.open.len() > most {
            let ended = || RunError::Panicked("the workers ended early".to_owned());
            match self.heard.recv().map_err(|_| ended())? {
                Said::Times(_, times) => {
                    self.partitions.hear(&times);
                    self.times = times;
                }
                Said::Closed(frontier) => {
                    self.open.retain(|epoch| *epoch >= frontier);
                }
                Said::Ended => return Err(ended().into()),
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ReplayError> {
        self.wait_for(0)
    }
}

/// What an answer of the query says that it includes.
fn labels(
    catalog: &Catalog,
    times: &Times,
) -> (Option<Timestamp>, BTreeMap<String, BTreeMap<u32, u64>>) {
    let streams = catalog.streams.iter().zip(&times.streams);
    let through = streams.clone().map(|(_, time)| visible(time.watermark));
    // None is less than any: nothing is complete while a stream has not begun.
    let through = through.min().flatten();
    let positions = streams.map(|(stream, time)| {
        let partitions = time.partitions.iter();
        let partitions = partitions.map(|(id, partition)| (*id, partition.position));
        (stream.name.clone(), partitions.collect())
    });
    (through, positions.collect())
}

/// Starts a dataflow that is listened to.
fn start(setup: Setup) -> Result<(Dataflow, Receiver<Said>), RunError> {
    let (sender, heard) = channel();
    let sender = Mutex::new(sender);
    let said = Box::new(move |said| {
        let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
        // Who does not listen any more has failed already.
        let _ = sender.send(said);
    });
    Ok((Dataflow::start(Setup { said, ..setup })?, heard))
}

fn hands(from: Option<Checkpoint>, kept: &Arc<Kept>) -> Arc<dyn Fn(usize) -> Hands + Send + Sync> {
    let (from, kept) = (Arc::new(from), Arc::clone(kept));
    Arc::new(move |_| Hands {
        vault: Rc::new(Restored(Arc::clone(&from))),
        outlet: Box::new(KeepAll {
            kept: Arc::clone(&kept),
            only_counts: false,
        }),
    })
}

/// A vault to find rows in, and to save none.
struct Restored(Arc<Option<Checkpoint>>);

impl Vault for Restored {
    fn is_kept(&self) -> bool {
        false
    }

    fn restore(&self, boundary: &str) -> Saved {
        restore::saved(Option::as_ref(&self.0), boundary, None)
    }

    fn save(&self, _boundary: &str, _epoch: Epoch, _rows: Encode) {}

    fn is_busy(&self) -> bool {
        false
    }

    fn elsewhere(&self, _work: Work) {}
}
