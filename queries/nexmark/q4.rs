//! The mean of the best bids for the auctions of each category.

use super::events::bids_in_time;
use super::parts::lots_and_offers;
use waterclock::prelude::*;

data! {
    pub struct Mean { category: u64, avg_best: i128 }
}

pub fn query(flow: Flow) -> Table<u64, Mean> {
    let (lots, offers) = lots_and_offers(&flow);
    bids_in_time(lots, offers)
        .map(|id, (auction, price)| ((*id, auction.category), *price))
        .max(|_auction, price| *price)
        .map(|(_id, category), best| (*category, *best))
        .sum_and_count(|_category, best| *best)
        .map_values(|category, (sum, count)| Mean {
            category: *category,
            avg_best: sum / i128::from(*count),
        })
}
