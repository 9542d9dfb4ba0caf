//! What brokers refuse, and brokers that are gone: told, and gone on from.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Code};
use waterclock::source::kafka::KafkaOptions;

use crate::kafka::until;
use crate::reader::{Reader, TOPIC, client, mock, numbered, options};

#[test]
fn errors_of_fetches_lose_and_repeat_nothing() {
    let mock = mock(1, 1);
    let client = client(&mock);
    let mut reader = Reader::start(options(&mock.bootstrap_servers()));
    reader.until_live(0);
    let errors = [
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Code::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ];
    let mut next = 0;
    for error in errors {
        mock.request_errors(RDKafkaApiKey::Fetch, &[error; 3]);
        client.produce(TOPIC, &numbered(0, next..next + 10, 100));
        next += 10;
        reader.read_until(0, usize::try_from(next).unwrap());
    }
    reader.assert_numbers(0, 0..next);
    reader.until_well();
}

#[test]
fn a_refusal_is_told_until_it_is_taken_back() {
    let mock = mock(1, 1);
    let client = client(&mock);
    let mut reader = Reader::start(options(&mock.bootstrap_servers()));
    reader.until_live(0);
    mock.request_errors(
        RDKafkaApiKey::Fetch,
        &[Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 20],
    );
    let trouble = reader.trouble("the refusal");
    let expected = "topic 'clicks' cannot be read: Broker: Topic authorization failed";
    assert!(
        trouble.contains("Topic authorization failed"),
        "{trouble} or {expected}"
    );
    assert!(!reader.is_live(0), "it is not silent");
    client.produce(TOPIC, &numbered(0, 0..10, 10));
    mock.clear_request_errors(RDKafkaApiKey::Fetch);
    reader.read_until(0, 10);
    reader.until_well();
    reader.assert_numbers(0, 0..10);
}

#[test]
fn errors_of_questions_are_told_and_asked_again() {
    let mock = mock(1, 1);
    client(&mock).produce(TOPIC, &numbered(0, 0..10, 10));
    mock.request_errors(
        RDKafkaApiKey::ListOffsets,
        &[Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 2],
    );
    let mut reader = Reader::start(options(&mock.bootstrap_servers()));
    let trouble = reader.trouble("the refusal");
    assert!(
        trouble.contains("topic 'clicks' partition 0: where to start"),
        "{trouble}"
    );
    assert!(
        trouble.ends_with("Topic authorization failed)"),
        "{trouble}"
    );
    reader.read_until(0, 10);
    reader.until_well();
}

#[test]
fn leaders_change_and_nothing_is_lost() {
    let mock = mock(3, 1);
    let client = client(&mock);
    let mut reader = Reader::start(options(&mock.bootstrap_servers()));
    for turn in 0..6 {
        let leader = i32::try_from(turn % 3).unwrap() + 1;
        mock.partition_leader(TOPIC, 0, Some(leader)).unwrap();
        client.produce(TOPIC, &numbered(0, turn * 100..(turn + 1) * 100, 100));
        reader.read_until(0, usize::try_from(turn).unwrap() * 100 + 1);
    }
    reader.read_until(0, 600);
    reader.assert_numbers(0, 0..600);
    reader.until_well();
}

#[test]
fn one_broker_down_holds_up_its_partitions_alone() {
    let mock = mock(2, 2);
    let client = client(&mock);
    for partition in [0, 1] {
        mock.partition_leader(TOPIC, partition, Some(partition + 1))
            .unwrap();
    }
    let mut reader = Reader::start(options(&mock.bootstrap_servers()));
    reader.until_live(0);
    reader.until_live(1);
    mock.broker_down(2).unwrap();
    let trouble = reader.trouble_of("the broker that is down");
    let expected = "topic 'clicks' partition 1: its leader, broker 2, cannot be reached";
    assert_eq!(trouble, expected);
    assert!(!reader.is_live(1), "what cannot be reached is not silent");
    client.produce(TOPIC, &numbered(0, 0..10, 10));
    reader.read_until(0, 10);
    mock.broker_up(2).unwrap();
    client.produce(TOPIC, &numbered(1, 0..10, 10));
    reader.read_until(1, 10);
    reader.until_well();
}

#[test]
fn brokers_that_are_down_at_the_start_are_waited_for() {
    let mock = mock(1, 1);
    client(&mock).produce(TOPIC, &numbered(0, 0..10, 10));
    mock.broker_down(1).unwrap();
    let servers = mock.bootstrap_servers();
    let mut reader = Reader::resume(options(&servers), BTreeMap::from([(0, 5)]));
    let listed = reader.partitions();
    assert_eq!(
        (listed.len(), listed[0].id),
        (1, 0),
        "what was read before is listed"
    );
    let trouble = reader.trouble("the brokers that are down");
    assert!(trouble.contains("no broker of '127.0.0.1:"), "{trouble}");
    assert!(
        trouble.contains("cannot be reached") || trouble.contains("refused"),
        "{trouble}"
    );
    assert!(!reader.is_live(0), "it is not known to be silent");
    mock.broker_up(1).unwrap();
    reader.read_until(0, 5);
    reader.until_well();
    reader.assert_numbers(0, 5..10);
}

#[test]
fn brokers_that_go_down_are_told_and_come_back() {
    let mock = mock(1, 1);
    let mut reader = Reader::start(options(&mock.bootstrap_servers()));
    client(&mock).produce(TOPIC, &numbered(0, 0..10, 10));
    reader.read_until(0, 10);
    reader.until_live(0);
    mock.broker_down(1).unwrap();
    let trouble = reader.trouble("the broker that went down");
    assert!(trouble.contains("no broker of '127.0.0.1:"), "{trouble}");
    assert!(!trouble.contains("end of partition"), "{trouble}");
    assert!(!reader.is_live(0));
    mock.broker_up(1).unwrap();
    client(&mock).produce(TOPIC, &numbered(0, 10..20, 10));
    reader.read_until(0, 20);
    reader.until_live(0);
    reader.until_well();
    reader.assert_numbers(0, 0..20);
}

#[test]
fn a_partition_that_sends_nothing_though_it_could_is_told() {
    let mock = mock(1, 2);
    let options = KafkaOptions {
        silent_after: Duration::from_secs(1),
        ..options(&mock.bootstrap_servers())
    };
    let mut reader = Reader::start(options);
    // librdkafka tries again for ever after such an error, and says nothing.
    let error = Code::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH;
    mock.request_errors(RDKafkaApiKey::Fetch, &vec![error; 10_000]);
    client(&mock).produce(TOPIC, &numbered(0, 0..10, 10));
    let trouble = reader.trouble_of("the silence");
    let expected = "topic 'clicks' partition 0: 10 offsets are there, and nothing came for 1 s";
    assert_eq!(trouble, expected);
    assert!(!reader.is_live(0), "it is not idle");
    mock.clear_request_errors(RDKafkaApiKey::Fetch);
    reader.read_until(0, 10);
    reader.until_well();
    reader.assert_numbers(0, 0..10);
    reader.until_live(1);
}

#[test]
fn a_commit_that_is_refused_is_sent_again() {
    let mock = mock(1, 1);
    let client = client(&mock);
    client.produce(TOPIC, &numbered(0, 0..10, 10));
    let mut reader = Reader::start(options(&mock.bootstrap_servers()));
    reader.until_live(0);
    mock.request_errors(
        RDKafkaApiKey::OffsetCommit,
        &[Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 1],
    );
    reader.checkpoint(&[(0, 10)]);
    until("the commit", || {
        (client.committed("readers", TOPIC) == BTreeMap::from([(0, 10)])).then_some(())
    });
}
