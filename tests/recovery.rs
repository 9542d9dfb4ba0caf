//! Nothing acknowledged is lost and nothing counts twice, whenever the process is killed; and what
//! had been shown is shown again, to the byte.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

use service::{Client, Launch, Lost, Service, until};
use workload::{Expected, Post, Posted, Poster, begin_of, watermark_of};

#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/service.rs"]
mod service;
#[path = "recovery/workload.rs"]
mod workload;

const KILLS: usize = 20;
const POSTERS: usize = 3;

/// What readers read all the time.
const PULLS: [&str; 5] = [
    "/v1/queries/clicks_per_user?limit=10000",
    "/v1/queries/clicks_per_user_tumbling?limit=10000",
    "/v1/queries/clicks_per_country?limit=10000",
    "/v1/queries/clicks_per_user/late?limit=10000",
    "/v1/streams/clicks/rejected?limit=10000",
];

/// How many of the newest answers are read again after a kill.
const READ_AGAIN: usize = 3 * PULLS.len();

fn launch(home: &Path, workers: usize) -> Launch {
    Launch::new(home)
        .args(&["--workers", &workers.to_string()])
        .args(&[
            "--queries",
            "clicks_per_user,clicks_per_user_tumbling,clicks_per_country",
        ])
        .set("SNAPSHOT__INTERVAL", "300ms")
        .set("EPOCH__HEARTBEAT_MS", "20")
        .set("LOG__SEGMENT_BYTES", "65536")
}

/// An answer that was shown.
struct Shown {
    path: &'static str,
    as_of: u64,
    bytes: Vec<u8>,
}

fn as_of(answer: &Value) -> u64 {
    answer["as_of"].as_u64().expect("an epoch")
}

/// What the test knows over all restarts.
struct Witness {
    posters: Vec<Poster>,
    posted: Posted,
    step: i64,
    /// Tokens, each with the number of lines it stands for at least.
    tokens: Vec<(String, usize)>,
    /// The newest answers.
    shown: VecDeque<Shown>,
    highest: u64,
    /// Kills after which an answer was read again.
    compared: usize,
    gone: usize,
    from_checkpoint: usize,
}

impl Witness {
    fn new() -> Witness {
        Witness {
            posters: (0..POSTERS).map(Poster::new).collect(),
            posted: Posted::default(),
            step: 0,
            tokens: Vec::new(),
            shown: VecDeque::new(),
            highest: 0,
            compared: 0,
            gone: 0,
            from_checkpoint: 0,
        }
    }

    /// Checks all that was promised before the service died.
    fn after_restart(&mut self, service: &Client) {
        // Posts are taken before the service can be read.
        for poster in &mut self.posters {
            if poster.open.is_some() {
                poster
                    .post(service, self.step)
                    .expect("nobody kills it now");
            }
        }
        service.wait_ready();
        let newest = as_of(&service.get(PULLS[0]).ok());
        assert!(
            newest >= self.highest,
            "{newest} was shown after {}",
            self.highest
        );
        self.highest = newest;
        self.from_checkpoint += usize::from(
            !service.get("/v1/checkpoints").ok()["checkpoints"]
                .as_array()
                .expect("a list")
                .is_empty(),
        );
        self.read_again(service);
        for (token, lines) in &self.tokens {
            let answer = service.get(&format!("{}&after={token}", PULLS[0])).ok();
            assert!(position(&answer) >= *lines, "{lines} {answer}");
        }
        self.step(service);
        self.compare(service);
    }

    fn read_again(&mut self, service: &Client) {
        let mut same = 0;
        for shown in &self.shown {
            let now = service.get(&format!("{}&at={}", shown.path, shown.as_of));
            match now.status {
                410 => self.gone += 1,
                _ => {
                    let before = String::from_utf8_lossy(&shown.bytes);
                    assert_eq!(now.text(), before, "{} {}", now.status, shown.path);
                    same += 1;
                }
            }
        }
        self.compared += usize::from(same > 0);
    }

    /// Moves time on: the clicks' watermark, the users', and one user to another country.
    fn step(&mut self, service: &Client) {
        for poster in &mut self.posters {
            for post in poster.acknowledged.drain(..) {
                self.posted.add(&post);
            }
        }
        self.step += 1;
        let begin = begin_of(self.step);
        let user = format!("u{}", self.step % 7);
        let country = format!("c{}", self.step % 4);
        let time = begin + 3_999;
        let lines = [
            (user, begin, country),
            ("pace".to_owned(), time, "pace".to_owned()),
        ];
        let line = |(user, at, country): &(String, i64, String)| {
            serde_json::json!({"user_id": user, "updated_at": at, "country": country}).to_string()
        };
        service.token_of("users", &lines.each_ref().map(line).join("\n"));
        self.posted.moves.extend(lines);
        let pace = Post::pace(self.step);
        let token = pace.send(service).expect("nobody kills it now");
        self.posted.add(&pace);
        self.tokens.push((token, self.posted.lines()));
    }

    /// Compares everything with a batch run, at rest.
    fn compare(&self, service: &Client) {
        let now = watermark_of(self.step);
        let (token, lines) = self.tokens.last().expect("a step was made");
        let expected = [
            ("clicks_per_user", self.posted.per_user(120_000, now)),
            (
                "clicks_per_user_tumbling",
                self.posted.per_user(300_000, now),
            ),
            ("clicks_per_country", self.posted.per_country(now)),
        ];
        for (query, Expected { rows, late }) in expected {
            // The users' watermark may be behind by an epoch.
            let answer = until("both watermarks", || {
                let path = format!("/v1/queries/{query}?limit=10000&after={token}");
                let answer = service.get(&path).ok();
                (answer["complete_through"] == now).then_some(answer)
            });
            assert_eq!(position(&answer), *lines);
            assert_eq!(answer["rows"], Value::from(rows), "{query}");
            let listed = service
                .get(&format!("/v1/queries/{query}/late?limit=10000"))
                .ok();
            if query != "clicks_per_country" {
                assert_eq!(records(&listed), late, "{query}");
            }
            assert_eq!(service.query(query)["late"], late.len(), "{query}");
        }
        let listed = service.get(PULLS[4]).ok();
        let mut bad = self.posted.bad.clone();
        bad.sort();
        assert_eq!(records(&listed), bad);
        assert_eq!(service.stream("clicks")["rejected"], bad.len());
    }

    /// Posts and reads until the service dies; the number of posts that were acknowledged.
    fn load_until_killed(&mut self, service: Service, when: When, data: &Path) -> usize {
        let (sender, acknowledged) = channel();
        let step = self.step;
        let (posters, shown, highest) = (&mut self.posters, &mut self.shown, &mut self.highest);
        std::thread::scope(|scope| {
            for poster in posters {
                let (client, sender) = (Client::clone(&service), sender.clone());
                scope.spawn(move || {
                    while poster.post(&client, step).is_ok() {
                        let _ = sender.send(());
                    }
                });
            }
            drop(sender);
            let client = Client::clone(&service);
            scope.spawn(move || while read(&client, shown, highest).is_ok() {});
            let mut count = when.wait(data, &acknowledged);
            service.kill();
            count += acknowledged.iter().count();
            count
        })
    }
}

fn read(client: &Client, shown: &mut VecDeque<Shown>, highest: &mut u64) -> Result<(), Lost> {
    for path in PULLS {
        let reply = client.try_get(path)?;
        let as_of = as_of(&reply.ok());
        assert!(as_of >= *highest, "{as_of} was shown after {highest}");
        *highest = as_of;
        shown.push_back(Shown {
            path,
            as_of,
            bytes: reply.bytes,
        });
        while shown.len() > READ_AGAIN {
            shown.pop_front();
        }
    }
    Ok(())
}

fn position(answer: &Value) -> usize {
    let position = answer["positions"]["clicks"]["0"].as_u64();
    usize::try_from(position.unwrap_or(0)).expect("it is small")
}

/// The records of a list, as they were posted.
fn records(listed: &Value) -> Vec<String> {
    let rows = listed["rows"].as_array().expect("a list");
    let text = |row: &Value| {
        assert!(row["value"]["reason"].is_string(), "{row}");
        row["value"]["record"]
            .as_str()
            .expect("a record")
            .to_owned()
    };
    let mut records: Vec<String> = rows.iter().map(text).collect();
    records.sort();
    records
}

/// The moment of a kill.
#[derive(Clone, Copy, Debug)]
enum When {
    /// After so many posts were acknowledged.
    Acknowledged(usize),
    /// When a checkpoint has written its first segment.
    Segment,
    /// When a checkpoint was just published.
    Manifest,
    /// When the journal goes on in a new file.
    Journal,
}

impl When {
    fn of(round: usize) -> When {
        match round % 5 {
            0 => When::Acknowledged(10 + round * 7),
            1 => When::Segment,
            2 => When::Manifest,
            3 => When::Journal,
            _ => When::Acknowledged(1 + round % 3),
        }
    }

    /// Waits for it; the number of posts acknowledged meanwhile.
    fn wait(self, data: &Path, acknowledged: &Receiver<()>) -> usize {
        let before = (newest(data, "checkpoints"), newest(data, "journal"));
        let mut count = 0;
        until("the moment to kill", || {
            match acknowledged.recv_timeout(Duration::from_millis(1)) {
                Ok(()) => count += 1,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("it died by itself"),
            }
            let is_now = count > 0
                && match self {
                    When::Acknowledged(posts) => count >= posts,
                    When::Segment => newest(data, "checkpoints/segments")[..20] > before.0[..20],
                    When::Manifest => newest(data, "checkpoints") > before.0,
                    When::Journal => newest(data, "journal") > before.1,
                };
            is_now.then_some(())
        });
        count
    }
}

/// The last name of a directory of files that are named after epochs.
fn newest(data: &Path, directory: &str) -> String {
    let entries = fs::read_dir(data.join(directory))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let finished = names.filter(|name| !name.ends_with(".tmp") && name.starts_with('0'));
    finished.max().unwrap_or_else(|| "0".repeat(20))
}

/// Kills a service that has hardly begun; how far it may get depends on the round.
fn kill_while_starting(launch: &Launch, round: usize) {
    let starting = launch.spawn();
    match round % 3 {
        0 => {
            let owner = format!("process {}\n", starting.id());
            let lock = launch.data_dir().join("lock");
            until("it to own its data", || {
                (fs::read_to_string(&lock).ok()? == owner).then_some(())
            });
            starting.kill();
        }
        1 => starting.ready_for_requests().kill(),
        _ => {
            let service = starting.ready_for_requests();
            service.get("/healthz").ok();
            service.kill();
        }
    }
}

#[test]
fn killed_twenty_times_under_load_it_loses_and_repeats_nothing() {
    let home = tempfile::tempdir().expect("a place for the test");
    let mut witness = Witness::new();
    let (mut kills, mut starting) = (0, 0);
    for round in 0..KILLS {
        let launch = launch(home.path(), round % 3 + 1);
        if round % 2 == 1 {
            kill_while_starting(&launch, starting);
            starting += 1;
        }
        let service = launch.start();
        witness.after_restart(&service);
        let when = When::of(round);
        let acknowledged = witness.load_until_killed(service, when, &launch.data_dir());
        assert!(
            acknowledged > 0,
            "nothing was posted before the kill of round {round}"
        );
        kills += 1;
    }
    let service = launch(home.path(), 2).start();
    witness.after_restart(&service);
    assert!(service.stop().success(), "it was asked to stop");
    let service = launch(home.path(), 3).start();
    witness.after_restart(&service);
    eprintln!(
        "{} kills, {} compared, {} gone, {} from checkpoint, {} lines",
        kills,
        witness.compared,
        witness.gone,
        witness.from_checkpoint,
        witness.posted.lines()
    );
    assert_eq!((kills, starting), (KILLS, KILLS / 2));
    assert!(
        witness.compared >= KILLS * 3 / 4,
        "only {} kills were compared",
        witness.compared
    );
    assert!(
        witness.from_checkpoint >= KILLS * 3 / 4,
        "{}",
        witness.from_checkpoint
    );
}
