//! Parts of the records: most queries want little of a bid, and what none wants is not decoded.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use waterclock::prelude::*;

use super::events::{Auction, Bid, Line, Listed, Nexmark, Person, Priced, Shared};

data! {
    /// What is sold by whom until when.
    pub struct Lot {
        id: u64,
        #[serde(rename = "dateTime")]
        ts: Timestamp,
        expires: Timestamp,
        seller: u64,
        category: u64,
    }
}

/// The numbers of auctions and bids, and of all else when it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "Line<At, Lot, Offer>")]
pub enum Numbers {
    Auction(Lot),
    Bid(Offer),
    Other(Timestamp),
}

/// Who may sell and what is for sale, and of all else when it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "Line<Shared<Person>, Lot, At>")]
pub enum Sellers {
    Person(Arc<Person>),
    Auction(Lot),
    Other(Timestamp),
}

/// What is wanted of bids, and of all else when it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    rename_all = "lowercase",
    try_from = "Line<At, At, B>",
    bound = "B: Serialize + DeserializeOwned"
)]
pub enum Bids<B> {
    Bid(B),
    Other(Timestamp),
}

/// When something was.
#[derive(Deserialize)]
struct At {
    #[serde(rename = "dateTime")]
    ts: Timestamp,
}

/// Some fields of a bid, among them its time.
pub trait OfBid:
    Clone + std::fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    fn of(bid: &Bid) -> Self;
    fn ts(&self) -> Timestamp;
}

macro_rules! of_bid {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$of_field:meta])* $field:ident: $type:ty),* $(,)?
    }) => {
        data! {
            $(#[$doc])*
            pub struct $name { $($(#[$of_field])* $field: $type),* }
        }

        impl OfBid for $name {
            fn of(bid: &Bid) -> Self {
                $name { $($field: bid.$field.clone()),* }
            }
            fn ts(&self) -> Timestamp {
                self.ts
            }
        }
    };
}

impl<B: OfBid> OfBid for Shared<B> {
    fn of(bid: &Bid) -> Self {
        Shared(Arc::new(B::of(bid)))
    }
    fn ts(&self) -> Timestamp {
        self.0.ts()
    }
}

of_bid! {
    /// Who offers how much for what.
    Offer {
        auction: u64,
        bidder: u64,
        price: u64,
        #[serde(rename = "dateTime")]
        ts: Timestamp,
    }
}

of_bid! {
    /// A bid and what was said beside it.
    Remark {
        auction: u64,
        bidder: u64,
        price: u64,
        #[serde(rename = "dateTime")]
        ts: Timestamp,
        extra: Text,
    }
}

of_bid! {
    /// A bid and the page it came from.
    Visit {
        auction: u64,
        bidder: u64,
        price: u64,
        channel: Text,
        url: Text,
        #[serde(rename = "dateTime")]
        ts: Timestamp,
    }
}

of_bid! {
    /// A bid and the channel it came by.
    Via {
        auction: u64,
        bidder: u64,
        price: u64,
        channel: Text,
        #[serde(rename = "dateTime")]
        ts: Timestamp,
    }
}

impl TryFrom<Line<At, Lot, Offer>> for Numbers {
    type Error = &'static str;

    fn try_from(line: Line<At, Lot, Offer>) -> Result<Numbers, Self::Error> {
        line.read(
            |person| Numbers::Other(person.ts),
            Numbers::Auction,
            Numbers::Bid,
        )
    }
}

impl TryFrom<Line<Shared<Person>, Lot, At>> for Sellers {
    type Error = &'static str;

    fn try_from(line: Line<Shared<Person>, Lot, At>) -> Result<Sellers, Self::Error> {
        line.read(
            |person| Sellers::Person(person.0),
            Sellers::Auction,
            |bid| Sellers::Other(bid.ts),
        )
    }
}

impl<B> TryFrom<Line<At, At, B>> for Bids<B> {
    type Error = &'static str;

    fn try_from(line: Line<At, At, B>) -> Result<Bids<B>, Self::Error> {
        line.read(
            |person| Bids::Other(person.ts),
            |auction| Bids::Other(auction.ts),
            Bids::Bid,
        )
    }
}

impl Event for Numbers {
    const STREAM: &'static str = Nexmark::STREAM;
    fn time(&self) -> Timestamp {
        match self {
            Numbers::Auction(lot) => lot.ts,
            Numbers::Bid(offer) => offer.ts,
            Numbers::Other(ts) => *ts,
        }
    }
}

impl Part for Numbers {
    type Whole = Nexmark;
    fn of(whole: &Nexmark) -> Numbers {
        match whole {
            Nexmark::Auction(auction) => Numbers::Auction(Lot::of(auction)),
            Nexmark::Bid(bid) => Numbers::Bid(Offer::of(bid)),
            Nexmark::Person(person) => Numbers::Other(person.ts),
        }
    }
}

impl Event for Sellers {
    const STREAM: &'static str = Nexmark::STREAM;
    fn time(&self) -> Timestamp {
        match self {
            Sellers::Person(person) => person.ts,
            Sellers::Auction(lot) => lot.ts,
            Sellers::Other(ts) => *ts,
        }
    }
}

impl Part for Sellers {
    type Whole = Nexmark;
    fn of(whole: &Nexmark) -> Sellers {
        match whole {
            Nexmark::Person(person) => Sellers::Person(Arc::clone(person)),
            Nexmark::Auction(auction) => Sellers::Auction(Lot::of(auction)),
            Nexmark::Bid(bid) => Sellers::Other(bid.ts),
        }
    }
}

impl Lot {
    fn of(auction: &Auction) -> Lot {
        Lot {
            id: auction.id,
            ts: auction.ts,
            expires: auction.expires,
            seller: auction.seller,
            category: auction.category,
        }
    }
}

impl<B: OfBid> Event for Bids<B> {
    const STREAM: &'static str = Nexmark::STREAM;
    fn time(&self) -> Timestamp {
        match self {
            Bids::Bid(bid) => bid.ts(),
            Bids::Other(ts) => *ts,
        }
    }
}

impl<B: OfBid> Part for Bids<B> {
    type Whole = Nexmark;
    fn of(whole: &Nexmark) -> Bids<B> {
        match whole {
            Nexmark::Bid(bid) => Bids::Bid(B::of(bid)),
            other => Bids::Other(other.time()),
        }
    }
}

pub fn people<'s>(flow: &Flow<'s>) -> Stream<'s, Arc<Person>> {
    flow.part::<Sellers>().flat_map(|event| match event {
        Sellers::Person(person) => Some(Arc::clone(person)),
        _ => None,
    })
}

/// The numbers of auctions, for queries that want no bids.
pub fn listings<'s>(flow: &Flow<'s>) -> Stream<'s, Lot> {
    flow.part::<Sellers>().flat_map(|event| match event {
        Sellers::Auction(lot) => Some(lot.clone()),
        _ => None,
    })
}

/// The numbers of auctions; of bids the auction, the time and the price.
pub fn lots_and_offers<'s>(
    flow: &Flow<'s>,
) -> (Stream<'s, Lot>, Stream<'s, (u64, Timestamp, u64)>) {
    let numbers = flow.part::<Numbers>();
    let lots = numbers.clone().flat_map(|event| match event {
        Numbers::Auction(lot) => Some(lot.clone()),
        _ => None,
    });
    let offers = numbers.flat_map(|event| match event {
        Numbers::Bid(offer) => Some((offer.auction, offer.ts, offer.price)),
        _ => None,
    });
    (lots, offers)
}

/// The numbers of bids.
pub fn offers<'s>(flow: &Flow<'s>) -> Stream<'s, Offer> {
    of_bids(flow, |offer: &Offer| Some(offer.clone()))
}

/// What is made of bids, of which `B` is wanted.
pub fn of_bids<'s, B: OfBid, T: 'static>(
    flow: &Flow<'s>,
    logic: impl Fn(&B) -> Option<T> + 'static,
) -> Stream<'s, T> {
    flow.part::<Bids<B>>().flat_map(move |event| match event {
        Bids::Bid(bid) => logic(bid),
        Bids::Other(_) => None,
    })
}

impl Listed for Lot {
    fn listed(&self) -> (u64, RangeInclusive<Timestamp>) {
        (self.id, self.ts..=self.expires)
    }
}

impl Priced for Offer {
    fn price(&self) -> u64 {
        self.price
    }
}

impl Priced for Via {
    fn price(&self) -> u64 {
        self.price
    }
}
