//! The bids of some auctions: every 123rd.

use super::parts::{Offer, of_bids};
use waterclock::prelude::*;

data! {
    pub struct Price { auction: u64, price: u64 }
}

pub fn query(flow: Flow) -> Stream<Price> {
    of_bids(&flow, |bid: &Offer| {
        bid.auction.is_multiple_of(123).then_some(Price {
            auction: bid.auction,
            price: bid.price,
        })
    })
}
