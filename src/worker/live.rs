//! The live service: restored from the newest checkpoint, then fed by its coordinator.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::checkpoints::Taker;
use super::coordinator::{Coordinator, Message, Progress};
use super::cuts::{Cutter, Reading, SPLIT_BYTES};
use super::outlet::{LiveOutlet, Poison};
use super::partitions::Partitions;
use super::restore::{self, Fate};
use super::run::{Dataflow, Hands, RunError, Setup};
use super::sinks::{Known, Planned, SinkPlan};
use super::snapshots::Snapshots;
use super::start::Start;
use super::syncer::Syncer;
use crate::dataflow::clock::Times;
use crate::query::{Catalog, Query};
use crate::record::LastRecord;
use crate::source::{Clock, Source, SourceError};
use crate::state::{Checkpoint, CheckpointStore, DataDir, Journal, StateError};
use crate::time::{Epoch, millis_of};
use crate::view::{CheckpointInfo, Checkpoints, History, Outbox, QuerySpec, Views};

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
    /// How much of the past views keep.
    pub history: History,
    /// How far a partition may run ahead of the slowest of its stream, by stream; as far as it will
    /// where nothing is said.
    pub max_drift: BTreeMap<String, Duration>,
    /// What happens to records that cannot be read, by stream; dead-letter where nothing is said.
    pub poison: BTreeMap<String, Poison>,
}

/// Why the service cannot start or go on.
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
    /// A partition is read from elsewhere than its saved position.
    #[error(
        "partition {partition} of stream '{stream}' was read from '{was}' and is now '{is}', where \
         the saved position means nothing; name the old one, or start with --from-scratch"
    )]
    Moved {
        /// The stream.
        stream: String,
        /// The partition.
        partition: u32,
        /// What it was read from.
        was: String,
        /// What it would be read from.
        is: String,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What is to run.
pub struct Work {
    /// The queries.
    pub queries: Vec<Query>,
    /// What is known of them.
    pub catalog: Catalog,
    /// The sources of their streams.
    pub sources: Vec<Box<dyn Source>>,
    /// The sinks of their answers; each names one of the queries.
    pub sinks: Vec<SinkPlan>,
    /// Where state is kept, and what of it to start from.
    pub start: Start,
    /// Tells the time of day.
    pub clock: Clock,
}

/// A running service.
pub struct Live {
    /// The answers.
    pub views: Arc<Views>,
    /// Set while no input can be taken, for example because the disk is full.
    pub stale: Arc<AtomicBool>,
    /// What waits for each sink, and how it fares.
    pub outboxes: Arc<[Arc<Outbox>]>,
    messages: Sender<Message>,
    store: CheckpointStore,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Checkpoints for Live {
    fn take(
        &self,
        label: Option<String>,
        reply: Box<dyn FnOnce(Result<CheckpointInfo, String>) + Send>,
    ) {
        if let Err(unsent) = self.messages.send(Message::Take(label, reply))
            && let Message::Take(_, reply) = unsent.0
        {
            reply(Err("the service is stopping".to_owned()));
        }
    }

    fn problem(&self) -> Option<String> {
        self.store.problem()
    }

    fn list(&self) -> Vec<CheckpointInfo> {
        self.store.list().unwrap_or_else(|error| {
            tracing::error!(%error, "checkpoints cannot be listed");
            Vec::new()
        })
    }
}

impl Live {
    /// Restores the newest checkpoint, replays the journal and starts to read. `on_failure` hears
    /// why the service cannot go on, should that come.
    #[allow(
        clippy::disallowed_methods,
        reason = "an edge: it measures how long nothing came"
    )]
    pub fn start(
        work: Work,
        options: LiveOptions,
        on_failure: impl FnOnce(String) + Send + 'static,
    ) -> Result<Live, LiveError> {
        let Work {
            queries,
            catalog,
            sources,
            sinks,
            start,
            clock,
        } = work;
        let (data, store, journal) = (start.data, start.store, start.journal);
        let now = Instant::now();
        let saved = saved(start.checkpoint, &catalog, &sources, &journal)?;
        let (times, restored) = (saved.times, saved.epoch.map(|(epoch, _)| epoch));
        let views = Arc::new(views(&catalog, &data, &options));
        let sinks = Planned::new(sinks, &views, restored, start.sent);
        let (outboxes, (messages, inbox)) = (Arc::clone(&sinks.outboxes), channel());
        let snapshots = snapshots(&store, saved.checkpoint, &sinks, &messages)?;
        let said = teller(&messages);
        let dataflow = Dataflow::start(Setup {
            queries,
            catalog: catalog.clone(),
            workers: options.workers,
            times: times.clone(),
            max_ahead: options.max_ahead,
            final_only: false,
            hands: hands(&snapshots, &views, &outboxes, &options),
            said: Box::new(move |it| said(Message::Said(it))),
        })?;
        let arrived = Arc::new(AtomicBool::new(false));
        let stale = Arc::new(AtomicBool::new(false));
        let readings = readings(sources, &catalog, &messages, &arrived);
        let (idle, drifts) = (options.idle_timeout, drifts(&options, &catalog));
        let partitions = Partitions::new(readings, &times, &saved.lasts, idle, drifts);
        let taker = Taker::new(
            store.clone(),
            snapshots,
            data.run(),
            options.snapshot_interval,
            catalog.boundaries.len() * options.workers,
            now,
        );
        let known = Known::new(&data, &journal, &catalog, saved.epoch, options.max_ahead);
        let sinks = sinks.start(known, waker(&messages, &arrived))?;
        let coordinator = Coordinator {
            arrived,
            stale: Arc::clone(&stale),
            syncer: Syncer::start(messages.clone()).map_err(LiveError::Thread)?,
            options,
            clock,
            catalog,
            views: Arc::clone(&views),
            journal,
            sinks,
            run: data.run(),
            dataflow,
            taker,
            partitions,
            cutter: Cutter::new(SPLIT_BYTES),
            progress: Progress::new(restored.unwrap_or(0), now),
        };
        let thread = spawn(move || coordinator.run(&inbox, restored, data, on_failure))?;
        Ok(Live {
            views,
            stale,
            outboxes,
            messages,
            store,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Takes a last checkpoint and stops.
    pub fn stop(&self) {
        // A coordinator that is gone has stopped already.
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

fn spawn(run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LiveError> {
    let builder = std::thread::Builder::new().name("coordinator".to_owned());
    builder.spawn(run).map_err(LiveError::Thread)
}

fn snapshots(
    store: &CheckpointStore,
    restored: Option<Checkpoint>,
    sinks: &Planned,
    messages: &Sender<Message>,
) -> Result<Snapshots, LiveError> {
    if let Some(restored) = &restored {
        store.resume(restored);
    }
    let (heard, sent) = (teller(messages), sinks.sent_now());
    let heard = move |epoch, result| heard(Message::Heard(epoch, result));
    let restored = restored.map(Arc::new);
    Snapshots::start(store.clone(), restored, Box::new(sent), Box::new(heard))
        .map_err(LiveError::Thread)
}

/// What each worker is given.
fn hands(
    snapshots: &Snapshots,
    views: &Arc<Views>,
    outboxes: &Arc<[Arc<Outbox>]>,
    options: &LiveOptions,
) -> Arc<dyn Fn(usize) -> Hands + Send + Sync> {
    let (vaults, views) = (snapshots.vaults(options.workers), Arc::clone(views));
    let outboxes = Arc::clone(outboxes);
    let poison = Arc::new(options.poison.clone());
    Arc::new(move |worker| Hands {
        vault: vaults(worker),
        outlet: Box::new(LiveOutlet::new(worker, &views, &outboxes, &poison)),
    })
}

/// The sources of the streams that queries read, each to wake the coordinator.
fn readings(
    sources: Vec<Box<dyn Source>>,
    catalog: &Catalog,
    messages: &Sender<Message>,
    arrived: &Arc<AtomicBool>,
) -> Vec<Reading> {
    let reading = |mut source: Box<dyn Source>| {
        let stream = catalog.stream(source.stream())?;
        source.on_arrival(Arc::new(waker(messages, arrived)));
        Some(Reading { source, stream })
    };
    sources.into_iter().filter_map(reading).collect()
}

/// What wakes the coordinator.
fn waker(
    messages: &Sender<Message>,
    arrived: &Arc<AtomicBool>,
) -> impl Fn() + Clone + Send + Sync + 'static {
    let (tell, arrived) = (Arc::new(teller(messages)), Arc::clone(arrived));
    move || {
        // One wake-up on its way is enough.
        if !arrived.swap(true, Ordering::AcqRel) {
            tell(Message::Arrival);
        }
    }
}

/// How far partitions may run ahead, in ms, by stream of the catalog.
fn drifts(options: &LiveOptions, catalog: &Catalog) -> BTreeMap<u16, i64> {
    let drifts = options.max_drift.iter();
    drifts
        .filter_map(|(name, drift)| Some((catalog.stream(name)?, millis_of(*drift))))
        .collect()
}

/// What to start from: a checkpoint, or nothing.
struct Saved {
    checkpoint: Option<Checkpoint>,
    times: Times,
    lasts: BTreeMap<(u16, u32), LastRecord>,
    /// Its epoch and its run.
    epoch: Option<(Epoch, u64)>,
}

/// Reads a checkpoint, and sees to it that the sources hold what was read after it.
fn saved(
    checkpoint: Option<Checkpoint>,
    catalog: &Catalog,
    sources: &[Box<dyn Source>],
    journal: &Journal,
) -> Result<Saved, LiveError> {
    let saved = loaded(checkpoint, catalog, sources)?;
    expect(sources, catalog, &saved, journal)?;
    Ok(saved)
}

fn loaded(
    checkpoint: Option<Checkpoint>,
    catalog: &Catalog,
    sources: &[Box<dyn Source>],
) -> Result<Saved, LiveError> {
    let Some(checkpoint) = checkpoint else {
        return Ok(Saved {
            checkpoint: None,
            times: restore::times(None, catalog),
            lasts: BTreeMap::new(),
            epoch: None,
        });
    };
    let manifest = checkpoint.manifest();
    for source in sources {
        let saved = manifest.streams.get(source.stream());
        for (partition, was) in saved.iter().flat_map(|saved| &saved.origins) {
            let (partition, is) = (*partition, source.origin(*partition));
            // A partition that is not listed any more is not read at its position either.
            if !is.is_empty() && is != *was {
                let (stream, was) = (source.stream().to_owned(), was.clone());
                return Err(LiveError::Moved {
                    stream,
                    partition,
                    was,
                    is,
                });
            }
        }
    }
    check_fit(&checkpoint, catalog)?;
    Ok(Saved {
        times: restore::times(Some(manifest), catalog),
        lasts: restore::lasts(Some(manifest), catalog),
        epoch: Some((manifest.epoch, manifest.run)),
        checkpoint: Some(checkpoint),
    })
}

/// Says to the sources how far they were read, before anything is: what a checkpoint or an epoch
/// of the journal holds must still be there.
fn expect(
    sources: &[Box<dyn Source>],
    catalog: &Catalog,
    saved: &Saved,
    journal: &Journal,
) -> Result<(), LiveError> {
    let mut reached: BTreeMap<(String, u32), u64> = BTreeMap::new();
    for (stream, time) in catalog.streams.iter().zip(&saved.times.streams) {
        let partitions = time.partitions.iter();
        reached.extend(partitions.map(|(id, at)| ((stream.name.clone(), *id), at.position)));
    }
    let epoch = saved.epoch.map_or(0, |(epoch, _)| epoch);
    for epoch in journal.read_after(epoch)? {
        for (stream, partitions) in epoch?.streams {
            let partitions = partitions.into_iter();
            reached.extend(partitions.map(|(id, position)| ((stream.clone(), id), position)));
        }
    }
    for ((stream, partition), position) in reached {
        if let Some(source) = sources.iter().find(|source| source.stream() == stream) {
            source.expect(partition, position)?;
        }
    }
    Ok(())
}

/// Whether all saved rows fit this build.
fn check_fit(checkpoint: &Checkpoint, catalog: &Catalog) -> Result<(), LiveError> {
    checkpoint.is_readable()?;
    for (boundary, fate) in restore::fates(checkpoint, catalog)? {
        match fate {
            Fate::Refused(reason) => return Err(LiveError::Misfit { boundary, reason }),
            Fate::Restored => {}
            Fate::New => tracing::info!(%boundary, "new state, starts empty"),
            Fate::Dropped => tracing::warn!(%boundary, "no query uses this saved state: dropped"),
        }
    }
    Ok(())
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

/// Tells the coordinator, from any thread.
fn teller(messages: &Sender<Message>) -> impl Fn(Message) + Send + Sync + 'static {
    let messages = Mutex::new(messages.clone());
    move |message| {
        // Once the coordinator has ended nobody needs to hear.
        let _ = messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send(message);
    }
}
