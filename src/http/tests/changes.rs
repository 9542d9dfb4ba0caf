//! Subscriptions: how they are asked for and refused, and both ways they are served.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use warp::hyper::body::Body;

use super::wire::{Running, read_until, run};
use super::{HttpOptions, World, token};
use crate::http::token::Resume;
use crate::row::Row;
use crate::time::Timestamp;

const CHANGES: &str = "/v1/queries/counts/changes";

/// Shows an epoch that adds a row to `counts`, final at 100.
fn count(world: &World, epoch: u64, name: &str, watermark: i64) {
    world.count(epoch, [(name, epoch, 100)]);
    world.show(epoch, epoch, Some(watermark));
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_told_before_anything_is_sent() {
    let world = World::ready();
    let get = async |rest: &str| world.get(&format!("{CHANGES}{rest}")).await;
    let unknown = world.get("/v1/queries/nothing/changes").await;
    unknown.is_problem(404, "query 'nothing' does not exist");
    get("?limit=5")
        .await
        .is_problem(400, "takes key, prefix, final, last_event_id");
    get("?final=maybe")
        .await
        .is_problem(400, "'final' is 'maybe'");
    get("?prefix=%ff")
        .await
        .is_problem(400, "not percent-encoded");
    get("?key=%7B%7D").await.is_problem(400, "no key");
    let never = world.get("/v1/queries/names/changes?final=true").await;
    never.is_problem(400, "query 'names' has no final rows");
    for method in ["HEAD", "POST", "DELETE"] {
        let refused = world.send(method, CHANGES, &[], "").await;
        assert_eq!(
            (refused.status.as_u16(), refused.header("allow")),
            (405, "GET")
        );
    }
    world
        .views
        .query("counts")
        .unwrap()
        .fail("on purpose".into());
    get("").await.is_problem(503, "on purpose");
    World::new().get(CHANGES).await.is_problem(503, "not ready");
}

#[tokio::test]
async fn malformed_tokens_are_refused_wherever_they_stand() {
    let world = World::ready();
    let good = Resume {
        run: 1,
        epoch: 10,
        scope: 0,
    }
    .encode();
    let mut bad = vec![
        "x".to_owned(),
        token(3),
        "%00".to_owned(),
        good.replace('A', "B"),
    ];
    bad.extend((1..good.len()).map(|n| good[..n].to_owned()));
    for text in &bad {
        let header = [("last-event-id", text.as_str())];
        let refused = world.send("GET", CHANGES, &header, "").await;
        refused.is_problem(400, "header Last-Event-ID is no token of a subscription");
        let refused = world.get(&format!("{CHANGES}?last_event_id={text}")).await;
        refused.is_problem(
            400,
            "parameter 'last_event_id' is no token of a subscription",
        );
    }
    let twice = [("last-event-id", "a"), ("last-event-id", "b")];
    let refused = world.send("GET", CHANGES, &twice, "").await;
    refused.is_problem(400, "must stand once");
}

#[tokio::test]
async fn a_broken_handshake_is_told_so() {
    let running = run(HttpOptions::default()).await;
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    for (headers, words) in [
        (
            "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: abc\r\n",
            "must be 13",
        ),
        (
            "Sec-WebSocket-Version: 13\r\n",
            "Sec-WebSocket-Key is missing",
        ),
    ] {
        let request =
            format!("GET {CHANGES} HTTP/1.1\r\nHost: localhost\r\n{upgrade}{headers}\r\n");
        let mut stream = running.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "}").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains(words), "{answer}");
    }
    running.end().await;
}

/// A subscription over server-sent events.
struct Sse(TcpStream);

/// An event: its id, its name, its object.
type Event = (Option<String>, String, Value);

impl Sse {
    async fn open(running: &Running, path: &str, id: Option<&str>) -> Sse {
        let mut stream = running.connect().await;
        let id = id.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{id}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await.to_lowercase();
        for expected in [
            "http/1.1 200",
            "content-type: text/event-stream",
            "cache-control: no-store",
            "x-accel-buffering: no",
        ] {
            assert!(head.contains(expected), "{expected}: {head}");
        }
        Sse(stream)
    }

    /// The next event that is not about progress; `None` at a clean end.
    async fn event(&mut self) -> Option<Event> {
        loop {
            let event = self.any().await?;
            if event.1 != "progress" {
                return Some(event);
            }
        }
    }

    /// The next event.
    async fn any(&mut self) -> Option<Event> {
        // Here an event is a chunk of the body.
        let length = read_until(&mut self.0, "\r\n").await;
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        self.0.read_exact(&mut chunk).await.unwrap();
        let text = String::from_utf8(chunk).unwrap();
        if length == 0 {
            return None;
        }
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned)
        };
        let data = serde_json::from_str(&field("data: ").unwrap()).unwrap();
        Some((field("id: "), field("event: ").unwrap(), data))
    }
}

fn row(name: &str, number: u64) -> Value {
    json!({"key": [name, number], "value": 1})
}

fn plus(name: &str, number: u64) -> Value {
    json!({"op": "+", "key": [name, number], "value": 1})
}

#[tokio::test]
async fn the_answer_comes_first_and_then_its_changes() {
    let running = run(HttpOptions::default()).await;
    let mut sse = Sse::open(&running, CHANGES, None).await;
    let (id, name, snapshot) = sse.event().await.unwrap();
    let rows = json!([row("a", 1), row("a", 2), row("b", 1)]);
    let expected = json!({"as_of": 10, "complete_through": 500, "start": true, "rows": rows,
        "end": true});
    assert_eq!((name.as_str(), &snapshot), ("snapshot", &expected));
    count(&running.world, 11, "c", 600);
    let (newer, name, changes) = sse.event().await.unwrap();
    let expected = json!({"as_of": 11, "complete_through": 600, "changes": [plus("c", 11)]});
    assert_eq!((name.as_str(), &changes), ("changes", &expected));
    let (id, newer) = (id.as_deref(), newer.as_deref());
    for (header, parameter) in [(id, None), (newer, id), (None, newer)] {
        let parameter = parameter.map_or(String::new(), |id| format!("?last_event_id={id}"));
        let mut again = Sse::open(&running, &format!("{CHANGES}{parameter}"), header).await;
        if parameter.is_empty() {
            assert_eq!(again.event().await.unwrap().2, changes);
        }
        // The header is the newer one: it counts.
        let (_, name, progress) = again.any().await.unwrap();
        assert_eq!(name, "progress");
        assert_eq!(progress, json!({"as_of": 11, "complete_through": 600}));
    }
    running.end().await;
}

#[tokio::test]
async fn keys_prefixes_and_final_rows_are_subscribed_to() {
    let running = run(HttpOptions::default()).await;
    let open = async |rest: &str| Sse::open(&running, &format!("{CHANGES}{rest}"), None).await;
    let mut a = open("?prefix=a").await;
    let mut one = open("?key=%5B%22b%22,1%5D&prefix=b").await;
    let mut finals = open("?final=true").await;
    let rows = async |sse: &mut Sse| sse.event().await.unwrap().2["rows"].clone();
    assert_eq!(rows(&mut a).await, json!([row("a", 1), row("a", 2)]));
    assert_eq!(rows(&mut one).await, json!([row("b", 1)]));
    assert_eq!(rows(&mut finals).await, json!([row("a", 1), row("a", 2)]));
    // The row of 900 becomes final without being touched.
    count(&running.world, 11, "a", 900);
    let changes = async |sse: &mut Sse| sse.event().await.unwrap().2["changes"].clone();
    assert_eq!(changes(&mut a).await, json!([plus("a", 11)]));
    assert_eq!(
        changes(&mut finals).await,
        json!([plus("a", 11), plus("b", 1)])
    );
    let gone = Row::new(&("b", 1), &1, Some(Timestamp(900))).unwrap();
    let view = running.world.views.query("counts").unwrap();
    view.apply(0, 12, vec![(gone, -1)]);
    running.world.show(12, 12, Some(950));
    let expired = json!([{"op": "-", "key": ["b", 1], "value": 1, "expired": true}]);
    assert_eq!(changes(&mut one).await, expired);
    running.end().await;
}

type Socket = WebSocketStream<TcpStream>;

async fn socket(running: &Running, rest: &str) -> Result<Socket, Error> {
    let url = format!("ws://{}{CHANGES}{rest}", running.address);
    let request = url.into_client_request().unwrap();
    let connected = client_async(request, running.connect().await).await;
    connected.map(|(socket, _)| socket)
}

/// The next message that is not about progress.
async fn message(socket: &mut Socket) -> Value {
    loop {
        let message = socket.next().await.unwrap().unwrap();
        let event: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        if event["event"] != "progress" {
            return event;
        }
    }
}

#[tokio::test]
async fn a_websocket_carries_the_same() {
    let running = run(HttpOptions::default()).await;
    let mut first = socket(&running, "?prefix=b").await.unwrap();
    let snapshot = message(&mut first).await;
    let id = snapshot["id"].as_str().unwrap();
    let expected = json!({"event": "snapshot", "id": id, "as_of": 10, "complete_through": 500,
        "start": true, "rows": [row("b", 1)], "end": true});
    assert_eq!(snapshot, expected);
    first.send(Message::Ping("x".into())).await.unwrap();
    first.send(Message::text("hello")).await.unwrap();
    assert!(first.next().await.unwrap().unwrap().is_pong());
    first.close(None).await.unwrap();
    count(&running.world, 11, "b", 600);
    let rest = format!("?prefix=b&last_event_id={id}");
    let mut second = socket(&running, &rest).await.unwrap();
    let changes = message(&mut second).await;
    assert_eq!(changes["event"], "changes");
    assert_eq!(changes["changes"], json!([plus("b", 11)]));
    // The token is of this prefix only.
    let mut other = socket(&running, &format!("?last_event_id={id}"))
        .await
        .unwrap();
    let reset = message(&mut other).await;
    assert_eq!(
        (&reset["event"], &reset["id"]),
        (&json!("reset"), &json!(""))
    );
    assert_eq!(message(&mut other).await["event"], "snapshot");
    let refused = socket(&running, "?last_event_id=x").await;
    let Err(Error::Http(refused)) = refused else {
        panic!("it was let in")
    };
    assert_eq!(refused.status(), 400);
    running.end().await;
}

#[tokio::test]
async fn a_long_answer_is_a_websockets_message_in_fragments() {
    let running = run(HttpOptions::default()).await;
    let mut socket = socket(&running, "").await.unwrap();
    message(&mut socket).await;
    let rows = (0..9000_u64).map(|n| (Row::new(&("long", n), &n, None).unwrap(), 1));
    let view = running.world.views.query("counts").unwrap();
    view.apply(0, 11, rows.collect());
    running.world.show(11, 4, Some(600));
    let changes = message(&mut socket).await;
    assert_eq!(changes["changes"].as_array().unwrap().len(), 9000);
    running.end().await;
}

#[tokio::test]
async fn a_stop_ends_subscriptions_cleanly() {
    let running = run(HttpOptions::default()).await;
    let mut sse = Sse::open(&running, CHANGES, None).await;
    let mut socket = socket(&running, "").await.unwrap();
    sse.event().await.unwrap();
    message(&mut socket).await;
    running.stop.send(()).unwrap();
    assert_eq!(sse.event().await, None);
    let Some(Ok(Message::Close(Some(goodbye)))) = socket.next().await else {
        panic!("no goodbye")
    };
    assert_eq!(goodbye.code, CloseCode::Away);
    assert!(socket.next().await.is_none());
    running.served.await.unwrap().unwrap();
}

/// Looks at the metrics until there are so many subscribers.
async fn subscribers(running: &Running, count: usize) {
    let expected = format!("waterclock_subscribers {count}\n");
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let found = async { while !running.exchange(request).await.contains(&expected) {} };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, found)
        .await
        .expect("it keeps its place");
}

#[tokio::test]
async fn subscribers_are_bounded_and_a_closed_one_leaves_its_place_at_once() {
    let options = HttpOptions {
        max_subscribers: 2,
        ..HttpOptions::default()
    };
    let running = run(options).await;
    let sse = Sse::open(&running, CHANGES, None).await;
    let ws = socket(&running, "").await.unwrap();
    subscribers(&running, 2).await;
    let refused = running
        .exchange(
            format!("GET {CHANGES} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
        .await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("http.max_subscribers"), "{refused}");
    drop(sse);
    subscribers(&running, 1).await;
    drop(ws);
    subscribers(&running, 0).await;
    Sse::open(&running, CHANGES, None).await;
    running.end().await;
}

#[tokio::test]
async fn who_reads_nothing_is_cut_off() {
    let options = HttpOptions {
        write_timeout: Duration::from_millis(50),
        ..HttpOptions::default()
    };
    let running = run(options).await;
    let text = "x".repeat(1000);
    let rows = (0..20_000_u64).map(|n| (Row::new(&("long", n), &text, None).unwrap(), 1));
    let view = running.world.views.query("counts").unwrap();
    view.apply(0, 11, rows.collect());
    running.world.show(11, 4, Some(600));
    let _sse = Sse::open(&running, CHANGES, None).await;
    let _ws = socket(&running, "").await.unwrap();
    subscribers(&running, 0).await;
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_every_second() {
    let world = World::ready();
    let mut request = warp::http::Request::builder().uri(CHANGES);
    request = request.header("host", "localhost");
    let body = http_body_util::Full::default();
    let local = std::net::Ipv4Addr::LOCALHOST.into();
    let mut answer = world.edge.answer(request.body(body).unwrap(), local).await;
    let mut last = tokio::time::Instant::now();
    for n in 0..5 {
        let frame = poll_fn(|cx| Pin::new(answer.body_mut()).poll_frame(cx)).await;
        let data = frame.unwrap().unwrap().into_data().unwrap();
        let text = std::str::from_utf8(&data).unwrap();
        let event = if n == 0 { "snapshot" } else { "progress" };
        assert!(text.contains(&format!("event: {event}\n")), "{text}");
        assert!(
            last.elapsed() < Duration::from_secs(1),
            "{:?}",
            last.elapsed()
        );
        last = tokio::time::Instant::now();
    }
}
