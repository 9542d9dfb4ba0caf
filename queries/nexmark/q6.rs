//! The mean of the best bids for the ten auctions of each seller that expired last.

use std::cmp::Reverse;

use super::events::bids_in_time;
use super::parts::lots_and_offers;
use waterclock::prelude::*;

data! {
    pub struct Mean { seller: u64, avg_best: i128 }
}

pub fn query(flow: Flow) -> Table<u64, Mean> {
    let (lots, offers) = lots_and_offers(&flow);
    bids_in_time(lots, offers)
        .map(|id, (auction, price)| ((auction.seller, auction.expires, *id), *price))
        .max(|_auction, price| *price)
        .map(|(seller, expires, id), best| (*seller, (*expires, *id, *best)))
        .ranked(10, |_seller, (expires, id, _best)| Reverse((*expires, *id)))
        .sum_and_count(|_seller, (_place, (.., best))| *best)
        .map_values(|seller, (sum, count)| Mean {
            seller: *seller,
            avg_best: sum / i128::from(*count),
        })
}
