//! The client against a small registry, over HTTP.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

const SECRET: &str = "s3cret-of-the-registry";

/// What the registry does with a question.
enum Reply {
    /// Status and body.
    Say(u16, String),
    /// The same, with a header.
    With(u16, &'static str, String),
    /// So many bytes of a body, or as many as are wanted.
    Flood(usize),
    /// Nothing, until the asker is gone.
    Hang,
}

/// A registry that gives one answer after the other, and tells the heads of the requests.
struct Double {
    url: String,
    heads: Receiver<String>,
}

fn double(replies: Vec<Reply>) -> Double {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, heads) = channel();
    let answer = move || {
        for reply in replies {
            let (socket, _) = listener.accept().unwrap();
            answer_one(socket, reply, &tell);
        }
    };
    let named = std::thread::Builder::new().name("registry".to_owned());
    named.spawn(answer).unwrap();
    Double { url, heads }
}

fn answer_one(mut socket: TcpStream, reply: Reply, tell: &Sender<String>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap() > 0 {
        head.extend(byte);
    }
    tell.send(String::from_utf8_lossy(&head).into_owned())
        .unwrap();
    let (status, header, body) = match reply {
        Reply::Say(status, body) => (status, "X-Nothing: 0", body),
        Reply::With(status, header, body) => (status, header, body),
        Reply::Flood(length) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let block = vec![b' '; 1 << 16];
            // The client hangs up when it has had enough.
            let _ = socket.write_all(head.as_bytes());
            for _ in 0..length / block.len() {
                if socket.write_all(&block).is_err() {
                    break;
                }
            }
            return;
        }
        Reply::Hang => {
            let _ = socket.read(&mut byte);
            return;
        }
    };
    let length = body.len();
    write!(
        socket,
        "HTTP/1.1 {status} Whatever\r\n{header}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .unwrap();
}

impl Double {
    fn registry(&self) -> Registry {
        Registry::new(options(&self.url)).unwrap()
    }

    /// The request lines so far, without the version.
    fn asked(&self) -> Vec<String> {
        let lines = self.heads.try_iter();
        let lines = lines.map(|head| head.lines().next().unwrap_or_default().to_owned());
        lines.map(|line| line.replace(" HTTP/1.1", "")).collect()
    }
}

fn options(url: &str) -> RegistryOptions {
    RegistryOptions {
        url: url.to_owned(),
        user: None,
        password: None,
        timeout: Duration::from_secs(20),
    }
}

fn registered(schema: &str) -> Reply {
    Reply::Say(200, serde_json::json!({ "schema": schema }).to_string())
}

fn referring(schema: &str, references: &[(&str, &str, i32)]) -> Reply {
    let references: Vec<_> = references
        .iter()
        .map(|(name, subject, version)| {
            serde_json::json!({"name": name, "subject": subject, "version": version})
        })
        .collect();
    let body = serde_json::json!({
        "schema": schema, "schemaType": "PROTOBUF", "references": references, "guid": "new",
    });
    Reply::Say(200, body.to_string())
}

fn failing(status: u16, code: u32) -> Reply {
    let body = serde_json::json!({"error_code": code, "message": "so it is"});
    Reply::Say(status, body.to_string())
}

#[test]
fn a_schema_is_fetched_once() {
    let double = double(vec![
        registered("\"string\""),
        referring("message A {}", &[]),
    ]);
    let registry = double.registry();
    for _ in 0..3 {
        let schema = registry.schema(7).unwrap();
        assert_eq!(
            (schema.kind, schema.text.as_str()),
            (SchemaKind::Avro, "\"string\"")
        );
        assert_eq!(registry.schema(8).unwrap().kind, SchemaKind::Protobuf);
    }
    assert_eq!(double.asked(), ["GET /schemas/ids/7", "GET /schemas/ids/8"]);
}

#[test]
fn what_it_refers_to_comes_first() {
    // main -> a -> c, main -> b -> c, and c -> a, which no registry should allow.
    let double = double(vec![
        referring("main", &[("a.proto", "a", 1), ("b.proto", ":.ctx:b/ b", 2)]),
        referring("A", &[("c.proto", "c", 3)]),
        referring("C", &[("a.proto", "a", 1)]),
        referring("B", &[("c.proto", "c", 3)]),
    ]);
    let schema = double.registry().schema(1).unwrap();
    let references: Vec<_> = schema
        .references
        .iter()
        .map(|(n, t)| (n.as_str(), t.as_str()))
        .collect();
    assert_eq!(
        references,
        [("c.proto", "C"), ("a.proto", "A"), ("b.proto", "B")]
    );
    assert_eq!(
        double.asked(),
        [
            "GET /schemas/ids/1",
            "GET /subjects/a/versions/1?deleted=true",
            "GET /subjects/c/versions/3?deleted=true",
            "GET /subjects/%3A.ctx%3Ab%2F%20b/versions/2?deleted=true",
        ]
    );
}

#[test]
fn an_unknown_id_is_the_records_fault_and_not_asked_for_at_once() {
    let double = double(vec![
        failing(404, 40403),
        failing(404, 40403),
        registered("\"int\""),
    ]);
    let mut registry = double.registry();
    for _ in 0..3 {
        let error = registry.schema(9).unwrap_err();
        assert_eq!(error, RegistryError::Unknown(9));
        assert!(!error.is_transient() && error.is_of_record());
        assert_eq!(error.to_string(), "the registry has no schema 9");
    }
    assert_eq!(double.asked().len(), 1);
    registry.unknown_for = Duration::ZERO;
    assert!(registry.schema(9).is_err());
    assert!(registry.schema(9).is_ok(), "it may appear");
    assert_eq!(double.asked().len(), 2);
}

#[test]
fn a_schema_that_cannot_be_used_is_the_records_fault() {
    let thrift = Reply::Say(200, r#"{"schema":"x","schemaType":"THRIFT"}"#.to_owned());
    let broken = [("a", "gone", 4)];
    let double = double(vec![thrift, referring("m", &broken), failing(404, 40402)]);
    let registry = double.registry();
    for (id, reason) in [
        (
            1,
            "schema 1 of the registry cannot be used: its type is 'THRIFT'",
        ),
        (
            2,
            "schema 2 of the registry cannot be used: it refers to 'a', but version 4 of \
             subject 'gone' is not there",
        ),
    ] {
        let error = registry.schema(id).unwrap_err();
        assert_eq!(error.to_string(), reason);
        assert!(!error.is_transient() && error.is_of_record());
    }
}

#[test]
fn too_many_references_are_refused() {
    let names: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "s", 1)).collect();
    let mut replies = vec![referring("main", &all)];
    replies.extend((0..MAX_REFERENCES).map(|_| registered("x")));
    let error = double(replies).registry().schema(1).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("it refers to more than 256 others"),
        "{error}"
    );
}

#[test]
fn a_registry_that_cannot_now_is_asked_again() {
    let busy = [500, 502, 503, 429, 408];
    let mut replies: Vec<Reply> = busy.map(|status| failing(status, 50001)).into();
    replies.push(registered("\"int\""));
    let double = double(replies);
    let registry = double.registry();
    for status in busy {
        let error = registry.schema(7).unwrap_err();
        assert!(error.is_transient() && !error.is_of_record());
        let place = format!("no answer from the schema registry at {}: ", double.url);
        let reason = format!("{place}status {status} for /schemas/ids/7: so it is");
        assert_eq!(error.to_string(), reason);
    }
    assert_eq!(registry.schema(7).unwrap().text, "\"int\"");
}

#[test]
fn nobody_there_is_said_with_the_place() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{closed}");
    let error = Registry::new(options(&url)).unwrap().schema(1).unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains(&url),
        "{error}"
    );
}

#[test]
fn a_registry_that_hangs_is_given_up() {
    let double = double(vec![Reply::Hang]);
    let short = RegistryOptions {
        timeout: Duration::from_millis(50),
        ..options(&double.url)
    };
    let error = Registry::new(short).unwrap().schema(1).unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains("timeout"),
        "{error}"
    );
}

#[test]
fn what_is_no_registry_is_called_so() {
    for (reply, said) in [
        (
            Reply::Say(200, "<html>".to_owned()),
            "its answer to /schemas/ids/1: expected value",
        ),
        (Reply::Say(200, "{}".to_owned()), "missing field `schema`"),
        (
            Reply::Say(404, "<html>".to_owned()),
            "status 404 for /schemas/ids/1",
        ),
        (failing(404, 404), "status 404 for /schemas/ids/1: so it is"),
        (failing(406, 406), "status 406 for /schemas/ids/1: so it is"),
        (
            Reply::With(302, "Location: http://127.0.0.1:1/elsewhere", String::new()),
            "it redirects to http://127.0.0.1:1/elsewhere",
        ),
        (
            Reply::Flood(100 << 20),
            "its answer is longer than 16777216 bytes",
        ),
    ] {
        let double = double(vec![reply]);
        let error = double.registry().schema(1).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, RegistryError::Foreign { .. }), "{text}");
        assert!(text.contains(said) && text.contains(&double.url), "{text}");
        assert!(error.is_transient() && !error.is_of_record());
    }
}

#[test]
fn a_password_is_sent_and_never_shown() {
    for status in [401, 403] {
        let double = double(vec![registered("\"int\""), failing(status, 40101)]);
        let mut options = RegistryOptions {
            user: Some("reader".to_owned()),
            password: Some(SECRET.to_owned()),
            ..options(&double.url)
        };
        assert!(!format!("{options:?}").contains(SECRET));
        let registry = Registry::new(options.clone()).unwrap();
        assert!(registry.schema(1).is_ok());
        let head = double.heads.recv().unwrap().to_lowercase();
        let encoded = BASE64_STANDARD.encode(format!("reader:{SECRET}"));
        let expected = format!("authorization: basic {}\r\n", encoded.to_lowercase());
        assert!(head.contains(&expected), "{head}");
        let error = registry.schema(2).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains(SECRET) && !shown.contains(&encoded),
            "{shown}"
        );
        assert!(
            error.to_string().contains("refuses user 'reader'"),
            "{error}"
        );
        assert!(
            error.to_string().contains("set its user and password"),
            "{error}"
        );
        assert!(!error.is_transient() && !error.is_of_record());
        options.url = format!("http://reader:{SECRET}@127.0.0.1:1");
        let error = Registry::new(options).err().unwrap();
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
}

#[test]
fn nobody_is_asked_for_without_a_user() {
    let double = double(vec![failing(401, 40101)]);
    let error = double.registry().schema(1).unwrap_err();
    assert!(
        !double
            .heads
            .recv()
            .unwrap()
            .to_lowercase()
            .contains("authorization")
    );
    assert!(
        error
            .to_string()
            .contains("refuses to answer without a user"),
        "{error}"
    );
}

#[test]
fn a_url_is_one() {
    for bad in [
        "",
        "localhost:8081",
        "https://",
        "ftp://h",
        "http://",
        "http://a b",
        "http://a?b",
    ] {
        let error = Registry::new(options(bad)).err().expect(bad);
        assert!(matches!(error, RegistryError::BadUrl(_)), "{bad}");
        assert!(!error.is_transient() && !error.is_of_record());
    }
    let double = double(vec![registered("\"int\"")]);
    let registry = Registry::new(options(&format!("{}/api/registry/", double.url))).unwrap();
    assert!(registry.schema(3).is_ok());
    assert_eq!(double.asked(), ["GET /api/registry/schemas/ids/3"]);
}

#[test]
fn nothing_is_said_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let answer = move || {
        let mut first = [0; 3];
        let (mut socket, _) = listener.accept().unwrap();
        socket.read_exact(&mut first).unwrap();
        first
    };
    let named = std::thread::Builder::new().name("registry".to_owned());
    let server = named.spawn(answer).unwrap();
    let error = Registry::new(options(&url)).unwrap().schema(1).unwrap_err();
    assert!(error.is_transient(), "{error}");
    // The head of a TLS handshake.
    assert_eq!(server.join().unwrap()[..2], [0x16, 3]);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut kept = Kept::default();
    let schema = |text: String| {
        Arc::new(WriterSchema {
            kind: SchemaKind::Avro,
            text,
            references: Vec::new(),
        })
    };
    let large = schema("x".repeat(MAX_KEPT_BYTES / 3));
    for id in 0..10 {
        kept.keep(id, &large);
        kept.keep(id, &large);
        assert!(kept.bytes <= MAX_KEPT_BYTES);
        assert_eq!(kept.schemas.last_key_value().map(|(id, _)| *id), Some(id));
    }
    assert_eq!(kept.schemas.len(), 3);
    for id in 0..3 * u32::try_from(MAX_UNKNOWN).unwrap() {
        kept.keep_unknown(id, now());
    }
    assert!(kept.unknown.len() <= MAX_UNKNOWN);
}
