//! The ten highest bids of each auction.

use std::cmp::Reverse;

use super::events::bids;
use waterclock::prelude::*;

data! {
    pub struct Placed {
        auction: u64,
        bidder: u64,
        price: u64,
        channel: Text,
        url: Text,
        ts: Timestamp,
        extra: Text,
        place: u64,
    }
}

pub fn query(flow: Flow) -> Table<u64, Placed> {
    bids(&flow)
        .key_by(|bid| bid.auction)
        .keep_forever()
        .ranked(10, |_auction, bid| (Reverse(bid.price), bid.ts, bid.bidder))
        .map_values(|auction, (place, bid)| Placed {
            auction: *auction,
            bidder: bid.bidder,
            price: bid.price,
            channel: bid.channel.clone(),
            url: bid.url.clone(),
            ts: bid.ts,
            extra: bid.extra.clone(),
            place: *place,
        })
}
