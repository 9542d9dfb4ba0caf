//! A topic of clicks, the service that reads it, and what is asked of both.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::kafka::{Broker, Client, Record, unique, until};
use crate::service::{self, Launch, Service};

/// The query that the tests ask; its windows keep a week, so that all of them are there.
pub const QUERY: &str = "clicks_per_user_tumbling";

/// A topic of its own, and a home for the service that reads it.
pub struct Clicks {
    pub client: Client,
    pub topic: String,
    address: String,
    home: TempDir,
}

impl Clicks {
    /// A topic of so many partitions on the broker that all tests share; `None` without one.
    pub fn new(partitions: usize) -> Option<Clicks> {
        Some(Clicks::with(Broker::shared()?, partitions, &[]))
    }

    /// A topic with settings on a broker.
    pub fn with(broker: &Broker, partitions: usize, settings: &[(&str, &str)]) -> Clicks {
        let clicks = Clicks {
            client: broker.client(),
            topic: unique("clicks"),
            address: broker.address().to_owned(),
            home: tempfile::tempdir().expect("a directory for data"),
        };
        clicks
            .client
            .create_topic(&clicks.topic, partitions, settings);
        clicks
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A service that counts the topic's clicks.
    pub fn launch(&self) -> Launch {
        self.launch_in(self.home())
    }

    /// The same with another home.
    pub fn launch_in(&self, home: &Path) -> Launch {
        Launch::new(home)
            .args(&["--queries", QUERY])
            .set("KAFKA__BROKERS", &self.address)
            .set("KAFKA__GROUP", &self.topic)
            .set("KAFKA__DISCOVER_EVERY", "300ms")
            .set("KAFKA__PROPERTIES", "reconnect.backoff.max.ms=300")
            .set("STREAMS__CLICKS__SOURCE", "kafka")
            .set("STREAMS__CLICKS__TOPIC", &self.topic)
            .set("SNAPSHOT__INTERVAL", "300ms")
            .set("EPOCH__HEARTBEAT_MS", "50")
    }

    pub fn produce(&self, records: &[Record]) {
        self.client.produce(&self.topic, records);
    }

    /// What the group has committed.
    pub fn committed(&self) -> BTreeMap<i32, i64> {
        self.client.committed(&self.topic, &self.topic)
    }

    /// Waits until the service has read, and the group has heard, all there is.
    pub fn wait_for_the_end(&self, service: &service::Client) {
        until("all to be read", || {
            let ends = self.client.end_offsets(&self.topic);
            let read = positions(service)
                .into_iter()
                .map(|at| i64::try_from(at).expect("few"));
            (read.eq(ends.values().copied()) && lag(service) == 0).then_some(())
        });
        until("the group to hear", || {
            (self.committed() == self.client.end_offsets(&self.topic)).then_some(())
        });
    }
}

/// A click of a user at a second of an hour.
pub fn click(user: &str, second: u32) -> String {
    let (minute, second) = (second / 60 % 60, second % 60);
    format!(r#"{{"user_id":"{user}","click_time":"2022-01-01 10:{minute:02}:{second:02}"}}"#)
}

/// Clicks of the seconds, one partition after the other.
pub fn clicks(partitions: u32, seconds: std::ops::Range<u32>) -> Vec<Record> {
    let record = |second: u32| {
        let partition = i32::try_from(second % partitions).expect("few");
        Record::new(click("u", second)).partition(partition)
    };
    seconds.map(record).collect()
}

/// How many clicks each user has, over all windows.
pub fn counts(service: &service::Client) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for row in rows(service, &format!("/v1/queries/{QUERY}?limit=10000")) {
        let user = row["key"][0].as_str().expect("a user").to_owned();
        *counts.entry(user).or_default() += row["value"].as_u64().expect("a count");
    }
    counts
}

/// How many clicks there are.
pub fn total(service: &service::Client) -> u64 {
    counts(service).values().sum()
}

/// The rows of an answer, which must be whole.
pub fn rows(service: &service::Client, path: &str) -> Vec<Value> {
    let mut answer = service.get(path).ok();
    assert_eq!(answer.get("next"), Some(&Value::Null), "{answer}");
    serde_json::from_value(answer["rows"].take()).expect("a list")
}

/// Waits until so many clicks are counted, and not one more.
pub fn wait_for(service: &service::Client, count: u64) {
    until("clicks to be counted", || {
        let total = total(service);
        assert!(total <= count, "{total} clicks are counted, not {count}");
        (total == count).then_some(())
    });
}

/// What is not taken: partition, offset and reason.
pub fn rejected(service: &service::Client) -> Vec<(u64, u64, String)> {
    let rows = rows(service, "/v1/streams/clicks/rejected?limit=10000");
    let number = |value: &Value| value.as_u64().expect("a number");
    let entry = |row: &Value| {
        let reason = row["value"]["reason"].as_str().expect("a reason");
        (
            number(&row["key"][1]),
            number(&row["key"][2]),
            reason.to_owned(),
        )
    };
    rows.iter().map(entry).collect()
}

fn partitions(service: &service::Client) -> Vec<Value> {
    let mut stream = service.stream("clicks");
    serde_json::from_value(stream["partitions"].take()).expect("a list")
}

/// How far each partition is read.
pub fn positions(service: &service::Client) -> Vec<u64> {
    let all = partitions(service);
    all.iter()
        .map(|partition| partition["position"].as_u64().expect("a number"))
        .collect()
}

/// How much is there and not read.
pub fn lag(service: &service::Client) -> u64 {
    let all = partitions(service);
    all.iter()
        .map(|partition| partition["lag"].as_u64().expect("a number"))
        .sum()
}

/// Whether a partition is idle.
pub fn is_idle(service: &service::Client, partition: usize) -> bool {
    is(service, partition, "idle")
}

/// Whether a partition waits for slower ones.
pub fn is_ahead(service: &service::Client, partition: usize) -> bool {
    is(service, partition, "ahead")
}

/// What is said of a partition; of one that is not listed yet nothing is.
fn is(service: &service::Client, partition: usize, what: &str) -> bool {
    let all = partitions(service);
    all.get(partition).is_some_and(|found| found[what] == true)
}

/// What is wrong with the stream or a partition of it.
pub fn problem(service: &service::Client) -> Option<String> {
    let stream = service.stream("clicks");
    let all = std::iter::once(&stream).chain(stream["partitions"].as_array().expect("a list"));
    let mut problems = all.filter_map(|of| of["problem"]["reason"].as_str());
    problems.next().map(str::to_owned)
}

/// Waits until something is told that says this.
pub fn wait_for_problem(service: &service::Client, part: &str) -> String {
    until(part, || {
        problem(service).filter(|problem| problem.contains(part))
    })
}

/// Waits until nothing is wrong.
pub fn wait_until_well(service: &service::Client) {
    until("all to be well", || {
        problem(service).is_none().then_some(())
    });
}

/// Waits until the service has shown epochs for so long.
pub fn wait_for_epochs(service: &service::Client, ms: u64) {
    let now = || {
        service.get("/v1/streams").ok()["as_of"]
            .as_u64()
            .unwrap_or(0)
    };
    let begin = now();
    until("epochs", || (now() >= begin + ms).then_some(()));
}

/// Kills a service with signal 9, and starts another.
pub fn kill_and_start(service: Service, launch: &Launch) -> Service {
    service.kill();
    launch.start_ready()
}
