//! The winning bid of each auction.

use std::cmp::Reverse;
use std::sync::Arc;

use super::events::{auctions, bids, bids_in_time};
use waterclock::prelude::*;

data! {
    pub struct Won {
        id: u64,
        item: Text,
        description: Text,
        initial_bid: u64,
        reserve: u64,
        ts: Timestamp,
        expires: Timestamp,
        seller: u64,
        category: u64,
        extra: Text,
        auction: u64,
        bidder: u64,
        price: u64,
        bid_ts: Timestamp,
        bid_extra: Text,
    }
}

pub fn query(flow: Flow) -> Table<u64, Won> {
    let bids = bids(&flow).map(|bid| (bid.auction, bid.ts, Arc::clone(bid)));
    bids_in_time(auctions(&flow), bids)
        .ranked(1, |_id, (_auction, bid)| {
            (Reverse(bid.price), bid.ts, bid.bidder)
        })
        .map_values(|id, (_place, (auction, bid))| Won {
            id: *id,
            item: auction.item.clone(),
            description: auction.description.clone(),
            initial_bid: auction.initial_bid,
            reserve: auction.reserve,
            ts: auction.ts,
            expires: auction.expires,
            seller: auction.seller,
            category: auction.category,
            extra: auction.extra.clone(),
            auction: bid.auction,
            bidder: bid.bidder,
            price: bid.price,
            bid_ts: bid.ts,
            bid_extra: bid.extra.clone(),
        })
}
