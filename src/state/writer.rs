//! Writing a checkpoint: segments from any thread, then one manifest that makes them count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;

use super::checkpoint::manifest_name;
use super::codec::Codec;
use super::error::StateError;
use super::files::seal;
use super::manifest::{Manifest, SegmentInfo, VERSION};
use super::segment;
use super::shelf::Shelf;
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
    /// Whether its manifest may be there, although nobody said that it is.
    tried: bool,
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

    /// Writes rows of a boundary as one segment. A worker's segments are written in order. After an
    /// error the checkpoint cannot be published any more.
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
        let shelf = &self.0.shelf;
        let by = worker.to_string();
        let file = file_name(self.0.epoch, number, boundary, &by, shelf.codec);
        let written = segment::write(&*shelf.objects, file, worker, batch);
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
        let names: Vec<String> = (written.values().flatten())
            .map(|segment| segment::object(&segment.file))
            .collect();
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
        manifest.codec = draft.shelf.codec.to_string();
        manifest.build = draft.shelf.codec.build();
        let body = serde_json::to_string_pretty(&manifest).expect("a manifest's keys are text");
        debug_assert!(reading_plain_times(|| serde_json::from_str::<Manifest>(&body)).is_ok());
        let objects = &draft.shelf.objects;
        objects.settle(&names)?;
        draft.state().tried = true;
        objects.publish(&manifest_name(draft.epoch), seal(&body).into_bytes())?;
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
pub(super) fn file_name(
    epoch: Epoch,
    number: usize,
    boundary: &str,
    by: &str,
    codec: Codec,
) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let name: String = boundary.chars().take(NAME_LETTERS).map(plain).collect();
    let end = codec.extension();
    format!("{epoch:020}.{number:05}.{name}.{by}.{end}")
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
        let names: Vec<String> = (state.written.values().flatten())
            .map(|segment| segment::object(&segment.file))
            .collect();
        self.shelf.give_up(self.epoch, state.tried, &names);
    }
}
