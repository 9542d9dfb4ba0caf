//! What `docker compose up` starts, as far as it is ours: the producer of clicks, the variables,
//! and the board, which may show only what there is.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::fs;
use std::path::Path;

use clap::Parser;
use kafka::{Broker, Record, unique, until};
use produce_clicks::Args;
use service::Launch;

#[path = "support/kafka/mod.rs"]
mod kafka;
#[allow(dead_code, reason = "it is a program of its own")]
#[path = "../examples/produce_clicks.rs"]
mod produce_clicks;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "support/service.rs"]
mod service;

fn text_of(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file)
}

#[test]
fn clicks_are_written_until_it_is_stopped() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let (client, topic) = (broker.client(), unique("clicks"));
    client.create_topic(&topic, 4, &[]);
    let flags = [
        "",
        "--brokers",
        broker.address(),
        "--topic",
        &topic,
        "--rate",
        "1000",
    ];
    let args = Args::parse_from(flags);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let producer = std::thread::Builder::new()
        .name("producer".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let stopped = async { drop(stopped.await) };
            runtime
                .block_on(produce_clicks::write(&args, stopped))
                .unwrap()
        });
    until("clicks in all partitions", || {
        client
            .end_offsets(&topic)
            .values()
            .all(|end| *end > 10)
            .then_some(())
    });
    stop.send(()).unwrap();
    let written = producer.unwrap().join().unwrap();
    let records = client.read(&topic);
    assert_eq!(records.len() as u64, written);
    for record in records {
        let click: serde_json::Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
        let key = String::from_utf8(record.key.unwrap()).unwrap();
        assert_eq!(click["user_id"], key);
        let time = waterclock::time::Timestamp::parse(click["click_time"].as_str().unwrap());
        let behind = record.timestamp_ms.unwrap() - time.unwrap().0;
        assert!(
            (0..5000).contains(&behind),
            "{behind} ms old when it was written"
        );
    }
}

#[test]
fn its_producer_is_started_with_flags_that_exist() {
    let compose = text_of("docker-compose.yml");
    let flags = compose
        .lines()
        .find(|line| line.contains("\"--rate\""))
        .unwrap();
    let flags = flags.split('"').skip(1).step_by(2);
    Args::try_parse_from(std::iter::once("produce_clicks").chain(flags)).unwrap();
}

#[test]
fn its_variables_are_settings_and_its_board_shows_metrics_that_exist() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let (client, topic) = (broker.client(), unique("clicks"));
    client.create_topic(&topic, 4, &[]);
    let click = r#"{"user_id":"u1","click_time":"2022-01-01 10:00:00"}"#;
    client.produce(&topic, &[Record::new(click)]);
    let compose = text_of("docker-compose.yml");
    let home = tempfile::tempdir().unwrap();
    let mut launch = Launch::new(home.path());
    for line in compose.lines() {
        let setting = line.trim().strip_prefix("WATERCLOCK_");
        if let Some((key, value)) = setting.and_then(|setting| setting.split_once(": ")) {
            launch = launch.set(key, value.trim_matches('"'));
        }
    }
    // What differs here: the test's flags lie over the variables, and the broker is the test's.
    let service = launch
        .set("KAFKA__BROKERS", broker.address())
        .set("STREAMS__CLICKS__TOPIC", &topic)
        .set("SNAPSHOT__INTERVAL", "100ms")
        .start();
    let metrics = until("a checkpoint", || {
        let metrics = service.get("/metrics").text();
        metrics.contains("checkpoint").then_some(metrics)
    });
    let board = text_of("docker/grafana/dashboards/waterclock.json");
    let named = board.split("waterclock_").skip(1).map(|rest| {
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        rest.split(|c| !is_name(c)).next().unwrap_or_default()
    });
    let missing = named.filter(|name| !metrics.contains(&format!("# TYPE waterclock_{name} ")));
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0], "in:\n{metrics}");
}
