//! The command line: what may be said to the `waterclock` binary, and the commands that only ask a
//! running service. What a command does with the engine is composed in `main.rs`.

mod answers;
mod args;
mod bench;
mod client;
mod doctor;
mod error;
mod events;
mod print;
mod show;
mod tail;
mod values;

pub use answers::{
    CheckpointList, Diff, Hindrance, PartitionInfo, Posted, Pull, PulledChange, PulledRow,
    QueryInfo, QueryList, SinkInfo, SinkList, Snapshot, StreamInfo, StreamList,
};
pub use args::{
    CheckArgs, CheckpointCommand, Cli, Command, PlaceArgs, QueryArgs, ReplayArgs, RunArgs,
    ServiceUrl, SettingsArgs, TailArgs,
};
pub use bench::{BenchArgs, BenchCommand, EventsArgs};
pub use client::{Client, PullRequest};
pub use doctor::show_doctor;
pub use error::ClientError;
pub use print::Grid;
pub use show::{show_checkpoint_now, show_checkpoints, show_query, show_status};
pub use tail::{Stop, tail};
pub use values::{Output, ReplayStream};
