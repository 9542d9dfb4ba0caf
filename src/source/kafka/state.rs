//! What the threads of one topic's reader share.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::buffer::Buffer;
use crate::record::{LastRecord, Schemas};
use crate::source::Wake;

/// Shared by the reader's threads and the source.
#[derive(Default)]
pub struct Shared {
    state: Mutex<State>,
    /// Notified when there is something to do for a thread.
    changed: Condvar,
}

/// Everything known of a topic.
#[derive(Default)]
pub struct State {
    pub partitions: BTreeMap<u32, Reading>,
    /// Whether it is the first time that the stream is read; `None` until that is known.
    pub is_new: Option<bool>,
    /// What keeps the whole topic from being read.
    pub trouble: Trouble,
    pub wake: Option<Wake>,
    /// The schemas that messages handed over so far name.
    pub schemas: Schemas,
    /// Bytes fetched and not read yet, of all partitions.
    pub bytes: usize,
    /// Positions to be committed to the group.
    pub commits: BTreeMap<u32, u64>,
    /// Whether the threads are to end.
    pub is_closed: bool,
}

/// What is wrong, by who found it: each clears its own.
#[derive(Default)]
pub struct Trouble {
    /// Looking for the topic and its partitions failed.
    pub topic: Option<Arc<str>>,
    /// No broker can be reached.
    pub brokers: Option<Arc<str>>,
    /// A fetch was refused; it stays until something is fetched.
    pub fetch: Option<Arc<str>>,
    /// The schema registry does not answer.
    pub registry: Option<Arc<str>>,
}

impl Trouble {
    /// The one to tell first.
    pub fn first(&self) -> Option<Arc<str>> {
        let all = [&self.brokers, &self.topic, &self.fetch, &self.registry];
        all.into_iter().flatten().next().map(Arc::clone)
    }
}

/// Where the reading of a partition stands.
pub struct Reading {
    pub buffer: Buffer,
    pub stage: Stage,
    /// What the last record before the buffer's next offset looked like, where one was seen.
    pub last: Option<LastRecord>,
    /// The same until it was seen again since fetching began, with which it begins for that.
    pub proof: Option<LastRecord>,
    /// The position of a checkpoint, and what the last record before it looked like.
    pub saved: Option<(u64, LastRecord)>,
    /// Where reading begins if the partition is new to the service.
    pub first: Option<u64>,
    /// The offset after the last message there, as last heard.
    pub end: u64,
    /// Whether the end was reached and nothing came since.
    pub is_at_end: bool,
    pub is_paused: bool,
    /// Whether its next offset may not be there any more.
    pub is_doubtful: bool,
    /// When something of it was last heard.
    pub heard_at: Instant,
    /// Its leader cannot be reached, or it is silent although there is data.
    pub trouble: Option<Arc<str>>,
}

/// How far the reading of a partition has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nobody asked for it yet.
    Unasked,
    /// To be fetched from the buffer's next offset on, if that is there.
    Asked,
    /// It is there; the thread that fetches begins.
    Placed,
    /// Being fetched. Only the thread that fetches says so, between two times that it takes
    /// messages: what it takes then is from where the buffer ends.
    Assigned,
    /// What is next was deleted before it was read: the topic begins at `first`.
    Lost { first: u64, end: u64 },
    /// What was read is not in the topic any more, which ends before it.
    Ended { end: u64 },
    /// Another record is where one was read: it is another topic of the same name.
    Replaced { at: u64 },
}

impl Reading {
    pub fn new(now: Instant) -> Reading {
        Reading {
            buffer: Buffer::at(0),
            stage: Stage::Unasked,
            last: None,
            proof: None,
            saved: None,
            first: None,
            end: 0,
            is_at_end: false,
            is_paused: false,
            is_doubtful: false,
            heard_at: now,
            trouble: None,
        }
    }

    /// Whether it is known where reading begins.
    pub fn is_listed(&self) -> bool {
        self.stage != Stage::Unasked || self.first.is_some()
    }

    /// Whether messages may come of it.
    pub fn is_fetched(&self) -> bool {
        self.stage == Stage::Assigned && !self.is_paused
    }

    /// Whether it waits for messages although its end was not reached.
    pub fn is_hungry(&self) -> bool {
        self.is_fetched() && self.buffer.bytes() == 0 && !self.is_at_end
    }

    /// Whether all that is there was read. What came since the end was reached may wait behind
    /// messages of other partitions, but then the end has moved.
    pub fn is_silent(&self) -> bool {
        self.is_at_end && self.buffer.is_empty() && self.buffer.next() >= self.end
    }

    /// Puts the reading to an offset; the watch thread sees to it.
    pub fn ask(&mut self, position: u64, now: Instant) {
        self.buffer = Buffer::at(position);
        let saved = self.saved.filter(|(saved, _)| *saved == position);
        self.last = saved.map(|(_, last)| last);
        self.refetch(now);
    }

    /// Lets it be fetched anew from where the buffer ends.
    pub fn refetch(&mut self, now: Instant) {
        self.stage = Stage::Asked;
        (self.is_at_end, self.is_paused, self.is_doubtful) = (false, false, false);
        self.heard_at = now;
    }
}

impl State {
    /// What keeps all of the topic from being read, or partitions that are not listed for it.
    pub fn problem(&self) -> Option<Arc<str>> {
        let mut unlisted = self
            .partitions
            .values()
            .filter(|reading| !reading.is_listed());
        let first = self.trouble.first();
        first.or_else(|| unlisted.find_map(|reading| reading.trouble.clone()))
    }

    /// Adds up what is fetched and not read.
    pub fn count(&mut self) {
        let bytes = self.partitions.values().map(|p| p.buffer.bytes());
        self.bytes = bytes.sum();
    }
}

impl Shared {
    /// The state, for a short moment.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the threads.
    pub fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits for a change, or so long.
    pub fn wait<'a>(&self, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The time, to measure silence with.
#[allow(
    clippy::disallowed_methods,
    reason = "an edge: it measures how long nothing came"
)]
pub fn now() -> Instant {
    Instant::now()
}
