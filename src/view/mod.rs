//! What is the answer now? Query results as ordered, multi-versioned bags of rows in plain memory,
//! shared with the readers. No dataflow, no HTTP, no clock.

#[cfg(test)]
mod bank;
mod changelog;
mod groups;
mod horizon;
mod key;
mod labels;
mod merge;
#[cfg(test)]
mod model;
mod outbox;
mod page;
mod ports;
mod range;
mod result;
mod set;
mod shard;
mod spec;
mod standing;
mod versions;

pub use changelog::{Change, Finals, Span};
pub use labels::{Labels, PartitionLabel, StreamLabel};
pub use outbox::{
    Committed, Delivery, Group, Kind, Message, Mode, Next, Outbox, Sent, SinkSpec, SinkState,
    SinkStatus, Writer,
};
pub use page::{Page, RowPosition};
pub use ports::{
    CheckpointInfo, Checkpoints, Ingest, IngestError, LineVerdict, PostAnswer, PostReply,
    PostRequest,
};
pub use range::KeyRange;
pub use result::View;
pub use set::Views;
pub use spec::{History, Leaving, QuerySpec, ReadError};
pub use standing::{PartitionStanding, Standing, Standings, Trouble};
