//! Waterclock: streaming analytics that serves its own answers.
//!
//! A query is a Rust function; all queries compile onto timely-dataflow workers, differential
//! dataflow keeps every answer current with work proportional to the change, HTTP serves the
//! answers, and snapshots make a restart resume where it was.
//!
//! # Layout, lowest layer first
//!
//! * [`memory`], [`time`], [`record`], [`row`], [`number`]: the vocabulary; no I/O, no threads, no
//!   timely
//! * [`columns`], [`dataflow`]: rows as columns; operators that the libraries lack
//! * [`query`], [`view`]: what users write; what readers read
//! * [`source`], [`sink`], [`state`], [`worker`]: the edges, and the threads that drive them

pub mod cli;
pub mod columns;
pub mod config;
pub mod dataflow;
pub mod http;
pub mod memory;
pub mod number;
pub mod query;
pub mod record;
pub mod row;
pub mod sink;
pub mod source;
pub mod state;
pub mod testing;
pub mod time;
pub mod view;
pub mod worker;

pub use query::Query;

// Tests of what the compiler says derive records with the very serde that we are built with.
#[doc(hidden)]
pub use serde;

/// What a query module needs: `use waterclock::prelude::*;`
pub mod prelude {
    pub use crate::data;
    pub use crate::dataflow::aggregate::Aggregate;
    pub use crate::dataflow::keyed::Arrangeable;
    pub use crate::dataflow::several::{Neutral, avg, count, distinct, max, min, sum};
    pub use crate::dataflow::sketches::{approx_distinct, quantile};
    pub use crate::number::Float;
    pub use crate::query::{Flow, Keyed, Query, Stream, Table, Windowed};
    pub use crate::query::{cumulative, daily, monthly, records, session, sliding, tumbling};
    pub use crate::record::{Entity, Envelope, Event, Part, Text};
    pub use crate::time::{Timestamp, Window, days, hours, millis, minutes, seconds};
}

/// README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So does that of the page on Kafka.
#[cfg(doctest)]
#[doc = include_str!("../docs/kafka.md")]
struct KafkaPage;
