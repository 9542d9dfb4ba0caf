//! How long does it take from a record's arrival until a reader of the view has its row?
//!
//! ```text
//! cargo bench --bench latency                 everything, about five minutes
//! cargo bench --bench latency steady          at idle, half and nine tenths of the peak
//! cargo bench --bench latency spikes          checkpoints, a window that closes, its expiry
//! ```
//!
//! The service runs whole, but for HTTP: epochs, journal, checkpoints, views. Records come when
//! they are due, and it is from then on that time counts, so that a service which stalls does not
//! slow down those who measure it. A reader on a thread of its own waits for each epoch and looks
//! up the row of the newest record; the records that came with the epoch are visible then.
//!
//! `WATERCLOCK_BENCH_KEYS` says how many keys the window has that closes (1,000,000),
//! `WATERCLOCK_BENCH_SECONDS` how long each load lasts (20), `WATERCLOCK_BENCH_WORKERS` how many
//! workers there are (2).

mod load;
mod reader;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use load::{Load, Phase};
use reader::Reader;
use support::{checkpoint, now, number, say, wait};
use waterclock::prelude::*;
use waterclock::query::{Catalog, Overrides};
use waterclock::state::{CheckpointStore, DataDir, StoreOptions};
use waterclock::view::History;
use waterclock::worker::Start;
use waterclock::worker::live::{Live, LiveOptions, Work};

/// The query, and the size of its windows, which are kept as long again.
const NAME: &str = "clicks_per_user";
const WINDOW: Duration = seconds(10);
/// How many users there are at any time in the steady loads.
const USERS: u64 = 10_000;
/// Records a second at idle.
const IDLE: f64 = 20.0;
/// The event time of the first phase, and how much later the next one begins, in ms.
const BEGIN: i64 = 1_700_000_000_000;
const APART: i64 = 10_000_000;

data! {
    struct Click { user: Text, at: Timestamp }
}

impl Event for Click {
    const STREAM: &'static str = "clicks";
    /// A millisecond, since of one time there are many records, and none is to come late.
    const LATENESS: Duration = millis(1);
    fn time(&self) -> Timestamp {
        self.at
    }
}

fn clicks_per_user(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Click>()
        .key_by(|click| click.user.clone())
        .window(tumbling(WINDOW).keep(WINDOW))
        .count()
}

fn main() {
    // `cargo test` builds benchmarks and may run them; they are for `cargo bench` alone.
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let names: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let wants = |part: &str| names.is_empty() || names.iter().any(|name| *name == part);
    let lasts = Duration::from_secs(number("WATERCLOCK_BENCH_SECONDS", 20));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    say(&format!("load of the machine before: {}", load.trim()));
    say(&format!(
        "{:34} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "ms", "events/s", "p50", "p99", "p99.9", "max", "gap", "epochs"
    ));
    if wants("steady") {
        steady(lasts);
    }
    if wants("spikes") {
        spikes(lasts);
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "epochs are numbered by the time of day"
)]
fn time_of_day() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(0))
}

/// A service, who loads it, and who reads it.
struct Service {
    live: Live,
    load: Load,
    reader: Reader,
    /// The event time of the next phase.
    next_at: i64,
    _dir: tempfile::TempDir,
}

impl Service {
    fn start() -> Service {
        let dir = tempfile::tempdir().expect("a directory for files that go again");
        let load = Load::default();
        let query = Query::new(NAME, "", clicks_per_user);
        let queries = std::slice::from_ref(&query);
        let data = DataDir::open(dir.path()).expect("the directory is ours");
        let store = CheckpointStore::open(&data, &StoreOptions::default()).expect("it is empty");
        let work = Work {
            catalog: Catalog::of(queries, &Overrides::default()).expect("the query builds"),
            queries: vec![query],
            sources: vec![Box::new(load.clone())],
            sinks: Vec::new(),
            start: Start::choose(data, store, &[]).expect("there is nothing to choose"),
            clock: Arc::new(time_of_day),
        };
        // As in the example configuration, but that checkpoints are taken when asked for.
        let options = LiveOptions {
            workers: usize::try_from(number("WATERCLOCK_BENCH_WORKERS", 2)).expect("few"),
            heartbeat: millis(250),
            max_in_flight: 32 << 20,
            idle_timeout: hours(100),
            max_ahead: hours(1),
            snapshot_interval: hours(100),
            history: History {
                epochs: 2400,
                bytes: 64 << 20,
                span_ms: 600_000,
            },
            poison: BTreeMap::new(),
            max_drift: BTreeMap::new(),
        };
        let failed = |why: String| panic!("the service stopped: {why}");
        let live = Live::start(work, options, failed).expect("it starts");
        let reader = Reader::start(&live.views, &load);
        Service {
            live,
            load,
            reader,
            next_at: BEGIN,
            _dir: dir,
        }
    }

    /// A phase whose users and windows are its own.
    fn phase(&mut self, users: u64, mark: char, rate: Option<f64>) -> Phase {
        self.next_at += APART;
        Phase {
            first: 0,
            start: now(),
            rate,
            users,
            mark,
            before: Some(0),
            at: self.next_at,
            goes_on: true,
            most: u64::MAX,
        }
    }

    /// Loads the service, says nothing.
    fn warm_up(&self, phase: Phase, lasts: Duration) {
        let handing = self.load.begin(phase);
        wait(lasts);
        drop(handing);
        self.reader.catch_up(&self.load);
        drop(self.reader.take());
    }

    /// Loads the service, does something meanwhile, and says how long records took.
    fn measure(&self, name: &str, phase: Phase, meanwhile: impl FnOnce()) {
        let rate = phase.rate.unwrap_or_default();
        drop(self.reader.take());
        let handing = self.load.begin(phase);
        meanwhile();
        drop(handing);
        self.reader.catch_up(&self.load);
        let (latency, gap, epochs) = self.reader.take();
        let at = |percent| millis_of(latency.value_at_quantile(percent));
        say(&format!(
            "{name:34} {rate:10.0} {:9.2} {:9.2} {:9.2} {:9.2} {:9.2} {epochs:7}",
            at(0.5),
            at(0.99),
            at(0.999),
            millis_of(latency.max()),
            gap.as_secs_f64() * 1e3,
        ));
    }

    /// Records a second where they come as fast as they are read.
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    fn peak(&self, name: &str, phase: Phase, lasts: Duration) -> f64 {
        let handing = self.load.begin(phase);
        wait(lasts / 4);
        let (from, began) = (self.reader.look(|seen| seen.through), now());
        wait(lasts);
        let read = self.reader.look(|seen| seen.through) - from;
        let rate = read as f64 / began.elapsed().as_secs_f64();
        drop(handing);
        self.reader.catch_up(&self.load);
        say(&format!("{name:34} {rate:10.0}"));
        rate
    }

    /// Takes checkpoints, each a second after the one before; says how many, and their bytes.
    fn take_checkpoints(&self, lasts: Duration) -> (u32, Vec<u64>) {
        let (began, mut count, mut bytes) = (now(), 0, Vec::new());
        while began.elapsed() < lasts {
            let info = checkpoint(&self.live);
            count += 1;
            bytes.push(info.bytes);
            wait(seconds(1));
        }
        (count, bytes)
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn millis_of(micros: u64) -> f64 {
    micros as f64 / 1e3
}

/// Windows of ten seconds with ten thousand users: one closes and one expires every ten seconds.
fn steady(lasts: Duration) {
    let mut service = Service::start();
    let mut marks = 'a'..='z';
    let mut mark = || marks.next().expect("there are few phases");
    let phase = service.phase(USERS, mark(), None);
    let peak = service.peak("peak, 10,000 users", phase, lasts);
    let loads = [
        ("idle", IDLE),
        ("half of the peak", peak / 2.0),
        ("nine tenths of the peak", peak * 0.9),
    ];
    for (name, rate) in loads {
        let phase = service.phase(USERS, mark(), Some(rate));
        service.warm_up(phase, lasts / 10);
        let phase = service.phase(USERS, mark(), Some(rate));
        service.measure(name, phase, || wait(lasts));
    }
    service.live.stop();
}

/// A window of a million users: while checkpoints are taken of it and merged, when it closes, and
/// when it expires. Half of what the service can do with as many users comes meanwhile.
fn spikes(lasts: Duration) {
    let keys = number("WATERCLOCK_BENCH_KEYS", 1_000_000);
    let mut service = Service::start();
    let window = i64::try_from(WINDOW.as_millis()).expect("it is short");
    let all = Phase {
        most: keys,
        goes_on: false,
        ..service.phase(keys, 'k', None)
    };
    let began = now();
    service.load.begin(all.clone()).wait();
    service.reader.catch_up(&service.load);
    say(&format!(
        "{keys} keys in a window, after {:.1?}",
        began.elapsed()
    ));
    let again = Phase {
        before: None,
        most: u64::MAX,
        ..all.clone()
    };
    let many = again.clone();
    let peak = service.peak("peak, as many users", again, lasts);
    let few = |mark, at| Phase {
        rate: Some(peak / 2.0),
        users: USERS,
        mark,
        before: Some(0),
        at,
        ..many.clone()
    };
    service.warm_up(few('l', all.at), lasts / 10);
    service.measure("half of it, few users", few('m', all.at), || wait(lasts));
    let mut taken = (0, Vec::new());
    service.measure("and a checkpoint a second", few('n', all.at), || {
        taken = service.take_checkpoints(lasts);
    });
    say(&format!(
        "  {} checkpoints; bytes of each: {:?}",
        taken.0, taken.1
    ));
    let rate = Some(peak / 2.0);
    service.measure(
        "as many users, checkpoints",
        Phase {
            rate,
            ..many.clone()
        },
        || {
            taken = service.take_checkpoints(lasts);
        },
    );
    say(&format!(
        "  {} checkpoints; bytes of each: {:?}",
        taken.0, taken.1
    ));
    service.measure("the window closes", few('p', all.at + window), || {
        wait(lasts);
    });
    service.measure("it expires", few('q', all.at + 2 * window + 1), || {
        wait(lasts);
    });
    service.measure("after it", few('r', all.at + 2 * window + 1), || {
        wait(lasts);
    });
    service.live.stop();
}
