//! How many bids somebody made in one go: none of them ten seconds after the one before.

use std::time::Duration;

use super::parts::offers;
use waterclock::prelude::*;

data! {
    pub struct Visit { bidder: u64, n: u64, started: Timestamp, ended: Timestamp }
}

pub fn query(flow: Flow) -> Table<(u64, Window), Visit> {
    visits(flow, seconds(10))
}

/// Visits that are over once the bidder is silent for `gap`.
pub fn visits(flow: Flow, gap: Duration) -> Table<(u64, Window), Visit> {
    offers(&flow)
        .key_by(|bid| bid.bidder)
        .window(session(gap))
        .count()
        .map_values(|(bidder, window), n| Visit {
            bidder: *bidder,
            n: *n,
            started: window.start,
            ended: window.end,
        })
}
