//! Queries that want some fields of a stream's records: what is decoded for them, what they see,
//! and what they reject, alone and beside queries that want the rest.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::sync::atomic::{AtomicUsize, Ordering};

use sales::{Sale, written};
use serde::{Deserialize, Serialize};
use waterclock::prelude::*;
use waterclock::query::{Catalog, Overrides};
use waterclock::source::Source;
use waterclock::testing::{MemorySource, Round, Steps};
use waterclock::worker::replay::Replay;

#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/sales.rs"]
mod sales;

/// What was sold for how much.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Amount {
    amount: i64,
    at: Timestamp,
}

impl Event for Amount {
    const STREAM: &'static str = Sale::STREAM;
    fn time(&self) -> Timestamp {
        self.at
    }
}

/// How many amounts were made of whole sales.
static MADE: AtomicUsize = AtomicUsize::new(0);

impl Part for Amount {
    type Whole = Sale;
    fn of(sale: &Sale) -> Amount {
        MADE.fetch_add(1, Ordering::Relaxed);
        Amount {
            amount: sale.amount,
            at: sale.at,
        }
    }
}

/// Which shop sold something.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seller {
    shop: Text,
    at: Timestamp,
}

impl Event for Seller {
    const STREAM: &'static str = Sale::STREAM;
    fn time(&self) -> Timestamp {
        self.at
    }
}

impl Part for Seller {
    type Whole = Sale;
    fn of(sale: &Sale) -> Seller {
        Seller {
            shop: sale.shop.clone(),
            at: sale.at,
        }
    }
}

fn takings(flow: Flow) -> Table<Window, i128> {
    flow.part::<Amount>()
        .key_by(|_| ())
        .window(tumbling(seconds(10)))
        .sum(|sale| sale.amount)
        .map(|((), window), sum| (*window, *sum))
}

fn sellers(flow: Flow) -> Table<(Text, Window), u64> {
    flow.part::<Seller>()
        .key_by(|sale| sale.shop.clone())
        .window(tumbling(seconds(10)))
        .count()
}

fn takings_query() -> Query {
    Query::new("takings", "", takings)
}

/// Sales, the last of them late; of one the shop is no text.
const SALES: &str = r#"{"shop":"a","amount":1,"at":1000}
{"shop":7,"amount":2,"at":2000}
{"shop":"b","amount":4,"at":31000}
{"shop":"c","amount":8,"at":3000}
"#;

/// Takes the sales on two workers; the rows of `takings`, and how many are late and rejected.
fn taken(queries: Vec<Query>) -> (Vec<String>, u64, u64) {
    let mut steps = Steps::start(queries, 2);
    steps.epoch(Round::new().records("sales", 0, SALES).chunks(40));
    let rows = written(&steps.rows("takings"));
    let late = steps.late_total("takings");
    (rows, late, steps.rejected_total("sales"))
}

/// The one test that counts what is made.
#[test]
fn alone_nothing_else_is_decoded_and_beside_others_parts_are_made_of_whole_records() {
    let window = r#"{"start":0,"end":10000}"#;
    let later = r#"{"start":30000,"end":40000} 4"#.to_owned();
    // The shop that is no text is nobody's business.
    let alone = vec![format!("{window} 3"), later.clone()];
    assert_eq!(taken(vec![takings_query()]), (alone, 1, 0));
    assert_eq!(MADE.load(Ordering::Relaxed), 0);

    for other in [
        Query::new("per_shop", "", sales::per_shop),
        Query::new("sellers", "", sellers),
    ] {
        MADE.store(0, Ordering::Relaxed);
        let beside = vec![format!("{window} 1"), later.clone()];
        assert_eq!(taken(vec![takings_query(), other]), (beside, 1, 1));
        assert_eq!(MADE.load(Ordering::Relaxed), 3);
    }
}

/// A part that cannot be made of every sale.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fine {
    amount: i64,
    at: Timestamp,
}

impl Event for Fine {
    const STREAM: &'static str = Sale::STREAM;
    fn time(&self) -> Timestamp {
        self.at
    }
}

impl Part for Fine {
    type Whole = Sale;
    fn of(sale: &Sale) -> Fine {
        assert!(sale.amount != 4, "four is not fine");
        Fine {
            amount: sale.amount,
            at: sale.at,
        }
    }
}

fn fine(flow: Flow) -> Stream<i64> {
    flow.part::<Fine>().map(|sale| sale.amount)
}

#[test]
fn several_queries_may_want_the_same_and_share_what_cannot_be_made() {
    let again = Query::new("again", "", takings);
    let (rows, late, rejected) = taken(vec![takings_query(), again]);
    assert_eq!((rows.len(), late, rejected), (2, 1, 0));

    let whole = Query::new("per_shop", "", sales::per_shop);
    let names = ["fine", "also_fine"];
    let mut queries = names.map(|name| Query::new(name, "", fine)).to_vec();
    queries.push(whole);
    let mut steps = Steps::start(queries, 2);
    steps.epoch(Round::new().records("sales", 0, SALES).chunks(40));
    for name in names {
        let rows = written(&steps.rows(name));
        assert_eq!(
            rows,
            [r#"["sales",0,0] 1"#, r#"["sales",0,101] 8"#],
            "{name}"
        );
        let refused = written(&steps.late(name));
        assert_eq!(refused.len(), 1);
        assert!(refused[0].contains("four is not fine"), "{refused:?}");
    }
}

#[test]
fn what_a_service_read_is_read_again_as_it_read_it() {
    let catalog = |queries: &[Query]| Catalog::of(queries, &Overrides::default()).unwrap();
    let query = || Query::new("sellers", "", sellers);
    // Whoever wants the amount cannot read it.
    let sales = r#"{"shop":"a","amount":"two","at":0}"#;
    let read = |service: &[Query]| {
        let catalog = catalog(&[query()]).beside(&catalog(service));
        let sources: Vec<Box<dyn Source>> = vec![Box::new(MemorySource::new("sales", &[sales]))];
        let fingerprint = catalog.streams[0].fingerprint();
        let replayed = Replay::new(query(), catalog, sources).run().unwrap();
        (replayed.rejected, fingerprint)
    };
    let (alone, fingerprint) = read(&[query()]);
    let (beside, other) = read(&[query(), takings_query()]);
    assert_eq!((alone, beside), (0, 1));
    assert_ne!(fingerprint, other, "another reading is another run");
    let whole = catalog(&[Query::new("per_shop", "", sales::per_shop)]);
    assert_eq!(other, whole.streams[0].fingerprint());
    // It was not among them: nothing that they rejected is to be taken.
    assert_eq!(read(&[takings_query()]), (1, other));
}

#[test]
fn a_post_is_judged_by_the_whole_record() {
    let catalog = Catalog::of(&[takings_query()], &Overrides::default()).unwrap();
    let judge = catalog.streams[0].judge;
    let post = |line: &str| judge(line.as_bytes(), None, hours(1));
    assert_eq!(post(r#"{"shop":"a","amount":1,"at":0}"#), Ok(()));
    assert!(post(r#"{"amount":1,"at":0}"#).unwrap_err().contains("shop"));
    assert_eq!(catalog.streams[0].lateness, Sale::LATENESS);
}

/// A part that says another stream than its whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Astray {
    at: Timestamp,
}

impl Event for Astray {
    const STREAM: &'static str = "returns";
    fn time(&self) -> Timestamp {
        self.at
    }
}

impl Part for Astray {
    type Whole = Sale;
    fn of(sale: &Sale) -> Astray {
        Astray { at: sale.at }
    }
}

fn astray(flow: Flow) -> Stream<Astray> {
    flow.part::<Astray>()
}

/// Reads a part as if it were a record type.
fn as_whole(flow: Flow) -> Stream<Amount> {
    flow.stream::<Amount>()
}

#[test]
fn types_that_do_not_belong_together_are_named() {
    let refusal = |queries: &[Query]| {
        let refused = Catalog::of(queries, &Overrides::default()).err().unwrap();
        refused.to_string().replace("parts::", "")
    };
    let astray = Query::new("astray", "", astray);
    assert_eq!(
        refusal(&[astray]),
        "Astray is a part of sales::Sale, whose stream is 'sales', not 'returns': give it `const \
         STREAM: &'static str = sales::Sale::STREAM;`"
    );
    let whole = Query::new("whole", "", as_whole);
    assert_eq!(
        refusal(&[Query::new("sellers", "", sellers), whole]),
        "stream 'sales' is read as sales::Sale and as Amount: a stream has one record type, share \
         it between the queries, or read a `Part` of it with `flow.part`"
    );
}
