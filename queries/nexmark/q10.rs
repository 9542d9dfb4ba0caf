//! Every bid with its day and minute, as files would be named after them.

use super::events::{day, minute};
use super::parts::{Remark, of_bids};
use waterclock::prelude::*;

data! {
    pub struct Dated {
        auction: u64,
        bidder: u64,
        price: u64,
        ts: Timestamp,
        extra: Text,
        day: Text,
        minute: Text,
    }
}

pub fn query(flow: Flow) -> Stream<Dated> {
    of_bids(&flow, |bid: &Remark| {
        Some(Dated {
            auction: bid.auction,
            bidder: bid.bidder,
            price: bid.price,
            ts: bid.ts,
            extra: bid.extra.clone(),
            day: day(bid.ts),
            minute: minute(bid.ts),
        })
    })
}
