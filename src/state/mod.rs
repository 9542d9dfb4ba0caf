//! What survives a restart? The data directory: who owns it, which run it is, the epoch journal and
//! the checkpoints.
//!
//! ```text
//! data/
//!   lock                     held while a process owns the directory
//!   run.json                 run number, boot, whether it was closed cleanly
//!   log/                     the embedded streams' records; `source` owns what is inside
//!   journal/EPOCH.jsonl      a line per epoch, written before the epoch is shown
//!   checkpoints/EPOCH.json   manifests, each naming its segments
//!   checkpoints/segments/    Arrow IPC files: rows of one boundary, or what changed of them
//! ```
//!
//! The checkpoints may be in a bucket instead, under the same names. Then they outlive the
//! directory: an empty one begins with the newest of them.
//!
//! Nothing here knows the dataflow, and nothing reads the clock. Every byte is read as if it could
//! be wrong: manifests, segments and journal lines carry checksums that are compared first.

mod bucket;
mod checkpoint;
mod codec;
mod compact;
mod data_dir;
mod disk;
mod error;
mod files;
#[cfg(feature = "abomonation")]
mod image;
mod journal;
mod journal_file;
mod manifest;
mod objects;
mod segment;
mod shelf;
mod store;
mod writer;

pub use bucket::BucketOptions;
pub use checkpoint::{Checkpoint, Problem};
pub use codec::Codec;
pub use compact::SMALL;
pub use data_dir::DataDir;
pub use error::StateError;
pub use journal::{Journal, JournalReader, Unsynced};
pub use journal_file::{JournalEntry, PartitionChange, PartitionEvent};
pub use manifest::{
    BoundaryState, Fingerprint, Lineage, Manifest, PartitionState, SegmentInfo, StreamState,
};
pub use store::{CheckpointStore, StoreOptions};
pub use writer::CheckpointWriter;

#[cfg(test)]
mod tests;
