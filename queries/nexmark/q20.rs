//! Every bid for an auction of category 10, with the auction.

use super::events::{auctions, bids};
use waterclock::prelude::*;

data! {
    pub struct Both {
        auction: u64,
        bidder: u64,
        price: u64,
        channel: Text,
        url: Text,
        ts: Timestamp,
        extra: Text,
        item: Text,
        description: Text,
        initial_bid: u64,
        reserve: u64,
        listed: Timestamp,
        expires: Timestamp,
        seller: u64,
        category: u64,
        auction_extra: Text,
    }
}

pub fn query(flow: Flow) -> Table<u64, Both> {
    let auctions = auctions(&flow)
        .filter(|auction| auction.category == 10)
        .key_by(|auction| auction.id)
        .keep_forever();
    bids(&flow)
        .key_by(|bid| bid.auction)
        .keep_forever()
        .join(auctions)
        .map_values(|id, (bid, auction)| Both {
            auction: *id,
            bidder: bid.bidder,
            price: bid.price,
            channel: bid.channel.clone(),
            url: bid.url.clone(),
            ts: bid.ts,
            extra: bid.extra.clone(),
            item: auction.item.clone(),
            description: auction.description.clone(),
            initial_bid: auction.initial_bid,
            reserve: auction.reserve,
            listed: auction.ts,
            expires: auction.expires,
            seller: auction.seller,
            category: auction.category,
            auction_extra: auction.extra.clone(),
        })
}
