//! What comes beside a record, and how messages that bring it are laid out in a chunk.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What a source says of a record besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The partition it was read from.
    pub partition: u32,
    /// Its position there: a Kafka offset, the offset of its first byte in a file, or its number.
    pub position: u64,
    /// When it was written, as its source says: Kafka's timestamp, the time the log took it in, or
    /// when a database committed the change. Files say nothing.
    pub timestamp: Option<Timestamp>,
    /// Kafka's key of the message.
    pub key: Option<&'a [u8]>,
    headers: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// The envelope of a record without key and headers.
    pub fn bare(partition: u32, position: u64, timestamp: Option<Timestamp>) -> Envelope<'a> {
        Envelope {
            partition,
            position,
            timestamp,
            key: None,
            headers: &[],
        }
    }

    /// The same, written at another time.
    #[must_use]
    pub fn at(self, timestamp: Option<Timestamp>) -> Envelope<'a> {
        Envelope { timestamp, ..self }
    }

    /// Kafka's headers, in their order; a name may occur several times, and a value may be null.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let mut left = self.headers;
        std::iter::from_fn(move || {
            let Part(name) = take(&mut left)?;
            let Part(value) = take(&mut left)?;
            Some((std::str::from_utf8(name.unwrap_or_default()).ok()?, value))
        })
    }

    /// The last header of a name, if it has a value.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let named = self.headers().filter(|(found, _)| *found == name);
        named.last().and_then(|(_, value)| value)
    }
}

/// A message with what came beside it, as a source that has such writes it into a chunk.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its position.
    pub position: u64,
    /// When it was written.
    pub timestamp: Option<Timestamp>,
    /// Whether that is when it arrived; otherwise its epoch's time counts as that.
    pub is_append_time: bool,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its headers, as [`Headers`] writes them.
    pub headers: &'a [u8],
    /// Its bytes; `None` for a tombstone.
    pub value: Option<&'a [u8]>,
}

/// Headers as they stand in a frame.
#[derive(Clone, Debug, Default)]
pub struct Headers(Vec<u8>);

impl Headers {
    /// Adds a header.
    pub fn push(&mut self, name: &str, value: Option<&[u8]>) {
        put(&mut self.0, Some(name.as_bytes()));
        put(&mut self.0, value);
    }

    /// Forgets all, to be used again.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The bytes for [`Message::headers`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Stands for a timestamp that is not there.
const NO_TIME: i64 = i64::MIN;

/// The length of what is not there.
const NULL: u32 = u32::MAX;

fn put(out: &mut Vec<u8>, part: Option<&[u8]>) {
    let len = part.map_or(NULL, |part| {
        u32::try_from(part.len()).expect("a Kafka message has less than 2 GiB")
    });
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(part.unwrap_or_default());
}

/// What `put` wrote.
struct Part<'a>(Option<&'a [u8]>);

/// Takes a part; `None` at the end, or where the bytes are none of ours.
fn take<'a>(left: &mut &'a [u8]) -> Option<Part<'a>> {
    let (len, rest) = left.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len);
    *left = rest;
    if len == NULL {
        return Some(Part(None));
    }
    let (part, rest) = rest.split_at_checked(len as usize)?;
    *left = rest;
    Some(Part(Some(part)))
}

impl<'a> Message<'a> {
    /// Appends the message's frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        let timestamp = self.timestamp.map_or(NO_TIME, |time| time.0);
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&timestamp.to_le_bytes());
        out.push(u8::from(self.is_append_time));
        put(out, self.key);
        put(out, Some(self.headers));
        put(out, self.value);
    }

    /// Takes the next frame; `None` at the end.
    fn read(left: &mut &'a [u8]) -> Option<Message<'a>> {
        let (position, rest) = left.split_first_chunk::<8>()?;
        let (timestamp, rest) = rest.split_first_chunk::<8>()?;
        let (flags, mut rest) = rest.split_first()?;
        let timestamp = i64::from_le_bytes(*timestamp);
        let message = Message {
            position: u64::from_le_bytes(*position),
            timestamp: (timestamp != NO_TIME).then_some(Timestamp(timestamp)),
            is_append_time: *flags == 1,
            key: take(&mut rest)?.0,
            headers: take(&mut rest)?.0.unwrap_or_default(),
            value: take(&mut rest)?.0,
        };
        *left = rest;
        Some(message)
    }

    /// The messages of a run of frames, each with the offset of its first byte.
    pub fn all(frames: &'a [u8]) -> impl Iterator<Item = (usize, Message<'a>)> {
        let mut left = frames;
        std::iter::from_fn(move || {
            let at = frames.len() - left.len();
            Message::read(&mut left).map(|message| (at, message))
        })
    }

    /// What comes beside the record.
    pub fn envelope(&self, partition: u32) -> Envelope<'a> {
        Envelope {
            partition,
            position: self.position,
            timestamp: self.timestamp,
            key: self.key,
            headers: self.headers,
        }
    }
}

/// What the last record before a position looked like: where another one is found in its place, it
/// is another topic of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRecord {
    /// Its position.
    pub position: u64,
    /// The checksum of its frame.
    pub crc32: u32,
}

impl LastRecord {
    /// The last of a run of frames.
    pub fn of(frames: &[u8]) -> Option<LastRecord> {
        let (at, message) = Message::all(frames).last()?;
        Some(LastRecord {
            position: message.position,
            crc32: crc32fast::hash(&frames[at..]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut headers = Headers::default();
        headers.push("a", Some(b"1"));
        headers.push("a", Some(b"2"));
        headers.push("none", None);
        let full = Message {
            position: 7,
            timestamp: Some(Timestamp(-1)),
            is_append_time: true,
            key: Some(b"k"),
            headers: headers.as_bytes(),
            value: Some(b"v\nw"),
        };
        let tombstone = Message {
            position: 9,
            timestamp: None,
            is_append_time: false,
            key: Some(b""),
            headers: &[],
            value: None,
        };
        let mut frames = Vec::new();
        full.write(&mut frames);
        let second = frames.len();
        tombstone.write(&mut frames);

        let read: Vec<_> = Message::all(&frames).collect();
        assert_eq!((read[0].0, read[1].0, read.len()), (0, second, 2));
        let envelope = read[0].1.envelope(3);
        assert_eq!((envelope.partition, envelope.position), (3, 7));
        assert_eq!(envelope.timestamp, Some(Timestamp(-1)));
        assert_eq!(envelope.key, Some(&b"k"[..]));
        assert_eq!(envelope.header("a"), Some(&b"2"[..]));
        assert_eq!(envelope.header("none"), None);
        assert_eq!(envelope.headers().count(), 3);
        assert_eq!(read[0].1.value, Some(&b"v\nw"[..]));
        assert_eq!((read[1].1.key, read[1].1.value), (Some(&b""[..]), None));
        assert_eq!(read[1].1.timestamp, None);
    }

    #[test]
    fn bytes_that_are_no_frame_end_the_run() {
        let mut frames = Vec::new();
        Message {
            position: 1,
            timestamp: None,
            is_append_time: false,
            key: None,
            headers: &[],
            value: Some(b"value"),
        }
        .write(&mut frames);
        for len in 0..frames.len() {
            assert_eq!(Message::all(&frames[..len]).count(), 0, "{len} bytes");
        }
    }
}
