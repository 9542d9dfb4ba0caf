//! What comes beside a record: key, headers, partition, offset and time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use waterclock::prelude::*;
use waterclock::record::{Format, Headers, Message};
use waterclock::testing::Round;

use super::{keyed, message, reasons, start, written};

/// A text that knows all that came beside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Letter {
    value: Text,
    #[serde(default)]
    key: Option<Text>,
    #[serde(default)]
    headers: Vec<(Text, Option<Text>)>,
    #[serde(default)]
    trace: Option<Text>,
    #[serde(default)]
    partition: u32,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    at: Timestamp,
    #[serde(default)]
    deleted: bool,
}

fn text(bytes: &[u8]) -> Text {
    String::from_utf8_lossy(bytes).into()
}

impl Event for Letter {
    const STREAM: &'static str = "letters";
    const LATENESS: Duration = seconds(0);

    fn time(&self) -> Timestamp {
        self.at
    }

    fn receive(&mut self, envelope: &Envelope<'_>) {
        self.key = envelope.key.map(text);
        let headers = envelope.headers();
        self.headers = headers
            .map(|(name, value)| (name.into(), value.map(text)))
            .collect();
        self.trace = envelope.header("trace").map(text);
        (self.partition, self.offset) = (envelope.partition, envelope.position);
        self.at = envelope.timestamp.unwrap_or(Timestamp(-1));
    }

    fn tombstone(envelope: &Envelope<'_>) -> Option<Letter> {
        let key = envelope.key.map(text)?;
        assert_ne!(key, "panic", "user code may do anything");
        Some(Letter {
            value: Text::default(),
            key: Some(key),
            headers: Vec::new(),
            trace: None,
            partition: envelope.partition,
            offset: envelope.position,
            at: envelope.timestamp.unwrap_or(Timestamp(-1)),
            deleted: true,
        })
    }
}

impl Entity for Letter {
    type Key = Text;

    fn key(&self) -> Text {
        self.key.clone().unwrap_or_default()
    }
}

/// The newest letter of each key.
fn letters(flow: Flow) -> Table<Text, Letter> {
    flow.table::<Letter>()
}

fn headers(all: &[(&str, Option<&[u8]>)]) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in all {
        headers.push(name, *value);
    }
    headers
}

#[test]
fn a_record_takes_what_comes_beside_it() {
    let mut steps = start("letters", letters);
    let beside = headers(&[
        ("trace", Some(b"1")),
        ("none", None),
        ("trace", Some(b"2")),
        ("empty", Some(b"")),
    ]);
    let full = Message {
        timestamp: Some(Timestamp(5)),
        headers: beside.as_bytes(),
        ..keyed(41, "a", Some("hello"))
    };
    steps.epoch(
        Round::new()
            .at(1000)
            .messages("letters", 3, Format::Raw, &[full]),
    );
    let expected = concat!(
        r#""a" {"value":"hello","key":"a","#,
        r#""headers":[["trace","1"],["none",null],["trace","2"],["empty",""]],"trace":"2","#,
        r#""partition":3,"offset":41,"at":5,"deleted":false}"#,
    );
    assert_eq!(written(&steps.rows("letters")), [expected]);
}

#[test]
fn nothing_beside_it_is_nothing() {
    let mut steps = start("letters", letters);
    let bare = [
        message(0, b"x"),
        Message {
            key: Some(b""),
            ..message(1, b"")
        },
    ];
    steps.epoch(Round::new().messages("letters", 0, Format::Raw, &bare));
    // A key of no bytes is a key; a value of no bytes is a record.
    let expected = concat!(
        r#""" {"value":"","key":"","headers":[],"trace":null,"#,
        r#""partition":0,"offset":1,"at":-1,"deleted":false}"#,
    );
    assert_eq!(written(&steps.rows("letters")), [expected]);
    assert_eq!(steps.rejected_total("letters"), 0);
}

#[test]
fn ten_thousand_headers_are_received() {
    let mut steps = start("letters", letters);
    let mut all = Headers::default();
    for i in 0..10_000 {
        all.push(&format!("h{i}"), Some(b"v"));
    }
    all.push("trace", Some(b"last"));
    let heavy = Message {
        headers: all.as_bytes(),
        ..keyed(7, "a", Some("x"))
    };
    let after = keyed(8, "b", Some("y"));
    steps.epoch(Round::new().messages("letters", 0, Format::Raw, &[heavy, after]));
    let rows = steps.rows("letters");
    assert_eq!(rows.len(), 2);
    let row: Letter = serde_json::from_str(rows[0].0.value()).unwrap();
    assert_eq!(
        (row.headers.len(), row.trace.as_deref()),
        (10_001, Some("last"))
    );
}

#[test]
fn a_tombstone_takes_the_row_of_its_key_away() {
    let mut steps = start("letters", letters);
    let at = |position, key, value, ms| Message {
        timestamp: Some(Timestamp(ms)),
        ..keyed(position, key, value)
    };
    let first = [at(0, "a", Some("1"), 10), at(1, "b", Some("1"), 10)];
    steps.epoch(
        Round::new()
            .at(1000)
            .messages("letters", 0, Format::Raw, &first),
    );
    assert_eq!(steps.rows("letters").len(), 2);
    // One for a key that has no row is no news; one without a key means nothing.
    let gone = [
        at(2, "a", None, 20),
        at(3, "c", None, 20),
        Message {
            value: None,
            ..message(4, b"")
        },
        at(5, "panic", None, 20),
    ];
    steps.epoch(
        Round::new()
            .at(1001)
            .messages("letters", 0, Format::Raw, &gone),
    );
    let rows = steps.rows("letters");
    assert_eq!((rows.len(), rows[0].0.key()), (1, r#""b""#));
    let reasons = reasons(&steps.rejected("letters"));
    assert_eq!(
        reasons[0],
        "4 no value: the record type has no use for tombstones"
    );
    assert!(
        reasons[1].starts_with("5 the query's code panicked: "),
        "{reasons:?}"
    );
    assert_eq!((reasons.len(), steps.late_total("letters")), (2, 0));
    // What is older than the tombstone comes too late, what is newer brings the key back.
    steps.epoch(Round::new().at(1002).messages(
        "letters",
        0,
        Format::Raw,
        &[at(6, "a", Some("2"), 15), at(7, "c", Some("2"), 25)],
    ));
    let keys: Vec<_> = steps
        .rows("letters")
        .iter()
        .map(|(row, _)| row.key().to_string())
        .collect();
    assert_eq!(keys, [r#""b""#, r#""c""#]);
}

/// An event that has no use for tombstones.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Beat {
    value: Text,
    #[serde(skip)]
    at: Timestamp,
}

impl Event for Beat {
    const STREAM: &'static str = "beats";
    const LATENESS: Duration = seconds(0);

    fn time(&self) -> Timestamp {
        self.at
    }

    fn receive(&mut self, envelope: &Envelope<'_>) {
        self.at = envelope.timestamp.unwrap_or_default();
    }
}

fn beats(flow: Flow) -> Table<(Text, Window), u64> {
    let beats = flow.stream::<Beat>().key_by(|beat| beat.value.clone());
    beats.window(tumbling(seconds(10))).count()
}

#[test]
fn the_brokers_time_is_the_events_and_is_bounded_by_its_arrival() {
    let mut steps = start("beats", beats);
    let hour = 3_600_000;
    let at = |position, ms, is_append_time| Message {
        timestamp: Some(Timestamp(ms)),
        is_append_time,
        ..message(position, b"x")
    };
    // The epoch's number is the wall clock's time, at which these were read.
    let epoch = 1000;
    let first = [
        at(0, hour, false),
        at(1, 1000 + hour, false),
        at(2, 1001 + hour, false),
        // The broker's clock says when a record arrived, ours does not matter.
        at(3, 20_000 + hour, true),
    ];
    steps.epoch(
        Round::new()
            .at(epoch)
            .messages("beats", 0, Format::Raw, &first),
    );
    assert_eq!(reasons(&steps.rejected("beats")), ["2 ahead"]);
    assert_eq!(
        written(&steps.rows("beats")),
        [
            r#"["x",{"start":3600000,"end":3610000}] 2"#,
            r#"["x",{"start":3620000,"end":3630000}] 1"#,
        ]
    );
    assert_eq!(steps.watermark("beats"), Some(Timestamp(20_000 + hour)));

    // The same records in an epoch of the same number are judged the same.
    let mut again = start("beats", beats);
    again.epoch(
        Round::new()
            .at(epoch)
            .messages("beats", 0, Format::Raw, &first),
    );
    assert_eq!(written(&again.rows("beats")), written(&steps.rows("beats")));
    assert_eq!(reasons(&again.rejected("beats")), ["2 ahead"]);
}

#[test]
fn times_that_are_missing_or_negative_are_times() {
    let mut steps = start("beats", beats);
    let odd = [
        Message {
            timestamp: Some(Timestamp(-1)),
            ..message(0, b"x")
        },
        message(1, b"x"),
        Message {
            timestamp: Some(Timestamp(i64::MAX)),
            is_append_time: true,
            ..message(2, b"x")
        },
        Message {
            value: None,
            ..message(3, b"")
        },
    ];
    steps.epoch(
        Round::new()
            .at(1000)
            .messages("beats", 0, Format::Raw, &odd),
    );
    assert_eq!(
        written(&steps.rows("beats")),
        [
            r#"["x",{"start":-10000,"end":0}] 1"#,
            r#"["x",{"start":0,"end":10000}] 1"#,
        ]
    );
    assert_eq!(
        reasons(&steps.rejected("beats")),
        [
            "2 event time outside the years 1 to 9999",
            "3 no value: the record type has no use for tombstones",
        ]
    );
}

#[test]
fn late_messages_are_shown_as_they_came() {
    let mut steps = start("beats", beats);
    let at = |position, ms| Message {
        timestamp: Some(Timestamp(ms)),
        ..message(position, b"raw\nbytes")
    };
    let round = Round::new().at(100_000).chunks(1);
    steps.epoch(round.messages("beats", 0, Format::Raw, &[at(10, 50_000), at(20, 5)]));
    assert_eq!(reasons(&steps.late("beats")), ["20 late"]);
    let late = steps.late("beats");
    assert!(
        late[0].0.value().contains(r#""record":"raw\nbytes""#),
        "{late:?}"
    );
}
