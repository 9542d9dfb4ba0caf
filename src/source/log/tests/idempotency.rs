//! Posts repeated under a key: the stored answer, over restarts, concurrency and time.

use super::support::{Fixture, begin, lines, post};
use crate::source::log::LogOptions;
use crate::time::millis;
use crate::view::IngestError;

fn reused() -> super::support::Outcome {
    Err(IngestError::KeyReused("k".to_string()))
}

#[test]
fn a_repeat_gets_the_stored_answer_also_after_reopening() {
    let fixture = Fixture::with_small_segments();
    let mut log = fixture.open();
    let first = post(&log, &["one", "bad", "two"], Some("k")).unwrap();
    assert_eq!((first.accepted, first.position), (2, 3));
    assert_eq!(
        (first.rejected[0].line, &*first.rejected[0].reason),
        (2, "bad")
    );
    for n in 0..5 {
        post(&log, &["other"], Some(&format!("other {n}"))).unwrap();
        assert_eq!(
            post(&log, &["one", "bad", "two"], Some("k")).unwrap(),
            first
        );
        assert_eq!(post(&log, &["one"], Some("k")), reused());
        assert_eq!(post(&log, &[], Some("k")), reused());
        drop(log);
        log = fixture.open();
    }
    assert_eq!(lines(&log).len(), 8);
}

#[test]
fn repeats_in_the_same_group_wait_for_the_first() {
    let fixture = Fixture::new(LogOptions::default());
    let log = fixture.open();
    let waiting = begin(&log, &["wait"], Some("w"));
    let posts: Vec<_> = ["a", "a", "b", "a"]
        .map(|line| begin(&log, &[line], Some("k")))
        .into();
    fixture.go_on.send(()).unwrap();
    assert_eq!(waiting.recv().unwrap().unwrap().position, 1);
    let outcomes: Vec<_> = posts
        .into_iter()
        .map(|posted| posted.recv().unwrap())
        .collect();
    assert_eq!(outcomes[0].as_ref().unwrap().position, 2);
    assert_eq!(
        (&outcomes[1], &outcomes[2], &outcomes[3]),
        (&outcomes[0], &reused(), &outcomes[0])
    );
    assert_eq!(lines(&log), ["wait", "a"]);
}

#[test]
fn an_empty_post_changes_nothing() {
    let fixture = Fixture::new(LogOptions::default());
    let log = fixture.open();
    assert_eq!(post(&log, &[], Some("k")).unwrap().position, 0);
    post(&log, &["one"], None).unwrap();
    assert_eq!(post(&log, &[], Some("k")).unwrap().position, 1);
}

#[test]
fn keys_are_forgotten_only_when_old_and_not_among_the_newest() {
    let options = LogOptions {
        keep_keys_for: millis(100),
        min_keys: 2,
        ..LogOptions::default()
    };
    let fixture = Fixture::new(options);
    let log = fixture.open();
    post(&log, &["k"], Some("k")).unwrap();
    fixture.advance(99);
    for n in 0..3 {
        post(&log, &["x"], Some(&format!("x{n}"))).unwrap();
    }
    assert_eq!(
        post(&log, &["k"], Some("k")).unwrap().position,
        1,
        "young enough"
    );
    fixture.advance(1);
    post(&log, &["x"], Some("x3")).unwrap();
    assert_eq!(
        post(&log, &["k"], Some("k")).unwrap().position,
        6,
        "forgotten, so written again"
    );
    fixture.advance(10_000);
    assert_eq!(
        post(&log, &["k"], Some("k")).unwrap().position,
        6,
        "among the newest"
    );
}

#[test]
fn the_bound_of_keys_is_told() {
    let fixture = Fixture::new(LogOptions {
        max_keys: 2,
        ..LogOptions::default()
    });
    let log = fixture.open();
    post(&log, &["a"], Some("a")).unwrap();
    post(&log, &["b"], Some("b")).unwrap();
    let refused = post(&log, &["c"], Some("c")).unwrap_err().to_string();
    assert!(refused.contains("2 idempotency keys"), "{refused}");
    assert_eq!(post(&log, &["a"], Some("a")).unwrap().position, 1);
    assert_eq!(post(&log, &["c"], None).unwrap().position, 3);
}
