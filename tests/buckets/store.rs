//! The store of checkpoints in a bucket, without a service: long segments, owners, and faults.
//! Keys come from the environment, which a test may not change for others: so each test here runs
//! another one in a process of its own.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use waterclock::columns::{from_batch, to_batch};
use waterclock::state::{
    BoundaryState, BucketOptions, CheckpointStore, DataDir, Manifest, StateError, StoreOptions,
};
use waterclock::time::seconds;
use waterclock::view::CheckpointInfo;

use crate::ENV;
use crate::double::{BUCKET, Fault, Proxy, S3};

const NAME: &str = "q/rows";
const SERVER: &str = "WATERCLOCK_TEST_S3";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    key: u64,
    text: String,
}

/// Runs a test of this file in a process that has keys.
fn with_keys(server: &S3, test: &str) {
    let own = std::env::current_exe().expect("this program has a path");
    let status = Command::new(own)
        .args(["--exact", &format!("store::{test}"), "--nocapture"])
        .envs(ENV)
        .env(SERVER, &server.address)
        .status();
    assert!(status.expect("it starts").success(), "{test}");
}

/// Where the server is, in a process that has keys.
fn proxy() -> Option<Proxy> {
    Some(Proxy::to(&std::env::var(SERVER).ok()?))
}

fn open(data: &DataDir, proxy: &Proxy, prefix: &str) -> Result<CheckpointStore, StateError> {
    let options = StoreOptions {
        bucket: Some(BucketOptions {
            url: format!("s3://{BUCKET}/{prefix}"),
            endpoint: proxy.url.clone(),
            region: String::new(),
            timeout: seconds(3),
            takeover: seconds(3),
        }),
        ..StoreOptions::default()
    };
    CheckpointStore::open(data, &options)
}

fn data(home: &Path) -> DataDir {
    DataDir::open(home).expect("it is ours")
}

fn rows(count: u64, width: usize) -> Vec<Row> {
    let row = |key| Row {
        key,
        text: format!("{key:->width$}"),
    };
    (0..count).map(row).collect()
}

fn publish(
    store: &CheckpointStore,
    epoch: u64,
    rows: &[Row],
) -> Result<CheckpointInfo, StateError> {
    let batch = to_batch(rows).expect("they can be columns");
    let writer = store.begin(epoch, 1)?;
    for worker in 0..3 {
        writer.write_segment(NAME, worker, &batch)?;
    }
    writer.publish(Manifest {
        boundaries: [(NAME.to_owned(), BoundaryState::default())].into(),
        ..Manifest::default()
    })
}

fn read(store: &CheckpointStore) -> Vec<Row> {
    let found = store.newest_valid().expect("it can be read");
    let batches = found.expect("it is there").load(NAME).expect("it is whole");
    let rows = batches.iter().map(from_batch::<Row>);
    rows.flat_map(|rows| rows.expect("they are rows")).collect()
}

#[test]
fn a_long_segment_goes_up_in_parts() {
    let Some(server) = S3::start() else { return };
    with_keys(&server, "parts");
    let segments = server.keys("parts/segments/");
    assert_eq!(segments.len(), 3, "{segments:?}");
    assert!(server.get(&segments[0]).len() > 20 << 20);
}

/// The test above runs it with keys; by itself it does nothing.
#[test]
fn parts() {
    let Some(proxy) = proxy() else { return };
    let home = tempfile::tempdir().expect("a place for the test");
    let data = data(home.path());
    let store = open(&data, &proxy, "parts").expect("it is nobody's");
    let rows = rows(20_000, 1100);
    publish(&store, 1, &rows).expect("all of it is there");
    assert_eq!(read(&store), [rows.clone(), rows.clone(), rows].concat());
}

#[test]
fn a_prefix_has_one_owner() {
    let Some(server) = S3::start() else { return };
    with_keys(&server, "owners");
    // Of the signs of life the newest is left.
    assert_eq!(server.keys("own/owner/").len(), 1);
}

/// The test above runs it with keys; by itself it does nothing.
#[test]
fn owners() {
    let Some(proxy) = proxy() else { return };
    let homes = [0, 1].map(|_| tempfile::tempdir().expect("a place for the test"));
    let [one, two] = [0, 1].map(|n: usize| data(homes[n].path()));
    let store = open(&one, &proxy, "own").expect("it is nobody's");
    publish(&store, 1, &rows(3, 3)).expect("it is ours");
    let refused = open(&two, &proxy, "own")
        .expect_err("it has an owner")
        .to_string();
    let id = std::process::id();
    assert!(
        refused.contains(&format!("s3://{BUCKET}/own/ are those of process {id} on")),
        "{refused}"
    );
    // Its directory says that whoever had it is dead.
    let again = open(&one, &proxy, "own").expect("it is this directory's");
    let refused = publish(&store, 2, &rows(3, 3)).expect_err("it has another owner");
    assert!(
        refused.to_string().contains("are those of process"),
        "{refused}"
    );
    publish(&again, 3, &rows(3, 3)).expect("it is ours");
    drop((store, again));
    let store = open(&two, &proxy, "own").expect("its owner has left");
    assert_eq!(store.list().expect("it can be listed").len(), 2);
    assert_eq!(store.verify(None).expect("it can be read"), []);
    assert_eq!(read(&store).len(), 9);
}

#[test]
fn a_bucket_that_fails_fails_a_checkpoint_and_no_more() {
    let Some(server) = S3::start() else { return };
    with_keys(&server, "faults");
    // Nothing is left of what failed.
    let segments = server.keys("faults/segments/");
    assert_eq!(segments.len(), 6, "{segments:?}");
}

/// The test above runs it with keys; by itself it does nothing.
#[test]
fn faults() {
    let Some(proxy) = proxy() else { return };
    let home = tempfile::tempdir().expect("a place for the test");
    let data = data(home.path());
    let store = open(&data, &proxy, "faults").expect("it is nobody's");
    let rows = rows(10, 10);
    let mut epoch = 0;
    for fault in [Fault::Busy(4), Fault::Cut(4), Fault::Down, Fault::Silent] {
        epoch += 1;
        let landed = proxy.landed();
        proxy.fail(fault);
        let published = publish(&store, epoch, &rows);
        assert!(proxy.landed() > landed, "{fault:?}");
        proxy.fail(Fault::None);
        if matches!(fault, Fault::Busy(_) | Fault::Cut(_)) {
            published.expect("it is tried again");
        } else {
            let said = published.expect_err("nothing arrives").to_string();
            assert!(said.contains(&format!("s3://{BUCKET}/faults/")), "{said}");
        }
    }
    publish(&store, 9, &rows).expect("it is back");
    let listed = store.list().expect("it can be listed");
    assert_eq!(listed.iter().map(|it| it.epoch).collect::<Vec<_>>(), [9, 2]);
    assert_eq!(store.verify(None).expect("it can be read"), []);
    assert_eq!(read(&store).len(), 30);
}
