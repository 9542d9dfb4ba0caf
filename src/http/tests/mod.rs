//! The HTTP surface, request by request: real views, and fakes for what the other edges do.

mod changes;
mod contract;
mod formats;
mod limits;
mod lists;
mod posts;
mod reads;
mod safety;
mod several;
mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use warp::http::{HeaderMap, Request, StatusCode};
use warp::hyper::body::{Body, Bytes};

use super::edge::Edge;
use super::options::{AccessToken, HttpOptions, Scope, Service};
use super::state::State;
use super::token::Token;
use crate::row::Row;
use crate::time::{Epoch, Timestamp, hours};
use crate::view::{
    CheckpointInfo, Checkpoints, History, Ingest, IngestError, Labels, LineVerdict, Mode, Outbox,
    PartitionLabel, PostAnswer, PostReply, PostRequest, QuerySpec, SinkSpec, StreamLabel, Views,
};

const NOW: Timestamp = Timestamp(1_000_000);

/// A log that keeps what is posted to `clicks` in memory, and refuses by the name of the stream.
#[derive(Default)]
struct FakeLog {
    posts: Mutex<Vec<PostRequest>>,
    end: AtomicU64,
}

impl FakeLog {
    fn last_post(&self) -> PostRequest {
        self.posts.lock().unwrap().last().unwrap().clone()
    }
}

impl Ingest for FakeLog {
    fn accepts(&self, stream: &str) -> Result<(), IngestError> {
        match stream {
            "clicks" | "full" | "busy" | "broken" | "reused" | "stopped" | "panics" => Ok(()),
            "files" => Err(IngestError::NotPostable(
                stream.into(),
                "the file a.ndjson".into(),
            )),
            _ => Err(IngestError::UnknownStream(stream.into())),
        }
    }

    fn post(&self, stream: &str, request: PostRequest, reply: PostReply) {
        let storage = |cause: &str| IngestError::Storage {
            stream: stream.into(),
            cause: cause.into(),
        };
        match stream {
            "full" => return reply(Err(storage("no space left on device"))),
            "broken" => return reply(Err(storage("input/output error"))),
            "busy" => return reply(Err(IngestError::Overloaded(stream.into()))),
            "reused" => return reply(Err(IngestError::KeyReused("k1".into()))),
            "stopped" => return drop(reply),
            "panics" => panic!("a defect, on purpose"),
            _ => {}
        }
        let is_object = |line: &Vec<u8>| serde_json::from_slice::<Value>(line).is_ok();
        let rejected: Vec<LineVerdict> = (1..)
            .zip(&request.lines)
            .filter(|(_, line)| !is_object(line))
            .map(|(line, _)| LineVerdict {
                line,
                reason: "not JSON".into(),
            })
            .collect();
        let lines = request.lines.len() as u64;
        let position = self.end.fetch_add(lines, Ordering::SeqCst) + lines;
        self.posts.lock().unwrap().push(request);
        reply(Ok(PostAnswer {
            accepted: lines - rejected.len() as u64,
            rejected,
            position,
        }));
    }

    fn end(&self, stream: &str) -> Option<u64> {
        (stream == "clicks").then(|| self.end.load(Ordering::SeqCst))
    }
}

#[derive(Default)]
struct FakeCheckpoints {
    fails: AtomicBool,
}

const CHECKPOINT: CheckpointInfo = CheckpointInfo {
    epoch: 20,
    run: 1,
    published_at: 990_000,
    bytes: 4096,
    rows: 3,
    label: None,
};

impl Checkpoints for FakeCheckpoints {
    fn take(
        &self,
        label: Option<String>,
        reply: Box<dyn FnOnce(Result<CheckpointInfo, String>) + Send>,
    ) {
        if self.fails.load(Ordering::SeqCst) {
            reply(Err("the store refused".into()));
        } else {
            reply(Ok(CheckpointInfo {
                label,
                ..CHECKPOINT
            }));
        }
    }

    fn problem(&self) -> Option<String> {
        let fails = self.fails.load(Ordering::SeqCst);
        fails.then(|| "the store refused".to_owned())
    }

    fn list(&self) -> Vec<CheckpointInfo> {
        vec![CHECKPOINT]
    }
}

/// A service with the queries `counts` (final rows, keys of text and number) and `names` (keys of
/// text, never final), both over `clicks`.
struct World {
    edge: Arc<Edge>,
    views: Arc<Views>,
    log: Arc<FakeLog>,
    checkpoints: Arc<FakeCheckpoints>,
    outbox: Arc<Outbox>,
    stale: Arc<AtomicBool>,
    /// How many milliseconds after [`NOW`] it is.
    since: Arc<AtomicI64>,
}

impl World {
    fn new() -> World {
        World::with(HttpOptions::default())
    }

    fn with(options: HttpOptions) -> World {
        let (world, service) = World::service(options);
        World {
            edge: Arc::new(Edge::new(Arc::new(State::new(service)))),
            ..world
        }
    }

    /// A world whose edge serves nothing yet, and the service to give to `serve`.
    fn service(options: HttpOptions) -> (World, Service) {
        // Epochs are small numbers here, and all of them long ago.
        let default = HttpOptions::default().stale_after;
        let long = if options.stale_after == default {
            hours(1)
        } else {
            options.stale_after
        };
        let options = HttpOptions {
            stale_after: long,
            ..options
        };
        let spec = |name: &str, has_final: bool, key: Value| QuerySpec {
            name: name.into(),
            doc: "A query.".into(),
            streams: vec!["clicks".into()],
            has_final,
            key_schema: key,
            ..QuerySpec::default()
        };
        let (text, number) = (json!({"type": "string"}), json!({"type": "integer"}));
        let pair = json!({"type": "array", "prefixItems": [text, number]});
        let queries = vec![spec("counts", true, pair), spec("names", false, text)];
        let history = History {
            epochs: 2,
            ..History::default()
        };
        let views = Arc::new(Views::new(1, queries, vec!["clicks".into()], 1, history));
        let spec = SinkSpec {
            name: "out".into(),
            query: "counts".into(),
            topic: "counts".into(),
            mode: Mode::Final,
            ..SinkSpec::default()
        };
        let counts = Arc::clone(views.query("counts").unwrap());
        let outbox = Arc::new(Outbox::new(spec, counts, 0, None));
        let log = Arc::new(FakeLog::default());
        let checkpoints = Arc::new(FakeCheckpoints::default());
        let stale = Arc::new(AtomicBool::new(false));
        let since = Arc::new(AtomicI64::new(0));
        let make = || Service {
            views: Arc::clone(&views),
            ingest: Arc::clone(&log) as Arc<dyn Ingest>,
            checkpoints: Arc::clone(&checkpoints) as Arc<dyn Checkpoints>,
            sources: BTreeMap::from([
                ("clicks".to_owned(), "the embedded log".to_owned()),
                ("files".to_owned(), "the file a.ndjson".to_owned()),
            ]),
            sinks: Arc::new([Arc::clone(&outbox)]),
            stale: Arc::clone(&stale),
            options: options.clone(),
            clock: {
                let since = Arc::clone(&since);
                Arc::new(move || Timestamp(NOW.0 + since.load(Ordering::SeqCst)))
            },
        };
        let edge = Arc::new(Edge::new(Arc::new(State::new(make()))));
        let service = make();
        (
            World {
                edge,
                views,
                log,
                checkpoints,
                outbox,
                stale,
                since,
            },
            service,
        )
    }

    /// A world that has shown epoch 10: three rows of `counts`, two of them final, one twice.
    fn ready() -> World {
        let world = World::new();
        world.fill();
        world
    }

    /// Lets time pass.
    fn later(&self, ms: i64) {
        self.since.fetch_add(ms, Ordering::SeqCst);
    }

    fn fill(&self) {
        self.count(10, [("a", 1, 100), ("a", 2, 100), ("b", 1, 900)]);
        let twice = Row::new(&"x", &1_u64, None).unwrap();
        self.views
            .query("names")
            .unwrap()
            .apply(0, 10, vec![(twice, 2)]);
        self.log.end.store(3, Ordering::SeqCst);
        self.show(10, 3, Some(500));
        self.views.set_ready();
    }

    /// Adds rows `[text, number] -> 1` of `counts`, final at the last number.
    fn count<const N: usize>(&self, epoch: Epoch, rows: [(&str, u64, i64); N]) {
        let row = |(text, number, at)| {
            (
                Row::new(&(text, number), &1_u64, Some(Timestamp(at))).unwrap(),
                1,
            )
        };
        let rows = rows.into_iter().map(row).collect();
        self.views.query("counts").unwrap().apply(0, epoch, rows);
    }

    fn show(&self, epoch: Epoch, position: u64, watermark: Option<i64>) {
        let watermark = watermark.map(Timestamp);
        let partition = PartitionLabel {
            position,
            end: position,
            watermark,
            idle: false,
        };
        let label = StreamLabel {
            watermark,
            partitions: [(0, partition)].into(),
        };
        let streams = [("clicks".to_owned(), label)].into();
        self.views.publish(Labels {
            run: 1,
            epoch,
            streams,
        });
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body)
            .await
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        self.send_body(method, path, headers, body).await
    }

    async fn send_body<B>(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: B,
    ) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut request = Request::builder().method(method).uri(path);
        if headers.iter().all(|(name, _)| *name != "host") {
            request = request.header("host", "localhost:8080");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let response = self.edge.answer(request.body(body).unwrap(), local).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            body,
        };
        contract::check(method, path, &answer);
        answer
    }
}

/// A token that allows everything.
fn admin(secret: &str) -> AccessToken {
    AccessToken {
        scope: Scope::Admin,
        secret: secret.into(),
    }
}

/// The token of a position of `clicks`.
fn token(position: u64) -> String {
    Token {
        stream: "clicks".into(),
        position,
    }
    .encode()
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks that this is a problem of a status, in its own words, with `words` in its detail.
    #[track_caller]
    fn is_problem(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], status);
        assert!(
            problem["type"]
                .as_str()
                .unwrap()
                .starts_with("urn:waterclock:problem:")
        );
        assert!(!problem["title"].as_str().unwrap().is_empty());
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(words), "'{detail}' does not say '{words}'");
        let may_retry = [429, 503, 507].contains(&status) && !detail.contains("failed");
        assert_eq!(
            !self.header("retry-after").is_empty(),
            may_retry,
            "{detail}"
        );
    }
}
