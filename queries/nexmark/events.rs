//! The records of the stream `nexmark`: people, auctions and bids. What no query asks for is left
//! out, and not decoded.

use std::fmt::Write as _;
use std::ops::{Range, RangeInclusive};
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
#[serde(
    rename_all = "lowercase",
    try_from = "Line<Shared<Person>, Shared<Auction>, Shared<Bid>>"
)]
pub enum Nexmark {
    Person(Arc<Person>),
    Auction(Arc<Auction>),
    Bid(Arc<Bid>),
}

/// A record as it is written: one of three.
#[derive(Deserialize)]
pub struct Line<P, A, B> {
    person: Option<P>,
    auction: Option<A>,
    bid: Option<B>,
}

impl<P, A, B> Line<P, A, B> {
    pub fn read<T>(
        self,
        person: impl FnOnce(P) -> T,
        auction: impl FnOnce(A) -> T,
        bid: impl FnOnce(B) -> T,
    ) -> Result<T, &'static str> {
        (self.bid.map(bid))
            .or_else(|| self.auction.map(auction))
            .or_else(|| self.person.map(person))
            .ok_or("an event has a `person`, an `auction` or a `bid`")
    }
}

impl TryFrom<Line<Shared<Person>, Shared<Auction>, Shared<Bid>>> for Nexmark {
    type Error = &'static str;

    fn try_from(
        line: Line<Shared<Person>, Shared<Auction>, Shared<Bid>>,
    ) -> Result<Nexmark, Self::Error> {
        line.read(
            |person| Nexmark::Person(person.0),
            |auction| Nexmark::Auction(auction.0),
            |bid| Nexmark::Bid(bid.0),
        )
    }
}

/// Read into memory that is shared; serde would allocate a box first, and copy it from there.
#[derive(Clone, Debug, Serialize)]
pub struct Shared<T>(pub Arc<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Shared<T>, D::Error> {
        Ok(Shared(Arc::new(T::deserialize(from)?)))
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

/// Every auction with what is wanted of each bid that was made for it while it was open: of bids
/// by auction and time.
pub fn bids_in_time<'s, A, B>(
    auctions: Stream<'s, A>,
    bids: Stream<'s, (u64, Timestamp, B)>,
) -> Table<'s, u64, (A, B)>
where
    A: Listed + Arrangeable,
    B: Arrangeable,
{
    let bids = bids.key_by(|(auction, ..)| *auction).keep_forever();
    auctions
        .key_by(|auction| auction.listed().0)
        .keep_forever()
        .join(bids)
        .filter(|_id, (auction, (_, ts, _))| auction.listed().1.contains(ts))
        .map_values(|_id, (auction, (.., bid))| (auction.clone(), bid.clone()))
}

/// An auction, whole or not.
pub trait Listed {
    /// Its number, and when bids may be made.
    fn listed(&self) -> (u64, RangeInclusive<Timestamp>);
}

impl Listed for Arc<Auction> {
    fn listed(&self) -> (u64, RangeInclusive<Timestamp>) {
        (self.id, self.ts..=self.expires)
    }
}

/// How many bids there are: all, the low ones, those between, and the high ones.
pub fn by_price<B: Priced>() -> impl Aggregate<B, Out = (u64, u64, u64, u64)> {
    (
        count(),
        count().filter(is_low::<B>),
        count().filter(is_mid::<B>),
        count().filter(is_high::<B>),
    )
}

/// The same as filters.
pub fn prices<B: Priced>() -> [fn(&B) -> bool; 4] {
    [|_| true, is_low, is_mid, is_high]
}

fn is_low<B: Priced>(bid: &B) -> bool {
    bid.price() < 10_000
}

fn is_mid<B: Priced>(bid: &B) -> bool {
    (10_000..1_000_000).contains(&bid.price())
}

fn is_high<B: Priced>(bid: &B) -> bool {
    bid.price() >= 1_000_000
}

/// A bid, whole or not.
pub trait Priced: 'static {
    fn price(&self) -> u64;
}

/// When the day began.
pub fn midnight(ts: Timestamp) -> Timestamp {
    Timestamp(ts.0 - ts.0.rem_euclid(86_400_000))
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
