//! Lines to rows, on a thread of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, sync_channel};

use dbsp::utils::Tup2;
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, de::DeserializeOwned};

/// How many events one step takes.
const BATCH: usize = 40_000;

/// The rows of one step, by entity, each with weight 1.
pub struct Batch<B, A, P> {
    pub bids: Vec<Tup2<B, i64>>,
    pub auctions: Vec<Tup2<A, i64>>,
    pub people: Vec<Tup2<P, i64>>,
    pub events: usize,
}

/// The columns of an entity that a query uses, as a tuple.
pub trait Columns: DeserializeOwned + Send + 'static {
    type Row: Send + 'static;
    fn row(self) -> Self::Row;
}

/// An entity that a query does not use.
pub struct Unused;

impl<'de> Deserialize<'de> for Unused {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Unused, D::Error> {
        IgnoredAny::deserialize(from).map(|_| Unused)
    }
}

impl Columns for Unused {
    type Row = u8;
    fn row(self) -> u8 {
        0
    }
}

#[derive(Deserialize)]
#[serde(bound = "B: DeserializeOwned, A: DeserializeOwned, P: DeserializeOwned")]
struct Line<B, A, P> {
    bid: Option<B>,
    auction: Option<A>,
    person: Option<P>,
}

/// Decodes a file of Nexmark, two steps ahead of who takes them.
pub fn decode<B: Columns, A: Columns, P: Columns>(
    file: &str,
) -> Receiver<Batch<B::Row, A::Row, P::Row>> {
    batches(file, |lines, events| {
        let mut batch = Batch {
            bids: vec![],
            auctions: vec![],
            people: vec![],
            events,
        };
        for line in lines {
            let line: Line<B, A, P> = sonic_rs::from_slice(line).expect("no Nexmark event");
            batch.bids.extend(line.bid.map(|bid| Tup2(bid.row(), 1)));
            batch
                .auctions
                .extend(line.auction.map(|auction| Tup2(auction.row(), 1)));
            batch
                .people
                .extend(line.person.map(|person| Tup2(person.row(), 1)));
        }
        batch
    })
}

/// Decodes a file of one kind of record.
pub fn decode_all<C: Columns>(file: &str) -> Receiver<Vec<Tup2<C::Row, i64>>> {
    batches(file, |lines, events| {
        let mut batch = Vec::with_capacity(events);
        batch.extend(lines.map(|line| {
            let record: C = sonic_rs::from_slice(line).expect("no such record");
            Tup2(record.row(), 1)
        }));
        batch
    })
}

/// What is made of the lines of each step, on a thread of its own.
fn batches<T: Send + 'static>(
    file: &str,
    make: impl Fn(&mut dyn Iterator<Item = &[u8]>, usize) -> T + Send + 'static,
) -> Receiver<T> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(file).expect("cannot open FILE"));
    let (send, receive) = sync_channel(2);
    std::thread::spawn(move || {
        let mut text = Vec::new();
        loop {
            text.clear();
            let mut events = 0;
            while events < BATCH && file.read_until(b'\n', &mut text).expect("cannot read") > 0 {
                events += 1;
            }
            let mut lines = text
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty());
            if events == 0 || send.send(make(&mut lines, events)).is_err() {
                return;
            }
        }
    });
    receive
}

/// Reads a file once, so that it is in memory.
pub fn warm(file: &str) {
    let mut file = File::open(file).expect("cannot open FILE");
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer).expect("cannot read FILE") > 0 {}
}
