//! `replay --data-dir`: what a service answered as of any of its epochs, to the byte, from any
//! checkpoint and on any number of workers; and nothing in its data directory is changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use service::{Client, Launch, Random, run};

#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/service.rs"]
mod service;

const MINUTE: i64 = 60_000;
/// 2022-01-01 10:00:00.
const BASE: i64 = 1_641_031_200_000;
const QUERIES: [&str; 4] = [
    "clicks_per_user",
    "clicks_per_country",
    "balances",
    "unique_visitors",
];

/// An answer that was given, and its labels.
struct Given {
    query: &'static str,
    epoch: u64,
    rows: Vec<u8>,
    answer: Value,
    late: Value,
}

/// One step of what is posted: some of it late, some of it no record.
fn post(service: &Client, step: i64, random: &mut Random) {
    let mut below = |bound| i64::try_from(random.below(bound)).expect("it is small");
    let begin = BASE + step * 2 * MINUTE;
    let (mut clicks, mut users, mut transfers, mut visits) = (vec![], vec![], vec![], vec![]);
    for n in 0..40 {
        let delay = if below(8) == 0 { below(600_000) } else { 0 };
        let (user, at) = (format!("u{}", below(9)), begin + n * 1000 - delay);
        clicks.push(json!({"user_id": user, "click_time": at}));
        transfers.push(json!({"from": below(5), "to": below(5), "amount": below(99), "at": at}));
        let page = format!("/{}", below(3));
        visits.push(json!({"visitor": user, "page": page, "country": "fr", "at": at}));
    }
    clicks.push(json!({"user_id": "nobody"}));
    let country = format!("c{}", below(4));
    users.push(json!({"user_id": "u1", "country": country, "updated_at": begin}));
    // The stream, its records, and a query that reads it.
    let streams = [
        ("users", users, "clicks_per_country"),
        ("clicks", clicks, "clicks_per_user"),
        ("transfers", transfers, "balances"),
        ("visits", visits, "unique_visitors"),
    ];
    for (stream, lines, query) in streams {
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        let token = service.post(stream, &lines.join("\n")).ok()["token"].clone();
        let token = token.as_str().expect("a token");
        let path = format!("/v1/queries/{query}?limit=1&after={token}");
        service.get(&path).ok();
    }
}

/// All queries at one epoch.
fn given(service: &Client) -> Vec<Given> {
    let epoch = service.query("balances")["upper"]
        .as_u64()
        .expect("an epoch");
    let of = |query| {
        let path = format!("/v1/queries/{query}?limit=10000&at={epoch}");
        let rows = ureq::get(format!("{}{path}", service.url))
            .header("Accept", "application/x-ndjson")
            .call();
        Given {
            query,
            epoch,
            rows: rows
                .and_then(|mut rows| rows.body_mut().read_to_vec())
                .expect("the service is there"),
            answer: service.get(&path).ok(),
            late: service.query(query)["late"].clone(),
        }
    };
    QUERIES.map(of).into()
}

fn replay(data: &Path, query: &str, more: &[&str]) -> Output {
    let data = data.to_string_lossy();
    run(&[&["replay", "--data-dir", &data, "--query", query], more].concat())
}

/// The figures told about a replay that succeeded.
fn summary(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_str(&stderr).expect("one line of JSON")
}

/// Every file and what is in it.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("it is there").flatten() {
        if entry.path().is_dir() {
            all.extend(contents(&entry.path()));
        } else {
            let bytes = fs::read(entry.path()).expect("it is there");
            all.insert(entry.path().to_string_lossy().into_owned(), bytes);
        }
    }
    all
}

#[test]
fn a_replay_gives_what_was_answered_from_any_checkpoint_on_any_number_of_workers() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path())
        .args(&["--queries", &QUERIES.join(","), "--workers", "2"])
        .set("SNAPSHOT__INTERVAL", "1h")
        .set("SNAPSHOT__RETAIN", "10");
    let data = launch.data_dir();
    let service = launch.start_ready();
    let (mut random, mut all, mut checkpoints) = (Random(8), Vec::new(), vec!["0".to_owned()]);
    for step in 0..6 {
        post(&service, step, &mut random);
        all.extend(given(&service));
        if step % 2 == 1 {
            checkpoints.push(service.command("/v1/checkpoints").ok()["epoch"].to_string());
        }
    }
    // Beside the service, too.
    let last = all.last().expect("there are answers");
    let output = replay(&data, last.query, &["--to", &last.epoch.to_string()]);
    assert!(output.stdout == last.rows);
    service.kill();
    let before = contents(&data);
    let mut seen = BTreeMap::<&str, usize>::new();
    for (n, given) in all.iter().enumerate() {
        let to = given.epoch.to_string();
        let is_older =
            |checkpoint: &&String| checkpoint.parse::<u64>().expect("it is") <= given.epoch;
        // Each answer from one of the checkpoints before it; over all of them, from each.
        let older: Vec<&String> = checkpoints.iter().filter(is_older).collect();
        let checkpoint = older[n % older.len()];
        let workers = ["1", "2", "3"][n % 3];
        let how = [
            "--to",
            &to,
            "--checkpoint",
            checkpoint,
            "--workers",
            workers,
        ];
        let output = replay(&data, given.query, &how);
        let about = format!("{} as of {to} from {checkpoint}", given.query);
        let summary = summary(&output);
        assert!(output.stdout == given.rows, "{about}");
        let digest = Sha256::digest(&given.rows);
        let digest: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(summary["sha256"], digest.concat(), "{about}");
        assert_eq!(summary["as_of"], given.epoch, "{about}");
        assert_eq!(summary["late"], given.late, "{about}");
        for label in ["complete_through", "positions"] {
            assert_eq!(summary[label], given.answer[label], "{about}: {label}");
        }
        *seen.entry(given.query).or_default() += given.rows.len();
    }
    assert!(seen.values().all(|bytes| *bytes > 500), "{seen:?}");
    assert!(contents(&data) == before);
}

#[test]
fn what_cannot_be_replayed_is_told() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path()).args(&["--queries", "balances"]);
    let data = launch.data_dir();
    let service = launch.start_ready();
    service.token_of("transfers", "{\"from\":1,\"to\":2,\"amount\":3,\"at\":0}");
    let taken = service.command("/v1/checkpoints").ok()["epoch"].to_string();
    service.kill();
    for (query, more, words) in [
        (
            "balances",
            ["--to", "99999999999999"],
            "is not in the journal",
        ),
        (
            "balances",
            ["--checkpoint", "7"],
            "no whole checkpoint of epoch 7",
        ),
        (
            "total",
            ["--checkpoint", &taken],
            "not written with this query 'total'",
        ),
        ("balancez", ["--to", &taken], "'balancez'"),
    ] {
        let output = replay(&data, query, &more);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let later = ["--checkpoint", &taken, "--to", "1"];
    let said = replay(&data, "balances", &later);
    assert!(String::from_utf8_lossy(&said.stderr).contains("is later than epoch 1"));
    // Without a checkpoint of it, from the beginning: there is all of the journal.
    let output = replay(&data, "total", &["--checkpoint", "0"]);
    assert_eq!(summary(&output)["rows"], 1);
}
