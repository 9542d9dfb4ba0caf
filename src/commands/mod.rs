//! What each command does with the engine.

pub mod bench;
pub mod check;
pub mod checkpoint;
pub mod replay;
pub mod run;
mod setting;
pub mod tail;
mod usage;
