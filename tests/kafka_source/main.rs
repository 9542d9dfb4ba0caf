//! The source of Kafka topics by itself, against brokers that fail on demand.

#[path = "../support/kafka/mod.rs"]
mod kafka;

mod failures;
mod order;
mod places;
mod pressure;
mod reader;
