//! The workers: timely threads that run the dataflow of all queries, and who feeds them.
//!
//! # Layout
//!
//! * [`run`]: the threads, what they are told, and what they say
//! * [`cuts`]: which records make an epoch
//! * [`replay`]: files to their end, final rows out; [`reproduce`]: epochs of a service once more
//! * [`live`]: the service; its coordinator journals each epoch before it is fed
//! * [`snapshots`], [`restore`]: checkpoints, written and read
//! * `start`: what of them a service begins with
//! * `sinks`: where answers go besides the views

mod checkpoints;
mod compaction;
mod coordinator;
pub mod cuts;
pub mod live;
mod look;
mod outlet;
mod partitions;
pub mod replay;
pub mod reproduce;
pub mod restore;
pub mod run;
mod sinks;
pub mod snapshots;
mod start;
mod syncer;

pub use outlet::Poison;
pub use sinks::SinkPlan;
pub use start::Start;
