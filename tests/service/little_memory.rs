//! More state than memory: with a budget the service is slower and goes on, without one it ends.

use std::path::{Path, PathBuf};

use crate::service::{Client, Launch};

/// What the service may have, in KiB: some threads, and far less than the users below take.
const KILOBYTES: u32 = 192 << 10;
/// Users with long names: each is state and a row, several times its name.
const USERS: u64 = 60_000;
const OF_A_POST: u64 = 2_000;

fn launch(home: &Path) -> Launch {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/service/little_memory.sh"
    );
    Launch::new(home)
        .program(PathBuf::from(script))
        .env("KILOBYTES", Path::new(&KILOBYTES.to_string()))
        .env("PROGRAM", Path::new(env!("CARGO_BIN_EXE_waterclock")))
        .args(&["--queries", "clicks_per_user_tumbling", "--workers", "1"])
}

fn name(user: u64) -> String {
    format!("u{user:0>1000}")
}

/// A click of each user of a post; the token of the last post, unless the service is gone.
fn post_all(service: &Client) -> Option<String> {
    let mut token = None;
    for post in 0..USERS / OF_A_POST {
        let first = post * OF_A_POST;
        let line = |user| format!("{{\"user_id\":\"{}\",\"click_time\":0}}\n", name(user));
        let body: String = (first..first + OF_A_POST).map(line).collect();
        let key = format!("post-{first}");
        let reply = service.try_post("clicks", Some(&key), &body).ok()?.ok();
        let told = reply["token"].as_str().expect("a token").to_owned();
        // One post after another: what waits is not what is measured.
        let path = format!("/v1/queries/clicks_per_user_tumbling?limit=1&after={told}");
        service.try_get(&path).ok()?.ok();
        token = Some(told);
    }
    token
}

/// Every user's row is there, once.
fn assert_whole(service: &Client, token: &str) {
    let mut after = format!("&after={token}");
    let mut next = 0;
    loop {
        let path = format!("/v1/queries/clicks_per_user_tumbling?limit=5000{after}");
        let answer = service.get(&path).ok();
        for row in answer["rows"].as_array().expect("rows") {
            assert_eq!(row["key"][0], name(next));
            assert_eq!(row["value"], 1);
            next += 1;
        }
        match answer["next"].as_str() {
            Some(cursor) => after = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(next, USERS);
}

#[test]
fn beyond_its_budget_a_service_goes_on_and_comes_back() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = launch(home.path()).set("MEMORY__BUDGET_BYTES", &(64 << 20).to_string());
    let service = launch.start_ready();
    let token = post_all(&service).expect("it goes on");
    assert_whole(&service, &token);
    service.command("/v1/checkpoints").ok();
    service.kill();
    let service = launch.start_ready();
    assert_whole(&service, &token);
    assert!(service.stop().success());
}

#[test]
fn without_a_budget_it_ends_there() {
    let home = tempfile::tempdir().expect("a place for the test");
    let service = launch(home.path()).start_ready();
    assert_eq!(post_all(&service), None, "so much fits into the limit");
}
