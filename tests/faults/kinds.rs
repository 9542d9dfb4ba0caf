//! Every kind of state at once: a query for each kind of boundary there is, served by a service of
//! this very program, and the rows that all of them must have.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use serde_json::{Value, json};
use waterclock::cli::{Cli, Command as Said};
use waterclock::prelude::*;
use waterclock::testing::{Bag, Round, Steps};

use crate::commands;
use crate::script::{self, QUERY};
use crate::service::{Client, Launch, clean, until};

data! {
    pub struct Click { user_id: Text, click_time: Timestamp }
}

data! {
    /// Somebody buys something.
    pub struct Order { user: Text, page: Text, price: i64, at: Timestamp }
}

data! {
    /// Where somebody is from then on.
    pub struct User { id: Text, country: Text, at: Timestamp }
}

impl Event for Click {
    const STREAM: &'static str = "clicks";
    fn time(&self) -> Timestamp {
        self.click_time
    }
}

impl Event for Order {
    const STREAM: &'static str = "orders";
    fn time(&self) -> Timestamp {
        self.at
    }
}

impl Event for User {
    const STREAM: &'static str = "users";
    fn time(&self) -> Timestamp {
        self.at
    }
}

impl Entity for User {
    type Key = Text;
    fn key(&self) -> Text {
        self.id.clone()
    }
}

type Windowed<V> = (V, Window);

fn by_user<'s>(flow: &Flow<'s>) -> Keyed<'s, Text, Order> {
    flow.stream::<Order>().key_by(|order| order.user.clone())
}

fn by_page<'s>(flow: &Flow<'s>) -> Keyed<'s, Text, Order> {
    flow.stream::<Order>().key_by(|order| order.page.clone())
}

/// The demo's own.
fn clicks_per_user_tumbling(flow: Flow) -> Table<Windowed<Text>, u64> {
    flow.stream::<Click>()
        .key_by(|click| click.user_id.clone())
        .window(tumbling(minutes(5)))
        .count()
}

fn overlapping(flow: Flow) -> Table<Windowed<Text>, i128> {
    let windows = sliding(minutes(3)).every(minutes(1));
    by_page(&flow).window(windows).sum(|order| order.price)
}

fn so_far(flow: Flow) -> Table<Windowed<Text>, i64> {
    let hours = cumulative(hours(1)).every(minutes(2)).final_only();
    by_page(&flow).window(hours).max(|order| order.price)
}

fn visits(flow: Flow) -> Table<Windowed<Text>, u64> {
    by_user(&flow).window(session(seconds(20))).count()
}

fn first_of_visit(flow: Flow) -> Table<Windowed<Text>, Order> {
    by_user(&flow).window(session(seconds(20))).first()
}

fn by_threes(flow: Flow) -> Table<(Text, u64), i128> {
    by_user(&flow).window(records(3)).sum(|order| order.price)
}

fn buyers(flow: Flow) -> Table<Windowed<Text>, u64> {
    let windows = tumbling(minutes(2));
    by_page(&flow)
        .window(windows)
        .count_distinct(|order| order.user.clone())
}

fn best_pages(flow: Flow) -> Table<Windowed<()>, Vec<(Text, u64)>> {
    let all = flow.stream::<Order>().key_by(|_| ());
    all.window(tumbling(minutes(2)))
        .count_by(|order| order.page.clone())
        .top(2)
}

#[allow(clippy::cast_precision_loss, reason = "prices are small")]
fn estimates(flow: Flow) -> Table<Windowed<Text>, (u64, Float)> {
    by_page(&flow).window(tumbling(minutes(4))).aggregate((
        approx_distinct(|order: &Order| order.user.clone()),
        quantile(0.9, |order: &Order| order.price as f64),
    ))
}

fn totals(flow: Flow) -> Table<Text, (u64, u64, [u64; 2], i64)> {
    by_user(&flow).forever().aggregate((
        count(),
        distinct(|order: &Order| order.page.clone()),
        distinct(|order: &Order| order.page.clone())
            .among([|order| order.price % 2 == 0, |order| order.price % 5 == 0]),
        max(|order: &Order| order.price),
    ))
}

fn active(flow: Flow) -> Table<Text, u64> {
    by_user(&flow).forever().ttl(minutes(3)).count()
}

fn last_orders(flow: Flow) -> Table<Text, Order> {
    by_user(&flow).forever().last()
}

fn from_where(flow: Flow) -> Table<Text, (i64, Text)> {
    by_user(&flow)
        .keep_forever()
        .join(flow.table::<User>())
        .map_values(|_user, (order, user)| (order.price, user.country.clone()))
}

fn dearest(flow: Flow) -> Table<Text, (u64, i64)> {
    by_page(&flow)
        .keep(minutes(4))
        .ranked(3, |_page, order| (std::cmp::Reverse(order.price), order.at))
        .map_values(|_page, (place, order)| (*place, order.price))
}

fn runs(flow: Flow) -> Table<Windowed<Text>, u64> {
    by_user(&flow)
        .keep_forever()
        .sessions(seconds(20), |_user, order| order.at)
        .count()
}

fn after_a_move(flow: Flow) -> Table<Windowed<Text>, u64> {
    let moves = flow.stream::<User>().key_by(|user| user.id.clone());
    by_user(&flow)
        .interval_join(moves, minutes(1), seconds(0))
        .key_by(|(_order, user)| user.country.clone())
        .window(tumbling(minutes(5)))
        .count()
}

fn per_country(flow: Flow) -> Table<Windowed<Text>, u64> {
    by_user(&flow)
        .as_of::<User>(hours(1))
        .key_by(|(_order, user)| {
            user.as_ref()
                .map_or("none".into(), |user| user.country.clone())
        })
        .window(tumbling(minutes(5)))
        .count()
}

fn calm(flow: Flow) -> Table<Text, u64> {
    by_page(&flow).forever().count().every(millis(4))
}

fn dear(flow: Flow) -> Stream<Order> {
    flow.stream::<Order>().filter(|order| order.price > 60)
}

macro_rules! kinds {
    ($($query:ident),* $(,)?) => {
        /// The names of all.
        pub const KINDS: &[&str] = &[$(stringify!($query)),*];

        fn all() -> Vec<Query> {
            vec![$(Query::new(stringify!($query), "", $query)),*]
        }
    };
}

kinds![
    clicks_per_user_tumbling,
    overlapping,
    so_far,
    visits,
    first_of_visit,
    by_threes,
    buyers,
    best_pages,
    estimates,
    totals,
    active,
    last_orders,
    from_where,
    dearest,
    runs,
    after_a_move,
    per_country,
    calm,
    dear,
];

/// What the service of this program is told, in its environment.
const TOLD: &str = "FAULTS_TOLD";

/// Not a test but the service: `sh` below starts this program with this name.
#[test]
fn serve() {
    let Ok(told) = std::env::var(TOLD) else {
        return;
    };
    let words = std::iter::once("waterclock").chain(told.split(' '));
    let done = match Cli::parse_from(words).into_command() {
        Said::Run(args) => commands::run::run(&args, all()),
        Said::Replay(args) => commands::replay::replay(&args, all()),
        other => panic!("{other:?} is not for this program"),
    };
    if let Err(error) = &done {
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{error:#}\n"));
    }
    // What a test prints at its end is not what a service prints.
    std::process::exit(i32::from(done.is_err()));
}

/// A program that does with its arguments what `waterclock` does, with these queries.
fn program(home: &Path) -> std::path::PathBuf {
    let program = home.join("waterclock.sh");
    if !program.exists() {
        let this = std::env::current_exe().expect("a test is a file");
        let this = this.display();
        let script =
            format!("#!/bin/sh\n{TOLD}=\"$*\" exec {this} --exact kinds::serve --nocapture\n");
        fs::write(&program, script).expect("the test's directory takes files");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("it is ours");
    }
    program
}

/// A service with all of them that does little by itself.
pub fn launch(home: &Path, workers: usize) -> Launch {
    let launch = script::launch(home);
    let launch = ["--queries", QUERY, "--workers", "1"]
        .into_iter()
        .fold(launch, Launch::without);
    launch
        .args(&["--workers", &workers.to_string()])
        // What is shown at a pace is waited for.
        .set("EPOCH__HEARTBEAT_MS", "400")
        .program(program(home))
}

/// Replays one of them from a data directory: its rows, one a line.
pub fn replay(home: &Path, query: &str) -> Vec<u8> {
    let (data_dir, to) = (home.join("data"), home.join("replayed"));
    let output = clean(Command::new(program(home)))
        .args(["replay", "--query", query, "--data-dir"])
        .arg(data_dir)
        .arg("--output")
        .arg(&to)
        .output()
        .expect("it was just written");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{query}: {said}");
    fs::read(to).expect("it was just written")
}

/// 2022-01-01 10:00:00.
const BASE: i64 = 1_641_031_200_000;
const MINUTE: i64 = 60_000;

/// What goes with a post of clicks: users who move, and orders, of which one is late, one is of
/// somebody who never comes again, and one cannot be read.
pub fn lines(number: usize) -> [(&'static str, String); 2] {
    let number = i64::try_from(number).expect("it is small");
    let begin = BASE + number * MINUTE;
    let mut orders = String::new();
    let mut order = |user: String, n: i64, at: i64| {
        let page = format!("/{}", (n + number) % 4);
        let price = (n * 37 + number * 11) % 101;
        let order = json!({"user": user, "page": page, "price": price, "at": at});
        let _ = writeln!(orders, "{order}");
    };
    for n in 0..30 {
        order(format!("u{}", (n % 3 + number) % 7), n, begin + n * 1_900);
    }
    order(format!("u{}", number % 7), 30, begin - 8 * MINUTE);
    order(format!("guest-{number}"), 31, begin + 58_000);
    orders.push_str("{\"user\":\"u1\"}\n");
    let country = format!("c{}", number % 3);
    let user = json!({"id": format!("u{}", number % 7), "country": country, "at": begin + 5_000});
    let pace = json!({"id": "pace", "country": "none", "at": begin + 59_000});
    [("users", format!("{user}\n{pace}\n")), ("orders", orders)]
}

/// The rows of each query, as the API writes them, and how many records were late for it: all that
/// was posted in one epoch, on one worker, without a restart.
pub type Expected = BTreeMap<&'static str, (Value, u64)>;

pub fn expected(posts: usize) -> Arc<Expected> {
    static KNOWN: Mutex<BTreeMap<usize, Arc<Expected>>> = Mutex::new(BTreeMap::new());
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(expected) = known().get(&posts) {
        return Arc::clone(expected);
    }
    let expected = Arc::new(computed(posts));
    known().insert(posts, Arc::clone(&expected));
    expected
}

fn computed(posts: usize) -> Expected {
    let mut posted: BTreeMap<&str, String> = BTreeMap::new();
    for number in 0..posts {
        let clicks = [("clicks", script::lines(number) + "\n")];
        for (stream, lines) in lines(number).into_iter().chain(clicks) {
            posted.entry(stream).or_default().push_str(&lines);
        }
    }
    let mut steps = Steps::start(all(), 1);
    let round = posted.iter().fold(Round::new(), |round, (stream, lines)| {
        round.records(stream, 0, lines)
    });
    steps.epoch(round);
    // What waits for its pace is shown.
    steps.epoch(Round::new().at(1_000_000));
    let through = |query: &str| {
        let streams: &[&str] = match query {
            QUERY => &["clicks"],
            "from_where" | "after_a_move" | "per_country" => &["orders", "users"],
            _ => &["orders"],
        };
        streams
            .iter()
            .map(|stream| steps.watermark(stream))
            .min()
            .flatten()
    };
    let of = |query: &&'static str| {
        let rows = written(&steps.rows(query), through(query));
        (*query, (shown(query, rows), steps.late_total(query)))
    };
    KINDS.iter().map(of).collect()
}

fn written(rows: &Bag, through: Option<Timestamp>) -> Value {
    let row = |(row, times): &(waterclock::row::Row, i64)| {
        let parse = |text: &str| serde_json::from_str::<Value>(text).expect("a row is JSON");
        let mut written = json!({"key": parse(row.key()), "value": parse(row.value())});
        if let Some(at) = row.final_at() {
            written["final"] = json!(through.is_some_and(|through| through >= at));
        }
        std::iter::repeat_n(written, usize::try_from(*times).expect("it is there"))
    };
    rows.iter().flat_map(row).collect()
}

/// What is compared of the rows. A log of records is told by their positions, which are bytes in
/// one place and records in the other.
pub fn shown(query: &str, mut rows: Value) -> Value {
    if query == "dear" {
        for row in rows.as_array_mut().expect("a list") {
            row["key"] = Value::Null;
        }
    }
    rows
}

/// Checks that a service answers all queries as if nothing had ever happened to it.
pub fn check(service: &Client, posts: usize) {
    for (query, (rows, late)) in &*expected(posts) {
        let path = format!("/v1/queries/{query}?limit=10000");
        let answer = || shown(query, service.get(&path).ok()["rows"].clone());
        // Its pace, or the end of a row, may come an epoch after the records.
        if ["calm", "active"].contains(query) {
            until(query, || (answer() == *rows).then_some(()));
        }
        assert_eq!(answer(), *rows, "{query}");
        assert_eq!(service.query(query)["late"], *late, "{query}");
    }
    assert_eq!(service.stream("orders")["rejected"], posts);
}

#[test]
fn there_is_something_of_each_kind() {
    let expected = expected(8);
    for (query, (rows, _)) in &*expected {
        let rows = rows.as_array().expect("a list");
        assert!(rows.len() > 1, "{query}: {rows:?}");
    }
    let late: u64 = expected.values().map(|(_, late)| late).sum();
    assert!(late > 8, "{late} were late");
    // Some rows have had their time.
    let active = expected["active"].0.as_array().expect("a list").len();
    let totals = expected["totals"].0.as_array().expect("a list").len();
    assert!(active < totals, "{active} of {totals}");
}
