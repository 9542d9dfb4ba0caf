//! Streams that are read from files: partitions that fall silent, CSV, and restarts.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::service::{Client, Launch, until};

const MINUTE: i64 = 60_000;
/// 2022-01-01 10:00:00.
const TEN: i64 = 1_641_031_200_000;
const LATENESS: i64 = 5_000;

fn append(path: &Path, user: &str, time: i64) {
    let mut file = File::options().append(true).create(true).open(path);
    let file = file.as_mut().expect("the test's directory takes files");
    let line = json!({"user_id": user, "click_time": time});
    writeln!(file, "{line}").expect("the test's directory takes files");
}

/// Waits until the query's watermark is this.
fn complete_through(service: &Client, time: i64) -> Value {
    until("the watermark", || {
        let answer = service.get("/v1/queries/clicks_per_user_tumbling").ok();
        (answer["complete_through"] == time).then_some(answer)
    })
}

/// Waits until the query counts this.
fn counted(service: &Client, expected: &[(String, u64)]) {
    until(&format!("the counts {expected:?}"), || {
        let answer = service.get("/v1/queries/clicks_per_user_tumbling").ok();
        (counts(&answer) == expected).then_some(())
    });
}

fn counts(answer: &Value) -> Vec<(String, u64)> {
    let rows = answer["rows"].as_array().expect("a list").iter();
    let count = |row: &Value| {
        let user = row["key"][0].as_str().expect("a user").to_owned();
        (user, row["value"].as_u64().expect("a count"))
    };
    rows.map(count).collect()
}

#[test]
fn a_silent_partition_holds_the_others_back_no_longer_than_the_idle_timeout() {
    let home = tempfile::tempdir().expect("a place for the test");
    let (busy, silent) = (home.path().join("busy"), home.path().join("silent"));
    append(&busy, "u1", TEN + 20 * MINUTE);
    append(&silent, "u2", TEN);
    let config = "[service]\nqueries = [\"clicks_per_user_tumbling\"]\n\
        [streams.clicks]\nsource = \"file\"\npaths = [\"busy\", \"silent\"]\ntail = true\n";
    let file = home.path().join("waterclock.toml");
    fs::write(file, config).expect("the test's directory takes files");
    let launch = Launch::new(home.path()).set("SNAPSHOT__INTERVAL", "100ms");
    let service = launch.start_ready();
    let answer = complete_through(&service, TEN - LATENESS);
    assert_eq!(
        counts(&answer),
        [("u1".to_owned(), 1), ("u2".to_owned(), 1)]
    );
    let refused = service.post("clicks", "{\"user_id\":\"u1\",\"click_time\":0}");
    assert!(refused.problem(409).contains("file busy, silent"));
    service.kill();

    let service = launch.set("TIME__IDLE_TIMEOUT", "100ms").start_ready();
    let is_idle = |partition: usize| {
        let stream = service.stream("clicks");
        (stream["partitions"][partition]["idle"] == true).then_some(())
    };
    until("the silent partition to be idle", || is_idle(1));
    append(&busy, "u1", TEN + 21 * MINUTE);
    let watermark = TEN + 21 * MINUTE - LATENESS;
    let answer = complete_through(&service, watermark);
    assert_eq!(answer["rows"][1]["final"], true, "{answer}");

    // It comes back: what lies behind the stream's watermark is late, the rest counts.
    until("the silent partition to be idle", || is_idle(1));
    append(&silent, "u3", TEN + MINUTE);
    append(&silent, "u4", TEN + 30 * MINUTE);
    until("its records", || {
        let answer = service.get("/v1/queries/clicks_per_user_tumbling").ok();
        counts(&answer)
            .contains(&("u4".to_owned(), 1))
            .then_some(())
    });
    let late = service
        .get("/v1/queries/clicks_per_user_tumbling/late")
        .ok();
    assert_eq!(late["rows"].as_array().expect("a list").len(), 1);
    assert_eq!(late["rows"][0]["value"]["time"], TEN + MINUTE);
    let answer = service.get("/v1/queries/clicks_per_user_tumbling").ok();
    let through = answer["complete_through"].as_i64().expect("a time");
    assert!(through >= watermark, "the watermark went back to {through}");
    let counted = counts(&answer);
    let users: Vec<&str> = counted.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(users, ["u1", "u2", "u4"]);
}

#[test]
fn csv_files_are_read_by_their_header_and_once_over_restarts() {
    let home = tempfile::tempdir().expect("a place for the test");
    let path = home.path().join("clicks.csv");
    let text = "click_time,page,user_id\n2022-01-01 10:00:00,a,u1\n\
        1641031260000,\"b,\"\"c\"\"\n\",\"u,2\"\nyesterday,d,u3\n1641031320000,e\n";
    fs::write(&path, text).expect("the test's directory takes files");
    let config = format!(
        "[service]\nqueries = [\"clicks_per_user_tumbling\"]\n\
         [streams.clicks]\nsource = \"file\"\npaths = [\"{}\"]\ntail = true\nlateness = \"1m\"\n",
        path.display()
    );
    let file = home.path().join("other.toml");
    fs::write(&file, config).expect("the test's directory takes files");
    let launch = Launch::new(home.path()).args(&["--config", &file.to_string_lossy()]);
    for restart in 0..3_u64 {
        let service = launch.start_ready();
        let mut expected = vec![("u,2".to_owned(), 1), ("u1".to_owned(), 1)];
        if restart > 0 {
            expected.push(("u4".to_owned(), restart));
        }
        counted(&service, &expected);
        let rejected = until("the bad lines", || {
            let listed = service.get("/v1/streams/clicks/rejected").ok();
            let rows = listed["rows"].as_array().expect("a list");
            (rows.len() == 2).then(|| rows.clone())
        });
        let records: Vec<&Value> = rejected.iter().map(|row| &row["value"]["record"]).collect();
        assert_eq!(records, ["yesterday,d,u3", "1641031320000,e"]);
        let place = text.find("yesterday").expect("it is there");
        assert_eq!(rejected[0]["key"][2], place);
        let mut file = File::options()
            .append(true)
            .open(&path)
            .expect("it is there");
        let line = format!("{},f,u4\n", TEN + MINUTE);
        file.write_all(line.as_bytes()).expect("it takes a line");
        expected.truncate(2);
        expected.push(("u4".to_owned(), restart + 1));
        counted(&service, &expected);
        if restart == 1 {
            assert!(service.stop().success());
        } else {
            service.kill();
        }
    }
}

#[test]
fn a_file_that_shrinks_is_named_and_the_other_streams_go_on() {
    let home = tempfile::tempdir().expect("a place for the test");
    let path = home.path().join("users");
    let user = "{\"user_id\":\"u1\",\"country\":\"c\",\"updated_at\":0}\n";
    fs::write(&path, user.repeat(3)).expect("the test's directory takes files");
    let config = "[streams.users]\nsource = \"file\"\npaths = [\"users\"]\ntail = true\n";
    let file = home.path().join("waterclock.toml");
    fs::write(file, config).expect("the test's directory takes files");
    let launch = Launch::new(home.path());
    let service = launch.start_ready();
    until("the file to be read", || {
        let position = &service.stream("users")["partitions"][0]["position"];
        (*position == 3 * user.len()).then_some(())
    });
    fs::write(&path, user).expect("the test's directory takes files");
    until("it to be noticed", || {
        service.get("/v1/queries/clicks_per_user").ok();
        service.stderr().contains("held up").then_some(())
    });
    let said = service.stderr();
    assert!(said.contains("users"), "{said}");
    let token = service.token_of("clicks", "{\"user_id\":\"u1\",\"click_time\":0}");
    let answer = service.get(&format!("/v1/queries/clicks_per_user?after={token}"));
    assert_eq!(answer.ok()["rows"].as_array().expect("a list").len(), 3);
    assert!(service.stop().success());
}
