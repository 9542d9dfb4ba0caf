//! Sinks of the live service: what they are sent over outages and restarts, and what an outage
//! does to the rest. The sink here is in memory; Kafka's is tested against Kafka.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sales::{Sale, per_shop, sale};
use waterclock::prelude::*;
use waterclock::query::{Catalog, Overrides};
use waterclock::sink::{Progress, Sink, SinkError};
use waterclock::source::Clock;
use waterclock::source::log::{EmbeddedLog, LogOptions, StreamDef};
use waterclock::state::{CheckpointStore, DataDir, StoreOptions};
use waterclock::time::Epoch;
use waterclock::view::{
    Checkpoints, History, Ingest, KeyRange, Message, Mode, PostRequest, SinkSpec, SinkStatus,
};
use waterclock::worker::live::{Live, LiveOptions, Work};
use waterclock::worker::{SinkPlan, Start};

#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/sales.rs"]
mod sales;

/// How long anything may take before the test has failed; generous, because machines are shared.
const PATIENCE: Duration = Duration::from_secs(60);

const NEVER: Duration = Duration::from_secs(100 * 3600);

const NAME: &str = "sales_per_shop";

/// A topic that outlives the services that send to it.
#[derive(Default)]
struct Topic {
    messages: Vec<(String, Option<String>)>,
    progress: Option<Progress>,
    is_down: bool,
}

#[derive(Clone, Default)]
struct Broker(Arc<Mutex<Topic>>);

impl Broker {
    fn set_down(&self, is_down: bool) {
        self.0.lock().unwrap().is_down = is_down;
    }

    /// Key and value of each message, shortly: `"a" 0 2` is shop a's count of 2 from second 0 on.
    fn said(&self) -> Vec<String> {
        let topic = self.0.lock().unwrap();
        topic.messages.iter().map(short).collect()
    }

    fn ask(&self) -> Result<std::sync::MutexGuard<'_, Topic>, SinkError> {
        let topic = self.0.lock().unwrap();
        if topic.is_down {
            return Err(SinkError::Retry("no broker".to_owned()));
        }
        Ok(topic)
    }
}

fn short((key, value): &(String, Option<String>)) -> String {
    let key: serde_json::Value = serde_json::from_str(key).unwrap();
    let value = value.as_ref().map_or(serde_json::Value::Null, |value| {
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        assert_eq!(value["key"], key);
        value["value"].clone()
    });
    let second = key[1]["start"].as_i64().map(|ms| ms / 1000);
    format!("{} {} {value}", key[0], second.unwrap_or_default())
}

impl Sink for Broker {
    fn open(&mut self) -> Result<Option<Progress>, SinkError> {
        Ok(self.ask()?.progress.clone())
    }

    fn commit(&mut self, messages: &[Message], progress: &Progress) -> Result<(), SinkError> {
        let mut topic = self.ask()?;
        let pair = |message: &Message| (message.key().to_owned(), message.value());
        topic.messages.extend(messages.iter().map(pair));
        topic.progress = Some(progress.clone());
        Ok(())
    }
}

type Build = for<'s> fn(Flow<'s>) -> Table<'s, (Text, Window), u64>;

/// How to start a service.
struct Setting<'a> {
    home: &'a Path,
    broker: Broker,
    query: Query,
    mode: Mode,
    buffer_bytes: usize,
    restarts: bool,
    has_sink: bool,
}

struct Service {
    live: Live,
    log: Arc<EmbeddedLog>,
}

impl<'a> Setting<'a> {
    fn new(home: &'a Path, broker: &Broker, mode: Mode) -> Setting<'a> {
        Setting {
            home,
            broker: broker.clone(),
            query: Query::new(NAME, "", per_shop as Build),
            mode,
            buffer_bytes: 1 << 20,
            restarts: false,
            has_sink: true,
        }
    }

    fn start(&self) -> Service {
        let query = self.query.clone();
        let catalog = Catalog::of(std::slice::from_ref(&query), &Overrides::default()).unwrap();
        let data = DataDir::open(self.home).unwrap();
        // Epochs that do not follow the clock follow each other.
        let clock: Clock = Arc::new(|| Timestamp(0));
        let def = StreamDef {
            name: Sale::STREAM.to_owned(),
            judge: Arc::new(|_, _| Ok(())),
        };
        let options = LogOptions::default();
        let log = EmbeddedLog::open(&data.log_path(), &[def], options, Arc::clone(&clock));
        let log = log.unwrap();
        let plan = SinkPlan {
            spec: SinkSpec {
                name: "out".to_owned(),
                query: NAME.to_owned(),
                topic: "sales".to_owned(),
                mode: self.mode,
                buffer_bytes: self.buffer_bytes,
                ..SinkSpec::default()
            },
            sink: Box::new(self.broker.clone()),
            interval: Duration::from_millis(1),
            restarts: self.restarts,
        };
        let sinks = if self.has_sink {
            vec![plan]
        } else {
            Vec::new()
        };
        let store = CheckpointStore::open(&data, &StoreOptions::default()).unwrap();
        let work = Work {
            queries: vec![query],
            catalog,
            sources: vec![Box::new(log.source(Sale::STREAM).unwrap())],
            start: Start::choose(data, store, &sinks).unwrap(),
            sinks,
            clock,
        };
        let options = LiveOptions {
            workers: 2,
            heartbeat: Duration::from_millis(5),
            max_in_flight: 1 << 20,
            idle_timeout: NEVER,
            max_ahead: NEVER * 1000,
            max_drift: BTreeMap::new(),
            snapshot_interval: NEVER,
            history: History::default(),
            poison: BTreeMap::new(),
        };
        let live = Live::start(work, options, |why| panic!("{why}")).unwrap();
        let service = Service { live, log };
        until("it to be ready", || service.live.views.is_ready());
        service
    }
}

/// Looks again and again until something holds, for a bounded time.
#[allow(clippy::disallowed_methods, reason = "a test that hangs must end")]
fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

impl Service {
    /// Posts sales together.
    fn post(&self, lines: &[String]) {
        let request = PostRequest {
            lines: lines.iter().map(|line| line.clone().into_bytes()).collect(),
            idempotency_key: None,
            digest: [0; 32],
        };
        let (done, answer) = channel();
        let reply = Box::new(move |answer| drop(done.send(answer)));
        self.log.post(Sale::STREAM, request, reply);
        answer.recv_timeout(PATIENCE).unwrap().unwrap();
    }

    /// Posts sales together, and waits until they are in the answer.
    fn take(&self, lines: &[String]) {
        self.post(lines);
        until("the records to be read", || self.has_read_all());
    }

    fn has_read_all(&self) -> bool {
        let end = self.log.end(Sale::STREAM).unwrap();
        let labels = self.live.views.upper().unwrap();
        let read = labels.streams.get(Sale::STREAM);
        read.and_then(|read| read.partitions.get(&0))
            .is_some_and(|partition| partition.position == end)
    }

    fn status(&self) -> SinkStatus {
        self.live.outboxes[0].status()
    }

    fn until_sent(&self) {
        until("all to be sent", || {
            let status = self.status();
            status.state == "running" && status.waiting_messages == 0
        });
    }

    fn checkpoint(&self) -> Epoch {
        let (done, taken) = channel();
        let reply = Box::new(move |result| drop(done.send(result)));
        self.live.take(None, reply);
        let taken = taken.recv_timeout(PATIENCE).expect("it is taken, or fails");
        taken.unwrap().epoch
    }

    fn checkpoints(&self) -> Vec<Epoch> {
        self.live.list().iter().map(|info| info.epoch).collect()
    }

    fn rows(&self) -> usize {
        let views = &self.live.views;
        let view = views.query(NAME).unwrap();
        let at = views.upper().unwrap().epoch;
        let page = view.read(at, &KeyRange::all(), None, 10_000, None);
        page.unwrap().rows.len()
    }

    fn stop(self) {
        self.live.stop();
        self.log.stop();
    }
}

/// The counts of one shop in its first window, one by one.
fn counts(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|n| format!("\"a\" 0 {n}")).collect()
}

fn one(second: i64) -> [String; 1] {
    [sale("a", 1, second)]
}

#[test]
fn a_sink_that_was_away_goes_on_where_it_was() {
    let (home, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    let setting = Setting::new(home.path(), &broker, Mode::Upsert);
    let service = setting.start();
    service.take(&one(1));
    service.take(&one(1));
    service.until_sent();
    let base = service.checkpoint();
    broker.set_down(true);
    for _ in 3..=8 {
        service.take(&one(1));
        service.checkpoint();
    }
    until("it to notice", || service.status().state == "retrying");
    // Those that are retained anyhow, and the one that the sink can go on from.
    let kept = service.checkpoints();
    assert_eq!((kept.len(), kept.last()), (3, Some(&base)));
    service.stop();

    broker.set_down(false);
    let service = setting.start();
    service.until_sent();
    assert_eq!(broker.said(), counts(1..=8));
    service.take(&one(1));
    service.until_sent();
    assert_eq!(broker.said(), counts(1..=9));
    service.checkpoint();
    service.checkpoint();
    assert_eq!(service.checkpoints().len(), 2, "it has caught up");
    service.stop();
}

#[test]
fn a_sink_that_was_away_from_before_the_first_checkpoint_goes_on_too() {
    let (home, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    let setting = Setting::new(home.path(), &broker, Mode::Upsert);
    let service = setting.start();
    service.take(&one(1));
    service.until_sent();
    broker.set_down(true);
    for _ in 2..=6 {
        service.take(&one(1));
        service.checkpoint();
    }
    service.stop();
    broker.set_down(false);
    let service = setting.start();
    service.until_sent();
    assert_eq!(broker.said(), counts(1..=6));
    service.stop();
}

#[test]
fn what_nobody_waits_for_is_not_kept() {
    let (home, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    let mut setting = Setting::new(home.path(), &broker, Mode::Upsert);
    let service = setting.start();
    service.take(&one(1));
    service.until_sent();
    service.checkpoint();
    broker.set_down(true);
    for _ in 0..3 {
        service.take(&one(1));
        service.checkpoint();
    }
    assert_eq!(service.checkpoints().len(), 3);
    service.stop();
    setting.has_sink = false;
    let service = setting.start();
    service.checkpoint();
    service.checkpoint();
    assert_eq!(service.checkpoints().len(), 2);
    service.stop();

    // Back again, it finds that what it has missed is gone.
    setting.has_sink = true;
    broker.set_down(false);
    let service = setting.start();
    until("it to stop", || service.status().state == "stopped");
    let why = service.status().reason.unwrap();
    assert!(why.contains("the saved state begins at"), "{why}");
    assert!(why.contains("--restart-sink out"), "{why}");
    assert_eq!(broker.said(), counts(1..=1));
    service.stop();
    setting.restarts = true;
    let service = setting.start();
    service.until_sent();
    assert_eq!(broker.said(), [counts(1..=1), counts(4..=4)].concat());
    service.stop();
}

#[test]
fn a_full_outbox_holds_the_input_and_nothing_else() {
    let (home, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    let setting = Setting {
        buffer_bytes: 500,
        ..Setting::new(home.path(), &broker, Mode::Upsert)
    };
    let service = setting.start();
    service.take(&one(1));
    service.until_sent();
    broker.set_down(true);
    let mut posted = 1;
    let is_stale = || service.live.stale.load(Ordering::Acquire);
    while !is_stale() {
        service.post(&one(1));
        posted += 1;
        until("it to be read, or held", || {
            is_stale() || service.has_read_all()
        });
    }
    let status = service.status();
    assert!(status.waiting_bytes >= 500 && posted < 20, "{status:?}");
    for _ in 0..100 {
        service.post(&one(1));
        posted += 1;
    }
    let before = service.status().waiting_messages;
    // Answers are served, and a checkpoint is taken when asked for.
    let shown = service.checkpoint();
    until("it to be shown", || {
        service.live.views.upper().unwrap().epoch >= shown
    });
    assert_eq!(service.rows(), 1);
    assert_eq!(service.status().waiting_messages, before);
    assert!(is_stale() && !service.has_read_all());

    broker.set_down(false);
    until("all to be read", || service.has_read_all());
    service.until_sent();
    until("it to be fresh", || !is_stale());
    let said = broker.said();
    assert_eq!(said.last(), counts(posted..=posted).last());
    let distinct: BTreeSet<_> = said.iter().collect();
    assert_eq!(distinct.len(), said.len(), "none came twice");
    service.stop();
}

#[test]
fn final_rows_are_sent_once_over_leaps_of_time_and_restarts() {
    const DAY: i64 = 24 * 3600;
    let (home, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    let setting = Setting::new(home.path(), &broker, Mode::Final);
    let mut service = setting.start();
    let mut expected = Vec::new();
    for leap in 0..6 {
        let begin = leap * 30 * DAY + 10;
        // In one epoch: windows open, close, and are past their retention.
        service.take(&[
            sale("a", 1, begin),
            sale("a", 1, begin + 1),
            sale("b", 1, begin + 10),
            sale("c", 1, begin + 20 * DAY),
        ]);
        service.take(&[sale("d", 1, begin + 20 * DAY + 5)]);
        expected.extend([
            format!("\"a\" {begin} 2"),
            format!("\"b\" {} 1", begin + 10),
        ]);
        if leap > 0 {
            let before = begin - 10 * DAY;
            let closed = ["c", "d"].map(|shop| format!("\"{shop}\" {before} 1"));
            expected.splice(expected.len() - 2..expected.len() - 2, closed);
        }
        if leap % 2 == 0 {
            service.checkpoint();
            broker.set_down(leap == 2);
            service.stop();
            service = setting.start();
        }
        broker.set_down(false);
    }
    service.until_sent();
    let (mut said, mut expected) = (broker.said(), expected);
    said.sort();
    expected.sort();
    assert_eq!(said, expected);
    assert!(service.rows() < 10, "the view has let the others go");
    service.stop();
}

#[test]
fn a_changed_query_stops_its_sink_until_it_is_told_to_restart() {
    fn longer(flow: Flow) -> Table<(Text, Window), u64> {
        flow.stream::<Sale>()
            .key_by(|sale| sale.shop.clone())
            .window(tumbling(seconds(100)))
            .count()
    }
    let (home, broker) = (tempfile::tempdir().unwrap(), Broker::default());
    let mut setting = Setting::new(home.path(), &broker, Mode::Upsert);
    let service = setting.start();
    service.take(&one(1));
    service.until_sent();
    service.stop();
    setting.query = Query::new(NAME, "", longer as Build);
    let service = setting.start();
    until("it to stop", || service.status().state == "stopped");
    let why = service.status().reason.unwrap();
    assert!(why.contains("what is sent has changed"), "{why}");
    service.take(&[sale("b", 1, 1), sale("c", 1, 2)]);
    assert!(service.rows() >= 2, "the query goes on");
    service.stop();
    setting.restarts = true;
    let service = setting.start();
    service.until_sent();
    let said = broker.said();
    assert_eq!(said[0], r#""a" 0 1"#, "of the query as it was");
    // Of the first sale the changed query knows if it was read again: a sink's progress decides
    // which checkpoint a restart begins with.
    let again = said[1..]
        .iter()
        .filter(|message| !message.starts_with(r#""a""#));
    assert!(again.eq([r#""b" 0 1"#, r#""c" 0 1"#]), "{said:?}");
    service.stop();
}
