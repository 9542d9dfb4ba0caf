//! Writing a checkpoint: segments from any thread, then one manifest that makes them count.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;

use super::checkpoint::{manifest_path, segments_path};
use super::error::StateError;
use super::files::{replace, seal, sync_dir};
use super::manifest::{ARROW, Manifest, SegmentInfo, VERSION};
use super::segment;
use super::store::Shelf;
use crate::time::{Epoch, reading_plain_times};
use crate::view::CheckpointInfo;

/// Letters of a boundary's name that its segments' file names keep.
const NAME_LETTERS: usize = 60;

/// A checkpoint being written. Cloning is shallow; clones may write from several threads.
///
/// Nothing counts before [`publish`](CheckpointWriter::publish): when the last clone is dropped
/// without it, the segments are removed again.
#[derive(Clone, Debug)]
pub struct CheckpointWriter(Arc<Draft>);

#[derive(Debug)]
struct Draft {
    shelf: Arc<Shelf>,
    epoch: Epoch,
    run: u64,
    state: Mutex<DraftState>,
}

#[derive(Debug, Default)]
struct DraftState {
    /// Segments started, of whatever outcome: numbers their files.
    started: usize,
    /// Segments being written now.
    under_way: usize,
    written: BTreeMap<String, Vec<SegmentInfo>>,
    /// Boundaries that say what changed, with what they noted.
    layered: BTreeMap<String, Option<i64>>,
    /// Nothing more is taken: published, or a segment failed.
    closed: bool,
    published: bool,
}

impl CheckpointWriter {
    pub(super) fn new(shelf: Arc<Shelf>, epoch: Epoch, run: u64) -> CheckpointWriter {
        CheckpointWriter(Arc::new(Draft {
            shelf,
            epoch,
            run,
            state: Mutex::default(),
        }))
    }

    /// The epoch the checkpoint is of.
    pub fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    /// Says that a boundary's segments are what changed since the checkpoint before; without it
    /// they are all its rows.
    pub fn is_of_changes(&self, boundary: &str, note: Option<i64>) {
        self.0.state().layered.insert(boundary.to_owned(), note);
    }

    /// Writes rows of a boundary as one durable segment. A worker's segments are written in order.
    /// After an error the checkpoint cannot be published any more.
    pub fn write_segment(
        &self,
        boundary: &str,
        worker: usize,
        batch: &RecordBatch,
    ) -> Result<SegmentInfo, StateError> {
        let number = {
            let mut state = self.0.open_state()?;
            state.started += 1;
            state.under_way += 1;
            state.started
        };
        let file = file_name(self.0.epoch, number, boundary, &worker.to_string());
        let written = segment::write(&segments_path(&self.0.shelf.dir), file, worker, batch);
        let mut state = self.0.state();
        state.under_way -= 1;
        match &written {
            Ok(info) => {
                state
                    .written
                    .entry(boundary.to_owned())
                    .or_default()
                    .push(info.clone());
            }
            Err(_) => state.closed = true,
        }
        written
    }

    /// Publishes the checkpoint: from here on it is the newest, over any crash. Then older ones
    /// are let go. The journal must be synced up to this epoch, and every segment written.
    ///
    /// `manifest` says all that segments do not: it names every boundary written, and streams,
    /// sinks and queries. What it says of version, epoch, run and codec is overwritten.
    pub fn publish(self, mut manifest: Manifest) -> Result<CheckpointInfo, StateError> {
        let draft = &self.0;
        let (written, layered) = {
            let mut state = draft.open_state()?;
            if state.under_way > 0 {
                return Err(draft.refused("segments are still being written"));
            }
            state.closed = true;
            (state.written.clone(), state.layered.clone())
        };
        draft.shelf.build_on(&mut manifest, &layered);
        for (boundary, mut segments) in written {
            let Some(entry) = manifest.boundaries.get_mut(&boundary) else {
                return Err(draft.refused(&format!("its manifest lacks the boundary '{boundary}'")));
            };
            // Threads finish in any order; files of the same state read the same.
            segments.sort_by(|a, b| (a.worker, &a.file).cmp(&(b.worker, &b.file)));
            let next = entry.newest_layer().map_or(0, |newest| newest + 1);
            for segment in &mut segments {
                segment.layer = next + segment.worker as u64;
            }
            entry.segments.append(&mut segments);
        }
        if manifest.lineage.taken == 0 {
            manifest.lineage.base_bytes = manifest.info().bytes;
        }
        manifest.version = VERSION;
        manifest.epoch = draft.epoch;
        manifest.run = draft.run;
        ARROW.clone_into(&mut manifest.codec);
        let body = serde_json::to_string_pretty(&manifest).expect("a manifest's keys are text");
        debug_assert!(reading_plain_times(|| serde_json::from_str::<Manifest>(&body)).is_ok());
        let dir = &draft.shelf.dir;
        sync_dir(&segments_path(dir))?;
        replace(&manifest_path(dir, draft.epoch), seal(&body).as_bytes())?;
        draft.state().published = true;
        draft.shelf.published(&manifest);
        if let Err(cause) = draft.shelf.retire() {
            // The checkpoint stands; the next one tries again.
            tracing::warn!("cannot remove old checkpoints: {cause}");
        }
        Ok(manifest.info())
    }
}

/// The name of a segment's file.
pub(super) fn file_name(epoch: Epoch, number: usize, boundary: &str, by: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let name: String = boundary.chars().take(NAME_LETTERS).map(plain).collect();
    format!("{epoch:020}.{number:05}.{name}.{by}.arrow")
}

impl Draft {
    fn state(&self) -> MutexGuard<'_, DraftState> {
        // No panic leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_state(&self) -> Result<MutexGuard<'_, DraftState>, StateError> {
        let state = self.state();
        if state.closed {
            return Err(self.refused("it was published, or one of its segments failed"));
        }
        Ok(state)
    }

    fn refused(&self, why: &str) -> StateError {
        StateError::Refused(format!("checkpoint {} cannot go on: {why}", self.epoch))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.published {
            return;
        }
        // Where publishing failed half way the manifest may stand, and then its segments must.
        let removed = fs::remove_file(manifest_path(&self.shelf.dir, self.epoch));
        if removed.is_ok() || removed.is_err_and(|cause| cause.kind() == ErrorKind::NotFound) {
            let segments = segments_path(&self.shelf.dir);
            for segment in state.written.values().flatten() {
                // What cannot be removed now is collected later.
                drop(fs::remove_file(segments.join(&segment.file)));
            }
        }
        self.shelf.release();
    }
}
