//! What was posted and what was shown, over all restarts, and the checks after each.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::service::{Client, Lost, Service, until};
use crate::workload::{Expected, PACE, Post, Posted, Poster, begin_of, watermark_of};

const POSTERS: usize = 3;

/// What readers read all the time.
const PULLS: [&str; 6] = [
    "/v1/queries/clicks_per_user?limit=10000",
    "/v1/queries/clicks_per_user_tumbling?limit=10000",
    "/v1/queries/clicks_per_country?limit=10000",
    "/v1/queries/clicks_per_user/late?limit=10000",
    "/v1/queries/clicks_per_country/late?limit=10000",
    "/v1/streams/clicks/rejected?limit=10000",
];

/// How many of the newest answers are read again after a restart.
const READ_AGAIN: usize = 4 * PULLS.len();

/// An answer that was shown.
struct Shown {
    path: &'static str,
    as_of: u64,
    bytes: Vec<u8>,
    /// By which process, counted from the first.
    life: usize,
}

/// What the test knows over all restarts.
#[derive(Default)]
pub struct Witness {
    posters: Vec<Poster>,
    posted: Posted,
    step: i64,
    /// Tokens, each with the number of lines it stands for.
    tokens: Vec<(String, usize)>,
    /// The newest answers.
    shown: VecDeque<Shown>,
    /// The newest epoch that anybody saw.
    highest: u64,
    life: usize,
    /// Restarts after which an answer of the process before was read again.
    pub compared: usize,
    /// Restarts that began with a checkpoint and read at least one epoch of the journal.
    pub replayed: usize,
}

impl Witness {
    pub fn new() -> Witness {
        Witness {
            posters: (0..POSTERS).map(Poster::new).collect(),
            ..Witness::default()
        }
    }

    /// The number of lines that were acknowledged and compared.
    pub fn lines(&self) -> usize {
        self.posted.lines()
    }

    /// Checks all that was promised before the process ended.
    pub fn after_restart(&mut self, service: &Client) {
        // Posts are taken before the service can be read.
        for poster in &mut self.posters {
            if poster.open.is_some() {
                let repeated = poster.post(service, self.step);
                repeated.expect("nobody kills it now");
            }
        }
        service.wait_ready();
        let newest = as_of(&service.get(PULLS[0]).ok());
        let before = std::mem::replace(&mut self.highest, newest);
        assert!(newest >= before, "{newest} is shown after {before}");
        let since = service.query("clicks_per_user")["since"].clone();
        let checkpoints = service.get("/v1/checkpoints").ok()["checkpoints"].clone();
        self.replayed += usize::from(since == checkpoints[0]["epoch"] && since != newest);
        self.read_again(service);
        for (token, lines) in &self.tokens {
            let answer = service.get(&format!("{}&after={token}", PULLS[0])).ok();
            assert!(position(&answer) >= *lines, "{lines} {answer}");
        }
        self.step(service);
        self.compare(service);
        self.life += 1;
    }

    fn read_again(&mut self, service: &Client) {
        let mut same = 0;
        for shown in &self.shown {
            let now = service.get(&format!("{}&at={}", shown.path, shown.as_of));
            if now.status == 410 {
                // A checkpoint was published that is newer than this answer.
                continue;
            }
            let before = String::from_utf8_lossy(&shown.bytes);
            assert_eq!(now.text(), before, "{} {}", now.status, shown.path);
            same += usize::from(shown.life == self.life);
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
        let (user, country) = (self.step % 7, self.step % 4);
        let moves = [
            (format!("u{user}"), begin, format!("c{country}")),
            ("pace".to_owned(), begin + PACE, "pace".to_owned()),
        ];
        let line = |(user, at, country): &(String, i64, String)| {
            json!({"user_id": user, "updated_at": at, "country": country}).to_string()
        };
        service.token_of("users", &moves.each_ref().map(line).join("\n"));
        self.posted.moves.extend(moves);
        let pace = Post::pace(self.step);
        let token = pace.send(service).expect("nobody kills it now");
        self.posted.add(&pace);
        self.tokens.push((token, self.posted.lines()));
    }

    /// Compares everything with a batch run, at rest.
    fn compare(&self, service: &Client) {
        let now = watermark_of(self.step);
        let (token, lines) = self.tokens.last().expect("a step was made");
        let tumbling = self.posted.per_user(300_000, now);
        let expected = [
            ("clicks_per_user", self.posted.per_user(120_000, now)),
            ("clicks_per_user_tumbling", tumbling),
            ("clicks_per_country", self.posted.per_country(now)),
        ];
        for (query, Expected { rows, late }) in expected {
            // The users' watermark may be an epoch behind the clicks'.
            let answer = until("both watermarks", || {
                let path = format!("/v1/queries/{query}?limit=10000&after={token}");
                let answer = service.get(&path).ok();
                (answer["complete_through"] == now).then_some(answer)
            });
            assert_eq!(position(&answer), *lines);
            assert_eq!(answer["rows"], Value::from(rows), "{query}");
            let listed = service.get(&format!("/v1/queries/{query}/late?limit=10000"));
            assert_eq!(records(&listed.ok()), late, "{query}");
            assert_eq!(service.query(query)["late"], late.len(), "{query}");
        }
        let mut bad = self.posted.bad.clone();
        bad.sort();
        let listed = service.get("/v1/streams/clicks/rejected?limit=10000");
        assert_eq!(records(&listed.ok()), bad);
        assert_eq!(service.stream("clicks")["rejected"], bad.len());
    }

    /// Posts and reads while `end` makes an end of the service; it is told of each acknowledged
    /// post. Returns how many posts were acknowledged.
    pub fn load_until(
        &mut self,
        service: Service,
        end: impl FnOnce(Service, &Receiver<()>) -> usize,
    ) -> usize {
        let (sender, acknowledged) = channel();
        let (step, life) = (self.step, self.life);
        let (posters, shown, highest) = (&mut self.posters, &mut self.shown, &mut self.highest);
        std::thread::scope(|scope| {
            for poster in posters {
                let (client, sender) = (Client::clone(&service), sender.clone());
                scope.spawn(move || {
                    while poster.post(&client, step).is_ok() {
                        // Once the end has begun nobody counts one by one.
                        let _ = sender.send(());
                    }
                });
            }
            drop(sender);
            let client = Client::clone(&service);
            scope.spawn(move || while read(&client, life, shown, highest).is_ok() {});
            end(service, &acknowledged) + acknowledged.iter().count()
        })
    }
}

fn read(
    client: &Client,
    life: usize,
    shown: &mut VecDeque<Shown>,
    highest: &mut u64,
) -> Result<(), Lost> {
    for path in PULLS {
        let reply = client.try_get(path)?;
        let answer = reply.ok();
        let as_of = as_of(&answer);
        assert!(as_of >= *highest, "{as_of} is shown after {highest}");
        *highest = as_of;
        if answer["stale"] == true {
            // On a machine that is busy elsewhere; that says when it was read, not what.
            continue;
        }
        shown.push_back(Shown {
            path,
            as_of,
            bytes: reply.bytes,
            life,
        });
        if shown.len() > READ_AGAIN {
            shown.pop_front();
        }
    }
    Ok(())
}

/// The epoch of an answer.
pub fn as_of(answer: &Value) -> u64 {
    answer["as_of"].as_u64().expect("an epoch")
}

fn position(answer: &Value) -> usize {
    let position = answer["positions"]["clicks"]["0"].as_u64();
    usize::try_from(position.unwrap_or(0)).expect("it is small")
}

/// The records of a list, as they were posted.
fn records(listed: &Value) -> Vec<String> {
    let text = |row: &Value| {
        assert!(row["value"]["reason"].is_string(), "{row}");
        let record = row["value"]["record"].as_str();
        record.expect("a record").to_owned()
    };
    let rows = listed["rows"].as_array().expect("a list");
    let mut records: Vec<String> = rows.iter().map(text).collect();
    records.sort();
    records
}
