//! The steps: each makes its input once, then runs as often as it is asked to, from the start.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::AsCollection;
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::{Exchange, Input, Probe};

use waterclock::dataflow::aggregate::Count;
use waterclock::dataflow::changes::Changes;
use waterclock::dataflow::clock::Clock;
use waterclock::dataflow::decode::{Batch, Rec, guard_all};
use waterclock::dataflow::forever::Total;
use waterclock::dataflow::intervals::Side;
use waterclock::dataflow::joined::Joined;
use waterclock::dataflow::leaving::Leave;
use waterclock::dataflow::panes::Assigner;
use waterclock::dataflow::ranks::Ranks;
use waterclock::dataflow::reading::for_each_record;
use waterclock::dataflow::vault::{Boundaries, Boundary, Encode, NoVault, Saved, Vault, Work};
use waterclock::dataflow::windows::{Folded, WindowShape, Windows, combine};
use waterclock::prelude::*;
use waterclock::record::Chunk;
use waterclock::row::Row;
use waterclock::source::Source;
use waterclock::source::nexmark::{NexmarkOptions, NexmarkSource};
use waterclock::view::{History, KeyRange, Labels, QuerySpec, Views};

/// A step of the hot path.
pub struct Step {
    pub name: &'static str,
    /// How many items one round works on.
    pub items: u64,
    /// Whether its instructions are counted: threads that wait for each other have no fixed number.
    pub is_counted: bool,
    pub make: fn() -> Prepare,
}

/// Lays out the input of a round; what it returns is measured.
pub type Prepare = Box<dyn FnMut() -> Box<dyn FnOnce()>>;

const ITEMS: u64 = 10_000;

const fn step(name: &'static str, make: fn() -> Prepare) -> Step {
    Step {
        name,
        items: ITEMS,
        is_counted: true,
        make,
    }
}

data! {
    struct Bid {
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

/// A line of the benchmark, nearly always a bid; the others are skipped, field by field.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    bid: Option<Arc<Bid>>,
}

impl Event for Line {
    const STREAM: &'static str = "nexmark";
    fn time(&self) -> Timestamp {
        self.bid.as_ref().map_or(Timestamp(0), |bid| bid.ts)
    }
}

/// In the order in which an event meets them.
pub const STEPS: [Step; 12] = [
    step("decode", decode),
    step("combine", combined),
    Step {
        is_counted: false,
        ..step("exchange", exchange)
    },
    step("windows", windows),
    step("close", close),
    step("arrange", arrange),
    step("join", join),
    step("ranks", ranks),
    step("row", row),
    step("view", view),
    step("lookup", lookup),
    step("checkpoint", checkpoint),
];

/// A number that looks random, and is the same in every run.
fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

fn of<T: 'static>(make: impl Fn() -> T + 'static, work: impl Fn(T) + Clone + 'static) -> Prepare {
    Box::new(move || {
        let (input, work) = (make(), work.clone());
        Box::new(move || work(input))
    })
}

/// Events as the benchmark makes them.
fn events() -> Chunk {
    let options = NexmarkOptions {
        events: ITEMS,
        ..NexmarkOptions::default()
    };
    let mut source = NexmarkSource::new("nexmark", options);
    let mut chunk = source
        .read(0, 0, 1 << 20, None)
        .expect("nothing can fail")
        .expect("there are events");
    while let Some(more) = (source.read(0, chunk.end, 1 << 20, None)).expect("nothing can fail") {
        chunk.bytes = [&*chunk.bytes, &*more.bytes].concat().into();
        chunk.end = more.end;
        chunk.spans[0].len = chunk.bytes.len();
    }
    chunk
}

fn decode() -> Prepare {
    let chunk = events();
    of(
        move || chunk.clone(),
        |chunk| {
            let records = guard_all(|| {
                let mut records = Vec::new();
                for_each_record::<Line>(&chunk, 0, |found| records.extend(found.read.ok()));
                records
            });
            assert_eq!(records.len() as u64, ITEMS);
        },
    )
}

fn records<T>(data: impl Fn(u64) -> T) -> Batch<T> {
    let record = |n: u64| Rec {
        time: i64::try_from(n).unwrap_or(0) / 10,
        watermark: i64::MIN,
        position: n,
        partition: 0,
        stream: 0,
        part: 0,
        data: data(n),
    };
    Rc::new((0..ITEMS).map(record).collect())
}

/// Five windows overlap; one key in ten has half of the events.
fn shape(final_only: bool) -> WindowShape {
    WindowShape {
        assigner: Assigner::new(seconds(10), seconds(2), seconds(0)),
        allowed: 0,
        keep: 0,
        final_only,
        is_replay: final_only,
    }
}

fn key_of(n: u64) -> u64 {
    let n = mixed(n);
    if n.is_multiple_of(2) {
        n % 100
    } else {
        n % 1000
    }
}

fn combined() -> Prepare {
    let batch = records(|n| n);
    of(
        move || [Rc::clone(&batch)],
        |batches| {
            let mut folded = Vec::new();
            combine(
                &batches,
                &shape(true),
                &|n: &u64| key_of(*n),
                &Count,
                &mut folded,
                |_, _| {},
            );
            black_box(folded);
        },
    )
}

type Counts = Windows<u64, u64, Count>;

fn empty(final_only: bool) -> Counts {
    Windows::new(
        shape(final_only),
        Rc::new(Count),
        Leave::new(0),
        nowhere(),
        |_| true,
    )
}

fn nowhere() -> Boundary {
    Boundary::new::<u64>("bench".into(), Rc::new(NoVault), &mut Boundaries::new())
}

fn folded() -> Vec<Folded<u64, u64>> {
    let fold = |n| Folded {
        key: mixed(n),
        pane: 2000 * i64::try_from(n % 5).unwrap_or(0),
        closed: 0,
        acc: 1,
    };
    (0..ITEMS).map(fold).collect()
}

/// Events of as many keys become panes and live windows.
fn windows() -> Prepare {
    of(
        || (empty(false), folded()),
        |(mut windows, folded)| {
            let mut out = Vec::new();
            windows.retire(&Clock::at(1), i64::MIN, folded, &mut out);
            black_box(out);
        },
    )
}

/// All windows close at once; their rows are summed from panes.
fn close() -> Prepare {
    of(
        || {
            let mut windows = empty(true);
            windows.retire(&Clock::at(1), i64::MIN, folded(), &mut Vec::new());
            windows
        },
        |mut windows| {
            let mut out = Vec::new();
            windows.retire(&Clock::at(2), i64::MAX, Vec::new(), &mut out);
            assert!(out.len() as u64 > ITEMS);
        },
    )
}

/// Rows from one worker to the one that owns their key, two threads.
fn exchange() -> Prepare {
    of(
        || (),
        |()| {
            let config = timely::Config::process(2);
            let workers = timely::execute(config, |worker| {
                let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
                    let (input, rows) = scope.new_input::<Vec<(u64, Arc<u64>)>>();
                    let (probe, _) = rows
                        .exchange(|(key, _): &(u64, Arc<u64>)| mixed(*key))
                        .probe();
                    (input, probe)
                });
                let row = Arc::new(0);
                let own =
                    worker.index() as u64 * ITEMS / 2..(worker.index() as u64 + 1) * ITEMS / 2;
                own.for_each(|n| input.send((n, Arc::clone(&row))));
                input.close();
                worker.step_while(|| !probe.done());
            });
            drop(workers.expect("threads start"));
        },
    )
}

/// What differential makes of rows: sorted batches by key.
fn arrange() -> Prepare {
    of(
        || (),
        |()| {
            timely::execute_directly(|worker| {
                let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
                    let (input, rows) = scope.new_input::<Vec<((u64, u64), u64, isize)>>();
                    let arranged = rows.as_collection().arrange_by_key();
                    (input, arranged.stream.probe().0)
                });
                for n in 0..ITEMS {
                    input.send(((mixed(n), n), 0, 1));
                }
                input.close();
                worker.step_while(|| !probe.done());
            });
        },
    )
}

/// As many rows on either side, two of each key.
fn join() -> Prepare {
    let change = |n: u64| {
        let side = if n.is_multiple_of(2) {
            Side::Left(n)
        } else {
            Side::Right(n)
        };
        ((mixed(n / 4), side), 1, 1)
    };
    of(
        move || (0..ITEMS).map(change).collect(),
        |changes| {
            let mut out = Vec::new();
            Joined::new(None).retire(1, 0, changes, |a: &u64, b: &u64| (*a, *b), &mut out);
            assert_eq!(out.len() as u64, ITEMS);
        },
    )
}

/// The first ten of a hundred groups.
fn ranks() -> Prepare {
    let change = |n: u64| ((n % 100, Reverse(mixed(n))), 1, 1);
    of(
        move || (0..ITEMS).map(change).collect(),
        |changes| {
            let show = |rows: &[&Reverse<u64>]| rows.iter().map(|row| row.0).collect();
            let mut out = Vec::new();
            Ranks::new(10, false, false, show).retire(&Clock::at(1), 0, changes, &mut out);
            assert_eq!(out.len(), 1000);
        },
    )
}

/// A bid, as JSON and in order.
fn row() -> Prepare {
    let bid = Bid {
        auction: 1000,
        bidder: 1001,
        price: 12_345,
        channel: "Google".into(),
        url: "https://www.nexmark.com/abcde/fghij/klmno/item.htm?query=1".into(),
        ts: Timestamp(1_700_000_000_000),
        extra: "what else there is to say of a bid, at some length".into(),
    };
    of(
        move || bid.clone(),
        |bid| {
            for n in 0..ITEMS {
                let row = Row::new(&("nexmark", 0, n), &bid, Some(Timestamp(0)));
                black_box(row.expect("a bid is a row"));
            }
        },
    )
}

fn views() -> Views {
    let spec = QuerySpec {
        name: "q".into(),
        key_schema: serde_json::json!({ "type": "integer" }),
        ..QuerySpec::default()
    };
    let views = Views::new(1, vec![spec], Vec::new(), 1, History::default());
    views.set_ready();
    views
}

fn rows(from: u64) -> Vec<(Row, i64)> {
    let row = |n| Row::new(&mixed(n), &n, None).expect("numbers are rows");
    (from..from + ITEMS).map(|n| (row(n), 1)).collect()
}

fn apply(views: &Views, epoch: u64, rows: Vec<(Row, i64)>) {
    views.query("q").expect("it is there").apply(0, epoch, rows);
    views.publish(Labels {
        run: 1,
        epoch,
        ..Labels::default()
    });
}

/// As many rows again become part of a view, at random places.
fn view() -> Prepare {
    of(
        || {
            let views = views();
            apply(&views, 1, rows(0));
            (views, rows(ITEMS))
        },
        |(views, rows)| apply(&views, 2, rows),
    )
}

fn lookup() -> Prepare {
    of(
        || {
            let views = views();
            apply(&views, 1, rows(0));
            views
        },
        |views| {
            let view = views.query("q").expect("it is there");
            for n in 0..ITEMS {
                let key = KeyRange::key(view.spec(), &mixed(n).to_string()).expect("it is a key");
                let page = view.read(1, &key, None, 1, None).expect("it is readable");
                assert_eq!(page.rows.len(), 1);
            }
        },
    )
}

/// Keeps nothing, but encodes all it is given, at once.
#[derive(Default)]
struct Encoding(RefCell<usize>);

impl Vault for Encoding {
    fn restore(&self, _boundary: &str) -> Saved {
        Saved {
            layers: Vec::new(),
            is_of_changes: true,
            is_to_be_rewritten: false,
            note: None,
            expected: 0,
        }
    }

    fn save(&self, _boundary: &str, _epoch: u64, rows: Encode) {
        let mut take = |batch: arrow_array::RecordBatch| {
            *self.0.borrow_mut() += batch.num_rows();
            Ok(())
        };
        assert!(rows(&mut take).is_ok());
    }

    fn is_busy(&self) -> bool {
        false
    }

    fn elsewhere(&self, work: Work) {
        work();
    }
}

/// As many changes are noted, sorted, and become columns.
fn checkpoint() -> Prepare {
    of(
        || {
            let vault = Rc::new(Encoding::default());
            let keeps: Rc<dyn Vault> = Rc::<Encoding>::clone(&vault);
            let boundary =
                Boundary::new::<Total<u64, u64>>("bench".into(), keeps, &mut Boundaries::new());
            let mut changes = Changes::new(boundary, |_| true);
            drop(changes.restore());
            changes.is_restored();
            (changes, vault)
        },
        |(mut changes, vault): (Changes<Total<u64, u64>>, Rc<Encoding>)| {
            for n in 0..ITEMS {
                let key = mixed(n);
                changes.put(|| Total { key, acc: n });
                if n.is_multiple_of(1000) {
                    changes.hand_over();
                }
            }
            changes.save(1, 0);
            assert_eq!(*vault.0.borrow() as u64, ITEMS);
        },
    )
}
