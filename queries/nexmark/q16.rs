//! The same for each channel, and when it was last used.

use super::events::{by_price, day, midnight, minute, prices};
use super::parts::{Via, of_bids};
use waterclock::prelude::*;

data! {
    pub struct Daily {
        channel: Text,
        day: Text,
        last_minute: Text,
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

pub fn query(flow: Flow) -> Table<(Text, Timestamp), Daily> {
    of_bids(&flow, |bid: &Via| Some(bid.clone()))
        .key_by(|bid| (bid.channel.clone(), midnight(bid.ts)))
        .forever()
        .aggregate((
            max(|bid: &Via| bid.ts),
            by_price(),
            distinct(|bid: &Via| bid.bidder).among(prices()),
            distinct(|bid: &Via| bid.auction).among(prices()),
        ))
        .map_values(
            |(channel, midnight), (last, bids, bidders, auctions)| Daily {
                channel: channel.clone(),
                day: day(*midnight),
                last_minute: minute(*last),
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
            },
        )
}
