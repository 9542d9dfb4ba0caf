//! The records, the shapes of windows, and the queries that the oracle knows the answers to.
#![allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "tables give their functions references"
)]

use serde::{Deserialize, Serialize};
use waterclock::prelude::*;
use waterclock::prelude::{
    count as count_all, distinct as different, min as least, sum as sum_all,
};

use super::names::QUERIES;
use super::tables;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hit {
    pub key: u8,
    pub part: u8,
    pub n: i64,
    pub x: Float,
    pub at: Timestamp,
}

impl Event for Hit {
    const STREAM: &'static str = "hits";
    fn time(&self) -> Timestamp {
        self.at
    }
}

/// The same on another stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Extra {
    pub key: u8,
    pub part: u8,
    pub n: i64,
    pub x: Float,
    pub at: Timestamp,
}

impl Event for Extra {
    const STREAM: &'static str = "extras";
    fn time(&self) -> Timestamp {
        self.at
    }
}

/// What keys are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct User {
    pub id: u8,
    pub name: u8,
    pub gone: bool,
    pub at: Timestamp,
}

impl Event for User {
    const STREAM: &'static str = "users";
    fn time(&self) -> Timestamp {
        self.at
    }
}

impl Entity for User {
    type Key = u8;
    fn key(&self) -> u8 {
        self.id
    }
    fn is_deleted(&self) -> bool {
        self.gone
    }
}

/// The streams, in the order of the catalog.
pub const STREAMS: [&str; 3] = ["extras", "hits", "users"];

/// Windows, and how long joins keep records; all in ms.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub size: i64,
    pub slide: i64,
    pub offset: i64,
    pub allowed: i64,
    pub keep: i64,
    /// How long records wait for joins.
    pub join: i64,
}

const WEEK: i64 = 7 * 86_400_000;

const fn shape(size: i64, slide: i64, offset: i64, allowed: i64, keep: i64) -> Shape {
    Shape {
        size,
        slide,
        offset,
        allowed,
        keep,
        join: size / 2 * 3,
    }
}

/// Tumbling, overlapping, uneven, with gaps; kept long, short, and not at all.
pub const SHAPES: [Shape; 10] = [
    shape(300_000, 120_000, 0, 0, WEEK),
    shape(1600, 700, 0, 0, WEEK),
    shape(1000, 1000, 300, 0, WEEK),
    shape(1600, 700, 250, 900, 2500),
    shape(700, 1600, 100, 0, WEEK),
    shape(300_000, 120_000, 30_000, 60_000, 400_000),
    shape(1000, 100, 0, 50, 0),
    shape(1000, 1000, 0, 400, 1500),
    shape(700, 1600, 1599, 2000, 100),
    // A tombstone lasts a week.
    shape(4 * 86_400_000, 86_400_000, 3_600_000, 0, 2 * WEEK),
];

/// Those that keep windows longer than a case lasts.
pub const LASTING: [usize; 4] = [0, 1, 2, 4];

pub fn ms(n: i64) -> std::time::Duration {
    millis(u64::try_from(n).expect("a shape's durations are positive"))
}

pub fn windowed<'s, const S: usize>(flow: &Flow<'s>) -> Windowed<'s, u8, Hit> {
    flow.stream::<Hit>().key_by(key_of).window(windowing::<S>())
}

fn windowing<const S: usize>() -> waterclock::query::Windowing {
    let Shape {
        size,
        slide,
        offset,
        allowed,
        keep,
        ..
    } = SHAPES[S];
    let windows = if size == slide {
        tumbling(ms(size))
    } else {
        sliding(ms(size)).every(ms(slide))
    };
    windows
        .offset(ms(offset))
        .allowed_lateness(ms(allowed))
        .keep(ms(keep))
}

// Functions and not closures: closures would be other types, and compiled again, for each shape.
pub fn key_of(hit: &Hit) -> u8 {
    hit.key
}
pub fn part_of(hit: &Hit) -> u8 {
    hit.part
}
pub fn n_of(hit: &Hit) -> i64 {
    hit.n
}
fn x_of(hit: &Hit) -> f64 {
    hit.x.0
}
fn float_of(hit: &Hit) -> Float {
    hit.x
}
fn as_hit(extra: &Extra) -> Hit {
    Hit {
        key: extra.key,
        part: extra.part,
        n: extra.n,
        x: extra.x,
        at: extra.at,
    }
}
pub fn is_odd(hit: &Hit) -> bool {
    hit.n % 2 != 0
}
/// None, one or several records of one.
pub fn copies(hit: &Hit) -> Vec<Hit> {
    let copy = |n| Hit { n, ..hit.clone() };
    (0..i64::from(hit.part)).map(copy).collect()
}
pub fn name_of((_, user): &(Hit, Option<User>)) -> u8 {
    user.as_ref().map_or(255, |user| user.name)
}

type PerWindow<'s, V> = Table<'s, (u8, Window), V>;

fn users<const S: usize>(flow: Flow) -> Table<u8, User> {
    flow.table::<User>()
}
fn count<const S: usize>(flow: Flow) -> PerWindow<u64> {
    windowed::<S>(&flow).count()
}
fn sum<const S: usize>(flow: Flow) -> PerWindow<i128> {
    windowed::<S>(&flow).sum(n_of)
}
fn float_sum<const S: usize>(flow: Flow) -> PerWindow<Float> {
    windowed::<S>(&flow).sum(x_of)
}
fn min<const S: usize>(flow: Flow) -> PerWindow<i64> {
    windowed::<S>(&flow).min(n_of)
}
fn max<const S: usize>(flow: Flow) -> PerWindow<Float> {
    windowed::<S>(&flow).max(float_of)
}
fn avg<const S: usize>(flow: Flow) -> PerWindow<Float> {
    windowed::<S>(&flow).avg(n_of)
}
fn distinct<const S: usize>(flow: Flow) -> PerWindow<u64> {
    windowed::<S>(&flow).count_distinct(part_of)
}
fn top<const S: usize>(flow: Flow) -> PerWindow<Vec<(u8, u64)>> {
    windowed::<S>(&flow).count_by(part_of).top(2)
}
fn union<const S: usize>(flow: Flow) -> PerWindow<u64> {
    let both = flow
        .stream::<Hit>()
        .union(flow.stream::<Extra>().map(as_hit));
    let copies = both.filter(is_odd).flat_map(copies);
    copies.key_by(key_of).window(windowing::<S>()).count()
}
fn busy<const S: usize>(flow: Flow) -> PerWindow<String> {
    let busy = windowed::<S>(&flow).count().filter(is_busy);
    busy.map_values(in_words)
}
fn is_busy(_: &(u8, Window), count: &u64) -> bool {
    *count > 1
}
fn in_words(_: &(u8, Window), count: &u64) -> String {
    format!("{count} hits")
}
fn names<const S: usize>(flow: Flow) -> Table<u8, u64> {
    flow.table::<User>().map(by_name).count_rows()
}
fn by_name(id: &u8, user: &User) -> (u8, u8) {
    (user.name, *id)
}
fn kept<const S: usize>(flow: Flow) -> Table<u8, Hit> {
    let hits = flow.stream::<Hit>().key_by(key_of);
    hits.keep(ms(SHAPES[S].join))
}
fn joined<const S: usize>(flow: Flow) -> Table<u8, (Hit, User)> {
    let hits = flow.stream::<Hit>().key_by(key_of);
    hits.keep(ms(SHAPES[S].join)).join(flow.table::<User>())
}
fn as_of<const S: usize>(flow: Flow) -> Table<u8, (Hit, Option<User>)> {
    let hits = flow.stream::<Hit>().key_by(key_of);
    let met = hits.as_of::<User>(ms(SHAPES[S].join));
    met.key_by(name_of).keep(ms(2 * SHAPES[S].join))
}
fn as_of_count<const S: usize>(flow: Flow) -> PerWindow<u64> {
    let hits = flow.stream::<Hit>().key_by(key_of);
    let met = hits.as_of::<User>(ms(SHAPES[S].join));
    met.key_by(name_of).window(windowing::<S>()).count()
}

fn forever<const S: usize>(flow: Flow) -> Table<u8, i128> {
    flow.stream::<Hit>().key_by(key_of).forever().sum(n_of)
}
fn sides<const S: usize>(flow: Flow) -> Table<u8, (Option<u64>, Option<User>)> {
    let counts = flow.stream::<Hit>().key_by(key_of).forever().count();
    counts.full_join(flow.table::<User>())
}
fn many_sides<const S: usize>(flow: Flow) -> Table<u8, (Option<Hit>, Option<User>)> {
    let hits = flow.stream::<Hit>().key_by(key_of);
    let users = flow.table::<User>().map(by_name_whole);
    hits.keep(ms(SHAPES[S].join)).full_join(users)
}
pub fn by_name_whole(_: &u8, user: &User) -> (u8, User) {
    (user.name, user.clone())
}
fn sums<const S: usize>(flow: Flow) -> Table<u8, i128> {
    let hits = flow.stream::<Hit>().key_by(key_of);
    hits.keep(ms(SHAPES[S].join)).map(part_and_n).sum(n_alone)
}
pub fn part_and_n(_: &u8, hit: &Hit) -> (u8, i64) {
    (hit.part, hit.n)
}
pub fn n_alone(_: &u8, n: &i64) -> i64 {
    *n
}

fn sessions<const S: usize>(flow: Flow) -> PerWindow<(u64, i128)> {
    let hits = flow.stream::<Hit>().key_by(key_of);
    hits.window(gaps::<S>())
        .aggregate((count_all(), sum_all(n_of)))
}
/// The first of each visit, once it is final: repetitions left out.
fn visits<const S: usize>(flow: Flow) -> PerWindow<Hit> {
    let hits = flow.stream::<Hit>().key_by(key_of);
    hits.window(gaps::<S>().final_only()).first()
}
fn gaps<const S: usize>() -> waterclock::query::Session {
    let Shape {
        allowed,
        keep,
        join,
        ..
    } = SHAPES[S];
    session(ms(join))
        .allowed_lateness(ms(allowed))
        .keep(ms(keep))
}
fn lefts<const S: usize>(flow: Flow) -> Table<u8, (Hit, Option<u8>)> {
    hits_kept::<S>(&flow).left_join(user_names(&flow))
}
fn semi<const S: usize>(flow: Flow) -> Table<u8, Hit> {
    hits_kept::<S>(&flow).semi_join(user_names(&flow))
}
fn anti<const S: usize>(flow: Flow) -> Table<u8, Hit> {
    hits_kept::<S>(&flow).anti_join(user_names(&flow))
}
pub fn hits_kept<'s, const S: usize>(flow: &Flow<'s>) -> Table<'s, u8, Hit> {
    let hits = flow.stream::<Hit>().key_by(key_of);
    hits.keep(ms(SHAPES[S].join))
}
fn user_names<'s>(flow: &Flow<'s>) -> Table<'s, u8, u8> {
    flow.table::<User>().map(name_twice)
}
fn name_twice(_: &u8, user: &User) -> (u8, u8) {
    (user.name, user.name)
}
fn ranked<const S: usize>(flow: Flow) -> Table<u8, (u64, Hit)> {
    hits_kept::<S>(&flow).ranked(2, greatest_n)
}
fn greatest_n(_: &u8, hit: &Hit) -> std::cmp::Reverse<i64> {
    std::cmp::Reverse(hit.n)
}
fn several<const S: usize>(flow: Flow) -> PerWindow<(u64, (u64, i128), u64, u64, i64)> {
    windowed::<S>(&flow).aggregate((
        count_all(),
        (count_all(), sum_all(n_of)).filter(is_odd),
        different(part_of),
        different(part_of).filter(is_odd),
        least(n_of),
    ))
}
fn last<const S: usize>(flow: Flow) -> Table<u8, Hit> {
    flow.stream::<Hit>().key_by(key_of).forever().last()
}

fn close<const S: usize>(flow: Flow) -> Table<u8, (Hit, User)> {
    let users = flow.stream::<User>().key_by(id_of);
    let hits = flow.stream::<Hit>().key_by(key_of);
    let pairs = hits.interval_join(users, ms(SHAPES[S].slide), ms(SHAPES[S].size));
    pairs.key_by(key_of_pair).keep(ms(SHAPES[S].join))
}
fn id_of(user: &User) -> u8 {
    user.id
}
fn key_of_pair((hit, _): &(Hit, User)) -> u8 {
    hit.key
}

fn finals<const S: usize>(flow: Flow) -> PerWindow<u64> {
    let hits = flow.stream::<Hit>().key_by(key_of);
    hits.window(windowing::<S>().final_only()).count()
}
fn growing<const S: usize>(flow: Flow) -> PerWindow<u64> {
    let Shape {
        slide,
        offset,
        allowed,
        keep,
        ..
    } = SHAPES[S];
    let windows = cumulative(ms(4 * slide)).every(ms(slide));
    let windows = windows.offset(ms(offset)).allowed_lateness(ms(allowed));
    let hits = flow.stream::<Hit>().key_by(key_of);
    hits.window(windows.keep(ms(keep))).count()
}
fn paced<const S: usize>(flow: Flow) -> PerWindow<u64> {
    windowed::<S>(&flow).count().every(millis(PACE))
}

fn threes<const S: usize>(flow: Flow) -> Table<(u8, u64), i128> {
    let hits = flow.stream::<Hit>().key_by(key_of);
    hits.window(records(3).keep(ms(SHAPES[S].keep))).sum(n_of)
}

/// How often changes are shown, in numbers of epochs.
pub const PACE: u64 = 10;

/// All queries, then what else `count` could be: the same state, and other logic behind it.
fn with_more<const S: usize>() -> Vec<Query> {
    let mut all = of_shape::<S>();
    all.extend(tables::of_shape::<S>());
    all.push(Query::new("count", "", busy::<S>));
    all
}

fn of_shape<const S: usize>() -> Vec<Query> {
    vec![
        Query::new("users", "", users::<S>),
        Query::new("count", "", count::<S>),
        Query::new("sum", "", sum::<S>),
        Query::new("float_sum", "", float_sum::<S>),
        Query::new("min", "", min::<S>),
        Query::new("max", "", max::<S>),
        Query::new("avg", "", avg::<S>),
        Query::new("distinct", "", distinct::<S>),
        Query::new("top", "", top::<S>),
        Query::new("union", "", union::<S>),
        Query::new("busy", "", busy::<S>),
        Query::new("names", "", names::<S>),
        Query::new("kept", "", kept::<S>),
        Query::new("joined", "", joined::<S>),
        Query::new("as_of", "", as_of::<S>),
        Query::new("as_of_count", "", as_of_count::<S>),
        Query::new("forever", "", forever::<S>),
        Query::new("sides", "", sides::<S>),
        Query::new("many_sides", "", many_sides::<S>),
        Query::new("sums", "", sums::<S>),
        Query::new("sessions", "", sessions::<S>),
        Query::new("visits", "", visits::<S>),
        Query::new("lefts", "", lefts::<S>),
        Query::new("semi", "", semi::<S>),
        Query::new("anti", "", anti::<S>),
        Query::new("ranked", "", ranked::<S>),
        Query::new("several", "", several::<S>),
        Query::new("last", "", last::<S>),
        Query::new("close", "", close::<S>),
        Query::new("finals", "", finals::<S>),
        Query::new("growing", "", growing::<S>),
        Query::new("paced", "", paced::<S>),
        Query::new("threes", "", threes::<S>),
    ]
}

/// Every query over one of [`SHAPES`].
pub fn queries(shape: usize) -> Vec<Query> {
    let mut all = all(shape);
    all.truncate(QUERIES.len());
    all
}

/// Some of the queries; `count` is asked what `busy` is.
pub fn changed(shape: usize, names: &[&str]) -> Vec<Query> {
    let mut all = all(shape);
    all.swap_remove(1);
    all.retain(|query| names.contains(&query.name.as_str()));
    all
}

fn all(shape: usize) -> Vec<Query> {
    match shape {
        0 => with_more::<0>(),
        1 => with_more::<1>(),
        2 => with_more::<2>(),
        3 => with_more::<3>(),
        4 => with_more::<4>(),
        5 => with_more::<5>(),
        6 => with_more::<6>(),
        7 => with_more::<7>(),
        8 => with_more::<8>(),
        9 => with_more::<9>(),
        _ => unreachable!("there are {} shapes", SHAPES.len()),
    }
}
