//! The workers: timely threads that run the dataflow of all queries, and who feeds them.
//!
//! # Layout
//!
//! * [`run`]: the threads, what they are told, and what they say
//! * [`replay`]: files to their end, final rows out

//! * [`cuts`]: which records make an epoch

pub mod cuts;

pub mod replay;
pub mod run;
