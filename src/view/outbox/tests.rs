//! What a sink is given: each closed epoch's messages, whole, and no more than may be sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Committed, Group, Kind, Mode, Next, Outbox, Sent, SinkSpec, SinkState, Writer};
use crate::row::Row;
use crate::time::{Epoch, Timestamp};
use crate::view::{History, KeyRange, Labels, Leaving, QuerySpec, Views};

const WORKERS: usize = 2;

/// The epoch that the service began with.
const FROM: Epoch = 1;

/// A view, a sink that follows it, and the workers' ways to both.
struct World {
    views: Views,
    outbox: Arc<Outbox>,
    writers: Vec<Writer>,
}

/// A change: key, value, when the row is final, and how often.
type Change = (&'static str, u64, Option<i64>, i64);

fn world(mode: Mode) -> World {
    world_with(mode, 1 << 20, None)
}

fn world_with(mode: Mode, buffer_bytes: usize, sent: Option<Sent>) -> World {
    let query = QuerySpec {
        name: "q".to_owned(),
        ..QuerySpec::default()
    };
    let views = Views::new(1, vec![query], Vec::new(), WORKERS, History::default());
    let view = views.query("q").unwrap();
    let spec = SinkSpec {
        name: "s".to_owned(),
        query: "q".to_owned(),
        mode,
        buffer_bytes,
        ..SinkSpec::default()
    };
    let outbox = Arc::new(Outbox::new(spec, Arc::clone(view), FROM, sent));
    let outboxes = [Arc::clone(&outbox)];
    let writers = (0..WORKERS).map(|worker| Writer::new(worker, view, &outboxes));
    World {
        writers: writers.collect(),
        views,
        outbox,
    }
}

impl World {
    /// Closes and shows an epoch.
    fn close(&mut self, epoch: Epoch, watermark: i64, changes: &[Change]) {
        for (worker, writer) in self.writers.iter_mut().enumerate() {
            let is_mine = |(key, ..): &&Change| key.len() % WORKERS == worker;
            let row = |(key, value, at, diff): &Change| {
                let at = at.map(Timestamp);
                (Row::new(key, value, at).unwrap(), *diff)
            };
            let rows = changes.iter().filter(is_mine).map(row).collect();
            writer.apply(epoch, Some(Timestamp(watermark)), Leaving::OneByOne, rows);
        }
        self.views.publish(Labels {
            epoch,
            ..Labels::default()
        });
        self.views.set_ready();
    }

    /// The same, and its journal line is on disk.
    fn settle(&mut self, epoch: Epoch, watermark: i64, changes: &[Change]) {
        self.close(epoch, watermark, changes);
        self.outbox.release(epoch, epoch);
    }

    fn take(&self) -> Option<Group> {
        match self.outbox.next(1, Duration::ZERO) {
            Next::Group(group) => Some(group),
            Next::Nothing => None,
            other => panic!("{other:?}"),
        }
    }

    /// What is to be sent now, as `key value`.
    fn sent(&self) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(group) = self.take() {
            sent.extend(written(&group));
            self.outbox.committed(at(group.last));
        }
        sent
    }

    /// The same, and why nothing more comes.
    fn sent_then_ended(&self) -> (Vec<String>, String) {
        let mut sent = Vec::new();
        loop {
            match self.outbox.next(1, Duration::ZERO) {
                Next::Group(group) => {
                    sent.extend(written(&group));
                    self.outbox.committed(at(group.last));
                }
                Next::Ended(why) => return (sent, why),
                other => panic!("{other:?}"),
            }
        }
    }

    fn rows(&self) -> BTreeMap<String, String> {
        let at = self.views.upper().unwrap().epoch;
        let view = self.views.query("q").unwrap();
        let page = view.read(at, &KeyRange::all(), None, 1000, None).unwrap();
        let rows = page.rows.iter();
        rows.map(|(row, _)| (row.key().to_string(), row.value().to_string()))
            .collect()
    }
}

/// A progress.
fn at(epoch: Epoch) -> Committed {
    Committed { run: 1, epoch }
}

fn written(group: &Group) -> Vec<String> {
    let line = |message: &super::Message| match message.kind {
        Kind::Tombstone => format!("{} gone", message.key()),
        _ => format!("{} {}", message.key(), message.row.value()),
    };
    group.messages.iter().map(line).collect()
}

const SOON: Option<i64> = Some(10);

#[test]
fn a_message_is_the_row_as_the_api_writes_it() {
    let mut upserts = world(Mode::Upsert);
    upserts.settle(1, 0, &[("a", 1, SOON, 1)]);
    let group = upserts.take().unwrap();
    let message = &group.messages[0];
    assert_eq!(message.key(), r#""a""#);
    assert_eq!(message.value().unwrap(), r#"{"key":"a","value":1}"#);
    assert!(message.bytes() >= message.key().len() + message.value().unwrap().len());
    let mut finals = world(Mode::Final);
    finals.settle(1, 10, &[("a", 1, SOON, 1)]);
    let value = finals.take().unwrap().messages[0].value().unwrap();
    assert_eq!(value, r#"{"key":"a","value":1,"final":true}"#);
}

#[test]
fn each_touched_key_is_sent_once_per_epoch() {
    let mut world = world(Mode::Upsert);
    world.settle(
        1,
        0,
        &[("a", 1, None, 1), ("bb", 1, None, 1), ("c", 1, None, 1)],
    );
    world.settle(
        2,
        0,
        &[("a", 1, None, -1), ("a", 2, None, 1), ("c", 1, None, -1)],
    );
    world.settle(
        3,
        0,
        &[("c", 7, None, 1), ("bb", 2, None, 1), ("bb", 1, None, -1)],
    );
    world.settle(4, 0, &[("a", 2, None, 1), ("a", 2, None, -1)]);
    let said = [
        r#""a" 1"#,
        r#""bb" 1"#,
        r#""c" 1"#,
        r#""a" 2"#,
        r#""c" gone"#,
        r#""bb" 2"#,
        r#""c" 7"#,
    ];
    assert_eq!(world.sent(), said);
}

#[test]
fn folded_upserts_are_the_view() {
    let keys = ["a", "bb", "c", "dd", "e", "ff"];
    let mut world = world(Mode::Upsert);
    let (mut now, mut folded) = (BTreeMap::new(), BTreeMap::new());
    let mut dice = 7_u64;
    for epoch in 1..300 {
        let mut changes = Vec::new();
        for key in keys {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_041);
            let roll = dice >> 60;
            if roll < 8 {
                changes.extend(now.remove(key).map(|old| (key, old, None, -1)));
                if roll < 5 {
                    now.insert(key, roll);
                    changes.push((key, roll, None, 1));
                }
            }
        }
        world.settle(epoch, 0, &changes);
        for line in world.sent() {
            let (key, value) = line.split_once(' ').unwrap();
            match value {
                "gone" => assert!(folded.remove(key).is_some(), "{line} at {epoch}"),
                _ => drop(folded.insert(key.to_owned(), value.to_owned())),
            }
        }
        assert_eq!(folded, world.rows(), "at epoch {epoch}");
    }
}

#[test]
fn a_key_with_two_rows_ends_an_upsert_and_not_the_view() {
    let mut world = world(Mode::Upsert);
    world.settle(1, 0, &[("a", 1, None, 1)]);
    world.settle(2, 0, &[("a", 2, None, 1), ("bb", 1, None, 1)]);
    world.settle(3, 0, &[("bb", 1, None, -1), ("bb", 2, None, 1)]);
    // What was before is sent still.
    assert_eq!(written(&world.take().unwrap()), [r#""a" 1"#]);
    world.outbox.committed(at(1));
    let Next::Ended(why) = world.outbox.next(1, Duration::ZERO) else {
        panic!("it goes on");
    };
    assert!(
        why.contains("query 'q' has 2 rows or more for the key \"a\""),
        "{why}"
    );
    assert!(why.contains("mode = \"final\""), "{why}");
    assert_eq!(world.rows()["\"bb\""], "2");
    world.outbox.set_state(SinkState::Stopped(why));
    assert_eq!(world.outbox.sent(), None, "nothing is kept for it");
}

#[test]
fn rows_of_one_key_may_come_together_where_one_is_left() {
    let mut world = world(Mode::Upsert);
    let both = [("a", 1, None, 1), ("a", 2, None, 1), ("a", 1, None, -1)];
    world.settle(1, 0, &both);
    world.settle(2, 0, &[("a", 2, None, -1)]);
    // A key that comes and goes leaves history behind, which counts for nothing.
    world.settle(3, 0, &[("a", 3, None, 1)]);
    assert_eq!(world.sent(), [r#""a" 2"#, r#""a" gone"#, r#""a" 3"#]);
    world.settle(4, 0, &[("a", 3, None, 1)]);
    let (sent, _) = world.sent_then_ended();
    assert_eq!(sent, Vec::<String>::new());
}

#[test]
fn a_final_row_is_sent_once_and_its_expiry_never() {
    let mut world = world(Mode::Final);
    world.settle(1, 0, &[("a", 1, SOON, 1), ("bb", 1, Some(20), 1)]);
    world.settle(2, 9, &[("a", 1, SOON, -1), ("a", 2, SOON, 1)]);
    assert_eq!(world.sent(), Vec::<String>::new());
    // One more arrives and is final at once, and twice.
    world.settle(3, 10, &[("c", 5, Some(3), 2)]);
    assert_eq!(world.sent(), [r#""a" 2"#, r#""c" 5"#, r#""c" 5"#]);
    world.settle(
        4,
        30,
        &[
            ("a", 2, SOON, -1),
            ("bb", 1, Some(20), -1),
            ("bb", 3, Some(20), 1),
        ],
    );
    assert_eq!(world.sent(), [r#""bb" 3"#]);
    world.settle(5, 40, &[("bb", 3, Some(20), -1), ("c", 5, Some(3), -2)]);
    world.settle(6, 50, &[("dd", 1, None, 1)]);
    assert_eq!(world.sent(), Vec::<String>::new());
}

#[test]
fn an_upsert_outlives_the_expiry_of_its_row() {
    let mut world = world(Mode::Upsert);
    world.settle(1, 0, &[("a", 1, SOON, 1), ("bb", 1, SOON, 1)]);
    // A row that is taken back in the epoch that makes it final has not expired.
    world.settle(2, 10, &[("bb", 1, SOON, -1)]);
    world.settle(3, 20, &[("a", 1, SOON, -1)]);
    assert_eq!(world.sent(), [r#""a" 1"#, r#""bb" 1"#, r#""bb" gone"#]);
}

#[test]
fn only_what_is_shown_and_journalled_is_taken_in_whole_epochs() {
    let mut world = world(Mode::Upsert);
    world.close(1, 0, &[("a", 1, None, 1), ("bb", 1, None, 1)]);
    world.close(11, 0, &[]);
    world.close(21, 0, &[("a", 1, None, -1), ("bb", 1, None, -1)]);
    assert!(world.take().is_none());
    world.outbox.release(21, 0);
    assert!(world.take().is_none(), "nothing is on disk");
    world.outbox.release(0, 1);
    let group = world.take().unwrap();
    assert_eq!((group.first, group.last, group.messages.len()), (1, 1, 2));
    world.outbox.committed(at(1));
    world.outbox.release(21, 30);
    let group = world.take().unwrap();
    assert_eq!((group.first, group.last, group.messages.len()), (21, 21, 2));
}

#[test]
fn what_waits_is_bounded_and_room_is_told_of() {
    let mut world = world_with(Mode::Upsert, 200, None);
    let told = Arc::new(AtomicUsize::new(0));
    let tell = Arc::clone(&told);
    world.outbox.on_room(Box::new(move || {
        tell.fetch_add(1, Ordering::SeqCst);
    }));
    world.settle(1, 0, &[("a", 1, None, 1)]);
    assert!(!world.outbox.holds_input());
    let many = ["b", "cc", "d", "ee"].map(|key| (key, 1, None, 1));
    world.settle(2, 0, &many);
    assert!(world.outbox.holds_input());
    let status = world.outbox.status();
    assert_eq!((status.waiting_epochs, status.waiting_messages), (2, 5));
    let group = world.take().unwrap();
    assert!(world.outbox.holds_input(), "it is not committed yet");
    world.outbox.committed(at(group.last));
    assert_eq!(world.sent().len(), 4);
    assert!(!world.outbox.holds_input());
    assert_eq!(told.load(Ordering::SeqCst), 2);
    let status = world.outbox.status();
    assert_eq!((status.waiting_bytes, status.waiting_messages), (0, 0));
    assert_eq!((status.committed_messages, status.epoch), (5, Some(2)));
    // A day behind is too far as well.
    world.settle(3, 0, &[("f", 1, None, 1)]);
    world.settle(3 + 86_400_000, 0, &[]);
    assert!(world.outbox.holds_input());
    let stopped = SinkState::Stopped("it was told to".to_owned());
    world.outbox.set_state(stopped);
    assert!(
        !world.outbox.holds_input(),
        "a stopped one holds nothing up"
    );
    assert_eq!(told.load(Ordering::SeqCst), 3);
}

#[test]
fn what_was_sent_before_is_dropped_and_how_far_it_came_is_known() {
    let sent = |epoch, through| {
        Some(Sent {
            committed: Some(at(epoch)),
            through,
        })
    };
    let mut world = world_with(Mode::Upsert, 1 << 20, sent(3, 5));
    world.settle(4, 0, &[("a", 1, None, 1)]);
    assert_eq!(world.outbox.sent(), sent(3, 5));
    world.settle(6, 0, &[("bb", 1, None, 1)]);
    world.settle(8, 0, &[("c", 1, None, 1)]);
    assert_eq!(world.outbox.sent(), sent(3, 5));
    // It turns out to have come further.
    world.outbox.found(Some(at(6)));
    world.outbox.skip_through(6);
    assert_eq!(world.outbox.sent(), sent(6, 7));
    let group = world.take().unwrap();
    assert_eq!(written(&group), [r#""c" 1"#]);
    assert_eq!(world.outbox.sent(), sent(6, 7), "it is not committed yet");
    world.outbox.committed(at(8));
    world.settle(20, 0, &[]);
    assert_eq!(
        world.outbox.sent(),
        sent(8, 20),
        "nothing is left to be sent"
    );
}

#[test]
fn of_a_sink_that_may_have_sent_anything_all_is_kept() {
    let mut world = world(Mode::Upsert);
    let nothing = |through| {
        Some(Sent {
            committed: None,
            through,
        })
    };
    world.settle(5, 0, &[]);
    assert_eq!(world.outbox.sent(), nothing(FROM));
    world.outbox.found(None);
    world.outbox.skip_through(0);
    assert_eq!(world.outbox.sent(), nothing(5), "there was nothing to send");
    world.settle(8, 0, &[("a", 1, None, 1)]);
    world.settle(9, 0, &[("a", 1, None, -1)]);
    assert_eq!(world.outbox.sent(), nothing(7));
    // What it sends may arrive before we know.
    let group = world.take().unwrap();
    assert_eq!(world.outbox.sent(), nothing(7));
    world.outbox.committed(at(group.last));
    assert_eq!(world.outbox.sent().unwrap().through, 8);
}

#[test]
fn a_query_that_fails_ends_its_sink_before_that_epoch() {
    let mut world = world(Mode::Upsert);
    world.settle(1, 0, &[("a", 1, None, 1)]);
    world
        .views
        .query("q")
        .unwrap()
        .fail("it panicked".to_owned());
    world.settle(2, 0, &[("bb", 1, None, 1)]);
    assert_eq!(
        world.sent_then_ended(),
        (vec![r#""a" 1"#.to_owned()], "it panicked".to_owned())
    );
}

#[test]
fn closing_takes_what_may_be_sent_and_ends_waiting() {
    let mut world = world(Mode::Upsert);
    world.settle(1, 0, &[("a", 1, None, 1)]);
    world.outbox.close();
    let patience = Duration::from_secs(100_000);
    assert!(matches!(world.outbox.next(1, patience), Next::Group(_)));
    assert!(matches!(world.outbox.next(1, patience), Next::Closed));
    assert!(world.outbox.pause(patience));
}
