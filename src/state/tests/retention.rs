//! Which checkpoints stay, and what is left of those that were never published.

use std::fs;

use super::checkpoints::{files, manifest, opened, publish, rows};
use super::*;
use crate::columns::to_batch;
use crate::time::Epoch;
use crate::view::Sent;

fn epochs(store: &CheckpointStore) -> Vec<Epoch> {
    store
        .list()
        .unwrap()
        .iter()
        .map(|info| info.epoch)
        .collect()
}

#[test]
fn the_newest_two_stay_and_share_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    for epoch in 1..=4 {
        publish(&store, epoch);
    }
    assert_eq!(epochs(&store), [4, 3]);
    assert_eq!(files(dir.path()).len(), 2 + 4);
    assert_eq!(store.verify(None).unwrap(), []);
}

#[test]
fn a_damaged_checkpoint_does_not_count_as_retained() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    publish(&store, 1);
    publish(&store, 2);
    fs::write(files(dir.path()).pop().unwrap(), "x").unwrap();
    assert_eq!(store.newest_valid().unwrap().unwrap().manifest().epoch, 1);
    publish(&store, 3);
    assert_eq!(epochs(&store), [3, 2, 1]);
    publish(&store, 4);
    assert_eq!(epochs(&store), [4, 3]);
}

/// Publishes a checkpoint that notes how far two sinks have come.
fn publish_with_sinks(store: &CheckpointStore, epoch: Epoch, through: [Epoch; 2]) {
    let writer = store.begin(epoch, 1).unwrap();
    let sent = through.map(|through| Sent {
        committed: None,
        through,
    });
    let names = ["one", "two"].map(str::to_owned);
    let mut manifest = manifest();
    manifest.sinks = names.into_iter().zip(sent).collect();
    writer.publish(manifest).unwrap();
}

#[test]
fn the_newest_that_every_sink_can_go_on_from_stays_too() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    let needed = || store.oldest_needed().unwrap();
    publish_with_sinks(&store, 10, [5, 9]);
    assert_eq!(needed(), None, "there is none in reserve");
    publish_with_sinks(&store, 20, [5, 19]);
    assert_eq!(needed(), None, "one sink has come less far than all");
    publish_with_sinks(&store, 30, [12, 29]);
    assert_eq!((epochs(&store), needed()), (vec![30, 20, 10], Some(10)));
    for (limit, newest) in [(9, None), (10, Some(10)), (29, Some(20)), (30, Some(30))] {
        let found = store.newest_valid_through(limit).unwrap();
        assert_eq!(found.map(|found| found.manifest().epoch), newest, "{limit}");
    }
    publish_with_sinks(&store, 40, [12, 39]);
    assert_eq!((epochs(&store), needed()), (vec![40, 30, 10], Some(10)));
    // It comes on: what was kept for it goes.
    publish_with_sinks(&store, 50, [31, 49]);
    assert_eq!((epochs(&store), needed()), (vec![50, 40, 30], Some(30)));
    publish_with_sinks(&store, 60, [59, 60]);
    assert_eq!((epochs(&store), needed()), (vec![60, 50], Some(50)));
    publish(&store, 70);
    assert_eq!((epochs(&store), needed()), (vec![70, 60], Some(60)));
}

#[test]
fn what_was_never_published_is_ignored_and_collected() {
    let dir = tempfile::tempdir().unwrap();
    let (data, store) = opened(dir.path());
    publish(&store, 1);
    let whole = files(dir.path());
    let writer = store.begin(2, 1).unwrap();
    writer
        .write_segment("q/window.0", 0, &to_batch(&rows(0, 5)).unwrap())
        .unwrap();
    assert!(
        store
            .begin(3, 1)
            .unwrap_err()
            .to_string()
            .contains("another one is being written")
    );
    // The process dies here: nothing is dropped.
    std::mem::forget(writer);
    drop((data, store));
    let checkpoints = dir.path().join("checkpoints");
    fs::write(checkpoints.join("00000000000000000002.json.tmp"), "{\"crc").unwrap();
    fs::write(
        checkpoints.join("segments/00000000000000000002.00002.half.1.arrow"),
        "AR",
    )
    .unwrap();
    assert_eq!(
        CheckpointStore::inspect(dir.path(), None)
            .unwrap()
            .list()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(files(dir.path()).len(), whole.len() + 3);
    let (_data, store) = opened(dir.path());
    assert_eq!(files(dir.path()), whole);
    assert_eq!(store.newest_valid().unwrap().unwrap().manifest().epoch, 1);
    publish(&store, 2);
}

#[test]
fn a_writer_that_gives_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    publish(&store, 1);
    let whole = files(dir.path());
    let batch = to_batch(&rows(0, 5)).unwrap();
    let writer = store.begin(2, 1).unwrap();
    writer.write_segment("q/window.0", 0, &batch).unwrap();
    drop(writer);
    assert_eq!(files(dir.path()), whole);

    let writer = store.begin(2, 1).unwrap();
    writer
        .write_segment("not in the manifest", 0, &batch)
        .unwrap();
    let text = writer.publish(manifest()).unwrap_err().to_string();
    assert!(
        text.contains("lacks the boundary 'not in the manifest'"),
        "{text}"
    );
    assert_eq!(files(dir.path()), whole);
    assert!(
        store
            .begin(1, 1)
            .unwrap_err()
            .to_string()
            .contains("checkpoint 1 is not older")
    );
}

#[test]
fn a_segment_that_cannot_be_written_keeps_the_checkpoint_from_being_published() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    publish(&store, 1);
    let whole = files(dir.path());
    let batch = to_batch(&rows(0, 5)).unwrap();
    let writer = store.begin(2, 1).unwrap();
    // What a full disk does, a file name that is taken does too: the write fails.
    let segments = dir.path().join("checkpoints/segments");
    fs::create_dir(segments.join("00000000000000000002.00001.q_window_0.0.arrow")).unwrap();
    assert!(writer.write_segment("q/window.0", 0, &batch).is_err());
    assert!(writer.write_segment("q/window.0", 1, &batch).is_err());
    assert!(writer.publish(manifest()).is_err());
    assert_eq!(files(dir.path()), whole);
    assert_eq!(store.newest_valid().unwrap().unwrap().manifest().epoch, 1);
}

#[test]
fn a_manifest_that_cannot_be_written_leaves_the_older_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    publish(&store, 1);
    let whole = files(dir.path());
    fs::create_dir(dir.path().join("checkpoints/00000000000000000002.json.tmp")).unwrap();
    let writer = store.begin(2, 1).unwrap();
    writer
        .write_segment("q/window.0", 0, &to_batch(&rows(0, 5)).unwrap())
        .unwrap();
    assert!(writer.publish(manifest()).is_err());
    assert_eq!(files(dir.path()), whole);
    assert_eq!(store.newest_valid().unwrap().unwrap().manifest().epoch, 1);
    publish(&store, 3);
}

#[test]
fn while_a_manifest_cannot_be_read_no_segment_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    let (data, store) = opened(dir.path());
    publish(&store, 1);
    publish(&store, 2);
    drop((data, store));
    let before = files(dir.path());
    fs::write(
        dir.path().join("checkpoints/00000000000000000002.json"),
        "x",
    )
    .unwrap();
    let (_data, store) = opened(dir.path());
    assert_eq!(files(dir.path()), before);
    assert_eq!(store.newest_valid().unwrap().unwrap().manifest().epoch, 1);
}

#[test]
fn the_last_whole_checkpoint_is_deleted_only_when_forced() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    publish(&store, 1);
    publish(&store, 2);
    assert!(
        store
            .delete(9, true)
            .unwrap_err()
            .to_string()
            .contains("checkpoint 9 is not there")
    );
    store.delete(2, false).unwrap();
    assert_eq!(epochs(&store), [1]);
    let text = store.delete(1, false).unwrap_err().to_string();
    assert!(
        text.contains("checkpoint 1 is the last whole one"),
        "{text}"
    );
    store.delete(1, true).unwrap();
    assert_eq!(files(dir.path()).len(), 0);
    assert!(store.newest_valid().unwrap().is_none());
}
