//! What does an event cost as a session gets longer, and as an interval join holds more? The cost
//! may not grow with either: each line of a curve is for ten times as much as the one before.

use std::io::Write;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use waterclock::prelude::*;
use waterclock::testing::{Round, Steps};

/// How many events are timed at each point of a curve.
const EVENTS: i64 = 10_000;
/// How many keys there are; the work is for one of them.
const KEY: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Left {
    key: u32,
    at: Timestamp,
}

impl Event for Left {
    const STREAM: &'static str = "lefts";
    fn time(&self) -> Timestamp {
        self.at
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Right {
    key: u32,
    at: Timestamp,
}

impl Event for Right {
    const STREAM: &'static str = "rights";
    fn time(&self) -> Timestamp {
        self.at
    }
}

/// One session that never ends.
fn session_of_all(flow: Flow) -> Table<(u32, Window), u64> {
    let lefts = flow.stream::<Left>().key_by(|left| left.key);
    lefts.window(session(hours(1))).count()
}

/// Each meets the few of the same instant, whatever is held.
fn interval(flow: Flow) -> Table<u32, u64> {
    let rights = flow.stream::<Right>().key_by(|right| right.key);
    let lefts = flow.stream::<Left>().key_by(|left| left.key);
    let pairs = lefts.interval_join(rights, millis(0), days(30));
    pairs.key_by(|(left, _)| left.key).forever().count()
}

/// The best few of a group that grows.
fn best(flow: Flow) -> Table<u32, (u64, Left)> {
    let lefts = flow.stream::<Left>().key_by(|left| left.key);
    lefts.keep_forever().ranked(3, |_key, left| left.at)
}

fn lines(from: i64, count: i64) -> String {
    let line = |at| format!("{{\"key\":{KEY},\"at\":{at}}}\n");
    (from..from + count).map(line).collect()
}

fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn curve(name: &str, query: Query, longest: i64) {
    let mut steps = Steps::start(vec![query], 1);
    let (mut held, mut next) = (0, EVENTS);
    while held < longest {
        // What is held first: records of a stream that meets nothing new.
        let more = next - held;
        steps.epoch(Round::new().records("lefts", 0, &lines(held, more)));
        held += more;
        let text = lines(held, EVENTS);
        #[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
        let started = Instant::now();
        steps.epoch(Round::new().records("lefts", 0, &text));
        let each = started.elapsed() / u32::try_from(EVENTS).unwrap_or(u32::MAX);
        say(&format!("{name}, {held} before: {each:?} an event\n"));
        held += EVENTS;
        next = held * 10;
    }
}

fn main() {
    let longest = 1_000_000;
    curve(
        "session",
        Query::new("session", "", session_of_all),
        longest,
    );
    curve("best of a group", Query::new("best", "", best), longest);
    let mut steps = Steps::start(vec![Query::new("interval", "", interval)], 1);
    let mut held = 0;
    for power in 4..=6 {
        let upto = 10_i64.pow(power);
        let text = lines(held, upto - held);
        steps.epoch(Round::new().records("lefts", 0, &text));
        held = upto;
        // Of the same instants as the first lefts: each meets one of all that are held.
        let early: String = (0..EVENTS).map(|_| lines(0, 1)).collect();
        #[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
        let started = Instant::now();
        steps.epoch(Round::new().records("rights", 0, &early));
        let each = started.elapsed() / u32::try_from(EVENTS).unwrap_or(u32::MAX);
        say(&format!("interval join, {held} held: {each:?} an event\n"));
    }
}
