//! Checkpoints in a bucket: they outlive the data directory, belong to one service at a time, and a
//! bucket that fails does not fail the service.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use double::{BUCKET, Fault, Proxy, S3};
use service::{Client, Launch, binary, signal, until};

#[path = "buckets/double.rs"]
mod double;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/service.rs"]
mod service;
#[path = "buckets/store.rs"]
mod store;

const QUERY: &str = "clicks_per_user_tumbling";
const ENV: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "key"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
    ("AWS_REGION", "us-east-1"),
];

/// A service with its checkpoints below a prefix, reached by a URL. It takes those it is told to.
fn launch(home: &Path, endpoint: &str, prefix: &str) -> Launch {
    let launch = Launch::new(home)
        .args(&["--queries", QUERY, "--workers", "2"])
        .set("SNAPSHOT__STORE", &format!("s3://{BUCKET}/{prefix}"))
        .set("SNAPSHOT__STORE_ENDPOINT", endpoint)
        .set("SNAPSHOT__STORE_TAKEOVER", "2s")
        .set("SNAPSHOT__INTERVAL", "1d");
    ENV.iter().fold(launch, |launch, (name, value)| {
        launch.env(name, Path::new(value))
    })
}

/// So many clicks of a user, and the token that reads them.
fn click(service: &Client, user: &str, count: usize) -> String {
    let line = format!("{{\"user_id\":\"{user}\",\"click_time\":0}}\n");
    service.token_of("clicks", &line.repeat(count))
}

/// What is answered once a token is.
fn rows(service: &Client, token: &str) -> Value {
    let path = format!("/v1/queries/{QUERY}?after={token}");
    service.get(&path).ok()["rows"].clone()
}

fn checkpoint(service: &Client) -> Value {
    service.command("/v1/checkpoints").ok()
}

/// A command of the binary on the checkpoints below a prefix: whether it was well, and its words.
fn command(home: &Path, endpoint: &str, prefix: &str, args: &[&str]) -> (bool, String) {
    let output = binary()
        .args(args)
        .arg("--data-dir")
        .arg(home.join("data"))
        .env(
            "WATERCLOCK_SNAPSHOT__STORE",
            format!("s3://{BUCKET}/{prefix}"),
        )
        .env("WATERCLOCK_SNAPSHOT__STORE_ENDPOINT", endpoint)
        .env("WATERCLOCK_SNAPSHOT__STORE_TAKEOVER", "2s")
        .envs(ENV)
        .current_dir(home)
        .output()
        .expect("the binary under test was built");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a place for the test")
}

#[test]
fn a_new_directory_begins_with_the_newest_checkpoint() {
    let Some(server) = S3::start() else { return };
    let (proxy, first, second) = (Proxy::before(&server), home(), home());
    let service = launch(first.path(), &proxy.url, "a/b").start_ready();
    click(&service, "u1", 3);
    let token = click(&service, "u2", 2);
    let saved = rows(&service, &token);
    assert_eq!(checkpoint(&service)["run"], 1);
    assert!(
        !first
            .path()
            .join("data/checkpoints")
            .read_dir()
            .is_ok_and(|it| it.count() > 1)
    );
    service.kill();
    // What was posted and the journal are lost with the first directory.
    let again = launch(second.path(), &proxy.url, "a/b");
    let service = again.start_ready();
    let said = service.stderr();
    assert!(
        said.contains("a new data directory and a new run"),
        "{said}"
    );
    assert!(
        said.contains("waiting"),
        "the first might have lived: {said}"
    );
    assert_eq!(service.query(QUERY)["rows"], 2);
    // Positions go on where they were.
    let token = click(&service, "u3", 1);
    let mut expected = saved.as_array().expect("rows").clone();
    expected.push(json!({"key": ["u3", {"start": 0, "end": 300_000}], "value": 1, "final": false}));
    assert_eq!(rows(&service, &token), Value::Array(expected));
    let answer = service.get(&format!("/v1/queries/{QUERY}")).ok();
    assert_eq!(answer["positions"]["clicks"]["0"], 6);
    assert_eq!(checkpoint(&service)["run"], 2);
    let before = rows(&service, &token);
    service.kill();
    // And now it is this directory's: nobody is waited for, and the run goes on.
    let waits = again.stderr().matches("waiting").count();
    let service = again.start_ready();
    assert_eq!(again.stderr().matches("waiting").count(), waits);
    assert_eq!(rows(&service, &token), before);
    assert_eq!(checkpoint(&service)["run"], 2);
    service.kill();
    // A journal that is not the checkpoints' own is not believed to be.
    let third = home();
    let own = launch(third.path(), &proxy.url, "other").start_ready();
    click(&own, "u1", 1);
    assert!(own.stop().success());
    let (status, said) = launch(third.path(), &proxy.url, "a/b").refused();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("is not of the journal"), "{said}");
}

#[test]
fn a_file_is_read_on_where_the_checkpoint_says() {
    let Some(server) = S3::start() else { return };
    let (proxy, first, second) = (Proxy::before(&server), home(), home());
    let path = first.path().join("clicks.ndjson");
    let line = "{\"user_id\":\"u1\",\"click_time\":0}\n";
    fs::write(&path, line.repeat(3)).expect("it can be written");
    let of_file = |home: &Path| {
        let text = format!(
            "[streams.clicks]\nsource = \"file\"\npaths = ['{}']\ntail = true\n",
            path.display()
        );
        let config = home.join("set.toml");
        fs::write(&config, text).expect("it can be written");
        launch(home, &proxy.url, "file").args(&["--config", &config.to_string_lossy()])
    };
    let clicks = |service: &Client, count: u64| {
        until("the file to be read", || {
            let answer = service.get(&format!("/v1/queries/{QUERY}")).ok();
            (answer["rows"][0]["value"] == count).then_some(())
        });
    };
    let service = of_file(first.path()).start_ready();
    clicks(&service, 3);
    checkpoint(&service);
    fs::write(&path, line.repeat(5)).expect("it can be written");
    clicks(&service, 5);
    service.kill();
    let service = of_file(second.path()).start_ready();
    clicks(&service, 5);
}

#[test]
fn of_two_services_on_one_prefix_the_second_is_refused_by_name() {
    let Some(server) = S3::start() else { return };
    let (proxy, first, second) = (Proxy::before(&server), home(), home());
    let starting = launch(first.path(), &proxy.url, "one").spawn();
    let id = starting.id();
    let service = starting.ready_for_requests();
    service.wait_ready();
    click(&service, "u1", 1);
    let other = launch(second.path(), &proxy.url, "one");
    let (status, said) = other.refused();
    assert_eq!(status.code(), Some(1), "{said}");
    let owner = format!("s3://{BUCKET}/one/ are those of process {id} on ");
    assert!(
        said.contains(&owner) && said.contains("snapshot.store"),
        "{said}"
    );
    let args = ["checkpoint", "delete", "1"];
    let (is_well, said) = command(second.path(), &proxy.url, "one", &args);
    assert!(!is_well && said.contains(&owner), "{said}");
    checkpoint(&service);
    // One that gives no sign of life is followed; it finds out, and saves nothing any more.
    signal("STOP", id);
    let starting = other.spawn();
    let next = starting.id();
    let follower = starting.ready_for_requests();
    follower.wait_ready();
    assert_eq!(follower.query(QUERY)["rows"], 1);
    signal("CONT", id);
    let refused = service.command("/v1/checkpoints").problem(503);
    let owner = format!("are those of process {next} on ");
    assert!(refused.contains(&owner), "{refused}");
    assert_eq!(service.get(&format!("/v1/queries/{QUERY}")).status, 200);
    let problem = service.get("/v1/checkpoints").ok()["problem"].clone();
    assert!(
        problem.as_str().is_some_and(|it| it.contains(&owner)),
        "{problem}"
    );
    checkpoint(&follower);
    // One that has ended is not waited for.
    assert!(follower.stop().success());
    let third = home();
    let last = launch(third.path(), &proxy.url, "one");
    assert_eq!(last.start_ready().query(QUERY)["rows"], 1);
    assert!(!last.stderr().contains("waiting"), "{}", last.stderr());
}

#[test]
fn a_bucket_that_fails_leaves_the_service_answering() {
    let Some(server) = S3::start() else { return };
    let (proxy, home) = (Proxy::before(&server), home());
    let service = launch(home.path(), &proxy.url, "flaky")
        .set("SNAPSHOT__STORE_TAKEOVER", "1h")
        .set("SNAPSHOT__STORE_TIMEOUT", "3s")
        .start_ready();
    let mut clicks = 0;
    let mut landed = 0;
    // What comes and goes is tried again, and nobody notices.
    for fault in [Fault::Busy(3), Fault::Cut(3)] {
        proxy.fail(fault);
        click(&service, "u1", 1);
        clicks += 1;
        checkpoint(&service);
        assert_eq!(proxy.landed(), landed + 3, "{fault:?}");
        landed += 3;
    }
    for fault in [Fault::Down, Fault::Silent] {
        proxy.fail(fault);
        click(&service, "u1", 1);
        let refused = service.command("/v1/checkpoints").problem(503);
        assert!(
            refused.contains(&format!("s3://{BUCKET}/flaky/")),
            "{refused}"
        );
        // Meanwhile it takes posts and answers, and says what is wrong.
        let token = click(&service, "u1", 1);
        clicks += 2;
        assert_eq!(rows(&service, &token)[0]["value"], clicks, "{fault:?}");
        let listed = service.get("/v1/checkpoints").ok();
        assert_eq!(listed["checkpoints"].as_array().map(Vec::len), Some(2));
        let problem = listed["problem"].as_str().expect("a sentence");
        assert!(refused.ends_with(problem), "{refused}: {problem}");
        assert!(service.stderr().contains("the checkpoint failed"));
        assert!(proxy.landed() > landed, "{fault:?}");
        // Once the bucket is back everything is saved.
        proxy.fail(Fault::None);
        checkpoint(&service);
        landed = proxy.landed();
        assert_eq!(service.get("/v1/checkpoints").ok()["problem"], Value::Null);
    }
    let before = rows(&service, &click(&service, "u2", 1));
    checkpoint(&service);
    service.kill();
    let again = self::home();
    let service = launch(again.path(), &proxy.url, "flaky").start_ready();
    assert_eq!(
        service.get(&format!("/v1/queries/{QUERY}")).ok()["rows"],
        before
    );
    let (is_well, said) = command(again.path(), &proxy.url, "flaky", &["checkpoint", "verify"]);
    assert!(is_well, "{said}");
}

/// The manifests of checkpoints below a prefix.
fn manifests(server: &S3, prefix: &str) -> Vec<String> {
    let mut keys = server.keys(prefix);
    keys.retain(|key| {
        let is_json = Path::new(key).extension().is_some_and(|end| end == "json");
        is_json && !key.contains("/owner/")
    });
    keys
}

/// Takes four checkpoints, is killed, and says what was answered last.
fn killed_after_four(launch: &Launch) -> Value {
    let service = launch.start_ready();
    for user in ["u1", "u2", "u3", "u4"] {
        click(&service, user, 1);
        checkpoint(&service);
    }
    let before = service.get(&format!("/v1/queries/{QUERY}")).ok()["rows"].clone();
    service.kill();
    before
}

fn file_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

#[test]
fn damaged_objects_are_found_and_done_without() {
    let Some(server) = S3::start() else { return };
    let (proxy, home) = (Proxy::before(&server), home());
    let launch = launch(home.path(), &proxy.url, "rot");
    let before = killed_after_four(&launch);
    // What no checkpoint names is gone, of those that are not kept too.
    let kept = manifests(&server, "rot/");
    assert_eq!(kept.len(), 2, "{kept:?}");
    let texts: Vec<String> = (kept.iter())
        .map(|key| String::from_utf8_lossy(&server.get(key)).into_owned())
        .collect();
    let segments = server.keys("rot/segments/");
    let newest = file_of(&kept[1]).replace(".json", "");
    for key in &segments {
        // Merged for the next checkpoint, which was never taken.
        if key.contains(&newest) && key.contains(".merged.") {
            continue;
        }
        let is_named = texts.iter().any(|text| text.contains(file_of(key)));
        assert!(is_named, "{key}");
    }
    let newest_only =
        |key: &&String| texts[1].contains(file_of(key)) && !texts[0].contains(file_of(key));
    let victim = segments.iter().find(newest_only);
    let victim = victim.expect("they share nothing");
    let whole = server.get(victim);
    let verify = || command(home.path(), &proxy.url, "rot", &["checkpoint", "verify"]);
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let cut = whole[..whole.len() - 1].to_vec();
    for damage in [flipped(0), flipped(whole.len() / 2), cut, vec![]] {
        server.put(victim, &damage);
        let (is_well, said) = verify();
        let names_it = said.contains(&format!("s3://{BUCKET}/{victim}"));
        assert!(!is_well && names_it, "{said}");
    }
    // The older one serves, and the journal has the rest.
    let service = launch.start_ready();
    assert!(service.stderr().contains("passing over checkpoint"));
    let rows = &service.get(&format!("/v1/queries/{QUERY}")).ok()["rows"];
    assert_eq!(rows, &before);
    service.kill();
    server.put(victim, &whole);
    server.put(&kept[1], &server.get(&kept[1])[1..]);
    let (is_well, said) = verify();
    assert!(!is_well && said.contains(&kept[1]), "{said}");
}

#[test]
fn checkpoints_are_deleted_and_put_aside() {
    let Some(server) = S3::start() else { return };
    let (proxy, home) = (Proxy::before(&server), home());
    let launch = launch(home.path(), &proxy.url, "aside");
    let before = killed_after_four(&launch);
    let run = |args: &[&str]| command(home.path(), &proxy.url, "aside", args);
    let list = || run(&["checkpoint", "list"]).1;
    assert_eq!(list().lines().count(), 2);
    let oldest = list().lines().last().map(|line| line[..13].to_owned());
    let (is_well, said) = run(&["checkpoint", "delete", &oldest.expect("two")]);
    assert!(is_well, "{said}");
    let left = (list().lines().count(), manifests(&server, "aside/").len());
    assert_eq!(left, (1, 1));
    // From scratch nothing of it counts any more, and it is still there.
    let service = launch.args(&["--from-scratch"]).start_ready();
    let rows = &service.get(&format!("/v1/queries/{QUERY}")).ok()["rows"];
    assert_eq!(rows, &before);
    let all = manifests(&server, "aside/");
    let aside = all.iter().filter(|key| key.contains("aside-run-"));
    assert_eq!(aside.count(), 1);
    service.stop();
}
