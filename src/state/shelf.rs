//! What the store of checkpoints and those who write to it share: the manifests that are known, the
//! checkpoint that the next one builds on, and what may go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checkpoint::{
    Problem, epoch_of, is_of_other_codec, manifest_name, read_manifest, verify_segments,
};
use super::codec::Codec;
use super::compact::{self, Compacted};
use super::error::StateError;
use super::manifest::{Lineage, Manifest};
use super::objects::{Objects, SEGMENTS};
use super::segment;
use crate::time::Epoch;

/// The boundaries that say what changed, with what they noted.
pub(super) type Layered = BTreeMap<String, Option<i64>>;

/// A manifest, or why it cannot be read.
pub(super) type Found = Result<Arc<Manifest>, String>;

/// What was found of segments' bytes, by file.
pub(super) type Known = BTreeMap<String, Option<String>>;

/// What the store and a writer share.
#[derive(Debug)]
pub(super) struct Shelf {
    pub objects: Arc<dyn Objects>,
    pub codec: Codec,
    pub retain: usize,
    state: Mutex<ShelfState>,
}

#[derive(Debug, Default)]
struct ShelfState {
    /// Every manifest, where nobody else may write any: nothing has to be asked for then.
    manifests: Option<BTreeMap<Epoch, Found>>,
    /// Whether a checkpoint is being written.
    writing: bool,
    /// Checkpoints found damaged: they do not count as retained.
    damaged: BTreeSet<Epoch>,
    /// Checkpoints that failed, and whose manifest may be there all the same.
    doubtful: BTreeSet<Epoch>,
    /// The checkpoint that the next one builds on.
    tip: Option<Arc<Manifest>>,
    /// What was compacted, for the next checkpoint to build on.
    compacted: Option<Compacted>,
    /// Whether segments are being compacted.
    compacting: bool,
    /// Why the last checkpoint that was tried failed.
    problem: Option<String>,
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

impl Shelf {
    pub fn new(objects: Arc<dyn Objects>, codec: Codec, retain: usize) -> Shelf {
        Shelf {
            objects,
            codec,
            retain,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, ShelfState> {
        // Flags and numbers: no panic leaves them half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all manifests, once: from here on nobody else writes any.
    pub fn own(&self) -> Result<(), StateError> {
        let manifests = self.read_manifests()?;
        self.state().manifests = Some(manifests);
        Ok(())
    }

    /// Every manifest, by its epoch.
    pub fn manifests(&self) -> Result<BTreeMap<Epoch, Found>, StateError> {
        let known = self.state().manifests.clone();
        known.map_or_else(|| self.read_manifests(), Ok)
    }

    fn read_manifests(&self) -> Result<BTreeMap<Epoch, Found>, StateError> {
        let read = |epoch| {
            let manifest = read_manifest(&*self.objects, epoch).map(Arc::new);
            (epoch, manifest.map_err(|error| error.to_string()))
        };
        Ok(self.listed()?.into_iter().map(read).collect())
    }

    /// The epochs of all manifests that are there now, oldest first.
    pub fn listed(&self) -> Result<Vec<Epoch>, StateError> {
        let names = self.objects.names("")?;
        Ok(names.iter().filter_map(|name| epoch_of(name)).collect())
    }

    /// The epochs of all manifests that are known, oldest first.
    pub fn epochs(&self) -> Result<Vec<Epoch>, StateError> {
        Ok(self.manifests()?.into_keys().collect())
    }

    /// Begins to write a checkpoint, if none is being written.
    pub fn begin_writing(&self) -> bool {
        !std::mem::replace(&mut self.state().writing, true)
    }

    /// Ends the writing of a checkpoint that does not count, and removes what there is of it.
    pub fn give_up(&self, epoch: Epoch, tried: bool, names: &[String]) {
        // Where publishing failed half way the manifest may stand, and then its segments must.
        let removed = if tried {
            self.objects.remove(&manifest_name(epoch))
        } else {
            Ok(())
        };
        let mut state = self.state();
        state.writing = false;
        if removed.is_err() {
            state.doubtful.insert(epoch);
            return;
        }
        drop(state);
        // What cannot be removed now is collected later.
        drop(self.objects.discard(names));
    }

    /// Ends the writing of a checkpoint that counts: the next one builds on it.
    pub fn published(&self, manifest: &Manifest) {
        let manifest = Arc::new(manifest.clone());
        let mut state = self.state();
        state.writing = false;
        state
            .compacted
            .take_if(|it| it.epoch <= manifest.lineage.since);
        if let Some(manifests) = &mut state.manifests {
            manifests.insert(manifest.epoch, Ok(Arc::clone(&manifest)));
        }
        state.tip = Some(manifest);
    }

    /// Builds the next checkpoint on this one, as far as its segments are in the format that is
    /// written now.
    pub fn resume(&self, from: &Manifest) {
        let mut tip = from.clone();
        for (boundary, entry) in &mut tip.boundaries {
            entry.is_layered &= !is_of_other_codec(from, boundary, self.codec);
        }
        self.state().tip = Some(Arc::new(tip));
    }

    /// Gives a manifest the segments of the checkpoint before, as far as boundaries say what
    /// changed since then.
    pub fn build_on(&self, manifest: &mut Manifest, layered: &Layered) {
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
    pub fn begin_compacting(&self) -> Option<Arc<Manifest>> {
        let mut state = self.state();
        if state.compacting || state.compacted.is_some() {
            return None;
        }
        let tip = state.tip.clone().filter(|tip| compact::is_due(tip))?;
        state.compacting = true;
        Some(tip)
    }

    /// The newest checkpoint of this process.
    pub fn newest(&self) -> Option<Arc<Manifest>> {
        self.state().tip.clone()
    }

    pub fn end_compacting(&self, compacted: Option<Compacted>) {
        let mut state = self.state();
        state.compacting = false;
        state.compacted = compacted;
    }

    /// Notes how the last checkpoint ended; `None` is well.
    pub fn note(&self, problem: Option<String>) {
        self.state().problem = problem;
    }

    /// Why the last checkpoint that was tried failed.
    pub fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    /// Reads every byte of a checkpoint: its manifest, or what is wrong with it.
    pub fn check(
        &self,
        epoch: Epoch,
        known: &mut Known,
    ) -> Result<Result<Manifest, Vec<Problem>>, StateError> {
        let problem = |file, detail| {
            Err(vec![Problem {
                epoch,
                file,
                detail,
            }])
        };
        let checked = match read_manifest(&*self.objects, epoch) {
            Ok(manifest) => match verify_segments(&*self.objects, &manifest, known) {
                problems if problems.is_empty() => Ok(manifest),
                problems => Err(problems),
            },
            Err(StateError::Damaged {
                path,
                place,
                detail,
            }) => problem(path, format!("damaged at {place}: {detail}")),
            Err(StateError::Io { path, cause, .. }) => {
                problem(path, format!("it cannot be read: {cause}"))
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
    pub fn retire(&self) -> Result<(), StateError> {
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

    /// The oldest checkpoint that a restart may begin with.
    pub fn oldest_needed(&self) -> Result<Option<Epoch>, StateError> {
        let kept = self.kept()?;
        let from = kept.from.filter(|_| kept.base.is_some() || !kept.has_sinks);
        let Some((from, apart)) = from.zip(kept.apart) else {
            return Ok(None);
        };
        let oldest = kept.base.unwrap_or(from).min(from).min(apart);
        let labelled = kept.labelled.first().copied();
        Ok(Some(labelled.unwrap_or(oldest).min(oldest)))
    }

    fn kept(&self) -> Result<Kept, StateError> {
        let manifests = self.manifests()?;
        let damaged = self.state().damaged.clone();
        let whole: Vec<&Manifest> = (manifests.iter())
            .filter(|(epoch, _)| !damaged.contains(epoch))
            .filter_map(|(_, found)| found.as_deref().ok())
            .collect();
        let newest = whole.last().copied().cloned().unwrap_or_default();
        let sent = newest.sinks.values().map(|sent| sent.through).min();
        let mut newest_first = whole.iter().rev().map(|manifest| manifest.epoch);
        let through = |epoch: Epoch| {
            let mut epochs = whole.iter().rev().map(|manifest| manifest.epoch);
            epochs.find(|it| *it <= epoch)
        };
        // One that cannot be read is not let go for want of a label.
        let has_label = |found: &Found| found.as_ref().map_or(true, |it| it.label.is_some());
        let labelled = manifests.iter().filter(|(_, found)| has_label(found));
        Ok(Kept {
            apart: through(newest.lineage.since),
            labelled: labelled.map(|(epoch, _)| *epoch).collect(),
            base: sent.and_then(through),
            from: newest_first.nth(self.retain - 1),
            has_sinks: sent.is_some(),
        })
    }

    /// Removes a manifest durably, and before any of its segments go.
    pub fn remove_manifest(&self, epoch: Epoch) -> Result<(), StateError> {
        self.objects.remove(&manifest_name(epoch))?;
        if let Some(manifests) = &mut self.state().manifests {
            manifests.remove(&epoch);
        }
        Ok(())
    }

    /// Removes segments that no manifest names. While a manifest cannot be read no segment goes: it
    /// might name them, and somebody might repair it. While a checkpoint is being written none
    /// goes either.
    pub fn collect(&self) -> Result<(), StateError> {
        let mut named = BTreeSet::new();
        for found in self.manifests()?.values() {
            match found {
                Ok(manifest) => named.extend(manifest.segments().map(|(_, s)| s.file.clone())),
                Err(cause) => {
                    tracing::warn!("keeping all segments: {cause}");
                    return Ok(());
                }
            }
        }
        let doubtful = self.state().doubtful.clone();
        for epoch in doubtful {
            self.objects.remove(&manifest_name(epoch))?;
            self.state().doubtful.remove(&epoch);
        }
        let there = self.objects.names(SEGMENTS)?;
        // Held to the end: none may begin meanwhile.
        let state = self.state();
        if state.writing || state.compacting {
            return Ok(());
        }
        named.extend(state.compacted.iter().flat_map(Compacted::files));
        let unnamed = there.iter().filter(|name| !named.contains(*name));
        let unnamed: Vec<String> = unnamed.map(|file| segment::object(file)).collect();
        if unnamed.is_empty() {
            return Ok(());
        }
        tracing::debug!(?unnamed, "removing what no checkpoint names");
        self.objects.discard(&unnamed)
    }
}
