//! How many bids somebody made in one go: none of them ten seconds after the one before.

use super::events::bids;
use waterclock::prelude::*;

data! {
    pub struct Visit { bidder: u64, n: u64, started: Timestamp, ended: Timestamp }
}

pub fn query(flow: Flow) -> Table<(u64, Window), Visit> {
    bids(&flow)
        .key_by(|bid| bid.bidder)
        .window(session(seconds(10)))
        .count()
        .map_values(|(bidder, window), n| Visit {
            bidder: *bidder,
            n: *n,
            started: window.start,
            ended: window.end,
        })
}
