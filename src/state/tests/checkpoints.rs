//! Checkpoints: written by several threads, read back, damaged and passed over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

use super::super::files::seal;
use super::*;
use crate::columns::{fingerprint, from_batch, to_batch};
use crate::time::{Epoch, Timestamp};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Open,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Last {
    Never,
    At(Timestamp),
    Seen { times: u32, names: Vec<String> },
}

/// A row with a column of every kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    key: (String, Option<u64>),
    kind: Option<Kind>,
    last: Last,
    at: Timestamp,
    unit: (),
    sums: BTreeMap<String, f64>,
    diff: i64,
}

pub(super) fn rows(worker: usize, n: u64) -> Vec<Row> {
    let row = |i: u64| Row {
        key: (
            format!("key {worker}/{i}"),
            (!i.is_multiple_of(3)).then_some(i),
        ),
        kind: [None, Some(Kind::Open), Some(Kind::Closed)][(i % 3) as usize].clone(),
        last: match i % 3 {
            0 => Last::Never,
            1 => Last::At(Timestamp(i64::MAX)),
            _ => Last::Seen {
                times: 2,
                names: vec![i.to_string(); 2],
            },
        },
        at: Timestamp(-1),
        unit: (),
        sums: (0..i % 4).map(|s| (s.to_string(), 0.5)).collect(),
        diff: -1,
    };
    (0..n).map(row).collect()
}

pub(super) fn manifest() -> Manifest {
    let partition = PartitionState {
        last: None,
        position: 9,
        highest: Some(Timestamp(i64::MIN)),
        floor: None,
        idle: true,
    };
    let stream = StreamState {
        watermark: None,
        fingerprint: Fingerprint(u64::MAX),
        origins: BTreeMap::from([(3, "log".to_owned())]),
        partitions: BTreeMap::from([(3, partition)]),
    };
    let boundary = BoundaryState {
        fingerprint: Fingerprint(fingerprint::<Row>().unwrap()),
        ..BoundaryState::default()
    };
    Manifest {
        published_at: 5,
        streams: BTreeMap::from([("clicks".to_owned(), stream)]),
        boundaries: BTreeMap::from([("q/window.0".to_owned(), boundary)]),
        queries: BTreeMap::from([("q".to_owned(), Fingerprint(1))]),
        ..Manifest::default()
    }
}

pub(super) fn publish(store: &CheckpointStore, epoch: Epoch) {
    let writer = store.begin(epoch, 1).unwrap();
    writer
        .write_segment("q/window.0", 0, &to_batch(&rows(0, 5)).unwrap())
        .unwrap();
    writer
        .write_segment("q/window.0", 1, &to_batch(&rows(1, 7)).unwrap())
        .unwrap();
    writer.publish(manifest()).unwrap();
}

pub(super) fn opened(dir: &Path) -> (DataDir, CheckpointStore) {
    let data = DataDir::open(dir).unwrap();
    let store = CheckpointStore::open(&data, &StoreOptions::default()).unwrap();
    (data, store)
}

/// Every file of the checkpoints.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for dir in [dir.join("checkpoints"), dir.join("checkpoints/segments")] {
        let entries = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files.extend(entries.filter(|path| path.is_file()));
    }
    files.sort();
    files
}

fn read_back(batches: &[RecordBatch]) -> Vec<Row> {
    batches
        .iter()
        .flat_map(|batch| from_batch::<Row>(batch).unwrap())
        .collect()
}

#[test]
fn what_several_threads_wrote_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    assert!(store.newest_valid().unwrap().is_none());
    let writer = store.begin(7, 3).unwrap();
    // More rows than one record batch of a file takes, none, and a few.
    let counts = [150_000, 0, 3];
    std::thread::scope(|scope| {
        for (worker, n) in counts.into_iter().enumerate() {
            let writer = writer.clone();
            scope.spawn(move || {
                let batch = to_batch(&rows(worker, n)).unwrap();
                let info = writer.write_segment("q/window.0", worker, &batch).unwrap();
                assert_eq!((info.rows, info.worker), (n, worker));
            });
        }
    });
    let info = writer.publish(manifest()).unwrap();
    assert_eq!(
        (info.epoch, info.run, info.published_at, info.rows),
        (7, 3, 5, 150_003)
    );
    assert_eq!(store.list().unwrap(), [info]);
    assert_eq!(store.verify(None).unwrap(), []);

    let checkpoint = store.newest_valid().unwrap().unwrap();
    assert_eq!(checkpoint.skipped(), []);
    let read = checkpoint.manifest();
    assert_eq!(read.streams, manifest().streams);
    assert_eq!(read.queries, manifest().queries);
    assert_eq!(read.codec, "arrow");
    let batches = checkpoint.load("q/window.0").unwrap();
    assert!(batches.iter().all(|batch| batch.num_rows() <= 64 * 1024));
    let expected: Vec<_> = counts
        .iter()
        .enumerate()
        .flat_map(|(w, n)| rows(w, *n))
        .collect();
    assert!(read_back(&batches) == expected);
    assert_eq!(checkpoint.load("another").unwrap(), []);
}

#[test]
fn any_flipped_byte_is_found_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    publish(&store, 1);
    publish(&store, 2);
    let newest = files(dir.path())
        .into_iter()
        .filter(|file| file.to_string_lossy().contains("0000000002."));
    let newest: Vec<_> = newest.collect();
    assert_eq!(newest.len(), 3);
    for path in newest {
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(13).chain([whole.len() - 1]) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let problems = store.verify(None).unwrap();
            assert_eq!(problems.len(), 1, "byte {at} of {}", path.display());
            assert_eq!((problems[0].epoch, &problems[0].file), (2, &path));
            assert_eq!(store.verify(Some(1)).unwrap(), []);
            let checkpoint = store.newest_valid().unwrap().unwrap();
            assert_eq!(checkpoint.manifest().epoch, 1);
            assert_eq!(checkpoint.skipped(), problems);
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(store.newest_valid().unwrap().unwrap().manifest().epoch, 1);
        fs::remove_file(&path).unwrap();
        if path.extension().unwrap() == "arrow" {
            assert_eq!(store.newest_valid().unwrap().unwrap().manifest().epoch, 1);
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(store.newest_valid().unwrap().unwrap().manifest().epoch, 2);
    }
}

#[test]
fn damage_after_the_choice_is_found_when_loading() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    publish(&store, 1);
    let checkpoint = store.newest_valid().unwrap().unwrap();
    let segment = files(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[100] ^= 4;
    fs::write(&segment, bytes).unwrap();
    let text = checkpoint.load("q/window.0").unwrap_err().to_string();
    assert!(text.contains("is damaged at its checksum"), "{text}");
}

#[test]
fn without_a_whole_checkpoint_the_files_and_the_way_out_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    publish(&store, 1);
    publish(&store, 2);
    for file in files(dir.path()) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains(".0.arrow") || name == "00000000000000000002.json" {
            fs::write(&file, "x").unwrap();
        }
    }
    let text = store.newest_valid().unwrap_err().to_string();
    for part in [
        "00000000000000000002.json",
        "01.00001.q_window_0.0.arrow",
        "--from-scratch",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_newer_manifest_is_refused_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    publish(&store, 1);
    let path = dir.path().join("checkpoints/00000000000000000002.json");
    fs::write(&path, seal("{\"version\":3,\"epochs\":[2]}")).unwrap();
    let text = store.newest_valid().unwrap_err().to_string();
    let expected = "00000000000000000002.json was written by a newer version of waterclock (its \
                    format is 3, this build reads up to 2)";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_manifest_that_leads_elsewhere_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    let file = "../../run.json".to_owned();
    let segment = SegmentInfo {
        file,
        bytes: 0,
        crc32: 0,
        rows: 0,
        worker: 0,
        layer: 0,
        share: None,
    };
    let mut manifest = Manifest {
        version: 1,
        epoch: 3,
        ..manifest()
    };
    manifest
        .boundaries
        .get_mut("q/window.0")
        .unwrap()
        .segments
        .push(segment);
    let body = serde_json::to_string(&manifest).unwrap();
    let path = |epoch: u64| dir.path().join(format!("checkpoints/{epoch:020}.json"));
    fs::write(path(3), seal(&body)).unwrap();
    fs::write(path(4), seal(&body)).unwrap();
    let problems = store.verify(None).unwrap();
    assert!(
        problems[0]
            .detail
            .contains("'../../run.json' is not a file name"),
        "{problems:?}"
    );
    assert!(
        problems[1].detail.contains("that of checkpoint 3"),
        "{problems:?}"
    );
}

#[test]
fn unknown_fields_of_a_manifest_are_let_be() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    let mut json = serde_json::to_value(Manifest {
        version: 1,
        epoch: 3,
        ..manifest()
    })
    .unwrap();
    json["note"] = serde_json::json!({"by": "a later minor version"});
    let path = dir.path().join("checkpoints/00000000000000000003.json");
    fs::write(path, seal(&json.to_string())).unwrap();
    assert_eq!(store.newest_valid().unwrap().unwrap().manifest().epoch, 3);
}
