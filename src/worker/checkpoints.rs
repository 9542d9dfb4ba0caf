//! When checkpoints are taken, and what may be let go once they are published.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::restore::{self, Origins};
use super::snapshots::Snapshots;
use crate::dataflow::clock::Times;
use crate::query::Catalog;
use crate::state::{CheckpointStore, Manifest};
use crate::time::{Epoch, Timestamp};
use crate::view::CheckpointInfo;

/// After how many epochs without records a checkpoint is taken all the same: the journal before
/// it can go.
const IDLE_EPOCHS: u32 = 10_000;

/// Hears how the checkpoint it asked for ended.
pub(super) type Reply = Box<dyn FnOnce(Result<CheckpointInfo, String>) + Send>;

/// A checkpoint under way.
struct Taking {
    epoch: Epoch,
    label: Option<String>,
    replies: Vec<Reply>,
    origins: Origins,
    times: Option<Times>,
}

/// Takes checkpoints, one at a time.
pub(super) struct Taker {
    pub store: CheckpointStore,
    pub snapshots: Snapshots,
    pub run: u64,
    pub interval: Duration,
    /// How many boundaries the workers save for one checkpoint, each worker's counted.
    pub segments: usize,
    /// The times of retained checkpoints, oldest first.
    retained: VecDeque<(Epoch, Times)>,
    taking: Option<Taking>,
    asked: Vec<(Option<String>, Reply)>,
    begun_at: Instant,
    /// Whether anything was read since the last checkpoint.
    moved: bool,
    /// How many epochs were journalled since the last checkpoint.
    journalled: u32,
}

impl Taker {
    pub fn new(
        store: CheckpointStore,
        snapshots: Snapshots,
        run: u64,
        interval: Duration,
        segments: usize,
        now: Instant,
    ) -> Taker {
        Taker {
            store,
            snapshots,
            run,
            interval,
            segments,
            retained: VecDeque::new(),
            taking: None,
            asked: Vec::new(),
            begun_at: now,
            moved: false,
            journalled: 0,
        }
    }

    /// Notes the checkpoint the service started from.
    pub fn started_from(&mut self, epoch: Epoch, times: Times) {
        self.retained.push_back((epoch, times));
    }

    /// Notes an epoch, and whether it has records.
    pub fn fed(&mut self, has_records: bool) {
        self.moved |= has_records;
        self.journalled = self.journalled.saturating_add(1);
    }

    /// Asks for one at the next epoch, to be kept until it is deleted where it has a label.
    pub fn ask(&mut self, label: Option<String>, reply: Reply) {
        self.asked.push((label, reply));
    }

    /// Who hears of the next one, and its label. Who asked for another label waits for another.
    fn next_asked(&mut self) -> (Option<String>, Vec<Reply>) {
        let label = self.asked.iter().find_map(|(label, _)| label.clone());
        let is_next = |asked: &mut (Option<String>, Reply)| asked.0.is_none() || asked.0 == label;
        let next: Vec<_> = self.asked.extract_if(.., is_next).collect();
        (label, next.into_iter().map(|(_, reply)| reply).collect())
    }

    /// Says no to who asked: no epoch can be cut now.
    pub fn refuse(&mut self, why: &str) {
        for (_, reply) in self.asked.drain(..) {
            reply(Err(why.to_owned()));
        }
    }

    /// Whether the next epoch should be one's.
    pub fn wants(&self, now: Instant) -> bool {
        let is_due = now.duration_since(self.begun_at) >= self.interval;
        // An idle service needs no checkpoint, but its journal must not grow for ever.
        let is_needed = self.moved || self.journalled >= IDLE_EPOCHS;
        self.taking.is_none() && (!self.asked.is_empty() || (is_due && is_needed))
    }

    /// Begins one as of an epoch, before the epoch is fed; what it reads is read from there.
    pub fn begin(&mut self, epoch: Epoch, origins: Origins, now: Instant) {
        self.begun_at = now;
        let (label, replies) = self.next_asked();
        match self.store.begin(epoch, self.run) {
            Ok(writer) => {
                self.snapshots.begin(writer, self.segments);
                self.taking = Some(Taking {
                    epoch,
                    label,
                    replies,
                    origins,
                    times: None,
                });
                self.moved = false;
                self.journalled = 0;
            }
            Err(error) => {
                tracing::error!(%error, "no checkpoint is taken");
                self.store.note(Some(error.to_string()));
                for reply in replies {
                    reply(Err(error.to_string()));
                }
            }
        }
    }

    /// Whether somebody waits for one.
    pub fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether one is under way.
    pub fn is_taking(&self) -> bool {
        self.taking.is_some()
    }

    /// How far the streams were read as of the newest checkpoint that this process knows of.
    pub fn newest(&self) -> Option<&Times> {
        self.retained.back().map(|(_, times)| times)
    }

    /// Whether this epoch's times are what a checkpoint waits for.
    pub fn awaits(&self, epoch: Epoch) -> bool {
        self.taking
            .as_ref()
            .is_some_and(|taking| taking.epoch == epoch)
    }

    /// Says how far the streams were read at the checkpoint's epoch, whose journal is on disk.
    pub fn publish(&mut self, times: Times, catalog: &Catalog, now: Timestamp) {
        if let Some(taking) = &mut self.taking {
            let manifest = restore::manifest(&times, &taking.origins, catalog, now);
            let label = taking.label.clone();
            self.snapshots.publish(Manifest { label, ..manifest });
            taking.times = Some(times);
        }
    }

    /// Hears how one ended. Returns what the oldest retained one needs, if older is not needed any
    /// more.
    pub fn heard(
        &mut self,
        epoch: Epoch,
        result: &Result<CheckpointInfo, String>,
    ) -> Option<(Epoch, Times)> {
        let taking = self.taking.take_if(|taking| taking.epoch == epoch)?;
        match result {
            Ok(info) => tracing::debug!(epoch, bytes = info.bytes, "checkpoint published"),
            Err(error) => {
                self.moved = true;
                tracing::error!(epoch, %error, "the checkpoint failed; the older ones stand");
            }
        }
        self.store.note(result.as_ref().err().cloned());
        for reply in taking.replies {
            reply(result.clone());
        }
        if let Some(times) = taking.times.filter(|_| result.is_ok()) {
            self.retained.push_back((epoch, times));
        }
        let needed = self.store.oldest_needed().unwrap_or_else(|error| {
            tracing::warn!(%error, "old checkpoints are kept longer");
            None
        })?;
        // One with a label stays, and those between it and the newest ones go.
        let kept = self.store.list().unwrap_or_default();
        let is_kept = |epoch: Epoch| kept.iter().any(|checkpoint| checkpoint.epoch == epoch);
        self.retained
            .retain(|(epoch, _)| *epoch >= needed && is_kept(*epoch));
        // What is older than this process knows of may still be needed by an older checkpoint.
        let oldest = self.retained.front();
        oldest.filter(|(epoch, _)| *epoch == needed).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::state::{DataDir, StoreOptions};

    const INTERVAL: Duration = Duration::from_secs(10);

    fn taker(data: &DataDir, now: Instant) -> Taker {
        let store = CheckpointStore::open(data, &StoreOptions::default()).unwrap();
        let sent = Box::new(BTreeMap::new);
        let snapshots = Snapshots::start(store.clone(), None, sent, Box::new(|_, _| {}));
        Taker::new(store, snapshots.unwrap(), 1, INTERVAL, 0, now)
    }

    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "an instant to begin with; the test sets all others"
    )]
    fn one_is_taken_for_records_or_for_a_long_journal() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let begun = Instant::now();
        let due = begun + INTERVAL;

        let mut busy = taker(&data, begun);
        busy.fed(true);
        assert!(!busy.wants(begun), "not before its time");
        assert!(busy.wants(due), "records were read");

        let mut idle = taker(&data, begun);
        for _ in 1..IDLE_EPOCHS {
            idle.fed(false);
        }
        assert!(
            !idle.wants(due),
            "nothing was read, and the journal is short"
        );
        idle.fed(false);
        assert!(idle.wants(due), "the journal must not grow for ever");
        idle.ask(Some("one".to_owned()), Box::new(drop));
        idle.ask(Some("two".to_owned()), Box::new(drop));
        idle.ask(None, Box::new(drop));
        idle.begin(1, Origins::new(), due);
        let taking = idle.taking.as_ref().unwrap();
        assert_eq!(taking.label.as_deref(), Some("one"));
        assert_eq!(taking.replies.len(), 2);
        assert!(idle.is_asked(), "another label is for another checkpoint");
        assert!(idle.awaits(1));
        assert!(!idle.wants(due + INTERVAL), "one at a time");
    }
}
