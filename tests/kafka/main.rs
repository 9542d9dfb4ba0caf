//! Reading from a real Kafka: nothing lost, nothing twice, and what is wrong is said.

use kafka::{Broker, Record, unique, until};
use serde_json::Value;
use service::{Launch, Service};

#[path = "../support/kafka/mod.rs"]
mod kafka;
#[allow(dead_code, reason = "other tests need more of it")]
#[path = "../support/service.rs"]
mod service;

/// A service that reads `clicks` from a topic.
fn launch(home: &std::path::Path, broker: &Broker, topic: &str) -> Launch {
    Launch::new(home)
        .set("KAFKA__BROKERS", broker.address())
        .set("KAFKA__GROUP", topic)
        .set("KAFKA__DISCOVER_EVERY", "500ms")
        .set("STREAMS__CLICKS__SOURCE", "kafka")
        .set("STREAMS__CLICKS__TOPIC", topic)
        .set("SNAPSHOT__INTERVAL", "500ms")
}

fn click(user: &str, second: u32) -> String {
    let (minute, second) = (second / 60 % 60, second % 60);
    format!(r#"{{"user_id":"{user}","click_time":"2022-01-01 10:{minute:02}:{second:02}"}}"#)
}

/// How many records were read of each partition.
fn positions(service: &Service) -> Vec<u64> {
    let stream = service.stream("clicks");
    let partitions = stream["partitions"].as_array().expect("a list");
    let position = |p: &Value| p["position"].as_u64().expect("a number");
    partitions.iter().map(position).collect()
}

/// The sum of all counts.
fn total(service: &Service) -> u64 {
    let rows = service
        .get("/v1/queries/clicks_per_user_tumbling?limit=10000")
        .json();
    let rows = rows["rows"].as_array().expect("a list");
    let count = |row: &Value| row["value"].as_u64().expect("a number");
    rows.iter().map(count).sum()
}

#[test]
fn clicks_of_a_topic_are_counted() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let (client, topic) = (broker.client(), unique("clicks"));
    client.create_topic(&topic, 2, &[]);
    let clicks = |n: u32| -> Vec<Record> {
        (0..n)
            .map(|i| Record::new(click("u", i)).partition((i % 2).cast_signed()))
            .collect()
    };
    client.produce(&topic, &clicks(10));
    let home = tempfile::tempdir().unwrap();
    let service = launch(home.path(), broker, &topic).start_ready();
    until("ten clicks", || (total(&service) == 10).then_some(()));
    assert_eq!(positions(&service), [5, 5]);
    client.produce(&topic, &clicks(4));
    until("four more", || (total(&service) == 14).then_some(()));
    until("the group to hear", || {
        (client.committed(&topic, &topic) == [(0, 7), (1, 7)].into()).then_some(())
    });
}
