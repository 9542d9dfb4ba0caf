//! The bytes of a pull's answer. Rows are written from their own JSON, no tree in between.

use std::io::Write;

use warp::http::Response as HttpResponse;
use warp::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use warp::reply::Response;

use crate::time::Timestamp;
use crate::view::{Labels, Page};

const AS_OF: HeaderName = HeaderName::from_static("waterclock-as-of");
const COMPLETE_THROUGH: HeaderName = HeaderName::from_static("waterclock-complete-through");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What an answer is of, and what it is complete for.
pub(super) struct Heading<'a> {
    /// The member that names the object: `query` or `stream`.
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) streams: &'a [String],
    pub(super) labels: &'a Labels,
    pub(super) complete_through: Option<Timestamp>,
    pub(super) stale: bool,
}

impl Heading<'_> {
    /// The answer with its labels as headers.
    pub(super) fn respond(&self, page: &Page, next: Option<&str>) -> Response {
        let mut response = json(self.write(page, next));
        let headers = response.headers_mut();
        headers.insert(AS_OF, HeaderValue::from(self.labels.epoch));
        let complete_through = match self.complete_through {
            Some(time) => HeaderValue::from(time.0),
            None => HeaderValue::from_static("null"),
        };
        headers.insert(COMPLETE_THROUGH, complete_through);
        response
    }

    fn write(&self, page: &Page, next: Option<&str>) -> Vec<u8> {
        let rows: usize = page
            .rows
            .iter()
            .map(|(row, _)| row.key.len() + row.value.len() + 40)
            .sum();
        let mut out = Vec::with_capacity(256 + rows);
        out.push(b'{');
        text(&mut out, self.kind);
        out.push(b':');
        text(&mut out, self.name);
        out.extend_from_slice(b",\"as_of\":");
        number(&mut out, self.labels.epoch);
        out.extend_from_slice(b",\"complete_through\":");
        match self.complete_through {
            Some(time) => number(&mut out, time.0),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"stale\":");
        out.extend_from_slice(if self.stale { b"true" } else { b"false" });
        out.extend_from_slice(b",\"positions\":");
        self.positions(&mut out);
        out.extend_from_slice(b",\"rows\":[");
        self.rows(&mut out, page);
        out.extend_from_slice(b"],\"next\":");
        match next {
            Some(cursor) => text(&mut out, cursor),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
        out
    }

    fn positions(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut comma = Comma::default();
        for stream in self.streams {
            comma.write(out);
            text(out, stream);
            out.extend_from_slice(b":{");
            let partitions = self
                .labels
                .streams
                .get(stream)
                .map(|label| &label.partitions);
            let mut comma = Comma::default();
            for (partition, label) in partitions.into_iter().flatten() {
                comma.write(out);
                out.push(b'"');
                number(out, *partition);
                out.extend_from_slice(b"\":");
                number(out, label.position);
            }
            out.push(b'}');
        }
        out.push(b'}');
    }

    /// The rows, each as often as it occurs. `final` stands where something closes the row, and is
    /// true once the watermark of this epoch has reached it.
    fn rows(&self, out: &mut Vec<u8>, page: &Page) {
        let mut comma = Comma::default();
        for (row, times) in &page.rows {
            for _ in 0..*times {
                comma.write(out);
                out.extend_from_slice(b"{\"key\":");
                out.extend_from_slice(row.key.as_bytes());
                out.extend_from_slice(b",\"value\":");
                out.extend_from_slice(row.value.as_bytes());
                if let Some(final_at) = row.final_at {
                    let is_final = self.complete_through.is_some_and(|time| time >= final_at);
                    out.extend_from_slice(if is_final {
                        b",\"final\":true"
                    } else {
                        b",\"final\":false"
                    });
                }
                out.push(b'}');
            }
        }
    }
}

/// A JSON answer of these bytes.
pub(super) fn json(bytes: Vec<u8>) -> Response {
    let mut response = HttpResponse::new(bytes.into());
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// Writes a comma before each but the first.
#[derive(Default)]
pub(super) struct Comma(bool);

impl Comma {
    pub(super) fn write(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.0, true) {
            out.push(b',');
        }
    }
}

pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("text always serialises into memory");
}

pub(super) fn number(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    write!(out, "{number}").expect("writing into memory cannot fail");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::row::Row;
    use crate::view::{PartitionLabel, StreamLabel};

    fn row(key: &str, value: &str, final_at: Option<i64>) -> Arc<Row> {
        Arc::new(Row {
            order: Arc::from([]),
            key_len: 0,
            key: key.into(),
            value: value.into(),
            final_at: final_at.map(Timestamp),
        })
    }

    #[test]
    fn the_answer_is_the_contracts_object_to_the_byte() {
        let partition = PartitionLabel {
            position: 981,
            ..PartitionLabel::default()
        };
        let label = StreamLabel {
            watermark: None,
            partitions: [(0, partition)].into(),
        };
        let labels = Labels {
            run: 1,
            epoch: 7,
            streams: [("clicks".to_owned(), label)].into(),
        };
        let heading = Heading {
            kind: "query",
            name: "q\"1",
            streams: &["clicks".to_owned(), "new".to_owned()],
            labels: &labels,
            complete_through: Some(Timestamp(99)),
            stale: false,
        };
        let rows = vec![
            (row("[\"u1\",{\"start\":0,\"end\":100}]", "1", Some(99)), 2),
            (row("\"k\"", "{\"a\":null}", Some(100)), 1),
            (row("7", "0", None), 1),
        ];
        let bytes = heading.write(&Page { rows, next: None }, Some("abc"));
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            concat!(
                r#"{"query":"q\"1","as_of":7,"complete_through":99,"stale":false,"#,
                r#""positions":{"clicks":{"0":981},"new":{}},"rows":["#,
                r#"{"key":["u1",{"start":0,"end":100}],"value":1,"final":true},"#,
                r#"{"key":["u1",{"start":0,"end":100}],"value":1,"final":true},"#,
                r#"{"key":"k","value":{"a":null},"final":false},"#,
                r#"{"key":7,"value":0}],"next":"abc"}"#
            )
        );
        let nothing = Heading {
            complete_through: None,
            stale: true,
            streams: &[],
            ..heading
        };
        assert_eq!(
            String::from_utf8(nothing.write(&Page::default(), None)).unwrap(),
            concat!(
                r#"{"query":"q\"1","as_of":7,"complete_through":null,"stale":true,"#,
                r#""positions":{},"rows":[],"next":null}"#
            )
        );
    }
}
