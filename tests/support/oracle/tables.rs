//! More queries, and what they answer, from scratch: aggregates of tables whose rows go again, days
//! of a time zone, estimates, and an answer that is a stream.
#![allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "tables give their functions references"
)]

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::{TimeZone, TimeZoneDatabase};
use sketches_ddsketch::{Config, DDSketch};
use waterclock::number::Float;
use waterclock::prelude::{
    Flow, Query, Stream, Table, Timestamp, Window, approx_distinct, count, daily, quantile, sum,
};

use super::answers::{Answer, Seen, hits, json, kept, latest, place, windowed};
use super::more::sessions;
use super::names::streams_of;
use super::queries::{self as asked, Hit, SHAPES, Shape, User};
use super::times::Prefix;

/// The queries this knows.
pub const TABLES: [&str; 8] = [
    "ttl",
    "extremes",
    "means",
    "parts",
    "days",
    "estimates",
    "passed",
    "splits",
];

/// Where the days are.
const ZONE: &str = "America/New_York";

pub fn of_shape<const S: usize>() -> Vec<Query> {
    vec![
        Query::new("ttl", "", ttl::<S>),
        Query::new("extremes", "", extremes::<S>),
        Query::new("means", "", means::<S>),
        Query::new("parts", "", parts::<S>),
        Query::new("days", "", days::<S>),
        Query::new("estimates", "", estimates::<S>),
        Query::new("passed", "", passed::<S>),
        Query::new("splits", "", splits::<S>),
    ]
}

fn ttl<const S: usize>(flow: Flow) -> Table<u8, u64> {
    let hits = flow.stream::<Hit>().key_by(asked::key_of);
    hits.forever().ttl(asked::ms(SHAPES[S].join)).count()
}
fn extremes<const S: usize>(flow: Flow) -> Table<u8, (i64, i64)> {
    let numbers = asked::hits_kept::<S>(&flow).map(asked::part_and_n);
    let least = numbers.clone().min(asked::n_alone);
    least.join(numbers.max(asked::n_alone))
}
fn means<const S: usize>(flow: Flow) -> Table<u8, (i128, u64)> {
    let numbers = asked::hits_kept::<S>(&flow).map(asked::part_and_n);
    numbers.sum_and_count(asked::n_alone)
}
fn parts<const S: usize>(flow: Flow) -> Table<u8, u8> {
    asked::hits_kept::<S>(&flow).map(key_and_part).distinct()
}
fn key_and_part(key: &u8, hit: &Hit) -> (u8, u8) {
    (*key, hit.part)
}
fn days<const S: usize>(flow: Flow) -> Table<(u8, Window), u64> {
    let Shape { allowed, keep, .. } = SHAPES[S];
    let days = daily(ZONE).allowed_lateness(asked::ms(allowed));
    let hits = flow.stream::<Hit>().key_by(asked::key_of);
    hits.window(days.keep(asked::ms(keep))).count()
}
fn estimates<const S: usize>(flow: Flow) -> Table<(u8, Window), (u64, Float)> {
    let both = (approx_distinct(asked::part_of), quantile(0.5, float_n));
    asked::windowed::<S>(&flow).aggregate(both)
}
#[allow(clippy::cast_precision_loss, reason = "the numbers are small")]
fn float_n(hit: &Hit) -> f64 {
    hit.n as f64
}
fn passed<const S: usize>(flow: Flow) -> Stream<(u8, i64)> {
    let odd = flow.stream::<Hit>().filter(asked::is_odd).map(key_and_n);
    odd.retain(asked::ms(SHAPES[S].keep))
}
fn key_and_n(hit: &Hit) -> (u8, i64) {
    (hit.key, hit.n)
}
/// Hits of users that are there: those of a user go together, from the midst of the others.
fn splits<const S: usize>(flow: Flow) -> Table<(u8, Window), (u64, i128)> {
    let hits = asked::hits_kept::<S>(&flow).semi_join(flow.table::<User>());
    let by_part = hits.map(by_part);
    let sessions = by_part.sessions(asked::ms(SHAPES[S].slide), time_of);
    sessions.aggregate((count(), sum(asked::n_of)))
}
fn by_part(_: &u8, hit: &Hit) -> (u8, Hit) {
    (hit.part, hit.clone())
}
fn time_of(_: &u8, hit: &Hit) -> Timestamp {
    hit.at
}

/// What one of these queries answers to a prefix.
pub fn answer(query: &str, shape: &Shape, prefix: &Prefix, said: &mut Answer) {
    let watermark = prefix.over(streams_of(query));
    let before = prefix.over_before(streams_of(query));
    match query {
        "ttl" => lively(shape, (before, watermark), prefix, said),
        "days" => in_days(shape, (before, watermark), prefix, said),
        "estimates" => {
            let all = hits(prefix, "hits");
            windowed(shape, (before, watermark), all, said, |hits| {
                Some(estimated(hits))
            });
        }
        "passed" => {
            let mut odd = hits(prefix, "hits");
            odd.retain(|seen| seen.data.n % 2 != 0);
            for seen in said.in_time(odd, shape.keep) {
                let is_up = watermark >= Some(seen.time + shape.keep);
                if !is_up || seen.from.epoch == prefix.epoch {
                    let value = json(&(seen.key, seen.data.n));
                    said.row(place(seen.from), value, Some(Timestamp::MIN.0));
                }
            }
        }
        _ => of_kept(query, shape, watermark, prefix, said),
    }
}

/// Of each key what its newest session holds, as long as that lasts.
fn lively(
    shape: &Shape,
    (before, watermark): (Option<i64>, Option<i64>),
    prefix: &Prefix,
    said: &mut Answer,
) {
    let (allowed, keep) = (0, 0);
    let shape = Shape {
        allowed,
        keep,
        ..*shape
    };
    let mut lives: BTreeMap<u8, Vec<(i64, usize)>> = BTreeMap::new();
    for session in sessions(&shape, prefix, said) {
        let is_over = watermark >= Some(session.end) && before >= Some(session.end - 1);
        if !is_over {
            let of_key = lives.entry(session.key).or_default();
            of_key.push((-session.start, session.hits.len()));
        }
    }
    for (key, lives) in lives {
        let newest = lives.iter().min().expect("a key has a life");
        said.row(key.to_string(), newest.1.to_string(), None);
    }
}

/// When the day of an instant begins, and when it ends.
fn day_of(zone: &TimeZone, time: i64) -> (i64, i64) {
    // The calendar ends a day before our times do.
    let instant = jiff::Timestamp::from_millisecond(time).unwrap_or(jiff::Timestamp::MAX);
    let day = instant.to_zoned(zone.clone()).start_of_day();
    let day = day.expect("the day has a start");
    let end = day.tomorrow().map(|day| day.timestamp().as_millisecond());
    let start = day.timestamp().as_millisecond();
    (start, end.unwrap_or(Timestamp::MAX.0 + 1))
}

fn in_days(
    shape: &Shape,
    (before, watermark): (Option<i64>, Option<i64>),
    prefix: &Prefix,
    said: &mut Answer,
) {
    let zone = TimeZoneDatabase::bundled().get(ZONE).expect("a zone");
    let mut counts: BTreeMap<(u8, i64, i64), usize> = BTreeMap::new();
    for seen in hits(prefix, "hits") {
        let (start, end) = day_of(&zone, seen.time);
        if seen.from.watermark >= Some(end - 1 + shape.allowed) {
            said.late(&seen);
        } else {
            *counts.entry((seen.key, start, end)).or_insert(0) += 1;
        }
    }
    for ((key, start, end), count) in counts {
        let final_at = end - 1 + shape.allowed;
        let is_up = watermark >= Some(end + shape.keep.max(shape.allowed));
        if !is_up || before < Some(final_at) {
            let key = format!(r#"[{key},{{"start":{start},"end":{end}}}]"#);
            said.row(key, count.to_string(), Some(final_at));
        }
    }
}

/// A few values are counted exactly, and one sketch of all says what many that merge say.
fn estimated(hits: &[&Hit]) -> String {
    let parts: BTreeSet<u8> = hits.iter().map(|hit| hit.part).collect();
    let mut sizes = DDSketch::new(Config::defaults());
    for hit in hits {
        sizes.add(float_n(hit));
    }
    let half = sizes.quantile(0.5).expect("a half is a share");
    json(&(parts.len(), Float(half.expect("a window has records"))))
}

fn of_kept(query: &str, shape: &Shape, watermark: Option<i64>, prefix: &Prefix, said: &mut Answer) {
    let there: Vec<Seen<'_, Hit>> = hits(prefix, "hits");
    let mut rows = kept(said, watermark, there, shape.join);
    if query == "splits" {
        let users = latest(prefix, said);
        rows.retain(|(key, _)| users.contains_key(key));
    }
    let mut of_part: BTreeMap<u8, Vec<&Hit>> = BTreeMap::new();
    for (_, hit) in &rows {
        of_part.entry(hit.part).or_default().push(hit);
    }
    match query {
        "parts" => {
            let rows: BTreeSet<_> = rows.iter().map(|(key, hit)| (*key, hit.part)).collect();
            for (key, part) in rows {
                said.row(key.to_string(), part.to_string(), None);
            }
        }
        "extremes" => {
            for (part, hits) in of_part {
                let ns = || hits.iter().map(|hit| hit.n);
                said.row(part.to_string(), json(&(ns().min(), ns().max())), None);
            }
        }
        "means" => {
            for (part, hits) in of_part {
                let sum: i64 = hits.iter().map(|hit| hit.n).sum();
                said.row(part.to_string(), json(&(sum, hits.len())), None);
            }
        }
        "splits" => {
            for (part, mut hits) in of_part {
                hits.sort_by_key(|hit| hit.at);
                let is_near = |a: &&Hit, b: &&Hit| b.at.0 - a.at.0 <= shape.slide;
                for session in hits.chunk_by(is_near) {
                    let (start, last) = (session[0].at.0, session[session.len() - 1].at.0);
                    let end = last + shape.slide;
                    let sum: i64 = session.iter().map(|hit| hit.n).sum();
                    let key = format!(r#"[{part},{{"start":{start},"end":{end}}}]"#);
                    said.row(key, json(&(session.len(), sum)), None);
                }
            }
        }
        _ => unreachable!("no such query: {query}"),
    }
}
