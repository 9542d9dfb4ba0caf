//! The live service's heart: cuts epochs from the sources, journals each before it is fed, shows
//! it when every worker has closed it, and takes checkpoints. One thread; it may read and write
//! files, so that the workers never do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::cuts::{Cutter, Reading, SPLIT_BYTES};
use super::outlet::{LiveOutlet, Poison};
use super::partitions::Partitions;
use super::restore;
use super::run::{Dataflow, Hands, RunError, Said, Setup};
use super::snapshots::Snapshots;
use crate::dataflow::clock::{Times, visible};
use crate::dataflow::feed::{Mark, Plan};
use crate::query::{Catalog, Query};
use crate::source::{Clock, Source, SourceError};
use crate::state::{CheckpointStore, DataDir, Journal, StateError, Unsynced};
use crate::time::Epoch;
use crate::view::{
    CheckpointInfo, Checkpoints, History, Labels, PartitionLabel, QuerySpec, StreamLabel, Views,
};

/// How many epochs may be open at once: one being worked on, one waiting. While both are, input
/// gathers, so that epochs grow under load instead of queueing.
const OPEN_EPOCHS: usize = 2;

/// How the service runs.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// How many workers.
    pub workers: usize,
    /// After how long without input an epoch is closed all the same.
    pub heartbeat: Duration,
    /// How many bytes may be between the sources and the slowest view.
    pub max_in_flight: usize,
    /// After how long without records a partition is idle.
    pub idle_timeout: Duration,
    /// How far ahead of its arrival an event time may be.
    pub max_ahead: Duration,
    /// How often a checkpoint is taken.
    pub snapshot_interval: Duration,
    /// How many checkpoints are kept.
    pub retain: usize,
    /// How much of the past views keep.
    pub history: History,
    /// What happens to records that cannot be read, by stream; dead-letter where nothing is said.
    pub poison: BTreeMap<String, Poison>,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The data directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The workers cannot run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Saved state does not fit the queries.
    #[error(
        "the saved state '{boundary}' does not fit this build: {reason}; run the build that wrote \
         it, or start with --from-scratch"
    )]
    Misfit {
        /// The state boundary.
        boundary: String,
        /// Why.
        reason: String,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What the coordinator is told.
enum Message {
    Arrival,
    Said(Said),
    Take(Box<dyn FnOnce(Result<CheckpointInfo, String>) + Send>),
    Heard(Epoch, Result<CheckpointInfo, String>),
    Synced(Result<Epoch, StateError>),
    Stop,
}

/// A running service.
pub struct Live {
    /// The answers.
    pub views: Arc<Views>,
    messages: Sender<Message>,
    store: CheckpointStore,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Checkpoints for Live {
    fn take(&self, reply: Box<dyn FnOnce(Result<CheckpointInfo, String>) + Send>) {
        if let Err(unsent) = self.messages.send(Message::Take(reply))
            && let Message::Take(reply) = unsent.0
        {
            reply(Err("the service is stopping".to_owned()));
        }
    }

    fn list(&self) -> Vec<CheckpointInfo> {
        self.store.list().unwrap_or_else(|error| {
            tracing::error!(%error, "checkpoints cannot be listed");
            Vec::new()
        })
    }
}

impl Live {
    /// Restores the newest checkpoint, replays the journal and starts to read.
    pub fn start(
        queries: Vec<Query>,
        catalog: Catalog,
        sources: Vec<Box<dyn Source>>,
        data: DataDir,
        options: LiveOptions,
        clock: Clock,
        on_failure: impl FnOnce(String) + Send + 'static,
    ) -> Result<Live, LiveError> {
        let store = CheckpointStore::open(&data, options.retain)?;
        let journal = Journal::open(&data)?;
        let checkpoint = store.newest_valid()?;
        let mut rows = BTreeMap::new();
        if let Some(checkpoint) = &checkpoint {
            for (boundary, fate) in restore::fates(checkpoint, &catalog)? {
                match fate {
                    restore::Fate::Refused(reason) => {
                        return Err(LiveError::Misfit { boundary, reason });
                    }
                    restore::Fate::Restored => {}
                    fate => tracing::info!(%boundary, ?fate, "saved state"),
                }
            }
            rows = restore::rows(checkpoint, &catalog)?;
        }
        let manifest = checkpoint.as_ref().map(|checkpoint| checkpoint.manifest());
        let times = restore::times(manifest, &catalog);
        let views = Arc::new(views(&catalog, &data, &options));
        let (messages, inbox) = channel();
        let snapshots = {
            let messages = Mutex::new(messages.clone());
            let heard = move |epoch, result| send(&messages, Message::Heard(epoch, result));
            Snapshots::start(rows, Box::new(heard)).map_err(LiveError::Thread)?
        };
        let dataflow = Dataflow::start(Setup {
            queries,
            catalog: catalog.clone(),
            workers: options.workers,
            times: times.clone(),
            max_ahead: options.max_ahead,
            final_only: false,
            hands: {
                let (vaults, views) = (snapshots.vaults(), Arc::clone(&views));
                let poison = Arc::new(options.poison.clone());
                Arc::new(move |worker| Hands {
                    vault: vaults(worker),
                    outlet: Box::new(LiveOutlet::new(worker, &views, &poison)),
                })
            },
            said: {
                let messages = Mutex::new(messages.clone());
                Box::new(move |said| send(&messages, Message::Said(said)))
            },
        })?;
        let readings = sources.into_iter().filter_map(|mut source| {
            let stream = catalog.stream(source.stream())?;
            source.on_arrival(wake(messages.clone()));
            Some(Reading { source, stream })
        });
        let partitions = Partitions::new(readings.collect(), &times, options.idle_timeout);
        let restored = manifest.map(|manifest| manifest.epoch);
        let coordinator = Coordinator {
            syncer: Syncer::start(messages.clone()).map_err(LiveError::Thread)?,
            options,
            clock,
            catalog,
            views: Arc::clone(&views),
            store: store.clone(),
            journal,
            run: data.run(),
            dataflow,
            snapshots,
            partitions,
            cutter: Cutter::new(SPLIT_BYTES),
            last: restored.unwrap_or(0),
            open: VecDeque::new(),
            times: BTreeMap::new(),
            ready_at: None,
            retained: VecDeque::new(),
            taking: None,
            asked: Vec::new(),
            last_epoch_at: Instant::now(),
            last_snapshot_at: Instant::now(),
            moved: false,
            hindered: None,
        };
        let thread = std::thread::Builder::new()
            .name("coordinator".to_owned())
            .spawn(move || {
                if let Err(error) = coordinator.run(&inbox, restored, data) {
                    on_failure(error.to_string());
                }
            })
            .map_err(LiveError::Thread)?;
        Ok(Live {
            views,
            messages,
            store,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Takes a last checkpoint and stops.
    pub fn stop(&self) {
        let _ = self.messages.send(Message::Stop);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the coordinator panicked");
        }
    }
}

fn views(catalog: &Catalog, data: &DataDir, options: &LiveOptions) -> Views {
    let specs = catalog.queries.iter().map(|query| QuerySpec {
        name: query.name.clone(),
        doc: query.doc.clone(),
        key_schema: query.key_schema.clone(),
        value_schema: query.value_schema.clone(),
        streams: query.streams.clone(),
        has_final: query.has_final,
    });
    let streams = catalog.stream_names();
    Views::new(
        data.run(),
        specs.collect(),
        streams,
        options.workers,
        options.history,
    )
}

fn send(messages: &Mutex<Sender<Message>>, message: Message) {
    // Once the coordinator has ended nobody needs to hear.
    let _ = messages
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send(message);
}

/// Wakes the coordinator, at most once per look at the sources.
fn wake(messages: Sender<Message>) -> crate::source::Wake {
    let messages = Mutex::new(messages);
    Arc::new(move || send(&messages, Message::Arrival))
}

/// Syncs the journal off the coordinator's thread, one group at a time.
struct Syncer {
    groups: SyncSender<Unsynced>,
    is_busy: bool,
}

impl Syncer {
    fn start(messages: Sender<Message>) -> std::io::Result<Syncer> {
        let (groups, inbox) = sync_channel::<Unsynced>(1);
        std::thread::Builder::new()
            .name("journal-sync".to_owned())
            .spawn(move || {
                for group in inbox {
                    if messages.send(Message::Synced(group.sync())).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Syncer {
            groups,
            is_busy: false,
        })
    }
}

type Reply = Box<dyn FnOnce(Result<CheckpointInfo, String>) + Send>;

/// A checkpoint under way.
struct Taking {
    epoch: Epoch,
    replies: Vec<Reply>,
    times: Option<Times>,
}

pub(super) struct Coordinator {
    options: LiveOptions,
    clock: Clock,
    catalog: Catalog,
    views: Arc<Views>,
    store: CheckpointStore,
    journal: Journal,
    syncer: Syncer,
    run: u64,
    dataflow: Dataflow,
    snapshots: Snapshots,
    partitions: Partitions,
    cutter: Cutter,
    /// The newest epoch fed.
    last: Epoch,
    /// Epochs fed and not closed, with their bytes.
    open: VecDeque<(Epoch, usize)>,
    /// The times of epochs not yet shown.
    times: BTreeMap<Epoch, Times>,
    /// The epoch that makes the service ready.
    ready_at: Option<Epoch>,
    /// The positions of retained checkpoints, oldest first.
    retained: VecDeque<(Epoch, Times)>,
    taking: Option<Taking>,
    asked: Vec<Reply>,
    last_epoch_at: Instant,
    last_snapshot_at: Instant,
    /// Whether anything was read since the last checkpoint.
    moved: bool,
    /// Why no epoch can be cut, and since when.
    hindered: Option<(String, Instant)>,
}

impl Coordinator {
    fn run(
        mut self,
        inbox: &Receiver<Message>,
        restored: Option<Epoch>,
        data: DataDir,
    ) -> Result<(), LiveError> {
        if let Some(epoch) = restored {
            self.feed(Plan {
                epoch,
                ..Plan::default()
            })?;
            self.retained.push_back((epoch, self.partitions.times()));
        }
        self.replay_journal(inbox)?;
        self.snapshots.forget_restored();
        while !self.turn(inbox)? {}
        self.stop(inbox, data)
    }

    /// Feeds the journalled epochs again: the same numbers, the same cuts.
    fn replay_journal(&mut self, inbox: &Receiver<Message>) -> Result<(), LiveError> {
        for entry in self.journal.read_after(self.last)? {
            let entry = entry?;
            let mut plan = Plan {
                epoch: entry.epoch,
                ..Plan::default()
            };
            self.partitions
                .again(&entry, &self.catalog, &mut self.cutter, &mut plan)?;
            while self.is_full() {
                if let Ok(message) = inbox.recv() {
                    self.hear(message)?;
                }
            }
            self.feed(plan)?;
        }
        self.ready_at = Some(self.last);
        self.show_ready();
        Ok(())
    }

    /// One look at everything; true when told to stop.
    fn turn(&mut self, inbox: &Receiver<Message>) -> Result<bool, LiveError> {
        let wait = self
            .options
            .heartbeat
            .saturating_sub(self.last_epoch_at.elapsed());
        let mut message = match inbox.recv_timeout(wait) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(true),
        };
        while let Some(next) = message {
            if matches!(next, Message::Stop) {
                return Ok(true);
            }
            self.hear(next)?;
            message = inbox.try_recv().ok();
        }
        self.cut()?;
        self.sync_journal();
        Ok(false)
    }

    fn hear(&mut self, message: Message) -> Result<(), LiveError> {
        match message {
            Message::Arrival | Message::Stop => {}
            Message::Said(Said::Times(epoch, times)) => {
                if let Some(taking) = self.taking.as_mut().filter(|taking| taking.epoch == epoch) {
                    let published_at = (self.clock)();
                    let manifest = restore::manifest(&times, &self.catalog, published_at);
                    taking.times = Some(times.clone());
                    // What the checkpoint builds on must be on disk before it counts.
                    self.journal.sync()?;
                    self.snapshots.publish(manifest);
                }
                self.times.insert(epoch, times);
            }
            Message::Said(Said::Closed(frontier)) => {
                while self
                    .open
                    .front()
                    .is_some_and(|(epoch, _)| *epoch < frontier)
                {
                    self.open.pop_front();
                }
                let later = self.times.split_off(&frontier);
                for (epoch, times) in std::mem::replace(&mut self.times, later) {
                    self.show(epoch, &times);
                }
            }
            Message::Said(Said::Ended) => {
                return Err(RunError::Panicked("the dataflow ended early".to_owned()).into());
            }
            Message::Take(reply) => self.asked.push(reply),
            Message::Heard(epoch, result) => self.heard(epoch, result)?,
            Message::Synced(result) => {
                self.syncer.is_busy = false;
                result?;
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let bytes: usize = self.open.iter().map(|(_, bytes)| bytes).sum();
        self.open.len() >= OPEN_EPOCHS || bytes >= self.options.max_in_flight
    }

    fn feed(&mut self, plan: Plan) -> Result<(), LiveError> {
        let bytes = plan.tasks.iter().map(|task| task.chunk.bytes.len()).sum();
        self.last = plan.epoch;
        self.open.push_back((plan.epoch, bytes));
        self.last_epoch_at = Instant::now();
        Ok(self.dataflow.feed(plan)?)
    }

    /// Cuts the next epoch if there is a reason and room for one.
    fn cut(&mut self) -> Result<(), LiveError> {
        let now = Instant::now();
        if self.is_full() {
            self.partitions.not_read(now);
            return Ok(());
        }
        let retry = Duration::from_secs(1);
        if self
            .hindered
            .as_ref()
            .is_some_and(|(_, since)| now.duration_since(*since) < retry)
        {
            self.partitions.not_read(now);
            return Ok(());
        }
        let room =
            self.options.max_in_flight - self.open.iter().map(|(_, bytes)| bytes).sum::<usize>();
        let mut plan = Plan::default();
        if let Err(error) = self.partitions.next(now, room, &mut self.cutter, &mut plan) {
            self.hinder(error.to_string());
        }
        let wants_checkpoint = self.wants_checkpoint(now);
        let is_due = now.duration_since(self.last_epoch_at) >= self.options.heartbeat;
        let is_empty = plan.tasks.is_empty() && plan.changes.is_empty();
        if is_empty && !is_due && !wants_checkpoint {
            return Ok(());
        }
        let wall = u64::try_from((self.clock)().0).unwrap_or(0);
        plan.epoch = wall.max(self.last + 1).max(self.journal.high_water() + 1);
        if wants_checkpoint {
            plan.mark = Mark::Checkpoint;
        }
        let entry = self.partitions.entry(&plan, self.run, &self.catalog);
        if let Err(error) = self.journal.append(&entry) {
            // Nothing was fed, nothing is lost: the same records are cut again later.
            self.hinder(error.to_string());
            return Ok(());
        }
        if let Some((why, _)) = self.hindered.take() {
            tracing::info!(%why, "reading again");
        }
        self.partitions.accept(&plan);
        self.moved |= !plan.tasks.is_empty();
        if wants_checkpoint {
            self.begin_checkpoint(plan.epoch, now);
        }
        self.feed(plan)
    }

    fn hinder(&mut self, why: String) {
        if self
            .hindered
            .as_ref()
            .is_none_or(|(before, _)| *before != why)
        {
            tracing::error!(%why, "no input is taken; trying again each second");
        }
        self.hindered = Some((why, Instant::now()));
    }

    fn wants_checkpoint(&self, now: Instant) -> bool {
        let is_due = now.duration_since(self.last_snapshot_at) >= self.options.snapshot_interval;
        self.taking.is_none() && (!self.asked.is_empty() || (is_due && self.moved))
    }

    fn begin_checkpoint(&mut self, epoch: Epoch, now: Instant) {
        self.last_snapshot_at = now;
        let replies = std::mem::take(&mut self.asked);
        match self.store.begin(epoch, self.run) {
            Ok(writer) => {
                let segments = self.catalog.boundaries.len() * self.options.workers;
                self.snapshots.begin(writer, segments);
                self.taking = Some(Taking {
                    epoch,
                    replies,
                    times: None,
                });
                self.moved = false;
            }
            Err(error) => {
                tracing::error!(%error, "no checkpoint is taken");
                replies
                    .into_iter()
                    .for_each(|reply| reply(Err(error.to_string())));
            }
        }
    }

    fn heard(
        &mut self,
        epoch: Epoch,
        result: Result<CheckpointInfo, String>,
    ) -> Result<(), LiveError> {
        let Some(taking) = self.taking.take_if(|taking| taking.epoch == epoch) else {
            return Ok(());
        };
        match &result {
            Ok(info) => tracing::debug!(epoch, bytes = info.bytes, "checkpoint published"),
            Err(error) => {
                self.moved = true;
                tracing::error!(epoch, %error, "the checkpoint failed; the older ones stand");
            }
        }
        if result.is_ok()
            && let Some(times) = taking.times
        {
            self.retained.push_back((epoch, times));
            self.journal.rotate()?;
            self.release()?;
        }
        taking
            .replies
            .into_iter()
            .for_each(|reply| reply(result.clone()));
        Ok(())
    }

    /// Lets journal and logs go before the oldest checkpoint that may still be restored.
    fn release(&mut self) -> Result<(), LiveError> {
        while self.retained.len() > self.options.retain.max(2) {
            self.retained.pop_front();
        }
        if self.retained.len() < self.options.retain.max(2) {
            return Ok(());
        }
        if let Some((epoch, times)) = self.retained.front() {
            self.journal.forget_before(*epoch)?;
            self.partitions.release(times);
        }
        Ok(())
    }

    fn sync_journal(&mut self) {
        if self.syncer.is_busy {
            return;
        }
        if let Some(group) = self.journal.unsynced() {
            self.syncer.is_busy = self.syncer.groups.try_send(group).is_ok();
        }
    }

    /// Publishes a closed epoch.
    fn show(&mut self, epoch: Epoch, times: &Times) {
        let streams = self
            .catalog
            .streams
            .iter()
            .zip(&times.streams)
            .map(|(stream, time)| {
                let place = self.catalog.stream(&stream.name);
                let partitions = time.partitions.iter().map(|(id, partition)| {
                    let label = PartitionLabel {
                        position: partition.position,
                        end: self.partitions.end(place, *id).max(partition.position),
                        watermark: visible(time.partition_watermark(partition)),
                        idle: partition.idle,
                    };
                    (*id, label)
                });
                let label = StreamLabel {
                    watermark: visible(time.watermark),
                    partitions: partitions.collect(),
                };
                (stream.name.clone(), label)
            });
        let streams = streams.collect();
        self.views.publish(Labels {
            run: self.run,
            epoch,
            streams,
        });
        self.show_ready();
    }

    fn show_ready(&mut self) {
        let shown = self.views.upper().map(|labels| labels.epoch);
        let is_ready = match (self.ready_at, shown) {
            (Some(ready), Some(shown)) => shown >= ready,
            _ => false,
        };
        if is_ready && !self.views.is_ready() {
            self.views.set_ready();
        }
    }

    /// Takes a last checkpoint, ends the dataflow and closes the data directory.
    fn stop(mut self, inbox: &Receiver<Message>, data: DataDir) -> Result<(), LiveError> {
        let patience = Instant::now();
        let (done, outcome) = channel();
        self.asked
            .push(Box::new(move |result| drop(done.send(result))));
        while outcome.try_recv().is_err() && patience.elapsed() < Duration::from_secs(60) {
            if let Ok(message) = inbox.recv_timeout(Duration::from_millis(20)) {
                self.hear(message)?;
            }
            self.cut()?;
        }
        self.dataflow.finish()?;
        self.snapshots.finish();
        drop(self.syncer);
        data.close(self.journal)?;
        Ok(())
    }
}
