//! Opening after a crash or damage: what was acknowledged is there or is missed loudly.

use std::fs::{self, File};
use std::io::Write;

use super::support::{Fixture, lines, post};
use crate::source::log::{LogError, LogOptions};

/// Three posts in one segment; the offset where the last one begins and the segment's bytes.
fn three_posts(fixture: &Fixture) -> (usize, Vec<u8>) {
    let log = fixture.open();
    post(&log, &["one", "bad two"], None).unwrap();
    post(&log, &["three"], Some("k3")).unwrap();
    let before = fixture.segment_len(0);
    post(&log, &["four", "five"], Some("k4")).unwrap();
    drop(log);
    (
        usize::try_from(before).unwrap(),
        fs::read(&fixture.segments()[0]).unwrap(),
    )
}

fn damage(result: Result<impl Sized, LogError>) -> (std::path::PathBuf, u64) {
    match result.err() {
        Some(LogError::Damaged { file, offset, .. }) => (file, offset),
        other => panic!("expected damage, not {other:?}"),
    }
}

#[test]
fn a_last_frame_torn_at_any_length_is_cut_off() {
    let fixture = Fixture::new(LogOptions::default());
    let (start, whole) = three_posts(&fixture);
    let path = &fixture.segments()[0];
    for len in start..whole.len() {
        fs::write(path, &whole[..len]).unwrap();
        let log = fixture.open();
        assert_eq!(
            lines(&log),
            ["one", "bad two", "three"],
            "cut to {len} bytes"
        );
        assert_eq!(fixture.segment_len(0), start as u64);
        let again = post(&log, &["four", "five"], Some("k4")).unwrap();
        assert_eq!((again.accepted, again.position), (2, 5));
        assert_eq!(lines(&log), ["one", "bad two", "three", "four", "five"]);
    }
}

#[test]
fn a_last_frame_of_lost_pages_is_cut_off() {
    let fixture = Fixture::new(LogOptions::default());
    let (start, whole) = three_posts(&fixture);
    let path = &fixture.segments()[0];
    for at in start..whole.len() {
        let mut bytes = whole.clone();
        bytes[at..].fill(0);
        bytes.extend([0; 5000]);
        fs::write(path, &bytes).unwrap();
        assert_eq!(
            lines(&fixture.open()),
            ["one", "bad two", "three"],
            "zeros from {at}"
        );
    }
}

#[test]
fn a_flipped_byte_before_the_last_group_is_damage_not_a_torn_tail() {
    let fixture = Fixture::new(LogOptions::default());
    let (start, whole) = three_posts(&fixture);
    let path = &fixture.segments()[0];
    for at in 0..start {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(path, &bytes).unwrap();
        let (file, offset) = damage(fixture.try_open());
        assert_eq!(&file, path);
        assert!(offset <= at as u64, "byte {at} reported at {offset}");
        assert_eq!(
            fs::read(path).unwrap(),
            bytes,
            "damage is left for inspection"
        );
    }
    fs::write(path, &whole).unwrap();
    assert_eq!(lines(&fixture.open()).len(), 5);
}

#[test]
fn damage_in_an_older_segment_names_file_and_offset() {
    let fixture = Fixture::with_small_segments();
    let log = fixture.open();
    for n in 0..12 {
        post(
            &log,
            &[&format!("record {n}"), "and more"],
            Some(&format!("k{n}")),
        )
        .unwrap();
    }
    drop(log);
    let paths = fixture.segments();
    assert!(paths.len() > 4);
    let path = &paths[2];
    let whole = fs::read(path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(path, &bytes).unwrap();
        let error = fixture.try_open().err().unwrap();
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        let (_, offset) = damage(Err::<(), _>(error));
        assert!(offset <= at as u64, "byte {at} reported at {offset}");
    }
    fs::write(path, &whole[..whole.len() - 3]).unwrap();
    damage(fixture.try_open());
    fs::write(path, &whole).unwrap();
    assert_eq!(lines(&fixture.open()).len(), 24);
    fs::remove_file(path).unwrap();
    assert_eq!(
        damage(fixture.try_open()).0,
        paths[3],
        "the gap shows at the segment after it"
    );
}

#[test]
fn a_segment_whose_header_was_never_durable_is_removed() {
    let fixture = Fixture::with_small_segments();
    let log = fixture.open();
    for n in 0..6 {
        post(
            &log,
            &[&format!("record {n}")],
            Some("a key that makes the frame larger"),
        )
        .ok();
        post(&log, &[&format!("record {n} more")], None).unwrap();
    }
    let expected = lines(&log);
    drop(log);
    for torn in [&b""[..], b"WCLOG", &[0; 28]] {
        let path = fixture
            .dir
            .path()
            .join("s")
            .join(format!("{:020}.log", expected.len()));
        File::create(&path).unwrap().write_all(torn).unwrap();
        assert_eq!(lines(&fixture.open()), expected);
        assert!(!path.exists());
    }
}

#[test]
fn what_is_no_segment_is_left_alone() {
    let fixture = Fixture::new(LogOptions::default());
    post(&fixture.open(), &["one"], None).unwrap();
    let note = fixture.dir.path().join("s").join("note.log");
    fs::write(&note, "mine").unwrap();
    assert_eq!(lines(&fixture.open()), ["one"]);
    assert!(note.exists());
}

#[test]
fn one_process_at_a_time() {
    let fixture = Fixture::new(LogOptions::default());
    let log = fixture.open();
    assert!(matches!(fixture.try_open(), Err(LogError::InUse(_))));
    drop(log);
    fixture.open();
}

#[test]
fn arrival_never_goes_back_even_when_the_clock_does() {
    let fixture = Fixture::new(LogOptions::default());
    let arrivals = |log: &crate::source::log::EmbeddedLog| -> Vec<i64> {
        let mut source = log.source("s").unwrap();
        let all = super::support::read(&mut source, 0, 1 << 20, None);
        all.into_iter().map(|(_, _, arrival)| arrival).collect()
    };
    let log = fixture.open();
    post(&log, &["one"], None).unwrap();
    fixture.advance(-400);
    post(&log, &["two"], None).unwrap();
    drop(log);
    let log = fixture.open();
    post(&log, &["three"], None).unwrap();
    fixture.advance(1_000);
    post(&log, &["four"], None).unwrap();
    assert_eq!(arrivals(&log), [1_000, 1_000, 1_000, 1_600]);
}
