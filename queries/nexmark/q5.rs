//! The auctions with the most bids in the last ten seconds, every two seconds.

use super::parts::offers;
use waterclock::prelude::*;

data! {
    pub struct Hot { window_start: Timestamp, window_end: Timestamp, auction: u64, n: u64 }
}

pub fn query(flow: Flow) -> Table<((), Window), Hot> {
    let counts = offers(&flow)
        .key_by(|_bid| ())
        .window(sliding(seconds(10)).every(seconds(2)))
        .count_by(|bid| bid.auction);
    let most = counts.clone().max(|_window, (_auction, n)| *n);
    counts
        .join(most)
        .filter(|_window, ((_auction, n), most)| n == most)
        .map_values(|((), window), ((auction, n), _most)| Hot {
            window_start: window.start,
            window_end: window.end,
            auction: *auction,
            n: *n,
        })
}
