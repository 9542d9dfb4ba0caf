//! How events are written: as server-sent events, or as the messages of a WebSocket.

use warp::hyper::body::Bytes;

use crate::http::answer::{number, text};
use crate::time::{Epoch, Timestamp};

/// About how many bytes go out at a time. It bounds what waits in memory for one subscriber.
pub(super) const PIECE: usize = 64 << 10;

/// The two ways an event is written. The object is the same; in a message it also says what its
/// event and id are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Format {
    Sse,
    Socket,
}

/// A closed epoch, and the event time that its answer is complete for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AsOf {
    pub(super) epoch: Epoch,
    pub(super) complete_through: Option<Timestamp>,
}

/// A piece of an event, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// Whether the event begins with it.
    pub(super) is_first: bool,
    /// Whether the event ends with it.
    pub(super) is_last: bool,
}

impl Frame {
    fn whole(bytes: Vec<u8>) -> Frame {
        Frame {
            bytes: bytes.into(),
            is_first: true,
            is_last: true,
        }
    }
}

impl Format {
    /// Begins an event: all that comes before its first own member. An empty id voids the one that
    /// the subscriber has.
    pub(super) fn open(self, out: &mut Vec<u8>, event: &str, id: Option<&str>) {
        match self {
            Format::Sse => {
                if let Some(id) = id {
                    out.extend_from_slice(b"id: ");
                    out.extend_from_slice(id.as_bytes());
                    out.push(b'\n');
                }
                out.extend_from_slice(b"event: ");
                out.extend_from_slice(event.as_bytes());
                out.extend_from_slice(b"\ndata: {");
            }
            Format::Socket => {
                out.extend_from_slice(b"{\"event\":");
                text(out, event);
                out.push(b',');
                if let Some(id) = id {
                    out.extend_from_slice(b"\"id\":");
                    text(out, id);
                    out.push(b',');
                }
            }
        }
    }

    /// Ends an event.
    pub(super) fn close(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Format::Sse => b"}\n\n",
            Format::Socket => b"}",
        });
    }

    pub(super) fn reset(self, reason: &str) -> Frame {
        let mut out = Vec::new();
        self.open(&mut out, "reset", Some(""));
        out.extend_from_slice(b"\"reason\":");
        text(&mut out, reason);
        self.close(&mut out);
        Frame::whole(out)
    }

    pub(super) fn progress(self, as_of: &AsOf, id: &str) -> Frame {
        let mut out = Vec::new();
        self.open(&mut out, "progress", Some(id));
        as_of.write(&mut out);
        self.close(&mut out);
        Frame::whole(out)
    }

    /// A part of a snapshot; the last one has an id.
    pub(super) fn snapshot(self, as_of: &AsOf, part: &Part<'_>) -> Frame {
        let mut out = Vec::with_capacity(PIECE);
        self.open(&mut out, "snapshot", part.id);
        as_of.write(&mut out);
        out.extend_from_slice(b",\"start\":");
        flag(&mut out, part.is_first);
        out.extend_from_slice(b",\"rows\":[");
        out.extend_from_slice(part.rows);
        out.extend_from_slice(b"],\"end\":");
        flag(&mut out, part.id.is_some());
        self.close(&mut out);
        Frame::whole(out)
    }
}

/// A part of a snapshot.
pub(super) struct Part<'a> {
    pub(super) is_first: bool,
    /// The rows as JSON, with commas between them.
    pub(super) rows: &'a [u8],
    /// Of the last part.
    pub(super) id: Option<&'a str>,
}

impl AsOf {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"as_of\":");
        number(out, self.epoch);
        out.extend_from_slice(b",\"complete_through\":");
        match self.complete_through {
            Some(time) => number(out, time.0),
            None => out.extend_from_slice(b"null"),
        }
    }
}

/// Writes JSON on one line. Only a type that writes raw JSON has line breaks, and only between
/// tokens: they would end the event.
pub(super) fn one_line(out: &mut Vec<u8>, json: &str) {
    let begin = out.len();
    out.extend_from_slice(json.as_bytes());
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_some() {
        for byte in &mut out[begin..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
}

fn flag(out: &mut Vec<u8>, is_set: bool) {
    out.extend_from_slice(if is_set { b"true" } else { b"false" });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(frame: &Frame) -> &str {
        std::str::from_utf8(&frame.bytes).unwrap()
    }

    const AS_OF: AsOf = AsOf {
        epoch: 7,
        complete_through: Some(Timestamp(-1)),
    };

    #[test]
    fn events_are_the_contracts_to_the_byte() {
        let part = Part {
            is_first: true,
            rows: b"{\"key\":1,\"value\":2}",
            id: Some("t"),
        };
        assert_eq!(
            written(&Format::Sse.snapshot(&AS_OF, &part)),
            "id: t\nevent: snapshot\ndata: {\"as_of\":7,\"complete_through\":-1,\"start\":true,\
             \"rows\":[{\"key\":1,\"value\":2}],\"end\":true}\n\n"
        );
        let part = Part {
            is_first: false,
            rows: b"",
            id: None,
        };
        assert_eq!(
            written(&Format::Socket.snapshot(&AS_OF, &part)),
            "{\"event\":\"snapshot\",\"as_of\":7,\"complete_through\":-1,\"start\":false,\
             \"rows\":[],\"end\":false}"
        );
        assert_eq!(
            written(&Format::Sse.reset("it's \"gone\"\n")),
            "id: \nevent: reset\ndata: {\"reason\":\"it's \\\"gone\\\"\\n\"}\n\n"
        );
        let nothing = AsOf {
            epoch: 8,
            complete_through: None,
        };
        assert_eq!(
            written(&Format::Socket.progress(&nothing, "t")),
            "{\"event\":\"progress\",\"id\":\"t\",\"as_of\":8,\"complete_through\":null}"
        );
    }

    #[test]
    fn no_row_can_end_an_event() {
        let mut out = b"x\n".to_vec();
        one_line(&mut out, "{\r\n\"a\":\"b\\n\"}");
        assert_eq!(out, b"x\n{  \"a\":\"b\\n\"}");
    }
}
