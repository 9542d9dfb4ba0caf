//! What does memory hold: bytes of a key and of a window's row, and does it stay flat?
//!
//! ```text
//! cargo bench --bench memory                 bytes, then a minute of each of some queries
//! cargo bench --bench memory rows            bytes of keys and rows in a live service
//! cargo bench --bench memory q5 q11          what these queries hold while events go by
//! ```
//!
//! `WATERCLOCK_BENCH_KEYS` says how many keys there are (1,000,000), `WATERCLOCK_BENCH_MINUTES` how
//! long events go by (1). Each case runs in a process of its own. Bytes are what is allocated;
//! what the system holds for the process stands beside.

#[allow(dead_code, reason = "some fields are of other queries")]
#[path = "../queries/nexmark/events.rs"]
mod events;
#[allow(dead_code, reason = "some parts are of other queries")]
#[path = "../queries/nexmark/parts.rs"]
mod parts;
#[path = "../queries/nexmark/q11.rs"]
mod q11;
#[path = "../queries/nexmark/q12.rs"]
mod q12;
#[path = "../queries/nexmark/q5.rs"]
mod q5;
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use support::{checkpoint, now, number, say, wait};
use waterclock::memory;
use waterclock::prelude::*;
use waterclock::query::{Catalog, Overrides};
use waterclock::record::Chunk;
use waterclock::source::nexmark::{NexmarkOptions, NexmarkSource};
use waterclock::source::{Partition, Source, SourceError};
use waterclock::state::{CheckpointStore, DataDir, StoreOptions};
use waterclock::testing::MemorySource;
use waterclock::view::History;
use waterclock::worker::Start;
use waterclock::worker::live::{Live, LiveOptions, Work};
use waterclock::worker::replay::Replay;

/// The queries of Nexmark that are watched: sliding windows, sessions, tumbling windows.
fn watched() -> Vec<Query> {
    vec![
        Query::new("q5", "", q5::query),
        Query::new("q11", "", q11::query),
        Query::new("q12", "", q12::query),
    ]
}

data! {
    struct Click { user: Text, at: Timestamp }
}

impl Event for Click {
    const STREAM: &'static str = "clicks";
    fn time(&self) -> Timestamp {
        self.at
    }
}

fn per_user(flow: Flow) -> Table<Text, u64> {
    let clicks = flow.stream::<Click>().key_by(|click| click.user.clone());
    clicks.forever().count()
}

fn per_window(flow: Flow) -> Table<(Text, Window), u64> {
    let clicks = flow.stream::<Click>().key_by(|click| click.user.clone());
    clicks.window(tumbling(minutes(5))).count()
}

/// Each record is in two windows.
fn per_sliding_window(flow: Flow) -> Table<(Text, Window), u64> {
    let clicks = flow.stream::<Click>().key_by(|click| click.user.clone());
    clicks
        .window(sliding(minutes(10)).every(minutes(5)))
        .count()
}

fn cases() -> [Query; 3] {
    [
        Query::new("per_user", "A count of each user, kept for ever", per_user),
        Query::new(
            "per_window",
            "A count of each user and tumbling window",
            per_window,
        ),
        Query::new(
            "per_sliding_window",
            "The same of sliding windows",
            per_sliding_window,
        ),
    ]
}

fn main() {
    // `cargo test` builds benchmarks and may run them; they are for `cargo bench` alone.
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = args.iter().position(|arg| arg == "--case") {
        let name = args[at + 1].as_str();
        match cases().into_iter().find(|query| query.name == name) {
            Some(query) => rows(query),
            None => watch(name),
        }
    } else if args.iter().any(|arg| arg == "--bench") {
        let mut names: Vec<&str> = args.iter().map(String::as_str).collect();
        names.retain(|name| !name.starts_with("--"));
        let watched = watched();
        if names.is_empty() {
            names.push("rows");
            names.extend(watched.iter().map(|query| query.name.as_str()));
        }
        let cases = cases();
        for name in names {
            let of_rows = cases.iter().map(|query| query.name.as_str());
            let own = if name == "rows" {
                of_rows.collect()
            } else {
                vec![name]
            };
            own.into_iter().for_each(in_a_process);
        }
    }
}

fn in_a_process(case: &str) {
    let own = std::env::current_exe().expect("this program has a path");
    let status = Command::new(own).args(["--case", case]).status();
    assert!(status.expect("it starts").success(), "case '{case}' failed");
}

/// What the system holds for this process, in bytes.
fn held() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = found.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kb.unwrap_or_default() * 1024
}

/// A live service that is given a record of each key once, and then checkpointed.
fn rows(query: Query) {
    memory::give_back();
    let keys = number("WATERCLOCK_BENCH_KEYS", 1_000_000);
    let mut text = String::new();
    for n in 0..keys {
        // As they please, not in order.
        let user = n * 7_919 % keys;
        let _ = writeln!(text, r#"{{"user":"user{user:06}","at":1795345200000}}"#);
    }
    let source = MemorySource::new(Click::STREAM, &[&text]);
    drop(text);
    let dir = tempfile::tempdir().expect("a directory for files that go again");
    let (name, before) = (query.name.clone(), (memory::allocated() as u64, held()));
    let live = start(query, Box::new(source), dir.path());
    let view = live.views.query(&name).expect("it runs");
    let (began, each_has) = (now(), if name == "per_sliding_window" { 2 } else { 1 });
    while view.row_count() < keys * each_has {
        assert!(began.elapsed() < minutes(5), "the rows do not come");
        wait(millis(50));
    }
    let unsaved = memory::allocated() as u64 - before.0;
    checkpoint(&live);
    // What is not used any more goes back within some seconds.
    wait(seconds(15));
    let rows = view.row_count();
    let all = memory::allocated() as u64 - before.0;
    let of_view = view.memory_bytes() as u64;
    say(&format!(
        "{name:20} {rows} rows; bytes of each: {} in all, of which {} the view and {} the state; \
         {} more until a checkpoint; {} held by the system",
        all / rows,
        of_view / rows,
        all.saturating_sub(of_view) / rows,
        unsaved.saturating_sub(all) / rows,
        held().saturating_sub(before.1) / rows,
    ));
    live.stop();
}

fn start(query: Query, source: Box<dyn Source>, dir: &std::path::Path) -> Live {
    let data = DataDir::open(dir).expect("the directory is ours");
    let store = CheckpointStore::open(&data, &StoreOptions::default()).expect("it is empty");
    let queries = std::slice::from_ref(&query);
    let work = Work {
        catalog: Catalog::of(queries, &Overrides::default()).expect("the query builds"),
        queries: vec![query],
        sources: vec![source],
        sinks: Vec::new(),
        start: Start::choose(data, store, &[]).expect("there is nothing to choose"),
        clock: Arc::new(|| Timestamp(0)),
    };
    let options = LiveOptions {
        workers: 2,
        heartbeat: millis(10),
        max_in_flight: 32 << 20,
        idle_timeout: hours(100),
        max_ahead: hours(1),
        snapshot_interval: hours(100),
        history: History {
            epochs: 2,
            ..History::default()
        },
        poison: BTreeMap::new(),
        max_drift: BTreeMap::new(),
    };
    let failed = |why: String| panic!("the service stopped: {why}");
    Live::start(work, options, failed).expect("it starts")
}

/// Events that are made up as they are read, until the time is over.
struct Passing {
    events: NexmarkSource,
    until: Instant,
    count: Arc<AtomicU64>,
}

impl Source for Passing {
    fn stream(&self) -> &str {
        self.events.stream()
    }

    fn partitions(&mut self) -> Result<Vec<Partition>, SourceError> {
        self.events.partitions()
    }

    fn read(
        &mut self,
        partition: u32,
        position: u64,
        max_bytes: usize,
        until: Option<u64>,
    ) -> Result<Option<Chunk>, SourceError> {
        if now() >= self.until {
            return Ok(None);
        }
        let chunk = self.events.read(partition, position, max_bytes, until)?;
        if let Some(chunk) = &chunk {
            self.count
                .fetch_add(chunk.end - chunk.start, Ordering::Relaxed);
        }
        Ok(chunk)
    }

    fn origin(&self, partition: u32) -> String {
        self.events.origin(partition)
    }
}

/// Replays events without an end, and says what is held as they go by.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn watch(name: &str) {
    memory::give_back();
    let query = watched().into_iter().find(|query| query.name == name);
    let query = query.unwrap_or_else(|| panic!("no query '{name}' is watched"));
    let catalog = Catalog::of(std::slice::from_ref(&query), &Overrides::default());
    let lasts = minutes(number("WATERCLOCK_BENCH_MINUTES", 1));
    let count = Arc::new(AtomicU64::new(0));
    let source = Passing {
        events: NexmarkSource::new("nexmark", NexmarkOptions::default()),
        until: now() + lasts,
        count: Arc::clone(&count),
    };
    let catalog = catalog.expect("the query builds");
    let mut replay = Replay::new(query, catalog, vec![Box::new(source)]);
    replay.only_counts = true;
    say(&format!(
        "{name}: {:>8} {:>14} {:>13} {:>9}",
        "s", "events", "allocated MB", "held MB"
    ));
    let began = now();
    let (tell, told) = channel();
    let running = std::thread::Builder::new().name("replay".to_owned());
    let running = running.spawn(move || drop(tell.send(replay.run())));
    running.expect("a thread starts");
    let replayed = loop {
        match told.recv_timeout(lasts / 20) {
            Ok(replayed) => break replayed.expect("it runs to its end"),
            Err(_) => say(&format!(
                "{name}: {:8.0} {:14} {:13.1} {:9.1}",
                began.elapsed().as_secs_f64(),
                count.load(Ordering::Relaxed),
                memory::allocated() as f64 / 1e6,
                held() as f64 / 1e6,
            )),
        }
    };
    let rate = replayed.events as f64 / began.elapsed().as_secs_f64();
    say(&format!(
        "{name}: {} rows of {} events, {rate:.0}/s",
        replayed.count, replayed.events
    ));
}
