//! Reading back: whatever the chunks, the same records at the same positions.

use std::sync::Arc;
use std::sync::mpsc;

use proptest::prelude::*;

use super::support::{Fixture, Read, begin, lines, post, read, request};
use crate::source::log::{EmbeddedLog, LogError, LogOptions, StreamDef};
use crate::source::{Partition, Source, SourceError, Wake};
use crate::time::Timestamp;
use crate::view::{Ingest, IngestError};

fn filled(posts: &[usize]) -> (Fixture, Arc<EmbeddedLog>, Vec<Read>) {
    let fixture = Fixture::new(LogOptions {
        segment_bytes: 500,
        ..LogOptions::default()
    });
    let log = fixture.open();
    let mut expected = Vec::new();
    for (at, count) in posts.iter().enumerate() {
        let lines: Vec<String> = (0..*count)
            .map(|n| format!("{at}/{n}{}", "-".repeat(n * 7 % 40)))
            .collect();
        let arrival = 1_000 + i64::try_from(at).unwrap();
        post(
            &log,
            &lines.iter().map(String::as_str).collect::<Vec<_>>(),
            None,
        )
        .unwrap();
        for line in lines {
            expected.push((expected.len() as u64, line, arrival));
        }
        fixture.advance(1);
    }
    (fixture, log, expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_range_in_any_chunks_is_the_same(
        posts in prop::collection::vec(1_usize..12, 1..20),
        reads in prop::collection::vec((0_u64..120, 0_u64..120, 0_usize..400), 1..20),
    ) {
        let (_fixture, log, expected) = filled(&posts);
        let mut source = log.source("s").unwrap();
        let end = expected.len() as u64;
        for (from, until, max_bytes) in reads {
            let from = from.min(end);
            let got = read(&mut source, from, max_bytes, Some(until));
            let until = usize::try_from(until.min(end).max(from)).unwrap();
            prop_assert_eq!(&got[..], &expected[usize::try_from(from).unwrap()..until]);
        }
    }
}

#[test]
fn until_in_the_middle_of_a_frame_is_exact_and_reading_goes_on_there() {
    let (_fixture, log, expected) = filled(&[2, 10, 3]);
    let mut source = log.source("s").unwrap();
    let chunk = source.read(0, 1, 1 << 20, Some(7)).unwrap().unwrap();
    assert_eq!((chunk.start, chunk.end, chunk.spans.len()), (1, 7, 2));
    assert_eq!(source.read(0, 7, 1 << 20, Some(7)).unwrap(), None);
    assert_eq!(read(&mut source, 7, 1 << 20, None), expected[7..]);
}

#[test]
fn positions_not_there_are_told() {
    let (_fixture, log, _) = filled(&[3]);
    let mut source = log.source("s").unwrap();
    assert_eq!(source.partitions().unwrap(), [Partition::new(0, 0, 3)]);
    assert!(source.read(0, 3, 100, None).unwrap().is_none());
    assert!(matches!(
        source.read(0, 4, 100, None),
        Err(SourceError::Gone { end: 3, .. })
    ));
    assert!(matches!(
        source.read(1, 0, 100, None),
        Err(SourceError::Gone { partition: 1, .. })
    ));
}

#[test]
fn a_reader_at_the_end_is_woken_and_reads_on_over_segments() {
    let fixture = Fixture::with_small_segments();
    let log = fixture.open();
    let mut source = log.source("s").unwrap();
    let (woken, wakes) = mpsc::channel();
    let wake: Wake = Arc::new(move || woken.send(()).unwrap());
    source.on_arrival(wake);
    for n in 0..20_u64 {
        let line = format!("record {n}");
        post(&log, &[&line], None).unwrap();
        wakes.recv().unwrap();
        assert_eq!(read(&mut source, n, 1 << 20, None), [(n, line, 1_000)]);
    }
    assert!(fixture.segments().len() > 5);
    drop(source);
    assert!(wakes.recv().is_err(), "a reader that is gone is not woken");
    post(&log, &["after"], None).unwrap();
}

#[test]
fn damage_under_a_running_service_is_told_with_file_and_offset() {
    let (fixture, log, _) = filled(&[4]);
    let path = &fixture.segments()[0];
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
    let error = log
        .source("s")
        .unwrap()
        .read(0, 0, 100, None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("at byte 28") && error.contains("00.log"),
        "{error}"
    );
}

#[test]
fn every_line_keeps_one_position_whatever_it_holds() {
    let fixture = Fixture::new(LogOptions::default());
    let log = fixture.open();
    let answer = post(&log, &["a", "", "b\nc", " \r", "bad d"], None).unwrap();
    assert_eq!(
        (answer.accepted, answer.rejected[0].line, answer.position),
        (4, 5, 5)
    );
    assert_eq!(lines(&log), ["a", "null", "b c", "null", "bad d"]);
}

#[test]
fn what_is_beyond_the_bound_is_refused_at_once() {
    let fixture = Fixture::new(LogOptions {
        queue_posts: 3,
        ..LogOptions::default()
    });
    let log = fixture.open();
    let taken: Vec<_> = ["wait", "a", "b"]
        .map(|line| begin(&log, &[line], None))
        .into();
    let overloaded = Err(IngestError::Overloaded("s".to_string()));
    assert_eq!(post(&log, &["c"], None), overloaded);
    fixture.go_on.send(()).unwrap();
    assert!(
        taken
            .into_iter()
            .all(|posted| posted.recv().unwrap().is_ok())
    );
    post(&log, &["c"], None).unwrap();

    let fixture = Fixture::new(LogOptions {
        queue_bytes: 1_000,
        ..LogOptions::default()
    });
    let log = fixture.open();
    let large = "x".repeat(2_000);
    post(&log, &[&large], None).unwrap();
    let first = begin(&log, &["wait"], None);
    assert_eq!(post(&log, &[&large], None), overloaded);
    fixture.go_on.send(()).unwrap();
    first.recv().unwrap().unwrap();
}

#[test]
fn stopping_answers_what_was_queued_and_refuses_the_rest() {
    let fixture = Fixture::new(LogOptions::default());
    let log = fixture.open();
    let queued: Vec<_> = ["wait", "a"].map(|line| begin(&log, &[line], None)).into();
    fixture.go_on.send(()).unwrap();
    log.stop();
    assert!(
        queued
            .into_iter()
            .all(|posted| posted.recv().unwrap().is_ok())
    );
    assert_eq!(post(&log, &["b"], None), Err(IngestError::Stopping));
    assert_eq!(log.accepts("s"), Err(IngestError::Stopping));
    assert_eq!(lines(&log), ["wait", "a"]);
}

#[test]
fn names_and_streams_that_are_not_ours_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = |names: &[&str]| {
        let def = |name: &&str| StreamDef {
            name: (*name).to_string(),
            judge: Arc::new(|_: &[u8], _| panic!("a decoder's mistake")),
        };
        let mut options = LogOptions::default();
        options
            .elsewhere
            .insert("k".to_string(), "a file".to_string());
        let streams: Vec<_> = names.iter().map(def).collect();
        EmbeddedLog::open(dir.path(), &streams, options, Arc::new(|| Timestamp(0)))
    };
    for name in ["", "..", "a/b", "A", "a.b", "\u{e4}", &"a".repeat(101)] {
        assert!(matches!(open(&[name]), Err(LogError::Name(_))), "{name}");
    }
    assert!(matches!(open(&["a", "a"]), Err(LogError::Twice(_))));
    let log = open(&["a", "b-2_c"]).unwrap();
    let (answer, answered) = mpsc::channel();
    for stream in ["none", "k", "a"] {
        let answer = answer.clone();
        log.post(
            stream,
            request(&["x"], None),
            Box::new(move |o| answer.send(o).unwrap()),
        );
    }
    assert_eq!(
        answered.recv().unwrap(),
        Err(IngestError::UnknownStream("none".to_string()))
    );
    let elsewhere = IngestError::NotPostable("k".to_string(), "a file".to_string());
    assert_eq!(answered.recv().unwrap(), Err(elsewhere));
    assert_eq!(
        answered.recv().unwrap().unwrap().rejected.len(),
        1,
        "a panic rejects the record"
    );
    assert_eq!(
        (log.end("a"), log.end("b-2_c"), log.end("none")),
        (Some(1), Some(0), None)
    );
}
