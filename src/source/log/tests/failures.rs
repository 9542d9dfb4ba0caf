//! Disks that fail: nothing unwritten is acknowledged, and the log works again when the disk does.

use std::sync::atomic::Ordering;

use super::support::{Fixture, begin, lines, post};
use crate::source::log::LogOptions;
use crate::view::{Ingest, IngestError};

fn is_storage(outcome: &super::support::Outcome, text: &str) -> bool {
    matches!(outcome, Err(IngestError::Storage { stream, cause })
        if stream == "s" && cause.contains(text))
}

#[test]
fn a_full_disk_refuses_and_later_posts_work() {
    let fixture = Fixture::new(LogOptions::default());
    let log = fixture.open();
    post(&log, &["one"], None).unwrap();
    let len = fixture.segment_len(0);
    fixture.disk.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let outcome = post(&log, &["lost", "lost"], Some("k"));
        assert!(is_storage(&outcome, "no space left"), "{outcome:?}");
        assert_eq!(
            fixture.segment_len(0),
            len,
            "the half-written frame is cut off"
        );
    }
    assert_eq!(log.end("s"), Some(1));
    fixture.disk.full.store(false, Ordering::SeqCst);
    assert_eq!(post(&log, &["two"], Some("k")).unwrap().position, 2);
    assert_eq!(lines(&log), ["one", "two"]);
    drop(log);
    assert_eq!(lines(&fixture.open()), ["one", "two"]);
}

#[test]
fn a_full_disk_at_the_first_post_or_a_new_segment_refuses_and_later_posts_work() {
    let fixture = Fixture::with_small_segments();
    let log = fixture.open();
    let mut expected = Vec::new();
    for n in 0..10 {
        fixture.disk.full.store(true, Ordering::SeqCst);
        assert!(is_storage(&post(&log, &["lost"], None), "no space left"));
        fixture.disk.full.store(false, Ordering::SeqCst);
        let line = format!("record {n} {}", "x".repeat(n * 20));
        post(&log, &[&line], None).unwrap();
        expected.push(line);
    }
    assert!(fixture.segments().len() > 3);
    assert_eq!(lines(&log), expected);
    drop(log);
    assert_eq!(lines(&fixture.open()), expected);
}

#[test]
fn a_failed_fsync_acknowledges_nothing_and_leaves_the_segment() {
    let fixture = Fixture::new(LogOptions::default());
    let log = fixture.open();
    post(&log, &["one"], None).unwrap();
    fixture.disk.sync_fails.store(true, Ordering::SeqCst);
    assert!(is_storage(
        &post(&log, &["lost"], None),
        "fsync failed: input/output error"
    ));
    assert!(is_storage(
        &post(&log, &["lost"], None),
        "cannot begin a segment"
    ));
    assert_eq!(
        (log.end("s"), lines(&log)),
        (Some(1), vec!["one".to_string()])
    );
    fixture.disk.sync_fails.store(false, Ordering::SeqCst);
    post(&log, &["two"], None).unwrap();
    assert_eq!(
        fixture.segments().len(),
        2,
        "the suspect file gets nothing more"
    );
    assert_eq!(lines(&log), ["one", "two"]);
    drop(log);
    assert_eq!(lines(&fixture.open()), ["one", "two"]);
}

#[test]
fn what_could_not_be_cut_off_is_cut_off_when_opening() {
    let fixture = Fixture::new(LogOptions::default());
    let log = fixture.open();
    post(&log, &["one"], None).unwrap();
    let len = fixture.segment_len(0);
    fixture.disk.truncate_fails.store(true, Ordering::SeqCst);
    fixture.disk.sync_fails.store(true, Ordering::SeqCst);
    post(&log, &["lost"], Some("k")).unwrap_err();
    assert!(
        fixture.segment_len(0) > len,
        "a whole frame that nobody was told of"
    );
    fixture.disk.sync_fails.store(false, Ordering::SeqCst);
    post(&log, &["two"], Some("k")).unwrap();
    drop(log);
    fixture.disk.truncate_fails.store(false, Ordering::SeqCst);
    let log = fixture.open();
    assert_eq!(fixture.segment_len(0), len);
    assert_eq!(lines(&log), ["one", "two"]);
    assert_eq!(post(&log, &["two"], Some("k")).unwrap().position, 2);
}

#[test]
fn a_crash_between_write_and_fsync_counts_a_keyed_post_once() {
    let fixture = Fixture::new(LogOptions::default());
    let log = fixture.open();
    post(&log, &["one"], None).unwrap();
    fixture.disk.truncate_fails.store(true, Ordering::SeqCst);
    fixture.disk.sync_fails.store(true, Ordering::SeqCst);
    post(&log, &["two", "bad"], Some("k")).unwrap_err();
    drop(log);
    fixture.disk.truncate_fails.store(false, Ordering::SeqCst);
    fixture.disk.sync_fails.store(false, Ordering::SeqCst);
    let log = fixture.open();
    let answer = post(&log, &["two", "bad"], Some("k")).unwrap();
    assert_eq!(
        (answer.accepted, answer.rejected.len(), answer.position),
        (1, 1, 3)
    );
    assert_eq!(lines(&log), ["one", "two", "bad"]);
}

#[test]
fn a_group_fails_as_a_whole() {
    let fixture = Fixture::new(LogOptions::default());
    let log = fixture.open();
    let waiting = begin(&log, &["wait"], None);
    let group: Vec<_> = ["a", "b", "a"]
        .map(|line| begin(&log, &[line], Some("k")))
        .into();
    fixture.disk.full.store(true, Ordering::SeqCst);
    fixture.go_on.send(()).unwrap();
    // The first segment is begun before the judge waits, so all four are written, and fail.
    for answered in [waiting].into_iter().chain(group) {
        assert!(is_storage(&answered.recv().unwrap(), "no space left"));
    }
    fixture.disk.full.store(false, Ordering::SeqCst);
    assert_eq!(post(&log, &["b"], Some("k")).unwrap().position, 1);
}
