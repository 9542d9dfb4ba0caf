//! What is refused whatever its route: wrong addresses, methods, parameters, hosts and origins.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use warp::hyper::body::{Body, Bytes, Frame};

use super::{HttpOptions, World, admin};

#[tokio::test]
async fn unknown_addresses_and_methods_are_problems_too() {
    let world = World::ready();
    for path in [
        "/nowhere",
        "/v1",
        "/v1/queries/a/b/c",
        "/v1/queries/counts/keys/x",
    ] {
        world.get(path).await.is_problem(404, "nothing is at '/");
    }
    for (method, path, allow) in [
        ("POST", "/v1/queries", "GET, HEAD"),
        ("DELETE", "/v1/queries/counts", "GET, HEAD"),
        ("PUT", "/v1/queries/counts/key/x", "GET, HEAD"),
        ("GET", "/v1/streams/clicks", "POST"),
        ("DELETE", "/v1/checkpoints", "GET, HEAD, POST"),
        ("BREW", "/", "GET, HEAD"),
    ] {
        let refused = world.send(method, path, &[], "").await;
        refused.is_problem(405, &format!("takes {allow}, not {method}"));
        assert_eq!(refused.header("allow"), allow);
    }
    assert_eq!(world.send("HEAD", "/healthz", &[], "").await.status, 200);
}

#[tokio::test]
async fn unknown_parameters_are_named_everywhere() {
    let world = World::ready();
    for path in [
        "/v1/queries",
        "/v1/streams",
        "/v1/checkpoints",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        world
            .get(&format!("{path}?x=1"))
            .await
            .is_problem(400, "parameter 'x' is not known");
    }
    world
        .get("/v1/queries/counts?lmit=1")
        .await
        .is_problem(400, "'lmit' is not known");
    world
        .post("/v1/streams/clicks?x", "{}")
        .await
        .is_problem(400, "'x' is not known");
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused_before_anything_else() {
    let world = World::ready();
    let evil = [("host", "evil.example")];
    world
        .send("GET", "/v1/queries", &evil, "")
        .await
        .is_problem(403, "'evil.example'");
    let evil = [
        ("origin", "http://evil.example"),
        ("content-type", "application/json"),
    ];
    let refused = world.send("POST", "/v1/streams/clicks", &evil, "{}").await;
    refused.is_problem(403, "origin 'http://evil.example'");
    assert!(world.log.posts.lock().unwrap().is_empty());
    let own = [("origin", "http://localhost:8080")];
    world.send("GET", "/v1/queries", &own, "").await.json();
}

#[tokio::test]
async fn a_token_is_asked_for_where_one_is_set() {
    let options = HttpOptions {
        tokens: vec![admin("secret")],
        ..HttpOptions::default()
    };
    let world = World::with(options);
    let refused = world.get("/v1/queries").await;
    refused.is_problem(401, "Authorization: Bearer");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    let with = [("authorization", "Bearer secret")];
    world.send("GET", "/v1/queries", &with, "").await.json();
    assert_eq!(world.get("/").await.status, 200);
}

/// A body whose first byte never comes.
struct Silent;

impl Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_given_up() {
    let options = HttpOptions {
        request_timeout: Duration::from_secs(3),
        ..HttpOptions::default()
    };
    let world = World::with(options);
    let headers = [("content-type", "application/json")];
    let answer = world
        .send_body("POST", "/v1/streams/clicks", &headers, Silent)
        .await;
    answer.is_problem(408, "within 3 s");
}
