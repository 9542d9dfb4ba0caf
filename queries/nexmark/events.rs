//! The records of the stream `nexmark`: people, auctions and bids. What no query asks for is left
//! out, and not decoded.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
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
    person: Option<Arc<Person>>,
    auction: Option<Arc<Auction>>,
    bid: Option<Arc<Bid>>,
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

pub fn bids<'s>(flow: &Flow<'s>) -> Stream<'s, Arc<Bid>> {
    flow.stream::<Nexmark>().flat_map(|event| match event {
        Nexmark::Bid(bid) => Some(Arc::clone(bid)),
        _ => None,
    })
}
