//! The bids of some auctions: every 123rd.

use super::parts::offers;
use waterclock::prelude::*;

data! {
    pub struct Price { auction: u64, price: u64 }
}

pub fn query(flow: Flow) -> Stream<Price> {
    offers(&flow)
        .filter(|bid| bid.auction % 123 == 0)
        .map(|bid| Price {
            auction: bid.auction,
            price: bid.price,
        })
}
