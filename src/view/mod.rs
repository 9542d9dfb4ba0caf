//! What is the answer now? Query results as ordered, multi-versioned bags of rows in plain memory,
//! shared with the readers. No dataflow, no HTTP, no clock.

mod labels;
mod ports;

pub use labels::{Labels, PartitionLabel, StreamLabel};
pub use ports::{
    CheckpointInfo, Checkpoints, Ingest, IngestError, LineVerdict, PostAnswer, PostReply, PostRequest,
};
