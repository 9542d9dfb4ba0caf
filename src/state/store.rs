//! The checkpoints of a service: which there are, which can be trusted, which can go.

use std::path::Path;
use std::sync::Arc;

use super::bucket::{Bucket, BucketOptions};
use super::checkpoint::{Checkpoint, Problem};
use super::codec::Codec;
use super::data_dir::DataDir;
use super::disk::Disk;
use super::error::StateError;
use super::manifest::Manifest;
use super::objects::Objects;
use super::shelf::{Known, Shelf};
use super::writer::CheckpointWriter;
use crate::time::Epoch;
use crate::view::CheckpointInfo;

/// How many checkpoints are kept at least: one may turn out to be damaged.
const LEAST_RETAINED: usize = 2;

/// Where and how checkpoints are kept.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// How many of the newest are kept; at least 2.
    pub retain: usize,
    /// In which format they are written.
    pub codec: Codec,
    /// In which bucket they are; in the data directory where there is none.
    pub bucket: Option<BucketOptions>,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            retain: LEAST_RETAINED,
            codec: Codec::default(),
            bucket: None,
        }
    }
}

/// The checkpoints of a service. Cloning is shallow.
#[derive(Clone, Debug)]
pub struct CheckpointStore(pub(super) Arc<Shelf>);

impl CheckpointStore {
    /// Opens the checkpoints of a data directory, wherever they are, and removes what was left
    /// unfinished. Those in a bucket are ours from here on, until the last clone is dropped.
    pub fn open(data: &DataDir, options: &StoreOptions) -> Result<CheckpointStore, StateError> {
        let objects: Arc<dyn Objects> = match &options.bucket {
            None => Arc::new(Disk::open(data.checkpoints_path())?),
            Some(bucket) => Arc::new(Bucket::own(bucket, data.path())?),
        };
        let retain = options.retain.max(LEAST_RETAINED);
        let shelf = Shelf::new(objects, options.codec, retain);
        shelf.own()?;
        shelf.collect()?;
        Ok(CheckpointStore(Arc::new(shelf)))
    }

    /// Looks at checkpoints that another process may own. Nothing is written or removed by looking.
    pub fn inspect(
        data_dir: &Path,
        bucket: Option<&BucketOptions>,
    ) -> Result<CheckpointStore, StateError> {
        let objects: Arc<dyn Objects> = match bucket {
            None => Arc::new(Disk::at(data_dir.join("checkpoints"))),
            Some(bucket) => Arc::new(Bucket::open(bucket)?),
        };
        let shelf = Shelf::new(objects, Codec::default(), usize::MAX);
        Ok(CheckpointStore(Arc::new(shelf)))
    }

    /// Starts a checkpoint of a closed epoch, greater than that of every other one. One is written
    /// at a time.
    pub fn begin(&self, epoch: Epoch, run: u64) -> Result<CheckpointWriter, StateError> {
        let refused =
            |why: String| StateError::Refused(format!("checkpoint {epoch} cannot begin: {why}"));
        if let Some(newest) = self.0.epochs()?.pop().filter(|newest| *newest >= epoch) {
            return Err(refused(format!("checkpoint {newest} is not older")));
        }
        if !self.0.begin_writing() {
            return Err(refused("another one is being written".to_owned()));
        }
        Ok(CheckpointWriter::new(Arc::clone(&self.0), epoch, run))
    }

    /// The newest checkpoint of which every byte verifies; `None` when there is none at all.
    /// Damaged ones are passed over and named in [`Checkpoint::skipped`]; it is an error when all
    /// are, or when one was written by a newer version.
    pub fn newest_valid(&self) -> Result<Option<Checkpoint>, StateError> {
        self.newest_valid_through(Epoch::MAX)
    }

    /// The same, of checkpoints that are not newer than an epoch.
    pub fn newest_valid_through(&self, limit: Epoch) -> Result<Option<Checkpoint>, StateError> {
        let (mut skipped, mut known): (Vec<Problem>, _) = (Vec::new(), Known::new());
        let epochs = self.0.listed()?.into_iter().rev();
        for epoch in epochs.filter(|epoch| *epoch <= limit) {
            match self.0.check(epoch, &mut known)? {
                Ok(manifest) => {
                    return Ok(Some(Checkpoint {
                        objects: Arc::clone(&self.0.objects),
                        codec: self.0.codec,
                        manifest,
                        skipped,
                    }));
                }
                Err(problems) => {
                    for problem in &problems {
                        tracing::error!("passing over {problem}");
                    }
                    skipped.extend(problems);
                }
            }
        }
        if skipped.is_empty() {
            return Ok(None);
        }
        let problems: Vec<String> = skipped.iter().map(Problem::to_string).collect();
        let problems = problems.join("; ");
        Err(StateError::NoneValid {
            path: self.0.objects.path(""),
            problems,
        })
    }

    /// The checkpoints whose manifest can be read, newest first.
    pub fn list(&self) -> Result<Vec<CheckpointInfo>, StateError> {
        let mut list = Vec::new();
        for (epoch, found) in self.0.manifests()?.into_iter().rev() {
            match found {
                Ok(manifest) => list.push(manifest.info()),
                Err(cause) => tracing::warn!("not listing checkpoint {epoch}: {cause}"),
            }
        }
        Ok(list)
    }

    /// The oldest checkpoint that a restart may begin with, those with a label too; `None` while
    /// there are fewer than the retained ones, no two of them share nothing, or a sink has come
    /// less far than the oldest: then a restart may have to begin with the journal's first line.
    pub fn oldest_needed(&self) -> Result<Option<Epoch>, StateError> {
        self.0.oldest_needed()
    }

    /// Builds the next checkpoint on this one, from which the service starts.
    pub fn resume(&self, from: &Checkpoint) {
        self.0.resume(&from.manifest);
    }

    /// Whether the checkpoints outlive the data directory.
    pub fn is_apart(&self) -> bool {
        self.0.objects.is_apart()
    }

    /// The checkpoints as messages name them.
    pub fn place(&self) -> std::path::PathBuf {
        self.0.objects.path("")
    }

    /// Keeps all checkpoints out of the way, whatever their condition; tells where they are now.
    /// Those in the data directory were put aside with it.
    pub fn put_aside(&self, run: u64) -> Result<std::path::PathBuf, StateError> {
        let folder = format!("aside-run-{run}/");
        self.0.objects.put_aside(&folder)?;
        self.0.own()?;
        Ok(self.0.objects.path(&folder))
    }

    /// The highest run and epoch of all checkpoints.
    pub fn highest(&self) -> Result<(u64, Epoch), StateError> {
        let manifests = self.0.manifests()?;
        let runs = manifests.values().flatten().map(|manifest| manifest.run);
        let epoch = manifests.keys().next_back().copied();
        Ok((runs.max().unwrap_or(0), epoch.unwrap_or(0)))
    }

    /// Notes how the last checkpoint ended; `None` is well.
    pub fn note(&self, problem: Option<String>) {
        self.0.note(problem);
    }

    /// Why the last checkpoint that was tried failed.
    pub fn problem(&self) -> Option<String> {
        self.0.problem()
    }

    /// Reads every byte of one checkpoint, or of all, and tells what is wrong.
    pub fn verify(&self, epoch: Option<Epoch>) -> Result<Vec<Problem>, StateError> {
        let epochs = epoch.map_or_else(|| self.0.listed(), |epoch| Ok(vec![epoch]))?;
        let (mut problems, mut known) = (Vec::new(), Known::new());
        for epoch in epochs {
            let checked: Result<Manifest, _> = self.0.check(epoch, &mut known)?;
            problems.extend(checked.err().unwrap_or_default());
        }
        Ok(problems)
    }

    /// Deletes a checkpoint; the last whole one only when `forced`.
    pub fn delete(&self, epoch: Epoch, forced: bool) -> Result<(), StateError> {
        let (epochs, mut known) = (self.0.listed()?, Known::new());
        if !epochs.contains(&epoch) {
            return Err(StateError::Refused(format!(
                "checkpoint {epoch} is not there"
            )));
        }
        let mut is_whole = |other: &Epoch| {
            *other != epoch && matches!(self.0.check(*other, &mut known), Ok(Ok(_)))
        };
        if !forced && !epochs.iter().any(&mut is_whole) {
            return Err(StateError::Refused(format!(
                "checkpoint {epoch} is the last whole one: a restart would begin without state; \
                 force it to delete it all the same"
            )));
        }
        self.0.remove_manifest(epoch)?;
        self.0.collect()
    }
}
