//! Messages of every shape, and what comes beside them.

use std::collections::BTreeMap;
use std::time::Duration;

use waterclock::record::{Format, Message};
use waterclock::source::Source;
use waterclock::source::kafka::{KafkaOptions, KafkaSource, Start};
use waterclock::time::Timestamp;

use crate::clicks::{Clicks, click, kill_and_start, rejected, total, wait_for};
use crate::kafka::{Broker, Record, until};

#[test]
fn each_codec_is_read() {
    let Some(topic) = Clicks::new(1) else {
        return;
    };
    for (i, codec) in (0..).zip(["none", "gzip", "snappy", "lz4", "zstd"]) {
        let records: Vec<_> = (0..100)
            .map(|n| Record::new(click(codec, i * 100 + n)))
            .collect();
        topic
            .client
            .produce_with(&topic.topic, &records, &[("compression.type", codec)]);
    }
    let service = topic.launch().start_ready();
    wait_for(&service, 500);
    let counts = crate::clicks::counts(&service);
    assert_eq!(counts.len(), 5, "{counts:?}");
    assert!(counts.values().all(|count| *count == 100), "{counts:?}");
}

#[test]
fn odd_messages_hold_up_nobody() {
    let Some(topic) = Clicks::new(1) else {
        return;
    };
    let headers = (0..10_000).fold(Record::new(click("headers", 2)), |record, i| {
        record.header(&format!("h{i}"), "v")
    });
    let large = format!(
        r#"{{"user_id":"large","click_time":"2022-01-01 10:00:03","fill":"{}"}}"#,
        "x".repeat(900 * 1024)
    );
    let printed = "{\n  \"user_id\": \"printed\",\n  \"click_time\": \"2022-01-01 10:00:04\"\n}\n";
    topic.produce(&[
        Record::new(""),
        Record::tombstone("a"),
        Record::new(click("nokey", 1)),
        headers,
        Record::new(large).key("k"),
        Record::new(printed).key(""),
        Record::default(),
    ]);
    let launch = topic.launch();
    let service = launch.start_ready();
    wait_for(&service, 4);
    topic.wait_for_the_end(&service);
    let users: Vec<_> = crate::clicks::counts(&service).into_keys().collect();
    assert_eq!(users, ["headers", "large", "nokey", "printed"]);
    let no_use = "no value: the record type has no use for tombstones";
    let expected = [
        (
            0,
            0,
            "EOF while parsing a value at line 1 column 0".to_owned(),
        ),
        (0, 1, no_use.to_owned()),
        (0, 6, no_use.to_owned()),
    ];
    assert_eq!(rejected(&service), expected);
    let service = kill_and_start(service, &launch);
    assert_eq!(
        (total(&service), rejected(&service)),
        (4, expected.to_vec())
    );
}

/// How the topic is read by itself.
fn options(topic: &Clicks, broker: &Broker) -> KafkaOptions {
    let servers = ("bootstrap.servers".to_owned(), broker.address().to_owned());
    KafkaOptions {
        stream: "clicks".to_owned(),
        topic: topic.topic.clone(),
        format: Format::Raw,
        start: Start::Earliest,
        skip_lost: false,
        group: topic.topic.clone(),
        properties: [servers].into(),
        buffer_bytes: 1 << 20,
        discover_every: Duration::from_secs(1),
        silent_after: Duration::from_secs(30),
        registry: None,
    }
}

#[test]
fn all_that_is_beside_a_message_arrives() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    for setting in ["CreateTime", "LogAppendTime"] {
        let settings = [("message.timestamp.type", setting)];
        let topic = Clicks::with(broker, 2, &settings);
        let headers = Record::new("full")
            .header("trace", "1")
            .header("trace", "2");
        topic.produce(&[
            headers.key("k").partition(1).at(1_640_995_200_000),
            Record::tombstone("k").partition(1).at(5),
        ]);
        let mut source = KafkaSource::open(options(&topic, broker)).unwrap();
        source.resume(&BTreeMap::new());
        let chunk = until("the messages", || {
            source.partitions().unwrap();
            let chunk = source.read(1, 0, 1 << 20, None).unwrap()?;
            (chunk.end == 2).then_some(chunk)
        });
        let all: Vec<_> = Message::all(&chunk.bytes)
            .map(|(_, message)| message)
            .collect();
        let [full, tombstone] = all[..] else {
            panic!("{all:?}");
        };
        let envelope = full.envelope(chunk.partition);
        assert_eq!((envelope.partition, envelope.position), (1, 0));
        assert_eq!(
            (full.value, envelope.key),
            (Some(&b"full"[..]), Some(&b"k"[..]))
        );
        let headers: Vec<_> = envelope.headers().collect();
        assert_eq!(
            headers,
            [("trace", Some(&b"1"[..])), ("trace", Some(&b"2"[..]))]
        );
        assert_eq!((tombstone.value, tombstone.key), (None, Some(&b"k"[..])));
        let times = [full.timestamp, tombstone.timestamp];
        if setting == "CreateTime" {
            assert_eq!(
                times,
                [Some(Timestamp(1_640_995_200_000)), Some(Timestamp(5))]
            );
            assert!(!full.is_append_time);
        } else {
            // The broker's clock is this machine's.
            assert!(
                times
                    .iter()
                    .all(|time| *time > Some(Timestamp(1_700_000_000_000)))
            );
            assert!(full.is_append_time && tombstone.is_append_time);
        }
    }
}

/// The present, from another clock than the service's: the broker's.
fn now(topic: &Clicks) -> i64 {
    topic.produce(&[Record::new("{}")]);
    let read = topic.client.read(&topic.topic);
    read.iter()
        .filter_map(|record| record.timestamp_ms)
        .max()
        .expect("one was written")
}

#[test]
fn a_time_far_ahead_of_its_arrival_is_rejected_and_stays_so() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    for setting in ["CreateTime", "LogAppendTime"] {
        let settings = [("message.timestamp.type", setting)];
        let topic = Clicks::with(broker, 1, &settings);
        let (now, hour) = (now(&topic), 3_600_000);
        let at = |user: &str, ms: i64| {
            Record::new(format!(r#"{{"user_id":"{user}","click_time":{ms}}}"#)).at(now)
        };
        let far = [
            at("year 2262", i64::MAX / 1_000_000),
            at("ahead", now + 2 * hour),
        ];
        topic.produce(&[far.as_slice(), &[at("soon", now + hour / 2)]].concat());
        let launch = topic.launch().set("SNAPSHOT__INTERVAL", "1h");
        let service = launch.start_ready();
        wait_for(&service, 1);
        topic_is_read(&service, 4);
        let expected: Vec<_> = [1, 2]
            .map(|offset| (0, offset, "ahead".to_owned()))
            .into_iter()
            .collect();
        assert_eq!(rejected(&service)[1..], expected, "{setting}");
        let path = "/v1/streams/clicks/rejected";
        let before = crate::clicks::rows(&service, path);
        let service = kill_and_start(service, &launch);
        assert_eq!(
            (total(&service), crate::clicks::rows(&service, path)),
            (1, before)
        );
    }
}

fn topic_is_read(service: &crate::service::Client, end: u64) {
    until("the end", || {
        (crate::clicks::positions(service) == [end]).then_some(())
    });
}
