//! An answer: what it is of and complete for, in its body and its headers, and how it is sent.

use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tokio::task::{JoinHandle, spawn_blocking};
use warp::Reply;
use warp::http::Response as HttpResponse;
use warp::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, VARY,
};
use warp::reply::Response;

use super::accept::{Accepts, Coding};
use super::problem::{Kind, Problem};
use super::render::{Mark, PIECE, Part, Rendering, Shown};
use crate::row::Row;
use crate::time::{Epoch, Timestamp};
use crate::view::{Labels, Page};

const AS_OF: HeaderName = HeaderName::from_static("waterclock-as-of");
const COMPLETE_THROUGH: HeaderName = HeaderName::from_static("waterclock-complete-through");
const AGE: HeaderName = HeaderName::from_static("waterclock-age-ms");
const POSITIONS: HeaderName = HeaderName::from_static("waterclock-positions");
const NEXT: HeaderName = HeaderName::from_static("waterclock-next");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Longer positions, of very many partitions, are in the JSON answer alone: clients bound headers.
const MAX_POSITIONS: usize = 8 << 10;

/// What an answer is of, and what it is complete for.
pub(super) struct Heading<'a> {
    /// The member that names the object: `query` or `stream`.
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    /// The epoch that the answer is the difference to, if it is one.
    pub(super) from: Option<Epoch>,
    pub(super) streams: &'a [String],
    pub(super) labels: Arc<Labels>,
    /// How many milliseconds the answer lags behind its input, where it is stale.
    pub(super) age_ms: Option<u64>,
}

impl Heading<'_> {
    pub(super) fn complete_through(&self) -> Option<Timestamp> {
        let streams = self.streams.iter().map(String::as_str);
        self.labels.complete_through(streams)
    }

    /// The rows of a page. `final` stands where something closes the row, and is true once the
    /// watermark of this epoch has reached it.
    pub(super) fn shown(&self, page: Page) -> Vec<Shown> {
        let through = self.complete_through();
        let shown = |(row, times): (Row, u64)| {
            let is_final = |at| through.is_some_and(|through| through >= at);
            let mark = row
                .final_at()
                .map_or(Mark::None, |at| Mark::Final(is_final(at)));
            Shown { row, times, mark }
        };
        page.rows.into_iter().map(shown).collect()
    }

    /// The object of the answer around its rows, which stand under the name `rows_name`.
    pub(super) fn part(&self, rows_name: &str, rows: Vec<Shown>, next: Option<&str>) -> Part {
        let mut head = Vec::with_capacity(256);
        head.push(b'{');
        text(&mut head, self.kind);
        head.push(b':');
        text(&mut head, self.name);
        self.write_labels(&mut head);
        head.push(b',');
        text(&mut head, rows_name);
        head.extend_from_slice(b":[");
        let mut tail = b"],\"next\":".to_vec();
        match next {
            Some(cursor) => text(&mut tail, cursor),
            None => tail.extend_from_slice(b"null"),
        }
        tail.push(b'}');
        Part { head, rows, tail }
    }

    fn write_labels(&self, out: &mut Vec<u8>) {
        if let Some(from) = self.from {
            out.extend_from_slice(b",\"from\":");
            number(out, from);
        }
        out.extend_from_slice(b",\"as_of\":");
        number(out, self.labels.epoch);
        out.extend_from_slice(b",\"complete_through\":");
        match self.complete_through() {
            Some(time) => number(out, time.0),
            None => out.extend_from_slice(b"null"),
        }
        match self.age_ms {
            None => out.extend_from_slice(b",\"stale\":false"),
            Some(age) => {
                out.extend_from_slice(b",\"stale\":true,\"age_ms\":");
                number(out, age);
            }
        }
        out.extend_from_slice(b",\"positions\":");
        self.write_positions(out);
    }

    fn write_positions(&self, out: &mut Vec<u8>) {
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

    /// Puts the labels that every answer has into its headers.
    pub(super) fn label(&self, response: &mut Response) {
        self.label_epoch(response);
        let headers = response.headers_mut();
        let complete_through = match self.complete_through() {
            Some(time) => HeaderValue::from(time.0),
            None => HeaderValue::from_static("null"),
        };
        headers.insert(COMPLETE_THROUGH, complete_through);
    }

    /// Puts into the headers what answers of several queries have in common.
    pub(super) fn label_epoch(&self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert(AS_OF, HeaderValue::from(self.labels.epoch));
        if let Some(age) = self.age_ms {
            headers.insert(AGE, HeaderValue::from(age));
        }
    }

    /// Puts those into the headers that a body of rows alone has no place for.
    pub(super) fn label_fully(&self, response: &mut Response, next: Option<&str>) {
        let headers = response.headers_mut();
        let mut positions = Vec::new();
        self.write_positions(&mut positions);
        if positions.len() <= MAX_POSITIONS
            && let Ok(positions) = HeaderValue::from_bytes(&positions)
        {
            headers.insert(POSITIONS, positions);
        }
        if let Some(next) = next {
            let next = HeaderValue::try_from(next).expect("a cursor is visible ASCII");
            headers.insert(NEXT, next);
        }
    }
}

/// Sends what is rendered: a small answer whole, a large one piece by piece. A client may keep it,
/// if it asks whether it is still so.
pub(super) async fn send(rendering: Rendering, accepts: &Accepts) -> Result<Response, Problem> {
    let mut response = if rendering.size() <= PIECE {
        HttpResponse::new(rendering.whole().map_err(unwritten)?.into())
    } else {
        let rendering = rendering.coded(accepts.coding).map_err(unwritten)?;
        let mut response = warp::reply::stream(Pieces::of(rendering)).into_response();
        if accepts.coding != Coding::Identity {
            let name = HeaderValue::from_static(accepts.coding.name());
            response.headers_mut().insert(CONTENT_ENCODING, name);
        }
        response
    };
    let media_type = accepts.format.unwrap_or_default().media_type();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    cacheable(headers);
    Ok(response)
}

/// Lets a client keep an answer that it asks for again.
pub(super) fn cacheable(headers: &mut warp::http::HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
}

/// A row that cannot be written in the format asked for.
pub(super) fn unwritten(error: std::io::Error) -> Problem {
    tracing::error!(%error, "an answer cannot be written");
    Problem::new(
        Kind::Internal,
        format!("the answer cannot be written: {error}"),
    )
}

/// The pieces of an answer, each made when the one before is sent: what a client does not read is
/// not made, and when it is gone nothing more is.
struct Pieces(Mutex<Piece>);

enum Piece {
    Next(Box<Rendering>),
    Making(JoinHandle<std::io::Result<(Box<Rendering>, Option<Vec<u8>>)>>),
    Over,
}

impl Pieces {
    fn of(rendering: Rendering) -> Pieces {
        Pieces(Mutex::new(Piece::Next(Box::new(rendering))))
    }
}

impl Stream for Pieces {
    type Item = std::io::Result<Vec<u8>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut piece = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Piece::Next(_) = &*piece
            && let Piece::Next(mut rendering) = std::mem::replace(&mut *piece, Piece::Over)
        {
            *piece = Piece::Making(spawn_blocking(move || {
                let made = rendering.next()?;
                Ok((rendering, made))
            }));
        }
        let Piece::Making(making) = &mut *piece else {
            return Poll::Ready(None);
        };
        let made = ready!(Pin::new(making).poll(cx));
        *piece = Piece::Over;
        Poll::Ready(
            match made.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
                Ok((_, None)) => None,
                Ok((rendering, Some(made))) => {
                    *piece = Piece::Next(rendering);
                    Some(Ok(made))
                }
                Err(error) => {
                    tracing::error!(%error, "an answer broke off");
                    Some(Err(error))
                }
            },
        )
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
    use crate::view::{PartitionLabel, StreamLabel};

    fn row(key: &str, value: &str, final_at: Option<i64>) -> Row {
        let json = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
        Row::new(&json(key), &json(value), final_at.map(Timestamp)).unwrap()
    }

    #[test]
    fn the_answer_is_the_contracts_object_to_the_byte() {
        let partition = PartitionLabel {
            position: 981,
            ..PartitionLabel::default()
        };
        let label = StreamLabel {
            watermark: Some(Timestamp(99)),
            partitions: [(0, partition)].into(),
        };
        let labels = Arc::new(Labels {
            run: 1,
            epoch: 7,
            streams: [("clicks".to_owned(), label)].into(),
        });
        let heading = Heading {
            kind: "query",
            name: "q\"1",
            from: None,
            streams: &["clicks".to_owned()],
            labels,
            age_ms: None,
        };
        let rows = vec![
            (row("[\"u1\",{\"start\":0,\"end\":100}]", "1", Some(99)), 2),
            (row("\"k\"", "{\"a\":null}", Some(100)), 1),
            (row("7", "0", None), 1),
        ];
        let rows = heading.shown(Page { rows, next: None });
        let bytes = Rendering::json([heading.part("rows", rows, Some("abc"))]).whole();
        assert_eq!(
            String::from_utf8(bytes.unwrap()).unwrap(),
            concat!(
                r#"{"query":"q\"1","as_of":7,"complete_through":99,"stale":false,"#,
                r#""positions":{"clicks":{"0":981}},"rows":["#,
                r#"{"key":["u1",{"start":0,"end":100}],"value":1,"final":true},"#,
                r#"{"key":["u1",{"start":0,"end":100}],"value":1,"final":true},"#,
                r#"{"key":"k","value":{"a":null},"final":false},"#,
                r#"{"key":7,"value":0}],"next":"abc"}"#
            )
        );
        let nothing = Heading {
            age_ms: Some(12_000),
            from: Some(3),
            streams: &["clicks".to_owned(), "new".to_owned()],
            ..heading
        };
        let bytes = Rendering::json([nothing.part("rows", Vec::new(), None)]).whole();
        assert_eq!(
            String::from_utf8(bytes.unwrap()).unwrap(),
            concat!(
                r#"{"query":"q\"1","from":3,"as_of":7,"complete_through":null,"stale":true,"#,
                r#""age_ms":12000,"#,
                r#""positions":{"clicks":{"0":981},"new":{}},"rows":[],"next":null}"#
            )
        );
    }
}
