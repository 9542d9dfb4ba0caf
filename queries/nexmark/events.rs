//! The records of the stream `nexmark`: people, auctions and bids. What no query asks for is left
//! out, and not decoded.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use waterclock::prelude::*;

data! {
    /// Somebody who may sell and bid.
    pub struct Person {
        id: u64,
        name: Text,
        city: Text,
        state: Text,
        #[serde(rename = "dateTime")]
        ts: Timestamp,
    }
}

data! {
    /// Something for sale until it expires.
    #[serde(rename_all = "camelCase")]
    pub struct Auction {
        id: u64,
        #[serde(rename = "itemName")]
        item: Text,
        description: Text,
        initial_bid: u64,
        reserve: u64,
        #[serde(rename = "dateTime")]
        ts: Timestamp,
        expires: Timestamp,
        seller: u64,
        category: u64,
        extra: Text,
    }
}

data! {
    /// What somebody would pay.
    pub struct Bid {
        auction: u64,
        bidder: u64,
        price: u64,
        channel: Text,
        url: Text,
        #[serde(rename = "dateTime")]
        ts: Timestamp,
        extra: Text,
    }
}

/// A record of the stream; shared, since many queries want the same ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "Line")]
pub enum Nexmark {
    Person(Arc<Person>),
    Auction(Arc<Auction>),
    Bid(Arc<Bid>),
}

/// A record as it is written: one of three.
#[derive(Deserialize)]
struct Line {
    #[serde(default, deserialize_with = "shared")]
    person: Option<Arc<Person>>,
    #[serde(default, deserialize_with = "shared")]
    auction: Option<Arc<Auction>>,
    #[serde(default, deserialize_with = "shared")]
    bid: Option<Arc<Bid>>,
}

/// serde would allocate it in a box first, and copy it from there.
fn shared<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Arc<T>>, D::Error> {
    Ok(Option::<T>::deserialize(from)?.map(Arc::new))
}

impl TryFrom<Line> for Nexmark {
    type Error = &'static str;

    fn try_from(line: Line) -> Result<Nexmark, Self::Error> {
        let Line {
            person,
            auction,
            bid,
        } = line;
        (bid.map(Nexmark::Bid))
            .or_else(|| auction.map(Nexmark::Auction))
            .or_else(|| person.map(Nexmark::Person))
            .ok_or("an event has a `person`, an `auction` or a `bid`")
    }
}

impl Event for Nexmark {
    const STREAM: &'static str = "nexmark";
    fn time(&self) -> Timestamp {
        match self {
            Nexmark::Person(person) => person.ts,
            Nexmark::Auction(auction) => auction.ts,
            Nexmark::Bid(bid) => bid.ts,
        }
    }
}

pub fn people<'s>(flow: &Flow<'s>) -> Stream<'s, Arc<Person>> {
    flow.stream::<Nexmark>().flat_map(|event| match event {
        Nexmark::Person(person) => Some(Arc::clone(person)),
        _ => None,
    })
}

pub fn auctions<'s>(flow: &Flow<'s>) -> Stream<'s, Arc<Auction>> {
    flow.stream::<Nexmark>().flat_map(|event| match event {
        Nexmark::Auction(auction) => Some(Arc::clone(auction)),
        _ => None,
    })
}

pub fn bids<'s>(flow: &Flow<'s>) -> Stream<'s, Arc<Bid>> {
    flow.stream::<Nexmark>().flat_map(|event| match event {
        Nexmark::Bid(bid) => Some(Arc::clone(bid)),
        _ => None,
    })
}

/// Every auction with what is wanted of each bid that was made for it while it was open.
pub fn bids_in_time<'s, T: Arrangeable>(
    flow: &Flow<'s>,
    wanted: impl Fn(&Arc<Bid>) -> T + 'static,
) -> Table<'s, u64, (Arc<Auction>, T)> {
    let bids = bids(flow)
        .map(move |bid| (bid.auction, bid.ts, wanted(bid)))
        .key_by(|(auction, ..)| *auction)
        .keep_forever();
    auctions(flow)
        .key_by(|auction| auction.id)
        .keep_forever()
        .join(bids)
        .filter(|_id, (auction, (_, ts, _))| (auction.ts..=auction.expires).contains(ts))
        .map_values(|_id, (auction, (.., bid))| (Arc::clone(auction), bid.clone()))
}

/// An aggregate of all bids, of the low ones, of those between, and of the high ones.
pub fn by_price<A>(of: A) -> impl Aggregate<Arc<Bid>, Out = (A::Out, A::Out, A::Out, A::Out)>
where
    A: Neutral<Arc<Bid>> + Clone,
{
    (
        of.clone(),
        of.clone().filter(|bid: &Arc<Bid>| bid.price < 10_000),
        of.clone()
            .filter(|bid: &Arc<Bid>| (10_000..1_000_000).contains(&bid.price)),
        of.filter(|bid: &Arc<Bid>| bid.price >= 1_000_000),
    )
}

/// The day, as in `2023-11-14`.
pub fn day(ts: Timestamp) -> Text {
    within(ts, 0..10)
}

/// The minute of the day, as in `23:59`.
pub fn minute(ts: Timestamp) -> Text {
    within(ts, 11..16)
}

/// A part of `2023-11-14T23:59:59.999Z`, which a `Text` holds without an allocation.
fn within(ts: Timestamp, part: Range<usize>) -> Text {
    let mut whole = Text::default();
    let _ = write!(whole, "{ts}");
    whole[part].into()
}

pub fn hour(ts: Timestamp) -> i64 {
    ts.0.div_euclid(3_600_000).rem_euclid(24)
}

/// Exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "rounded once, beyond 2^53")]
pub fn thousandths(n: u64) -> Float {
    Float(n as f64 / 1000.0)
}
