//! The queries as circuits. What is compared is the meaning of `queries/` and of Flink's SQL, but
//! for two things that cost dbsp nothing: no row is ever late, and q15 to q17 leave out the last
//! step that puts their columns side by side.

use dbsp::circuit::RootCircuit;
use dbsp::operator::{Max, Min};
use dbsp::utils::{Tup2, Tup3, Tup4, Tup5, Tup6, Tup7, Tup9};
use dbsp::{DBData, OrdIndexedZSet, OrdZSet, OutputHandle, Runtime, Stream, ZSetHandle};
use serde::Deserialize;

use crate::lines::{Columns, Unused, decode, decode_all, warm};

const SECOND: i64 = 1000;
const DAY: i64 = 86_400 * SECOND;

/// Declares the columns that are decoded, and the tuple they become.
macro_rules! columns {
    ($name:ident -> $tuple:ident $($json:literal $field:ident: $type:ty,)+) => {
        #[derive(Deserialize)]
        struct $name { $(#[serde(rename = $json)] $field: $type),+ }
        impl Columns for $name {
            type Row = $tuple<$($type),+>;
            fn row(self) -> Self::Row {
                $tuple($(self.$field),+)
            }
        }
    };
}

columns! { BidRow -> Tup5
    "auction" auction: u64, "bidder" bidder: u64, "price" price: i64, "dateTime" at: i64,
    "extra" extra: String,
}
columns! { BidFull -> Tup7
    "auction" auction: u64, "bidder" bidder: u64, "price" price: i64, "channel" channel: String,
    "url" url: String, "dateTime" at: i64, "extra" extra: String,
}
columns! { BidUrl -> Tup5
    "auction" auction: u64, "bidder" bidder: u64, "price" price: i64, "channel" channel: String,
    "url" url: String,
}
columns! { BidPrice -> Tup2
    "auction" auction: u64, "price" price: i64,
}
columns! { BidPriceAt -> Tup3
    "auction" auction: u64, "price" price: i64, "dateTime" at: i64,
}
columns! { BidAt -> Tup2
    "auction" auction: u64, "dateTime" at: i64,
}
columns! { BidSets -> Tup4
    "auction" auction: u64, "bidder" bidder: u64, "price" price: i64, "dateTime" at: i64,
}
columns! { BidChannel -> Tup5
    "channel" channel: String, "auction" auction: u64, "bidder" bidder: u64, "price" price: i64,
    "dateTime" at: i64,
}
columns! { AuctionSeller -> Tup3
    "id" id: u64, "seller" seller: u64, "category" category: u64,
}
columns! { AuctionLife -> Tup4
    "id" id: u64, "category" category: u64, "dateTime" at: i64, "expires" expires: i64,
}
columns! { AuctionAt -> Tup2
    "seller" seller: u64, "dateTime" at: i64,
}
columns! { AuctionFull -> Tup9
    "id" id: u64, "itemName" item: String, "description" description: String,
    "initialBid" initial: i64, "reserve" reserve: i64, "dateTime" at: i64,
    "expires" expires: i64, "seller" seller: u64, "category" category: u64,
}
columns! { PersonPlace -> Tup4
    "id" id: u64, "name" name: String, "city" city: String, "state" state: String,
}
columns! { PersonAt -> Tup3
    "id" id: u64, "name" name: String, "dateTime" at: i64,
}

columns! { Click -> Tup2
    "user_id" user: String, "click_time" at: i64,
}

/// Counts the changes of an output, and forgets them.
trait Out: Send {
    fn drain(&self) -> usize;
}

impl<K: DBData> Out for OutputHandle<OrdZSet<K>> {
    fn drain(&self) -> usize {
        use dbsp::BatchReader as _;
        use dbsp::trace::BatchReader as _;
        self.take_from_all()
            .iter()
            .map(|batch| batch.inner().len())
            .sum()
    }
}

impl<K: DBData, V: DBData> Out for OutputHandle<OrdIndexedZSet<K, V>> {
    fn drain(&self) -> usize {
        use dbsp::BatchReader as _;
        use dbsp::trace::BatchReader as _;
        self.take_from_all()
            .iter()
            .map(|batch| batch.inner().len())
            .sum()
    }
}

type Outs = Vec<Box<dyn Out>>;
type Rows<T> = Stream<RootCircuit, OrdZSet<T>>;

/// Runs a query over a file; how many events there were, and how many changes came out.
pub fn run(query: &str, file: &str, workers: usize) -> (usize, usize) {
    match query {
        "warm" => {
            warm(file);
            (0, 0)
        }
        "q0" => {
            circuit::<BidRow, Unused, Unused>(file, workers, |b, _, _| vec![Box::new(b.output())])
        }
        "q1" => circuit::<BidRow, Unused, Unused>(file, workers, |b, _, _| {
            let euros = b.map(|Tup5(auction, bidder, price, at, extra)| {
                Tup5(*auction, *bidder, 908 * price, *at, extra.clone())
            });
            vec![Box::new(euros.output())]
        }),
        "q2" => circuit::<BidPrice, Unused, Unused>(file, workers, |b, _, _| {
            vec![Box::new(
                b.filter(|Tup2(auction, _)| auction % 123 == 0).output(),
            )]
        }),
        "q3" => {
            circuit::<Unused, AuctionSeller, PersonPlace>(file, workers, |_, a, p| vec![q3(&a, &p)])
        }
        "q4" => {
            circuit::<BidPriceAt, AuctionLife, Unused>(file, workers, |b, a, _| vec![q4(&b, &a)])
        }
        "q5" => circuit::<BidAt, Unused, Unused>(file, workers, |b, _, _| vec![q5(&b)]),
        "q7" => circuit::<BidRow, Unused, Unused>(file, workers, |b, _, _| vec![q7(&b)]),
        "q8" => circuit::<Unused, AuctionAt, PersonAt>(file, workers, |_, a, p| vec![q8(&a, &p)]),
        "q15" => circuit::<BidSets, Unused, Unused>(file, workers, |b, _, _| {
            let by_day = b.map(|Tup4(auction, bidder, price, at)| {
                Tup5(at.div_euclid(DAY), *auction, *bidder, *price, 0_i64)
            });
            distinct_counts(&by_day)
        }),
        "q16" => circuit::<BidChannel, Unused, Unused>(file, workers, |b, _, _| {
            let by_channel = b.map(|Tup5(channel, auction, bidder, price, at)| {
                let key = Tup2(channel.clone(), at.div_euclid(DAY));
                Tup5(key, *auction, *bidder, *price, at.div_euclid(60 * SECOND))
            });
            distinct_counts(&by_channel)
        }),
        "q17" => circuit::<BidPriceAt, Unused, Unused>(file, workers, |b, _, _| q17(&b)),
        "q19" => circuit::<BidFull, Unused, Unused>(file, workers, |b, _, _| {
            let best = b.map_index(|Tup7(auction, bidder, price, channel, url, at, extra)| {
                let bid = Tup6(
                    -price,
                    *at,
                    *bidder,
                    extra.clone(),
                    channel.clone(),
                    url.clone(),
                );
                (*auction, bid)
            });
            vec![Box::new(best.topk_asc(10).output())]
        }),
        "q20" => {
            circuit::<BidFull, AuctionFull, Unused>(file, workers, |b, a, _| vec![q20(&b, &a)])
        }
        "q22" => circuit::<BidUrl, Unused, Unused>(file, workers, |b, _, _| {
            let dirs = b.map(|Tup5(auction, bidder, price, channel, url)| {
                let mut parts = url.split('/').skip(3).map(str::to_owned);
                let mut dir = || parts.next().unwrap_or_default();
                let (one, two, three) = (dir(), dir(), dir());
                Tup7(*auction, *bidder, *price, channel.clone(), one, two, three)
            });
            vec![Box::new(dirs.output())]
        }),
        "clicks" => clicks(file, workers),
        _ => panic!("no query '{query}' here"),
    }
}

/// Builds a circuit and feeds it a file, step by step.
fn circuit<B: Columns, A: Columns, P: Columns>(
    file: &str,
    workers: usize,
    build: impl Fn(Rows<B::Row>, Rows<A::Row>, Rows<P::Row>) -> Outs + Clone + Send + 'static,
) -> (usize, usize)
where
    B::Row: DBData,
    A::Row: DBData,
    P::Row: DBData,
{
    type Handles<B, A, P> = (ZSetHandle<B>, ZSetHandle<A>, ZSetHandle<P>, Outs);
    let (mut handle, (bids, auctions, people, outs)): (_, Handles<_, _, _>) =
        Runtime::init_circuit(workers, move |circuit| {
            let (b, bids) = circuit.add_input_zset::<B::Row>();
            let (a, auctions) = circuit.add_input_zset::<A::Row>();
            let (p, people) = circuit.add_input_zset::<P::Row>();
            Ok((bids, auctions, people, build(b, a, p)))
        })
        .expect("the circuit is built");
    let (mut events, mut rows) = (0, 0);
    for mut batch in decode::<B, A, P>(file) {
        events += batch.events;
        bids.append(&mut batch.bids);
        auctions.append(&mut batch.auctions);
        people.append(&mut batch.people);
        handle.transaction().expect("a step");
        rows += outs.iter().map(|out| out.drain()).sum::<usize>();
    }
    (events, rows)
}

/// Clicks per user and window of five minutes, a new one every two: `queries/clicks_per_user.rs`.
fn clicks(file: &str, workers: usize) -> (usize, usize) {
    let (mut handle, (clicks, out)) = Runtime::init_circuit(workers, |circuit| {
        let (clicks, handle) = circuit.add_input_zset::<Tup2<String, i64>>();
        let windows = clicks.flat_map_index(|Tup2(user, at)| {
            let (user, at, slide) = (user.clone(), *at, 120 * SECOND);
            let newest = at.div_euclid(slide) * slide;
            let starts = (0..3).map(move |back| newest - back * slide);
            let open = starts.filter(move |start| at < start + 300 * SECOND);
            open.map(move |start| (Tup2(user.clone(), start), ()))
        });
        Ok((handle, windows.weighted_count().output()))
    })
    .expect("the circuit is built");
    let (mut events, mut rows) = (0, 0);
    for mut batch in decode_all::<Click>(file) {
        events += batch.len();
        clicks.append(&mut batch);
        handle.transaction().expect("a step");
        rows += out.drain();
    }
    (events, rows)
}

fn q3(
    auctions: &Rows<Tup3<u64, u64, u64>>,
    people: &Rows<Tup4<u64, String, String, String>>,
) -> Box<dyn Out> {
    let auctions = auctions
        .flat_map_index(|Tup3(id, seller, category)| (*category == 10).then_some((*seller, *id)));
    let people = people.flat_map_index(|Tup4(id, name, city, state)| {
        let is_near = matches!(state.as_str(), "OR" | "ID" | "CA");
        is_near.then(|| (*id, Tup3(name.clone(), city.clone(), state.clone())))
    });
    let joined = auctions.join(&people, |_, id, Tup3(name, city, state)| {
        Tup4(name.clone(), city.clone(), state.clone(), *id)
    });
    Box::new(joined.output())
}

fn q4(bids: &Rows<Tup3<u64, i64, i64>>, auctions: &Rows<Tup4<u64, u64, i64, i64>>) -> Box<dyn Out> {
    let bids = bids.map_index(|Tup3(auction, price, at)| (*auction, Tup2(*price, *at)));
    let auctions =
        auctions.map_index(|Tup4(id, category, at, expires)| (*id, Tup3(*category, *at, *expires)));
    let closing = auctions.join_index(&bids, |id, Tup3(category, from, until), Tup2(price, at)| {
        (from <= at && at <= until).then_some((Tup2(*id, *category), *price))
    });
    let best = closing.aggregate(Max);
    let means = best
        .map_index(|(Tup2(_, category), price)| (*category, *price))
        .average(|p| *p);
    Box::new(means.output())
}

fn q5(bids: &Rows<Tup2<u64, i64>>) -> Box<dyn Out> {
    let windows = bids.flat_map_index(|Tup2(auction, at)| {
        let (auction, newest) = (*auction, at.div_euclid(2 * SECOND) * 2 * SECOND);
        (0..5).map(move |back| (Tup2(newest - back * 2 * SECOND, auction), ()))
    });
    let counts = windows.weighted_count();
    let counts = counts.map_index(|(Tup2(window, auction), n)| (*window, Tup2(*n, *auction)));
    let best = counts
        .map_index(|(window, Tup2(n, _))| (*window, *n))
        .aggregate(Max);
    let hot = counts.join_flatmap(&best, |window, Tup2(n, auction), most| {
        (n >= most).then_some(Tup3(*window, *auction, *n))
    });
    Box::new(hot.output())
}

fn q7(bids: &Rows<Tup5<u64, u64, i64, i64, String>>) -> Box<dyn Out> {
    let size = 10 * SECOND;
    let in_windows = bids.map_index(move |Tup5(_, _, price, at, _)| (at.div_euclid(size), *price));
    let best = in_windows.aggregate(Max);
    let best = best.map_index(move |(window, price)| (*price, (window + 1) * size));
    let bids = bids.map_index(|Tup5(auction, bidder, price, at, extra)| {
        (*price, Tup4(*auction, *bidder, *at, extra.clone()))
    });
    let joined = bids.join_flatmap(
        &best,
        move |price, Tup4(auction, bidder, at, extra), until| {
            (until - size <= *at && at <= until)
                .then(|| Tup5(*auction, *price, *bidder, *at, extra.clone()))
        },
    );
    Box::new(joined.output())
}

fn q8(auctions: &Rows<Tup2<u64, i64>>, people: &Rows<Tup3<u64, String, i64>>) -> Box<dyn Out> {
    let window = |at: &i64| at.div_euclid(10 * SECOND) * 10 * SECOND;
    let newcomers = people.map(move |Tup3(id, name, at)| Tup3(*id, window(at), name.clone()));
    let newcomers = newcomers.distinct();
    let newcomers = newcomers.map_index(|Tup3(id, at, name)| (Tup2(*id, *at), name.clone()));
    let sellers = auctions
        .map(move |Tup2(seller, at)| Tup2(*seller, window(at)))
        .distinct();
    let sellers = sellers.map_index(|seller| (seller.clone(), ()));
    let joined = newcomers.join(&sellers, |Tup2(id, at), name, ()| {
        Tup3(*id, name.clone(), *at)
    });
    Box::new(joined.output())
}

/// Which of three a price is.
fn class(price: i64) -> u8 {
    match price {
        ..10_000 => 1,
        ..1_000_000 => 2,
        _ => 3,
    }
}

/// How many bids, bidders and auctions there are of each key, in all and by price; the greatest of
/// the last column, too. A row is key, auction, bidder, price, and that column.
fn distinct_counts<K: DBData>(bids: &Rows<Tup5<K, u64, u64, i64, i64>>) -> Outs
where
    <K as dbsp::trace::Deserializable>::ArchivedDeser: Ord,
{
    let classes = bids.map_index(|Tup5(key, _, _, price, _)| (key.clone(), class(*price)));
    let counts = classes.aggregate_linear(|class| {
        Tup4(
            1_i64,
            i64::from(*class == 1),
            i64::from(*class == 2),
            i64::from(*class == 3),
        )
    });
    let ids = bids.flat_map(|Tup5(key, auction, bidder, price, _)| {
        let class = class(*price);
        [
            Tup4(key.clone(), 0_u8, *bidder, 0_u8),
            Tup4(key.clone(), class, *bidder, 0),
            Tup4(key.clone(), 0, *auction, 1),
            Tup4(key.clone(), class, *auction, 1),
        ]
    });
    let ids = ids.distinct();
    let sets = ids.map_index(|Tup4(key, class, id, kind)| (Tup3(key.clone(), *class, *kind), *id));
    let sizes = sets.weighted_count();
    let latest = bids
        .map_index(|Tup5(key, .., last)| (key.clone(), *last))
        .aggregate(Max);
    vec![
        Box::new(counts.output()),
        Box::new(sizes.output()),
        Box::new(latest.output()),
    ]
}

fn q17(bids: &Rows<Tup3<u64, i64, i64>>) -> Outs {
    let days =
        bids.map_index(|Tup3(auction, price, at)| (Tup2(*auction, at.div_euclid(DAY)), *price));
    let sums = days.aggregate_linear(|price| {
        let is = |of| i64::from(class(*price) == of);
        Tup5(1_i64, is(1), is(2), is(3), *price)
    });
    let (lowest, highest) = (days.aggregate(Min), days.aggregate(Max));
    vec![
        Box::new(sums.output()),
        Box::new(lowest.output()),
        Box::new(highest.output()),
    ]
}

type Auction = Tup9<u64, String, String, i64, i64, i64, i64, u64, u64>;
type Bid = Tup7<u64, u64, i64, String, String, i64, String>;

fn q20(bids: &Rows<Bid>, auctions: &Rows<Auction>) -> Box<dyn Out> {
    let bids = bids.map_index(|bid| (bid.0, bid.clone()));
    let auctions = auctions.filter(|auction| auction.8 == 10);
    let auctions = auctions.map_index(|auction| (auction.0, auction.clone()));
    let joined = bids.join(&auctions, |_, bid, auction| {
        Tup2(bid.clone(), auction.clone())
    });
    Box::new(joined.output())
}
