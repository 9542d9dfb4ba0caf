//! What more queries answer, from scratch: sessions, joins of tables, ranks, several aggregates.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::answers::{Answer, Rows, Seen, hits, json, kept, latest, users, windowed};
use super::names::streams_of;
use super::queries::{Hit, PACE, Shape};
use super::runs::number;
use super::times::Prefix;

/// The queries this knows.
pub const MORE: [&str; 13] = [
    "threes", "finals", "growing", "paced", "close", "sessions", "visits", "lefts", "semi", "anti",
    "ranked", "several", "last",
];

pub struct Session<'a> {
    pub key: u8,
    pub start: i64,
    pub end: i64,
    pub hits: Vec<Seen<'a, Hit>>,
}

/// Sessions of hits, one record after the other, in the journal's order; each looks at all.
pub fn sessions<'a>(shape: &Shape, prefix: &'a Prefix, said: &mut Answer) -> Vec<Session<'a>> {
    let mut all = hits(prefix, "hits");
    all.sort_by_key(|seen| {
        let line = &seen.from.line;
        (seen.from.epoch, line.partition, line.position)
    });
    let mut sessions: Vec<Session<'a>> = Vec::new();
    for seen in all {
        let is_closed = |end: i64| seen.from.watermark >= Some(end - 1 + shape.allowed);
        let (mut start, mut end) = (seen.time, seen.time + shape.join);
        let mut merged = Vec::new();
        while let Some(at) = sessions.iter().position(|session| {
            let is_met = session.start <= end && session.end >= start;
            session.key == seen.key && is_met && !is_closed(session.end)
        }) {
            let met = sessions.swap_remove(at);
            (start, end) = (start.min(met.start), end.max(met.end));
            merged.extend(met.hits);
        }
        if merged.is_empty() && is_closed(end) {
            said.late(&seen);
            continue;
        }
        let key = seen.key;
        merged.push(seen);
        sessions.push(Session {
            key,
            start,
            end,
            hits: merged,
        });
    }
    sessions
}

fn in_sessions(query: &str, shape: &Shape, prefix: &Prefix, said: &mut Answer) {
    let (before, watermark) = (prefix.over_before(&["hits"]), prefix.over(&["hits"]));
    for session in sessions(shape, prefix, said) {
        let Session {
            key,
            start,
            end,
            hits,
        } = session;
        let final_at = end - 1 + shape.allowed;
        let is_up = watermark >= Some(end + shape.keep.max(shape.allowed));
        let is_shown = query == "sessions" || watermark >= Some(final_at);
        if !is_shown || is_up && before >= Some(final_at) {
            continue;
        }
        let sum: i128 = hits.iter().map(|seen| i128::from(seen.data.n)).sum();
        let value = match query {
            "sessions" => json(&(hits.len(), sum)),
            _ => json(&first_or_last(&hits, true)),
        };
        let key = format!(r#"[{key},{{"start":{start},"end":{end}}}]"#);
        said.row(key, value, Some(final_at));
    }
}

fn first_or_last<'a>(hits: &'a [Seen<'_, Hit>], is_first: bool) -> &'a Hit {
    let place = |seen: &&Seen<'_, Hit>| {
        let line = &seen.from.line;
        (seen.time, line.partition, line.position)
    };
    let found = if is_first {
        hits.iter().min_by_key(place)
    } else {
        hits.iter().max_by_key(place)
    };
    &found.expect("a window has records").data
}

fn several(hits: &[&Hit]) -> String {
    let parts = |odd: bool| {
        let of = hits.iter().filter(|hit| !odd || hit.n % 2 != 0);
        let mut parts: Vec<u8> = of.map(|hit| hit.part).collect();
        parts.sort_unstable();
        parts.dedup();
        parts.len()
    };
    let odd = hits.iter().filter(|hit| hit.n % 2 != 0);
    let least = hits.iter().map(|hit| hit.n).min();
    let sum: i64 = odd.clone().map(|hit| hit.n).sum();
    json(&(
        hits.len(),
        (odd.count(), sum),
        parts(false),
        parts(true),
        least,
    ))
}

/// Each key's rows in order, the first two with their places.
fn ranked(rows: Vec<(u8, Hit)>, said: &mut Answer) {
    let mut groups: BTreeMap<u8, Vec<Hit>> = BTreeMap::new();
    for (key, hit) in rows {
        groups.entry(key).or_default().push(hit);
    }
    for (key, mut hits) in groups {
        hits.sort_by_key(|hit| (Reverse(hit.n), hit.clone()));
        for (place, hit) in (1..=2).zip(hits) {
            said.row(key.to_string(), json(&(place, hit)), None);
        }
    }
}

/// What one of these queries answers to a prefix.
pub fn answer(query: &str, shape: &Shape, prefix: &Prefix, said: &mut Answer) {
    let streams = streams_of(query);
    let watermark = prefix.over(streams);
    match query {
        "sessions" | "visits" => in_sessions(query, shape, prefix, said),
        "several" => {
            let watermarks = (prefix.over_before(streams), watermark);
            let value = |hits: &[&Hit]| Some(several(hits));
            windowed(shape, watermarks, hits(prefix, "hits"), said, value);
        }
        "last" => {
            let mut of_key: BTreeMap<u8, Vec<Seen<'_, Hit>>> = BTreeMap::new();
            for seen in hits(prefix, "hits") {
                of_key.entry(seen.key).or_default().push(seen);
            }
            for (key, hits) in of_key {
                let last = first_or_last(&hits, false);
                said.row(key.to_string(), json(last), None);
            }
        }
        "finals" => {
            said.rows = counts(shape, prefix, said);
            said.rows.retain(|(.., at), _| watermark >= *at);
        }
        "paced" => paced(shape, prefix, said),
        "growing" => growing(shape, prefix, said),
        "threes" => threes(shape, prefix, said),
        "close" => close(shape, prefix, said),
        "ranked" => {
            let there = kept(said, watermark, hits(prefix, "hits"), shape.join);
            ranked(there, said);
        }
        _ => of_two(query, shape, prefix, said),
    }
}

fn counts(shape: &Shape, prefix: &Prefix, said: &mut Answer) -> Rows {
    let watermarks = (prefix.over_before(&["hits"]), prefix.over(&["hits"]));
    let mut counted = Answer::default();
    let count = |hits: &[&Hit]| Some(hits.len().to_string());
    windowed(shape, watermarks, hits(prefix, "hits"), &mut counted, count);
    said.late.extend(counted.late);
    counted.rows
}

/// What is final is as it is now; what is not, as it was when changes were shown last.
fn paced(shape: &Shape, prefix: &Prefix, said: &mut Answer) {
    let watermark = prefix.over(&["hits"]);
    let mut now = counts(shape, prefix, said);
    now.retain(|(.., at), _| watermark >= *at);
    let is_shown = |at: &usize| *at == 0 || number(*at) / PACE > number(*at - 1) / PACE;
    let shown = (0..=prefix.epoch).rev().find(is_shown).unwrap_or(0);
    let mut before = prefix.clone();
    before.lines.retain(|judged| judged.epoch <= shown);
    let mut then = counts(shape, &before, &mut Answer::default());
    then.retain(|(.., at), _| watermark < *at);
    said.rows.extend(now.into_iter().chain(then));
}

/// Windows that begin every fourth slide, and end with each.
fn growing(shape: &Shape, prefix: &Prefix, said: &mut Answer) {
    let size = 4 * shape.slide;
    let watermarks = (prefix.over_before(&["hits"]), prefix.over(&["hits"]));
    let count = |hits: &[&Hit]| Some(hits.len().to_string());
    for steps in 1..=4 {
        // One window of each four at a time: those that are a number of steps long.
        let shape = Shape {
            size: steps * shape.slide,
            slide: size,
            ..*shape
        };
        let mut counted = Answer::default();
        windowed(
            &shape,
            watermarks,
            hits(prefix, "hits"),
            &mut counted,
            count,
        );
        said.rows.extend(counted.rows);
    }
    for seen in hits(prefix, "hits") {
        let last = (seen.time - shape.offset).div_euclid(size) * size + shape.offset + size;
        if seen.from.watermark >= Some(last - 1 + shape.allowed) {
            said.late(&seen);
        }
    }
}

/// Three hits after the other, in canonical order, once the watermark has passed them.
fn threes(shape: &Shape, prefix: &Prefix, said: &mut Answer) {
    let (before, watermark) = (prefix.over_before(&["hits"]), prefix.over(&["hits"]));
    let mut of_key: BTreeMap<u8, Vec<Seen<'_, Hit>>> = BTreeMap::new();
    for hit in said.in_time(hits(prefix, "hits"), 0) {
        if watermark >= Some(hit.time) {
            of_key.entry(hit.key).or_default().push(hit);
        }
    }
    for (key, mut hits) in of_key {
        hits.sort_by_key(|hit| (hit.time, hit.from.line.partition, hit.from.line.position));
        for (number, three) in hits.chunks_exact(3).enumerate() {
            let last = three[2].time;
            let is_gone = watermark >= Some(last + shape.keep) && before >= Some(last);
            if !is_gone {
                let sum: i64 = three.iter().map(|hit| hit.data.n).sum();
                said.row(json(&(key, number)), sum.to_string(), None);
            }
        }
    }
}

/// Hits and users of one key that are close together, by trying all.
fn close(shape: &Shape, prefix: &Prefix, said: &mut Answer) {
    let watermark = prefix.over(streams_of("close"));
    let hits = said.in_time(hits(prefix, "hits"), 0);
    let users = said.in_time(users(prefix), 0);
    for hit in &hits {
        for user in users.iter().filter(|user| user.key == hit.key) {
            let is_close = (hit.time - shape.slide..=hit.time + shape.size).contains(&user.time);
            if is_close && watermark < Some(hit.time.max(user.time) + shape.join) {
                said.row(hit.key.to_string(), json(&(&hit.data, &user.data)), None);
            }
        }
    }
}

fn of_two(query: &str, shape: &Shape, prefix: &Prefix, said: &mut Answer) {
    let watermark = prefix.over(streams_of(query));
    let hits = kept(said, watermark, hits(prefix, "hits"), shape.join);
    let users = latest(prefix, said);
    for (key, hit) in &hits {
        let met = users.values().filter(|user| user.name == *key).count();
        let rows = match query {
            "lefts" if met > 0 => vec![json(&(hit, Some(key))); met],
            "lefts" => vec![json(&(hit, None::<u8>))],
            "semi" if met > 0 => vec![json(hit)],
            "anti" if met == 0 => vec![json(hit)],
            _ => Vec::new(),
        };
        for value in rows {
            said.row(key.to_string(), value, None);
        }
    }
}
