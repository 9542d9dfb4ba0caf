//! The thread of one sink: takes groups from its outbox, has them sent, and begins anew after each
//! error until it is told to stop.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Past, Progress, Sink, SinkError};
use crate::time::Epoch;
use crate::view::{Group, Next, Outbox, SinkState};

/// How many bytes of messages are sent together at least, where so many wait.
const GROUP_BYTES: usize = 8 << 20;

/// How long to wait before the first further try, and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// How long stopping waits for a group that is being sent.
const LAST_GROUP: Duration = Duration::from_secs(5);

/// What a driver is given.
pub struct Driving {
    /// Where the messages are.
    pub outbox: Arc<Outbox>,
    /// Where they go.
    pub sink: Box<dyn Sink>,
    /// What can be run again.
    pub past: Past,
    /// How often messages are committed.
    pub interval: Duration,
}

/// A running sink.
pub struct Driver {
    outbox: Arc<Outbox>,
    thread: JoinHandle<()>,
}

impl Driver {
    /// Starts the thread.
    pub fn start(driving: Driving) -> std::io::Result<Driver> {
        let outbox = Arc::clone(&driving.outbox);
        let thread = std::thread::Builder::new()
            .name(format!("sink-{}", outbox.spec().name))
            .spawn(move || Work::new(driving).run())?;
        Ok(Driver { outbox, thread })
    }

    /// Sends what may be sent and can be at once, and ends the thread; waits for it for a bounded
    /// time. What is not sent now is sent after the next start.
    #[allow(
        clippy::disallowed_methods,
        reason = "an edge: stopping takes a bounded time"
    )]
    pub fn stop(self) {
        self.outbox.close();
        let since = Instant::now();
        while !self.thread.is_finished() && since.elapsed() < LAST_GROUP {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        if !self.thread.is_finished() {
            tracing::warn!(
                sink = self.outbox.spec().name,
                "the sink is left in the middle of a group"
            );
        } else if self.thread.join().is_err() {
            tracing::error!("the thread of a sink panicked");
        }
    }
}

struct Work {
    driving: Driving,
    /// Whether the sink was opened, and could go on from the progress it had.
    goes_on: bool,
    /// The progress that it has since.
    known: Option<Progress>,
    /// What is being sent. It is sent again until it is committed.
    group: Option<(Group, Progress)>,
    /// Tries that failed in a row.
    failures: u32,
}

impl Work {
    fn new(driving: Driving) -> Work {
        Work {
            driving,
            goes_on: false,
            known: None,
            group: None,
            failures: 0,
        }
    }

    fn run(mut self) {
        let outbox = Arc::clone(&self.driving.outbox);
        let sink = outbox.spec().name.clone();
        loop {
            match self.session() {
                Ok(()) => return,
                Err(SinkError::Stop(reason)) => {
                    tracing::error!(sink, %reason, "the sink stops; the service goes on");
                    outbox.set_state(SinkState::Stopped(reason));
                    return;
                }
                Err(SinkError::Retry(reason)) => {
                    tracing::warn!(sink, %reason, "the sink begins anew");
                    outbox.set_state(SinkState::Retrying(reason));
                }
            }
            let [first, most] = RETRY;
            let pause = first.saturating_mul(1 << self.failures.min(16));
            self.failures += 1;
            if outbox.pause(pause.min(most)) {
                return;
            }
        }
    }

    /// From opening the sink to its first error, or the end.
    fn session(&mut self) -> Result<(), SinkError> {
        let found = self.driving.sink.open()?;
        self.agree(found).map_err(SinkError::Stop)?;
        self.driving.outbox.set_state(SinkState::Running);
        loop {
            if self.group.is_none() {
                let Driving {
                    outbox, interval, ..
                } = &self.driving;
                self.group = match outbox.next(GROUP_BYTES, *interval) {
                    Next::Group(group) => {
                        let progress = self.progress(group.last);
                        Some((group, progress))
                    }
                    Next::Nothing => continue,
                    Next::Ended(reason) => return Err(SinkError::Stop(reason)),
                    Next::Closed => return Ok(()),
                };
            }
            if let Some((group, progress)) = &self.group {
                self.driving.sink.commit(&group.messages, progress)?;
                self.has_committed();
                // Stopping takes one group more at most.
                if self.driving.outbox.pause(Duration::ZERO) {
                    return Ok(());
                }
            }
        }
    }

    fn progress(&self, epoch: Epoch) -> Progress {
        Progress {
            run: self.driving.past.run,
            epoch,
            fingerprint: self.driving.past.fingerprint.clone(),
        }
    }

    fn has_committed(&mut self) {
        if let Some((_, progress)) = self.group.take() {
            self.driving.outbox.committed(progress.committed());
            self.known = Some(progress);
            self.failures = 0;
        }
    }

    /// Holds what the sink has come to against what is known.
    fn agree(&mut self, found: Option<Progress>) -> Result<(), String> {
        if !self.goes_on {
            let Driving { outbox, past, .. } = &self.driving;
            let done = past.judge(&outbox.spec().name, found.as_ref())?;
            let committed = found.as_ref().filter(|_| !past.restarts);
            outbox.found(committed.map(Progress::committed));
            outbox.skip_through(done);
            (self.goes_on, self.known) = (true, found);
            return Ok(());
        }
        let sending = self.group.as_ref().map(|(_, progress)| progress);
        if found == self.known {
            Ok(())
        } else if found.as_ref() == sending {
            // The group had arrived after all.
            self.has_committed();
            Ok(())
        } else {
            Err(
                "another process sends under this sink's name: give each service a kafka.group \
                 of its own"
                    .to_owned(),
            )
        }
    }
}
