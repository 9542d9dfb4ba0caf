//! What there is: queries, streams, checkpoints, health, metrics and the dashboard.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::World;

#[tokio::test]
async fn queries_are_listed_with_their_labels() {
    let world = World::ready();
    world.views.late("counts").unwrap().set_total(4);
    world.views.rejected("clicks").unwrap().set_total(2);
    let list = world.get("/v1/queries").await.json();
    assert_eq!(
        list["queries"][0],
        json!({
            "name": "counts", "doc": "A query.", "key_schema": list["queries"][0]["key_schema"],
            "value_schema": null, "streams": ["clicks"], "has_final": true, "since": 10,
            "upper": 10, "watermark": 500, "rows": 3, "late": 4, "rejected": 2, "failed": null
        })
    );
    assert_eq!(
        (&list["now"], &list["ready"]),
        (&json!(1_000_000), &json!(true))
    );
    let empty = World::new().get("/v1/queries").await.json();
    assert_eq!(
        (&empty["as_of"], &empty["ready"]),
        (&Value::Null, &json!(false))
    );
    assert_eq!(empty["queries"][1]["upper"], Value::Null);
}

#[tokio::test]
async fn streams_are_listed_with_what_their_log_holds_now() {
    let world = World::ready();
    world.log.end.store(8, Ordering::SeqCst);
    let list = world.get("/v1/streams").await.json();
    assert_eq!(
        list["streams"],
        json!([
            {
                "name": "clicks", "source": "the embedded log", "watermark": 500, "rejected": 0,
                "problem": null, "partitions": [{
                    "partition": 0, "position": 3, "end": 8, "lag": 5, "watermark": 500,
                    "idle": false, "silent_ms": 0, "ahead": false, "problem": null
                }]
            },
            {
                "name": "files", "source": "the file a.ndjson", "watermark": null, "rejected": 0,
                "problem": null, "partitions": []
            }
        ])
    );
}

#[tokio::test]
async fn checkpoints_are_taken_and_listed() {
    let world = World::ready();
    let info = json!({"epoch": 20, "run": 1, "published_at": 990_000, "bytes": 4096, "rows": 3});
    assert_eq!(
        world.get("/v1/checkpoints").await.json(),
        json!({"checkpoints": [info]})
    );
    assert_eq!(
        world.send("POST", "/v1/checkpoints", &[], "").await.json(),
        info
    );
    world.checkpoints.fails.store(true, Ordering::SeqCst);
    let refused = world.send("POST", "/v1/checkpoints", &[], "").await;
    refused.is_problem(503, "the store refused");
}

#[tokio::test]
async fn health_and_readiness_differ_while_the_service_catches_up() {
    let world = World::new();
    assert_eq!(world.get("/healthz").await.json(), json!({"status": "ok"}));
    world.get("/readyz").await.is_problem(503, "not ready");
    world.fill();
    assert_eq!(
        world.get("/readyz").await.json(),
        json!({"status": "ready"})
    );
}

#[tokio::test]
async fn metrics_count_what_was_asked() {
    let world = World::ready();
    world.get("/v1/queries/names/key/x").await;
    world.get("/v1/queries/names/key/y").await;
    world.get("/nowhere").await;
    let answer = world.get("/metrics").await;
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    for line in [
        "waterclock_ready 1",
        "waterclock_epoch 10",
        "waterclock_checkpoint_age_seconds 10.000",
        "waterclock_query_rows{query=\"counts\"} 3",
        "waterclock_query_watermark_seconds{query=\"counts\"} 0.500",
        "waterclock_query_freshness_seconds{query=\"counts\"} 999.500",
        "waterclock_query_late_records_total{query=\"counts\"} 0",
        "waterclock_partition_position{stream=\"clicks\",partition=\"0\"} 3",
        "waterclock_partition_lag{stream=\"clicks\",partition=\"0\"} 0",
        "waterclock_stream_rejected_records_total{stream=\"clicks\"} 0",
        "waterclock_http_requests_total{route=\"key\",status=\"200\"} 1",
        "waterclock_http_requests_total{route=\"key\",status=\"404\"} 1",
        "waterclock_http_requests_total{route=\"other\",status=\"404\"} 1",
    ] {
        assert!(
            answer.text().lines().any(|other| other == line),
            "{line}\n{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn the_dashboard_runs_no_script_but_its_own() {
    let answer = World::new().get("/").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"));
}
