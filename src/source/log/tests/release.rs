//! Retention: segments go only when no restart, no key and no stated time keeps them.

use super::support::{Fixture, lines, post};
use crate::source::log::{EmbeddedLog, LogOptions};
use crate::source::{Source, SourceError};
use crate::time::millis;
use crate::view::IngestError;

/// Ten posts, each in a segment of its own, `ms` apart.
fn ten_segments(options: LogOptions, ms: i64, key: bool) -> (Fixture, std::sync::Arc<EmbeddedLog>) {
    let fixture = Fixture::new(LogOptions {
        segment_bytes: 50,
        ..options
    });
    let log = fixture.open();
    for n in 0..10 {
        let text = format!("record {n}");
        post(&log, &[&text], Some(&*text).filter(|_| key)).unwrap();
        fixture.advance(ms);
    }
    assert_eq!(fixture.segments().len(), 10);
    (fixture, log)
}

/// Releases, and waits until it is done: the appender does it before the next post.
fn release(log: &EmbeddedLog, position: u64) {
    log.source("s").unwrap().release(0, position).unwrap();
    post(log, &[], None).unwrap();
}

fn options(retain_ms: u64, keys_ms: u64, min_keys: usize) -> LogOptions {
    let (retain, keep_keys_for) = (millis(retain_ms), millis(keys_ms));
    LogOptions {
        retain,
        keep_keys_for,
        min_keys,
        ..LogOptions::default()
    }
}

#[test]
fn only_whole_segments_before_the_position_go() {
    let (fixture, log) = ten_segments(options(0, 0, 0), 1, false);
    release(&log, 4);
    assert_eq!(fixture.segments().len(), 6);
    let mut source = log.source("s").unwrap();
    assert_eq!(source.partitions().unwrap()[0].first, 4);
    assert!(matches!(
        source.read(0, 3, 9, None),
        Err(SourceError::Gone { first: 4, .. })
    ));
    release(&log, 2);
    assert_eq!(fixture.segments().len(), 6);
    release(&log, 1_000);
    assert_eq!(
        fixture.segments().len(),
        1,
        "the newest stays, it carries the position"
    );
    drop(log);
    let log = fixture.open();
    assert_eq!(lines(&log), ["record 9"]);
    assert_eq!(post(&log, &["x"], None).unwrap().position, 11);
}

#[test]
fn what_is_young_stays() {
    let (fixture, log) = ten_segments(options(50, 0, 0), 10, false);
    release(&log, 10);
    assert_eq!(fixture.segments().len(), 4);
    fixture.advance(20);
    release(&log, 10);
    assert_eq!(fixture.segments().len(), 2);
}

#[test]
fn what_holds_a_remembered_key_stays() {
    let (fixture, log) = ten_segments(options(0, 0, 3), 0, true);
    release(&log, 9);
    assert_eq!(fixture.segments().len(), 3, "the newest three keys");
    let (fixture, log) = ten_segments(options(0, 50, 0), 10, true);
    release(&log, 10);
    assert_eq!(fixture.segments().len(), 4, "the keys of the last 50 ms");
}

#[test]
fn a_reader_in_a_deleted_segment_is_not_disturbed() {
    let (fixture, log) = ten_segments(options(0, 0, 0), 1, false);
    let mut source = log.source("s").unwrap();
    let chunk = source.read(0, 0, 9, None).unwrap().unwrap();
    assert_eq!(chunk.end, 1);
    release(&log, 9);
    assert_eq!(fixture.segments().len(), 1);
    assert_eq!(source.read(0, 9, 100, None).unwrap().unwrap().end, 10);
}

#[test]
fn an_old_key_among_the_newest_is_carried_over() {
    let (fixture, log) = ten_segments(options(0, 10, 4), 1, true);
    let first = |n: usize| {
        post(
            &log,
            &[&format!("record {n}")],
            Some(&format!("record {n}")),
        )
    };
    for n in 10..30 {
        post(&log, &[&format!("unkeyed {n}")], None).unwrap();
    }
    fixture.advance(100);
    release(&log, 25);
    release(&log, 25);
    assert_eq!(log.source("s").unwrap().partitions().unwrap()[0].first, 25);
    for n in 6..10 {
        assert_eq!(first(n).unwrap().position, n as u64 + 1);
    }
    drop(log);
    let log = fixture.open();
    assert_eq!(
        lines(&log),
        [25, 26, 27, 28, 29].map(|n| format!("unkeyed {n}"))
    );
    for n in [9, 6] {
        let text = format!("record {n}");
        let answer = post(&log, &[&text], Some(&text)).unwrap();
        assert_eq!((answer.accepted, answer.position), (1, n + 1));
    }
    assert_eq!(
        post(&log, &["x"], Some("record 8")),
        Err(IngestError::KeyReused("record 8".into()))
    );
    assert_eq!(
        post(&log, &["record 5"], Some("record 5"))
            .unwrap()
            .position,
        31,
        "forgotten"
    );
}
