//! The larger bids in euros, with the time of day, and how many letters of a kind they carry.

use super::events::{hour, thousandths};
use super::parts::{Remark, of_bids};
use waterclock::prelude::*;

data! {
    pub struct Judged {
        auction: u64,
        bidder: u64,
        price: Float,
        time_of_day: Text,
        ts: Timestamp,
        extra: Text,
        letters: u64,
    }
}

pub fn query(flow: Flow) -> Stream<Judged> {
    of_bids(&flow, |bid: &Remark| {
        let is_larger = (1_000_000_001..50_000_000_000).contains(&(908 * bid.price));
        is_larger.then(|| Judged {
            auction: bid.auction,
            bidder: bid.bidder,
            price: thousandths(908 * bid.price),
            time_of_day: time_of_day(bid.ts).into(),
            ts: bid.ts,
            extra: bid.extra.clone(),
            letters: bid.extra.matches('c').count() as u64,
        })
    })
}

fn time_of_day(ts: Timestamp) -> &'static str {
    match hour(ts) {
        8..=18 => "dayTime",
        0..=6 | 20.. => "nightTime",
        _ => "otherTime",
    }
}
