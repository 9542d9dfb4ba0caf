//! The mean of the best bids for the auctions of each category.

use super::events::bids_in_time;
use super::parts::{lots, offers};
use waterclock::prelude::*;

data! {
    pub struct Mean { category: u64, avg_best: i128 }
}

pub fn query(flow: Flow) -> Table<u64, Mean> {
    let offers = offers(&flow).map(|offer| (offer.auction, offer.ts, offer.price));
    bids_in_time(lots(&flow), offers)
        .map(|id, (auction, price)| ((*id, auction.category), *price))
        .max(|_auction, price| *price)
        .map(|(_id, category), best| (*category, *best))
        .sum_and_count(|_category, best| *best)
        .map_values(|category, (sum, count)| Mean {
            category: *category,
            avg_best: sum / i128::from(*count),
        })
}
