//! Day by day how many bids, bidders and auctions there are, in all and by price.

use super::events::{by_price, day, midnight, prices};
use super::parts::{Offer, offers};
use waterclock::prelude::*;

data! {
    pub struct Daily {
        day: Text,
        bids_all: u64,
        bids_low: u64,
        bids_mid: u64,
        bids_high: u64,
        bidders_all: u64,
        bidders_low: u64,
        bidders_mid: u64,
        bidders_high: u64,
        auctions_all: u64,
        auctions_low: u64,
        auctions_mid: u64,
        auctions_high: u64,
    }
}

pub fn query(flow: Flow) -> Table<Timestamp, Daily> {
    offers(&flow)
        .key_by(|bid| midnight(bid.ts))
        .forever()
        .aggregate((
            by_price(),
            distinct(|bid: &Offer| bid.bidder).among(prices()),
            distinct(|bid: &Offer| bid.auction).among(prices()),
        ))
        .map_values(|midnight, (bids, bidders, auctions)| Daily {
            day: day(*midnight),
            bids_all: bids.0,
            bids_low: bids.1,
            bids_mid: bids.2,
            bids_high: bids.3,
            bidders_all: bidders[0],
            bidders_low: bidders[1],
            bidders_mid: bidders[2],
            bidders_high: bidders[3],
            auctions_all: auctions[0],
            auctions_low: auctions[1],
            auctions_mid: auctions[2],
            auctions_high: auctions[3],
        })
}
