//! A published checkpoint: its manifest, and the rows of its boundaries.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;

use super::codec::Codec;
use super::error::StateError;
use super::files::open_sealed;
use super::manifest::{BoundaryState, Manifest, SegmentInfo, VERSION};
use super::objects::Objects;
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
    pub(super) objects: Arc<dyn Objects>,
    /// How the next one is written.
    pub(super) codec: Codec,
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
        let of_which = |(_, segment): (_, &SegmentInfo)| match Codec::of_file(&segment.file) {
            Ok(codec) => (codec.build() != codec.build().and(self.manifest.build))
                .then(|| (codec.to_string(), "another build wrote it")),
            Err(end) => Some((end.to_owned(), "this build does not have it")),
        };
        match self.manifest.segments().find_map(of_which) {
            None => Ok(()),
            Some((codec, why)) => Err(StateError::Refused(format!(
                "checkpoint {} is written with the codec '{codec}', and {why}: start the build \
                 that wrote it, with snapshot.codec = \"arrow\", let it take a checkpoint, and \
                 start this one then; or start with --from-scratch",
                self.manifest.epoch
            ))),
        }
    }

    /// Whether all rows of a boundary are to be saved again, because what is saved of them is in
    /// another format than is written now.
    pub fn is_to_be_rewritten(&self, boundary: &str) -> bool {
        is_of_other_codec(&self.manifest, boundary, self.codec)
    }

    /// The segments of a boundary, layer by layer, the newest last; none of one it does not know.
    /// A segment is read when its rows are asked for, and its checksum compared again before a
    /// byte is decoded.
    pub fn layers(&self, boundary: &str) -> Vec<Layer> {
        let state = self.manifest.boundaries.get(boundary);
        let layers = state.into_iter().flat_map(BoundaryState::layers);
        layers
            .map(|layer| segment::layer(&self.objects, layer))
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
            .map(|layer| segment::layer(&self.objects, &layer))
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

/// Whether anything of a boundary is saved in another format.
pub fn is_of_other_codec(manifest: &Manifest, boundary: &str, codec: Codec) -> bool {
    let saved = manifest.boundaries.get(boundary);
    let mut segments = saved.iter().flat_map(|saved| &saved.segments);
    segments.any(|segment| Codec::of_file(&segment.file) != Ok(codec))
}

/// The object of a checkpoint's manifest.
pub fn manifest_name(epoch: Epoch) -> String {
    format!("{epoch:020}.json")
}

/// The epoch of a manifest, by the name of its object.
pub fn epoch_of(name: &str) -> Option<Epoch> {
    let epoch = name.strip_suffix(".json")?.parse().ok()?;
    (manifest_name(epoch) == name).then_some(epoch)
}

/// Reads a checkpoint's manifest.
pub fn read_manifest(objects: &dyn Objects, epoch: Epoch) -> Result<Manifest, StateError> {
    let name = manifest_name(epoch);
    let path = objects.path(&name);
    let damaged = |place: &str, detail: String| StateError::Damaged {
        path: path.clone(),
        place: place.to_owned(),
        detail,
    };
    let bytes = match objects.load(&name) {
        Err(StateError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => {
            let text = format!("checkpoint {epoch} is not there");
            return Err(StateError::Refused(text));
        }
        bytes => bytes?,
    };
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

/// Everything wrong with a checkpoint's segments. `known` is what was found of some of them: two
/// checkpoints have most in common.
pub fn verify_segments(
    objects: &dyn Objects,
    manifest: &Manifest,
    known: &mut BTreeMap<String, Option<String>>,
) -> Vec<Problem> {
    let problem = |(boundary, info): (&str, &SegmentInfo)| {
        let found = known.entry(info.file.clone());
        let found = found.or_insert_with(|| segment::verify(objects, info));
        let what = found.as_ref()?;
        let file = objects.path(&segment::object(&info.file));
        let detail = format!("{what} (boundary '{boundary}')");
        Some(Problem {
            epoch: manifest.epoch,
            file,
            detail,
        })
    };
    manifest.segments().filter_map(problem).collect()
}
