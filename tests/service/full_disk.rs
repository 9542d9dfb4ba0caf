//! A full disk: posts are refused in a sentence, reads go on, and nothing acknowledged is lost.

use std::fs;
use std::os::unix::fs::symlink;

use crate::service::{Client, Launch, until};

/// So many clicks of a user.
fn clicks(user: &str, count: usize) -> String {
    let line = format!("{{\"user_id\":\"{user}\",\"click_time\":0}}\n");
    line.repeat(count)
}

/// How often a user clicked, once everything up to the token is answered.
fn clicks_of(service: &Client, user: &str, token: &str) -> u64 {
    let path = format!("/v1/queries/clicks_per_user_tumbling?prefix={user}&after={token}");
    let answer = service.get(&path).ok();
    answer["rows"][0]["value"].as_u64().unwrap_or(0)
}

fn token_in(answer: &serde_json::Value) -> String {
    answer["token"].as_str().expect("a token").to_owned()
}

#[test]
fn a_file_that_cannot_grow_refuses_posts_and_reads_go_on() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path()).args(&["--queries", "clicks_per_user_tumbling"]);
    // What it would say of its troubles meets a full disk too.
    let service = launch
        .clone()
        .file_limit(128)
        .stderr_to("/dev/full")
        .start_ready();
    let mut stored = 0;
    let (mut token, key) = (String::new(), |n: u64| format!("post-{n}"));
    let refused = until("the log to be full", || {
        let body = clicks("u1", 100);
        let reply = service.try_post("clicks", Some(&key(stored)), &body);
        let reply = reply.expect("the service is there");
        if reply.status != 200 {
            return Some(reply);
        }
        token = token_in(&reply.ok());
        stored += 1;
        None
    });
    assert!(stored > 10, "{stored}");
    let sentence = refused.problem(503);
    assert!(
        sentence.contains("'clicks'") && sentence.contains("too large"),
        "{sentence}"
    );
    for _ in 0..3 {
        service.post("clicks", &clicks("u2", 1000)).problem(503);
        assert_eq!(clicks_of(&service, "u1", &token), 100 * stored);
        service
            .get("/v1/queries/clicks_per_user_tumbling?max_staleness=2s")
            .ok();
    }
    assert_eq!(clicks_of(&service, "u2", &token), 0);
    assert!(service.stop().success());

    let service = launch.start_ready();
    assert_eq!(clicks_of(&service, "u1", &token), 100 * stored);
    // The refused post was not stored: under its key it is stored now, and once.
    for _ in 0..2 {
        let reply = service.try_post("clicks", Some(&key(stored)), &clicks("u1", 100));
        token = token_in(&reply.expect("the service is there").ok());
    }
    assert_eq!(clicks_of(&service, "u1", &token), 100 * (stored + 1));
}

#[test]
fn a_disk_without_space_refuses_posts_until_there_is_some() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path())
        .args(&["--queries", "clicks_per_user_tumbling"])
        .set("LOG__SEGMENT_BYTES", "65536");
    let service = launch.start_ready();
    let token = service.token_of("clicks", &clicks("u1", 3000));
    // The segment is full; the next one will be on a device that has no space.
    let next = launch
        .data_dir()
        .join(format!("log/clicks/{:020}.log", 3000));
    symlink("/dev/full", &next).expect("the test's directory takes files");
    let sentence = service.post("clicks", &clicks("u1", 1)).problem(507);
    assert!(
        sentence.contains("'clicks'") && sentence.contains("No space left"),
        "{sentence}"
    );
    assert_eq!(clicks_of(&service, "u1", &token), 3000);
    fs::remove_file(&next).expect("it is there");
    let token = service.token_of("clicks", &clicks("u1", 2));
    assert_eq!(clicks_of(&service, "u1", &token), 3002);
    service.kill();
    assert_eq!(clicks_of(&launch.start_ready(), "u1", &token), 3002);
}

#[test]
fn a_journal_that_cannot_grow_holds_input_up_and_nothing_else() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path())
        .args(&["--queries", "clicks_per_user_tumbling"])
        .set("SNAPSHOT__INTERVAL", "1h")
        .set("EPOCH__HEARTBEAT_MS", "1");
    let service = launch.clone().file_limit(32).start_ready();
    let early = service.token_of("clicks", &clicks("u1", 10));
    assert_eq!(clicks_of(&service, "u1", &early), 10);
    until("the journal to be full", || {
        let is_said = service.stderr().contains("input is held up");
        service.get("/v1/queries/clicks_per_user_tumbling").ok();
        is_said.then_some(())
    });
    let token = service.token_of("clicks", &clicks("u1", 5));
    let path = "/v1/queries/clicks_per_user_tumbling";
    let late = service.get(&format!("{path}?after={token}&timeout=50ms"));
    assert!(late.problem(503).contains("did not reach"));
    assert_eq!(clicks_of(&service, "u1", &early), 10);
    assert!(service.stop().success());
    let service = launch.start_ready();
    assert_eq!(clicks_of(&service, "u1", &token), 15);
}
