//! One message is one record, whatever its format.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use waterclock::prelude::*;
use waterclock::record::{Format, Message};
use waterclock::testing::Round;

use super::{message, reasons, start, written};

/// What a sensor measured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Reading {
    sensor: Text,
    celsius: i64,
    at: Timestamp,
}

impl Event for Reading {
    const STREAM: &'static str = "readings";
    const LATENESS: Duration = seconds(0);

    fn time(&self) -> Timestamp {
        self.at
    }
}

impl Entity for Reading {
    type Key = Text;

    fn key(&self) -> Text {
        self.sensor.clone()
    }
}

fn readings(flow: Flow) -> Table<Text, Reading> {
    flow.table::<Reading>()
}

fn values<'a>(values: &[&'a [u8]]) -> Vec<Message<'a>> {
    (0..)
        .zip(values)
        .map(|(position, value)| message(position, value))
        .collect()
}

#[test]
fn json_may_be_printed_over_lines() {
    let mut steps = start("readings", readings);
    let all = values(&[
        b"{\n  \"sensor\": \"a\",\n  \"celsius\": 1,\n  \"at\": 1\n}\n",
        b"\r\n {\"sensor\":\"b\",\"celsius\":2,\"at\":1} \n",
        // Two records are no record, and lines are not looked for.
        b"{\"sensor\":\"c\",\"celsius\":2,\"at\":1}\n{\"sensor\":\"d\",\"celsius\":2,\"at\":1}",
        b"[\"e\",1,1]",
        b"",
        b" \n",
    ]);
    steps.epoch(Round::new().messages("readings", 0, Format::Json, &all));
    assert_eq!(
        written(&steps.rows("readings")),
        [
            r#""a" {"sensor":"a","celsius":1,"at":1}"#,
            r#""b" {"sensor":"b","celsius":2,"at":1}"#,
        ]
    );
    assert_eq!(
        reasons(&steps.rejected("readings")),
        [
            "2 trailing characters at line 2 column 1",
            "3 a record is a JSON object, not an array",
            "4 EOF while parsing a value at line 1 column 0",
            "5 EOF while parsing a value at line 1 column 0",
        ]
    );
}

#[test]
fn a_row_of_csv_is_a_record() {
    let mut steps = start("readings", readings);
    let header = ["sensor", "celsius", "at"].map(str::to_owned);
    let format = Format::Csv {
        header: header.into(),
    };
    let all = values(&[
        b"a,1,1",
        b"\"b, the\nsecond\",2,1\r\n",
        b"c,2",
        b"d,2,1\ne,2,1",
        b"f,much,1",
        b"",
        b"g,\"2,1",
    ]);
    steps.epoch(Round::new().messages("readings", 0, format, &all));
    assert_eq!(
        written(&steps.rows("readings")),
        [
            r#""a" {"sensor":"a","celsius":1,"at":1}"#,
            r#""b, the\nsecond" {"sensor":"b, the\nsecond","celsius":2,"at":1}"#,
        ]
    );
    let reasons = reasons(&steps.rejected("readings"));
    assert_eq!(reasons[0], "2 2 fields, but the header names 3");
    assert_eq!(reasons[1], "3 a message is one row of CSV");
    assert!(
        reasons[2].starts_with("4 CSV deserialize error"),
        "{reasons:?}"
    );
    assert_eq!(reasons[3], "5 a message is one row of CSV");
    assert_eq!(reasons[4], "6 2 fields, but the header names 3");
}

/// Bytes of any kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Blob {
    value: Vec<u8>,
}

impl Event for Blob {
    const STREAM: &'static str = "blobs";

    fn time(&self) -> Timestamp {
        Timestamp(0)
    }
}

fn blobs(flow: Flow) -> Table<(Vec<u8>, Window), u64> {
    let blobs = flow.stream::<Blob>().key_by(|blob| blob.value.clone());
    blobs.window(tumbling(seconds(10))).count()
}

#[test]
fn raw_bytes_are_taken_as_they_are() {
    let mut steps = start("blobs", blobs);
    let all = values(&[b"\xff\x00\n", b"", b"text"]);
    steps.epoch(Round::new().messages("blobs", 0, Format::Raw, &all));
    assert_eq!(
        written(&steps.rows("blobs")),
        [
            r#"[[],{"start":0,"end":10000}] 1"#,
            r#"[[116,101,120,116],{"start":0,"end":10000}] 1"#,
            r#"[[255,0,10],{"start":0,"end":10000}] 1"#,
        ]
    );
}

#[test]
fn chunks_of_any_size_have_the_same_records() {
    let lines: Vec<Vec<u8>> = (0..200_i64)
        .map(|i| format!(r#"{{"sensor":"{}","celsius":{i},"at":{i}}}"#, i % 7).into_bytes())
        .collect();
    // Offsets have gaps, as in a compacted topic.
    let positions = (0..).map(|i| i * 3 + i % 2);
    let all: Vec<_> = positions
        .zip(&lines)
        .map(|(at, line)| message(at, line))
        .collect();
    let rows = |bytes| {
        let mut steps = start("readings", readings);
        let round = Round::new().chunks(bytes);
        steps.epoch(round.messages("readings", 0, Format::Json, &all));
        written(&steps.rows("readings"))
    };
    let whole = rows(usize::MAX);
    assert_eq!(whole.len(), 7);
    for bytes in [1, 100, 1000] {
        assert_eq!(rows(bytes), whole);
    }
}
