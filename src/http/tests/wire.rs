//! Over a real connection: keep-alive, timeouts, refusals that arrive, and a graceful end.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{HttpOptions, World, admin, token};
use crate::http::{HttpError, serve};

pub(super) struct Running {
    pub(super) world: World,
    pub(super) address: SocketAddr,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) served: JoinHandle<Result<(), HttpError>>,
}

pub(super) async fn run(options: HttpOptions) -> Running {
    let (world, service) = World::service(options);
    world.fill();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(serve(listener, service, async {
        stopped.await.ok();
    }));
    Running {
        world,
        address,
        stop,
        served,
    }
}

impl Running {
    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and reads until the service closes the connection.
    pub(super) async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Waits until so many connections are open, the one that asks among them.
    pub(super) async fn until_connections(&self, count: &str) {
        let ask = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let line = format!("\nwaterclock_http_connections {count}\n");
        let waiting = async { while !self.exchange(ask).await.contains(&line) {} };
        timeout(Duration::from_secs(30), waiting).await.unwrap();
    }

    pub(super) async fn end(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap().unwrap();
    }
}

pub(super) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let running = run(HttpOptions::default()).await;
    let mut stream = running.connect().await;
    for _ in 0..3 {
        let request = b"GET /v1/queries/names/key/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let answer = read_until(&mut stream, "\"next\":null}").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    drop(stream);
    running.end().await;
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let running = run(HttpOptions {
        body_limit: 1 << 20,
        ..HttpOptions::default()
    })
    .await;
    let size = 3 << 20;
    let head = format!(
        "POST /v1/streams/clicks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    );
    let request = [head.as_bytes(), &vec![b' '; size]].concat();
    let answer = running.exchange(&request).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"),
        "{answer}"
    );
    running.end().await;
}

#[tokio::test]
async fn heads_are_bounded_in_time_and_size() {
    let head_timeout = Duration::from_millis(50);
    let running = run(HttpOptions {
        head_timeout,
        ..HttpOptions::default()
    })
    .await;
    let answer = running.exchange(b"GET / HTTP/1.1\r\nHost: local").await;
    assert!(!answer.contains("200"), "{answer}");
    assert_eq!(
        running.exchange(b"").await,
        "",
        "an idle connection is closed"
    );
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a".repeat(70 << 10)
    );
    let answer = running.exchange(long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    running.end().await;
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let running = run(HttpOptions {
        max_connections: 1,
        ..HttpOptions::default()
    })
    .await;
    let first = running.connect().await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut second = running.connect().await;
    second.write_all(request).await.unwrap();
    let waits = timeout(Duration::from_millis(50), second.readable()).await;
    assert!(
        waits.is_err(),
        "the second connection was served beside the first"
    );
    drop(first);
    let mut answer = String::new();
    second.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
    running.end().await;
}

#[tokio::test]
async fn a_stop_ends_waiting_reads_with_an_answer() {
    let running = run(HttpOptions::default()).await;
    running
        .world
        .log
        .end
        .store(9, std::sync::atomic::Ordering::SeqCst);
    let mut stream = running.connect().await;
    let address = format!("/v1/queries/counts?after={}", token(9));
    let request = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\
         GET {address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut stream, r#"{"status":"ok"}"#).await;
    running.stop.send(()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("the service is stopping"), "{answer}");
    running.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn listening_for_everybody_without_a_token_is_refused() {
    let listen = async |options: HttpOptions| {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        serve(listener, World::service(options).1, async {}).await
    };
    let exposed = listen(HttpOptions::default()).await;
    assert!(matches!(exposed, Err(HttpError::Exposed(_))));
    listen(HttpOptions {
        insecure: true,
        ..HttpOptions::default()
    })
    .await
    .unwrap();
    listen(HttpOptions {
        tokens: vec![admin("s")],
        ..HttpOptions::default()
    })
    .await
    .unwrap();
}
