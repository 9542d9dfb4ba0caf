//! A bank under load and kill -9: whenever its four queries are read together they agree, and what
//! an answer says it includes is what makes it: in `replay` of the posts up to its positions, and
//! in `replay` of the data directory up to its epoch.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};

use service::{Client, Launch, Lost, Random, Service, binary, run, until};

#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/service.rs"]
mod service;

const TOGETHER: &str = "/v1/snapshot?queries=credits,debits,balances,total&limit=10000";
const ACCOUNTS: u64 = 300;
const KILLS: usize = 3;

/// How many answers to read between two kills; `BANK_READS` asks for more of them.
fn reads() -> usize {
    let asked = std::env::var("BANK_READS").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(60)
}

/// One that posts, so that the order of the log is known: each line is posted once.
struct Poster {
    random: Random,
    batches: usize,
    /// Sent, and not known to be stored.
    open: Option<Vec<String>>,
    lines: Vec<String>,
}

impl Poster {
    fn post(&mut self, service: &Client) -> Result<(), Lost> {
        let batch = self.open.take().unwrap_or_else(|| {
            self.batches += 1;
            (0..50).map(|_| self.transfer()).collect()
        });
        let key = format!("batch-{}", self.batches);
        let reply = service.try_post("transfers", Some(&key), &batch.join("\n"));
        if !matches!(&reply, Ok(reply) if reply.status == 200) {
            self.open = Some(batch);
            return reply.map(|_| ());
        }
        self.lines.extend(batch);
        Ok(())
    }

    fn transfer(&mut self) -> String {
        let mut below = |bound| self.random.below(bound);
        let (from, to, amount) = (below(ACCOUNTS), below(ACCOUNTS), below(1000));
        let at = 1_700_000_000_000 + self.lines.len() * 10;
        json!({"from": from, "to": to, "amount": amount, "at": at}).to_string()
    }
}

/// Rows of an answer by their key.
fn rows(answer: &Value) -> BTreeMap<String, i64> {
    let rows = answer["rows"].as_array().expect("a list");
    let row = |row: &Value| {
        (
            row["key"].to_string(),
            row["value"].as_i64().expect("a sum"),
        )
    };
    rows.iter().map(row).collect()
}

/// Checks that the four agree, and gives the epoch.
fn audit(together: &Value) -> u64 {
    let queries = &together["queries"];
    let of = |name: &str| rows(&queries[name]);
    let (credits, debits, balances) = (of("credits"), of("debits"), of("balances"));
    for name in ["credits", "debits", "balances", "total"] {
        let query = &queries[name];
        assert_eq!(query["as_of"], together["as_of"], "{name}");
        assert_eq!(query["positions"], queries["total"]["positions"], "{name}");
        assert_eq!(query["next"], Value::Null, "{name}");
        assert!(
            query["rows"]
                .as_array()
                .is_some_and(|rows| rows.iter().all(|row| { row.get("final").is_none() }))
        );
    }
    assert_eq!(balances.values().sum::<i64>(), 0);
    for (account, balance) in &balances {
        let of = |table: &BTreeMap<String, i64>| table.get(account).copied().unwrap_or(0);
        assert_eq!(of(&credits) - of(&debits), *balance, "account {account}");
    }
    let expected = match position(together) {
        0 => BTreeMap::new(),
        _ => BTreeMap::from([("\"all\"".to_owned(), 0)]),
    };
    assert_eq!(of("total"), expected);
    together["as_of"].as_u64().expect("an epoch")
}

fn position(together: &Value) -> usize {
    let position = together["queries"]["total"]["positions"]["transfers"]["0"].as_u64();
    usize::try_from(position.unwrap_or(0)).expect("it is small")
}

/// Reads under load, then kills; gives the last answer.
fn load_and_kill(service: Service, poster: &Mutex<Poster>, highest: &mut u64) -> Value {
    let client = Client::clone(&service);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut poster = poster.lock().expect("nobody panics with it");
            while poster.post(&client).is_ok() {}
        });
        let mut last = Value::Null;
        for _ in 0..reads() {
            last = client.get(TOGETHER).ok();
            let epoch = audit(&last);
            assert!(epoch >= *highest, "{epoch} is shown after {highest}");
            *highest = epoch;
        }
        service.kill();
        last
    })
}

/// What a query answers in a batch run over the first lines of the log.
fn replayed(home: &Path, lines: &[String], query: &str) -> Vec<Value> {
    let file = home.join("transfers.ndjson");
    fs::write(&file, lines.join("\n")).expect("the test's directory takes files");
    let mut command: Command = binary();
    let stream = format!("transfers={}", file.display());
    let output = command
        .args([
            "replay",
            "--stream",
            &stream,
            "--query",
            query,
            "--workers",
            "2",
        ])
        .output()
        .expect("the binary under test was built");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a row"))
        .collect()
}

/// Checks that the data directory gives an answer once more, and that it includes the same.
fn reproduce(data_dir: &Path, together: &Value) {
    let (data_dir, to) = (data_dir.to_string_lossy(), together["as_of"].to_string());
    for (query, answer) in together["queries"].as_object().expect("by name") {
        let output = run(&[
            "replay",
            "--data-dir",
            &data_dir,
            "--query",
            query,
            "--to",
            &to,
        ]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let summary: Value = serde_json::from_str(&said).expect("one line of JSON");
        for label in ["as_of", "complete_through", "positions"] {
            assert_eq!(summary[label], answer[label], "{query}: {label}");
        }
        let rows = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        let rows = rows
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a row"));
        assert_eq!(answer["rows"], rows.collect::<Value>(), "{query}");
    }
}

#[test]
fn no_money_appears_or_gets_lost_in_any_answer() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path())
        .args(&[
            "--queries",
            "credits,debits,balances,total",
            "--workers",
            "2",
        ])
        .set("SNAPSHOT__INTERVAL", "300ms");
    let poster = Mutex::new(Poster {
        random: Random(4),
        batches: 0,
        open: None,
        lines: Vec::new(),
    });
    let mut highest = 0;
    let service = launch.start_ready();
    audit(&service.get(TOGETHER).ok());
    let mut last = load_and_kill(service, &poster, &mut highest);
    for _ in 1..KILLS {
        reproduce(&launch.data_dir(), &last);
        let service = launch.start_ready();
        // What had been read is read again, if it is still there.
        let again = service.get(&format!("{TOGETHER}&at={}", last["as_of"]));
        assert!(
            again.status == 410 || again.ok() == last,
            "{}",
            again.text()
        );
        last = load_and_kill(service, &poster, &mut highest);
    }
    let service = launch.start_ready();
    let mut poster = poster.into_inner().expect("nobody panicked with it");
    poster.post(&service).expect("nobody kills it now");
    let all = poster.lines.len();
    let whole = until("all transfers", || {
        let together = service.get(TOGETHER).ok();
        audit(&together);
        (position(&together) == all).then_some(together)
    });
    service.kill();
    reproduce(&launch.data_dir(), &whole);
    for answer in [&last, &whole] {
        let lines = &poster.lines[..position(answer)];
        for query in ["balances", "total"] {
            let expected = answer["queries"][query]["rows"].as_array().expect("a list");
            assert_eq!(replayed(home.path(), lines, query), *expected, "{query}");
        }
    }
}
