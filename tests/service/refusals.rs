//! Where the service cannot start it says why, and what to do.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::service::{Launch, run};

/// Says that the refusal is one sentence with these words.
fn assert_refused(launch: &Launch, words: &[&str]) {
    let (status, said) = launch.refused();
    assert_eq!(status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

fn configured(home: &Path, text: &str) -> Launch {
    fs::write(home.join("waterclock.toml"), text).expect("the test's directory takes files");
    Launch::new(home)
}

#[test]
fn settings_that_cannot_be_are_named() {
    let home = tempfile::tempdir().expect("a place for the test");
    let home = home.path();
    for (text, words) in [
        (
            "[http]\nlisten_on = 1",
            ["'http.listen_on'", "'http.listen'"],
        ),
        (
            "[snapshots]\ninterval = \"1s\"",
            ["'snapshots", "'snapshot"],
        ),
        ("[service]\nworkers = \"two\"", ["two", "workers"]),
        (
            "[snapshot]\ninterval = \"1ms\"",
            ["'snapshot.interval'", "100ms"],
        ),
        ("[streams.clikcs]\nlateness = \"1s\"", ["clikcs", "clicks"]),
        (
            "[streams.clicks]\nsource = \"file\"",
            ["streams.clicks.paths", "is missing"],
        ),
        (
            "[streams.clicks]\nsource = \"file\"\npaths = [\"no.ndjson\"]",
            ["no.ndjson", "No such file"],
        ),
        ("[http", ["line 1", "[http"]),
    ] {
        let launch = configured(home, text);
        assert_refused(&launch, &words);
    }
    fs::remove_file(home.join("waterclock.toml")).expect("it was written");
    let launch = Launch::new(home);
    let misspelt = launch.clone().set("SNAPSHOT__INTERVALL", "1s");
    let name = "WATERCLOCK_SNAPSHOT__INTERVALL";
    assert_refused(&misspelt, &[name, "'WATERCLOCK_SNAPSHOT__INTERVAL'"]);
    let unknown = launch.clone().args(&["--queries", "clicks_per_uzer"]);
    assert_refused(&unknown, &["clicks_per_uzer", "clicks_per_user,"]);
    let exposed = launch.args(&["--config", "no.toml"]);
    assert_refused(&exposed, &["no.toml"]);
}

#[test]
fn check_says_the_same_without_starting() {
    let home = tempfile::tempdir().expect("a place for the test");
    let file = home.path().join("bad.toml");
    fs::write(&file, "[http]\nlisten_on = 1").expect("the test's directory takes files");
    let output = run(&["check", "--config", &file.to_string_lossy()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("'http.listen_on'"), "{said}");
}

#[test]
fn a_data_directory_has_one_owner() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path());
    let service = launch.start_ready();
    let token = service.token_of("clicks", "{\"user_id\":\"u1\",\"click_time\":0}");
    assert_refused(&launch, &["data", "in use", "process"]);
    let read = service.get(&format!("/v1/queries/clicks_per_user?after={token}"));
    assert_eq!(read.ok()["rows"].as_array().expect("a list").len(), 3);
    service.kill();
    launch.start_ready();
}

#[test]
fn an_address_in_use_and_a_file_in_the_way_are_named() {
    let home = tempfile::tempdir().expect("a place for the test");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let launch = Launch::new(home.path())
        .without("--listen")
        .without("127.0.0.1:0");
    assert_refused(&launch.args(&["--listen", &address]), &[&address, "in use"]);
    let exposed = Launch::new(home.path())
        .without("--listen")
        .without("127.0.0.1:0");
    let exposed = exposed.args(&["--listen", "0.0.0.0:0"]);
    assert_refused(&exposed, &["0.0.0.0:0", "--insecure"]);
    fs::write(home.path().join("data"), "").expect("nothing is there yet");
    assert_refused(&Launch::new(home.path()), &["data", "directory"]);
}
