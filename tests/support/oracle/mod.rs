//! Random input for the live dataflow, and a naive recomputation to hold it against.
//!
//! # Layout
//!
//! * [`queries`]: the records, the shapes of windows, and the queries
//! * [`cases`]: random input, written down as epochs of lines
//! * [`times`]: what each record's partition knew before it, and each stream after each epoch
//! * [`answers`]: what every query answers to a prefix of the epochs, from scratch
//! * [`more`], [`tables`]: the same of more queries
//! * [`names`]: which queries there are
//! * [`runs`]: what the engine answers

pub mod answers;
pub mod cases;
pub mod more;
pub mod names;
pub mod queries;
pub mod runs;
pub mod tables;
pub mod times;
