//! Subscriptions as a client has them: server-sent events and web sockets, read with little more
//! than a socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use crate::service::{Lost, PATIENCE};

/// An event: its name, its token where it has one, its object.
#[derive(Clone, Debug)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub object: Value,
}

/// An open subscription.
pub enum Subscription {
    Sse(Chunks),
    Socket(Box<WebSocket<TcpStream>>),
}

fn connect(url: &str) -> Result<TcpStream, Lost> {
    let address = url.strip_prefix("http://").expect("a URL of the service");
    let stream = TcpStream::connect(address).map_err(|_| Lost)?;
    stream.set_nodelay(true).map_err(|_| Lost)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|_| Lost)?;
    Ok(stream)
}

impl Subscription {
    /// Subscribes at a path, after the event with this token. An error when the service is gone or
    /// not ready.
    pub fn sse(url: &str, path: &str, id: &str) -> Result<Subscription, Lost> {
        let mut stream = connect(url)?;
        let id = match id {
            "" => String::new(),
            id => format!("Last-Event-ID: {id}\r\n"),
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{id}\r\n");
        stream.write_all(request.as_bytes()).map_err(|_| Lost)?;
        let mut chunks = Chunks {
            stream: BufReader::new(stream),
            chunk: Vec::new(),
        };
        let status = chunks.line()?;
        assert!(
            status.contains(" 200 ") || status.contains(" 503 "),
            "{status}"
        );
        while !chunks.line()?.is_empty() {}
        if status.contains(" 200 ") {
            Ok(Subscription::Sse(chunks))
        } else {
            Err(Lost)
        }
    }

    /// The same over a WebSocket, where the token is a parameter.
    pub fn socket(url: &str, path: &str, id: &str) -> Result<Subscription, Lost> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let url_of = format!(
            "{}{path}{mark}last_event_id={id}",
            url.replace("http", "ws")
        );
        let request = url_of.into_client_request().expect("a URL of the service");
        let (socket, _) = client(request, connect(url)?).map_err(|_| Lost)?;
        Ok(Subscription::Socket(Box::new(socket)))
    }

    /// The next event; an error when the subscription has ended.
    pub fn next(&mut self) -> Result<Event, Lost> {
        match self {
            Subscription::Sse(chunks) => chunks.event(),
            Subscription::Socket(socket) => loop {
                let text = match socket.read().map_err(|_| Lost)? {
                    Message::Text(text) => text,
                    Message::Close(_) => return Err(Lost),
                    _ => continue,
                };
                let object: Value = serde_json::from_str(&text).expect("an object");
                let word = |name: &str| object[name].as_str().map(str::to_owned);
                return Ok(Event {
                    name: word("event").expect("a name"),
                    id: word("id"),
                    object,
                });
            },
        }
    }
}

/// A body in chunks, which need not end where lines do.
pub struct Chunks {
    stream: BufReader<TcpStream>,
    chunk: Vec<u8>,
}

impl Chunks {
    fn line(&mut self) -> Result<String, Lost> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).map_err(|_| Lost)?;
        let is_whole = read > 0 && line.ends_with('\n');
        is_whole.then(|| line.trim_end().to_owned()).ok_or(Lost)
    }

    fn event(&mut self) -> Result<Event, Lost> {
        let end = loop {
            let end = self.chunk.windows(2).position(|pair| pair == b"\n\n");
            if let Some(end) = end {
                break end;
            }
            let length = usize::from_str_radix(&self.line()?, 16).expect("a length");
            if length == 0 {
                return Err(Lost);
            }
            let begin = self.chunk.len();
            self.chunk.resize(begin + length, 0);
            let place = &mut self.chunk[begin..];
            self.stream.read_exact(place).map_err(|_| Lost)?;
            self.line()?;
        };
        let rest = self.chunk.split_off(end + 2);
        let text = String::from_utf8(std::mem::replace(&mut self.chunk, rest));
        let text = text.expect("events are text");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned)
        };
        let data = field("data: ").expect("an object");
        Ok(Event {
            name: field("event: ").expect("a name"),
            id: field("id: "),
            object: serde_json::from_str(&data).expect("an object"),
        })
    }
}
