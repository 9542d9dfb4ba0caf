//! From a checkpoint to a running dataflow and back: what of it is in the manifest.

use std::collections::BTreeMap;

use crate::columns::share::Share;
use crate::dataflow::clock::{NONE, PartitionTime, StreamTime, Times, visible};
use crate::dataflow::vault::Saved;
use crate::query::Catalog;
use crate::record::LastRecord;
use crate::state::{
    BoundaryState, Checkpoint, Fingerprint, Manifest, PartitionState, StateError, StreamState,
};
use crate::time::{Timestamp, millis_of};

/// What the partitions of each stream are read from, by stream of the catalog.
pub type Origins = BTreeMap<u16, BTreeMap<u32, Origin>>;

/// What a partition is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// In a word.
    pub name: String,
    /// What the last record before its position looked like.
    pub last: Option<LastRecord>,
}

/// What becomes of one piece of saved state in this build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is loaded.
    Restored,
    /// Nothing of it is saved: it starts empty, at the checkpoint's positions.
    New,
    /// No query uses it any more: it is not loaded, and not in the next checkpoint.
    Dropped,
    /// Its rows do not fit this build, which will not start on it.
    Refused(String),
}

/// What would become of each piece of a checkpoint's state, by boundary.
pub fn fates(
    checkpoint: &Checkpoint,
    catalog: &Catalog,
) -> Result<BTreeMap<String, Fate>, StateError> {
    let mut fates = BTreeMap::new();
    for (name, shape) in &catalog.boundaries {
        let fate = match checkpoint.manifest().boundaries.get(name) {
            None => Fate::New,
            // The same columns hold the same rows; only others are worth reading twice.
            Some(saved) if shape.is_traced && shape.fingerprint == Ok(saved.fingerprint.0) => {
                Fate::Restored
            }
            Some(_) => {
                checkpoint.is_readable()?;
                // One batch at a time: there may be more than fits.
                let mut batches = checkpoint.layers(name).into_iter().flatten();
                let misfit = batches.find_map(|batch| match batch {
                    Ok(batch) => (shape.check)(&batch).err().map(|error| error.to_string()),
                    Err(error) => Some(error.to_string()),
                });
                misfit.map_or(Fate::Restored, Fate::Refused)
            }
        };
        fates.insert(name.clone(), fate);
    }
    for name in checkpoint.manifest().boundaries.keys() {
        fates.entry(name.clone()).or_insert(Fate::Dropped);
    }
    Ok(fates)
}

/// What a checkpoint holds of a boundary, for one worker or for any; nothing where there is none.
pub fn saved(checkpoint: Option<&Checkpoint>, boundary: &str, worker: Option<&Share>) -> Saved {
    let state = checkpoint.and_then(|from| from.manifest().boundaries.get(boundary));
    let layers = checkpoint.map(|from| match worker {
        Some(worker) => from.layers_for(boundary, worker),
        None => from.layers(boundary),
    });
    Saved {
        layers: layers.unwrap_or_default(),
        is_of_changes: state.is_some_and(|state| state.is_layered),
        is_to_be_rewritten: checkpoint.is_some_and(|from| from.is_to_be_rewritten(boundary)),
        note: state.and_then(|state| state.note),
        expected: state.map_or(0, |state| state.rows_for(worker)),
    }
}

/// The streams' times to start from.
pub fn times(manifest: Option<&Manifest>, catalog: &Catalog) -> Times {
    let hidden = |time: Option<Timestamp>| time.map_or(NONE, |time| time.0);
    let streams = catalog.streams.iter().map(|stream| {
        let mut time = StreamTime::new(millis_of(stream.lateness));
        if let Some(saved) = manifest.and_then(|m| m.streams.get(&stream.name)) {
            time.watermark = hidden(saved.watermark);
            time.partitions = (saved.partitions.iter())
                .map(|(id, p)| {
                    let highest = hidden(p.highest);
                    // A longer lateness bound must not reopen what the old one has closed.
                    let floor = hidden(p.floor).max(time.watermark);
                    (
                        *id,
                        PartitionTime {
                            position: p.position,
                            highest,
                            floor,
                            idle: p.idle,
                        },
                    )
                })
                .collect();
        }
        time
    });
    Times {
        streams: streams.collect(),
    }
}

/// What the last records before the saved positions looked like, by stream of the catalog.
pub fn lasts(manifest: Option<&Manifest>, catalog: &Catalog) -> BTreeMap<(u16, u32), LastRecord> {
    let streams = (0..).zip(&catalog.streams).filter_map(|(place, stream)| {
        let saved = manifest?.streams.get(&stream.name)?;
        Some((place, saved))
    });
    let lasts = streams.flat_map(|(place, saved)| {
        let partitions = saved.partitions.iter();
        partitions.filter_map(move |(id, state)| Some(((place, *id), state.last?)))
    });
    lasts.collect()
}

/// Everything a checkpoint says besides its rows. Streams and partitions as of its epoch.
pub fn manifest(
    times: &Times,
    origins: &Origins,
    catalog: &Catalog,
    published_at: Timestamp,
) -> Manifest {
    let streams = (0..)
        .zip(&catalog.streams)
        .zip(&times.streams)
        .map(|((place, stream), time)| {
            let origins = origins.get(&place);
            let partitions = time.partitions.iter().map(|(id, p)| {
                let origin = origins.and_then(|origins| origins.get(id));
                let state = PartitionState {
                    last: origin.and_then(|origin| origin.last),
                    position: p.position,
                    highest: visible(p.highest),
                    floor: visible(p.floor),
                    idle: p.idle,
                };
                (*id, state)
            });
            let state = StreamState {
                watermark: visible(time.watermark),
                fingerprint: Fingerprint(stream.fingerprint()),
                partitions: partitions.collect(),
                origins: (origins.into_iter().flatten())
                    .map(|(id, origin)| (*id, origin.name.clone()))
                    .collect(),
            };
            (stream.name.clone(), state)
        });
    let boundaries = catalog.boundaries.iter().map(|(name, shape)| {
        let fingerprint = Fingerprint(shape.fingerprint.clone().unwrap_or_default());
        (
            name.clone(),
            BoundaryState {
                fingerprint,
                ..BoundaryState::default()
            },
        )
    });
    let queries = (catalog.queries.iter())
        .map(|query| (query.name.clone(), Fingerprint(query.fingerprint())));
    Manifest {
        published_at: published_at.0,
        streams: streams.collect(),
        boundaries: boundaries.collect(),
        queries: queries.collect(),
        ..Manifest::default()
    }
}
