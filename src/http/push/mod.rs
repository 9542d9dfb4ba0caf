//! Push: a query's answer and then its changes, to whoever subscribes.
//!
//! A subscriber is a place in the shared history of a view and nothing more. `changes` is the
//! address; a `feed` reads the newest changes once for all subscribers of a query, in `step`s; a
//! `subscription` knows what its subscriber has got and what comes next, and a `driver` waits for
//! it; `wire` is how events are written, `socket` the other way they travel. The `hub` knows them
//! all, and bounds them. Nothing here runs on a thread of the dataflow.

mod changes;
mod driver;
mod feed;
mod hub;
mod socket;
mod step;
mod subscription;
#[cfg(test)]
mod tests;
mod wire;

pub(super) use changes::{Asked, changes};
pub(super) use hub::Hub;
