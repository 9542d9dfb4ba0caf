//! The demo's generator: posts visits at a steady rate, one small post at a time.
//!
//! It waits for each answer before it posts again, so a slow log slows it; what it could not post
//! in time it leaves out instead of making up for it in a burst.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Clock;
pub use super::visits::{Visit, visit};
use crate::view::{Ingest, IngestError, PostAnswer, PostRequest};

/// How often it posts.
const TICK: Duration = Duration::from_millis(50);
/// How long after a refused post it tries again: the first time, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The most records of one post.
const MAX_BATCH: u64 = 10_000;

/// What is generated.
#[derive(Clone, Debug)]
pub struct GeneratorOptions {
    /// The stream posted to.
    pub stream: String,
    /// Decides which visits they are.
    pub seed: u64,
    /// Records per second; 0 posts nothing.
    pub rate: u32,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        GeneratorOptions {
            stream: "visits".to_string(),
            seed: 1,
            rate: 200,
        }
    }
}

/// A running generator. Dropping it stops it.
pub struct Generator {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Generator {
    /// Starts posting. It goes on with the visit after those that the stream holds, and stops
    /// when `stop` is set or the log stops.
    pub fn start(
        options: GeneratorOptions,
        ingest: Arc<dyn Ingest>,
        clock: Clock,
        stop: Arc<AtomicBool>,
    ) -> std::io::Result<Generator> {
        let flag = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("generator".to_string())
            .spawn(move || {
                Run {
                    options,
                    ingest,
                    clock,
                    stop: flag,
                }
                .run();
            })?;
        Ok(Generator {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the generator had panicked");
            }
        }
    }
}

struct Run {
    options: GeneratorOptions,
    ingest: Arc<dyn Ingest>,
    clock: Clock,
    stop: Arc<AtomicBool>,
}

impl Run {
    #[allow(
        clippy::disallowed_methods,
        reason = "the pace of the demo is a matter of elapsed time"
    )]
    fn run(&self) {
        let start = Instant::now();
        let mut pace = Pace::new(self.options.rate);
        let mut next = self.ingest.end(&self.options.stream).unwrap_or(0);
        let mut pause = FIRST_PAUSE;
        while !self.is_stopped() {
            let due = pace.due(start.elapsed());
            if due == 0 {
                thread::park_timeout(TICK);
                continue;
            }
            match self.post(next, due) {
                Some(Ok(_)) => {
                    next += due;
                    pause = FIRST_PAUSE;
                }
                // Room may come, and disks are emptied; anything else stays as it is.
                Some(Err(
                    error @ (IngestError::Overloaded(_)
                    | IngestError::Storage { .. }
                    | IngestError::Memory(_)),
                )) => {
                    tracing::warn!(%error, ?pause, "generator waits");
                    thread::park_timeout(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Some(Err(IngestError::Stopping)) | None => return,
                Some(Err(error)) => {
                    tracing::error!(%error, "generator stops");
                    return;
                }
            }
        }
    }

    /// Posts visits and waits for the answer; `None` when told to stop meanwhile.
    fn post(&self, first: u64, count: u64) -> Option<Result<PostAnswer, IngestError>> {
        let now = (self.clock)();
        let visits = first..first + count;
        let request = PostRequest {
            lines: visits
                .map(|n| visit(self.options.seed, n).line(now))
                .collect(),
            idempotency_key: None,
            digest: [0; 32],
        };
        let (answer, answered) = mpsc::sync_channel(1);
        let reply = Box::new(move |outcome| {
            // Nobody waits any more once the generator was told to stop.
            let _ = answer.send(outcome);
        });
        self.ingest.post(&self.options.stream, request, reply);
        loop {
            match answered.recv_timeout(TICK) {
                Ok(outcome) => return Some(outcome),
                Err(RecvTimeoutError::Disconnected) => return Some(Err(IngestError::Stopping)),
                Err(RecvTimeoutError::Timeout) if self.is_stopped() => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Says how many records are due; time in which none could be posted is forgotten.
struct Pace {
    rate: u64,
    told: u64,
}

impl Pace {
    fn new(rate: u32) -> Pace {
        Pace {
            rate: u64::from(rate),
            told: 0,
        }
    }

    fn due(&mut self, elapsed: Duration) -> u64 {
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let owed = (ms.saturating_mul(self.rate) / 1000).saturating_sub(self.told);
        self.told += owed;
        owed.min(self.rate).min(MAX_BATCH)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::time::Timestamp;
    use crate::view::PostReply;

    /// Refuses the first posts, takes the others.
    struct Inbox {
        refuse: Mutex<u32>,
        lines: mpsc::Sender<Vec<u8>>,
    }

    impl Ingest for Inbox {
        fn accepts(&self, _stream: &str) -> Result<(), IngestError> {
            Ok(())
        }

        fn post(&self, stream: &str, request: PostRequest, reply: PostReply) {
            let mut refuse = self.refuse.lock().unwrap();
            if *refuse > 0 {
                *refuse -= 1;
                return reply(Err(IngestError::Overloaded(stream.to_string())));
            }
            let count = request.lines.len() as u64;
            for line in request.lines {
                let _ = self.lines.send(line);
            }
            reply(Ok(PostAnswer {
                accepted: count,
                rejected: vec![],
                position: count,
            }));
        }

        fn end(&self, _stream: &str) -> Option<u64> {
            Some(40)
        }
    }

    #[test]
    fn posts_the_visits_in_order_past_a_refusal_and_stops() {
        let (lines, posted) = mpsc::channel();
        let ingest = Arc::new(Inbox {
            refuse: Mutex::new(1),
            lines,
        });
        let options = GeneratorOptions {
            rate: 2_000,
            ..GeneratorOptions::default()
        };
        let clock: Clock = Arc::new(|| Timestamp(1_000_000));
        let generator = Generator::start(options, ingest, clock, Arc::default()).unwrap();
        for n in 40..200 {
            assert_eq!(
                posted.recv().unwrap(),
                visit(1, n).line(Timestamp(1_000_000))
            );
        }
        drop(generator);
    }

    #[test]
    fn the_pace_is_kept_and_lost_time_is_not_made_up_for() {
        let mut pace = Pace::new(100);
        let total: u64 = (0..=200).map(|tick| pace.due(TICK * tick)).sum();
        assert_eq!(total, 1_000);
        assert_eq!(
            pace.due(Duration::from_secs(100_000)),
            100,
            "a second's worth at most"
        );
        assert_eq!(pace.due(Duration::from_secs(100_000)), 0);
        assert_eq!(Pace::new(0).due(Duration::from_secs(10)), 0);
    }
}
