//! Tests of the log as a whole, by what they put it through.

mod failures;
mod idempotency;
mod reading;
mod recovery;
mod release;
mod support;
