//! The highest bids of every ten seconds. Who bids as much at the very end is among them; bids are
//! kept for an hour.

use std::sync::Arc;

use super::events::Shared;
use super::parts::{Remark, of_bids};
use waterclock::prelude::*;

data! {
    pub struct Highest { auction: u64, price: u64, bidder: u64, ts: Timestamp, extra: Text }
}

pub fn query(flow: Flow) -> Table<u64, Highest> {
    let bids = of_bids(&flow, |bid: &Shared<Remark>| Some(Arc::clone(&bid.0)));
    let best = bids
        .clone()
        .key_by(|_bid| ())
        .window(tumbling(seconds(10)))
        .max(|bid| bid.price)
        .map(|((), window), price| (*price, *window));
    bids.key_by(|bid| bid.price)
        .keep(hours(1))
        .join(best)
        .filter(|_price, (bid, window)| (window.start..=window.end).contains(&bid.ts))
        .map_values(|_price, (bid, _window)| Highest {
            auction: bid.auction,
            price: bid.price,
            bidder: bid.bidder,
            ts: bid.ts,
            extra: bid.extra.clone(),
        })
}
