//! Answers in Kafka, read by those who read committed messages only: every row once and in order
//! per key, however often the service is killed, and nothing left open.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use std::time::Duration;

use kafka::{Broker, Client, Record, unique};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use service::{Launch, Random, Service, until};

#[path = "support/kafka/mod.rs"]
mod kafka;
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "faults/layer.rs"]
mod layer;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/service.rs"]
mod service;

const KILLS: usize = 20;

const SHORTLY: Duration = Duration::from_millis(10);

const QUERY: &str = "clicks_per_user";

/// A service with a sink for each of these: name, mode, delivery. Its topics have three partitions.
struct Sinks {
    launch: Launch,
    client: Client,
    group: String,
    topics: BTreeMap<&'static str, String>,
}

impl Sinks {
    fn new(home: &Path, broker: &Broker, sinks: &[(&'static str, &str, &str)]) -> Sinks {
        Sinks::with(home, broker, sinks, "")
    }

    /// The same, with further properties of librdkafka.
    fn with(
        home: &Path,
        broker: &Broker,
        sinks: &[(&'static str, &str, &str)],
        properties: &str,
    ) -> Sinks {
        let client = broker.client();
        let group = unique("service");
        let mut text = format!(
            "[kafka]\nbrokers = '{}'\ngroup = '{group}'\n\
             [kafka.properties]\n'reconnect.backoff.max.ms' = '200'\n{properties}",
            broker.address(),
        );
        let mut topics = BTreeMap::new();
        for (name, mode, delivery) in sinks {
            let topic = unique(name);
            client.create_topic(&topic, 3, &[]);
            let section = format!(
                "[sinks.{name}]\nquery = '{QUERY}'\ntopic = '{topic}'\nmode = '{mode}'\n\
                 delivery = '{delivery}'\ncommit_interval = '20ms'\n"
            );
            text.push_str(&section);
            topics.insert(*name, topic);
        }
        let file = home.join("waterclock.toml");
        fs::write(&file, text).expect("the test's directory takes files");
        let launch = Launch::new(home)
            .args(&["--queries", QUERY, "--config", &file.to_string_lossy()])
            .set("SNAPSHOT__INTERVAL", "500ms")
            .set("EPOCH__HEARTBEAT_MS", "20");
        Sinks {
            launch,
            client,
            group,
            topics,
        }
    }

    fn transactional_ids(&self) -> BTreeSet<String> {
        let id = |name: &&str| format!("waterclock-{}-{name}", self.group);
        self.topics.keys().map(id).collect()
    }

    /// What readers of committed messages find, in order per partition.
    fn read(&self, sink: &str) -> Vec<Record> {
        self.client.read(&self.topics[sink])
    }
}

/// What is told of a sink.
fn status(service: &Service, sink: &str) -> Value {
    let list = service.get("/v1/sinks").ok();
    let sinks = list["sinks"].as_array().expect("a list");
    let found = sinks.iter().find(|one| one["name"] == sink);
    found.expect("it is listed").clone()
}

fn until_sent(service: &Service, sink: &str) {
    until("all to be sent", || {
        let status = status(service, sink);
        assert_ne!(status["state"], "stopped", "{status}");
        let is_done = status["state"] == "running" && status["waiting_messages"] == 0;
        is_done.then_some(())
    });
}

/// Posts clicks of forty users, three seconds of event time after those before, so many times; the
/// token that reads them.
fn post(service: &Service, times: Range<u64>) -> String {
    let click = |user, time| format!("{{\"user_id\":\"u{user}\",\"click_time\":{time}}}\n");
    let clicks = |n| (0..40).map(move |user| click(user, n * 3000));
    let mut token = String::new();
    for n in times {
        token = service.token_of("clicks", &clicks(n).collect::<String>());
    }
    token
}

/// The rows of the answer that includes a token, by key.
fn rows(service: &Service, token: &str) -> BTreeMap<String, Value> {
    let path = format!("/v1/queries/{QUERY}?limit=10000&after={token}");
    let answer = service.get(&path).ok();
    let rows = answer["rows"].as_array().expect("a list").iter();
    rows.map(|row| (row["key"].to_string(), row.clone()))
        .collect()
}

/// The values of each key in the order of their messages; a key is in one partition.
fn by_key(records: &[Record]) -> BTreeMap<String, Vec<Value>> {
    let mut keys: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut places: BTreeMap<String, i32> = BTreeMap::new();
    for record in records {
        let key = String::from_utf8(record.key.clone().expect("a key")).expect("JSON");
        let value: Value = serde_json::from_str(&record.text()).expect("JSON");
        assert_eq!(value["key"].to_string(), key);
        let partition = record.partition.expect("it was read");
        let place = *places.entry(key.clone()).or_insert(partition);
        assert_eq!(place, partition, "{key}");
        keys.entry(key).or_default().push(value);
    }
    keys
}

/// Each key's newest message is its row; and counts that only grow come once, in order.
fn check_upserts(records: &[Record], rows: &BTreeMap<String, Value>, is_exact: bool) {
    let sent = by_key(records);
    assert!(sent.keys().eq(rows.keys()), "the same keys");
    for (key, values) in sent {
        assert_eq!(
            values.last().map(|last| &last["value"]),
            Some(&rows[&key]["value"])
        );
        let counts: Vec<u64> = values.iter().filter_map(|v| v["value"].as_u64()).collect();
        let grows = counts.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(grows || !is_exact, "{key}: {counts:?}");
    }
}

/// Each final row is there once, and nothing else.
fn check_finals(records: &[Record], rows: &BTreeMap<String, Value>) {
    let is_final = |row: &&Value| row["final"] == true;
    let expected: Vec<&Value> = rows.values().filter(is_final).collect();
    assert!(!expected.is_empty());
    let sent = by_key(records);
    let mut found = Vec::new();
    for (key, values) in &sent {
        assert_eq!(values.len(), 1, "{key} was sent more than once");
        found.extend(values);
    }
    assert_eq!(found, expected);
}

/// Reads what is sent from now on, committed or not.
fn watch(sinks: &Sinks) -> BaseConsumer {
    let topic = &sinks.topics["live"];
    let mut config = sinks.client.config();
    config
        .set("group.id", "watch")
        .set("isolation.level", "read_uncommitted")
        .set("fetch.wait.max.ms", "5");
    let consumer: BaseConsumer = config.create().expect("settings that librdkafka knows");
    let mut ends = TopicPartitionList::new();
    for (partition, end) in sinks.client.end_offsets(topic) {
        let added = ends.add_partition_offset(topic, partition, Offset::Offset(end));
        added.expect("an offset that can be asked for");
    }
    consumer.assign(&ends).expect("it is not assigned yet");
    // It is connected, and past what was still on its way, once it has found nothing for a while.
    while consumer.poll(Duration::from_millis(300)).is_some() {}
    consumer
}

/// Posts some clicks and kills the service at some moment.
fn kill_under_load(
    sinks: &Sinks,
    service: Service,
    round: usize,
    next: &mut u64,
    dice: &mut Random,
) {
    let committed = |service: &Service| {
        let status = status(service, "live");
        assert_ne!(status["state"], "stopped", "{status}");
        status["committed_messages"].as_u64()
    };
    let before = committed(&service);
    let count = 5 + dice.below(20);
    post(&service, *next..*next + count);
    *next += count;
    match round % 3 {
        // A commit has just been done, and the next may have begun.
        0 => until("a commit", || (committed(&service) > before).then_some(())),
        // The first message of one has arrived; it is not committed yet, or just now.
        1 => {
            until_sent(&service, "live");
            let watch = watch(sinks);
            post(&service, *next..*next + 1);
            *next += 1;
            let message = until("a message", || watch.poll(SHORTLY));
            message.expect("the broker goes on");
            service.kill();
            return;
        }
        _ => {}
    }
    service.kill();
}

#[test]
fn every_row_comes_once_and_in_order_over_twenty_kills() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let home = tempfile::tempdir().expect("a place for the test");
    let sinks = Sinks::new(
        home.path(),
        broker,
        &[
            ("live", "upsert", "exactly-once"),
            ("finals", "final", "exactly-once"),
            ("again", "upsert", "at-least-once"),
        ],
    );
    let (mut next, mut dice) = (0, Random(3));
    for round in 0..KILLS {
        let service = sinks.launch.start();
        if round % 5 == 4 {
            // It has hardly opened its sinks.
            service.kill();
            continue;
        }
        kill_under_load(&sinks, service, round, &mut next, &mut dice);
    }
    let service = sinks.launch.start_ready();
    let token = post(&service, next..next + 10);
    let rows = rows(&service, &token);
    for sink in sinks.topics.keys() {
        until_sent(&service, sink);
    }
    let live = sinks.read("live");
    check_upserts(&live, &rows, true);
    check_finals(&sinks.read("finals"), &rows);
    check_upserts(&sinks.read("again"), &rows, false);
    let all = sinks.client.read_uncommitted(&sinks.topics["live"]);
    eprintln!(
        "{KILLS} kills, {} rows; {} messages were committed, {} were not",
        rows.len(),
        live.len(),
        all.len() - live.len()
    );
    // Nothing is open while nothing is sent.
    if let Some(tools) = broker.tools() {
        let ids: BTreeSet<String> = sinks.transactional_ids();
        let open = tools.open_transactions();
        assert!(open.iter().all(|(id, _)| !ids.contains(id)), "{open:?}");
        assert_eq!(tools.hanging_transactions(), [""; 0]);
    }
    assert!(service.stop().success());
}

#[test]
#[cfg(target_os = "linux")]
fn every_row_comes_once_over_a_kill_before_each_request_of_a_transaction() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let home = tempfile::tempdir().expect("a place for the test");
    let both = [
        ("live", "upsert", "exactly-once"),
        ("finals", "final", "exactly-once"),
    ];
    let sinks = Sinks::new(home.path(), broker, &both);
    let layer = layer::Layer::new(home.path());
    let port = broker.address().rsplit(':').next().expect("a port");
    let launch = layer
        .under(&sinks.launch)
        .env("FAULTS_BROKER", Path::new(port));
    let mut next = 0;
    // Each of the two sinks introduces itself once.
    let requests = [
        ("init", [1, 2]),
        ("add", [1, 4]),
        ("produce", [1, 4]),
        ("end", [1, 4]),
    ];
    for (request, times) in requests {
        for time in times {
            layer.rules(&[&format!("kill {time} {time} kafka {request}")]);
            let before = layer.landed().len();
            let service = launch.start();
            let mut click = || {
                next += 1;
                let click = |user| {
                    let time = next * 3000;
                    format!("{{\"user_id\":\"u{user}\",\"click_time\":{time}}}\n")
                };
                (0..40).map(click).collect::<String>()
            };
            // Each post leads to a transaction, and some transaction to the kill.
            let mut is_there = || service.try_post("clicks", None, &click()).is_ok();
            until("the kill", || (!is_there()).then_some(()));
            assert_eq!(service.wait().signal(), Some(9), "{request} {time}");
            assert_eq!(layer.landed()[before..], [format!("kill kafka {request}")]);
        }
    }
    let service = sinks.launch.start_ready();
    let token = post(&service, next..next + 10);
    let rows = rows(&service, &token);
    for sink in sinks.topics.keys() {
        until_sent(&service, sink);
    }
    check_upserts(&sinks.read("live"), &rows, true);
    check_finals(&sinks.read("finals"), &rows);
    assert!(service.stop().success());
}

fn signal(name: &str, id: u32) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {id}")])
        .status();
    assert!(sent.expect("there is a shell").success());
}

#[test]
fn a_transaction_that_the_broker_ended_is_sent_again() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let Some(tools) = broker.tools() else {
        return;
    };
    let home = tempfile::tempdir().expect("a place for the test");
    let properties = "'transaction.timeout.ms' = '1000'\n";
    let sinks = Sinks::with(
        home.path(),
        broker,
        &[("live", "upsert", "exactly-once")],
        properties,
    );
    let starting = sinks.launch.spawn();
    let id = starting.id();
    let service = starting.ready_for_requests();
    service.wait_ready();
    let ids = sinks.transactional_ids();
    let is_open = || {
        tools
            .open_transactions()
            .iter()
            .any(|(id, _)| ids.contains(id))
    };
    let mut was_open = false;
    for n in 0..5 {
        let token = post(&service, n..n + 1);
        rows(&service, &token);
        until_sent(&service, "live");
        let watch = watch(&sinks);
        post(&service, n + 10..n + 11);
        drop(until("a message", || watch.poll(SHORTLY)));
        // As long as it sleeps, time passes for the broker only.
        signal("STOP", id);
        was_open |= is_open();
        until("the broker to end it", || (!is_open()).then_some(()));
        signal("CONT", id);
        if was_open {
            break;
        }
    }
    let token = post(&service, 20..21);
    let expected = rows(&service, &token);
    until_sent(&service, "live");
    check_upserts(&sinks.read("live"), &expected, true);
    eprintln!("a transaction was open while it slept: {was_open}");
    assert!(service.stop().success());
}

#[test]
fn a_broker_that_is_away_stops_nothing_but_the_sink() {
    let Some(mut broker) = Broker::start() else {
        return;
    };
    let home = tempfile::tempdir().expect("a place for the test");
    let sinks = Sinks::new(home.path(), &broker, &[("live", "upsert", "exactly-once")]);
    let service = sinks.launch.start_ready();
    post(&service, 0..20);
    until_sent(&service, "live");
    broker.kill();
    let token = post(&service, 20..40);
    assert!(!rows(&service, &token).is_empty(), "answers are served");
    until("it to say so", || {
        let status = status(&service, "live");
        let reason = status["reason"].as_str().unwrap_or_default().to_owned();
        (status["state"] == "retrying" && reason.contains(broker.address())).then_some(())
    });
    let status = service.cli(&["status"]);
    let text = String::from_utf8(status.stdout).expect("text");
    assert!(text.contains("live is retrying: cannot"), "{text}");
    // A restart meanwhile does not wait for it.
    service.kill();
    let service = sinks.launch.start_ready();
    let token = post(&service, 40..60);
    let expected = rows(&service, &token);
    broker.start_again();
    until_sent(&service, "live");
    check_upserts(&sinks.read("live"), &expected, true);
    assert!(service.stop().success());
}

#[test]
fn a_topic_that_is_missing_is_named_and_waited_for() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let home = tempfile::tempdir().expect("a place for the test");
    let sinks = Sinks::new(home.path(), broker, &[("live", "upsert", "exactly-once")]);
    let topic = &sinks.topics["live"];
    sinks.client.delete_topic(topic);
    let service = sinks.launch.start_ready();
    let token = post(&service, 0..5);
    let expected = rows(&service, &token);
    let reason = until("it to say so", || {
        let status = status(&service, "live");
        status["reason"].as_str().map(str::to_owned)
    });
    assert!(reason.contains(topic.as_str()), "{reason}");
    sinks.client.create_topic(topic, 3, &[]);
    until_sent(&service, "live");
    check_upserts(&sinks.read("live"), &expected, true);
    assert!(service.stop().success());
}

#[test]
fn of_two_services_with_one_name_one_gives_way() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let homes = [(); 2].map(|()| tempfile::tempdir().expect("a place for the test"));
    let mut sinks = Sinks::new(
        homes[0].path(),
        broker,
        &[("live", "upsert", "exactly-once")],
    );
    // Nothing is removed while it is copied.
    sinks.launch = sinks.launch.set("SNAPSHOT__INTERVAL", "1h");
    let old = sinks.launch.start_ready();
    post(&old, 0..10);
    until_sent(&old, "live");
    // The copy of a data directory, started by mistake.
    let copy = homes[1].path().join("data");
    let copied = Command::new("cp")
        .arg("-r")
        .args([&sinks.launch.data_dir(), &copy])
        .status();
    assert!(copied.expect("there is cp").success());
    let file = homes[0].path().join("waterclock.toml");
    let launch = Launch::new(homes[1].path());
    let launch = launch.args(&["--queries", QUERY, "--config", &file.to_string_lossy()]);
    let new = launch.start_ready();
    until_sent(&new, "live");
    post(&old, 10..11);
    let reason = until("the old one to stop", || {
        let status = status(&old, "live");
        (status["state"] == "stopped").then(|| status["reason"].to_string())
    });
    assert!(reason.contains("another process sends as"), "{reason}");
    assert!(reason.contains("kafka.group"), "{reason}");
    let token = post(&new, 10..20);
    let expected = rows(&new, &token);
    until_sent(&new, "live");
    check_upserts(&sinks.read("live"), &expected, true);
    assert_eq!(old.get("/v1/queries").status, 200);
}
