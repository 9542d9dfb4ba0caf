//! A real Apache Kafka for tests, and what they ask of it.
//!
//! * [`Broker`]: one node that the test owns, or one that all tests of a file share.
//! * [`Client`]: topics, records, transactions and offsets through librdkafka.
//! * [`Tools`]: Kafka's own command line programs, to check librdkafka and us independently.
//!
//! A machine without Java or Maven gets `None` instead of a broker, and the reason on standard
//! error. The variable `WATERCLOCK_TEST_KAFKA` changes that: with `required` it is a failure, and
//! `HOST:PORT` names a broker that [`Broker::shared`] gives instead of one of its own.
#![allow(
    dead_code,
    unused_imports,
    reason = "a test file uses the part that it needs"
)]

pub use broker::{Broker, until};
pub use client::{Client, Record, Transaction, unique};
pub use tools::Tools;

mod artifacts;
mod broker;
mod client;
mod java;
mod tools;
