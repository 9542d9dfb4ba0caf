//! Drives one subscription: waits for what it waits for, reads where it must not wait, and says
//! every second how far the answer is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::subscription::{Next, Outcome, Subscription};
use super::wire::Frame;
use crate::http::state::stop;

/// After how long without an event the progress is told: within a second, with time to arrive.
const PROGRESS: Duration = Duration::from_millis(800);

/// A subscription, and what wakes it.
pub(super) struct Driver {
    subscription: Subscription,
    moved: watch::Receiver<()>,
    stopping: watch::Receiver<bool>,
    /// When the progress is to be told.
    due: Instant,
    /// Whether anything was sent.
    has_told: bool,
    /// What is being read for it.
    reading: Option<Reading>,
    /// Bounds how many read at the same time.
    gate: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

/// Something that is read off the threads that answer requests; given up when it is dropped
/// before it began.
struct Reading(JoinHandle<Option<Outcome>>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a wait is over.
enum Woken {
    /// What was being read is read, or cannot be.
    Read(Option<Outcome>),
    /// The feed has more.
    Moved,
    /// Nothing was sent for a while.
    Due,
}

impl Driver {
    pub(super) fn new(
        subscription: Subscription,
        moved: watch::Receiver<()>,
        stopping: watch::Receiver<bool>,
        gate: &Arc<Semaphore>,
        place: OwnedSemaphorePermit,
    ) -> Driver {
        Driver {
            subscription,
            moved,
            stopping,
            due: Instant::now() + PROGRESS,
            has_told: false,
            reading: None,
            gate: Arc::clone(gate),
            _place: place,
        }
    }

    /// What to send next; `None` when the connection is to be closed. May be given up and called
    /// again: nothing is lost.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            if self.reading.is_none() {
                // Whatever moved until here is seen by the look that follows.
                self.moved.borrow_and_update();
                match self.subscription.next() {
                    Next::Frame(frame) => return Some(self.told(frame)),
                    Next::End => return None,
                    Next::Read => self.reading = Some(self.read()),
                    // A subscriber that goes on, and has missed nothing, hears that.
                    Next::Wait => {
                        if !self.has_told
                            && let Some(progress) = self.subscription.progress()
                        {
                            return Some(self.told(progress));
                        }
                    }
                }
            }
            let is_reading = self.reading.is_some();
            let woken = tokio::select! {
                () = stop(&mut self.stopping) => return None,
                outcome = done(&mut self.reading) => Woken::Read(outcome),
                _ = self.moved.changed(), if !is_reading => Woken::Moved,
                () = sleep_until(self.due) => Woken::Due,
            };
            let frame = match woken {
                Woken::Moved => None,
                Woken::Due => {
                    self.due = Instant::now() + PROGRESS;
                    self.subscription.progress()
                }
                Woken::Read(outcome) => {
                    self.reading = None;
                    self.subscription.read(outcome?)
                }
            };
            if let Some(frame) = frame {
                return Some(self.told(frame));
            }
        }
    }

    fn told(&mut self, frame: Frame) -> Frame {
        self.has_told = true;
        self.due = Instant::now() + PROGRESS;
        frame
    }

    fn read(&self) -> Reading {
        let job = self.subscription.job();
        let gate = Arc::clone(&self.gate);
        Reading(tokio::spawn(async move {
            let turn = gate.acquire_owned().await;
            let read = spawn_blocking(move || {
                // It is over when the reading is, whether or not somebody still waits for it.
                let _turn = turn;
                job.run()
            });
            read.await.ok()
        }))
    }
}

/// The outcome of what is being read; `None` where that panicked. Never where nothing is read.
async fn done(reading: &mut Option<Reading>) -> Option<Outcome> {
    match reading {
        Some(reading) => (&mut reading.0).await.ok().flatten(),
        None => std::future::pending().await,
    }
}
