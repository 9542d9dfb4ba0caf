//! What is posted while the service is killed, and what a batch run over it answers.
//!
//! Time goes in steps. Within a step one record, posted alone and first, sets the watermark, and no
//! other record moves it: so the lateness of each record is known although many clients post at
//! once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::service::{Client, Lost, Random};

/// 2022-01-01 10:00:00.
const BASE: i64 = 1_641_031_200_000;
const STEP: i64 = 97_000;
/// The newest time of a step, after its begin.
pub const PACE: i64 = 3_999;
const LATENESS: i64 = 5_000;
const MINUTE: i64 = 60_000;

pub fn begin_of(step: i64) -> i64 {
    BASE + step * STEP
}

/// The watermark of both streams after the step's first record.
pub fn watermark_of(step: i64) -> i64 {
    begin_of(step) + PACE - LATENESS
}

/// A click as it was posted, and the watermark it met.
#[derive(Clone, Debug)]
pub struct Click {
    met: i64,
    user: String,
    time: i64,
}

impl Click {
    fn line(&self) -> String {
        json!({"user_id": self.user, "click_time": self.time}).to_string()
    }
}

/// A post that is repeated under its key until it is acknowledged.
#[derive(Clone, Debug)]
pub struct Post {
    key: String,
    clicks: Vec<Click>,
    /// Lines that are no clicks.
    bad: Vec<String>,
}

impl Post {
    /// The record that sets a step's watermark.
    pub fn pace(step: i64) -> Post {
        let click = Click {
            met: watermark_of(step - 1),
            user: "pace".to_owned(),
            time: begin_of(step) + PACE,
        };
        Post {
            key: format!("pace-{step}"),
            clicks: vec![click],
            bad: Vec::new(),
        }
    }

    fn random(key: String, step: i64, random: &mut Random) -> Post {
        let mut below = |bound: i64| {
            let bound = u64::try_from(bound).expect("bounds are positive");
            i64::try_from(random.below(bound)).expect("it is below one")
        };
        let clicks = (0..=below(4)).map(|_| {
            let time = match below(20) {
                // Late for some of its windows, for all, or for none.
                0..=2 => begin_of(step) - below(400_000),
                3 => begin_of(step) - 20 * MINUTE,
                _ => begin_of(step) + below(PACE),
            };
            Click {
                met: watermark_of(step),
                user: format!("u{}", below(20)),
                time,
            }
        });
        let clicks = clicks.collect();
        let bad = match below(10) {
            0 => vec![json!({"user_id": format!("bad {key}")}).to_string()],
            _ => Vec::new(),
        };
        Post { key, clicks, bad }
    }

    /// Posts it, and checks what is answered.
    pub fn send(&self, service: &Client) -> Result<String, Lost> {
        let lines: Vec<String> = self.clicks.iter().map(Click::line).collect();
        let body = [lines, self.bad.clone()].concat().join("\n");
        let reply = service.try_post("clicks", Some(&self.key), &body)?;
        if reply.status == 503 {
            reply.problem(503);
            // It is stopping, and has not taken the post.
            return Err(Lost);
        }
        let answer = reply.ok();
        assert_eq!(answer["accepted"], self.clicks.len(), "{answer}");
        let rejected = answer["rejected"].as_array().expect("a list");
        assert_eq!(rejected.len(), self.bad.len(), "{answer}");
        Ok(answer["token"].as_str().expect("a token").to_owned())
    }
}

/// One that posts, a batch at a time; what was lost in a kill it repeats.
pub struct Poster {
    name: usize,
    count: usize,
    random: Random,
    /// Sent, and not known to be stored.
    pub open: Option<Post>,
    pub acknowledged: Vec<Post>,
    pub token: Option<String>,
}

impl Poster {
    pub fn new(name: usize) -> Poster {
        Poster {
            name,
            count: 0,
            random: Random(name as u64),
            open: None,
            acknowledged: Vec::new(),
            token: None,
        }
    }

    /// Posts the next batch, or the one whose answer was lost.
    pub fn post(&mut self, service: &Client, step: i64) -> Result<(), Lost> {
        let post = self.open.take().unwrap_or_else(|| {
            self.count += 1;
            let key = format!("{}-{}", self.name, self.count);
            Post::random(key, step, &mut self.random)
        });
        let token = post.send(service);
        if token.is_err() {
            self.open = Some(post);
        } else {
            self.acknowledged.push(post);
        }
        self.token = Some(token?);
        if self.random.below(8) == 0 {
            self.repeat(service)?;
        }
        Ok(())
    }

    /// Posts an acknowledged batch once more: nothing of it may count again.
    fn repeat(&mut self, service: &Client) -> Result<(), Lost> {
        let at = self.random.below(self.acknowledged.len() as u64);
        let at = usize::try_from(at).expect("it is an index");
        self.acknowledged[at].send(service).map(|_| ())
    }
}

/// Who lives where from when on: (user, from, country).
pub type Moves = Vec<(String, i64, String)>;

/// Everything that was posted.
#[derive(Default)]
pub struct Posted {
    pub clicks: Vec<Click>,
    pub bad: Vec<String>,
    pub moves: Moves,
}

/// What a query must answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    pub rows: Vec<Value>,
    /// The records that are late for all windows.
    pub late: Vec<String>,
}

impl Posted {
    pub fn add(&mut self, post: &Post) {
        self.clicks.extend(post.clicks.iter().cloned());
        self.bad.extend(post.bad.iter().cloned());
    }

    pub fn lines(&self) -> usize {
        self.clicks.len() + self.bad.len()
    }

    /// Clicks by user, over windows of five minutes.
    pub fn per_user(&self, every: i64, now: i64) -> Expected {
        recompute(&self.clicks, every, now, |click| Some(click.user.clone()))
    }

    /// Clicks by the country the user was in. A click waits until nobody can have moved before it.
    pub fn per_country(&self, now: i64) -> Expected {
        recompute(&self.clicks, 5 * MINUTE, now, |click| {
            let of_user = self.moves.iter().filter(|(user, ..)| *user == click.user);
            let before = of_user.filter(|(_, from, _)| *from <= click.time);
            let country = before.max_by_key(|(_, from, _)| *from);
            let country = country.map_or("unknown".to_owned(), |(.., country)| country.clone());
            (click.time <= now).then_some(country)
        })
    }
}

/// The naive batch run: each click into each of its windows that had not closed before it.
fn recompute(
    clicks: &[Click],
    every: i64,
    now: i64,
    key: impl Fn(&Click) -> Option<String>,
) -> Expected {
    let mut counts: BTreeMap<(String, i64), u64> = BTreeMap::new();
    let mut late = Vec::new();
    for click in clicks {
        let newest = click.time.div_euclid(every) * every;
        let starts = (0..).map(|n| newest - n * every);
        let windows = starts.take_while(|start| start + 5 * MINUTE > click.time);
        let mut open = windows
            .filter(|start| click.met < start + 5 * MINUTE - 1)
            .peekable();
        let Some(key) = key(click) else { continue };
        if open.peek().is_none() {
            late.push(click.line());
        }
        open.for_each(|start| *counts.entry((key.clone(), start)).or_default() += 1);
    }
    late.sort();
    let row = |((key, start), count): (&(String, i64), &u64)| {
        let end = start + 5 * MINUTE;
        json!({"key": [key, {"start": start, "end": end}], "value": count, "final": now >= end - 1})
    };
    Expected {
        rows: counts.iter().map(row).collect(),
        late,
    }
}
