//! The live service over its own files: what a restart finds, and that nothing makes it hang.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::{Duration, Instant};

use sales::{Sale, per_shop, sale, written};
use waterclock::prelude::*;
use waterclock::query::{Catalog, Overrides};
use waterclock::record::Chunk;
use waterclock::source::{Partition, Source, SourceError, Wake};
use waterclock::state::{CheckpointStore, DataDir, StoreOptions};
use waterclock::testing::MemorySource;
use waterclock::time::Epoch;
use waterclock::view::{CheckpointInfo, Checkpoints, History, KeyRange, View};
use waterclock::worker::Start;
use waterclock::worker::live::{Live, LiveOptions, Work};

#[path = "live/leaving.rs"]
mod leaving;
#[path = "support/sales.rs"]
mod sales;

/// How long anything may take before the test has failed; generous, because machines are shared.
const PATIENCE: Duration = Duration::from_secs(60);

const NEVER: Duration = Duration::from_secs(100 * 3600);

const NAME: &str = "sales_per_shop";

/// A stream of sales that grows in memory; its clones are the same stream.
#[derive(Clone)]
struct Feed {
    partitions: Arc<Mutex<Vec<String>>>,
    wake: Arc<Mutex<Option<Wake>>>,
}

impl Feed {
    fn new(partitions: usize) -> Feed {
        Feed {
            partitions: Arc::new(Mutex::new(vec![String::new(); partitions])),
            wake: Arc::default(),
        }
    }

    fn push(&self, partition: usize, line: &str) {
        let mut partitions = self.partitions.lock().unwrap();
        partitions[partition].push_str(line);
        partitions[partition].push('\n');
        drop(partitions);
        if let Some(wake) = &*self.wake.lock().unwrap() {
            wake();
        }
    }

    /// Drops all partitions but so many.
    fn truncate(&self, partitions: usize) {
        self.partitions.lock().unwrap().truncate(partitions);
    }

    /// The position after the last record of each partition.
    fn ends(&self) -> Vec<u64> {
        let partitions = self.partitions.lock().unwrap();
        partitions.iter().map(|text| text.len() as u64).collect()
    }

    fn now(&self) -> MemorySource {
        let partitions = self.partitions.lock().unwrap();
        let texts: Vec<&str> = partitions.iter().map(String::as_str).collect();
        MemorySource::new(Sale::STREAM, &texts)
    }
}

impl Source for Feed {
    fn stream(&self) -> &str {
        Sale::STREAM
    }

    fn partitions(&mut self) -> Result<Vec<Partition>, SourceError> {
        self.now().partitions()
    }

    fn read(
        &mut self,
        partition: u32,
        position: u64,
        max_bytes: usize,
        until: Option<u64>,
    ) -> Result<Option<Chunk>, SourceError> {
        self.now().read(partition, position, max_bytes, until)
    }

    fn origin(&self, _partition: u32) -> String {
        "memory".to_owned()
    }

    fn on_arrival(&mut self, wake: Wake) {
        *self.wake.lock().unwrap() = Some(wake);
    }
}

/// What a test hears of a service: an epoch was shown, or why it cannot go on.
type News = Result<Epoch, String>;

struct Service {
    live: Live,
    feed: Feed,
    news: Receiver<News>,
}

/// Two workers, many epochs, and no checkpoint that is not asked for.
fn options() -> LiveOptions {
    LiveOptions {
        workers: 2,
        heartbeat: Duration::from_millis(5),
        max_in_flight: 1 << 20,
        idle_timeout: NEVER,
        max_ahead: NEVER,
        snapshot_interval: NEVER,
        history: History::default(),
        poison: BTreeMap::new(),
        max_drift: BTreeMap::new(),
    }
}

fn start_of(home: &Path) -> Start {
    let data = DataDir::open(home).unwrap();
    let store = CheckpointStore::open(&data, &StoreOptions::default()).unwrap();
    Start::choose(data, store, &[]).unwrap()
}

fn start(home: &Path, feed: &Feed) -> Service {
    start_with(home, feed, &Overrides::default(), options())
}

fn start_with(home: &Path, feed: &Feed, overrides: &Overrides, options: LiveOptions) -> Service {
    let queries = vec![Query::new(NAME, "", per_shop)];
    start_queries(home, feed, queries, overrides, options)
}

fn start_queries(
    home: &Path,
    feed: &Feed,
    queries: Vec<Query>,
    overrides: &Overrides,
    options: LiveOptions,
) -> Service {
    let work = Work {
        catalog: Catalog::of(&queries, overrides).unwrap(),
        queries,
        sources: vec![Box::new(feed.clone())],
        sinks: Vec::new(),
        start: start_of(home),
        // Epochs that do not follow the clock follow each other.
        clock: Arc::new(|| Timestamp(0)),
    };
    let (tell, news): (Sender<News>, _) = channel();
    let shown = tell.clone();
    let live = Live::start(work, options, move |why| drop(tell.send(Err(why)))).unwrap();
    let shown = Box::new(move |epoch| drop(shown.send(Ok(epoch))));
    live.views.on_publish(shown);
    Service {
        live,
        feed: feed.clone(),
        news,
    }
}

impl Service {
    /// Waits until it is ready and something holds, looking at each epoch it shows.
    #[allow(clippy::disallowed_methods, reason = "a test that hangs must end")]
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !(self.live.views.is_ready() && holds()) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.news.recv_timeout(left) {
                Ok(Ok(_)) if !left.is_zero() => {}
                Ok(Err(why)) => panic!("it stopped: {why}"),
                _ => panic!("waited in vain for {what}"),
            }
        }
    }

    fn until_ready(&self) {
        self.until("it to be ready", || true);
    }

    /// Waits until all that was pushed is read and shown.
    fn until_read(&self) {
        self.until("the records to be read", || {
            let ends = (0..).zip(self.feed.ends());
            let labels = self.live.views.upper().unwrap();
            let read = labels.streams.get(Sale::STREAM);
            let position = |id| Some(read?.partitions.get(&id)?.position);
            ends.into_iter().all(|(id, end)| position(id) == Some(end))
        });
    }

    /// Pushes records to the first partition, and waits for the answer.
    fn take(&self, lines: &[String]) {
        for line in lines {
            self.feed.push(0, line);
        }
        self.until_read();
    }

    fn watermark(&self) -> Option<Timestamp> {
        self.live.views.upper()?.streams[Sale::STREAM].watermark
    }

    fn epoch(&self) -> Epoch {
        self.live.views.upper().map_or(0, |labels| labels.epoch)
    }

    fn rows(&self) -> Vec<String> {
        let view = self.live.views.query(NAME).unwrap();
        let range = KeyRange::all();
        let page = view.read(self.epoch(), &range, None, 10_000, None).unwrap();
        let often = |n| i64::try_from(n).unwrap();
        let rows = page.rows.iter();
        let rows: Vec<_> = rows.map(|(row, n)| (row.clone(), often(*n))).collect();
        written(&rows)
    }

    /// How many records were rejected, and how many were late.
    fn refused(&self) -> (u64, u64) {
        let total = |view: Option<&Arc<View>>| view.unwrap().total();
        let views = &self.live.views;
        (total(views.rejected(Sale::STREAM)), total(views.late(NAME)))
    }

    fn checkpoint(&self) -> Result<CheckpointInfo, String> {
        self.labelled(None)
    }

    fn labelled(&self, label: Option<&str>) -> Result<CheckpointInfo, String> {
        let (done, taken) = channel();
        let hear = Box::new(move |result| drop(done.send(result)));
        self.live.take(label.map(str::to_owned), hear);
        taken.recv_timeout(PATIENCE).expect("it is taken, or fails")
    }

    /// Stops it, in bounded time.
    fn stop(self) {
        let (done, stopped) = channel();
        let stop = move || {
            self.live.stop();
            // A test that waited too long has failed.
            let _ = done.send(());
        };
        let thread = Builder::new().name("stop".to_owned()).spawn(stop);
        drop(thread.unwrap());
        stopped.recv_timeout(PATIENCE).expect("it stops");
    }
}

#[test]
fn a_service_goes_back_to_a_checkpoint_with_a_label() {
    let home = tempfile::tempdir().unwrap();
    let feed = Feed::new(1);
    let service = start(home.path(), &feed);
    let mut second = 0;
    let mut take = |service: &Service| {
        second += 1;
        service.take(&[sale("a", 1, second)]);
    };
    take(&service);
    let label = service.labelled(Some("before")).unwrap();
    // Far more of them than are kept, over restarts.
    for _ in 0..4 {
        take(&service);
        service.checkpoint().unwrap();
    }
    service.stop();
    let service = start(home.path(), &feed);
    service.until_ready();
    for _ in 0..4 {
        take(&service);
        service.checkpoint().unwrap();
    }
    let rows = service.rows();
    service.stop();
    let data = DataDir::open(home.path()).unwrap();
    let store = CheckpointStore::open(&data, &StoreOptions::default()).unwrap();
    let newer = store.list().unwrap();
    let newer = newer.iter().filter(|it| it.label.is_none());
    newer.for_each(|it| store.delete(it.epoch, false).unwrap());
    assert_eq!(store.list().unwrap(), std::slice::from_ref(&label));
    drop((store, data));
    // What came after it is run again.
    let service = start(home.path(), &feed);
    service.until_ready();
    assert_eq!(service.live.views.since(), Some(label.epoch));
    assert_eq!(service.rows(), rows);
    service.stop();
}

/// Forgets all checkpoints, so that a start reads the whole journal again.
fn forget_checkpoints(home: &Path) {
    let checkpoints = home.join("checkpoints");
    fs::remove_dir_all(&checkpoints).unwrap();
    fs::create_dir(&checkpoints).unwrap();
}

/// Leaves a journal of at least so many epochs, with a record each; its last epoch.
fn journalled(home: &Path, feed: &Feed, epochs: i64) -> Epoch {
    let service = start(home, feed);
    for second in 0..epochs {
        service.take(&[sale("a", 1, second)]);
    }
    let last = service.epoch();
    service.stop();
    forget_checkpoints(home);
    last
}

#[test]
fn a_checkpoint_holds_what_was_rejected_and_late() {
    let (home, feed) = (tempfile::tempdir().unwrap(), Feed::new(1));
    let service = start(home.path(), &feed);
    service.take(&["nonsense".to_owned(), sale("a", 1, 100), sale("a", 1, 1)]);
    assert_eq!(service.refused(), (1, 1));
    let taken = service.checkpoint().unwrap();
    assert_eq!(taken.epoch, service.live.list()[0].epoch);
    service.stop();

    let service = start(home.path(), &feed);
    service.until_ready();
    assert_eq!(service.refused(), (1, 1));
    service.stop();
}

#[test]
fn the_first_of_all_times_survives_a_restart() {
    let (home, feed) = (tempfile::tempdir().unwrap(), Feed::new(1));
    let mut overrides = Overrides::default();
    // The watermark lies before the first year.
    let hour = Duration::from_secs(3600);
    overrides.lateness.insert(Sale::STREAM.to_owned(), hour);
    let start = || start_with(home.path(), &feed, &overrides, options());
    let service = start();
    service.take(&[r#"{"shop":"a","amount":1,"at":"0001-01-01 00:00:00"}"#.to_owned()]);
    let before = (service.rows(), service.watermark());
    assert_eq!((before.0.len(), service.refused()), (1, (0, 0)));
    service.stop();

    let service = start();
    service.until_ready();
    assert_eq!((service.rows(), service.watermark()), before);
    service.stop();
}

#[test]
fn a_partition_that_is_gone_holds_the_watermark_until_it_is_idle() {
    let (home, feed) = (tempfile::tempdir().unwrap(), Feed::new(2));
    let service = start(home.path(), &feed);
    feed.push(0, &sale("a", 1, 5));
    feed.push(1, &sale("a", 1, 6));
    service.until_read();
    service.stop();

    feed.truncate(1);
    let service = start(home.path(), &feed);
    service.take(&[sale("a", 1, 50)]);
    assert_eq!(service.watermark(), Some(Timestamp(6_000)));
    service.stop();

    let options = LiveOptions {
        idle_timeout: Duration::from_millis(50),
        ..options()
    };
    let service = start_with(home.path(), &feed, &Overrides::default(), options);
    service.until("the watermark to move on", || {
        // Only silence is idle: the partition that is there goes on.
        feed.push(0, &sale("a", 1, 51));
        service.watermark() == Some(Timestamp(51_000))
    });
    service.stop();
}

#[test]
fn told_to_stop_in_the_middle_of_its_journal_it_stops() {
    let (home, feed) = (tempfile::tempdir().unwrap(), Feed::new(1));
    let last = journalled(home.path(), &feed, 100);
    let is_stopped_early = || {
        let service = start(home.path(), &feed);
        let views = Arc::clone(&service.live.views);
        service.stop();
        // Where it was too late, there is a checkpoint.
        forget_checkpoints(home.path());
        let shown = views.upper().map_or(0, |labels| labels.epoch);
        shown + 10 < last
    };
    assert!(
        (0..10).any(|_| is_stopped_early()),
        "it reads on to the end"
    );

    let service = start(home.path(), &feed);
    service.until_ready();
    assert_eq!(service.rows().len(), 10);
    service.stop();
}

#[test]
fn a_journal_whose_records_are_gone_ends_the_service() {
    let (home, feed) = (tempfile::tempdir().unwrap(), Feed::new(1));
    journalled(home.path(), &feed, 20);
    let service = start(home.path(), &Feed::new(1));
    let why = loop {
        match service.news.recv_timeout(PATIENCE).expect("it ends") {
            Ok(_) => assert!(!service.live.views.is_ready()),
            Err(why) => break why,
        }
    };
    assert!(
        why.starts_with("stream 'sales' partition 0: position"),
        "{why}"
    );
    service.stop();
}

#[test]
fn an_idle_service_takes_no_checkpoint_by_itself() {
    let (home, feed) = (tempfile::tempdir().unwrap(), Feed::new(1));
    let options = LiveOptions {
        snapshot_interval: Duration::ZERO,
        ..options()
    };
    let service = start_with(home.path(), &feed, &Overrides::default(), options);
    service.until("some epochs", || service.epoch() > 20);
    assert_eq!(service.live.list(), []);

    service.take(&[sale("a", 1, 1)]);
    service.until("a checkpoint", || !service.live.list().is_empty());
    service.stop();
}

#[test]
fn checkpoints_of_an_idle_service_free_its_journal() {
    let (home, feed) = (tempfile::tempdir().unwrap(), Feed::new(1));
    let service = start(home.path(), &feed);
    service.until_ready();
    let oldest = || {
        let files = fs::read_dir(home.path().join("journal")).unwrap();
        files.map(|file| file.unwrap().file_name()).min()
    };
    let first = oldest();
    // Two stand, an older one goes, and with the fourth all that the third did is done.
    for _ in 0..4 {
        service.checkpoint().unwrap();
    }
    assert_ne!(oldest(), first);
    assert_eq!(service.live.list().len(), 2);
    service.stop();
}
