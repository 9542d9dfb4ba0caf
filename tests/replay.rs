//! Replay from outside: the rows of a batch run, to the byte, however the work is divided; and
//! clear sentences where it cannot run.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use service::{Random, run};

#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/service.rs"]
mod service;

const MINUTE: i64 = 60_000;
/// 2022-01-01 10:00:00.
const BASE: i64 = 1_641_031_200_000;

/// The clicks of one file, in order.
struct Clicks {
    /// User and time of each.
    good: Vec<(String, i64)>,
    /// How many lines are no clicks.
    bad: usize,
    text: String,
}

impl Clicks {
    /// Clicks whose times waver by up to four seconds, some of them minutes late, a few no clicks.
    fn generate(count: usize, seed: u64) -> Clicks {
        let mut random = Random(seed);
        let mut below = |bound: i64| {
            let bound = u64::try_from(bound).expect("bounds are positive");
            i64::try_from(random.below(bound)).expect("it is below one")
        };
        let (mut good, mut bad, mut text) = (Vec::new(), 0, String::new());
        for n in 0..i64::try_from(count).expect("counts are small") {
            if below(1000) == 0 {
                text.push_str("{\"user_id\": 7}\n");
                bad += 1;
                continue;
            }
            let delay = match below(100) {
                0 => below(15 * MINUTE),
                _ => below(4_000),
            };
            let (user, time) = (format!("u{}", below(300)), BASE + n * 30 - delay);
            let _ = writeln!(text, "{{\"user_id\":\"{user}\",\"click_time\":{time}}}");
            good.push((user, time));
        }
        Clicks { good, bad, text }
    }

    fn write(&self, path: &Path) -> String {
        fs::write(path, &self.text).expect("the test's directory takes files");
        format!("clicks={}", path.display())
    }
}

/// The batch run: each click into each of its windows that its file had not closed before it.
/// Returns the rows as replay writes them, and how many clicks were late for all windows.
fn recompute(
    files: &[&Clicks],
    every: i64,
    lateness: i64,
    key: impl Fn(&str, i64) -> String,
) -> (String, usize) {
    let (mut counts, mut late) = (BTreeMap::<(String, i64), u64>::new(), 0);
    for file in files {
        let mut watermark = i64::MIN;
        for (user, time) in &file.good {
            let starts = (0..).map(|n| (time.div_euclid(every) - n) * every);
            let windows = starts.take_while(|start| start + 5 * MINUTE > *time);
            let open = windows.filter(|start| watermark < start + 5 * MINUTE - 1);
            let taken =
                open.map(|start| *counts.entry((key(user, *time), start)).or_default() += 1);
            late += usize::from(taken.count() == 0);
            watermark = watermark.max(time - lateness);
        }
    }
    let mut rows = String::new();
    for ((key, start), count) in counts {
        let window = json!({"start": start, "end": start + 5 * MINUTE});
        let row = json!({"key": [key, window], "value": count, "final": true});
        let _ = writeln!(rows, "{row}");
    }
    (rows, late)
}

fn replay(query: &str, streams: &[&str], more: &[&str]) -> Output {
    let streams = streams.iter().flat_map(|stream| ["--stream", stream]);
    let args: Vec<&str> = ["replay", "--query", query]
        .into_iter()
        .chain(streams)
        .chain(more.iter().copied())
        .collect();
    run(&args)
}

/// The rows written, and the figures told about them.
fn rows_and_summary(output: &Output) -> (String, Value) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let mut lines = stderr.lines();
    let summary = serde_json::from_str(lines.next().expect("a line")).expect("it is JSON");
    assert_eq!(lines.next(), None, "one line and no more");
    let rows = String::from_utf8(output.stdout.clone()).expect("rows are text");
    (rows, summary)
}

fn sha256(text: &str) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(text) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn home() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let home = tempfile::tempdir().expect("a place for the test");
    let path = home.path().to_owned();
    (home, move |name| path.join(name))
}

#[test]
fn the_rows_are_those_of_a_batch_run_for_every_number_of_workers_and_every_split() {
    let (_home, place) = home();
    let clicks = Clicks::generate(100_000, 1);
    let file = clicks.write(&place("clicks.ndjson"));
    let by_user = |user: &str, _| user.to_owned();
    let (expected, late) = recompute(&[&clicks], 2 * MINUTE, 5_000, by_user);
    assert!(late > 100 && clicks.bad > 50, "{late} {}", clicks.bad);
    for (workers, split) in [
        ("1", "2097152"),
        ("2", "2097152"),
        ("3", "2097152"),
        ("1", "100003"),
        ("2", "65536"),
        ("3", "777"),
    ] {
        let how = ["--workers", workers, "--split-bytes", split];
        let output = replay("clicks_per_user", &[&file], &how);
        let (rows, summary) = rows_and_summary(&output);
        assert!(rows == expected, "{workers} workers, splits of {split}");
        let figures = [
            ("events", json!(100_000)),
            ("rows", json!(expected.lines().count())),
            ("late", json!(late)),
            ("rejected", json!(clicks.bad)),
            ("sha256", json!(sha256(&expected))),
        ];
        for (figure, value) in figures {
            assert_eq!(summary[figure], value, "{figure}: {summary}");
        }
        for figure in ["seconds", "events_per_second", "peak_rss_bytes"] {
            let value = summary[figure].as_f64().expect("a number");
            assert!(value > 0.0, "{figure}: {summary}");
        }
        assert_eq!(summary.as_object().expect("an object").len(), 8);
    }
}

#[test]
fn partitions_are_judged_each_by_itself_and_the_lateness_bound_can_be_set() {
    let (_home, place) = home();
    let (a, b) = (Clicks::generate(9_000, 2), Clicks::generate(5_000, 3));
    let (files, by_user) = (
        [a.write(&place("a")), b.write(&place("b"))],
        |user: &str, _| user.to_owned(),
    );
    let files = files.each_ref().map(String::as_str);
    for (bound, lateness) in [("5s", 5_000), ("0s", 0), ("1h", 60 * MINUTE)] {
        let (expected, late) = recompute(&[&a, &b], 5 * MINUTE, lateness, by_user);
        let bound = format!("clicks={bound}");
        for workers in ["1", "3"] {
            let how = [
                "--workers",
                workers,
                "--lateness",
                &bound,
                "--split-bytes",
                "5000",
            ];
            let output = replay("clicks_per_user_tumbling", &files, &how);
            let (rows, summary) = rows_and_summary(&output);
            assert!(rows == expected, "{bound}, {workers} workers");
            assert_eq!(summary["late"], late, "{bound}");
        }
    }
}

#[test]
fn two_streams_meet_in_the_order_of_their_times() {
    let (_home, place) = home();
    let clicks = Clicks::generate(10_000, 4);
    let (mut users, mut moves) = (String::new(), Vec::new());
    for n in 0..600 {
        let (user, country) = (format!("u{}", n * 7 % 280), format!("c{}", n * 5 % 9));
        let at = BASE - MINUTE + n * 500;
        let _ = writeln!(
            users,
            "{{\"user_id\":\"{user}\",\"country\":\"{country}\",\"updated_at\":{at}}}"
        );
        moves.push((user, at, country));
    }
    fs::write(place("users"), users).expect("the test's directory takes files");
    let streams = [
        clicks.write(&place("clicks")),
        format!("users={}", place("users").display()),
    ];
    let by_country = |user: &str, time: i64| {
        let before = moves
            .iter()
            .rev()
            .find(|(u, at, _)| u == user && *at <= time);
        before.map_or("unknown".to_owned(), |(.., country)| country.clone())
    };
    let (expected, late) = recompute(&[&clicks], 5 * MINUTE, 5_000, by_country);
    for workers in ["1", "2", "3"] {
        let how = ["--workers", workers, "--split-bytes", "4321"];
        let streams = streams.each_ref().map(String::as_str);
        let (rows, summary) = rows_and_summary(&replay("clicks_per_country", &streams, &how));
        assert_eq!(rows, expected, "{workers} workers");
        assert_eq!(
            (&summary["late"], &summary["rejected"]),
            (&json!(late), &json!(clicks.bad))
        );
        assert_eq!(summary["events"], 10_600);
    }
}

#[test]
fn rows_go_to_a_file_or_nowhere_and_odd_files_are_read_to_their_last_byte() {
    let (_home, place) = home();
    let out = place("rows");
    let text = "\u{feff}{\"user_id\":\"u1\",\"click_time\":\"2022-01-01 10:00:00\"}\r\n\n  \n\
        not json\n[1]\n{\"user_id\":\"u1\",\"click_time\":\"2300-01-01 00:00:00\"}\n\
        {\"user_id\":\"u2\",\"click_time\":\"2022-01-01T11:00:00+01:00\",\"extra\":[1,2]}";
    fs::write(place("odd"), text).expect("the test's directory takes files");
    let odd = format!("clicks={}", place("odd").display());
    let row = |user: &str, start: i64| {
        let end = start + 5 * MINUTE;
        json!({"key": [user, {"start": start, "end": end}], "value": 1, "final": true})
    };
    // Files have no arrival that a time could be too far ahead of.
    let far = 10_413_792_000_000;
    let expected = [row("u1", BASE), row("u1", far)];
    let expected = format!("{}\n{}\n", expected[0], expected[1]);
    let to_file = ["--output", &out.display().to_string()];
    let output = replay("clicks_per_user_tumbling", &[&odd], &to_file);
    let (rows, summary) = rows_and_summary(&output);
    assert_eq!(rows, "");
    assert_eq!(fs::read_to_string(&out).expect("it was written"), expected);
    let counted = ["events", "rows", "rejected", "late"].map(|figure| summary[figure].clone());
    assert_eq!(counted, [json!(5), json!(2), json!(2), json!(1)]);
    let output = replay("clicks_per_user_tumbling", &[&odd], &["--output", "null"]);
    let (rows, nowhere) = rows_and_summary(&output);
    assert_eq!(
        (rows.as_str(), &nowhere["sha256"]),
        ("", &summary["sha256"])
    );

    fs::write(place("empty"), "").expect("the test's directory takes files");
    let empty = format!("clicks={}", place("empty").display());
    let (rows, summary) = rows_and_summary(&replay("clicks_per_user", &[&empty], &[]));
    assert_eq!(
        (rows.as_str(), &summary["sha256"]),
        ("", &json!(sha256("")))
    );
}

/// A query, a stream, further flags, and words of the refusal.
type Refusal<'a> = (&'a str, &'a str, &'a [&'a str], &'a [&'a str]);

/// Says that a replay fails with a sentence that has these words.
fn assert_refused((query, stream, more, words): Refusal<'_>) {
    let output = replay(query, &[stream], more);
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(
        matches!(code, Some(1 | 2)),
        "{code:?} {stream} {more:?}: {said}"
    );
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn what_cannot_be_replayed_is_named_in_a_sentence() {
    let (_home, place) = home();
    let file = Clicks::generate(2_000, 5).write(&place("clicks"));
    let missing = format!("clicks={}", place("missing").display());
    let directory = format!("clicks={}", place("").display());
    let visits = file.replacen("clicks", "visits", 1);
    let nowhere = place("no/such/rows").display().to_string();
    let cases: [Refusal<'_>; 10] = [
        (
            "clicks_per_user",
            &missing,
            &[],
            &["missing", "No such file"],
        ),
        (
            "clicks_per_user",
            &directory,
            &[],
            &["clicks", "not a regular file"],
        ),
        (
            "clicks_per_uzer",
            &file,
            &[],
            &["'clicks_per_uzer'", "clicks_per_user,"],
        ),
        ("clicks_per_user", &visits, &[], &["'visits'", "clicks"]),
        ("clicks_per_user", "clicks", &[], &["NAME=PATH"]),
        (
            "clicks_per_user",
            &file,
            &["--lateness", "users=5s"],
            &["users"],
        ),
        (
            "clicks_per_user",
            &file,
            &["--lateness", "clicks=5"],
            &["5"],
        ),
        (
            "clicks_per_user",
            &file,
            &["--workers", "0"],
            &["--workers"],
        ),
        (
            "clicks_per_user",
            &file,
            &["--output", &nowhere],
            &["no/such/rows"],
        ),
        (
            "clicks_per_user",
            &file,
            &["--output", "/dev/full"],
            &["No space left"],
        ),
    ];
    cases.into_iter().for_each(assert_refused);
}

#[test]
fn the_benchmark_has_a_line_per_query() {
    let bench = |more: &[&str]| {
        let args = ["bench", "nexmark", "--events", "1000", "--query", "q0,q2"];
        run(&[&args, more].concat())
    };
    let table = bench(&[]);
    assert!(
        table.status.success(),
        "{}",
        String::from_utf8_lossy(&table.stderr)
    );
    let table = String::from_utf8(table.stdout).expect("a table is UTF-8");
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0][..3], ["query", "workers", "events/s"], "{table}");
    assert_eq!((lines[1][0], lines[2][0], lines.len()), ("q0", "q2", 3));
    // All bids are rows of q0.
    assert_eq!(lines[1].last(), Some(&"920"), "{table}");

    let json = bench(&["--json", "--workers", "2"]);
    let json = String::from_utf8(json.stdout).expect("JSON is UTF-8");
    let all: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect();
    assert_eq!(
        (&all[0]["query"], &all[1]["query"]),
        (&json!("q0"), &json!("q2"))
    );
    for figures in all {
        assert_eq!(
            (&figures["events"], &figures["workers"]),
            (&json!(1000), &json!(2))
        );
        assert!(figures["events_per_second"].as_f64() > Some(0.0));
    }
    let refused = run(&["bench", "nexmark", "--query", "q99"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("q99"), "{said}");
}

#[test]
fn the_events_of_the_benchmark_can_be_had_as_a_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("events.ndjson");
    let file = file.to_str().expect("a plain path");
    let written = run(&["bench", "events", "--events", "1000", file]);
    assert!(written.status.success());
    let stream = format!("nexmark={file}");
    let replayed = run(&["replay", "--stream", &stream, "--query", "q0"]);
    let rows = String::from_utf8(replayed.stdout).expect("rows are UTF-8");
    assert_eq!(rows.lines().count(), 920);
    let refused = run(&["bench", "events", "/nowhere/events.ndjson"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("/nowhere/events.ndjson"), "{said}");
}
