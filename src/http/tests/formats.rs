//! How an answer is written: formats, compression, and answers that the client has already.

use arrow_ipc::reader::StreamReader;
use serde_json::{Value, json};

use super::{Answer, World};
use crate::http::accept::Coding;
use crate::http::coding::decoded;
use crate::row::Row;

const COUNTS: &str = "/v1/queries/counts";

async fn accepting(world: &World, path: &str, accept: &str) -> Answer {
    world.send("GET", path, &[("accept", accept)], "").await
}

/// A world whose `names` has very many rows: more than fit into a piece of an answer.
fn large() -> World {
    let world = World::ready();
    let rows = (0..9000).map(|n| (Row::new(&format!("n{n:04}"), &1_u64, None).unwrap(), 1));
    let names = world.views.query("names").unwrap();
    names.apply(0, 20, rows.collect());
    world.show(20, 5, Some(600));
    world
}

#[tokio::test]
async fn rows_come_in_the_format_asked_for_with_their_labels_in_headers() {
    let world = World::ready();
    let ndjson = accepting(&world, "/v1/queries/counts?limit=2", "application/x-ndjson").await;
    assert_eq!(
        ndjson.text(),
        concat!(
            "{\"key\":[\"a\",1],\"value\":1,\"final\":true}\n",
            "{\"key\":[\"a\",2],\"value\":1,\"final\":true}\n"
        )
    );
    assert_eq!(ndjson.header("content-type"), "application/x-ndjson");
    assert_eq!(ndjson.header("waterclock-as-of"), "10");
    assert_eq!(ndjson.header("waterclock-complete-through"), "500");
    assert_eq!(
        ndjson.header("waterclock-positions"),
        r#"{"clicks":{"0":3}}"#
    );
    let next = format!(
        "{COUNTS}?limit=2&cursor={}",
        ndjson.header("waterclock-next")
    );
    let csv = accepting(&world, &next, "text/csv").await;
    assert_eq!(csv.text(), "key.0,key.1,value,final\r\nb,1,1,false\r\n");
    assert_eq!(csv.header("waterclock-next"), "");
    let arrow = accepting(&world, COUNTS, "application/vnd.apache.arrow.stream").await;
    let reader = StreamReader::try_new(&arrow.body[..], None).unwrap();
    assert_eq!(
        reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(),
        3
    );
    for path in ["/v1/queries/names/key/x", "/v1/queries/counts/late"] {
        let csv = accepting(&world, path, "text/csv").await;
        assert_eq!(
            (csv.status.as_u16(), csv.header("content-type")),
            (200, "text/csv")
        );
    }
    accepting(&world, COUNTS, "image/png")
        .await
        .is_problem(406, "application/x-ndjson, text/csv");
    accepting(&world, "/v1/queries/names/key/nobody", "text/csv")
        .await
        .is_problem(404, "no row");
}

#[tokio::test]
async fn a_large_answer_is_streamed_and_compressed_as_asked() {
    let world = large();
    let path = "/v1/queries/names?limit=10000";
    let plain = world.get(path).await;
    assert_eq!(plain.json()["rows"].as_array().unwrap().len(), 9002);
    assert_eq!(plain.header("content-encoding"), "");
    for (coding, name) in [(Coding::Gzip, "gzip"), (Coding::Zstd, "zstd")] {
        let answer = world
            .send("GET", path, &[("accept-encoding", name)], "")
            .await;
        assert_eq!(answer.header("content-encoding"), name);
        assert_eq!(answer.header("vary"), "Accept, Accept-Encoding");
        assert!(answer.body.len() < plain.body.len() / 5);
        assert!(decoded(coding, &answer.body) == plain.body);
        let whole = "/v1/queries/names?limit=100";
        let answer = world
            .send("GET", whole, &[("accept-encoding", name)], "")
            .await;
        assert_eq!(answer.header("content-encoding"), name);
        let answer: Value = serde_json::from_slice(&decoded(coding, &answer.body)).unwrap();
        assert_eq!(answer["rows"].as_array().unwrap().len(), 100);
        // Too short to be worth it.
        let key = "/v1/queries/names/key/x";
        let answer = world
            .send("GET", key, &[("accept-encoding", name)], "")
            .await;
        assert_eq!(answer.header("content-encoding"), "");
        answer.json();
    }
    let page = world
        .send("GET", "/", &[("accept-encoding", "gzip")], "")
        .await;
    assert_eq!(page.header("content-encoding"), "gzip");
    assert!(decoded(Coding::Gzip, &page.body).starts_with(b"<!doctype html>"));
}

#[tokio::test]
async fn an_answer_that_the_client_has_is_not_sent_again() {
    let world = World::ready();
    let ask =
        async |path: &str, tag: &str| world.send("GET", path, &[("if-none-match", tag)], "").await;
    let first = world.get(COUNTS).await;
    let tag = first.header("etag").to_owned();
    assert_eq!(first.header("cache-control"), "no-cache");
    let known = ask(COUNTS, &format!("\"other\", {tag}")).await;
    assert_eq!((known.status.as_u16(), known.text()), (304, ""));
    assert_eq!(known.header("etag"), tag);
    // Time goes on, and nothing else: the answer is the same, as of a later epoch.
    world.show(20, 3, Some(500));
    let known = ask(COUNTS, &tag).await;
    assert_eq!(
        (known.status.as_u16(), known.header("waterclock-as-of")),
        (304, "20")
    );
    for other in [
        "/v1/queries/counts?limit=999",
        "/v1/queries/counts?final=true",
        "/v1/queries/counts?prefix=a",
        "/v1/queries/names",
    ] {
        assert_eq!(ask(other, &tag).await.status, 200, "{other}");
    }
    let csv = [("if-none-match", tag.as_str()), ("accept", "text/csv")];
    assert_eq!(world.send("GET", COUNTS, &csv, "").await.status, 200);
    // The watermark makes rows final, a position says what is included, and rows are rows.
    world.show(30, 3, Some(501));
    let now = ask(COUNTS, &tag).await;
    assert_eq!(now.status, 200);
    let tag = now.header("etag").to_owned();
    world.show(40, 4, Some(501));
    assert_eq!(ask(COUNTS, &tag).await.status, 200);
    let tag = world.get(COUNTS).await.header("etag").to_owned();
    world.count(50, [("c", 0, 0)]);
    world.show(50, 4, Some(501));
    assert_eq!(ask(COUNTS, &tag).await.status, 200);
}

#[tokio::test]
async fn a_page_with_a_cursor_is_known_only_as_long_as_the_cursor_lives() {
    let world = World::ready();
    let path = "/v1/queries/counts?limit=2";
    let tag = world.get(path).await.header("etag").to_owned();
    let known = [("if-none-match", tag.as_str())];
    assert_eq!(world.send("GET", path, &known, "").await.status, 304);
    world.show(20, 3, Some(500));
    assert_eq!(world.send("GET", path, &known, "").await.status, 200);
}

#[tokio::test]
async fn a_stale_answer_has_an_age_and_is_not_kept() {
    let world = World::ready();
    let tag = world.get(COUNTS).await.header("etag").to_owned();
    world
        .stale
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let known = [("if-none-match", tag.as_str())];
    let answer = world.send("GET", COUNTS, &known, "").await;
    let body = answer.json();
    assert_eq!(
        (&body["stale"], &body["age_ms"]),
        (&json!(true), &json!(999_990))
    );
    assert_eq!(answer.header("waterclock-age-ms"), "999990");
    assert_eq!(answer.header("etag"), "");
    // Which epoch the client named is not older than it is.
    let at = world.get("/v1/queries/counts?at=10").await.json();
    assert_eq!((&at["stale"], at.get("age_ms")), (&json!(false), None));
}
