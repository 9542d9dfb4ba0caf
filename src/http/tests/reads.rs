//! Reads: pages, cursors, keys, epochs, and waiting for a post.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::{HttpOptions, NOW, World, token};
use crate::row::Row;

fn keys(answer: &Value) -> Vec<Value> {
    answer["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["key"].clone())
        .collect()
}

#[tokio::test]
async fn a_pull_is_labelled_in_body_and_headers() {
    let world = World::ready();
    let answer = world.get("/v1/queries/counts").await;
    assert_eq!(
        answer.text(),
        concat!(
            r#"{"query":"counts","as_of":10,"complete_through":500,"stale":false,"#,
            r#""positions":{"clicks":{"0":3}},"rows":["#,
            r#"{"key":["a",1],"value":1,"final":true},"#,
            r#"{"key":["a",2],"value":1,"final":true},"#,
            r#"{"key":["b",1],"value":1,"final":false}],"next":null}"#
        )
    );
    answer.json();
    assert_eq!(answer.header("waterclock-as-of"), "10");
    assert_eq!(answer.header("waterclock-complete-through"), "500");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    world.stale.store(true, Ordering::Relaxed);
    assert_eq!(world.get("/v1/queries/counts").await.json()["stale"], true);
}

#[tokio::test]
async fn a_row_occurs_as_often_as_its_multiplicity() {
    let world = World::ready();
    let answer = world.get("/v1/queries/names").await.json();
    assert_eq!(
        answer["rows"],
        json!([{"key": "x", "value": 1}, {"key": "x", "value": 1}])
    );
}

#[tokio::test]
async fn ranges_prefixes_and_final_rows_narrow_a_pull() {
    let world = World::ready();
    for (query, expected) in [
        ("prefix=a", json!([["a", 1], ["a", 2]])),
        ("prefix=%5B%22a%22%5D", json!([["a", 1], ["a", 2]])),
        ("from=%5B%22a%22,2%5D", json!([["a", 2], ["b", 1]])),
        ("to=%5B%22a%22,2%5D", json!([["a", 1]])),
        ("final=true", json!([["a", 1], ["a", 2]])),
        ("final=false&limit=1", json!([["a", 1]])),
    ] {
        let answer = world
            .get(&format!("/v1/queries/counts?{query}"))
            .await
            .json();
        assert_eq!(json!(keys(&answer)), expected, "{query}");
    }
    world
        .get("/v1/queries/names?final=true")
        .await
        .is_problem(400, "'names' has no final rows");
    world
        .get("/v1/queries/counts/key/x")
        .await
        .is_problem(400, "query 'counts': 'x' is no key");
}

#[tokio::test]
async fn a_cursor_stays_at_its_epoch_until_that_is_gone() {
    let world = World::ready();
    let first = world.get("/v1/queries/counts?limit=2").await.json();
    let next = first["next"].as_str().unwrap().to_owned();
    world.count(20, [("aa", 0, 0), ("c", 0, 0)]);
    world.show(20, 5, Some(600));
    let page = format!("/v1/queries/counts?limit=2&cursor={next}");
    let second = world.get(&page).await.json();
    assert_eq!(
        (second["as_of"].clone(), keys(&second)),
        (json!(10), vec![json!(["b", 1])])
    );
    assert_eq!(second["next"], Value::Null);
    assert_eq!(world.get("/v1/queries/counts").await.json()["as_of"], 20);
    for other in [
        "/v1/queries/names?",
        "/v1/queries/counts?prefix=a&",
        "/v1/queries/counts/late?",
    ] {
        let address = format!("{other}cursor={next}");
        world
            .get(&address)
            .await
            .is_problem(400, "another address or range");
    }
    world
        .get("/v1/queries/counts?cursor=AAAA")
        .await
        .is_problem(400, "no cursor");
    world.show(30, 5, Some(600));
    world.get(&page).await.is_problem(410, "epoch 10 is gone");
}

#[tokio::test]
async fn history_can_be_read_within_its_bounds() {
    let world = World::ready();
    world.count(20, [("c", 0, 0)]);
    world.show(20, 5, Some(600));
    let at = async |epoch: u64| world.get(&format!("/v1/queries/counts?at={epoch}")).await;
    assert_eq!(keys(&at(20).await.json()).len(), 4);
    let past = at(19).await.json();
    assert_eq!((past["as_of"].clone(), keys(&past).len()), (json!(10), 3));
    at(21).await.is_problem(400, "epoch 21");
    at(9).await.is_problem(410, "epoch 9");
}

#[tokio::test]
async fn one_key_is_read_by_its_json_or_its_plain_text() {
    let world = World::ready();
    let names = world.views.query("names").unwrap();
    names.apply(
        0,
        20,
        vec![(Row::new(&"a/b c+d", &2_u64, None).unwrap(), 1)],
    );
    world.show(20, 5, Some(600));
    let key = async |path: &str| world.get(&format!("/v1/queries/{path}")).await;
    assert_eq!(
        keys(&key("counts/key/%5B%22a%22,2%5D").await.json()),
        [json!(["a", 2])]
    );
    assert_eq!(keys(&key("names/key/x").await.json()), ["x", "x"]);
    assert_eq!(keys(&key("names/key/%22x%22").await.json()), ["x", "x"]);
    for path in ["names/key/a%2Fb%20c+d", "names/key/a/b%20c+d"] {
        assert_eq!(keys(&key(path).await.json()), ["a/b c+d"], "{path}");
    }
    assert_eq!(key("names/key/x").await.header("waterclock-as-of"), "20");
    key("names/key/y")
        .await
        .is_problem(404, "no row with the key 'y'");
    key("names/key/a%2Fb%20c+d?at=10")
        .await
        .is_problem(404, "no row");
    key("names/key/%ff")
        .await
        .is_problem(400, "percent-encoded");
    key("names/key/x?prefix=a")
        .await
        .is_problem(400, "'prefix' is not known");
    key("nothing/key/x")
        .await
        .is_problem(404, "query 'nothing' does not exist");
}

#[tokio::test]
async fn late_and_rejected_records_are_read_as_pages() {
    let world = World::ready();
    let late = Row::new(&("clicks", 0_u32, 7_u64), &"too late", None).unwrap();
    world
        .views
        .late("counts")
        .unwrap()
        .apply(0, 20, vec![(late.clone(), 1)]);
    world
        .views
        .rejected("clicks")
        .unwrap()
        .apply(0, 20, vec![(late, 1)]);
    world.show(20, 5, Some(600));
    let row = json!([{"key": ["clicks", 0, 7], "value": "too late"}]);
    let answer = world.get("/v1/queries/counts/late?limit=1").await.json();
    assert_eq!(
        (&answer["query"], &answer["rows"]),
        (&json!("counts"), &row)
    );
    let after = format!("/v1/streams/clicks/rejected?after={}", token(3));
    let answer = world.get(&after).await.json();
    assert_eq!(
        (&answer["stream"], &answer["rows"]),
        (&json!("clicks"), &row)
    );
    world
        .get("/v1/streams/other/rejected")
        .await
        .is_problem(404, "stream 'other'");
    world
        .get("/v1/queries/other/late")
        .await
        .is_problem(404, "query 'other'");
    world
        .get("/v1/queries/counts/late?final=true")
        .await
        .is_problem(400, "'final' is not known");
}

#[tokio::test]
async fn a_read_after_a_post_waits_for_its_epoch() {
    let world = World::ready();
    world.log.end.store(5, Ordering::SeqCst);
    let address = format!("/v1/queries/counts?after={}", token(5));
    let mut read = std::pin::pin!(world.get(&address));
    let mut early = std::pin::pin!(tokio::task::yield_now());
    tokio::select! {
        biased;
        _ = &mut read => panic!("answered before the post was included"),
        () = &mut early => {}
    }
    world.show(20, 4, Some(500));
    world.show(30, 5, Some(500));
    let answer = read.await.json();
    assert_eq!(
        (&answer["as_of"], &answer["positions"]["clicks"]["0"]),
        (&json!(30), &json!(5))
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_in_time() {
    let world = World::ready();
    world.log.end.store(5, Ordering::SeqCst);
    let address = |timeout| format!("/v1/queries/counts?after={}&timeout={timeout}", token(5));
    world
        .get(&address("250ms"))
        .await
        .is_problem(503, "position 5 of stream 'clicks'");
    world
        .get(&address("1h"))
        .await
        .is_problem(400, "'timeout' is more than");
    let stale = "/v1/queries/counts?max_staleness=1s&timeout=1s";
    world.get(stale).await.is_problem(503, "'max_staleness'");
    world.show(999_500, 3, Some(500));
    assert_eq!(world.get(stale).await.json()["as_of"], 999_500);
}

#[tokio::test]
async fn a_token_that_cannot_come_true_is_refused_at_once() {
    let world = World::ready();
    let other = super::Token {
        stream: "transfers".into(),
        position: 1,
    }
    .encode();
    let get = async |token: &str| {
        world
            .get(&format!("/v1/queries/counts?after={token}"))
            .await
    };
    get(&other).await.is_problem(400, "stream 'transfers'");
    get(&token(4)).await.is_problem(409, "ends at 3");
    get("nonsense").await.is_problem(400, "no token");
}

#[tokio::test]
async fn reads_are_refused_until_the_service_is_ready() {
    let world = World::new();
    world.show(10, 0, None);
    for path in [
        "/v1/queries/counts",
        "/v1/queries/names/key/x",
        "/v1/queries/counts/late",
        "/v1/streams/clicks/rejected",
        "/v1/queries/counts?at=10",
        "/readyz",
    ] {
        world.get(path).await.is_problem(503, "not ready");
    }
    // Of nothing there is no answer, however old it may be.
    let refused = World::new()
        .get("/v1/queries/counts?max_staleness=1d")
        .await;
    refused.is_problem(503, "not ready");
    world.views.set_ready();
    let answer = world.get("/v1/queries/counts?final=true").await;
    assert_eq!(answer.json()["complete_through"], Value::Null);
    assert_eq!(answer.header("waterclock-complete-through"), "null");
}

/// A world that catches up: it has shown epoch 999,000, which lacks two of five records and is one
/// second old.
fn catching_up() -> World {
    let world = World::new();
    world.count(999_000, [("a", 1, 100), ("a", 2, 100), ("b", 1, 900)]);
    world.log.end.store(5, Ordering::SeqCst);
    world.show(999_000, 3, Some(500));
    world
}

#[tokio::test]
async fn while_it_catches_up_a_reader_gets_what_there_is_if_that_is_new_enough() {
    let world = catching_up();
    for path in [
        "/v1/queries/counts",
        "/v1/queries/counts/key/[\"a\",1]",
        "/v1/queries/counts/late",
        "/v1/streams/clicks/rejected",
        "/v1/snapshot?queries=counts,names",
    ] {
        let mark = if path.contains('?') { '&' } else { '?' };
        let read = async |most: &str| {
            world
                .get(&format!("{path}{mark}max_staleness={most}"))
                .await
        };
        for most in ["0s", "999ms"] {
            read(most)
                .await
                .is_problem(503, "is 1000 ms behind its input");
        }
        let refused = world.get(path).await;
        refused.is_problem(503, "allow such an answer with max_staleness=2s");
        let answer = read("1s").await.json();
        assert_eq!(answer["as_of"], 999_000, "{answer}");
        let labelled = if path.contains("snapshot") {
            &answer["queries"]["counts"]
        } else {
            &answer
        };
        assert_eq!(labelled["stale"], true, "{answer}");
        assert_eq!(labelled["age_ms"], 1000, "{answer}");
        assert_eq!(labelled["complete_through"], 500, "{answer}");
        assert_eq!(labelled["positions"]["clicks"]["0"], 3, "{answer}");
    }
    let list = world.get("/v1/queries").await.json();
    assert_eq!(
        (&list["ready"], &list["stale"]),
        (&json!(false), &json!(true))
    );
    world.get("/readyz").await.is_problem(503, "not ready");
    // A newer epoch is answered as soon as it is there, and nobody has to ask any more at the end.
    world.show(999_800, 4, Some(600));
    let answer = world.get("/v1/queries/counts?max_staleness=200ms").await;
    assert_eq!(answer.header("waterclock-age-ms"), "200");
    assert_eq!(answer.json()["positions"]["clicks"]["0"], 4);
    world.views.set_ready();
    assert_eq!(world.get("/v1/queries/counts").await.json()["stale"], false);
}

#[tokio::test(start_paused = true)]
async fn while_it_catches_up_a_pinned_read_keeps_its_promise() {
    let world = catching_up();
    // An epoch by its number, subscribers and differences wait until it has caught up.
    for path in ["?at=999000", "/diff?from=999000", "/changes"] {
        let refused = world.get(&format!("/v1/queries/counts{path}")).await;
        refused.is_problem(503, "not ready");
    }
    let after = |position: u64, most: &str| {
        let token = token(position);
        format!("/v1/queries/counts?after={token}&timeout=1s{most}")
    };
    for position in [3, 5] {
        let refused = world.get(&after(position, "")).await;
        refused.is_problem(503, "not ready");
    }
    let within = "&max_staleness=1s";
    assert_eq!(world.get(&after(3, within)).await.json()["as_of"], 999_000);
    let refused = world.get(&after(5, within)).await;
    refused.is_problem(503, "did not reach position 5 of stream 'clicks'");
    let (path, show) = (after(5, within), async {
        tokio::task::yield_now().await;
        world.show(999_900, 5, Some(600));
    });
    let (answer, ()) = tokio::join!(world.get(&path), show);
    let answer = answer.json();
    assert_eq!(
        (&answer["as_of"], &answer["stale"], &answer["age_ms"]),
        (&json!(999_900), &json!(true), &json!(100))
    );
    // Pages are of one moment, and stay marked; final rows are those of the answered epoch.
    let page = |more: &str| format!("/v1/queries/counts?final=true&limit=1{more}");
    let first = world.get(&page("&max_staleness=1s")).await.json();
    assert_eq!(first["rows"][0]["key"], json!(["a", 1]));
    let cursor = first["next"].as_str().unwrap();
    world.show(999_999, 5, Some(2000));
    let refused = world.get(&page(&format!("&cursor={cursor}"))).await;
    refused.is_problem(503, "not ready");
    let second = page(&format!("&cursor={cursor}&max_staleness=1s"));
    let second = world.get(&second).await.json();
    assert_eq!(second["rows"][0]["key"], json!(["a", 2]));
    assert_eq!(
        (&second["as_of"], &second["stale"], &second["next"]),
        (&json!(999_900), &json!(true), &Value::Null)
    );
    // Nobody knows how old an epoch is whose number is no time that has been.
    world.show(1_000_000, 5, Some(2000));
    let refused = world.get(&page("&max_staleness=1d")).await;
    refused.is_problem(503, "not ready");
}

#[tokio::test]
async fn a_failed_query_says_why_and_the_others_go_on() {
    let world = World::ready();
    world
        .views
        .query("counts")
        .unwrap()
        .fail("a sum left its type".into());
    world
        .get("/v1/queries/counts")
        .await
        .is_problem(503, "failed: a sum left its type");
    world.get("/v1/queries/names").await.json();
    let list = world.get("/v1/queries").await.json();
    assert_eq!(list["queries"][0]["failed"], "a sum left its type");
}

#[tokio::test(start_paused = true)]
async fn a_reader_says_how_stale_an_answer_may_be() {
    let world = World::ready();
    let read = async |most: &str| {
        let address = format!("/v1/queries/counts?max_staleness={most}&timeout=1s");
        world.get(&address).await
    };
    read("0ms").await.is_problem(503, "within 1000 ms");
    // All that was acknowledged before it asked: the next epoch will do.
    world.show(1_000_000, 3, Some(500));
    assert_eq!(read("0ms").await.json()["as_of"], 1_000_000);
    // While no input can be taken nobody waits for what may never come.
    world.later(5000);
    world.stale.store(true, Ordering::Relaxed);
    let refused = read("1s").await;
    refused.is_problem(503, "query 'counts' is 5000 ms behind its input");
    let answer = read("10s").await.json();
    assert_eq!(
        (&answer["stale"], &answer["age_ms"]),
        (&json!(true), &json!(5000))
    );
}

#[tokio::test]
async fn an_answer_that_lacks_old_input_is_stale() {
    let world = World::with(HttpOptions {
        stale_after: Duration::from_secs(2),
        ..HttpOptions::default()
    });
    world.fill();
    let at = |ms: i64| u64::try_from(NOW.0 + ms).unwrap();
    let read = async || world.get("/v1/queries/counts").await.json();
    world.show(at(0), 3, Some(500));
    assert_eq!(read().await["stale"], false);
    // Records keep coming, and epochs do not keep up with them.
    for second in 1..=3 {
        world.later(1000);
        world.log.end.fetch_add(100, Ordering::SeqCst);
        world.show(at(second * 1000), 4, Some(500));
    }
    let answer = read().await;
    assert_eq!(
        (&answer["stale"], &answer["age_ms"]),
        (&json!(true), &json!(3000))
    );
    assert_eq!(world.get("/v1/queries").await.json()["stale"], true);
    world.show(at(3001), 303, Some(500));
    assert_eq!(read().await["stale"], false);
    // None was shown for long.
    world.later(2002);
    assert_eq!(read().await["stale"], true);
}
