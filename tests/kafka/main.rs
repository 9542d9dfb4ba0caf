//! Reading from a real Kafka: nothing lost, nothing twice, and what is wrong is said.

#[path = "../support/kafka/mod.rs"]
mod kafka;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../support/service.rs"]
mod service;

mod acceptance;
mod clicks;
mod gone;
mod growth;
mod messages;
mod outages;
mod poison;
mod pressure;
mod starts;
mod transactions;
