//! The Nexmark benchmark's auction house as a source: people, auctions and bids, made up as they
//! are read. Every event is a function of the seed and its number, so that any part of any run can
//! be read again, and tests need no files.
//!
//! Of fifty events one is a person, three are auctions and the rest bids. Some auctions, sellers
//! and bidders are hot, and prices spread over six orders of magnitude. The second kind of data is
//! clicks, half of them by one user in a hundred.

mod arrivals;
mod dice;
mod events;
mod reader;
#[cfg(test)]
mod tests;

pub use reader::NexmarkSource;

use std::time::Duration;

use crate::time::Timestamp;

/// Which events are made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// People, auctions and bids.
    Auctions,
    /// Clicks of so many users.
    Clicks {
        /// How many.
        users: u64,
    },
}

/// What is made up, and in which order it arrives.
#[derive(Clone, Debug, PartialEq)]
pub struct NexmarkOptions {
    /// Which events.
    pub kind: Kind,
    /// Decides what is in them.
    pub seed: u64,
    /// Events per second of event time.
    pub rate: f64,
    /// How many there are; 0 for no end.
    pub events: u64,
    /// The event time of the first one.
    pub base: Timestamp,
    /// Each event arrives later than it happened, by less than this: a lateness bound of as much
    /// drops none. As many events as happen meanwhile are on their way, and held in memory.
    pub out_of_order: Duration,
    /// Of a million events so many are later than that.
    pub late_ppm: u64,
    /// By less than this.
    pub late: Duration,
    /// How many partitions the events are dealt out to, in turn.
    pub partitions: u32,
}

impl Default for NexmarkOptions {
    fn default() -> Self {
        NexmarkOptions {
            kind: Kind::Auctions,
            seed: 42,
            rate: 10_000.0,
            events: 0,
            // 50 s before a midnight, so that a minute of events lies in two days.
            base: Timestamp(1_700_006_350_000),
            out_of_order: Duration::ZERO,
            late_ppm: 0,
            late: Duration::ZERO,
            partitions: 1,
        }
    }
}

impl NexmarkOptions {
    /// The time of an event in ms.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the benchmark's own arithmetic: microseconds as a float, cut"
    )]
    fn time(&self, n: u64) -> i64 {
        let micros = (n as f64 * (1e6 / self.rate)) as u64;
        self.base.0.saturating_add_unsigned(micros / 1000)
    }
}
