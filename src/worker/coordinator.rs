//! The coordinator: cuts epochs from the sources, journals each before it is fed, and shows it
//! when every worker has closed it. One thread; it may read and write files, so that the workers
//! never do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::checkpoints::{Reply, Taker};
use super::cuts::Cutter;
use super::live::{LiveError, LiveOptions};
use super::partitions::{Partitions, entry};
use super::run::{Dataflow, RunError, Said};
use super::sinks::Sinks;
use super::syncer::Syncer;
use crate::dataflow::clock::{Times, visible};
use crate::dataflow::feed::{Mark, Plan};
use crate::query::Catalog;
use crate::source::Clock;
use crate::state::{DataDir, Journal, JournalEntry, StateError};
use crate::time::Epoch;
use crate::view::{CheckpointInfo, Labels, PartitionLabel, StreamLabel, Views};

/// How many epochs may be open at once: one being worked on, one waiting. While both are, input
/// gathers, so that epochs grow under load instead of queueing.
const OPEN_EPOCHS: usize = 2;

/// How long to wait before reading is tried again after it failed.
const RETRY: Duration = Duration::from_secs(1);

/// How long stopping may wait for the last checkpoint.
const LAST_CHECKPOINT: Duration = Duration::from_secs(60);

/// What the coordinator is told.
pub(super) enum Message {
    /// Records may have arrived.
    Arrival,
    /// The workers said something.
    Said(Said),
    /// A checkpoint is wanted, with a label if it is to be kept.
    Take(Option<String>, Reply),
    /// A checkpoint ended.
    Heard(Epoch, Result<CheckpointInfo, String>),
    /// Journal lines are on disk, or cannot be.
    Synced(Result<Epoch, StateError>),
    /// The service is to stop.
    Stop,
}

pub(super) struct Coordinator {
    /// Set while a wake-up waits to be heard.
    pub arrived: Arc<AtomicBool>,
    /// Set while no input can be taken.
    pub stale: Arc<AtomicBool>,
    pub options: LiveOptions,
    pub clock: Clock,
    pub catalog: Catalog,
    pub views: Arc<Views>,
    pub journal: Journal,
    pub sinks: Sinks,
    pub syncer: Syncer,
    pub run: u64,
    pub dataflow: Dataflow,
    pub taker: Taker,
    pub partitions: Partitions,
    pub cutter: Cutter,
    pub progress: Progress,
}

/// Where the coordinator stands.
pub(super) struct Progress {
    /// The newest epoch fed.
    last: Epoch,
    /// When it was fed.
    last_at: Instant,
    /// Epochs fed and not closed, with their bytes.
    open: VecDeque<(Epoch, usize)>,
    /// The times of epochs not yet shown.
    times: BTreeMap<Epoch, Times>,
    /// The epoch that makes the service ready: the last one that was journalled.
    ready_at: Option<Epoch>,
    /// Why no epoch can be cut, and since when.
    hindered: Option<(String, Instant)>,
    /// Whether the service was told to stop, be it before it was ready.
    stopping: bool,
}

impl Progress {
    pub fn new(last: Epoch, now: Instant) -> Progress {
        Progress {
            last,
            last_at: now,
            open: VecDeque::new(),
            times: BTreeMap::new(),
            ready_at: None,
            hindered: None,
            stopping: false,
        }
    }

    fn bytes(&self) -> usize {
        self.open.iter().map(|(_, bytes)| bytes).sum()
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "an edge: it measures how long nothing came"
)]
fn now() -> Instant {
    Instant::now()
}

impl Coordinator {
    /// Runs until told to stop. `on_failure` hears why it cannot go on, before it waits for the
    /// workers.
    pub fn run(
        mut self,
        inbox: &Receiver<Message>,
        restored: Option<Epoch>,
        data: DataDir,
        on_failure: impl FnOnce(String),
    ) {
        let outcome = match self.work(inbox, restored) {
            Ok(()) => self.stop(inbox, data),
            Err(error) => {
                on_failure(error.to_string());
                return;
            }
        };
        if let Err(error) = outcome {
            on_failure(error.to_string());
        }
    }

    fn work(
        &mut self,
        inbox: &Receiver<Message>,
        restored: Option<Epoch>,
    ) -> Result<(), LiveError> {
        if let Some(epoch) = restored {
            self.taker.started_from(epoch, self.partitions.times());
            self.feed(Plan {
                epoch,
                ..Plan::default()
            })?;
            self.close_all(inbox)?;
        }
        self.replay_journal(inbox)?;
        while !self.progress.stopping {
            self.turn(inbox)?;
        }
        Ok(())
    }

    /// Waits until all that was fed is closed and shown: whoever takes older rows can read those of
    /// the checkpoint, however long reading what came after it takes.
    fn close_all(&mut self, inbox: &Receiver<Message>) -> Result<(), LiveError> {
        while !self.progress.open.is_empty() && !self.progress.stopping {
            if let Ok(message) = inbox.recv() {
                self.hear(message)?;
            }
        }
        Ok(())
    }

    /// Feeds the journalled epochs again: the same numbers, the same cuts.
    fn replay_journal(&mut self, inbox: &Receiver<Message>) -> Result<(), LiveError> {
        for entry in self.journal.read_after(self.progress.last)? {
            let entry = entry?;
            let mut plan = Plan {
                epoch: entry.epoch,
                ..Plan::default()
            };
            while !self.again(&entry, &mut plan)? && !self.progress.stopping {
                // A source that waits for its broker says when there is more; it may also never.
                if let Ok(message) = inbox.recv_timeout(RETRY) {
                    self.hear(message)?;
                }
            }
            while self.is_full() {
                if let Ok(message) = inbox.recv() {
                    self.hear(message)?;
                }
            }
            if self.progress.stopping {
                return Ok(());
            }
            self.taker.fed(!plan.tasks.is_empty());
            self.feed(plan)?;
        }
        self.partitions.resume();
        if let Some(times) = self.taker.newest() {
            // A kill may have come between the checkpoint and telling it.
            self.partitions.checkpointed(times);
        }
        self.progress.ready_at = Some(self.progress.last);
        self.show_ready();
        Ok(())
    }

    /// Cuts a journalled epoch again; says whether it is whole.
    fn again(&mut self, entry: &JournalEntry, plan: &mut Plan) -> Result<bool, LiveError> {
        let (catalog, cutter) = (&self.catalog, &mut self.cutter);
        let is_whole = self.partitions.again(entry, catalog, cutter, plan)?;
        if !is_whole {
            self.tell_standings();
        }
        Ok(is_whole)
    }

    /// Lets readers know how the streams are doing.
    fn tell_standings(&self) {
        for (stream, standing) in self.partitions.standings((self.clock)()) {
            self.views.standings.set(stream, standing);
        }
    }

    /// One look at everything.
    fn turn(&mut self, inbox: &Receiver<Message>) -> Result<(), LiveError> {
        let mut message = match inbox.recv_timeout(self.patience()) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
        };
        while let Some(next) = message {
            self.hear(next)?;
            message = inbox.try_recv().ok();
        }
        self.cut()?;
        self.syncer.sync(&self.journal);
        Ok(())
    }

    /// How long to wait for news before looking again.
    fn patience(&self) -> Duration {
        let heartbeat = self.options.heartbeat;
        match &self.progress.hindered {
            // Room, or the time to try again, is worth waiting for; the next heartbeat is not.
            _ if self.is_full() || self.sinks.hold_input() => heartbeat,
            Some((_, since)) => RETRY.saturating_sub(since.elapsed()),
            None => heartbeat.saturating_sub(self.progress.last_at.elapsed()),
        }
    }

    fn hear(&mut self, message: Message) -> Result<(), LiveError> {
        match message {
            Message::Arrival => self.arrived.store(false, Ordering::Release),
            Message::Stop => self.progress.stopping = true,
            Message::Said(Said::Times(epoch, times)) => {
                if self.taker.awaits(epoch) {
                    // What the checkpoint builds on must be on disk before it counts.
                    self.journal.sync()?;
                    let now = (self.clock)();
                    self.taker.publish(times.clone(), &self.catalog, now);
                }
                self.partitions.hear(&times);
                self.progress.times.insert(epoch, times);
            }
            Message::Said(Said::Closed(frontier)) => {
                while self
                    .progress
                    .open
                    .front()
                    .is_some_and(|(epoch, _)| *epoch < frontier)
                {
                    self.progress.open.pop_front();
                }
                let later = self.progress.times.split_off(&frontier);
                for (epoch, times) in std::mem::replace(&mut self.progress.times, later) {
                    self.show(epoch, &times);
                }
            }
            Message::Said(Said::Ended) => {
                return Err(RunError::Panicked("the dataflow ended early".to_owned()).into());
            }
            Message::Take(label, reply) => self.taker.ask(label, reply),
            Message::Heard(epoch, result) => {
                let needed = self.taker.heard(epoch, &result);
                if result.is_ok()
                    && let Some(times) = self.taker.newest()
                {
                    self.partitions.checkpointed(times);
                }
                if result.is_ok()
                    && let Err(error) = self.let_go(needed)
                {
                    // The checkpoint stands; the next one lets go of more.
                    tracing::warn!(%error, "old journal lines are kept longer");
                }
            }
            Message::Synced(result) => {
                self.syncer.has_synced();
                self.sinks.release(0, result?);
            }
        }
        Ok(())
    }

    /// Lets journal and logs go that no retained checkpoint needs.
    fn let_go(&mut self, needed: Option<(Epoch, Times)>) -> Result<(), StateError> {
        self.journal.rotate()?;
        if let Some((oldest, times)) = needed {
            self.journal.forget_before(oldest)?;
            self.partitions.release(&times);
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.progress.open.len() >= OPEN_EPOCHS
            || self.progress.bytes() >= self.options.max_in_flight
    }

    fn feed(&mut self, plan: Plan) -> Result<(), LiveError> {
        let bytes = plan.tasks.iter().map(|task| task.chunk.size()).sum();
        self.progress.last = plan.epoch;
        self.progress.open.push_back((plan.epoch, bytes));
        self.progress.last_at = now();
        Ok(self.dataflow.feed(plan)?)
    }

    /// Cuts the next epoch if there is a reason and room for one.
    fn cut(&mut self) -> Result<(), LiveError> {
        let now = now();
        let waits = |(_, since): &(String, Instant)| now.saturating_duration_since(*since) < RETRY;
        // What is asked for is taken all the same, in an epoch without records.
        let is_held = self.sinks.hold_input() || crate::memory::is_exhausted();
        let has_to_wait = is_held && !self.taker.is_asked();
        if self.progress.hindered.is_none() {
            self.stale.store(is_held, Ordering::Release);
        }
        if self.is_full() || has_to_wait || self.progress.hindered.as_ref().is_some_and(waits) {
            self.partitions.not_read();
            return Ok(());
        }
        let room = self
            .options
            .max_in_flight
            .saturating_sub(self.progress.bytes());
        let mut plan = Plan::default();
        if is_held {
            self.partitions.not_read();
        } else {
            self.partitions.next(now, room, &mut self.cutter, &mut plan);
        }
        self.tell_standings();
        if self.taker.wants(now) {
            plan.mark = Mark::Checkpoint;
        }
        let is_due = now.duration_since(self.progress.last_at) >= self.options.heartbeat;
        let is_empty = plan.tasks.is_empty() && plan.changes.is_empty();
        if is_empty && plan.mark == Mark::None && !is_due {
            return Ok(());
        }
        let wall = u64::try_from((self.clock)().0).unwrap_or(0);
        plan.epoch = wall
            .max(self.progress.last + 1)
            .max(self.journal.high_water() + 1);
        match self.journal.append(&entry(&plan, self.run, &self.catalog)) {
            Ok(()) => {
                if let Some((why, _)) = self.progress.hindered.take() {
                    tracing::info!(%why, "input is taken again");
                    self.stale.store(false, Ordering::Release);
                }
            }
            // What a failed sync left on disk is not known: only a restart can tell.
            Err(error @ StateError::Broken { .. }) => return Err(error.into()),
            Err(error) => {
                // Nothing was fed, nothing is lost: the same records are cut again later.
                self.hinder(error.to_string());
                return Ok(());
            }
        }
        self.partitions.accept(&plan);
        self.taker.fed(!plan.tasks.is_empty());
        if plan.mark == Mark::Checkpoint {
            let origins = self.partitions.origins();
            self.taker.begin(plan.epoch, origins, now);
        }
        self.feed(plan)
    }

    fn hinder(&mut self, why: String) {
        if self
            .progress
            .hindered
            .as_ref()
            .is_none_or(|(before, _)| *before != why)
        {
            tracing::error!(%why, "input is held up; trying again each second");
        }
        self.stale.store(true, Ordering::Release);
        self.taker.refuse(&why);
        self.progress.hindered = Some((why, now()));
    }

    /// Publishes a closed epoch.
    fn show(&mut self, epoch: Epoch, times: &Times) {
        let streams = (0..).zip(&self.catalog.streams).zip(&times.streams);
        let streams = streams.map(|((place, stream), time)| {
            let partitions = time.partitions.iter().map(|(id, partition)| {
                let label = PartitionLabel {
                    position: partition.position,
                    end: self.partitions.end(place, *id).max(partition.position),
                    watermark: visible(time.partition_watermark(partition)),
                    idle: partition.idle,
                };
                (*id, label)
            });
            let partitions = partitions.collect();
            (
                stream.name.clone(),
                StreamLabel {
                    watermark: visible(time.watermark),
                    partitions,
                },
            )
        });
        let streams = streams.collect();
        self.views.publish(Labels {
            run: self.run,
            epoch,
            streams,
        });
        self.sinks.release(epoch, self.journal.durable());
        self.show_ready();
    }

    fn show_ready(&mut self) {
        let shown = self.views.upper().map(|labels| labels.epoch);
        if let (Some(ready), Some(shown)) = (self.progress.ready_at, shown)
            && shown >= ready
        {
            self.progress.ready_at = None;
            self.views.set_ready();
        }
    }

    /// Takes a last checkpoint, ends the dataflow and closes the data directory. A service that is
    /// not ready yet takes none: the next start reads the journal again.
    fn stop(mut self, inbox: &Receiver<Message>, data: DataDir) -> Result<(), LiveError> {
        if self.views.is_ready() {
            self.take_last_checkpoint(inbox)?;
        }
        self.dataflow.finish()?;
        self.sinks.release(0, self.journal.durable());
        self.sinks.stop();
        self.taker.snapshots.finish();
        drop(self.syncer);
        Ok(data.close(self.journal)?)
    }

    fn take_last_checkpoint(&mut self, inbox: &Receiver<Message>) -> Result<(), LiveError> {
        let since = now();
        let (done, outcome) = channel();
        // Nobody may be left to hear it.
        self.taker
            .ask(None, Box::new(move |result| drop(done.send(result))));
        self.progress.hindered = None;
        while outcome.try_recv().is_err() && since.elapsed() < LAST_CHECKPOINT {
            if let Ok(message) = inbox.recv_timeout(Duration::from_millis(20)) {
                self.hear(message)?;
            }
            self.cut()?;
            if self.progress.hindered.is_some() && !self.taker.is_taking() {
                tracing::warn!("stopping without a last checkpoint; the next start takes longer");
                break;
            }
        }
        Ok(())
    }
}
