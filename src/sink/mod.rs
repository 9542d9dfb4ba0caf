//! Edges out: where answers go besides readers. A [`Sink`] sends groups of epochs and notes how far
//! it has come, where it can, in one step; a [`Driver`] is the thread that makes it do so.
//!
//! A sink knows nothing of queries, epochs' input or checkpoints: it is given messages by an outbox
//! of `view`, and a number to remember.

mod driver;
pub mod kafka;
mod past;
#[cfg(test)]
mod tests;

pub use driver::{Driver, Driving};
pub use past::Past;

use serde::{Deserialize, Serialize};

use crate::time::Epoch;
use crate::view::{Committed, Message};

/// How far a sink has come: kept where its messages go, so that a restart can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The run that sent it.
    pub run: u64,
    /// The last epoch sent.
    pub epoch: Epoch,
    /// Identifies what the query answers, and what of it is sent.
    pub fingerprint: String,
}

impl Progress {
    /// The progress, without what was sent.
    pub fn committed(&self) -> Committed {
        let (run, epoch) = (self.run, self.epoch);
        Committed { run, epoch }
    }
}

/// Why a sink could not do its part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// It may work later: a broker is away, a right is missing. What was sent may have arrived, and
    /// may not; the progress tells.
    #[error("{0}")]
    Retry(String),
    /// It will not work until somebody acts.
    #[error("{0}")]
    Stop(String),
}

/// Sends messages to one place, by one process at a time.
pub trait Sink: Send {
    /// Connects, undoes what a former process left unfinished, and tells the progress committed
    /// last. Also called after an error, to begin anew; then it stops if another process has come.
    fn open(&mut self) -> Result<Option<Progress>, SinkError>;

    /// Sends the messages, in order per key, and notes the progress after them. Exactly-once sinks
    /// do both or nothing. Returns when it is done for good.
    fn commit(&mut self, messages: &[Message], progress: &Progress) -> Result<(), SinkError>;
}
