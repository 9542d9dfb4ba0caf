//! What is set for a sink, how far it has come, and how it fares.

use serde::{Deserialize, Serialize};

use crate::time::Epoch;

/// Which of an answer's changes a sink sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Each key's newest row, and a tombstone once there is none.
    #[default]
    Upsert,
    /// Each row once, when it has become final.
    Final,
}

/// What a crash may do to messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Nothing, for those who read committed messages only.
    #[default]
    ExactlyOnce,
    /// Some come again.
    AtLeastOnce,
}

/// A sink, as it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkSpec {
    /// Its name.
    pub name: String,
    /// The query whose answer it sends.
    pub query: String,
    /// Where to.
    pub topic: String,
    /// Which changes.
    pub mode: Mode,
    /// What a crash may do to them.
    pub delivery: Delivery,
    /// How many bytes of messages may wait; beyond it no input is taken.
    pub buffer_bytes: usize,
}

/// How far a sink has come, as a checkpoint notes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The progress it has committed; `None` where that is nothing, or not known.
    pub committed: Option<Committed>,
    /// A restart may begin as of this epoch or an earlier one. Where a progress is known, nothing
    /// after it and up to this epoch is left to be sent.
    pub through: Epoch,
}

/// A progress that a sink has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The run that sent it.
    pub run: u64,
    /// The last epoch sent.
    pub epoch: Epoch,
}

/// How a sink fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SinkState {
    /// It has not reached its target yet.
    #[default]
    Starting,
    /// It sends.
    Running,
    /// Something failed; it is tried again for as long as it takes.
    Retrying(String),
    /// It sends nothing more; this says why, and the way out.
    Stopped(String),
}

/// What is told of a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// The query whose answer it sends.
    pub query: String,
    /// Where to.
    pub topic: String,
    /// Which changes.
    pub mode: Mode,
    /// What a crash may do to them.
    pub delivery: Delivery,
    /// How it fares, in a word: `starting`, `running`, `retrying` or `stopped`.
    pub state: &'static str,
    /// Why it does not run.
    pub reason: Option<String>,
    /// The newest epoch that is committed.
    pub epoch: Option<Epoch>,
    /// Epochs with messages that are not.
    pub waiting_epochs: usize,
    /// Their messages.
    pub waiting_messages: usize,
    /// The messages' bytes.
    pub waiting_bytes: usize,
    /// How much older the first of these epochs is than the newest epoch shown, in milliseconds.
    pub lag_ms: u64,
    /// Messages committed by this process.
    pub committed_messages: u64,
}
