//! What does an event cost as more is held? Sessions that get longer, histories of joins, large
//! groups: each line of a curve is for twice as much as the one before, and should say the same.
//! And what do windows that overlap sixtyfold cost in a replay, beside those that do not?
//!
//! Figures are CPU time of the whole process, decoding included: `cargo bench --bench operators`.

#[allow(dead_code, reason = "some records are of other queries")]
#[path = "../queries/nexmark/events.rs"]
mod events;
#[allow(dead_code, reason = "some parts are of other queries")]
#[path = "../queries/nexmark/parts.rs"]
mod parts;

use std::fs;
use std::io::Write;
use std::time::Duration;

use waterclock::prelude::*;
use waterclock::query::{Catalog, Overrides};
use waterclock::source::nexmark::{NexmarkOptions, NexmarkSource};
use waterclock::testing::{MemorySource, Round, Steps};
use waterclock::worker::replay::Replay;

/// How many events are timed at each point of a curve.
const EVENTS: i64 = 20_000;
/// How many are held at the last point.
const LONGEST: i64 = 64 * EVENTS;

data! {
    struct Left { key: u32, at: Timestamp }
}

impl Event for Left {
    const STREAM: &'static str = "lefts";
    /// What is held stays.
    const LATENESS: Duration = days(30);
    fn time(&self) -> Timestamp {
        self.at
    }
}

data! {
    struct Right { key: u32, at: Timestamp }
}

impl Event for Right {
    const STREAM: &'static str = "rights";
    const LATENESS: Duration = days(30);
    fn time(&self) -> Timestamp {
        self.at
    }
}

/// One session that never ends.
fn one_session(flow: Flow) -> Table<(u32, Window), u64> {
    let lefts = flow.stream::<Left>().key_by(|left| left.key);
    lefts.window(session(hours(1))).count()
}

/// The same of rows that are kept.
fn one_session_of_rows(flow: Flow) -> Table<(u32, Window), u64> {
    let lefts = flow.stream::<Left>().key_by(|left| left.key);
    let rows = lefts.keep_forever();
    rows.sessions(hours(1), |_key, left| left.at).count()
}

/// Each meets the one of the same instant, whatever is held.
fn interval(flow: Flow) -> Table<u32, u64> {
    let rights = flow.stream::<Right>().key_by(|right| right.key);
    let lefts = flow.stream::<Left>().key_by(|left| left.key);
    let pairs = lefts.interval_join(rights, millis(0), millis(0));
    pairs.key_by(|(left, _)| left.key).forever().count()
}

/// The first few of a group that grows.
fn first_of_group(flow: Flow) -> Table<u32, (u64, Left)> {
    let lefts = flow.stream::<Left>().key_by(|left| left.key);
    lefts.keep_forever().ranked(3, |_key, left| left.at)
}

fn hourly(flow: Flow) -> Table<(u32, Window), u64> {
    let lefts = flow.stream::<Left>().key_by(|left| left.key);
    lefts.window(tumbling(hours(1))).count()
}

fn hourly_by_the_minute(flow: Flow) -> Table<(u32, Window), u64> {
    let lefts = flow.stream::<Left>().key_by(|left| left.key);
    lefts.window(sliding(hours(1)).every(minutes(1))).count()
}

/// The same of records as they usually are, ten times as long.
fn bids_hourly<const KEYS: u64>(flow: Flow) -> Table<(u64, Window), u64> {
    let bids = parts::offers(&flow).key_by(|bid| bid.bidder % KEYS);
    bids.window(tumbling(hours(1))).count()
}

fn bids_by_the_minute<const KEYS: u64>(flow: Flow) -> Table<(u64, Window), u64> {
    let bids = parts::offers(&flow).key_by(|bid| bid.bidder % KEYS);
    bids.window(sliding(hours(1)).every(minutes(1))).count()
}

/// Records of one key, a millisecond apart or more.
fn lines(from: i64, count: i64, apart: i64) -> String {
    let line = |n| format!("{{\"key\":1,\"at\":{}}}\n", from + n * apart);
    (0..count).map(line).collect()
}

fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The CPU time so far of all threads that still run: what else the machine does is not in it.
fn cpu() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("this is Linux");
    let of = |path: std::path::PathBuf| -> Option<u64> {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    let nanos = tasks.filter_map(|task| of(task.ok()?.path()));
    Duration::from_nanos(nanos.sum())
}

/// The same of all threads there ever were, in hundredths of a second.
fn cpu_of_all() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("this is Linux");
    // Behind the name, which may hold anything, user and system time are the 12th and 13th.
    let (_, fields) = stat.rsplit_once(')').expect("the name is in brackets");
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.filter_map(|ticks| ticks.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// Feeds records and returns what one costs.
fn timed(steps: &mut Steps, stream: &str, text: &str) -> Duration {
    let before = cpu();
    for part in text
        .as_bytes()
        .chunk_by(|a, _| *a != b'\n')
        .collect::<Vec<_>>()
        .chunks(2000)
    {
        let part = String::from_utf8(part.concat()).expect("it is text");
        steps.epoch(Round::new().records(stream, 0, &part));
    }
    steps.settle();
    let events = u32::try_from(EVENTS).expect("they are few");
    cpu().saturating_sub(before) / events
}

/// The cost of a record as more and more of the left stream are held. `probe` says which come.
fn curve(name: &str, query: Query, probed: &str, probe: impl Fn(i64) -> String) {
    let mut steps = Steps::start(vec![query], 1);
    let (mut held, mut upto) = (0, EVENTS);
    while upto <= LONGEST {
        steps.epoch(Round::new().records("lefts", 0, &lines(held, upto - held, 1)));
        steps.settle();
        // What a checkpoint is to save of them is another cost, of each event once.
        steps.checkpoint();
        held = upto;
        let each = timed(&mut steps, probed, &probe(held));
        say(&format!("{name}, {held} held: {each:?} an event\n"));
        if probed == "lefts" {
            held += EVENTS;
        }
        upto *= 2;
    }
}

/// Events of so many keys over ten hours.
fn ten_hours(keys: i64) -> String {
    let line = |n: i64| format!("{{\"key\":{},\"at\":{}}}\n", n * 7919 % keys, n * 36);
    (0..1_000_000).map(line).collect()
}

/// Ten hours of Nexmark.
fn ten_hours_of_bids() -> String {
    let options = NexmarkOptions {
        events: 1_000_000,
        rate: 1_000_000.0 / 36_000.0,
        ..NexmarkOptions::default()
    };
    let mut text = String::new();
    for bytes in NexmarkSource::new("nexmark", options).chunks() {
        let bytes = bytes.expect("it is made");
        text.push_str(str::from_utf8(&bytes).expect("events are text"));
    }
    text
}

type Build<K> = for<'s> fn(Flow<'s>) -> Table<'s, (K, Window), u64>;

/// What a replay costs, and how many rows it makes. They are written and put in order, or counted.
fn replayed<K: Arrangeable>(
    query: Build<K>,
    stream: &str,
    text: &str,
    only_counts: bool,
) -> (Duration, i64) {
    let query = Query::new("windows", "", query);
    let catalog = Catalog::of(std::slice::from_ref(&query), &Overrides::default());
    let source = MemorySource::new(stream, &[text]);
    let mut replay = Replay::new(query, catalog.expect("it builds"), vec![Box::new(source)]);
    replay.only_counts = only_counts;
    let before = cpu_of_all();
    let rows = replay.run().expect("it runs").count;
    (cpu_of_all().saturating_sub(before), rows)
}

/// What windows that overlap sixtyfold cost beside those that do not.
fn overlapping<K: Arrangeable>(name: &str, one: Build<K>, sixty: Build<K>, text: [&str; 2]) {
    let [stream, text] = text;
    for (only_counts, rows) in [(false, "written"), (true, "counted")] {
        let (one, one_rows) = replayed(one, stream, text, only_counts);
        let (sixty, sixty_rows) = replayed(sixty, stream, text, only_counts);
        let ratio = sixty.as_secs_f64() / one.as_secs_f64();
        say(&format!(
            "replay, {name}: {one:?} for {one_rows} rows {rows}, {sixty:?} for {sixty_rows} rows \
             sixty times as often: {ratio:.2}\n"
        ));
    }
}

fn main() {
    let next = |held| lines(held, EVENTS, 1);
    let query = Query::new("session", "", one_session);
    curve("session", query, "lefts", next);
    let query = Query::new("rows", "", one_session_of_rows);
    curve("session of rows", query, "lefts", next);
    let query = Query::new("first", "", first_of_group);
    curve("first of a group", query, "lefts", next);
    let newest = |held: i64| lines(held - EVENTS, EVENTS, 1);
    let query = Query::new("interval", "", interval);
    curve("interval join, the newest", query, "rights", newest);
    // Each finds its partner in a place of its own, which no cache holds when there are many.
    let all_over = |held: i64| lines(0, EVENTS, held / EVENTS);
    let query = Query::new("interval", "", interval);
    curve("interval join, all over", query, "rights", all_over);
    for keys in [10, 100, 1000] {
        let text = ten_hours(keys);
        let name = format!("{keys} keys");
        overlapping(&name, hourly, hourly_by_the_minute, ["lefts", &text]);
    }
    let text = ten_hours_of_bids();
    let text = ["nexmark", text.as_str()];
    overlapping(
        "10 keys of Nexmark",
        bids_hourly::<10>,
        bids_by_the_minute::<10>,
        text,
    );
    overlapping(
        "100 keys of Nexmark",
        bids_hourly::<100>,
        bids_by_the_minute::<100>,
        text,
    );
    overlapping(
        "1000 keys of Nexmark",
        bids_hourly::<1000>,
        bids_by_the_minute::<1000>,
        text,
    );
}
