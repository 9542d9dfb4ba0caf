//! Compaction: the layers of a checkpoint merged into segments that say the same, for the next
//! checkpoints to build on. Those share nothing with the checkpoint that was merged.
//!
//! It reads a segment of each layer at a time, and writes what it read less what was replaced. As
//! it is due when changes have come to as much as the rest, or after so many checkpoints, it writes
//! at most one byte more for each byte that changed, or the state once in so many checkpoints.

use std::collections::BTreeMap;

use super::error::StateError;
use super::manifest::{Manifest, SegmentInfo};
use super::segment;
use super::store::CheckpointStore;
use super::writer::file_name;
use crate::columns::merge::{Merge, MergeError, Wanted};
use crate::time::Epoch;

/// After how many checkpoints the state is written anew, however little changed: a restart merges
/// no more layers per worker, and the journal reaches back about twice as far.
const MOST_TAKEN: u32 = 32;

/// State of so many bytes is written anew for each checkpoint: no two have anything in common.
pub const SMALL: u64 = 1 << 20;

/// Segments that say what an older checkpoint's layers said.
#[derive(Clone, Debug)]
pub(super) struct Compacted {
    pub epoch: Epoch,
    /// By boundary: the newest layer that is in it, and the segments.
    boundaries: BTreeMap<String, (u64, Vec<SegmentInfo>)>,
}

impl Compacted {
    /// The segments of a boundary with these in place of those that were merged.
    pub fn applied_to(&self, boundary: &str, segments: &[SegmentInfo]) -> Vec<SegmentInfo> {
        let Some((through, merged)) = self.boundaries.get(boundary) else {
            return segments.to_vec();
        };
        let newer = segments.iter().filter(|segment| segment.layer > *through);
        merged.iter().chain(newer).cloned().collect()
    }

    /// The bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments().map(|segment| segment.bytes).sum()
    }

    /// The names of all segments' files.
    pub fn files(&self) -> impl Iterator<Item = String> {
        self.segments().map(|segment| segment.file.clone())
    }

    fn segments(&self) -> impl Iterator<Item = &SegmentInfo> {
        self.boundaries.values().flat_map(|(_, segments)| segments)
    }
}

/// The bytes of layers.
fn layered_bytes(manifest: &Manifest) -> u64 {
    let layered = manifest.boundaries.values().filter(|it| it.is_layered);
    let segments = layered.flat_map(|boundary| &boundary.segments);
    segments.map(|segment| segment.bytes).sum()
}

/// Whether a checkpoint's layers are to be merged.
pub(super) fn is_due(manifest: &Manifest) -> bool {
    let (bytes, lineage) = (layered_bytes(manifest), manifest.lineage);
    let changed = bytes.saturating_sub(lineage.base_bytes);
    bytes > 0
        && (bytes <= SMALL || changed >= lineage.base_bytes.max(1) || lineage.taken >= MOST_TAKEN)
}

impl CheckpointStore {
    /// How many bytes of the newest checkpoint are to be merged, if it is time.
    pub fn compaction_due(&self) -> Option<u64> {
        let manifest = self.0.newest().filter(|newest| is_due(newest))?;
        Some(layered_bytes(&manifest))
    }

    /// Merges the layers of the newest checkpoint, if it is time, for the next ones to build on.
    /// `goes_on` is asked before each segment is written; where it says no, nothing is left behind.
    pub fn compact(&self, goes_on: &mut dyn FnMut() -> bool) -> Result<bool, StateError> {
        let Some(manifest) = self.0.begin_compacting() else {
            return Ok(false);
        };
        let mut compacted = Compacted {
            epoch: manifest.epoch,
            boundaries: BTreeMap::new(),
        };
        let merged = self.merge(&manifest, &mut compacted, goes_on);
        let is_whole = matches!(merged, Ok(true));
        if !is_whole {
            let names: Vec<String> = compacted.files().map(|it| segment::object(&it)).collect();
            // What cannot be removed now is collected later.
            drop(self.0.objects.discard(&names));
        }
        self.0.end_compacting(is_whole.then_some(compacted));
        merged
    }

    fn merge(
        &self,
        manifest: &Manifest,
        compacted: &mut Compacted,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, StateError> {
        let objects = &self.0.objects;
        let refused = |boundary: &str, error: MergeError| {
            StateError::Refused(format!("cannot merge the state '{boundary}': {error}"))
        };
        let mut number = 0;
        for (name, boundary) in manifest.boundaries.iter().filter(|(_, it)| it.is_layered) {
            let Some(newest) = boundary.newest_layer() else {
                continue;
            };
            let layers = boundary
                .layers()
                .map(|layer| segment::layer(objects, layer));
            let into = compacted.boundaries.entry(name.clone()).or_default();
            into.0 = newest;
            // Rows of another shape, or of another worker, cannot stand in one file, and need not:
            // each is in one only.
            let mut shapes = Vec::new();
            // As they are dealt to workers now: the newest segments say how many there are.
            let mut newest = boundary.segments.iter().rev();
            let share = newest.find_map(SegmentInfo::share);
            let merge = Merge::new(layers.collect(), Wanted::Standing).dealt(share);
            for batch in merge {
                let batch = batch.map_err(|error| refused(name, error))?;
                if !goes_on() {
                    return Ok(false);
                }
                let shape = shapes.iter().position(|shape| *shape == batch.schema());
                let shape = shape.unwrap_or_else(|| {
                    shapes.push(batch.schema());
                    shapes.len() - 1
                });
                number += 1;
                let file = file_name(manifest.epoch, number, name, "merged", self.0.codec);
                let mut written = segment::write(&**objects, file, 0, &batch)?;
                written.layer = shape as u64;
                into.1.push(written);
            }
            into.1.sort_by_key(|segment| segment.layer);
        }
        let names: Vec<String> = compacted.files().map(|it| segment::object(&it)).collect();
        objects.settle(&names)?;
        Ok(true)
    }
}
