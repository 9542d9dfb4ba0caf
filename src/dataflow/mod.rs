//! Timely and differential operators that the libraries lack: the epoch feed, the clock, decoding,
//! and the state boundaries. Nothing here reads a wall clock, blocks, or can fail.
//!
//! # Layout
//!
//! * [`feed`]: how worker 0 announces epochs and hands out chunks
//! * [`clock`]: watermarks as data, the same on every worker
//! * [`retire`]: the shape of every stateful operator: closed epochs, one by one, in order
//! * [`decode`]: bytes to records, and what each record's partition knew before it
//! * [`reading`]: the formats of records; `debezium` is one of them
//! * `json`: records of JSON
//! * [`lines`]: finding a record's raw bytes again
//! * [`schemas`]: records that name the schema they were written with
//! * [`panes`]: window arithmetic
//! * [`calendar`]: days and months of a time zone
//! * [`aggregate`][]: accumulators
//! * [`sessions`]: the session boundary
//! * [`chains`]: sessions of rows that come and go
//! * [`counted`]: the boundary of windows by number
//! * [`several`]: aggregates made of others
//! * [`sketches`]: aggregates that estimate
//! * `dense`: the map of what is held by key, be it of millions
//! * `folding`: records into accumulators
//! * `running`: sums of windows that overlap
//! * [`windows`]: the window boundary
//! * [`forever`]: the unbounded boundary
//! * [`appended`]: the boundary of answers that are streams
//! * [`kept`]: the boundary that keeps records
//! * [`keyed`]: the general state boundary, over its own arrangement
//! * [`ranks`]: the first rows of each key, in order
//! * [`joined`]: the join of two tables
//! * [`intervals`]: the interval join
//! * [`stamp`]: the canonical order of records
//! * [`paced`]: changes shown together, every so often
//! * [`bounded`]: bounded stores of late and rejected records
//! * [`values`]: sets whose copies share
//! * [`changes`]: what changed of a boundary's rows since its last segment
//! * [`vault`]: where boundaries save their rows and find them again

pub mod aggregate;
pub mod appended;
pub mod bounded;
pub mod calendar;
pub mod chains;
pub mod changes;
pub mod clock;
pub mod counted;
mod debezium;
pub mod decode;
mod dense;
pub mod feed;
mod folding;
pub mod forever;
pub mod intervals;
pub mod joined;
mod json;
pub mod kept;
pub mod keyed;
pub mod leaving;
pub mod lines;
pub mod paced;
pub mod panes;
pub mod ranks;
pub mod reading;
pub mod retire;
mod running;
pub mod schemas;
pub mod sessions;
pub mod settling;
pub mod several;
pub mod sketches;
pub mod stamp;
pub mod values;
pub mod vault;
pub mod windows;
