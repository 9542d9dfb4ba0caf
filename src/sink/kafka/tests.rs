//! The Kafka sink against librdkafka's mock cluster, which gives errors on demand. It keeps what
//! aborted transactions wrote, so who must not see that is tested against a real broker.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};

use super::{KafkaSettings, KafkaSink};
use crate::row::Row;
use crate::sink::{Progress, Sink, SinkError};
use crate::time::Epoch;
use crate::view::{Delivery, Kind, Message};

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).expect("a mock cluster starts");
    cluster.create_topic("out", 1, 1).unwrap();
    cluster.create_topic(super::ledger::TOPIC, 1, 1).unwrap();
    cluster
}

fn brokers(cluster: &Cluster) -> BTreeMap<String, String> {
    let name = "bootstrap.servers".to_owned();
    [(name, cluster.bootstrap_servers())].into()
}

fn settings(cluster: &Cluster, delivery: Delivery) -> KafkaSettings {
    KafkaSettings {
        properties: brokers(cluster),
        group: "g".to_owned(),
        sink: "s".to_owned(),
        topic: "out".to_owned(),
        delivery,
    }
}

fn sink(cluster: &Cluster, delivery: Delivery) -> KafkaSink {
    KafkaSink::new(settings(cluster, delivery)).unwrap()
}

fn message(key: &str, value: u64, kind: Kind) -> Message {
    let row = Row::new(&key, &value, None).unwrap();
    Message { row, kind }
}

fn progress(epoch: Epoch) -> Progress {
    Progress {
        run: 1,
        epoch,
        fingerprint: "f".to_owned(),
    }
}

fn commit(sink: &mut KafkaSink, epoch: Epoch) -> Result<(), SinkError> {
    sink.commit(&[message("a", epoch, Kind::Upsert)], &progress(epoch))
}

/// The first so many messages of a topic, as key and value.
fn read(cluster: &Cluster, topic: &str, count: usize) -> Vec<(String, Option<String>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "reader")
        .create()
        .unwrap();
    let mut start = TopicPartitionList::new();
    start
        .add_partition_offset(topic, 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&start).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let next = || {
        let message = consumer
            .poll(Duration::from_secs(30))
            .expect("there is one");
        let message = message.unwrap();
        (text(message.key().unwrap()), message.payload().map(text))
    };
    (0..count).map(|_| next()).collect()
}

fn why(result: Result<impl std::fmt::Debug, SinkError>) -> String {
    match result {
        Err(SinkError::Retry(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_and_progress_arrive() {
    for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
        let cluster = cluster();
        let mut one = sink(&cluster, delivery);
        assert_eq!(one.open(), Ok(None));
        let messages = [
            message("a", 1, Kind::Upsert),
            message("b", 2, Kind::Tombstone),
            message("c", 3, Kind::Final),
        ];
        one.commit(&messages, &progress(7)).unwrap();
        one.commit(&[], &progress(8)).unwrap();
        let some = |text: &str| Some(text.to_owned());
        let expected = [
            (r#""a""#.to_owned(), some(r#"{"key":"a","value":1}"#)),
            (r#""b""#.to_owned(), None),
            (
                r#""c""#.to_owned(),
                some(r#"{"key":"c","value":3,"final":true}"#),
            ),
        ];
        assert_eq!(read(&cluster, "out", 3), expected);
        // The same process begins anew, and so does the next.
        assert_eq!(one.open(), Ok(Some(progress(8))));
        let mut other = sink(&cluster, delivery);
        assert_eq!(other.open(), Ok(Some(progress(8))));
    }
}

#[test]
fn sinks_of_one_cluster_keep_their_own_progress() {
    let cluster = cluster();
    let mut one = sink(&cluster, Delivery::ExactlyOnce);
    one.open().unwrap();
    commit(&mut one, 1).unwrap();
    let settings = KafkaSettings {
        sink: "t".to_owned(),
        ..settings(&cluster, Delivery::ExactlyOnce)
    };
    let mut other = KafkaSink::new(settings).unwrap();
    assert_eq!(other.open(), Ok(None));
    commit(&mut other, 2).unwrap();
    assert_eq!(one.open(), Ok(Some(progress(1))));
}

#[test]
fn who_is_followed_by_another_gives_way() {
    let cluster = cluster();
    let mut old = sink(&cluster, Delivery::ExactlyOnce);
    old.open().unwrap();
    commit(&mut old, 1).unwrap();
    let mut new = sink(&cluster, Delivery::ExactlyOnce);
    assert_eq!(new.open(), Ok(Some(progress(1))));
    // The mock shuts nobody out by itself.
    let fenced = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED];
    cluster.request_errors(RDKafkaApiKey::EndTxn, &fenced);
    why(commit(&mut old, 2));
    let Err(SinkError::Stop(stopped)) = old.open() else {
        panic!("it goes on");
    };
    let words = "another process sends as 'g/s' now";
    assert!(stopped.contains(words), "{stopped}");
    // In finding that out it shut the new one out, which goes on all the same.
    cluster.request_errors(RDKafkaApiKey::EndTxn, &fenced);
    why(commit(&mut new, 3));
    assert!(new.open().is_ok());
    commit(&mut new, 4).unwrap();
}

#[test]
fn what_passes_is_tried_again_by_the_producer_itself() {
    let cluster = cluster();
    let mut sink = sink(&cluster, Delivery::ExactlyOnce);
    sink.open().unwrap();
    let passing = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
    ];
    cluster.request_errors(RDKafkaApiKey::EndTxn, &passing);
    let passing = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION];
    cluster.request_errors(RDKafkaApiKey::Produce, &passing);
    commit(&mut sink, 1).unwrap();
    assert_eq!(sink.open(), Ok(Some(progress(1))));
}

#[test]
fn what_does_not_pass_is_told_and_begun_anew() {
    use RDKafkaRespErr as E;
    let errors = [
        // A right was taken away.
        (
            RDKafkaApiKey::AddPartitionsToTxn,
            E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            "uthoriz",
        ),
        // The transaction took too long, and the broker ended it.
        (
            RDKafkaApiKey::EndTxn,
            E::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
            "transaction",
        ),
        (
            RDKafkaApiKey::Produce,
            E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
            "arge",
        ),
    ];
    for (request, error, words) in errors {
        let cluster = cluster();
        let mut sink = sink(&cluster, Delivery::ExactlyOnce);
        sink.open().unwrap();
        commit(&mut sink, 1).unwrap();
        cluster.request_errors(request, &[error]);
        let why = why(commit(&mut sink, 2));
        assert!(why.contains(words), "{why}");
        // The mock takes nothing back that was written.
        let found = sink.open().expect("it begins anew");
        assert!(found.is_some_and(|found| found.epoch <= 2));
        commit(&mut sink, 3).unwrap();
        assert_eq!(sink.open(), Ok(Some(progress(3))), "{why}");
    }
}

#[test]
fn settings_that_librdkafka_does_not_know_are_refused_at_once() {
    let cluster = cluster();
    let settings = settings(&cluster, Delivery::ExactlyOnce);
    for (key, value) in [("no.such.key", "1"), ("compression.type", "rar")] {
        let settings = KafkaSettings {
            properties: [(key.to_owned(), value.to_owned())].into(),
            ..settings.clone()
        };
        let Err(why) = KafkaSink::new(settings) else {
            panic!("it is taken");
        };
        assert!(why.contains("sink 's'") && why.contains(key), "{why}");
    }
}
