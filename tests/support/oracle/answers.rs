//! What every query answers to a prefix of the epochs, from scratch: no panes, nothing incremental.

use std::collections::BTreeMap;

use serde::Serialize;
use waterclock::number::Float;

use super::cases::Fact;
use super::more::{self, MORE};
use super::names::streams_of;
use super::queries::{Hit, SHAPES, Shape, User, copies, name_of};
use super::tables::{self, TABLES};
use super::times::{Judged, Prefix};

/// Rows as key, value, and when they are final; and how often each occurs.
pub type Rows = BTreeMap<(String, String, Option<i64>), i64>;

/// How long a tombstone keeps older records away.
const TOMBSTONES: i64 = 7 * 86_400_000;

/// What a query says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub rows: Rows,
    pub late: Rows,
}

/// A record on its way through a query.
#[derive(Clone)]
pub struct Seen<'a, T> {
    pub from: &'a Judged,
    pub key: u8,
    pub time: i64,
    pub data: T,
}

pub fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("an answer is JSON")
}

pub fn hits<'a>(prefix: &'a Prefix, stream: &str) -> Vec<Seen<'a, Hit>> {
    let of = |from: &'a Judged| match &from.line.fact {
        Some(Fact::Hit(hit)) if from.line.stream == stream => Some(Seen {
            from,
            key: hit.key,
            time: hit.at.0,
            data: hit.clone(),
        }),
        _ => None,
    };
    prefix.lines.iter().filter_map(of).collect()
}

pub fn users<'a>(prefix: &'a Prefix) -> Vec<Seen<'a, User>> {
    let of = |from: &'a Judged| match &from.line.fact {
        Some(Fact::User(user)) => Some(Seen {
            from,
            key: user.id,
            time: user.at.0,
            data: user.clone(),
        }),
        _ => None,
    };
    prefix.lines.iter().filter_map(of).collect()
}

/// What a stream rejected: keys and raw records.
pub fn rejected(prefix: &Prefix, stream: &str) -> Vec<(String, String)> {
    let bad = prefix
        .lines
        .iter()
        .filter(|judged| judged.line.stream == stream && judged.line.fact.is_none());
    let mut all: Vec<_> = bad
        .map(|judged| (place(judged), judged.line.text.trim().to_owned()))
        .collect();
    all.sort();
    all
}

pub fn place(judged: &Judged) -> String {
    let line = &judged.line;
    json(&(line.stream, line.partition, line.position))
}

impl Answer {
    pub fn row(&mut self, key: String, value: String, final_at: Option<i64>) {
        *self.rows.entry((key, value, final_at)).or_insert(0) += 1;
    }

    pub fn late<T>(&mut self, seen: &Seen<'_, T>) {
        #[derive(Serialize)]
        struct Value<'a> {
            record: &'a str,
            reason: &'a str,
            time: i64,
        }
        let value = Value {
            record: seen.from.line.text.trim(),
            reason: "late",
            time: seen.time,
        };
        let row = (place(seen.from), json(&value), None);
        *self.late.entry(row).or_insert(0) += 1;
    }

    /// Keeps the records whose partition has not passed their time by `how_long`.
    pub fn in_time<'a, T>(&mut self, all: Vec<Seen<'a, T>>, how_long: i64) -> Vec<Seen<'a, T>> {
        let is_late = |seen: &Seen<'_, T>| seen.from.watermark >= Some(seen.time + how_long);
        let (late, in_time): (Vec<_>, _) = all.into_iter().partition(is_late);
        for seen in &late {
            self.late(seen);
        }
        in_time
    }
}

/// The starts of the windows that hold an instant, by trying.
fn windows(shape: &Shape, time: i64) -> Vec<i64> {
    let mut start = (time - shape.size) / shape.slide * shape.slide - 2 * shape.slide;
    start += shape.offset;
    let mut found = Vec::new();
    while start <= time {
        if time < start + shape.size {
            found.push(start);
        }
        start += shape.slide;
    }
    found
}

/// Rows per key and window, of the records that are not late for it. A window whose time is up
/// goes in the epoch after the one that made it final, at the earliest.
pub fn windowed<T>(
    shape: &Shape,
    (before, watermark): (Option<i64>, Option<i64>),
    all: Vec<Seen<'_, T>>,
    answer: &mut Answer,
    value: impl Fn(&[&T]) -> Option<String>,
) {
    let final_at = |start: i64| start + shape.size - 1 + shape.allowed;
    let mut groups: BTreeMap<(u8, i64), Vec<&T>> = BTreeMap::new();
    for seen in &all {
        let windows = windows(shape, seen.time);
        let open = |start: &&i64| seen.from.watermark < Some(final_at(**start));
        let open: Vec<_> = windows.iter().filter(open).collect();
        if open.is_empty() && !windows.is_empty() {
            answer.late(seen);
        }
        for start in open {
            groups
                .entry((seen.key, *start))
                .or_default()
                .push(&seen.data);
        }
    }
    for ((key, start), records) in groups {
        let end = start + shape.size;
        let is_up = watermark >= Some(end + shape.keep.max(shape.allowed));
        if is_up && before >= Some(final_at(start)) {
            continue;
        }
        if let Some(value) = value(&records) {
            let key = format!(r#"[{key},{{"start":{start},"end":{end}}}]"#);
            answer.row(key, value, Some(final_at(start)));
        }
    }
}

/// Each record with the entity's version at its time, once the watermark has reached that.
fn as_of<'a>(
    shape: &Shape,
    prefix: &'a Prefix,
    answer: &mut Answer,
) -> Vec<Seen<'a, (Hit, Option<User>)>> {
    let watermark = prefix.over(streams_of("as_of"));
    let versions = answer.in_time(users(prefix), 0);
    let asked = answer.in_time(hits(prefix, "hits"), shape.join);
    let answered = asked.into_iter().filter(|hit| watermark >= Some(hit.time));
    let met = answered.map(|hit| {
        let version = versions
            .iter()
            .filter(|version| version.key == hit.key && version.time <= hit.time)
            .max_by_key(|version| stamp(version))
            .filter(|version| !version.data.gone);
        let data = (
            hit.data.clone(),
            version.map(|version| version.data.clone()),
        );
        Seen {
            from: hit.from,
            key: name_of(&data),
            time: hit.time,
            data,
        }
    });
    met.collect()
}

/// The canonical order, within a stream.
fn stamp<T>(seen: &Seen<'_, T>) -> (i64, u32, u64) {
    (seen.time, seen.from.line.partition, seen.from.line.position)
}

pub fn latest(prefix: &Prefix, answer: &mut Answer) -> BTreeMap<u8, User> {
    let mut newest: BTreeMap<u8, Seen<'_, User>> = BTreeMap::new();
    for user in answer.in_time(users(prefix), TOMBSTONES) {
        let is_newer = newest
            .get(&user.key)
            .is_none_or(|known| stamp(known) < stamp(&user));
        if is_newer {
            newest.insert(user.key, user);
        }
    }
    let there = newest.into_iter().filter(|(_, user)| !user.data.gone);
    there.map(|(key, user)| (key, user.data)).collect()
}

/// The records kept for `how_long`.
pub fn kept<T>(
    answer: &mut Answer,
    watermark: Option<i64>,
    all: Vec<Seen<'_, T>>,
    how_long: i64,
) -> Vec<(u8, T)> {
    let there = answer
        .in_time(all, how_long)
        .into_iter()
        .filter(|seen| watermark < Some(seen.time + how_long));
    there.map(|seen| (seen.key, seen.data)).collect()
}

fn sum(hits: &[&Hit]) -> i128 {
    hits.iter().map(|hit| i128::from(hit.n)).sum()
}

/// All numbers of the cases are quarters.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "quarters"
)]
fn float_sum(hits: &[&Hit]) -> f64 {
    let quarters: i128 = hits.iter().map(|hit| (hit.x.0 * 4.0) as i128).sum();
    quarters as f64 / 4.0
}

fn counts(hits: &[&Hit]) -> BTreeMap<u8, u64> {
    let mut counts = BTreeMap::new();
    for hit in hits {
        *counts.entry(hit.part).or_insert(0) += 1;
    }
    counts
}

fn top(hits: &[&Hit]) -> Vec<(u8, u64)> {
    let mut counts: Vec<_> = counts(hits).into_iter().collect();
    counts.sort_by_key(|(part, count)| (std::cmp::Reverse(*count), *part));
    counts.truncate(2);
    counts
}

#[allow(clippy::cast_precision_loss, reason = "the numbers are small")]
fn value_of(query: &str, hits: &[&Hit]) -> Option<String> {
    let ns = hits.iter().map(|hit| hit.n);
    let value = match query {
        "count" => hits.len().to_string(),
        "sum" => sum(hits).to_string(),
        "float_sum" => json(&float_sum(hits)),
        "min" => ns.min().expect("a row has records").to_string(),
        "max" => json(&hits.iter().map(|hit| hit.x).max()),
        "avg" => json(&Float(sum(hits) as f64 / hits.len() as f64)),
        "distinct" => counts(hits).len().to_string(),
        "top" => json(&top(hits)),
        "busy" if hits.len() > 1 => json(&format!("{} hits", hits.len())),
        "busy" => return None,
        _ => unreachable!("no such aggregate: {query}"),
    };
    Some(value)
}

fn union(prefix: &Prefix) -> Vec<Seen<'_, Hit>> {
    let mut both = hits(prefix, "hits");
    both.extend(hits(prefix, "extras"));
    both.retain(|seen| seen.data.n % 2 != 0);
    let made = both.into_iter().flat_map(|seen| {
        let copies = copies(&seen.data).into_iter();
        let made = copies.map(move |data| Seen {
            data,
            ..seen.clone()
        });
        made.collect::<Vec<_>>()
    });
    made.collect()
}

fn by_key<'a>(all: &'a [Seen<'_, Hit>]) -> BTreeMap<u8, Vec<&'a Hit>> {
    let mut groups: BTreeMap<u8, Vec<&Hit>> = BTreeMap::new();
    for seen in all {
        groups.entry(seen.key).or_default().push(&seen.data);
    }
    groups
}

/// Every pair with the same key, and what has no partner.
fn full_join<A: Serialize, B: Serialize>(
    left: Vec<(u8, A)>,
    right: Vec<(u8, B)>,
    said: &mut Answer,
) {
    for (key, a) in &left {
        for (_, b) in right.iter().filter(|(other, _)| other == key) {
            said.row(key.to_string(), json(&(a, b)), None);
        }
    }
    let is_alone = |key: &u8, others: Vec<u8>| !others.contains(key);
    let rights = || right.iter().map(|(key, _)| *key).collect();
    let lefts = || left.iter().map(|(key, _)| *key).collect();
    for (key, a) in left.iter().filter(|(key, _)| is_alone(key, rights())) {
        said.row(key.to_string(), json(&(a, None::<B>)), None);
    }
    for (key, b) in right.iter().filter(|(key, _)| is_alone(key, lefts())) {
        said.row(key.to_string(), json(&(None::<A>, b)), None);
    }
}

/// The queries whose rows come from tables, or from no window.
fn of_tables(query: &str, shape: &Shape, prefix: &Prefix, said: &mut Answer) {
    let watermark = prefix.over(streams_of(query));
    match query {
        "forever" => {
            for (key, hits) in by_key(&hits(prefix, "hits")) {
                said.row(key.to_string(), sum(&hits).to_string(), None);
            }
        }
        "sides" => {
            let all = hits(prefix, "hits");
            let left = by_key(&all)
                .into_iter()
                .map(|(key, hits)| (key, hits.len()));
            let right = latest(prefix, said).into_iter();
            full_join(left.collect(), right.collect(), said);
        }
        "many_sides" => {
            let left = kept(said, watermark, hits(prefix, "hits"), shape.join);
            let right = latest(prefix, said).into_values();
            let right = right.map(|user| (user.name, user));
            full_join(left, right.collect(), said);
        }
        "sums" => {
            let mut sums: BTreeMap<u8, i128> = BTreeMap::new();
            for (_, hit) in kept(said, watermark, hits(prefix, "hits"), shape.join) {
                *sums.entry(hit.part).or_insert(0) += i128::from(hit.n);
            }
            for (part, sum) in sums {
                said.row(part.to_string(), sum.to_string(), None);
            }
        }
        _ => unreachable!("no such query: {query}"),
    }
}

/// What a query answers to a prefix.
pub fn answer(query: &str, shape: usize, prefix: &Prefix) -> Answer {
    let shape = &SHAPES[shape];
    let watermark = prefix.over(streams_of(query));
    let watermarks = (prefix.over_before(streams_of(query)), watermark);
    let mut said = Answer::default();
    match query {
        "users" => {
            for (id, user) in latest(prefix, &mut said) {
                said.row(id.to_string(), json(&user), None);
            }
        }
        "names" => {
            let mut names: BTreeMap<u8, u64> = BTreeMap::new();
            for user in latest(prefix, &mut said).into_values() {
                *names.entry(user.name).or_insert(0) += 1;
            }
            for (name, count) in names {
                said.row(name.to_string(), count.to_string(), None);
            }
        }
        "union" => {
            let count = |all: &[&Hit]| Some(all.len().to_string());
            windowed(shape, watermarks, union(prefix), &mut said, count);
        }
        "kept" | "joined" => {
            let there = kept(&mut said, watermark, hits(prefix, "hits"), shape.join);
            let users = match query {
                "joined" => latest(prefix, &mut said),
                _ => BTreeMap::new(),
            };
            for (key, hit) in there {
                if query == "kept" {
                    said.row(key.to_string(), json(&hit), None);
                } else if let Some(user) = users.get(&key) {
                    said.row(key.to_string(), json(&(hit, user)), None);
                }
            }
        }
        "as_of" => {
            let met = as_of(shape, prefix, &mut said);
            for (key, pair) in kept(&mut said, watermark, met, 2 * shape.join) {
                said.row(key.to_string(), json(&pair), None);
            }
        }
        "forever" | "sides" | "many_sides" | "sums" => {
            of_tables(query, shape, prefix, &mut said);
        }
        "as_of_count" => {
            let met = as_of(shape, prefix, &mut said);
            let count = |all: &[&(Hit, Option<User>)]| Some(all.len().to_string());
            windowed(shape, watermarks, met, &mut said, count);
        }
        _ if TABLES.contains(&query) => tables::answer(query, shape, prefix, &mut said),
        _ if MORE.contains(&query) => more::answer(query, shape, prefix, &mut said),
        _ => {
            let all = hits(prefix, "hits");
            let value = |hits: &[&Hit]| value_of(query, hits);
            windowed(shape, watermarks, all, &mut said, value);
        }
    }
    said
}
