//! Messages to a Kafka topic, and the progress beside them, in one transaction.
//!
//! # Layout
//!
//! * `sink`: opening and committing
//! * `client`: a producer, and what is heard of its brokers
//! * `ledger`: the topic of progress records

mod client;
mod ledger;
mod sink;
#[cfg(test)]
mod tests;

pub use sink::{KafkaSettings, KafkaSink};
