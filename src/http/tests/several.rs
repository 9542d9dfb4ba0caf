//! Several answers at once: queries at one epoch, and two epochs of a query.

use serde_json::{Value, json};

use super::World;
use crate::row::Row;

#[tokio::test]
async fn several_queries_are_read_at_one_epoch() {
    let world = World::ready();
    let answer = world.get("/v1/snapshot?queries=names,counts&limit=2").await;
    let body = answer.json();
    assert_eq!(body["as_of"], 10);
    assert_eq!(answer.header("waterclock-as-of"), "10");
    let queries = body["queries"].as_object().unwrap();
    assert_eq!(queries.keys().collect::<Vec<_>>(), ["names", "counts"]);
    for (name, query) in queries {
        let alone = world
            .get(&format!("/v1/queries/{name}?limit=2"))
            .await
            .json();
        assert_eq!(*query, alone, "the pull's answer");
    }
    // A cursor goes on where a pull's would.
    world.count(20, [("aa", 0, 0)]);
    world.show(20, 5, Some(600));
    let next = queries["counts"]["next"].as_str().unwrap();
    let rest = world
        .get(&format!("/v1/queries/counts?cursor={next}"))
        .await;
    assert_eq!(rest.json()["rows"][0]["key"], json!(["b", 1]));
    let past = world
        .get("/v1/snapshot?queries=names,counts&at=10")
        .await
        .json();
    assert_eq!(past["queries"]["counts"]["as_of"], 10);
    assert_eq!(
        past["queries"]["counts"]["rows"].as_array().unwrap().len(),
        3
    );
}

#[tokio::test]
async fn a_snapshot_names_queries_that_there_are() {
    let world = World::ready();
    for (query, status, words) in [
        ("", 400, "names 0 queries"),
        ("?queries=", 400, "names 0 queries"),
        ("?queries=counts,nothing", 404, "query 'nothing'"),
        ("?queries=counts&prefix=a", 400, "'prefix' is not known"),
        ("?queries=counts&at=9", 410, "epoch 9 is gone"),
        ("?queries=counts&at=11", 400, "epoch 11"),
    ] {
        let refused = world.get(&format!("/v1/snapshot{query}")).await;
        refused.is_problem(status, words);
    }
    let csv = [("accept", "text/csv")];
    let refused = world
        .send("GET", "/v1/snapshot?queries=counts", &csv, "")
        .await;
    refused.is_problem(406, "a snapshot is served as application/json");
    let twice = world.get("/v1/snapshot?queries=counts,counts").await.json();
    assert_eq!(twice["queries"].as_object().unwrap().len(), 1);
    world.views.query("names").unwrap().fail("it broke".into());
    let refused = world.get("/v1/snapshot?queries=counts,names").await;
    refused.is_problem(503, "query 'names' has failed");
}

#[tokio::test]
async fn a_snapshot_that_the_client_has_is_not_sent_again() {
    let world = World::ready();
    let path = "/v1/snapshot?queries=counts,names";
    let tag = world.get(path).await.header("etag").to_owned();
    world.show(20, 3, Some(500));
    let known = [("if-none-match", tag.as_str())];
    assert_eq!(world.send("GET", path, &known, "").await.status, 304);
    let row = Row::new(&"y", &1_u64, None).unwrap();
    world
        .views
        .query("names")
        .unwrap()
        .apply(0, 30, vec![(row, 1)]);
    world.show(30, 3, Some(500));
    assert_eq!(world.send("GET", path, &known, "").await.status, 200);
}

/// A world in which epoch 20 took the final row `["a", 1]` away and brought four rows.
fn changed() -> World {
    let world = World::ready();
    let row = |key: (&str, u64)| Row::new(&key, &1_u64, Some(crate::time::Timestamp(100))).unwrap();
    let counts = world.views.query("counts").unwrap();
    counts.apply(
        0,
        20,
        vec![(row(("a", 1)), -1), (row(("z", 1)), 1), (row(("a", 7)), 3)],
    );
    world.show(20, 5, Some(600));
    world
}

#[tokio::test]
async fn the_changes_between_two_epochs_are_net_and_removals_come_first() {
    let world = changed();
    let answer = world.get("/v1/queries/counts/diff?from=10&to=20").await;
    assert_eq!(
        answer.text(),
        concat!(
            r#"{"query":"counts","from":10,"as_of":20,"complete_through":600,"stale":false,"#,
            r#""positions":{"clicks":{"0":5}},"changes":["#,
            r#"{"op":"-","key":["a",1],"value":1,"expired":true},"#,
            r#"{"op":"+","key":["a",7],"value":1},{"op":"+","key":["a",7],"value":1},"#,
            r#"{"op":"+","key":["a",7],"value":1},{"op":"+","key":["z",1],"value":1}],"next":null}"#
        )
    );
    assert_eq!(answer.header("waterclock-as-of"), "20");
    // Epochs are the last ones at or before those named, and the newest where none is.
    let same = world.get("/v1/queries/counts/diff?from=15").await.json();
    assert_eq!(same, answer.json());
    let nothing = world
        .get("/v1/queries/counts/diff?from=20&to=20")
        .await
        .json();
    assert_eq!(nothing["changes"], json!([]));
    let some = world
        .get("/v1/queries/counts/diff?from=10&prefix=z")
        .await
        .json();
    assert_eq!(some["changes"].as_array().unwrap().len(), 1);
    let csv = [("accept", "text/csv")];
    let csv = world
        .send("GET", "/v1/queries/counts/diff?from=10&prefix=a", &csv, "")
        .await;
    let plus = "+,a,7,1\r\n".repeat(3);
    assert_eq!(
        csv.text(),
        format!("op,key.0,key.1,value\r\n-,a,1,1\r\n{plus}")
    );
}

#[tokio::test]
async fn changes_come_in_pages_of_the_same_two_epochs() {
    let world = changed();
    let (mut changes, mut address) = (Vec::<Value>::new(), "from=10&to=20".to_owned());
    for page in 0.. {
        let path = format!("/v1/queries/counts/diff?limit=1&{address}");
        let answer = world.get(&path).await.json();
        changes.extend(answer["changes"].as_array().unwrap().iter().cloned());
        let Some(next) = answer["next"].as_str() else {
            assert_eq!(page, 2);
            break;
        };
        address = format!("cursor={next}");
        let other = world
            .get(&format!("/v1/queries/names/diff?{address}"))
            .await;
        other.is_problem(400, "another address or range");
    }
    let whole = world
        .get("/v1/queries/counts/diff?from=10&to=20")
        .await
        .json();
    assert_eq!(json!(changes), whole["changes"]);
}

#[tokio::test]
async fn epochs_that_cannot_be_compared_are_named() {
    let world = changed();
    for (query, status, words) in [
        ("", 400, "'from' is missing"),
        ("?from=9", 410, "epoch 9 is gone"),
        ("?from=10&to=21", 400, "epoch 21"),
        ("?from=20&to=10", 400, "after 'to'"),
        ("?from=x", 400, "'from' is 'x', which is no epoch"),
        ("?from=10&at=20", 400, "'at' is not known"),
        ("?cursor=x", 400, "no cursor"),
    ] {
        let refused = world.get(&format!("/v1/queries/counts/diff{query}")).await;
        refused.is_problem(status, words);
    }
    let path = "/v1/queries/counts/diff?from=10&to=20";
    let tag = world.get(path).await.header("etag").to_owned();
    let known = [("if-none-match", tag.as_str())];
    assert_eq!(world.send("GET", path, &known, "").await.status, 304);
    world.show(30, 5, Some(600));
    world.show(40, 5, Some(600));
    world.get(path).await.is_problem(410, "is gone");
}
