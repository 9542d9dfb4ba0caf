//! A published checkpoint: its manifest, and the rows of its boundaries.

use std::fmt;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;

use super::error::StateError;
use super::files::{open_sealed, read};
use super::manifest::{ARROW, BoundaryState, Manifest, VERSION};
use super::segment;
use crate::columns::merge::{Layer, MergeError};
use crate::columns::share::Share;
use crate::time::Epoch;

/// Something wrong with a checkpoint's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The checkpoint.
    pub epoch: Epoch,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "checkpoint {}: {}: {}",
            self.epoch,
            self.file.display(),
            self.detail
        )
    }
}

/// A checkpoint whose files were all verified when it was chosen.
#[derive(Debug)]
pub struct Checkpoint {
    pub(super) segments: PathBuf,
    pub(super) manifest: Manifest,
    pub(super) skipped: Vec<Problem>,
}

impl Checkpoint {
    /// What it is of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Why newer checkpoints were passed over for this one.
    pub fn skipped(&self) -> &[Problem] {
        &self.skipped
    }

    /// Says why this build cannot read the segments, if it cannot.
    pub fn is_readable(&self) -> Result<(), StateError> {
        if self.manifest.codec == ARROW {
            return Ok(());
        }
        Err(StateError::Refused(format!(
            "checkpoint {} is written with the codec '{}', which this build does not have",
            self.manifest.epoch, self.manifest.codec
        )))
    }

    /// The segments of a boundary, layer by layer, the newest last; none of one it does not know.
    /// A segment is read when its rows are asked for, and its checksum compared again before a
    /// byte is decoded.
    pub fn layers(&self, boundary: &str) -> Vec<Layer> {
        let state = self.manifest.boundaries.get(boundary);
        let layers = state.into_iter().flat_map(BoundaryState::layers);
        layers
            .map(|layer| segment::layer(&self.segments, layer))
            .collect()
    }

    /// The same, less the segments that have no rows of this worker.
    pub fn layers_for(&self, boundary: &str, worker: &Share) -> Vec<Layer> {
        let state = self.manifest.boundaries.get(boundary);
        let layers = state.into_iter().flat_map(BoundaryState::layers);
        let own = layers.map(|layer| {
            let own = layer.iter().filter(|segment| segment.is_for(worker));
            own.cloned().collect::<Vec<_>>()
        });
        own.filter(|layer| !layer.is_empty())
            .map(|layer| segment::layer(&self.segments, &layer))
            .collect()
    }

    /// Every batch of a boundary as it is saved.
    pub fn load(&self, boundary: &str) -> Result<Vec<RecordBatch>, StateError> {
        self.is_readable()?;
        let refused = |error: MergeError| StateError::Refused(error.0);
        let batches = self.layers(boundary).into_iter().flatten();
        batches.map(|batch| batch.map_err(refused)).collect()
    }
}

/// The file of a checkpoint's manifest.
pub fn manifest_path(dir: &Path, epoch: Epoch) -> PathBuf {
    dir.join(format!("{epoch:020}.json"))
}

/// The directory of segments.
pub fn segments_path(dir: &Path) -> PathBuf {
    dir.join("segments")
}

/// Reads a checkpoint's manifest.
pub fn read_manifest(dir: &Path, epoch: Epoch) -> Result<Manifest, StateError> {
    let path = manifest_path(dir, epoch);
    let damaged = |place: &str, detail: String| StateError::Damaged {
        path: path.clone(),
        place: place.to_owned(),
        detail,
    };
    let bytes = read(&path)?
        .ok_or_else(|| StateError::Refused(format!("checkpoint {epoch} is not there")))?;
    let manifest: Manifest = open_sealed(&path, &bytes, VERSION)?;
    if manifest.epoch != epoch {
        return Err(damaged(
            "its epoch",
            format!("it is that of checkpoint {}", manifest.epoch),
        ));
    }
    // A name that leads elsewhere must neither be read nor, when collecting, spared or deleted.
    let leads_away = |name: &str| name.is_empty() || name.contains(['/', '\\']) || name == "..";
    if let Some((_, segment)) = manifest.segments().find(|(_, s)| leads_away(&s.file)) {
        return Err(damaged(
            "a segment's name",
            format!("'{}' is not a file name", segment.file),
        ));
    }
    Ok(manifest)
}

/// Everything wrong with a checkpoint's segments.
pub fn verify_segments(dir: &Path, manifest: &Manifest) -> Vec<Problem> {
    let segments = segments_path(dir);
    let problem = |(boundary, info): (&str, &_)| {
        let what = segment::verify(&segments, info)?;
        let file = segments.join(&info.file);
        let detail = format!("{what} (boundary '{boundary}')");
        Some(Problem {
            epoch: manifest.epoch,
            file,
            detail,
        })
    };
    manifest.segments().filter_map(problem).collect()
}
