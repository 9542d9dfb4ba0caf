//! Day by day what was bid for each auction.

use super::events::{by_price, day, midnight};
use super::parts::{Offer, offers};
use waterclock::prelude::*;

data! {
    pub struct Daily {
        auction: u64,
        day: Text,
        bids_all: u64,
        bids_low: u64,
        bids_mid: u64,
        bids_high: u64,
        lowest: u64,
        highest: u64,
        mean: i128,
        total: i128,
    }
}

pub fn query(flow: Flow) -> Table<(u64, Timestamp), Daily> {
    offers(&flow)
        .key_by(|bid| (bid.auction, midnight(bid.ts)))
        .forever()
        .aggregate((
            by_price(),
            min(|bid: &Offer| bid.price),
            max(|bid: &Offer| bid.price),
            sum(|bid: &Offer| bid.price),
        ))
        .map_values(
            |(auction, midnight), (bids, lowest, highest, total)| Daily {
                auction: *auction,
                day: day(*midnight),
                bids_all: bids.0,
                bids_low: bids.1,
                bids_mid: bids.2,
                bids_high: bids.3,
                lowest: *lowest,
                highest: *highest,
                mean: total / i128::from(bids.0),
                total: *total,
            },
        )
}
