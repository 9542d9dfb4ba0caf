//! Trying queries out without a service: records in, rows out.
//!
//! # Layout
//!
//! * [`batch`], [`MemorySource`]: all records at once, final rows out
//! * [`Steps`], [`Round`]: epoch by epoch, as the live service runs, with its checkpoints

mod capture;
mod memory;
mod round;
mod steps;

pub use crate::dataflow::feed::{Change, Mark};
pub use capture::Bag;
pub use memory::{MemorySource, batch};
pub use round::{Records, Round};
pub use steps::{Saved, Steps};
