//! How many bids each bidder made in every ten seconds of the bids' own time.

use super::parts::offers;
use waterclock::prelude::*;

data! {
    pub struct Made { bidder: u64, n: u64, started: Timestamp, ended: Timestamp }
}

pub fn query(flow: Flow) -> Table<(u64, Window), Made> {
    offers(&flow)
        .key_by(|bid| bid.bidder)
        .window(tumbling(seconds(10)))
        .count()
        .map_values(|(bidder, window), n| Made {
            bidder: *bidder,
            n: *n,
            started: window.start,
            ended: window.end,
        })
}
