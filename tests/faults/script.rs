//! What is done to a service under faults, and what must be true of it afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::images::Image;
use crate::kinds;
use crate::layer::{Call, Layer};
use crate::service::{Client, Launch, Lost, Reply, Service, run};

/// 2022-01-01 10:00:00.
const BASE: i64 = 1_641_031_200_000;
const MINUTE: i64 = 60_000;
const LATENESS: i64 = 5_000;
/// Clicks in a post.
const CLICKS: i64 = 300;
pub const QUERY: &str = "clicks_per_user_tumbling";

/// Something a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Ready,
    Post,
    Read,
    Checkpoint,
}

/// Begins with a post, which makes the first epoch: without one there is nothing to be ready with.
/// Long enough to begin a second segment of the log and to let a checkpoint go.
pub const SCRIPT: [Act; 16] = [
    Act::Post,
    Act::Ready,
    Act::Read,
    Act::Post,
    Act::Checkpoint,
    Act::Post,
    Act::Read,
    Act::Checkpoint,
    Act::Post,
    Act::Checkpoint,
    Act::Read,
    Act::Post,
    Act::Post,
    Act::Read,
    Act::Checkpoint,
    Act::Post,
];

/// A service that does little by itself: what it writes is what the script has it write.
pub fn launch(home: &Path) -> Launch {
    Launch::new(home)
        .args(&["--queries", QUERY, "--workers", "1"])
        .set("SNAPSHOT__INTERVAL", "1h")
        .set("EPOCH__HEARTBEAT_MS", "1000")
        .set("LOG__SEGMENT_BYTES", "65536")
}

/// What a client was told.
#[derive(Clone, Debug)]
pub enum Told {
    Ready,
    /// So many posts are stored.
    Posted(usize),
    /// An answer, by its epoch.
    Shown(u64, Value),
    Checkpoint,
}

/// A client that acts one thing after the other.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    pub told: Vec<Told>,
    pub posted: usize,
    /// Whether the service has a query for each kind of state.
    of_kinds: bool,
    /// Of the last post, one for each stream.
    tokens: Vec<String>,
}

impl Actor {
    /// One of a service with a query for each kind of state.
    pub fn of_kinds() -> Actor {
        Actor {
            of_kinds: true,
            ..Actor::default()
        }
    }

    /// One that has been told this.
    pub fn told(told: &[Told]) -> Actor {
        let posted = told.iter().rev().find_map(|told| match told {
            Told::Posted(count) => Some(*count),
            _ => None,
        });
        Actor {
            told: told.to_vec(),
            posted: posted.unwrap_or(0),
            ..Actor::default()
        }
    }

    /// Acts; an error when the service is gone before the end.
    pub fn play(&mut self, service: &Client, acts: &[Act]) -> Result<(), Lost> {
        for act in acts {
            let reply = self.act(service, *act)?;
            assert_eq!(reply.status, 200, "{act:?}: {}", reply.text());
        }
        Ok(())
    }

    /// Does one thing and takes in what it is told, if that is a yes.
    pub fn act(&mut self, service: &Client, act: Act) -> Result<Reply, Lost> {
        let reply = match act {
            Act::Ready => loop {
                let reply = service.try_get("/readyz")?;
                if reply.status == 200 {
                    break reply;
                }
                std::thread::yield_now();
            },
            Act::Post => self.post(service, self.posted)?,
            Act::Read => self.read(service)?,
            Act::Checkpoint => service.try_command("/v1/checkpoints")?,
        };
        if reply.status == 200 {
            self.told.push(match act {
                Act::Ready => Told::Ready,
                Act::Post => {
                    self.posted += 1;
                    Told::Posted(self.posted)
                }
                Act::Read => {
                    let answer = reply.json();
                    let rows = if self.of_kinds {
                        &answer["queries"][QUERY]["rows"]
                    } else {
                        &answer["rows"]
                    };
                    assert_eq!(*rows, expected(self.posted), "{act:?}");
                    Told::Shown(answer["as_of"].as_u64().expect("an epoch"), answer)
                }
                Act::Checkpoint => Told::Checkpoint,
            });
        }
        Ok(reply)
    }

    /// Checks everything that the client may rely on, after whatever happened to the service. What
    /// was shown is shown again where power was not lost.
    pub fn check(&mut self, service: &Client, lost_power: bool) {
        let mut act = |act| {
            let reply = self.act(service, act).expect("nobody kills it now");
            assert_eq!(reply.status, 200, "{}", reply.text());
        };
        // The post whose answer was lost may be there, and counts once.
        [Act::Post, Act::Ready, Act::Read]
            .into_iter()
            .for_each(&mut act);
        let shown = self.told.iter().rev().skip(1).find_map(|told| match told {
            Told::Shown(epoch, answer) if !lost_power => Some((epoch, answer)),
            _ => None,
        });
        if let Some((epoch, answer)) = shown {
            let again = service.get(&self.address(10_000, &format!("at={epoch}")));
            // Where a checkpoint is newer, views begin with it.
            if again.status != 410 {
                let (again, answer) = (again.ok(), unmarked(answer.clone()));
                assert_eq!(unmarked(again), answer, "as of {epoch}");
            }
        }
        // Any post that was acknowledged is there, and counts once.
        for number in 0..self.posted {
            let reply = self.post(service, number).expect("nobody kills it now");
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        let reply = self.act(service, Act::Read).expect("nobody kills it now");
        assert_eq!(reply.status, 200, "{}", reply.text());
        if self.of_kinds {
            kinds::check(service, self.posted);
        }
    }

    /// Posts to each stream what that post holds; the answer is the last one, or the first no.
    fn post(&mut self, service: &Client, number: usize) -> Result<Reply, Lost> {
        let others = self.of_kinds.then(|| kinds::lines(number));
        let mut tokens = Vec::new();
        for (stream, lines) in others.iter().flatten() {
            let reply = service.try_post(stream, Some(&key(number)), lines)?;
            if reply.status != 200 {
                return Ok(reply);
            }
            tokens.push(token(&reply));
        }
        let reply = post(service, number)?;
        if reply.status == 200 {
            tokens.push(token(&reply));
            self.tokens = tokens;
        }
        Ok(reply)
    }

    /// Reads what includes the last post.
    fn read(&self, service: &Client) -> Result<Reply, Lost> {
        let (last, others) = self.tokens.split_last().expect("something was posted");
        for token in others {
            let reply = service.try_get(&self.address(1, &format!("after={token}")))?;
            if reply.status != 200 {
                return Ok(reply);
            }
        }
        service.try_get(&self.address(10_000, &format!("after={last}")))
    }

    /// Where all there is is read at one epoch.
    fn address(&self, limit: usize, at: &str) -> String {
        if self.of_kinds {
            let queries = kinds::KINDS.join(",");
            return format!("/v1/snapshot?queries={queries}&limit={limit}&{at}");
        }
        format!("/v1/queries/{QUERY}?limit={limit}&{at}")
    }
}

/// An answer without what says how old it was when it was read.
fn unmarked(mut answer: Value) -> Value {
    let unmark = |answer: &mut Value| {
        if let Some(labels) = answer.as_object_mut() {
            labels.retain(|label, _| label != "stale" && label != "age_ms");
        }
    };
    unmark(&mut answer);
    if let Some(queries) = answer["queries"].as_object_mut() {
        queries.values_mut().for_each(unmark);
    }
    answer
}

fn key(number: usize) -> String {
    format!("post-{number}")
}

pub fn token(reply: &Reply) -> String {
    let token = reply.json()["token"].clone();
    token.as_str().expect("a token").to_owned()
}

/// Posts what that post holds; when it was stored before, that is what it is told.
pub fn post(service: &Client, number: usize) -> Result<Reply, Lost> {
    service.try_post("clicks", Some(&key(number)), &lines(number))
}

fn clicks(number: usize) -> impl Iterator<Item = (String, i64)> {
    let begin = BASE + i64::try_from(number).expect("it is small") * MINUTE;
    (0..CLICKS).map(move |n| (format!("u{}", n % 7), begin + n * 150))
}

/// The clicks of a post, one a line.
pub fn lines(number: usize) -> String {
    let line = |(user, time)| json!({"user_id": user, "click_time": time}).to_string();
    clicks(number).map(line).collect::<Vec<_>>().join("\n")
}

/// The naive batch run over the first posts.
pub fn expected(posts: usize) -> Value {
    let (mut counts, mut newest) = (BTreeMap::<(String, i64), u64>::new(), i64::MIN);
    for (user, time) in (0..posts).flat_map(clicks) {
        *counts
            .entry((user, time.div_euclid(5 * MINUTE) * 5 * MINUTE))
            .or_default() += 1;
        newest = newest.max(time);
    }
    let row = |((user, start), count): (&(String, i64), &u64)| {
        let end = start + 5 * MINUTE;
        let is_final = newest - LATENESS >= end - 1;
        json!({"key": [user, {"start": start, "end": end}], "value": count, "final": is_final})
    };
    counts.iter().map(row).collect()
}

/// Rows that a command wrote, one a line.
pub fn plain_rows(text: &[u8]) -> Value {
    let lines = std::str::from_utf8(text).expect("JSON is UTF-8").lines();
    lines
        .map(|line| serde_json::from_str::<Value>(line).expect("a row"))
        .collect()
}

/// Starts a service on what is there, checks everything, and stops it.
pub fn recover(launch: &Launch, actor: &mut Actor, lost_power: bool) {
    let service: Service = launch.start();
    actor.check(&service, lost_power);
    service.kill();
}

/// A run of the whole script, down to a clean stop.
pub struct Recording {
    pub calls: Vec<Call>,
    /// What the client was told: one for each answer among the calls.
    pub told: Vec<Told>,
    /// The data directory afterwards.
    pub left: Image,
}

impl Recording {
    /// The same run for all tests.
    pub fn get() -> &'static Recording {
        static RECORDING: OnceLock<Recording> = OnceLock::new();
        RECORDING.get_or_init(|| {
            let home = tempfile::tempdir().expect("a place for the test");
            let layer = Layer::new(home.path());
            let launch = layer.under(&launch(home.path()));
            let (service, mut actor) = (launch.start(), Actor::default());
            actor.play(&service, &SCRIPT).expect("nobody kills it");
            assert!(service.stop().success());
            Recording {
                calls: layer.calls(),
                told: actor.told,
                left: Image::of(&launch.data_dir()),
            }
        })
    }
}

/// Does something with each, a few at a time: much of it is waiting for the disk.
pub fn each<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(one);
                }
            });
        }
    });
}

#[test]
fn the_naive_batch_run_agrees_with_replay() {
    let home = tempfile::tempdir().expect("a place for the test");
    let file = home.path().join("clicks.ndjson");
    for posts in [1, 7] {
        let all: Vec<String> = (0..posts).map(lines).collect();
        std::fs::write(&file, all.join("\n")).expect("the test's directory takes files");
        let stream = format!("clicks={}", file.display());
        let output = run(&["replay", "--stream", &stream, "--query", QUERY]);
        let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        let rows = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a row"));
        // At the end of all input every window is final.
        let plain = |row: &Value| (row["key"].clone(), row["value"].clone());
        let replayed: Vec<_> = rows.map(|row| plain(&row)).collect();
        let naive = expected(posts);
        let naive: Vec<_> = naive
            .as_array()
            .expect("a list")
            .iter()
            .map(plain)
            .collect();
        assert_eq!(replayed, naive);
    }
}
