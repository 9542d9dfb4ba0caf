//! Every bid as it is: what passing a record through costs.

use super::parts::{Remark, of_bids};
use waterclock::prelude::*;

data! {
    pub struct Passed { auction: u64, bidder: u64, price: u64, ts: Timestamp, extra: Text }
}

pub fn query(flow: Flow) -> Stream<Passed> {
    of_bids(&flow, |bid: &Remark| {
        Some(Passed {
            auction: bid.auction,
            bidder: bid.bidder,
            price: bid.price,
            ts: bid.ts,
            extra: bid.extra.clone(),
        })
    })
}
