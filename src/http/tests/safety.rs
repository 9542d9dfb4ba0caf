//! Clients that mean no good: each gets its clear status, or nothing, and harms nobody.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::wire::run;
use super::{HttpOptions, World, admin, token};
use crate::http::{HttpError, TlsFiles, serve};

#[tokio::test]
async fn a_head_that_never_ends_is_told_so() {
    let head_timeout = Duration::from_millis(50);
    let running = run(HttpOptions {
        head_timeout,
        ..HttpOptions::default()
    })
    .await;
    for slow in [
        "GET / HTTP/1.1\r\nHost: local",
        "G",
        "POST /v1/streams/clicks HTTP/1.1\r\nA: b\r\n",
    ] {
        let answer = running.exchange(slow.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{answer}"
        );
        assert!(
            answer.ends_with('}') && answer.contains("did not arrive in time"),
            "{answer}"
        );
    }
    // Who only stays connected is not told anything, also after an answer.
    assert_eq!(running.exchange(b"").await, "");
    let answer = running
        .exchange(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert!(answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
    running.end().await;
}

#[tokio::test]
async fn heads_are_bounded_in_number_and_size() {
    let running = run(HttpOptions::default()).await;
    let many = |count: usize, header: &str| {
        let headers = format!("{header}\r\n").repeat(count);
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
    };
    let long = "x".repeat(70_000);
    for (head, status) in [
        (many(90, "a: b"), "200 OK"),
        (many(110, "a: b"), "431 "),
        (many(10_000, "a: b"), "431 "),
        (many(1, &format!("a: {long}")), "431 "),
        (many(1, "no header"), "400 "),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), "4"),
        ("nonsense\r\n\r\n".to_owned(), "400 "),
    ] {
        let answer = running.exchange(head.as_bytes()).await;
        let shown: String = head.chars().take(60).collect();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{shown}: {answer}"
        );
    }
    running.end().await;
}

#[tokio::test]
async fn a_body_of_100_mb_is_refused_to_the_end() {
    let running = run(HttpOptions::default()).await;
    let mut stream = running.connect().await;
    let head = "POST /v1/streams/clicks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Type: application/json\r\nContent-Length: 100000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let part = vec![b' '; 1_000_000];
    for _ in 0..100 {
        stream.write_all(&part).await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("larger than 8388608 bytes"), "{answer}");
    running.end().await;
}

#[tokio::test]
async fn paths_lead_nowhere_but_to_what_there_is() {
    let world = World::ready();
    for path in [
        "/v1/queries/..%2f..%2fetc%2fpasswd",
        "/v1/queries/%2e%2e",
        "/v1/queries/counts%00",
        "/v1/queries/%ff",
        "/v1/queries/counts%2fkey%2fx",
        "/v1/streams/..%2Fcheckpoints/rejected",
        "/../../etc/passwd",
        "/v1/../metrics",
        "//v1/queries",
        "/v1//queries",
        "/v1/queries/",
        "/v1/queries/counts/",
        "/v1/QUERIES",
        "/v1/queries/counts/key",
        "/v1/queries/;counts",
        "/.git/config",
    ] {
        let answer = world.get(path).await;
        let is_refused = [400, 404].contains(&answer.status.as_u16());
        // One slash at the end is the same address.
        let is_same = path.ends_with('/') && answer.status == 200;
        assert!(is_refused || is_same, "{path}: {}", answer.status);
        if is_refused {
            answer.is_problem(answer.status.as_u16(), "");
        }
    }
    let deep = "/a".repeat(10_000);
    world.get(&deep).await.is_problem(404, "nothing is at");
    let post = world.post("/v1/streams/..%2F..%2Ftmp%2Fx", "{}").await;
    post.is_problem(404, "does not exist");
}

#[tokio::test]
async fn a_client_that_is_gone_is_not_waited_for() {
    let running = run(HttpOptions::default()).await;
    running.world.log.end.store(9, Ordering::SeqCst);
    let mut stream = running.connect().await;
    let address = format!("/v1/queries/counts?after={}&timeout=5m", token(9));
    let request = format!("GET {address} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    running.until_connections("2").await;
    drop(stream);
    running.until_connections("1").await;
    running.end().await;
}

#[tokio::test]
async fn pages_of_named_origins_may_ask() {
    let world = World::with(HttpOptions {
        origins: vec!["https://app.example".into()],
        tokens: vec![admin("secret")],
        ..HttpOptions::default()
    });
    world.fill();
    let origin = ("origin", "https://app.example");
    let asks = [origin, ("access-control-request-method", "POST")];
    let leave = world.send("OPTIONS", "/v1/streams/clicks", &asks, "").await;
    assert_eq!(leave.status, 204);
    assert_eq!(
        leave.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert!(
        leave
            .header("access-control-allow-headers")
            .contains("Authorization")
    );
    assert_eq!(
        leave.header("access-control-allow-methods"),
        "GET, HEAD, POST"
    );
    let with = [origin, ("authorization", "Bearer secret")];
    let answer = world.send("GET", "/v1/queries/counts", &with, "").await;
    answer.json();
    assert!(
        answer
            .header("access-control-expose-headers")
            .contains("Waterclock-As-Of")
    );
    // A page must see why it is refused.
    let refused = world.send("GET", "/v1/queries/counts", &[origin], "").await;
    refused.is_problem(401, "asks for a token");
    assert_eq!(
        refused.header("access-control-allow-origin"),
        "https://app.example"
    );
    let other = [("origin", "https://evil.example"), asks[1]];
    let refused = world
        .send("OPTIONS", "/v1/streams/clicks", &other, "")
        .await;
    refused.is_problem(403, "http.allow_origins");
    assert_eq!(refused.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let ours = |name: &str| {
        let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        manifest.join("tests/tls").join(name)
    };
    std::fs::write(path("empty"), "").unwrap();
    for (certificate, key, named) in [
        (path("none"), ours("key.pem"), "none"),
        (path("empty"), ours("key.pem"), "empty"),
        (ours("certificate.pem"), path("empty"), "empty"),
        (
            ours("certificate.pem"),
            ours("certificate.pem"),
            "certificate.pem",
        ),
    ] {
        let options = HttpOptions {
            tls: Some(TlsFiles { certificate, key }),
            ..HttpOptions::default()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = serve(listener, World::service(options).1, async {}).await;
        let Err(HttpError::Tls { path, .. }) = refused else {
            panic!("{named} is taken");
        };
        assert!(path.ends_with(named), "{}", path.display());
    }
}
