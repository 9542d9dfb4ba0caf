//! What there is: queries, streams, checkpoints, health, metrics and the dashboard.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::World;
use crate::time::Timestamp;
use crate::view::{Committed, PartitionStanding, SinkState, Standing, Trouble};

#[tokio::test]
async fn queries_are_listed_with_their_labels() {
    let world = World::ready();
    world.views.late("counts").unwrap().set_total(4);
    world.views.rejected("clicks").unwrap().set_total(2);
    let list = world.get("/v1/queries").await.json();
    assert_eq!(
        list["queries"][0],
        json!({
            "name": "counts", "doc": "A query.", "key_schema": {"type": "array"},
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
                "problem": null,
                "partitions": [{
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
async fn sinks_are_listed_with_how_they_fare() {
    let world = World::ready();
    let mut out = json!({
        "name": "out", "query": "counts", "topic": "counts", "mode": "final",
        "delivery": "exactly-once", "state": "starting", "reason": null, "epoch": null,
        "waiting_epochs": 0, "waiting_messages": 0, "waiting_bytes": 0, "lag_ms": 0,
        "committed_messages": 0
    });
    assert_eq!(
        world.get("/v1/sinks").await.json(),
        json!({"sinks": [out.clone()]})
    );
    let retrying = SinkState::Retrying("no broker".into());
    world.outbox.set_state(retrying);
    let (run, epoch) = (1, 7);
    world.outbox.found(Some(Committed { run, epoch }));
    out["state"] = json!("retrying");
    out["reason"] = json!("no broker");
    out["epoch"] = json!(7);
    assert_eq!(world.get("/v1/sinks").await.json(), json!({"sinks": [out]}));
    world.post("/v1/sinks", "{}").await.is_problem(405, "GET");
}

#[tokio::test]
async fn what_keeps_a_stream_from_being_read_is_listed() {
    let world = World::ready();
    let trouble = |why: &str| {
        Some(Trouble {
            why: why.into(),
            since: Timestamp(700),
        })
    };
    let partition = PartitionStanding {
        end: 12,
        silent_ms: 40,
        is_ahead: true,
        trouble: trouble("no leader"),
    };
    let standing = Standing {
        trouble: trouble("no broker"),
        partitions: [(2, partition)].into(),
    };
    world.views.standings.set("clicks", standing);
    let list = world.get("/v1/streams").await.json();
    let clicks = &list["streams"][0];
    let no_broker = json!({"reason": "no broker", "since": 700});
    assert_eq!(clicks["problem"], no_broker);
    assert_eq!(
        clicks["partitions"][1],
        json!({
            "partition": 2, "position": 0, "end": 12, "lag": 12, "watermark": null, "idle": false,
            "silent_ms": 40, "ahead": true, "problem": {"reason": "no leader", "since": 700}
        })
    );
    let metrics = world.get("/metrics").await;
    let metrics = metrics.text();
    assert!(
        metrics.contains("waterclock_stream_problem{stream=\"clicks\"} 1"),
        "{metrics}"
    );
    let ahead = "waterclock_partition_ahead{stream=\"clicks\",partition=\"2\"} 1";
    assert!(metrics.contains(ahead), "{metrics}");
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
        "waterclock_sink_running{sink=\"out\"} 0",
        "waterclock_sink_lag_seconds{sink=\"out\"} 0.000",
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
