//! The last bid of each bidder for each auction.

use std::cmp::Reverse;
use std::sync::Arc;

use super::events::bids;
use waterclock::prelude::*;

data! {
    pub struct Last {
        auction: u64,
        bidder: u64,
        price: u64,
        channel: Text,
        url: Text,
        ts: Timestamp,
        extra: Text,
    }
}

pub fn query(flow: Flow) -> Table<(u64, u64), Last> {
    bids(&flow)
        .key_by(|bid| (bid.auction, bid.bidder))
        .forever()
        .max(|bid| {
            (
                bid.ts,
                bid.price,
                Reverse(bid.extra.clone()),
                Arc::clone(bid),
            )
        })
        .map_values(|_who, (.., bid)| Last {
            auction: bid.auction,
            bidder: bid.bidder,
            price: bid.price,
            channel: bid.channel.clone(),
            url: bid.url.clone(),
            ts: bid.ts,
            extra: bid.extra.clone(),
        })
}
