//! The checkpoints of a data directory: which there are, which can be trusted, which can go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checkpoint::{
    Checkpoint, Problem, manifest_path, read_manifest, segments_path, verify_segments,
};
use super::data_dir::DataDir;
use super::error::StateError;
use super::files::{UNFINISHED, create_dir, failed, names, sync_dir};
use super::manifest::Manifest;
use super::writer::CheckpointWriter;
use crate::time::Epoch;
use crate::view::CheckpointInfo;

/// How many checkpoints are kept at least: one may turn out to be damaged.
const LEAST_RETAINED: usize = 2;

/// The checkpoints of a data directory. Cloning is shallow.
#[derive(Clone, Debug)]
pub struct CheckpointStore(Arc<Shelf>);

/// What the store and a writer share.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) dir: PathBuf,
    retain: usize,
    state: Mutex<ShelfState>,
}

#[derive(Debug, Default)]
struct ShelfState {
    /// Whether a checkpoint is being written.
    writing: bool,
    /// Checkpoints found damaged: they do not count as retained.
    damaged: BTreeSet<Epoch>,
}

/// Which checkpoints are kept.
struct Kept {
    /// These and all newer ones; `None` while there are fewer than the retained ones.
    from: Option<Epoch>,
    /// The newest that all sinks can go on from.
    base: Option<Epoch>,
    /// Whether there are sinks that go on from somewhere.
    has_sinks: bool,
}

impl CheckpointStore {
    /// Opens the checkpoints of a data directory, to keep the newest `retain` of them (at least
    /// 2), and removes what was left unfinished.
    pub fn open(data: &DataDir, retain: usize) -> Result<CheckpointStore, StateError> {
        let store = CheckpointStore::at(data.checkpoints_path(), retain.max(LEAST_RETAINED));
        create_dir(&segments_path(&store.0.dir))?;
        sync_dir(&store.0.dir)?;
        store.0.collect()?;
        Ok(store)
    }

    /// Looks at the checkpoints of a data directory that another process may own. Nothing is
    /// written or removed by looking.
    pub fn inspect(data_dir: &Path) -> CheckpointStore {
        CheckpointStore::at(data_dir.join("checkpoints"), usize::MAX)
    }

    fn at(dir: PathBuf, retain: usize) -> CheckpointStore {
        CheckpointStore(Arc::new(Shelf {
            dir,
            retain,
            state: Mutex::default(),
        }))
    }

    /// Starts a checkpoint of a closed epoch, greater than that of every other one. One is written
    /// at a time.
    pub fn begin(&self, epoch: Epoch, run: u64) -> Result<CheckpointWriter, StateError> {
        let mut state = self.0.state();
        if state.writing {
            let text = format!("checkpoint {epoch} cannot begin: another one is being written");
            return Err(StateError::Refused(text));
        }
        if let Some(newest) = self.0.epochs()?.pop().filter(|newest| *newest >= epoch) {
            return Err(StateError::Refused(format!(
                "checkpoint {epoch} cannot begin: checkpoint {newest} is not older"
            )));
        }
        state.writing = true;
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
        let mut skipped: Vec<Problem> = Vec::new();
        let epochs = self.0.epochs()?.into_iter().rev();
        for epoch in epochs.filter(|epoch| *epoch <= limit) {
            match self.0.check(epoch)? {
                Ok(manifest) => {
                    let segments = segments_path(&self.0.dir);
                    return Ok(Some(Checkpoint {
                        segments,
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
            path: self.0.dir.clone(),
            problems,
        })
    }

    /// The checkpoints whose manifest can be read, newest first.
    pub fn list(&self) -> Result<Vec<CheckpointInfo>, StateError> {
        let mut list = Vec::new();
        for epoch in self.0.epochs()?.into_iter().rev() {
            match read_manifest(&self.0.dir, epoch) {
                Ok(manifest) => list.push(manifest.info()),
                Err(cause) => tracing::warn!("not listing checkpoint {epoch}: {cause}"),
            }
        }
        Ok(list)
    }

    /// The oldest checkpoint that a restart may begin with; `None` while there are fewer than the
    /// retained ones, or a sink has come less far than the oldest: then a restart may have to begin
    /// with the journal's first line.
    pub fn oldest_needed(&self) -> Result<Option<Epoch>, StateError> {
        let kept = self.0.kept()?;
        let from = kept.from.filter(|_| kept.base.is_some() || !kept.has_sinks);
        Ok(from.map(|from| kept.base.map_or(from, |base| base.min(from))))
    }

    /// Reads every byte of one checkpoint, or of all, and tells what is wrong.
    pub fn verify(&self, epoch: Option<Epoch>) -> Result<Vec<Problem>, StateError> {
        let epochs = epoch.map_or_else(|| self.0.epochs(), |epoch| Ok(vec![epoch]))?;
        let mut problems = Vec::new();
        for epoch in epochs {
            problems.extend(self.0.check(epoch)?.err().unwrap_or_default());
        }
        Ok(problems)
    }

    /// Deletes a checkpoint; the last whole one only when `forced`.
    pub fn delete(&self, epoch: Epoch, forced: bool) -> Result<(), StateError> {
        let epochs = self.0.epochs()?;
        if !epochs.contains(&epoch) {
            return Err(StateError::Refused(format!(
                "checkpoint {epoch} is not there"
            )));
        }
        let is_whole = |other: &Epoch| *other != epoch && matches!(self.0.check(*other), Ok(Ok(_)));
        if !forced && !epochs.iter().any(is_whole) {
            return Err(StateError::Refused(format!(
                "checkpoint {epoch} is the last whole one: a restart would begin without state; \
                 force it to delete it all the same"
            )));
        }
        self.0.remove_manifest(epoch)?;
        self.0.collect()
    }
}

impl Shelf {
    fn state(&self) -> MutexGuard<'_, ShelfState> {
        // Flags and numbers: no panic leaves them half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the writing of a checkpoint, published or not.
    pub(super) fn release(&self) {
        self.state().writing = false;
    }

    /// The epochs of all manifests, oldest first.
    fn epochs(&self) -> Result<Vec<Epoch>, StateError> {
        let epoch = |name: String| {
            let epoch = name.strip_suffix(".json")?.parse().ok()?;
            (manifest_path(&self.dir, epoch) == self.dir.join(name)).then_some(epoch)
        };
        if !self.dir.exists() {
            return Ok(Vec::new());
        }
        Ok(names(&self.dir)?.into_iter().filter_map(epoch).collect())
    }

    /// Reads every byte of a checkpoint: its manifest, or what is wrong with it.
    fn check(&self, epoch: Epoch) -> Result<Result<Manifest, Vec<Problem>>, StateError> {
        let checked = match read_manifest(&self.dir, epoch) {
            Ok(manifest) => match verify_segments(&self.dir, &manifest) {
                problems if problems.is_empty() => Ok(manifest),
                problems => Err(problems),
            },
            Err(StateError::Damaged {
                path: file,
                place,
                detail,
            }) => {
                let detail = format!("damaged at {place}: {detail}");
                Err(vec![Problem {
                    epoch,
                    file,
                    detail,
                }])
            }
            Err(StateError::Io {
                path: file, cause, ..
            }) => {
                let detail = format!("it cannot be read: {cause}");
                Err(vec![Problem {
                    epoch,
                    file,
                    detail,
                }])
            }
            Err(other) => return Err(other),
        };
        let mut state = self.state();
        if checked.is_ok() {
            state.damaged.remove(&epoch);
        } else {
            state.damaged.insert(epoch);
        }
        Ok(checked)
    }

    /// Lets go of checkpoints that are not kept, and of what none names. Called after each
    /// publication.
    pub(super) fn retire(&self) -> Result<(), StateError> {
        let kept = self.kept()?;
        if let Some(from) = kept.from {
            let is_needless = |epoch: &Epoch| *epoch < from && Some(*epoch) != kept.base;
            for epoch in self.epochs()?.into_iter().filter(is_needless) {
                self.remove_manifest(epoch)?;
            }
        }
        self.collect()
    }

    fn kept(&self) -> Result<Kept, StateError> {
        let damaged = self.state().damaged.clone();
        let mut whole = self.epochs()?;
        whole.retain(|epoch| !damaged.contains(epoch));
        let newest = whole.last().map(|newest| read_manifest(&self.dir, *newest));
        let sinks = newest.transpose()?.map(|newest| newest.sinks);
        let sent = sinks.iter().flatten().map(|(_, sent)| sent.through).min();
        let mut newest_first = whole.iter().rev().copied();
        Ok(Kept {
            from: newest_first.clone().nth(self.retain - 1),
            base: sent.and_then(|sent| newest_first.find(|epoch| *epoch <= sent)),
            has_sinks: sent.is_some(),
        })
    }

    /// Removes a manifest durably, and before any of its segments go.
    fn remove_manifest(&self, epoch: Epoch) -> Result<(), StateError> {
        let path = manifest_path(&self.dir, epoch);
        fs::remove_file(&path).map_err(failed("delete", &path))?;
        sync_dir(&self.dir)
    }

    /// Removes unfinished files, and segments that no manifest names. While a manifest cannot be
    /// read no segment goes: it might name them, and somebody might repair it. While a checkpoint
    /// is being written none goes either.
    fn collect(&self) -> Result<(), StateError> {
        let mut named = BTreeSet::new();
        for epoch in self.epochs()? {
            match read_manifest(&self.dir, epoch) {
                Ok(manifest) => named.extend(manifest.segments().map(|(_, s)| s.file.clone())),
                Err(cause) => {
                    tracing::warn!("keeping all segments: {cause}");
                    return Ok(());
                }
            }
        }
        // Held to the end: none may begin meanwhile.
        let state = self.state();
        if state.writing {
            return Ok(());
        }
        let segments = segments_path(&self.dir);
        let unfinished = names(&self.dir)?
            .into_iter()
            .filter(|name| name.ends_with(UNFINISHED))
            .map(|name| self.dir.join(name));
        let unnamed = names(&segments)?
            .into_iter()
            .filter(|name| !named.contains(name))
            .map(|name| segments.join(name));
        for path in unfinished.chain(unnamed) {
            tracing::debug!(file = %path.display(), "removing what no checkpoint names");
            fs::remove_file(&path).map_err(failed("delete", &path))?;
        }
        Ok(())
    }
}
