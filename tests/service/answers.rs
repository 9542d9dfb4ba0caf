//! What is answered to what was posted: windows, final flags, late and rejected records.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::service::{Launch, Service, until};

const MINUTE: i64 = 60_000;
/// 2022-01-01 10:00:00.
const TEN: i64 = 1_641_031_200_000;

/// A row of one click: the window from so many minutes after ten on, five minutes long.
fn row(user: &str, minutes: i64, is_final: bool) -> Value {
    let start = TEN + minutes * MINUTE;
    let window = json!({"start": start, "end": start + 5 * MINUTE});
    json!({"key": [user, window], "value": 1, "final": is_final})
}

fn start() -> (tempfile::TempDir, Service) {
    let home = tempfile::tempdir().expect("a place for the test");
    let service = Launch::new(home.path()).start_ready();
    (home, service)
}

fn rows(service: &Service, query: &str, token: &str) -> Vec<Value> {
    let answer = service
        .get(&format!("/v1/queries/{query}?after={token}"))
        .ok();
    answer["rows"].as_array().expect("a list").clone()
}

#[test]
fn the_clicks_of_the_example_are_in_exactly_their_windows() {
    let (_home, service) = start();
    let token = service.token_of(
        "clicks",
        "{\"user_id\":\"u1\",\"click_time\":\"2022-01-01 10:00:00\"}\n\
         {\"user_id\":\"u2\",\"click_time\":\"2022-01-01 10:05:00\"}",
    );
    // The watermark is 10:04:55.
    let sliding = [
        row("u1", -4, true),
        row("u1", -2, true),
        row("u1", 0, false),
        row("u2", 2, false),
        row("u2", 4, false),
    ];
    assert_eq!(rows(&service, "clicks_per_user", &token), sliding);
    let tumbling = [row("u1", 0, false), row("u2", 5, false)];
    assert_eq!(rows(&service, "clicks_per_user_tumbling", &token), tumbling);

    // The watermark is 10:09:58.999, a millisecond short; then 10:09:59.999.
    for (millis, is_final) in [(3_999, false), (4_999, true)] {
        let later = json!({"user_id": "u3", "click_time": TEN + 10 * MINUTE + millis});
        let token = service.token_of("clicks", &later.to_string());
        let mine = |row: &Value| row["key"][0] != "u3";
        let mut found = rows(&service, "clicks_per_user_tumbling", &token);
        found.retain(mine);
        assert_eq!(found, [row("u1", 0, true), row("u2", 5, is_final)]);
        let mut found = rows(&service, "clicks_per_user", &token);
        found.retain(mine);
        let closed = sliding.each_ref().map(|row| {
            let mut row = row.clone();
            row["final"] = json!(true);
            row
        });
        assert_eq!(found, closed);
    }
    let answer = service.get("/v1/queries/clicks_per_user_tumbling?final=true&prefix=u2");
    assert_eq!(answer.ok()["rows"], json!([row("u2", 5, true)]));
    let answer = service
        .get("/v1/queries/clicks_per_user_tumbling?prefix=u3")
        .ok();
    assert_eq!(answer["rows"][0]["value"], 2);
    assert_eq!(answer["complete_through"], TEN + 9 * MINUTE + 59_999);
    assert_eq!(answer["positions"], json!({"clicks": {"0": 4}}));
    let key = "%5B%22u1%22%2C%7B%22start%22%3A1641031200000%2C%22end%22%3A1641031500000%7D%5D";
    let answer = service.get(&format!("/v1/queries/clicks_per_user_tumbling/key/{key}"));
    assert_eq!(answer.ok()["rows"], json!([row("u1", 0, true)]));
}

#[test]
fn a_record_far_ahead_closes_nothing() {
    let (_home, service) = start();
    let click = json!({"user_id": "u1", "click_time": TEN});
    service.token_of("clicks", &click.to_string());
    let ahead = "{\"user_id\":\"u2\",\"click_time\":\"2262-01-01 00:00:00\"}";
    let answer = service.post("clicks", ahead).ok();
    assert_eq!(answer["accepted"], 0);
    assert_eq!(answer["rejected"], json!([{"line": 1, "reason": "ahead"}]));
    let token = answer["token"].as_str().expect("a token");
    let answer = service.get(&format!(
        "/v1/queries/clicks_per_user_tumbling?after={token}"
    ));
    let answer = answer.ok();
    assert_eq!(answer["rows"], json!([row("u1", 0, false)]));
    assert_eq!(answer["complete_through"], TEN - 5_000);
    let listed = service.get("/v1/streams/clicks/rejected").ok();
    assert_eq!(listed["rows"][0]["value"]["reason"], "ahead");
    assert_eq!(listed["rows"][0]["value"]["record"], ahead);
    assert_eq!(service.stream("clicks")["rejected"], 1);
}

#[test]
fn what_was_not_counted_is_listed_with_its_reason() {
    let (_home, service) = start();
    let clicks = [
        json!({"user_id": "u1", "click_time": "2022-01-01T10:20:00Z"}).to_string(),
        // Late for two of its three sliding windows, and for its tumbling one.
        json!({"user_id": "u2", "click_time": "2022-01-01 10:14:59"}).to_string(),
        json!({"user_id": "u3", "click_time": "2022-01-01 10:00:00"}).to_string(),
        json!({"user_id": "u4"}).to_string(),
        json!({"user_id": "u5", "click_time": "0000-01-01 00:00:00"}).to_string(),
        "no record".to_owned(),
    ];
    let answer = service.post("clicks", &clicks.join("\n")).ok();
    assert_eq!(answer["accepted"], 3, "{answer}");
    let lines = answer["rejected"].as_array().expect("a list").iter();
    let lines: Vec<&Value> = lines.map(|verdict| &verdict["line"]).collect();
    assert_eq!(lines, [4, 5, 6]);
    let token = answer["token"].as_str().expect("a token");

    let found = rows(&service, "clicks_per_user", token);
    let of_u2: Vec<&Value> = found.iter().filter(|row| row["key"][0] == "u2").collect();
    // The watermark was 10:19:55: of [10:10, 10:15), [10:12, 10:17), [10:14, 10:19) none is open.
    assert_eq!(of_u2, Vec::<&Value>::new());
    for query in ["clicks_per_user", "clicks_per_user_tumbling"] {
        let listed = service
            .get(&format!("/v1/queries/{query}/late?after={token}"))
            .ok();
        let listed = listed["rows"].as_array().expect("a list").clone();
        for (row, place) in listed.iter().zip([1, 2]) {
            assert_eq!(row["key"], json!(["clicks", 0, place]));
            assert_eq!(row["value"]["record"], clicks[place]);
            assert_eq!(row["value"]["reason"], "late");
        }
        assert_eq!(listed.len(), 2);
        let entry = service.query(query);
        assert_eq!((&entry["late"], &entry["rejected"]), (&json!(2), &json!(3)));
    }
    let listed = service.get("/v1/streams/clicks/rejected").ok();
    let listed = listed["rows"].as_array().expect("a list").clone();
    assert_eq!(listed.len(), 3);
    for ((row, place), word) in listed
        .iter()
        .zip([3, 4, 5])
        .zip(["click_time", "year", "expected"])
    {
        assert_eq!(row["key"], json!(["clicks", 0, place]));
        assert_eq!(row["value"]["record"], clicks[place]);
        let reason = row["value"]["reason"].as_str().expect("a reason");
        assert!(reason.contains(word), "{reason}");
    }
    assert_eq!(service.stream("clicks")["rejected"], 3);
    assert_eq!(service.stream("clicks")["partitions"][0]["position"], 6);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the promise is about seconds")]
fn the_demo_moves_within_two_seconds_of_its_start() {
    let home = tempfile::tempdir().expect("a place for the test");
    let begun = Instant::now();
    let service = Launch::new(home.path()).without("--no-demo").start();
    let mut first = None;
    until("the rows to change", || {
        let reply = service.get("/v1/queries/page_views");
        if reply.status != 200 {
            return None;
        }
        let rows = reply.ok()["rows"].clone();
        let first = first.get_or_insert_with(|| rows.clone());
        (rows != *first).then_some(())
    });
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    for query in ["unique_visitors", "top_pages"] {
        until("its first row", || {
            (service.query(query)["rows"] != 0).then_some(())
        });
    }
    assert!(service.get("/").text().contains("<html"));
}
