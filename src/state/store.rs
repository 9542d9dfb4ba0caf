//! The checkpoints of a data directory: which there are, which can be trusted, which can go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checkpoint::{
    Checkpoint, Problem, manifest_path, read_manifest, segments_path, verify_segments,
};
use super::compact::{self, Compacted};
use super::data_dir::DataDir;
use super::error::StateError;
use super::files::{UNFINISHED, create_dir, failed, names, sync_dir};
use super::manifest::{Lineage, Manifest};
use super::writer::CheckpointWriter;
use crate::time::Epoch;
use crate::view::CheckpointInfo;

/// How many checkpoints are kept at least: one may turn out to be damaged.
const LEAST_RETAINED: usize = 2;

/// The boundaries that say what changed, with what they noted.
pub(super) type Layered = BTreeMap<String, Option<i64>>;

/// The checkpoints of a data directory. Cloning is shallow.
#[derive(Clone, Debug)]
pub struct CheckpointStore(pub(super) Arc<Shelf>);

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
    /// The checkpoint that the next one builds on.
    tip: Option<Manifest>,
    /// What was compacted, for the next checkpoint to build on.
    compacted: Option<Compacted>,
    /// Whether segments are being compacted.
    compacting: bool,
}

/// Which checkpoints are kept.
struct Kept {
    /// These and all newer ones; `None` while there are fewer than the retained ones.
    from: Option<Epoch>,
    /// The newest that all sinks can go on from.
    base: Option<Epoch>,
    /// The newest that shares no segment with the newest of all.
    apart: Option<Epoch>,
    /// Those with a label.
    labelled: BTreeSet<Epoch>,
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
    /// retained ones, no two of them share nothing, or a sink has come less far than the oldest:
    /// then a restart may have to begin with the journal's first line.
    pub fn oldest_needed(&self) -> Result<Option<Epoch>, StateError> {
        let kept = self.0.kept()?;
        let from = kept.from.filter(|_| kept.base.is_some() || !kept.has_sinks);
        let Some((from, apart)) = from.zip(kept.apart) else {
            return Ok(None);
        };
        Ok(Some(kept.base.unwrap_or(from).min(from).min(apart)))
    }

    /// Builds the next checkpoint on this one, from which the service starts.
    pub fn resume(&self, from: &Checkpoint) {
        self.0.state().tip = Some(from.manifest.clone());
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

    /// Ends the writing of a checkpoint that counts: the next one builds on it.
    pub(super) fn published(&self, manifest: &Manifest) {
        let mut state = self.state();
        state.writing = false;
        state
            .compacted
            .take_if(|it| it.epoch <= manifest.lineage.since);
        state.tip = Some(manifest.clone());
    }

    /// Gives a manifest the segments of the checkpoint before, as far as boundaries say what
    /// changed since then.
    pub(super) fn build_on(&self, manifest: &mut Manifest, layered: &Layered) {
        for (boundary, note) in layered {
            if let Some(entry) = manifest.boundaries.get_mut(boundary) {
                (entry.is_layered, entry.note) = (true, *note);
            }
        }
        let state = self.state();
        let Some(tip) = &state.tip else {
            return;
        };
        let mut builds_on = false;
        for (boundary, entry) in &mut manifest.boundaries {
            let before = tip.boundaries.get(boundary).filter(|tip| tip.is_layered);
            if let Some(before) = before.filter(|_| entry.is_layered) {
                entry.segments = match &state.compacted {
                    Some(compacted) => compacted.applied_to(boundary, &before.segments),
                    None => before.segments.clone(),
                };
                builds_on |= !entry.segments.is_empty();
            }
        }
        let taken = tip.lineage.taken + 1;
        manifest.lineage = match &state.compacted {
            _ if !builds_on => Lineage {
                since: tip.epoch,
                ..Lineage::default()
            },
            Some(compacted) => Lineage {
                since: compacted.epoch,
                base_bytes: compacted.bytes(),
                taken: 1,
            },
            None => Lineage {
                taken,
                ..tip.lineage
            },
        };
    }

    /// The newest checkpoint of this process, if it is time to compact its segments.
    pub(super) fn begin_compacting(&self) -> Option<Manifest> {
        let mut state = self.state();
        if state.compacting || state.compacted.is_some() {
            return None;
        }
        let tip = state.tip.clone().filter(compact::is_due)?;
        state.compacting = true;
        Some(tip)
    }

    /// The newest checkpoint of this process.
    pub(super) fn newest(&self) -> Option<Manifest> {
        self.state().tip.clone()
    }

    pub(super) fn end_compacting(&self, compacted: Option<Compacted>) {
        let mut state = self.state();
        state.compacting = false;
        state.compacted = compacted;
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
            let is_needless = |epoch: &Epoch| {
                *epoch < from
                    && Some(*epoch) != kept.base
                    && Some(*epoch) != kept.apart
                    && !kept.labelled.contains(epoch)
            };
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
        let newest = newest.transpose()?.unwrap_or_default();
        let sent = newest.sinks.values().map(|sent| sent.through).min();
        let mut newest_first = whole.iter().rev().copied();
        let through = |epoch: Epoch| whole.iter().rev().copied().find(|it| *it <= epoch);
        Ok(Kept {
            apart: through(newest.lineage.since),
            labelled: self.labelled(&whole),
            base: sent.and_then(through),
            from: newest_first.nth(self.retain - 1),
            has_sinks: sent.is_some(),
        })
    }

    /// The checkpoints that are kept until they are deleted.
    fn labelled(&self, epochs: &[Epoch]) -> BTreeSet<Epoch> {
        let is_labelled = |epoch: &&Epoch| {
            // One that cannot be read is not let go for want of a label.
            read_manifest(&self.dir, **epoch).map_or(true, |manifest| manifest.label.is_some())
        };
        epochs.iter().filter(is_labelled).copied().collect()
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
        if state.writing || state.compacting {
            return Ok(());
        }
        named.extend(state.compacted.iter().flat_map(Compacted::files));
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
