//! How fast is a topic read, beside a bare consumer that only counts its records?
//!
//! `WATERCLOCK_BENCH_MB` says how large the topic is (1000), `WATERCLOCK_BENCH_BYTES` how large a
//! record (120). A broker runs beside them on the same machine, so ratios tell more than rates.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use kafka::{Broker, Client, unique};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use service::Launch;

#[path = "../tests/support/kafka/mod.rs"]
mod kafka;
#[allow(dead_code, reason = "tests need more of it")]
#[path = "../tests/support/service.rs"]
mod service;

const PARTITIONS: usize = 4;
const ROUNDS: usize = 3;
const QUERY: &str = "clicks_per_user_tumbling";

fn main() {
    // `cargo test` builds benchmarks and may run them; they are for `cargo bench` alone.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let Some(broker) = Broker::start() else {
        return;
    };
    let (client, topic) = (broker.client(), unique("bench"));
    client.create_topic(&topic, PARTITIONS, &[]);
    let size = number("WATERCLOCK_BENCH_BYTES", 120);
    let count = number("WATERCLOCK_BENCH_MB", 1000) * 1_000_000 / size;
    fill(&client, &topic, count, size);
    say(&format!(
        "{count} records of {size} bytes in {PARTITIONS} partitions"
    ));
    let mut bare = Vec::new();
    let mut ours = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        bare.push(count_alone(&client, &topic, count));
        for (workers, times) in (1..).zip(&mut ours) {
            times.push(count_in_service(&broker, &topic, count, workers));
        }
    }
    let bare = report("bare consumer", &mut bare, count, size, None);
    for (workers, times) in (1..).zip(&mut ours) {
        report(
            &format!("{workers} workers"),
            times,
            count,
            size,
            Some(bare),
        );
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn say(text: &str) {
    // Nobody may be left to read it.
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed(run: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    run();
    begun.elapsed()
}

/// Says the median, and its ratio to another.
fn report(what: &str, times: &mut [Duration], count: u64, size: u64, to: Option<f64>) -> f64 {
    times.sort();
    let seconds = times[times.len() / 2].as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "rates are rounded")]
    let (count, size) = (count as f64, size as f64);
    let rate = count / seconds;
    let megabytes = rate * size / 1e6;
    let ratio = to.map_or(String::new(), |to| {
        format!(", {:.2} of the bare one", rate / to)
    });
    say(&format!(
        "{what}: {rate:.0} records/s, {megabytes:.0} MB/s{ratio}"
    ));
    rate
}

fn fill(client: &Client, topic: &str, count: u64, size: u64) {
    let mut config = client.config();
    config.set("linger.ms", "20").set("batch.size", "1000000");
    let producer: BaseProducer = config.create().expect("settings that librdkafka knows");
    for i in 0..count {
        let (user, second) = (i * 7919 % 10_000, i / 2_000);
        let head = format!(
            r#"{{"user_id":"u{user}","click_time":{},"page":""#,
            second * 1000
        );
        let size = usize::try_from(size).expect("a record fits into memory");
        let fill = "x".repeat(size.saturating_sub(head.len() + 2));
        let value = format!("{head}{fill}\"}}");
        let partition = i32::try_from(i % PARTITIONS as u64).expect("few partitions");
        let record = || {
            BaseRecord::<(), String>::to(topic)
                .payload(&value)
                .partition(partition)
        };
        while producer.send(record()).is_err() {
            producer.poll(Duration::from_millis(10));
        }
    }
    producer
        .flush(Duration::from_secs(60))
        .expect("the broker takes them");
}

/// Reads the topic with a consumer that only counts.
fn count_alone(client: &Client, topic: &str, count: u64) -> Duration {
    timed(|| {
        let mut config = client.config();
        config
            .set("group.id", "bench")
            .set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create().expect("settings that librdkafka knows");
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, 3);
        list.set_all_offsets(Offset::Beginning)
            .expect("a list of partitions");
        consumer.assign(&list).expect("partitions that exist");
        let (mut read, mut bytes) = (0, 0);
        while read < count {
            // Other events than records end a poll, too.
            let Some(polled) = consumer.poll(Duration::from_secs(1)) else {
                continue;
            };
            match polled {
                Ok(message) => {
                    read += 1;
                    bytes += message.payload_len();
                }
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(bytes > 0, "records have bytes");
    })
}

/// Starts a service and waits until its answer holds the whole topic.
fn count_in_service(broker: &Broker, topic: &str, count: u64, workers: usize) -> Duration {
    let home = tempfile::tempdir().expect("a directory");
    let launch = launch(home.path(), broker, topic, workers);
    let mut service = None;
    let time = timed(|| {
        let service = service.insert(launch.start_ready());
        kafka::until("the whole topic", || {
            let stream = service.stream("clicks");
            let partitions = stream["partitions"].as_array()?;
            let read: Option<u64> = partitions.iter().map(|p| p["position"].as_u64()).sum();
            (read == Some(count)).then_some(())
        });
    });
    let rows = service.expect("it was started").query(QUERY);
    assert_ne!(rows["rows"], Value::from(0), "it answers");
    time
}

fn launch(home: &Path, broker: &Broker, topic: &str, workers: usize) -> Launch {
    Launch::new(home)
        .args(&["--workers", &workers.to_string(), "--queries", QUERY])
        .set("KAFKA__BROKERS", broker.address())
        .set("STREAMS__CLICKS__SOURCE", "kafka")
        .set("STREAMS__CLICKS__TOPIC", topic)
}
