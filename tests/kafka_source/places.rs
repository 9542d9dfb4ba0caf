//! Where reading begins, and what is told where it cannot.

use std::collections::BTreeMap;

use waterclock::source::kafka::{KafkaOptions, Start};

use crate::kafka::{Client, Record, until};
use crate::reader::{Mock, Reader, TOPIC, client, mock, numbered, options};

fn starting(servers: &str, start: Start) -> KafkaOptions {
    KafkaOptions {
        start,
        ..options(servers)
    }
}

#[test]
fn latest_begins_all_partitions_or_none() {
    let mock = mock(2, 2);
    let client = client(&mock);
    client.produce(TOPIC, &numbered(0, 0..5, 10));
    client.produce(TOPIC, &numbered(1, 0..5, 10));
    mock.partition_leader(TOPIC, 1, None).unwrap();
    let mut reader = Reader::start(starting(&mock.bootstrap_servers(), Start::Latest));
    let trouble = reader.trouble("the partition without a leader");
    assert!(
        trouble.contains("partition 1: where to start is not known"),
        "{trouble}"
    );
    // Were one listed, a restart would take the stream for known and read the other from its start.
    assert_eq!(reader.partitions(), []);
    mock.partition_leader(TOPIC, 1, Some(1)).unwrap();
    until("both to begin", || {
        reader.look().unwrap();
        (reader.at == BTreeMap::from([(0, 5), (1, 5)])).then_some(())
    });
    client.produce(TOPIC, &numbered(1, 5..6, 10));
    reader.read_until(1, 1);
    reader.assert_numbers(1, 5..6);
}

#[test]
fn a_topic_that_is_created_later_is_read_from_its_beginning() {
    let mock = Mock::new(1).unwrap();
    let mut reader = Reader::start(starting(&mock.bootstrap_servers(), Start::Latest));
    let trouble = reader.trouble("the missing topic");
    assert!(
        trouble.contains("there is no topic 'clicks' on"),
        "{trouble}"
    );
    // Found by its partitions only after records are in it.
    mock.create_topic(TOPIC, 1, 1).unwrap();
    client(&mock).produce(TOPIC, &numbered(0, 0..5, 10));
    reader.read_until(0, 5);
    reader.assert_numbers(0, 0..5);
    assert_eq!(reader.source_problem(), None);
}

#[test]
fn a_start_beyond_the_end_is_told() {
    let mock = mock(1, 1);
    client(&mock).produce(TOPIC, &numbered(0, 0..5, 10));
    let start = Start::Offsets(BTreeMap::from([(0, 6)]));
    let mut reader = Reader::start(starting(&mock.bootstrap_servers(), start));
    let trouble = reader.trouble("the start");
    let expected =
        "topic 'clicks' partition 0: where to start is not known: 6 is beyond its end, 5";
    assert_eq!(trouble, expected);
    client(&mock).produce(TOPIC, &numbered(0, 5..7, 10));
    reader.read_until(0, 1);
    reader.assert_numbers(0, 6..7);
}

#[test]
fn another_topic_of_the_same_name_is_noticed() {
    let (old, new) = (mock(1, 1), mock(1, 1));
    client(&old).produce(TOPIC, &numbered(0, 0..10, 10));
    let mut reader = Reader::start(options(&old.bootstrap_servers()));
    reader.read_until(0, 10);
    let (at, last) = (reader.at.clone(), reader.last[&0]);

    let begin = |records: u64| {
        let topic = mock(1, 1);
        client(&topic).produce(TOPIC, &numbered(0, 100..100 + records, 10));
        let mut reader = Reader::resume(options(&topic.bootstrap_servers()), at.clone());
        reader.recognise(last);
        let trouble = reader.trouble("another topic");
        assert_eq!(reader.read, BTreeMap::new());
        trouble
    };
    let fewer = begin(9);
    assert!(
        fewer.contains("ends at offset 9, but 10 is next: the topic was made anew"),
        "{fewer}"
    );
    let more = begin(20);
    assert!(
        more.contains("another record at offset 9 than was read: the topic"),
        "{more}"
    );
    drop(new);
}

#[test]
fn a_last_record_that_is_gone_proves_nothing() {
    let mock = mock(1, 1);
    let client = client(&mock);
    // More than the brokers keep: what was read first is deleted meanwhile.
    client.produce(TOPIC, &numbered(0, 0..10, 10));
    let mut reader = Reader::start(options(&mock.bootstrap_servers()));
    reader.read_until(0, 10);
    let (at, last) = (reader.at.clone(), reader.last[&0]);
    client.produce(TOPIC, &numbered(0, 10..20, 900_000));
    let options = KafkaOptions {
        skip_lost: true,
        ..options(&mock.bootstrap_servers())
    };
    let mut reader = Reader::resume(options, at);
    reader.recognise(last);
    reader.read_until(0, 3);
    let first = reader.read[&0][0].0;
    assert_eq!(reader.lost, first - 10, "what is gone is counted");
    assert!(reader.lost > 0, "brokers keep 5 MB");
    reader.assert_numbers(0, first..first + reader.read[&0].len() as u64);
}

#[test]
fn lost_records_stop_a_partition_by_themselves() {
    let mock = mock(1, 2);
    let client = client(&mock);
    client.produce(TOPIC, &numbered(0, 0..10, 900_000));
    client.produce(TOPIC, &numbered(1, 0..10, 10));
    let at = BTreeMap::from([(0, 0), (1, 0)]);
    let mut reader = Reader::resume(options(&mock.bootstrap_servers()), at);
    let trouble = reader.trouble("the lost records");
    assert!(
        trouble.contains("topic 'clicks' partition 0 begins at offset "),
        "{trouble}"
    );
    assert!(
        trouble.contains("but 0 is next: ") && trouble.contains("on_lost"),
        "{trouble}"
    );
    until("the other partition", || {
        for partition in reader.partitions().iter().filter(|found| found.id == 1) {
            reader.look_at(partition).unwrap();
        }
        (reader.at[&1] == 10).then_some(())
    });
    assert!(!reader.is_live(0));
}

#[test]
fn the_group_hears_of_checkpoints() {
    let mock = mock(1, 2);
    let client = client(&mock);
    client.produce(
        TOPIC,
        &[Record::new("1").partition(0), Record::new("2").partition(1)],
    );
    let mut reader = Reader::start(options(&mock.bootstrap_servers()));
    reader.until_live(0);
    reader.until_live(1);
    reader.checkpoint(&[(0, 1)]);
    committed(&client, &[(0, 1)]);
    // The last word is sent before the end, whatever is under way then.
    reader.checkpoint(&[(1, 0)]);
    reader.checkpoint(&[(1, 1)]);
    drop(reader);
    assert_eq!(
        client.committed("readers", TOPIC),
        BTreeMap::from([(0, 1), (1, 1)])
    );
}

fn committed(client: &Client, expected: &[(i32, i64)]) {
    let expected: BTreeMap<i32, i64> = expected.iter().copied().collect();
    until("the group to hear", || {
        (client.committed("readers", TOPIC) == expected).then_some(())
    });
}
