//! The records of the stream `nexmark`: people, auctions and bids. What no query asks for is left
//! out, and not decoded.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use serde::de::DeserializeOwned;
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

/// A record of the stream, or what a query wants of it. Whole ones are shared, since many queries
/// want them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "Line<P, A, B>")]
#[serde(bound = "P: Piece, A: Piece, B: Piece")]
pub enum Nexmark<P = Arc<Person>, A = Arc<Auction>, B = Arc<Bid>> {
    Person(P),
    Auction(A),
    Bid(B),
}

/// A record as it is written: one of three.
#[derive(Deserialize)]
#[serde(bound = "P: Piece, A: Piece, B: Piece")]
struct Line<P, A, B> {
    #[serde(default, deserialize_with = "Piece::read")]
    person: Option<P>,
    #[serde(default, deserialize_with = "Piece::read")]
    auction: Option<A>,
    #[serde(default, deserialize_with = "Piece::read")]
    bid: Option<B>,
}

impl<P, A, B> TryFrom<Line<P, A, B>> for Nexmark<P, A, B> {
    type Error = &'static str;

    fn try_from(line: Line<P, A, B>) -> Result<Self, Self::Error> {
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

impl<P: Piece, A: Piece, B: Piece> Event for Nexmark<P, A, B> {
    const STREAM: &'static str = "nexmark";
    fn time(&self) -> Timestamp {
        match self {
            Nexmark::Person(person) => person.ts(),
            Nexmark::Auction(auction) => auction.ts(),
            Nexmark::Bid(bid) => bid.ts(),
        }
    }
}

impl<P, A, B> Part for Nexmark<P, A, B>
where
    P: Piece + Of<Arc<Person>>,
    A: Piece + Of<Arc<Auction>>,
    B: Piece + Of<Arc<Bid>>,
{
    type Whole = Nexmark;
    fn of(whole: &Nexmark) -> Self {
        match whole {
            Nexmark::Person(person) => Nexmark::Person(P::of(person)),
            Nexmark::Auction(auction) => Nexmark::Auction(A::of(auction)),
            Nexmark::Bid(bid) => Nexmark::Bid(B::of(bid)),
        }
    }
}

/// A person, an auction or a bid, or some fields of one.
pub trait Piece: Clone + Serialize + DeserializeOwned + Send + 'static {
    fn ts(&self) -> Timestamp;

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        Option::deserialize(from)
    }
}

/// What is made of a whole one.
pub trait Of<W> {
    fn of(whole: &W) -> Self;
}

impl<T: Piece + Sync> Piece for Arc<T> {
    fn ts(&self) -> Timestamp {
        T::ts(self)
    }

    /// serde would allocate it in a box first, and copy it from there.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        Ok(T::read(from)?.map(Arc::new))
    }
}

impl<W, T: Of<W>> Of<W> for Arc<T> {
    fn of(whole: &W) -> Arc<T> {
        Arc::new(T::of(whole))
    }
}

macro_rules! whole {
    ($($name:ident)*) => {
        $(
            impl Piece for $name {
                fn ts(&self) -> Timestamp {
                    self.ts
                }
            }

            impl Of<Arc<$name>> for Arc<$name> {
                fn of(whole: &Arc<$name>) -> Arc<$name> {
                    Arc::clone(whole)
                }
            }
        )*
    };
}

whole! { Person Auction Bid }

/// Declares what is wanted of a person, an auction or a bid; its time always is.
macro_rules! part {
    ($(#[$meta:meta])* $vis:vis struct $name:ident of $whole:ident {
        $($field:ident: $type:ty),* $(,)?
    }) => {
        data! {
            $(#[$meta])*
            $vis struct $name {
                $($field: $type,)*
                #[serde(rename = "dateTime")]
                ts: Timestamp,
            }
        }

        impl Piece for $name {
            fn ts(&self) -> Timestamp {
                self.ts
            }
        }

        impl Of<Arc<$whole>> for $name {
            fn of(whole: &Arc<$whole>) -> $name {
                $name {
                    $($field: Clone::clone(&whole.$field),)*
                    ts: whole.ts,
                }
            }
        }
    };
}

part! {
    /// Who offers how much for what.
    pub struct Offer of Bid { auction: u64, bidder: u64, price: u64 }
}

part! {
    /// The same with the channel by which it came.
    pub struct ChannelOffer of Bid { auction: u64, bidder: u64, price: u64, channel: Text }
}

part! {
    /// The same with what else is said; shared, since it is long.
    pub struct Remark of Bid { auction: u64, bidder: u64, price: u64, extra: Text }
}

part! {
    /// The same with where it was made.
    pub struct Link of Bid { auction: u64, bidder: u64, price: u64, channel: Text, url: Text }
}

part! {
    /// What is sold by whom until when.
    pub struct Lot of Auction { id: u64, seller: u64, category: u64, expires: Timestamp }
}

data! {
    /// Nothing but when it happened: of those that a query does not ask for.
    pub struct Moment {
        #[serde(rename = "dateTime")]
        ts: Timestamp,
    }
}

impl Piece for Moment {
    fn ts(&self) -> Timestamp {
        self.ts
    }
}

impl<T: Piece + Sync> Of<Arc<T>> for Moment {
    fn of(whole: &Arc<T>) -> Moment {
        Moment { ts: whole.ts() }
    }
}

pub fn people<'s, P: Piece, A: Piece, B: Piece>(
    events: &Stream<'s, Nexmark<P, A, B>>,
) -> Stream<'s, P> {
    events.clone().flat_map(|event| match event {
        Nexmark::Person(person) => Some(person.clone()),
        _ => None,
    })
}

pub fn auctions<'s, P: Piece, A: Piece, B: Piece>(
    events: &Stream<'s, Nexmark<P, A, B>>,
) -> Stream<'s, A> {
    events.clone().flat_map(|event| match event {
        Nexmark::Auction(auction) => Some(auction.clone()),
        _ => None,
    })
}

/// Bids alone, or what is wanted of them.
pub fn bids<'s, B: Piece + Of<Arc<Bid>>>(flow: &Flow<'s>) -> Stream<'s, B> {
    bids_of(&flow.part::<Nexmark<Moment, Moment, B>>())
}

pub fn bids_of<'s, P: Piece, A: Piece, B: Piece>(
    events: &Stream<'s, Nexmark<P, A, B>>,
) -> Stream<'s, B> {
    events.clone().flat_map(|event| match event {
        Nexmark::Bid(bid) => Some(bid.clone()),
        _ => None,
    })
}

/// Every auction with what is wanted of each bid that was made for it while it was open.
pub fn bids_in_time<'s, A, B, T>(
    flow: &Flow<'s>,
    wanted: impl Fn(&B) -> (u64, Timestamp, T) + 'static,
) -> Table<'s, u64, (A, T)>
where
    A: Listed + Of<Arc<Auction>> + Arrangeable,
    B: Piece + Of<Arc<Bid>>,
    T: Arrangeable,
{
    let events = flow.part::<Nexmark<Moment, A, B>>();
    let bids = bids_of(&events)
        .map(wanted)
        .key_by(|(auction, ..)| *auction)
        .keep_forever();
    auctions(&events)
        .key_by(A::id)
        .keep_forever()
        .join(bids)
        .filter(|_id, (auction, (_, ts, _))| (auction.ts()..=auction.expires()).contains(ts))
        .map_values(|_id, (auction, (.., bid))| (auction.clone(), bid.clone()))
}

/// What bids are made for until it expires.
pub trait Listed: Piece {
    fn id(&self) -> u64;
    fn expires(&self) -> Timestamp;
}

impl Listed for Lot {
    fn id(&self) -> u64 {
        self.id
    }
    fn expires(&self) -> Timestamp {
        self.expires
    }
}

impl Listed for Arc<Auction> {
    fn id(&self) -> u64 {
        self.id
    }
    fn expires(&self) -> Timestamp {
        self.expires
    }
}

/// How many bids there are: all, the low ones, those between, and the high ones.
pub fn by_price<B: Priced>() -> impl Aggregate<B, Out = (u64, u64, u64, u64)> {
    let [_, low, mid, high] = prices::<B>();
    let among = |keeps| count().filter(keeps);
    (count(), among(low), among(mid), among(high))
}

/// The same as filters.
pub fn prices<B: Priced>() -> [fn(&B) -> bool; 4] {
    [
        |_| true,
        |bid| bid.price() < 10_000,
        |bid| (10_000..1_000_000).contains(&bid.price()),
        |bid| bid.price() >= 1_000_000,
    ]
}

/// What has a price.
pub trait Priced: Send + 'static {
    fn price(&self) -> u64;
}

impl Priced for Offer {
    fn price(&self) -> u64 {
        self.price
    }
}

impl Priced for ChannelOffer {
    fn price(&self) -> u64 {
        self.price
    }
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
