//! Every bid in euros instead of dollars.

use super::events::thousandths;
use super::parts::{Remark, of_bids};
use waterclock::prelude::*;

data! {
    pub struct InEuros { auction: u64, bidder: u64, euros: Float, ts: Timestamp, extra: Text }
}

pub fn query(flow: Flow) -> Stream<InEuros> {
    of_bids(&flow, |bid: &Remark| {
        Some(InEuros {
            auction: bid.auction,
            bidder: bid.bidder,
            euros: thousandths(908 * bid.price),
            ts: bid.ts,
            extra: bid.extra.clone(),
        })
    })
}
