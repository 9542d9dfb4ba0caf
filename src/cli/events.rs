//! Server-sent events, read from an answer that does not end.

use std::io::{self, BufRead, ErrorKind, Read};

/// Largest event read, in bytes: one holds what changed in an epoch, or in many.
const MAX_EVENT_BYTES: u64 = 256 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// The token to go on from; an empty one voids those before.
    pub id: Option<String>,
    /// Its text.
    pub data: String,
}

/// The events of a stream.
pub struct Events<R>(R);

impl<R: BufRead> Events<R> {
    /// Reads from the start of the stream.
    pub fn new(reader: R) -> Events<R> {
        Events(reader)
    }

    /// The next event; `None` once the stream has ended. What is not whole then is no event.
    pub fn next(&mut self) -> io::Result<Option<Event>> {
        let mut event = Event::default();
        let mut room = MAX_EVENT_BYTES;
        loop {
            let mut line = Vec::new();
            let read = self.0.by_ref().take(room).read_until(b'\n', &mut line)?;
            if line.pop_if(|last| *last == b'\n').is_none() {
                return if read as u64 == room {
                    Err(io::Error::from(ErrorKind::FileTooLarge))
                } else {
                    Ok(None)
                };
            }
            room -= read as u64;
            line.pop_if(|last| *last == b'\r');
            let line = String::from_utf8(line).map_err(|_| ErrorKind::InvalidData)?;
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event.name),
                "id" => event.id = Some(value.to_owned()),
                "data" => {
                    if !event.data.is_empty() {
                        event.data.push('\n');
                    }
                    event.data += value;
                }
                "" if line.is_empty() && !event.data.is_empty() => return Ok(Some(event)),
                // Comments, and what we do not know.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Event> {
        let mut events = Events::new(text.as_bytes());
        std::iter::from_fn(|| events.next().unwrap()).collect()
    }

    #[test]
    fn events_are_cut_at_empty_lines() {
        let text = ": hello\n\nid: 7\nevent: changes\ndata: {}\n\nid:\r\nevent:reset\r\n\
            data: a\r\ndata:b\r\n\r\nretry: 5\n\nevent: half\ndata: x\n";
        let event = |id: &str, name: &str, data: &str| Event {
            name: name.to_owned(),
            id: Some(id.to_owned()),
            data: data.to_owned(),
        };
        let expected = [event("7", "changes", "{}"), event("", "reset", "a\nb")];
        assert_eq!(all(text), expected);
    }

    #[test]
    fn what_is_no_text_is_an_error() {
        let mut events = Events::new(&b"data: \xff\n\n"[..]);
        assert_eq!(events.next().unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
