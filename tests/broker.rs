//! The broker that other tests rely on: what is written is read by clients that share no code with
//! those that wrote it, and what a test does to the broker happens.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use kafka::{Broker, Record, unique, until};
use rdkafka::error::RDKafkaErrorCode;

#[path = "support/kafka/mod.rs"]
mod kafka;

const HOLD: &str = "WATERCLOCK_TEST_HOLD";
const ADDRESS: &str = "broker at ";

const LONG: Duration = Duration::from_secs(60);

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(Record::text).collect()
}

#[test]
fn what_librdkafka_writes_java_reads() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let (client, topic) = (broker.client(), unique("there"));
    client.create_topic(&topic, 3, &[]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let record = Record::new("value").key(codec).partition(1);
        client.produce_with(&topic, &[record], &[("compression.type", codec)]);
    }
    assert_eq!(
        client.end_offsets(&topic),
        BTreeMap::from([(0, 0), (1, 5), (2, 0)])
    );
    let Some(tools) = broker.tools() else {
        return;
    };
    let lines = [
        "none\tvalue",
        "gzip\tvalue",
        "snappy\tvalue",
        "lz4\tvalue",
        "zstd\tvalue",
    ];
    assert_eq!(tools.read(&topic, 5), lines);
}

#[test]
fn what_java_writes_librdkafka_reads() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let Some(tools) = broker.tools() else {
        return;
    };
    let (client, topic) = (broker.client(), unique("back"));
    client.create_topic(&topic, 4, &[]);
    tools.produce(&topic, (0..1000).map(|i| format!("u{}\t{i}", i % 10)));
    let records = client.read(&topic);
    assert_eq!(records.len(), 1000);
    for user in 0..10 {
        let key = format!("u{user}").into_bytes();
        let of_user = records
            .iter()
            .filter(|record| record.key.as_ref() == Some(&key));
        let expected = (0..1000).filter(|i| i % 10 == user).map(|i| i.to_string());
        assert!(
            of_user.map(Record::text).eq(expected),
            "in order, in one partition"
        );
    }
}

#[test]
fn all_of_a_record_arrives() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let (client, topic) = (broker.client(), unique("whole"));
    client.create_topic(&topic, 2, &[]);
    let first = Record::new("{}")
        .key("a")
        .partition(1)
        .at(1_640_995_200_000);
    let records = [
        first.header("trace", "1").header("trace", "2"),
        Record::tombstone("a").partition(1).at(1_640_995_200_001),
        Record::new("").partition(1).at(5),
    ];
    client.produce(&topic, &records);
    let mut read = client.read(&topic);
    for (offset, record) in (0..).zip(&mut read) {
        assert_eq!(record.offset.take(), Some(offset));
    }
    assert_eq!(read, records);
}

#[test]
fn restarts_keep_the_data() {
    let Some(mut broker) = Broker::start() else {
        return;
    };
    let (client, topic) = (broker.client(), "kept");
    client.create_topic(topic, 1, &[]);
    client.produce(topic, &[Record::new("before")]);
    broker.restart();
    client.produce(topic, &[Record::new("between")]);
    broker.kill();
    broker.start_again();
    client.produce(topic, &[Record::new("after")]);
    assert_eq!(texts(&client.read(topic)), ["before", "between", "after"]);
}

#[test]
fn transactions_are_read_whole_or_not_at_all() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let (client, topic, id) = (broker.client(), unique("atomic"), unique("writer"));
    client.create_topic(&topic, 1, &[]);
    let aborted = client.begin(&id, LONG);
    aborted.send(&topic, &[Record::new("never")]);
    aborted.abort();
    let committed = client.begin(&id, LONG);
    committed.send(&topic, &[Record::new("one"), Record::new("two")]);
    committed.commit();
    let open = client.begin(&id, LONG);
    open.send(&topic, &[Record::new("not yet")]);
    assert_eq!(texts(&client.read(&topic)), ["one", "two"]);
    let all = texts(&client.read_uncommitted(&topic));
    assert_eq!(all, ["never", "one", "two", "not yet"]);
    if let Some(tools) = broker.tools() {
        let is_open = (id.clone(), "Ongoing".to_owned());
        assert!(tools.open_transactions().contains(&is_open));
        open.commit();
        let found = tools.open_transactions();
        assert!(found.iter().all(|(other, _)| *other != id), "{found:?}");
        assert_eq!(tools.hanging_transactions(), [""; 0]);
    }
}

#[test]
fn a_transaction_that_is_left_open_ends_by_its_timeout() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let (client, topic) = (broker.client(), unique("left"));
    client.create_topic(&topic, 1, &[]);
    let left = client.begin(&unique("writer"), Duration::from_secs(1));
    left.send(&topic, &[Record::new("never")]);
    drop(left);
    client.produce(&topic, &[Record::new("behind it")]);
    until("the transaction to end", || {
        let read = texts(&client.read(&topic));
        assert!(read.is_empty() || read == ["behind it"], "{read:?}");
        (!read.is_empty()).then_some(())
    });
}

#[test]
fn topics_grow_and_come_again() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let (client, topic) = (broker.client(), unique("grown"));
    client.create_topic(&topic, 1, &[("cleanup.policy", "compact")]);
    client.raise_partitions(&topic, 3);
    client.produce(&topic, &[Record::new("x").key("k").partition(2)]);
    assert_eq!(
        client.end_offsets(&topic),
        BTreeMap::from([(0, 0), (1, 0), (2, 1)])
    );
    let id = broker.tools().map(|tools| tools.topic_id(&topic));
    client.delete_topic(&topic);
    client.create_topic(&topic, 1, &[]);
    assert_eq!(client.read(&topic), []);
    assert!(id.is_none() || broker.tools().map(|tools| tools.topic_id(&topic)) != id);
}

#[test]
fn records_before_an_offset_can_be_deleted() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let (client, topic) = (broker.client(), unique("cut"));
    client.create_topic(&topic, 1, &[]);
    client.produce(&topic, &["a", "b", "c"].map(Record::new));
    client.delete_records(&topic, 0, 2);
    assert_eq!(client.begin_offsets(&topic), BTreeMap::from([(0, 2)]));
    assert_eq!(texts(&client.read(&topic)), ["c"]);
}

#[test]
fn a_group_commits_offsets() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let (client, topic, group) = (broker.client(), unique("read"), unique("readers"));
    client.create_topic(&topic, 2, &[]);
    client.produce(
        &topic,
        &["a", "b", "c"].map(|text| Record::new(text).partition(1)),
    );
    assert_eq!(client.committed(&group, &topic), BTreeMap::new());
    client.commit(&group, &topic, &BTreeMap::from([(1, 2)]));
    assert_eq!(client.committed(&group, &topic), BTreeMap::from([(1, 2)]));
}

#[test]
fn the_right_to_read_can_be_taken() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let Some(tools) = broker.tools() else {
        return;
    };
    let (client, topic) = (broker.client(), unique("secret"));
    client.create_topic(&topic, 1, &[]);
    tools.revoke_reading(&topic);
    client.produce(&topic, &[Record::new("a")]);
    let refused = client.try_read(&topic, "read_committed").unwrap_err();
    let reason = refused.rdkafka_error_code();
    assert_eq!(reason, Some(RDKafkaErrorCode::TopicAuthorizationFailed));
    tools.restore_reading(&topic);
    assert_eq!(texts(&client.read(&topic)), ["a"]);
}

/// Does nothing by itself; `a_broker_dies_with_its_test` runs it as a test that is killed.
#[test]
fn holds_a_broker() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    if let Some(broker) = Broker::start() {
        println!("\n{ADDRESS}{}", broker.address());
        io::stdin().read_line(&mut String::new()).unwrap();
    }
}

#[test]
fn a_broker_dies_with_its_test() {
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holds_a_broker", "--nocapture"])
        .env(HOLD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(test.stdout.take().unwrap());
    let mut lines = stdout.lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix(ADDRESS).map(str::to_owned));
    let Some(address) = address else {
        assert!(
            test.wait().unwrap().success(),
            "skipped, or failed to start"
        );
        return;
    };
    test.kill().unwrap();
    test.wait().unwrap();
    let refuses = || TcpStream::connect(&address).is_err().then_some(());
    until("the broker to die", refuses);
}
