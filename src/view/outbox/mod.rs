//! What leaves the service besides answers to readers: each closed epoch's messages, from the
//! workers to a sink. Who sends them, and where to, is not known here.

mod follow;
mod message;
mod queue;
mod spec;
#[cfg(test)]
mod tests;

pub use follow::Writer;
pub use message::{Kind, Message};
pub use queue::{Group, Next, Outbox};
pub use spec::{Committed, Delivery, Mode, Sent, SinkSpec, SinkState, SinkStatus};
