//! Posts: bodies, content types, keys, and every refusal.

use http_body_util::Full;
use serde_json::json;
use sha2::{Digest, Sha256};
use warp::hyper::body::Bytes;

use super::{Answer, HttpOptions, World};
use crate::http::accept::Coding;
use crate::http::coding::coded;

const NDJSON: [(&str, &str); 1] = [("content-type", "application/x-ndjson")];

#[tokio::test]
async fn a_post_answers_with_a_token_that_a_read_takes() {
    let world = World::ready();
    let answer = world
        .post("/v1/streams/clicks", r#"{"user_id":"u1"}"#)
        .await
        .json();
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(1), &json!([]))
    );
    world.show(20, 4, Some(500));
    let token = answer["token"].as_str().unwrap();
    let read = world
        .get(&format!("/v1/queries/counts?after={token}"))
        .await
        .json();
    assert_eq!(read["as_of"], 20);
}

#[tokio::test]
async fn records_are_passed_on_as_lines_with_key_and_digest() {
    let world = World::ready();
    let body = "[{\"a\":1},\n {\"b\":\n2}]";
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "k1"),
    ];
    world
        .send("POST", "/v1/streams/clicks", &headers, body)
        .await
        .json();
    let post = world.log.last_post();
    assert_eq!(post.lines, [b"{\"a\":1}".to_vec(), b"{\"b\":2}".to_vec()]);
    assert_eq!(post.idempotency_key.as_deref(), Some("k1"));
    assert_eq!(post.digest, <[u8; 32]>::from(Sha256::digest(body)));
}

#[tokio::test]
async fn a_large_body_is_taken_too() {
    let world = World::ready();
    let body = "{\"a\":1}\n".repeat(50_000);
    let answer = world
        .send("POST", "/v1/streams/clicks", &NDJSON, &body)
        .await
        .json();
    assert_eq!(answer["accepted"], 50_000);
}

#[tokio::test]
async fn bad_lines_are_verdicts_and_bad_bodies_refusals() {
    let world = World::ready();
    let body = "{\"a\":1}\n\nnonsense\n{\"a\":2}\n";
    let answer = world
        .send("POST", "/v1/streams/clicks", &NDJSON, body)
        .await
        .json();
    assert_eq!(answer["accepted"], 2);
    assert_eq!(
        answer["rejected"],
        json!([{"line": 3, "reason": "not JSON"}])
    );
    let refused = world
        .send("POST", "/v1/streams/clicks", &NDJSON, "nonsense\nmore")
        .await;
    refused.is_problem(400, "the body is not JSON");
    world
        .post("/v1/streams/clicks", "")
        .await
        .is_problem(400, "the body is empty");
    let empty = world.post("/v1/streams/clicks", "[]").await.json();
    assert_eq!(empty["accepted"], 0);
    assert!(empty["token"].is_string());
}

#[tokio::test]
async fn other_content_types_are_refused() {
    let world = World::ready();
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "\u{7f}")][..0],
    ] {
        let refused = world
            .send("POST", "/v1/streams/clicks", headers, "{}")
            .await;
        refused.is_problem(415, "takes application/json and application/x-ndjson");
    }
    let utf8 = [("content-type", "application/json; charset=utf-8")];
    world
        .send("POST", "/v1/streams/clicks", &utf8, "{}")
        .await
        .json();
}

#[tokio::test]
async fn every_refusal_of_the_log_has_its_status() {
    let world = World::ready();
    for (stream, status, words) in [
        ("unknown", 404, "stream 'unknown' does not exist"),
        ("files", 409, "is read from the file a.ndjson"),
        ("reused", 409, "idempotency key 'k1'"),
        ("busy", 429, "too many posts"),
        ("broken", 503, "input/output error"),
        ("full", 507, "no space left"),
        ("stopped", 503, "stopping"),
    ] {
        let refused = world.post(&format!("/v1/streams/{stream}"), "{}").await;
        refused.is_problem(status, words);
    }
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let world = World::ready();
    world
        .post("/v1/streams/panics", "{}")
        .await
        .is_problem(500, "'/v1/streams/panics'");
    world.post("/v1/streams/clicks", "{}").await.json();
}

#[tokio::test]
async fn posts_are_taken_before_the_service_is_ready() {
    let world = World::new();
    assert_eq!(
        world.post("/v1/streams/clicks", "{}").await.json()["accepted"],
        1
    );
}

#[tokio::test]
async fn an_idempotency_key_is_bounded_and_stands_once() {
    let world = World::ready();
    let long = "k".repeat(256);
    for keys in [&["a", "b"][..], &[""], &[long.as_str()]] {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(keys.iter().map(|key| ("idempotency-key", *key)));
        let refused = world
            .send("POST", "/v1/streams/clicks", &headers, "{}")
            .await;
        refused.is_problem(400, "Idempotency-Key");
    }
}

#[tokio::test]
async fn a_body_is_bounded_by_itself_and_with_all_others() {
    let world = World::with(HttpOptions {
        body_limit: 8,
        ..HttpOptions::default()
    });
    world.post("/v1/streams/clicks", "{\"a\": 1}").await.json();
    world
        .post("/v1/streams/clicks", "{\"a\": 12}")
        .await
        .is_problem(413, "larger than 8 bytes");
    let world = World::with(HttpOptions {
        body_budget: 7,
        ..HttpOptions::default()
    });
    world
        .post("/v1/streams/clicks", "{\"a\": 1}")
        .await
        .is_problem(429, "arriving at once");
    world.post("/v1/streams/clicks", "{}").await.json();
}

fn gzipped(plain: &[u8]) -> Vec<u8> {
    coded(Coding::Gzip, plain.to_vec()).unwrap()
}

async fn post_coded(world: &World, coding: &str, body: Vec<u8>) -> Answer {
    let headers = [NDJSON[0], ("content-encoding", coding)];
    let body = Full::new(Bytes::from(body));
    world
        .send_body("POST", "/v1/streams/clicks", &headers, body)
        .await
}

#[tokio::test]
async fn a_body_may_be_compressed() {
    let world = World::ready();
    let plain = b"{\"a\":1}\n{\"a\":2}";
    // Members of gzip may follow one another.
    let body = [gzipped(&plain[..8]), gzipped(&plain[8..])].concat();
    let answer = post_coded(&world, "gzip", body).await.json();
    assert_eq!(answer["accepted"], 2);
    let post = world.log.last_post();
    assert_eq!(post.digest, <[u8; 32]>::from(Sha256::digest(plain)));
    assert_eq!(
        post_coded(&world, "identity", plain.to_vec()).await.json()["accepted"],
        2
    );
    let whole = gzipped(plain);
    for broken in [
        plain.to_vec(),
        whole[..whole.len() - 9].to_vec(),
        [&whole[..], b"x"].concat(),
    ] {
        let refused = post_coded(&world, "gzip", broken).await;
        refused.is_problem(400, "not whole gzip");
    }
    for coding in ["br", "zstd", "gzip, gzip"] {
        let refused = post_coded(&world, coding, whole.clone()).await;
        refused.is_problem(415, "compress the body with gzip");
        assert_eq!(refused.header("accept-encoding"), "gzip");
    }
}

#[tokio::test]
async fn a_gzip_bomb_does_not_go_off() {
    let options = HttpOptions {
        body_limit: 1 << 20,
        ..HttpOptions::default()
    };
    let world = World::with(options);
    let bomb = gzipped(&vec![b' '; 64 << 10]).repeat(4096);
    assert!(bomb.len() < 1 << 20, "256 MiB fit as they are");
    post_coded(&world, "gzip", bomb)
        .await
        .is_problem(413, "larger than 1048576 bytes");
    let options = HttpOptions {
        body_budget: 1 << 20,
        ..HttpOptions::default()
    };
    let world = World::with(options);
    let bomb = gzipped(&vec![b' '; 64 << 10]).repeat(64);
    post_coded(&world, "gzip", bomb)
        .await
        .is_problem(429, "arriving at once");
    // What it held is free again.
    let body = gzipped(format!("{{\"a\":1}}{}", " ".repeat(100 << 10)).as_bytes());
    assert_eq!(post_coded(&world, "gzip", body).await.json()["accepted"], 1);
}

#[tokio::test]
async fn posts_wait_while_too_many_records_are_not_shown_yet() {
    let world = World::with(HttpOptions {
        max_backlog: std::time::Duration::from_secs(1),
        ..HttpOptions::default()
    });
    world.fill();
    world.post("/v1/streams/clicks", "{}").await.json();
    world.later(600);
    world.post("/v1/streams/clicks", "{}").await.json();
    world.later(1001);
    let refused = world.post("/v1/streams/clicks", "{}").await;
    refused.is_problem(429, "stream 'clicks' is more than 1 s behind");
    world.show(20, 4, Some(500));
    world.post("/v1/streams/clicks", "{}").await.json();
}
