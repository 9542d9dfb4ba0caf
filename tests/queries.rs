//! Every shipped query against a story: records in, net changes out, readable by eye. `BLESS=1`
//! rewrites what comes out, `tests/queries/README.md` says how a story is written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs, mem};

use serde_json::Value;
use waterclock::Query;
use waterclock::query::{Catalog, Overrides};
use waterclock::row::Row;
use waterclock::testing::{Change, Round, Steps};
use waterclock::time::Timestamp;

#[path = "../queries/mod.rs"]
mod queries;

#[test]
fn every_query_answers_as_its_story_tells() {
    let mut complaints = Vec::new();
    for query in told() {
        let file = stories().join(format!("{}.txt", query.name));
        let Ok(told) = fs::read_to_string(&file) else {
            let what = "write its records down, then run with BLESS=1";
            complaints.push(format!(
                "{}: there is no such story; {what}",
                file.display()
            ));
            continue;
        };
        let heard = tell(&query, &told, Run::PLAIN);
        let spread = tell(&query, &told, Run::SPREAD);
        assert_eq!(heard, spread, "{}: workers and chunks show", query.name);
        if heard == told {
            continue;
        }
        if env::var_os("BLESS").is_some() {
            fs::write(&file, heard).expect("the story can be rewritten");
        } else {
            complaints.push(difference(&query.name, &told, &heard));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The queries that have a story. Those of Nexmark have answers of another engine instead.
fn told() -> Vec<Query> {
    let measured: Vec<_> = queries::nexmark::all()
        .into_iter()
        .map(|q| q.name)
        .collect();
    let mut all = queries::all();
    all.retain(|query| !measured.contains(&query.name));
    all
}

#[test]
fn every_story_has_its_query() {
    let names: Vec<String> = told().into_iter().map(|query| query.name).collect();
    for entry in fs::read_dir(stories()).expect("the folder of stories is there") {
        let path = entry.expect("the folder can be read").path();
        if path.extension().is_some_and(|ending| ending == "txt") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            assert!(
                names.contains(&name.to_string()),
                "no query is called '{name}'"
            );
        }
    }
}

#[test]
fn a_difference_is_shown_in_its_place() {
    let said = difference("q", "> in\n+ a 1\n", "> in\n+ a 2\n");
    assert!(said.starts_with("tests/queries/q.txt:2: "), "{said}");
    assert!(
        said.ends_with("    > in\n  told:\n    + a 1\n  heard:\n    + a 2"),
        "{said}"
    );
    assert!(difference("q", "> in\n", "> in\n+ a 2\n").contains("told:\n    (the end)"));
}

#[test]
fn what_was_not_taken_is_saved_too() {
    let catalog = Catalog::of(&queries::all(), &Overrides::default()).unwrap();
    for stream in catalog.stream_names() {
        let store = format!("rejected/{stream}");
        assert!(catalog.boundaries.contains_key(&store), "{store}");
    }
    for query in queries::all() {
        let store = format!("late/{}", query.name);
        assert!(catalog.boundaries.contains_key(&store), "{store}");
    }
}

fn stories() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "queries"]
        .iter()
        .collect()
}

/// The first line that is not as told, in its place.
fn difference(name: &str, told: &str, heard: &str) -> String {
    let (told, heard): (Vec<&str>, Vec<&str>) = (told.lines().collect(), heard.lines().collect());
    let same = told.iter().zip(&heard).take_while(|(a, b)| a == b).count();
    let around = told[same.saturating_sub(3)..same].join("\n    ");
    let line = |lines: &[&str]| lines.get(same).copied().unwrap_or("(the end)").to_owned();
    format!(
        "tests/queries/{name}.txt:{}: the story and the answer differ; if the answer is right, \
         run with BLESS=1 and read the difference\n    {around}\n  told:\n    {}\n  heard:\n    {}",
        same + 1,
        line(&told),
        line(&heard)
    )
}

/// How a story is run; the answer is the same for all.
#[derive(Clone, Copy)]
struct Run {
    workers: usize,
    /// Whether each record is decoded by itself.
    is_split: bool,
}

impl Run {
    const PLAIN: Run = Run {
        workers: 1,
        is_split: false,
    };
    const SPREAD: Run = Run {
        workers: 3,
        is_split: true,
    };
}

/// The story with what the query answers now.
fn tell(query: &Query, story: &str, run: Run) -> String {
    let mut teller = Teller::new(query, story, run);
    let mut lines = Vec::new();
    let mut round = None;
    for line in story.lines().chain([""]) {
        if line.is_empty() {
            lines.extend(round.take().map(|r| teller.step(r)).into_iter().flatten());
            lines.push(String::new());
        } else if let Some(input) = line.strip_prefix("> ") {
            lines.push(line.to_owned());
            if input.starts_with("restart") {
                lines.extend(round.take().map(|r| teller.step(r)).into_iter().flatten());
                lines.extend(teller.restart(input));
            } else {
                round = Some(teller.take(round.unwrap_or_default(), input));
            }
        } else if line.starts_with('#') || line.starts_with("day ") {
            lines.push(line.to_owned());
        }
    }
    format!("{}\n", lines.join("\n").trim_end())
}

/// What is to be seen after an epoch.
#[derive(Default)]
struct Seen {
    rows: BTreeMap<Row, i64>,
    late: BTreeMap<Row, i64>,
    rejected: BTreeMap<Row, i64>,
    watermark: Option<Timestamp>,
}

impl Seen {
    fn is_final(&self, row: &Row) -> bool {
        let reached = |at| self.watermark.is_some_and(|watermark| watermark >= at);
        row.final_at().is_some_and(reached)
    }
}

struct Teller {
    query: Query,
    streams: Vec<String>,
    steps: Steps,
    seen: Seen,
    run: Run,
    /// The day whose times stand without a date.
    day: String,
}

impl Teller {
    fn new(query: &Query, story: &str, run: Run) -> Teller {
        let catalog = Catalog::of(std::slice::from_ref(query), &Overrides::default());
        let catalog = catalog.expect("the query builds");
        let day = story.lines().find_map(|line| line.strip_prefix("day "));
        Teller {
            query: query.clone(),
            streams: catalog.stream_names(),
            steps: Steps::start(vec![query.clone()], run.workers),
            seen: Seen::default(),
            run,
            day: day.expect("a story says its day").to_owned(),
        }
    }

    /// Takes `stream[:partition] [@arrival] [xTIMES] {record}`, `.. appears` or `.. idle`.
    fn take(&self, round: Round, input: &str) -> Round {
        let (place, mut rest) = input
            .split_once(' ')
            .expect("a place, then what happens there");
        let (stream, partition) = place.split_once(':').unwrap_or((place, "0"));
        let partition = partition.parse().expect("a partition is a number");
        match rest {
            "appears" => return round.change(stream, partition, Change::Appeared),
            "idle" => return round.change(stream, partition, Change::Idle),
            _ => {}
        }
        let mut arrival = None;
        if let Some(at) = rest.strip_prefix('@') {
            let (time, after) = at.split_once(' ').expect("a record after its arrival");
            arrival = Timestamp::parse(&format!("{} {time}", self.day));
            rest = after;
        }
        let mut times = 1;
        if let Some((n, after)) = rest.strip_prefix('x').and_then(|n| n.split_once(' ')) {
            (times, rest) = (n.parse().expect("a number of records"), after);
        }
        round.arrived(
            stream,
            partition,
            &format!("{rest}\n").repeat(times),
            arrival,
        )
    }

    /// Runs an epoch; what it changed.
    fn step(&mut self, round: Round) -> Vec<String> {
        let round = if self.run.is_split {
            round.chunks(1)
        } else {
            round
        };
        self.steps.epoch(round);
        self.look()
    }

    /// Starts again from a checkpoint, on another number of workers; what that changed.
    fn restart(&mut self, input: &str) -> Vec<String> {
        let workers = input
            .strip_prefix("restart with ")
            .expect("a number of workers");
        let workers = workers.parse().expect("a number of workers");
        let saved = self.steps.checkpoint();
        self.steps = Steps::restore(vec![self.query.clone()], workers, saved);
        self.look()
    }

    /// What is other than when last looked at: what the records did, the watermark, and what the
    /// watermark did.
    fn look(&mut self) -> Vec<String> {
        let watermarks = self
            .streams
            .iter()
            .map(|stream| self.steps.watermark(stream));
        let rejected = self
            .streams
            .iter()
            .flat_map(|stream| self.steps.rejected(stream));
        let now = Seen {
            rows: self.steps.rows(&self.query.name).into_iter().collect(),
            late: self.steps.late(&self.query.name).into_iter().collect(),
            rejected: rejected.collect(),
            watermark: watermarks.min().flatten(),
        };
        let before = mem::replace(&mut self.seen, now);
        let now = &self.seen;
        let mut lines = Vec::new();
        let refused =
            |lines: &mut Vec<String>, word, now: &BTreeMap<_, _>, before: &BTreeMap<_, _>| {
                let new = now.keys().filter(|row| !before.contains_key(*row));
                lines.extend(new.map(|row| refusal(word, row)));
            };
        refused(&mut lines, "rejected", &now.rejected, &before.rejected);
        refused(&mut lines, "late", &now.late, &before.late);
        let count = |seen: &Seen, row: &Row| seen.rows.get(row).copied().unwrap_or(0);
        for (row, times) in &before.rows {
            if !before.is_final(row) {
                lines.extend(self.row("-", row, times - count(now, row)));
            }
        }
        for (row, times) in &now.rows {
            lines.extend(self.row("+", row, times - count(&before, row)));
        }
        if let Some(time) = now.watermark.filter(|_| now.watermark != before.watermark) {
            lines.push(format!("watermark {}", self.time(time)));
        }
        for (row, times) in &now.rows {
            let is_new = !before.is_final(row) || count(&before, row) == 0;
            lines.extend(self.row(
                "final",
                row,
                if now.is_final(row) && is_new {
                    *times
                } else {
                    0
                },
            ));
        }
        for (row, times) in &before.rows {
            if before.is_final(row) {
                lines.extend(self.row("expired", row, times - count(now, row)));
            }
        }
        lines
    }

    /// A row as `word key value`, `x2` if it occurs twice; none if it does not.
    fn row(&self, word: &str, row: &Row, times: i64) -> Option<String> {
        let key: Value = serde_json::from_str(row.key()).expect("a key is JSON");
        let times = match times {
            ..=0 => return None,
            1 => String::new(),
            n => format!(" x{n}"),
        };
        Some(format!("{word} {} {}{times}", self.part(&key), row.value()))
    }

    /// A key, or a part of one: text without quotes, windows as times.
    fn part(&self, key: &Value) -> String {
        let window = |name| key.get(name).and_then(Value::as_i64).map(Timestamp);
        match (key, window("start"), window("end")) {
            (_, Some(start), Some(end)) => format!("{}..{}", self.time(start), self.time(end)),
            (Value::Array(parts), ..) => {
                let parts: Vec<String> = parts.iter().map(|part| self.part(part)).collect();
                parts.join(" ")
            }
            (Value::String(text), ..) if !text.contains(' ') => text.clone(),
            (other, ..) => other.to_string(),
        }
    }

    /// `10:00:00`, with the date on another day, and milliseconds where there are any.
    fn time(&self, time: Timestamp) -> String {
        let text = time.to_string().replace('T', " ").replace('Z', "");
        let text = text.strip_suffix(".000").unwrap_or(&text);
        let text = text.strip_prefix(&self.day).unwrap_or(text);
        text.trim().replace(' ', "T")
    }
}

/// A late or rejected record, and why, where the word does not say so.
fn refusal(word: &str, row: &Row) -> String {
    let key: Value = serde_json::from_str(row.key()).expect("a key is JSON");
    let value: Value = serde_json::from_str(row.value()).expect("a value is JSON");
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (stream, partition) = (key[0].as_str().unwrap_or_default(), &key[1]);
    let why = match text("reason") {
        reason if reason == word => String::new(),
        reason => format!(": {reason}"),
    };
    format!("{word} {stream}:{partition} {}{why}", text("record"))
}
