//! The manifest of a checkpoint: what it is of, and the segments it consists of.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::columns::share::Share;
use crate::record::LastRecord;
use crate::time::{Epoch, Timestamp};
use crate::view::{CheckpointInfo, Sent};

/// The version of manifests that this build writes, and the newest it reads.
pub const VERSION: u64 = 2;

/// What a checkpoint is of, as of one closed epoch. [`CheckpointWriter::publish`] fills in the
/// version, the epoch, the run, the codec and the segments.
///
/// [`CheckpointWriter::publish`]: super::CheckpointWriter::publish
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the format.
    pub version: u64,
    /// The closed epoch; also the checkpoint's name.
    pub epoch: Epoch,
    /// The run it was written in.
    pub run: u64,
    /// When it was published, in milliseconds since the Unix epoch.
    pub published_at: i64,
    /// How its own segments are encoded; of each segment its name says it.
    pub codec: String,
    /// The build that alone can read segments of it, where there is such a one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Fingerprint>,
    /// Per stream how far it was read.
    pub streams: BTreeMap<String, StreamState>,
    /// Per state boundary its rows.
    pub boundaries: BTreeMap<String, BoundaryState>,
    /// Per sink how far it had sent; only of those that go on from there.
    #[serde(default)]
    pub sinks: BTreeMap<String, Sent>,
    /// Per query a fingerprint of what it computes.
    #[serde(default)]
    pub queries: BTreeMap<String, Fingerprint>,
    /// The name under which it is kept until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What its segments have in common with older checkpoints.
    #[serde(default)]
    pub lineage: Lineage,
}

/// What the segments of a checkpoint have in common with those of older ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// It shares no segment with the checkpoints up to this one, which says the same in other
    /// segments; 0 where there is none.
    pub since: Epoch,
    /// How many bytes it would have if nothing had changed since then.
    pub base_bytes: u64,
    /// How many checkpoints were taken since then.
    pub taken: u32,
}

/// How far a stream was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// Its watermark; `None` before the first event.
    pub watermark: Option<Timestamp>,
    /// Of the records' type.
    pub fingerprint: Fingerprint,
    /// Its partitions.
    pub partitions: BTreeMap<u32, PartitionState>,
    /// What each partition is read from: positions in one origin mean nothing in another.
    #[serde(default)]
    pub origins: BTreeMap<u32, String>,
}

/// How far a partition was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// The next position to read.
    pub position: u64,
    /// The highest event time read; its watermark is this less the stream's lateness bound.
    pub highest: Option<Timestamp>,
    /// The least its watermark counts as.
    pub floor: Option<Timestamp>,
    /// Whether it holds the stream's watermark back no longer.
    pub idle: bool,
    /// What the last record before the position looked like, where that tells one origin from
    /// another of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRecord>,
}

/// The rows of a state boundary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundaryState {
    /// Of the rows' type.
    pub fingerprint: Fingerprint,
    /// Its segments, by layer. Any number of workers wrote them, any number may read them.
    #[serde(default)]
    pub segments: Vec<SegmentInfo>,
    /// Whether the segments are layers of changes, of which the newest says how a row is; else they
    /// are rows, and all count.
    #[serde(default)]
    pub is_layered: bool,
    /// A number that the boundary noted with its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<i64>,
}

impl BoundaryState {
    /// Its segments layer by layer, the newest last.
    pub fn layers(&self) -> impl Iterator<Item = &[SegmentInfo]> {
        self.segments.chunk_by(|a, b| a.layer == b.layer)
    }

    /// About how many rows there are of one worker, or of all: as many as in the oldest segments,
    /// which newer ones mostly say again.
    pub fn rows_for(&self, worker: Option<&Share>) -> usize {
        let oldest = self.segments.iter().map(SegmentInfo::made_at).min();
        let base = (self.segments.iter()).filter(|segment| Some(segment.made_at()) == oldest);
        let rows = base.map(|segment| match worker {
            Some(worker) if !segment.is_for(worker) => 0,
            Some(worker) => {
                let parts = segment.share().map(|share| share.parts_for(worker));
                segment.rows / parts.unwrap_or(worker.of)
            }
            None => segment.rows,
        });
        usize::try_from(rows.sum::<u64>()).unwrap_or(0)
    }

    /// The number of the newest layer.
    pub fn newest_layer(&self) -> Option<u64> {
        self.segments.iter().map(|segment| segment.layer).max()
    }
}

/// A segment: one file of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentInfo {
    /// The file's name within `checkpoints/segments`.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// The checksum of all its bytes.
    pub crc32: u32,
    /// How many rows it has.
    pub rows: u64,
    /// The worker that wrote it.
    pub worker: usize,
    /// The layer it is part of. Segments of a layer are each sorted, and follow one another.
    #[serde(default)]
    pub layer: u64,
    /// Whose rows it has, if they are one worker's: [`Share`](crate::columns::share::Share).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
}

impl SegmentInfo {
    /// Whether a worker's rows may be in it.
    pub fn is_for(&self, worker: &Share) -> bool {
        self.share().is_none_or(|share| share.meets(worker))
    }

    /// The checkpoint it was written for, as its file's name says.
    fn made_at(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }

    /// Whose rows it has.
    pub fn share(&self) -> Option<Share> {
        self.share.as_ref()?.parse().ok()
    }
}

/// A number that tells one shape or meaning from another; in JSON 16 hex digits, since many
/// readers of JSON round large numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fingerprint, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16)
            .map(Fingerprint)
            .map_err(D::Error::custom)
    }
}

impl Manifest {
    /// Every segment with the name of its boundary.
    pub fn segments(&self) -> impl Iterator<Item = (&str, &SegmentInfo)> {
        self.boundaries
            .iter()
            .flat_map(|(name, boundary)| boundary.segments.iter().map(move |s| (name.as_str(), s)))
    }

    /// The checkpoint as it is listed.
    pub fn info(&self) -> CheckpointInfo {
        CheckpointInfo {
            epoch: self.epoch,
            run: self.run,
            published_at: self.published_at,
            bytes: self.segments().map(|(_, segment)| segment.bytes).sum(),
            rows: self.segments().map(|(_, segment)| segment.rows).sum(),
            label: self.label.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_for_each_row_at_one_worker() {
        let segment = |me: u64| SegmentInfo {
            file: "1.q.arrow".to_owned(),
            bytes: 0,
            crc32: 0,
            rows: 1_200,
            worker: 0,
            layer: 1,
            share: Some(format!("{me}/2 by 0000000000000007")),
        };
        let state = BoundaryState {
            segments: vec![segment(0), segment(1)],
            ..BoundaryState::default()
        };
        for of in 1..7 {
            let share = |me| Share { me, of, hashing: 7 };
            let rooms = (0..of).map(|me| state.rows_for(Some(&share(me))));
            assert_eq!(rooms.sum::<usize>(), 2_400, "{of} workers");
        }
        assert_eq!(state.rows_for(None), 2_400);
    }
}
