//! What a service starts from: the checkpoint that all can go on from, the journal after it, and
//! where positions begin of what is not here any more.

use std::collections::BTreeMap;

use super::sinks::SinkPlan;
use crate::state::{Checkpoint, CheckpointStore, DataDir, Journal, StateError};
use crate::time::Epoch;
use crate::view::Sent;

/// What a service starts from.
pub struct Start {
    pub(super) data: DataDir,
    pub(super) store: CheckpointStore,
    pub(super) journal: Journal,
    /// The checkpoint to restore; `None` begins with the journal's first line.
    pub(super) checkpoint: Option<Checkpoint>,
    /// How far each sink that goes on had sent when the newest checkpoint was taken.
    pub(super) sent: BTreeMap<String, Sent>,
    /// Whether the checkpoint is of another directory, which is lost.
    is_adopted: bool,
}

impl Start {
    /// Chooses the newest checkpoint that every sink can go on from. A sink of which nothing is
    /// noted, or that is to begin anew, has no say. Where there is none left for a sink, that sink
    /// will stop.
    ///
    /// A new directory begins with the newest checkpoint of a store that outlived its own, in a new
    /// run: the epochs after it are not known, and are made anew of what the sources still have.
    pub fn choose(
        mut data: DataDir,
        store: CheckpointStore,
        plans: &[SinkPlan],
    ) -> Result<Start, StateError> {
        let newest = store.newest_valid()?;
        let is_adopted = newest.is_some() && store.is_apart() && data.is_new()?;
        if is_adopted {
            let (run, epoch) = store.highest()?;
            data.follow(run, epoch)?;
            tracing::warn!(
                run = data.run(),
                "a new data directory and a new run begin with the newest checkpoint in {}: what \
                 was posted after it is not there",
                store.place().display()
            );
        }
        let journal = Journal::open(&data)?;
        let Some(newest) = newest else {
            return Ok(Start {
                data,
                store,
                journal,
                checkpoint: None,
                sent: BTreeMap::new(),
                is_adopted,
            });
        };
        if store.is_apart() && !is_adopted {
            belongs(&journal, newest.manifest().epoch, &store, &data)?;
        }
        let mut sent = newest.manifest().sinks.clone();
        sent.retain(|name, _| {
            let goes_on = |plan: &SinkPlan| plan.spec.name == *name && !plan.restarts;
            plans.iter().any(goes_on)
        });
        let least = sent.values().map(|sent| sent.through).min();
        let epoch = newest.manifest().epoch;
        let checkpoint = match least.filter(|least| *least < epoch && !is_adopted) {
            None => Some(newest),
            Some(least) => match store.newest_valid_through(least) {
                Ok(Some(older)) => Some(older),
                _ if reaches_back(&journal)? => None,
                _ => Some(newest),
            },
        };
        Ok(Start {
            data,
            store,
            journal,
            checkpoint,
            sent,
            is_adopted,
        })
    }

    /// The data directory.
    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// The position with which each embedded stream begins that is not here any more.
    pub fn begins(&self) -> BTreeMap<String, u64> {
        let adopted = self.checkpoint.as_ref().filter(|_| self.is_adopted);
        let streams = adopted.iter().flat_map(|from| &from.manifest().streams);
        let begins = streams.filter_map(|(name, stream)| {
            let position = stream.partitions.get(&0)?.position;
            Some((name.clone(), position))
        });
        begins.collect()
    }
}

/// That the checkpoints in a bucket are of this directory's journal.
fn belongs(
    journal: &Journal,
    epoch: Epoch,
    store: &CheckpointStore,
    data: &DataDir,
) -> Result<(), StateError> {
    if journal.knows(epoch)? {
        return Ok(());
    }
    Err(StateError::Refused(format!(
        "checkpoint {epoch} in {} is not of the journal in '{}': use the data directory that it \
         was written with, or a new one, which begins with this checkpoint, or another prefix",
        store.place().display(),
        data.path().display()
    )))
}

/// Whether the journal still has its first line.
fn reaches_back(journal: &Journal) -> Result<bool, StateError> {
    Ok(matches!(journal.read_after(0)?.next(), Some(Ok(_))))
}
