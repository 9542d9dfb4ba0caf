//! The queries that the pages on windows, joins and ranking quote.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};
use waterclock::prelude::*;

/// An item is put up for sale.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lot {
    pub id: u32,
    pub category: Text,
    pub opens: Timestamp,
    pub closes: Timestamp,
}

impl Event for Lot {
    const STREAM: &'static str = "lots";
    fn time(&self) -> Timestamp {
        self.opens
    }
}

/// Somebody offers a price for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bid {
    pub lot: u32,
    pub who: Text,
    pub price: i64,
    pub at: Timestamp,
}

impl Event for Bid {
    const STREAM: &'static str = "bids";
    fn time(&self) -> Timestamp {
        self.at
    }
}

/// One bidder's visits: until nothing comes for ten minutes.
pub fn visits(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Bid>()
        .key_by(|bid| bid.who.clone())
        .window(session(minutes(10)))
        .count()
}

/// When lots of a category were opened, without an hour in between.
pub fn seasons(flow: Flow) -> Table<(Text, Window), u64> {
    lots(&flow)
        .map(|_id, lot| (lot.category.clone(), lot.opens))
        .sessions(hours(1), |_category, opens| *opens)
        .count()
}

/// The day so far, hour by hour.
pub fn so_far(flow: Flow) -> Table<((), Window), i128> {
    flow.stream::<Bid>()
        .key_by(|_| ())
        .window(cumulative(days(1)).every(hours(1)).final_only())
        .sum(|bid| bid.price)
}

/// The days of a place, where some have 23 hours and some 25.
pub fn per_day(flow: Flow) -> Table<(u32, Window), u64> {
    flow.stream::<Bid>()
        .key_by(|bid| bid.lot)
        .window(daily("America/New_York"))
        .count_distinct(|bid| bid.who.clone())
}

/// The best of every three bids.
pub fn by_threes(flow: Flow) -> Table<(u32, u64), i64> {
    flow.stream::<Bid>()
        .key_by(|bid| bid.lot)
        .window(records(3))
        .max(|bid| bid.price)
}

/// A live number that changes every ten seconds at most.
pub fn calm(flow: Flow) -> Table<(u32, Window), u64> {
    flow.stream::<Bid>()
        .key_by(|bid| bid.lot)
        .window(sliding(hours(1)).every(minutes(1)))
        .count()
        .every(seconds(10))
}

fn is_low(bid: &Bid) -> bool {
    bid.price < 100
}

fn is_high(bid: &Bid) -> bool {
    bid.price >= 100
}

/// The same of all bids, of low ones and of high ones.
fn by_price<A>(all: A) -> impl Aggregate<Bid, Out = (A::Out, A::Out, A::Out)>
where
    A: Neutral<Bid> + Clone,
{
    let low = all.clone().filter(is_low);
    let high = all.clone().filter(is_high);
    (all, low, high)
}

type Tiers = (u64, u64, u64);

/// Several questions at once.
pub fn tiers(flow: Flow) -> Table<u32, (Tiers, Tiers, i64)> {
    flow.stream::<Bid>()
        .key_by(|bid| bid.lot)
        .forever()
        .aggregate((
            by_price(count()),
            by_price(distinct(|bid: &Bid| bid.who.clone())),
            max(|bid: &Bid| bid.price),
        ))
}

/// How many bid low, and how many high.
pub fn bidders(flow: Flow) -> Table<u32, [u64; 2]> {
    flow.stream::<Bid>()
        .key_by(|bid| bid.lot)
        .forever()
        .aggregate(distinct(|bid: &Bid| bid.who.clone()).among([is_low, is_high]))
}

/// Who bids how often, as long as somebody has bid in thirty days.
pub fn active(flow: Flow) -> Table<Text, u64> {
    flow.stream::<Bid>()
        .key_by(|bid| bid.who.clone())
        .forever()
        .ttl(days(30))
        .count()
}

/// About how many bid, and what nine of ten bids do not exceed.
pub fn estimates(flow: Flow) -> Table<((), Window), (u64, Float)> {
    flow.stream::<Bid>()
        .key_by(|_| ())
        .window(tumbling(hours(1)))
        .aggregate((
            approx_distinct(|bid: &Bid| bid.who.clone()),
            quantile(0.9, |bid: &Bid| bid.price as f64),
        ))
}

fn lots<'s>(flow: &Flow<'s>) -> Table<'s, u32, Lot> {
    flow.stream::<Lot>().key_by(|lot| lot.id).keep_forever()
}

fn bids<'s>(flow: &Flow<'s>) -> Table<'s, u32, Bid> {
    flow.stream::<Bid>().key_by(|bid| bid.lot).keep_forever()
}

/// What each lot went for: the best of the bids while it was open.
pub fn closing(flow: Flow) -> Table<u32, i64> {
    bids(&flow)
        .join(lots(&flow))
        .filter(|_id, (bid, lot)| (lot.opens..=lot.closes).contains(&bid.at))
        .max(|_id, (bid, _lot)| bid.price)
}

/// Lots with what was bid, or nothing.
pub fn all_lots(flow: Flow) -> Table<u32, Option<i64>> {
    let prices = bids(&flow).map_values(|_id, bid| bid.price);
    lots(&flow)
        .left_join(prices)
        .map_values(|_id, (_lot, price)| *price)
}

/// Lots that somebody bid for, and lots that nobody did.
pub fn wanted(flow: Flow) -> Table<u32, Text> {
    let wanted = lots(&flow).semi_join(bids(&flow));
    wanted.map_values(|_id, lot| lot.category.clone())
}

pub fn unwanted(flow: Flow) -> Table<u32, Text> {
    let unwanted = lots(&flow).anti_join(bids(&flow));
    unwanted.map_values(|_id, lot| lot.category.clone())
}

/// Bids in the first minute of their lot.
pub fn early(flow: Flow) -> Table<(Text, Window), u64> {
    let lots = flow.stream::<Lot>().key_by(|lot| lot.id);
    flow.stream::<Bid>()
        .key_by(|bid| bid.lot)
        .interval_join(lots, minutes(1), seconds(0))
        .key_by(|(_bid, lot)| lot.category.clone())
        .window(tumbling(hours(1)))
        .count()
}

/// The two best bids of each lot, the earlier one first where they are equal.
pub fn best(flow: Flow) -> Table<u32, (u64, Text)> {
    bids(&flow)
        .ranked(2, |_lot, bid| (Reverse(bid.price), bid.at))
        .map_values(|_lot, (place, bid)| (*place, bid.who.clone()))
}

/// Each bidder's last bid for each lot.
pub fn last_bids(flow: Flow) -> Table<(u32, Text), Bid> {
    flow.stream::<Bid>()
        .key_by(|bid| (bid.lot, bid.who.clone()))
        .forever()
        .last()
}

/// Bids without those that repeat another within a minute.
pub fn not_repeated(flow: Flow) -> Table<((u32, Text), Window), Bid> {
    flow.stream::<Bid>()
        .key_by(|bid| (bid.lot, bid.who.clone()))
        .window(session(minutes(1)))
        .first()
}

/// What the lots of a category bring on average.
pub fn averages(flow: Flow) -> Table<Text, i128> {
    closing(flow.clone())
        .join(lots(&flow))
        .map(|_id, (price, lot)| (lot.category.clone(), *price))
        .sum_and_count(|_category, price| *price)
        .map_values(|_category, (sum, count)| sum / i128::from(*count))
}
