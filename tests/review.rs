//! Throwaway harness of a sceptical review: each test passes only once its finding is fixed.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use waterclock::prelude::*;
use waterclock::query::{Catalog, Overrides};
use waterclock::record::{Chunk, Format, Positions, Span};
use waterclock::source::{Partition, Source, SourceError, Wake};
use waterclock::state::DataDir;
use waterclock::view::{CheckpointInfo, Checkpoints, History, KeyRange};
use waterclock::worker::live::{Live, LiveOptions, Work};
use waterclock::worker::replay::Replay;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ev {
    k: Text,
    v: i64,
    at: Timestamp,
}
impl Event for Ev {
    const STREAM: &'static str = "ev";
    const LATENESS: Duration = seconds(0);
    fn time(&self) -> Timestamp {
        self.at
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Other {
    k: Text,
    v: i64,
    at: Timestamp,
}
impl Event for Other {
    const STREAM: &'static str = "other";
    const LATENESS: Duration = seconds(0);
    fn time(&self) -> Timestamp {
        self.at
    }
}

fn count10(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Ev>()
        .key_by(|e| e.k.clone())
        .window(tumbling(seconds(10)))
        .count()
}
fn count60(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Ev>()
        .key_by(|e| e.k.clone())
        .window(tumbling(seconds(60)))
        .count()
}
fn sliding_one(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Ev>()
        .key_by(|e| e.k.clone())
        .window(sliding(seconds(20)).every(seconds(10)))
        .count()
}
fn sliding_two(flow: Flow) -> Table<(Text, Window), u64> {
    let others = flow.stream::<Other>().map(|o| (o.k.clone(), o.v));
    flow.stream::<Ev>()
        .map(|e| (e.k.clone(), e.v))
        .union(others)
        .key_by(|e| e.0.clone())
        .window(sliding(seconds(20)).every(seconds(10)))
        .count()
}
fn mean(flow: Flow) -> Table<(Text, Window), Float> {
    flow.stream::<Ev>()
        .key_by(|e| e.k.clone())
        .window(tumbling(seconds(10)))
        .avg(|e| if e.v == 13 { panic!("unlucky") } else { e.v })
}
fn least(flow: Flow) -> Table<(Text, Window), i64> {
    flow.stream::<Ev>()
        .key_by(|e| e.k.clone())
        .window(tumbling(seconds(10)))
        .min(|e| if e.v == 13 { panic!("unlucky") } else { e.v })
}
fn total(flow: Flow) -> Table<(Text, Window), i128> {
    flow.stream::<Ev>()
        .key_by(|e| e.k.clone())
        .window(tumbling(seconds(10)))
        .sum(|e| if e.v == 13 { panic!("unlucky") } else { e.v })
}

type Texts = Arc<Mutex<Vec<Vec<u8>>>>;

#[derive(Clone)]
struct Feed {
    stream: &'static str,
    partitions: Texts,
    wake: Arc<Mutex<Option<Wake>>>,
    fail_at: Option<u64>,
}
impl Feed {
    fn new(stream: &'static str, partitions: usize) -> Feed {
        Feed {
            stream,
            partitions: Arc::new(Mutex::new(vec![Vec::new(); partitions])),
            wake: Arc::default(),
            fail_at: None,
        }
    }
    fn push(&self, partition: usize, text: &str) {
        let mut all = self.partitions.lock().unwrap();
        all[partition].extend_from_slice(text.as_bytes());
        all[partition].push(b'\n');
        drop(all);
        if let Some(wake) = &*self.wake.lock().unwrap() {
            wake();
        }
    }
}
impl Source for Feed {
    fn stream(&self) -> &str {
        self.stream
    }
    fn partitions(&mut self) -> Result<Vec<Partition>, SourceError> {
        let all = self.partitions.lock().unwrap();
        Ok((0..)
            .zip(all.iter())
            .map(|(id, b): (u32, &Vec<u8>)| Partition {
                id,
                first: 0,
                end: b.len() as u64,
            })
            .collect())
    }
    fn read(
        &mut self,
        partition: u32,
        position: u64,
        max_bytes: usize,
        until: Option<u64>,
    ) -> Result<Option<Chunk>, SourceError> {
        let all = self.partitions.lock().unwrap();
        let bytes = &all[partition as usize];
        let last = until.map_or(bytes.len(), |u| (u as usize).min(bytes.len()));
        let rest = &bytes[position as usize..last];
        if rest.is_empty() {
            return Ok(None);
        }
        if self.fail_at.is_some_and(|at| position >= at) {
            return Err(SourceError::Damaged {
                stream: self.stream.to_owned(),
                object: "it".to_owned(),
                detail: "broken".to_owned(),
            });
        }
        let mut end = rest.iter().position(|b| *b == b'\n').unwrap() + 1;
        while end < rest.len() {
            let next = end + rest[end..].iter().position(|b| *b == b'\n').unwrap() + 1;
            if next > max_bytes {
                break;
            }
            end = next;
        }
        Ok(Some(Chunk {
            partition,
            start: position,
            end: position + end as u64,
            format: Format::Ndjson,
            positions: Positions::Bytes,
            bytes: Arc::from(&rest[..end]),
            spans: vec![Span {
                first: position,
                offset: 0,
                len: end,
                arrival: None,
            }],
        }))
    }
    fn origin(&self, _partition: u32) -> String {
        "memory".to_owned()
    }

    fn on_arrival(&mut self, wake: Wake) {
        *self.wake.lock().unwrap() = Some(wake);
    }
    fn release(&mut self, _: u32, _: u64) -> Result<(), SourceError> {
        Ok(())
    }
}

struct Up {
    live: Live,
}
static WALL: AtomicI64 = AtomicI64::new(1_000_000);

fn start_with(dir: &std::path::Path, q: Query, o: &Overrides, feeds: &[Feed]) -> Up {
    start_idle(dir, q, o, feeds, Duration::from_secs(3600))
}
fn start_idle(
    dir: &std::path::Path,
    q: Query,
    o: &Overrides,
    feeds: &[Feed],
    idle: Duration,
) -> Up {
    let catalog = Catalog::of(std::slice::from_ref(&q), o).unwrap();
    let sources = feeds
        .iter()
        .cloned()
        .map(|f| -> Box<dyn Source> { Box::new(f) })
        .collect();
    let options = LiveOptions {
        workers: 2,
        heartbeat: Duration::from_millis(20),
        max_in_flight: 1 << 20,
        idle_timeout: idle,
        max_ahead: Duration::from_secs(3600),
        snapshot_interval: Duration::from_secs(3600),
        retain: 2,
        history: History::default(),
        poison: BTreeMap::new(),
    };
    let clock = Arc::new(|| Timestamp(WALL.fetch_add(1, Ordering::Relaxed)));
    let data = DataDir::open(dir).unwrap();
    let work = Work {
        queries: vec![q],
        catalog,
        sources,
        data,
        clock,
    };
    let live = Live::start(work, options, |e| eprintln!("FAILED {e}")).unwrap();
    Up { live }
}
impl Up {
    fn until(&self, what: &str, ok: impl Fn(&Up) -> bool) {
        for _ in 0..400 {
            if self.live.views.is_ready() && ok(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("never: {what}; rows {:?}", self.rows());
    }
    fn read_all(&self, feeds: &[Feed]) {
        self.until("read", |up| {
            let labels = up.live.views.upper().unwrap();
            feeds.iter().all(|f| {
                let all = f.partitions.lock().unwrap();
                let l = labels.streams.get(f.stream);
                all.iter().enumerate().all(|(i, b)| {
                    b.is_empty()
                        || l.and_then(|l| l.partitions.get(&(i as u32)))
                            .is_some_and(|p| p.position == b.len() as u64)
                })
            })
        });
    }
    fn rows(&self) -> Vec<String> {
        let Some(upper) = self.live.views.upper() else {
            return vec![];
        };
        let view = self.live.views.queries().next().unwrap();
        let page = view
            .read(upper.epoch, &KeyRange::all(), None, 10_000, None)
            .unwrap();
        page.rows
            .iter()
            .map(|(r, n)| format!("{} {} x{n}", r.key, r.value))
            .collect()
    }
    fn checkpoint(&self) -> Result<CheckpointInfo, String> {
        let (tx, rx) = channel();
        self.live.take(Box::new(move |r| tx.send(r).unwrap()));
        rx.recv_timeout(Duration::from_secs(5))
            .map_err(|e| e.to_string())?
    }
}

fn ev(k: &str, v: i64, at_s: i64) -> String {
    format!(r#"{{"k":"{k}","v":{v},"at":{}}}"#, at_s * 1000)
}

#[test]
fn a_checkpoint_succeeds_after_a_rejected_record() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::new("ev", 1);
    let q = || Query::new("q", "", count10);
    let up = start_with(dir.path(), q(), &Overrides::default(), &[feed.clone()]);
    feed.push(0, "nonsense");
    feed.push(0, &ev("a", 1, 100));
    feed.push(0, &ev("a", 1, 1));
    up.read_all(&[feed.clone()]);
    assert_eq!(up.live.views.rejected("ev").unwrap().total(), 1);
    assert_eq!(up.live.views.late("q").unwrap().total(), 1);
    let taken = up.checkpoint();
    assert!(taken.is_ok(), "{taken:?}");
    up.live.stop();
    drop(up);
    let up = start_with(dir.path(), q(), &Overrides::default(), &[feed.clone()]);
    up.until("ready", |_| true);
    assert_eq!(up.live.views.rejected("ev").unwrap().total(), 1);
    assert_eq!(up.live.views.late("q").unwrap().total(), 1);
    up.live.stop();
}

#[test]
fn a_longer_lateness_bound_does_not_reopen_windows() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::new("ev", 1);
    let q = || Query::new("q", "", count10);
    let up = start_with(dir.path(), q(), &Overrides::default(), &[feed.clone()]);
    feed.push(0, &ev("a", 1, 5));
    feed.push(0, &ev("a", 1, 6));
    feed.push(0, &ev("a", 1, 35));
    up.read_all(&[feed.clone()]);
    up.live.stop();
    drop(up);
    let mut o = Overrides::default();
    o.lateness
        .insert("ev".to_owned(), Duration::from_secs(3600));
    let up = start_with(dir.path(), q(), &o, &[feed.clone()]);
    up.until("ready", |_| true);
    feed.push(0, &ev("a", 1, 7));
    up.read_all(&[feed.clone()]);
    let rows = up.rows();
    assert_eq!(rows.len(), 2, "{rows:?}");
    up.live.stop();
}

#[test]
fn a_shorter_lateness_bound_loses_no_open_window() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::new("ev", 1);
    let q = || Query::new("q", "", sliding_one);
    let mut o = Overrides::default();
    o.lateness
        .insert("ev".to_owned(), Duration::from_secs(3600));
    let up = start_with(dir.path(), q(), &o, &[feed.clone()]);
    feed.push(0, &ev("a", 1, 5));
    feed.push(0, &ev("a", 1, 100));
    up.read_all(&[feed.clone()]);
    let before = up.rows();
    up.live.stop();
    drop(up);
    let up = start_with(dir.path(), q(), &Overrides::default(), &[feed.clone()]);
    up.until("ready", |_| true);
    assert_eq!(up.rows(), before);
    up.live.stop();
}

#[test]
fn reading_one_more_stream_shows_no_window_twice() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::new("ev", 1);
    let up = start_with(
        dir.path(),
        Query::new("q", "", sliding_one),
        &Overrides::default(),
        &[feed.clone()],
    );
    feed.push(0, &ev("a", 1, 5));
    feed.push(0, &ev("a", 1, 12));
    up.read_all(&[feed.clone()]);
    let before = up.rows();
    up.live.stop();
    drop(up);
    let up = start_with(
        dir.path(),
        Query::new("q", "", sliding_two),
        &Overrides::default(),
        &[feed.clone(), Feed::new("other", 1)],
    );
    up.until("ready", |_| true);
    assert_eq!(up.rows(), before);
    up.live.stop();
}

#[test]
fn windows_of_another_size_are_not_read_as_these() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::new("ev", 1);
    let up = start_with(
        dir.path(),
        Query::new("q", "", count10),
        &Overrides::default(),
        &[feed.clone()],
    );
    feed.push(0, &ev("a", 1, 15));
    feed.push(0, &ev("a", 1, 45));
    up.read_all(&[feed.clone()]);
    up.live.stop();
    drop(up);
    let up = start_with(
        dir.path(),
        Query::new("q", "", count60),
        &Overrides::default(),
        &[feed.clone()],
    );
    up.until("ready", |_| true);
    let rows = up.rows();
    assert!(
        !rows
            .iter()
            .any(|r| r.contains(r#""start":10000,"end":70000"#)),
        "{rows:?}"
    );
    up.live.stop();
}

#[test]
fn a_removed_partition_does_not_hold_the_watermark_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let two = Feed::new("ev", 2);
    let q = || Query::new("q", "", count10);
    let idle = Duration::from_millis(200);
    let up = start_with(dir.path(), q(), &Overrides::default(), &[two.clone()]);
    two.push(0, &ev("a", 1, 5));
    two.push(1, &ev("a", 1, 6));
    up.read_all(&[two.clone()]);
    up.live.stop();
    drop(up);
    two.partitions.lock().unwrap().truncate(1);
    let up = start_idle(dir.path(), q(), &Overrides::default(), &[two.clone()], idle);
    up.until("ready", |_| true);
    let mut at = 50;
    up.until("the watermark moves", |up| {
        at_push(&two, &mut { at });
        let labels = up.live.views.upper().unwrap();
        labels.streams["ev"].watermark > Some(Timestamp(10_000))
    });
    at += 1;
    let _ = at;
    up.live.stop();
}
fn at_push(feed: &Feed, at: &mut i64) {
    feed.push(0, &ev("a", 1, *at));
}

#[test]
fn a_time_of_year_one_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::new("ev", 1);
    let q = || Query::new("q", "", count10);
    let mut o = Overrides::default();
    o.lateness
        .insert("ev".to_owned(), Duration::from_secs(3600));
    let up = start_with(dir.path(), q(), &o, &[feed.clone()]);
    feed.push(0, r#"{"k":"a","v":1,"at":"0001-01-01 00:00:00"}"#);
    up.read_all(&[feed.clone()]);
    let before = up.rows();
    up.live.stop();
    drop(up);
    let up = start_with(dir.path(), q(), &o, &[feed.clone()]);
    up.until("ready", |_| true);
    assert_eq!(up.rows(), before);
    up.live.stop();
}

fn lines(all: &[String]) -> String {
    all.join("\n")
}

#[test]
fn a_record_rejected_by_avg_leaves_no_trace() {
    let text = lines(&[ev("a", 2, 1), ev("a", 13, 2), ev("a", 4, 3), ev("z", 2, 99)]);
    let rows = waterclock::testing::batch(Query::new("q", "", mean), &[("ev", &text)]);
    assert!(rows[0].contains(r#""value":3.0"#), "{rows:?}");
}

#[test]
fn a_record_rejected_by_sum_makes_no_row() {
    let text = lines(&[ev("a", 13, 2), ev("z", 2, 99)]);
    let rows = waterclock::testing::batch(Query::new("q", "", total), &[("ev", &text)]);
    assert_eq!(rows.len(), 1, "{rows:?}");
}

#[test]
fn a_record_rejected_by_min_does_not_end_the_service() {
    let text = lines(&[ev("a", 13, 2), ev("z", 2, 99)]);
    let rows = waterclock::testing::batch(Query::new("q", "", least), &[("ev", &text)]);
    assert_eq!(rows.len(), 1, "{rows:?}");
}

#[test]
fn a_source_that_breaks_ends_the_replay() {
    let feed = Feed {
        fail_at: Some(60),
        ..Feed::new("ev", 1)
    };
    for i in 0..10 {
        feed.push(0, &ev("a", 1, i));
    }
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        let q = Query::new("q", "", count10);
        let catalog = Catalog::of(std::slice::from_ref(&q), &Overrides::default()).unwrap();
        let mut replay = Replay::new(q, catalog, vec![Box::new(feed)]);
        replay.split_bytes = 1;
        tx.send(replay.run().is_err()).unwrap();
    });
    assert_eq!(rx.recv_timeout(Duration::from_secs(10)), Ok(true), "hangs");
}

/// Journalled epochs and no checkpoint, so that a start replays them all.
fn journalled(dir: &std::path::Path, feed: &Feed, epochs: i64) {
    let q = Query::new("q", "", count10);
    let up = start_with(dir, q, &Overrides::default(), &[feed.clone()]);
    for at in 0..epochs {
        feed.push(0, &ev("a", 1, at));
        up.read_all(&[feed.clone()]);
    }
    up.live.stop();
    let checkpoints = dir.join("checkpoints");
    std::fs::remove_dir_all(&checkpoints).unwrap();
    std::fs::create_dir(&checkpoints).unwrap();
}

#[test]
fn told_to_stop_while_it_replays_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::new("ev", 1);
    journalled(dir.path(), &feed, 100);
    let q = Query::new("q", "", count10);
    let up = start_with(dir.path(), q, &Overrides::default(), &[feed.clone()]);
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        up.live.stop();
        tx.send(()).unwrap();
    });
    assert_eq!(rx.recv_timeout(Duration::from_secs(10)), Ok(()), "hangs");
}

#[test]
fn a_journal_that_cannot_be_replayed_ends_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let mut feed = Feed::new("ev", 1);
    journalled(dir.path(), &feed, 20);
    feed.fail_at = Some(0);
    let q = Query::new("q", "", count10);
    let catalog = Catalog::of(std::slice::from_ref(&q), &Overrides::default()).unwrap();
    let (tx, rx) = channel();
    let options = LiveOptions {
        workers: 2,
        heartbeat: Duration::from_millis(20),
        max_in_flight: 1 << 20,
        idle_timeout: Duration::from_secs(3600),
        max_ahead: Duration::from_secs(3600),
        snapshot_interval: Duration::from_secs(3600),
        retain: 2,
        history: History::default(),
        poison: BTreeMap::new(),
    };
    let clock = Arc::new(|| Timestamp(WALL.fetch_add(1, Ordering::Relaxed)));
    let data = DataDir::open(dir.path()).unwrap();
    let work = Work {
        queries: vec![q],
        catalog,
        sources: vec![Box::new(feed)],
        data,
        clock,
    };
    let _live = Live::start(work, options, move |e| tx.send(e).unwrap()).unwrap();
    let said = rx.recv_timeout(Duration::from_secs(10));
    assert!(said.is_ok(), "hangs");
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Item {
    k: Text,
    at: Timestamp,
}
impl Event for Item {
    const STREAM: &'static str = "items";
    const LATENESS: Duration = seconds(0);
    fn time(&self) -> Timestamp {
        self.at
    }
}
impl Entity for Item {
    type Key = Text;
    fn key(&self) -> Text {
        self.k.clone()
    }
}
fn joined(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Ev>()
        .map(|e| (e.k.clone(), e.v))
        .key_by(|e| e.0.clone())
        .as_of::<Item>(hours(5))
        .key_by(|r| r.0.0.clone())
        .window(tumbling(seconds(1000)))
        .count()
}

#[test]
fn waiting_records_of_an_as_of_join_survive_a_shorter_lateness_bound() {
    let dir = tempfile::tempdir().unwrap();
    let (feed, items) = (Feed::new("ev", 1), Feed::new("items", 1));
    let all = [feed.clone(), items.clone()];
    let q = || Query::new("q", "", joined);
    let mut o = Overrides::default();
    o.lateness
        .insert("ev".to_owned(), Duration::from_secs(3600));
    o.lateness
        .insert("items".to_owned(), Duration::from_secs(3600));
    let up = start_with(dir.path(), q(), &o, &all);
    items.push(0, r#"{"k":"a","at":1000}"#);
    items.push(0, r#"{"k":"b","at":200000}"#);
    feed.push(0, &ev("a", 1, 50));
    feed.push(0, &ev("z", 1, 200));
    up.read_all(&all);
    up.live.stop();
    drop(up);
    let up = start_with(dir.path(), q(), &Overrides::default(), &all);
    up.until("ready", |_| true);
    feed.push(0, &ev("y", 1, 300));
    items.push(0, r#"{"k":"b","at":400000}"#);
    up.read_all(&all);
    let rows = up.rows();
    assert!(rows.iter().any(|r| r.starts_with(r#"["a""#)), "{rows:?}");
    up.live.stop();
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Temp {
    v: f64,
    at: Timestamp,
}
impl Event for Temp {
    const STREAM: &'static str = "temps";
    fn time(&self) -> Timestamp {
        self.at
    }
}
fn hottest(flow: Flow) -> Table<(Text, Window), Float> {
    flow.stream::<Temp>()
        .key_by(|_| Text::from("all"))
        .window(tumbling(seconds(10)))
        .max(|t| Float(t.v))
}

#[test]
fn csv_without_numbers_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    std::fs::write(&path, "v,at\n1.5,1000\nNaN,2000\ninf,3000\n").unwrap();
    let source =
        waterclock::source::file::FileSource::open("temps", &[path], Default::default()).unwrap();
    let q = Query::new("q", "", hottest);
    let catalog = Catalog::of(std::slice::from_ref(&q), &Overrides::default()).unwrap();
    let done = Replay::new(q, catalog, vec![Box::new(source)])
        .run()
        .unwrap();
    let rows: Vec<_> = done.rows.iter().map(|(r, _)| r.value.to_string()).collect();
    assert_eq!((done.rejected, rows), (2, vec!["1.5".to_owned()]));
}

#[test]
fn an_idle_service_does_not_fill_its_disk() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::new("ev", 1);
    let q = Query::new("q", "", count10);
    let catalog = Catalog::of(std::slice::from_ref(&q), &Overrides::default()).unwrap();
    let options = LiveOptions {
        workers: 1,
        heartbeat: Duration::from_millis(1),
        max_in_flight: 1 << 20,
        idle_timeout: Duration::from_secs(3600),
        max_ahead: Duration::from_secs(3600),
        snapshot_interval: Duration::from_millis(20),
        retain: 2,
        history: History::default(),
        poison: BTreeMap::new(),
    };
    let clock = Arc::new(|| Timestamp(WALL.fetch_add(1, Ordering::Relaxed)));
    let data = DataDir::open(dir.path()).unwrap();
    let work = Work {
        queries: vec![q],
        catalog,
        sources: vec![Box::new(feed)],
        data,
        clock,
    };
    let live = Live::start(work, options, |_| {}).unwrap();
    std::thread::sleep(Duration::from_secs(20));
    let bytes: u64 = std::fs::read_dir(dir.path().join("journal"))
        .unwrap()
        .map(|f| f.unwrap().metadata().unwrap().len())
        .sum();
    live.stop();
    assert!(bytes < 1_300_000, "{bytes} bytes of heartbeats");
}

struct Rng(u64);
impl Rng {
    fn next(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

macro_rules! shaped {
    ($name:ident, $size:expr, $slide:expr, $offset:expr, $allowed:expr) => {
        fn $name(flow: Flow) -> Table<(Text, Window), u64> {
            flow.stream::<Ev>()
                .key_by(|e| e.k.clone())
                .window(
                    sliding(millis($size))
                        .every(millis($slide))
                        .offset(millis($offset))
                        .allowed_lateness(millis($allowed)),
                )
                .count()
        }
    };
}
shaped!(s1, 5000, 2000, 0, 0);
shaped!(s2, 1600, 700, 300, 500);
shaped!(s3, 3000, 7000, 1000, 0);
shaped!(s4, 4000, 4000, 0, 3000);
shaped!(s5, 4000, 4000, 500, 0);
shaped!(s6, 6000, 1000, 0, 1500);

fn naive(parts: &[Vec<(String, i64)>], shape: (i64, i64, i64, i64)) -> (Vec<String>, u64) {
    let (size, slide, offset, allowed) = shape;
    let mut counts: BTreeMap<(String, i64), u64> = BTreeMap::new();
    let mut late = 0;
    for part in parts {
        let mut wm = i64::MIN;
        for (k, t) in part {
            let mut start = (t - offset).div_euclid(slide) * slide + offset;
            let (mut held, mut taken) = (0, 0);
            while start + size > *t {
                held += 1;
                if wm < start + size - 1 + allowed {
                    *counts.entry((k.clone(), start)).or_default() += 1;
                    taken += 1;
                }
                start -= slide;
            }
            late += u64::from(held > 0 && taken == 0);
            wm = wm.max(*t);
        }
    }
    let rows = counts
        .into_iter()
        .map(|((k, s), n)| format!("[\"{k}\",{{\"start\":{s},\"end\":{}}}] {n} x1", s + size))
        .collect();
    (rows, late)
}

#[test]
fn windows_equal_a_naive_count() {
    type Build = for<'s> fn(Flow<'s>) -> Table<'s, (Text, Window), u64>;
    let shapes: [(Build, (i64, i64, i64, i64)); 6] = [
        (s1, (5000, 2000, 0, 0)),
        (s2, (1600, 700, 300, 500)),
        (s3, (3000, 7000, 1000, 0)),
        (s4, (4000, 4000, 0, 3000)),
        (s5, (4000, 4000, 500, 0)),
        (s6, (6000, 1000, 0, 1500)),
    ];
    let mut rng = Rng(0x1234_5678_9abc_def1);
    for round in 0..24 {
        let (build, shape) = shapes[round % shapes.len()];
        let mut parts = Vec::new();
        for _ in 0..3 {
            let mut now = -20_000;
            let mut part = Vec::new();
            for _ in 0..120 {
                now += rng.next(700) as i64;
                let t = now - rng.next(9000) as i64;
                part.push((["a", "b", "c"][rng.next(3) as usize].to_owned(), t));
            }
            parts.push(part);
        }
        let (mut expected, late) = naive(&parts, shape);
        let q = || Query::new("q", "", build);
        let line = |(k, t): &(String, i64)| format!(r#"{{"k":"{k}","v":1,"at":{t}}}"#);
        // Replay.
        for (workers, split) in [(1, 1 << 20), (3, 100)] {
            let feed = Feed::new("ev", 3);
            for (p, part) in parts.iter().enumerate() {
                part.iter().for_each(|e| feed.push(p, &line(e)));
            }
            let catalog = Catalog::of(&[q()], &Overrides::default()).unwrap();
            let mut replay = Replay::new(q(), catalog, vec![Box::new(feed)]);
            (replay.workers, replay.split_bytes) = (workers, split);
            let done = replay.run().unwrap();
            let mut rows: Vec<String> = (done.rows.iter())
                .map(|(r, n)| format!("{} {} x{n}", r.key, r.value))
                .collect();
            rows.sort();
            expected.sort();
            assert_eq!(rows, expected, "replay {round} {shape:?}");
            assert_eq!(done.late, late, "replay {round} {shape:?}");
        }
        // Live, with two restarts.
        let dir = tempfile::tempdir().unwrap();
        let feed = Feed::new("ev", 3);
        let mut next = [0; 3];
        for stage in 0..3 {
            let up = start_with(dir.path(), q(), &Overrides::default(), &[feed.clone()]);
            up.until("ready", |_| true);
            let until = [40, 80, 120][stage];
            let mut n = 0;
            while next.iter().any(|n| *n < until) {
                let p = rng.next(3) as usize;
                if next[p] < until {
                    feed.push(p, &line(&parts[p][next[p]]));
                    next[p] += 1;
                    n += 1;
                }
                if n % 7 == 0 {
                    up.read_all(&[feed.clone()]);
                }
                if n == 60 {
                    // No late record yet may stand in its way.
                    let _ = up.checkpoint();
                }
            }
            up.read_all(&[feed.clone()]);
            if stage == 2 {
                let mut rows = up.rows();
                rows.sort();
                assert_eq!(rows, expected, "live {round} {shape:?}");
            }
            up.live.stop();
        }
    }
}
