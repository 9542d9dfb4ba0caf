//! The commands beside a running service, and checkpoints that are damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::service::{Launch, run};

/// What a command printed, once it succeeded.
fn said(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command printed on both channels, once it failed.
fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn on(data: &Path, command: &[&str]) -> Output {
    let data = data.to_string_lossy();
    run(&[command, &["--data-dir", &data]].concat())
}

fn click(user: &str) -> String {
    format!("{{\"user_id\":\"{user}\",\"click_time\":\"2022-01-01 10:00:00\"}}")
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("checkpoints/segments")).expect("there are checkpoints");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Changes one bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("it can be written");
}

#[test]
fn a_running_service_is_seen_from_a_terminal() {
    let home = tempfile::tempdir().expect("a place for the test");
    let service = Launch::new(home.path()).start_ready();
    let token = service.token_of("clicks", &format!("{}\n{}", click("u1"), click("u2")));
    service
        .get(&format!("/v1/queries/clicks_per_user?after={token}"))
        .ok();

    let table = said(&service.cli(&["query", "clicks_per_user_tumbling"]));
    let window = "[2022-01-01T10:00:00Z, 2022-01-01T10:05:00Z)";
    assert!(table.contains(&format!("u2   {window}      1")), "{table}");
    assert!(table.contains("2 rows as of epoch"), "{table}");
    let limited = said(&service.cli(&["query", "clicks_per_user", "--limit", "1"]));
    assert!(limited.contains("there are more"), "{limited}");
    let epoch = service.query("clicks_per_user")["upper"].to_string();
    let table = said(&service.cli(&["query", "clicks_per_user", "--prefix", "u1", "--at", &epoch]));
    assert!(
        table.contains(&format!("3 rows as of epoch {epoch}")),
        "{table}"
    );
    let refusal = failed(&service.cli(&["query", "clicks_per_uzer"]));
    assert!(
        refusal.contains("'clicks_per_uzer' does not exist"),
        "{refusal}"
    );

    let status = said(&service.cli(&["status"]));
    for word in [
        "clicks_per_user",
        "page_views",
        "visits",
        "2022-01-01T09:59:55Z",
    ] {
        assert!(status.contains(word), "'{word}' is not in\n{status}");
    }
    said(&service.cli(&["checkpoint", "now", "--label", "before-upgrade"]));
    let refusal = failed(&service.cli(&["checkpoint", "now", "--label", "a b"]));
    assert!(refusal.contains("'label' is 'a b'"), "{refusal}");
    for _ in 0..3 {
        said(&service.cli(&["checkpoint", "now"]));
    }
    let kept = said(&service.cli(&["checkpoint", "list"]));
    assert!(kept.contains("before-upgrade"), "{kept}");
    let taken = said(&service.cli(&["checkpoint", "now"]));
    assert!(taken.starts_with("checkpoint of epoch "), "{taken}");
    let epoch = taken.split_whitespace().nth(3).expect("the epoch");
    let listed = said(&service.cli(&["checkpoint", "list"]));
    assert!(listed.contains(epoch), "{listed}");
    assert!(service.stop().success());
    let unreachable = failed(&run(&["status", "--url", "http://127.0.0.1:1"]));
    assert!(
        unreachable.contains("is the service running there?"),
        "{unreachable}"
    );
}

#[test]
fn any_flipped_bit_is_found_and_an_older_checkpoint_is_started_from() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path())
        .args(&["--queries", "clicks_per_user,clicks_per_user_tumbling"])
        .set("SNAPSHOT__INTERVAL", "1h");
    let data = launch.data_dir();
    assert!(said(&on(&data, &["check"])).contains("the service starts empty"));
    let service = launch.start_ready();
    let mut epochs = Vec::new();
    for user in ["u1", "u2"] {
        let token = service.token_of("clicks", &click(user));
        service
            .get(&format!("/v1/queries/clicks_per_user?after={token}"))
            .ok();
        let taken = service.command("/v1/checkpoints").ok();
        epochs.push(taken["epoch"].to_string());
    }
    let token = service.token_of("clicks", &click("u3"));
    let rows = |service: &crate::service::Client| {
        let path = format!("/v1/queries/clicks_per_user?after={token}");
        service.get(&path).ok()["rows"].clone()
    };
    let expected = rows(&service);
    let upper = service.query("clicks_per_user")["upper"].as_u64();
    // While the service runs, too.
    assert!(said(&on(&data, &["checkpoint", "verify"])).contains("2 checkpoints"));
    service.kill();

    let listed = said(&on(&data, &["checkpoint", "list"]));
    let newest_first: Vec<&str> = listed.lines().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(newest_first, [&epochs[1], &epochs[0]]);
    let checked = said(&on(&data, &["check"]));
    assert!(
        checked.contains(&format!("checkpoint: {}", epochs[1])),
        "{checked}"
    );

    // What was merged since is no checkpoint's yet.
    let mut named = segments(&data);
    named.retain(|path| !path.to_string_lossy().contains(".merged."));
    let newest = named.pop().expect("it has segments");
    flip(&newest);
    let found = failed(&on(&data, &["checkpoint", "verify"]));
    let name = newest.file_name().expect("it has one").to_string_lossy();
    assert!(
        found.contains(&epochs[1]) && found.contains(&*name),
        "{found}"
    );
    let checked = said(&on(&data, &["check"]));
    assert!(checked.contains("passed over"), "{checked}");
    assert!(
        checked.contains(&format!("checkpoint: {}", epochs[0])),
        "{checked}"
    );
    let service = launch.start_ready();
    assert_eq!(rows(&service), expected);
    assert!(service.stderr().contains("passing over"));
    service.kill();

    let manifest = data.join(format!("checkpoints/{:0>20}.json", epochs[0]));
    flip(&manifest);
    let (status, refusal) = launch.refused();
    assert_eq!(status.code(), Some(1), "{refusal}");
    for word in [&epochs[0], &epochs[1], "--from-scratch"] {
        assert!(refusal.contains(word), "'{word}' is not in: {refusal}");
    }
    let service = launch.args(&["--from-scratch"]).start_ready();
    assert_eq!(rows(&service), expected);
    assert!(service.query("clicks_per_user")["since"].as_u64() > upper);
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_told_and_the_next_one_stands() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path())
        .args(&["--queries", "clicks_per_user"])
        .set("SNAPSHOT__INTERVAL", "100ms");
    let service = launch.start_ready();
    service.token_of("clicks", &click("u1"));
    service.command("/v1/checkpoints").ok();
    let (segments, aside) = (
        launch.data_dir().join("checkpoints/segments"),
        home.path().join("aside"),
    );
    fs::rename(&segments, &aside).expect("it is there");
    let token = service.token_of("clicks", &click("u2"));
    let refusal = service.command("/v1/checkpoints").problem(503);
    assert!(refusal.contains("checkpoints/segments"), "{refusal}");
    let read = format!("/v1/queries/clicks_per_user?after={token}");
    let expected = service.get(&read).ok()["rows"].clone();
    assert_eq!(expected.as_array().expect("a list").len(), 6);
    fs::rename(&aside, &segments).expect("it is there");
    service.command("/v1/checkpoints").ok();
    service.kill();
    assert_eq!(launch.start_ready().get(&read).ok()["rows"], expected);
}

#[test]
fn a_checkpoint_can_be_deleted_but_not_the_last_one() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path()).args(&["--queries", "clicks_per_user"]);
    let data = launch.data_dir();
    let service = launch.start_ready();
    let token = service.token_of("clicks", &click("u1"));
    let read = format!("/v1/queries/clicks_per_user?after={token}");
    let expected = service.get(&read).ok()["rows"].clone();
    service.command("/v1/checkpoints").ok();
    let newest = service.command("/v1/checkpoints").ok()["epoch"].to_string();
    let refused = failed(&on(&data, &["checkpoint", "delete", &newest]));
    assert!(refused.contains("in use"), "{refused}");
    service.kill();
    said(&on(&data, &["checkpoint", "delete", &newest]));
    let left = said(&on(&data, &["checkpoint", "list"]));
    let oldest = left.split(' ').next().expect("one is left");
    let refused = failed(&on(&data, &["checkpoint", "delete", oldest]));
    assert!(refused.contains("last whole one"), "{refused}");
    let service = launch.start_ready();
    assert_eq!(service.get(&read).ok()["rows"], expected);
    drop(service);
    let other = on(&data, &["check", "--config", "/dev/null"]);
    let checked = said(&other);
    assert!(checked.contains("clicks_per_user_tumbling"), "{checked}");
    assert!(checked.contains("new, starts empty"), "{checked}");
}
