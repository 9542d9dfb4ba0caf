//! The live dataflow driven epoch by epoch, without files, clocks or sleeping.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::capture::{Bag, Boundaries, Capture, Heard, Of, net};
use super::round::{Cut, Round};
use crate::dataflow::clock::{Times, visible};
use crate::dataflow::feed::{Change, Mark, PartitionChange, Plan};
use crate::query::{Catalog, Overrides, Query};
use crate::state::Manifest;
use crate::time::{Epoch, Timestamp, hours};
use crate::worker::restore;
use crate::worker::run::{Dataflow, Said, Setup};

/// How long an epoch may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The state of a dataflow as of one epoch: what a checkpoint holds.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The epoch.
    pub epoch: Epoch,
    /// How far each stream was read, and its times.
    pub manifest: Manifest,
    /// The rows of every state boundary.
    pub(super) boundaries: Boundaries,
}

/// A dataflow that runs as in the live service, one step at a time.
///
/// Positions are byte offsets in the concatenation of what a partition was given, or what its
/// messages say.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use waterclock::prelude::*;
/// use waterclock::testing::{Round, Steps};
/// # #[derive(Clone, Debug, Serialize, Deserialize)]
/// # struct Click { user: Text, at: Timestamp }
/// # impl Event for Click {
/// #     const STREAM: &'static str = "clicks";
/// #     fn time(&self) -> Timestamp { self.at }
/// # }
/// fn clicks(flow: Flow) -> Table<(Text, Window), u64> {
///     flow.stream::<Click>()
///         .key_by(|click| click.user.clone())
///         .window(tumbling(minutes(1)))
///         .count()
/// }
/// let mut steps = Steps::start(vec![Query::new("clicks", "", clicks)], 2);
/// steps.epoch(Round::new().records("clicks", 0, r#"{"user":"u1","at":0}"#));
/// steps.epoch(Round::new().records("clicks", 0, r#"{"user":"u1","at":70000}"#));
/// assert_eq!(steps.watermark("clicks"), Some(Timestamp(65_000)));
///
/// let rows = steps.rows("clicks");
/// assert_eq!(rows[0].0.key(), r#"["u1",{"start":0,"end":60000}]"#);
/// assert_eq!(rows[0].0.value(), "1");
/// assert_eq!(rows[0].0.final_at(), Some(Timestamp(59_999)));
/// assert_eq!(steps.changes("clicks").len(), 2);
/// ```
pub struct Steps {
    catalog: Catalog,
    dataflow: Option<Dataflow>,
    heard: Receiver<Heard>,
    capture: Capture,
    partitions: BTreeMap<(u16, u32), At>,
    turn: u64,
    last: Epoch,
    /// Every epoch before this is closed.
    closed: Epoch,
    times: BTreeMap<Epoch, Times>,
}

#[derive(Clone, Copy, Default)]
struct At {
    position: u64,
    is_idle: bool,
}

impl Steps {
    /// Starts the queries with no state.
    ///
    /// # Panics
    ///
    /// If the queries cannot be built. Every method panics if a worker has.
    pub fn start(queries: Vec<Query>, workers: usize) -> Steps {
        Steps::with(queries, workers, None, &Overrides::default())
    }

    /// Starts the queries with saved state, on any number of workers.
    pub fn restore(queries: Vec<Query>, workers: usize, saved: Saved) -> Steps {
        Steps::with(queries, workers, Some(saved), &Overrides::default())
    }

    /// Starts the queries, with saved state if there is any, and other lateness bounds.
    pub fn with(
        queries: Vec<Query>,
        workers: usize,
        saved: Option<Saved>,
        overrides: &Overrides,
    ) -> Steps {
        let catalog = Catalog::of(&queries, overrides).expect("the queries build");
        let manifest = saved.as_ref().map(|saved| &saved.manifest);
        let times = restore::times(manifest, &catalog);
        let (epoch, boundaries) = saved.map_or_else(
            || (None, Boundaries::new()),
            |saved| (Some(saved.epoch), saved.boundaries),
        );
        let capture = Capture::default();
        let (sender, heard) = channel();
        let hands = capture.hands(boundaries, sender.clone());
        let sender = Mutex::new(sender);
        let said = Box::new(move |said| {
            if let Ok(sender) = sender.lock() {
                let _ = sender.send(Heard::Said(said));
            }
        });
        let dataflow = Dataflow::start(Setup {
            queries,
            catalog: catalog.clone(),
            workers,
            times: times.clone(),
            max_ahead: hours(1),
            final_only: false,
            hands,
            said,
        });
        let mut steps = Steps {
            catalog,
            dataflow: Some(dataflow.expect("the workers start")),
            heard,
            capture,
            partitions: partitions(&times),
            turn: 0,
            last: 0,
            closed: 0,
            times: BTreeMap::new(),
        };
        if let Some(epoch) = epoch {
            // As the service does: what was restored is shown before anything new is read.
            steps.epoch(Round::new().at(epoch));
        }
        steps
    }

    /// Feeds one epoch and waits until it is closed; its number.
    pub fn epoch(&mut self, round: Round) -> Epoch {
        self.feed(vec![round]);
        self.settle();
        self.last
    }

    /// Feeds epochs without waiting for them. The workers learn of all at once, so that frontiers
    /// jump over many.
    pub fn feed(&mut self, rounds: Vec<Round>) {
        let plans = rounds.into_iter().map(|round| self.plan(round)).collect();
        let dataflow = self.dataflow.as_ref().expect("present until dropped");
        dataflow.feed_all(plans).expect("the workers take input");
    }

    /// Waits until everything fed is closed on every worker.
    pub fn settle(&mut self) {
        while self.closed <= self.last {
            let heard = self.heard.recv_timeout(PATIENCE);
            match heard.unwrap_or_else(|_| panic!("epoch {} does not close", self.last)) {
                Heard::Said(Said::Times(epoch, times)) => {
                    self.times.insert(epoch, times);
                }
                Heard::Said(Said::Closed(frontier)) => self.closed = frontier,
                Heard::Said(Said::Ended) => panic!("the dataflow ended early"),
                Heard::Panicked => panic!("a worker panicked; what it said stands above"),
            }
        }
    }

    /// Takes a checkpoint of what was fed.
    pub fn checkpoint(&mut self) -> Saved {
        let epoch = self.epoch(Round::new().mark(Mark::Checkpoint));
        self.saved(epoch)
    }

    /// The checkpoint that a closed epoch marked [`Mark::Checkpoint`] took.
    pub fn saved(&self, epoch: Epoch) -> Saved {
        let boundaries = self.capture.lock().saved(epoch);
        let mut manifest = restore::manifest(
            &self.times[&epoch],
            &restore::Origins::new(),
            &self.catalog,
            Timestamp::default(),
        );
        manifest.epoch = epoch;
        Saved {
            epoch,
            manifest,
            boundaries: boundaries.expect("the epoch was marked as a checkpoint"),
        }
    }

    /// The net changes of a query, by closed epoch; epochs without any are left out.
    pub fn changes(&self, query: &str) -> Vec<(Epoch, Bag)> {
        self.changes_of(&Of::Query(query.to_owned()))
    }

    /// The rows of a query after the last closed epoch.
    pub fn rows(&self, query: &str) -> Bag {
        self.bag(&Of::Query(query.to_owned()))
    }

    /// What was late for a query and is kept; the key is `[stream, partition, position]`.
    pub fn late(&self, query: &str) -> Bag {
        self.bag(&Of::Late(query.to_owned()))
    }

    /// How many records were ever late for a query.
    pub fn late_total(&self, query: &str) -> u64 {
        self.total(&Of::Late(query.to_owned()))
    }

    /// What of a stream was rejected and is kept; the key is `[stream, partition, position]`.
    pub fn rejected(&self, stream: &str) -> Bag {
        self.bag(&Of::Rejected(stream.to_owned()))
    }

    /// How many records of a stream were ever rejected.
    pub fn rejected_total(&self, stream: &str) -> u64 {
        self.total(&Of::Rejected(stream.to_owned()))
    }

    /// The watermark of a stream after the last closed epoch.
    pub fn watermark(&self, stream: &str) -> Option<Timestamp> {
        self.watermarks(stream)
            .last()
            .and_then(|(_, watermark)| *watermark)
    }

    /// The watermark of a stream after each closed epoch.
    pub fn watermarks(&self, stream: &str) -> Vec<(Epoch, Option<Timestamp>)> {
        let place = usize::from(self.place(stream));
        let closed = self.times.range(..self.closed);
        closed
            .map(|(epoch, times)| (*epoch, visible(times.streams[place].watermark)))
            .collect()
    }

    fn changes_of(&self, of: &Of) -> Vec<(Epoch, Bag)> {
        let captured = self.capture.lock();
        let epochs = captured.changes.get(of).into_iter().flatten();
        epochs
            .filter(|(epoch, _)| **epoch < self.closed)
            .map(|(epoch, changes)| (*epoch, net(changes.iter().cloned())))
            .filter(|(_, changes)| !changes.is_empty())
            .collect()
    }

    fn bag(&self, of: &Of) -> Bag {
        let changes = self.changes_of(of);
        net(changes.into_iter().flat_map(|(_, changes)| changes))
    }

    fn total(&self, of: &Of) -> u64 {
        self.capture
            .lock()
            .totals
            .get(of)
            .copied()
            .unwrap_or_default()
    }

    fn place(&self, stream: &str) -> u16 {
        let known = self.catalog.stream_names();
        self.catalog
            .stream(stream)
            .unwrap_or_else(|| panic!("no query reads stream '{stream}': they read {known:?}"))
    }

    fn plan(&mut self, round: Round) -> Plan {
        let mut plan = Plan {
            epoch: round.epoch.unwrap_or(self.last + 1),
            mark: round.mark,
            ..Plan::default()
        };
        assert!(plan.epoch > self.last, "epochs increase");
        self.last = plan.epoch;
        for (stream, partition, change) in &round.changes {
            let stream = self.place(stream);
            self.say(stream, *partition, *change, &mut plan);
        }
        let mut cuts: BTreeMap<(u16, u32), Cut> = BTreeMap::new();
        for records in &round.records {
            let (stream, partition) = (self.place(&records.stream), records.partition);
            match self.partitions.get(&(stream, partition)) {
                None => self.say(stream, partition, Change::Appeared, &mut plan),
                Some(at) if at.is_idle && !records.bytes.is_empty() => {
                    self.say(stream, partition, Change::Revived, &mut plan);
                }
                Some(_) => {}
            }
            let at = self.partitions.entry((stream, partition)).or_default();
            let cut = cuts.entry((stream, partition)).or_insert(Cut {
                stream,
                position: at.position,
                place: 0,
                turn: 0,
            });
            cut.turn = self.turn;
            cut.tasks(records, round.chunk_bytes, &mut plan.tasks);
            (at.position, self.turn) = (cut.position, cut.turn);
        }
        plan
    }

    fn say(&mut self, stream: u16, partition: u32, change: Change, plan: &mut Plan) {
        let at = self.partitions.entry((stream, partition)).or_default();
        at.is_idle = change == Change::Idle;
        plan.changes.push(PartitionChange {
            stream,
            partition,
            change,
            position: at.position,
        });
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        let Some(dataflow) = self.dataflow.take() else {
            return;
        };
        if std::thread::panicking() {
            // After a panic the other workers may wait for ever; the test fails anyhow.
            std::mem::forget(dataflow);
        } else if let Err(error) = dataflow.finish() {
            panic!("{error}");
        }
    }
}

fn partitions(times: &Times) -> BTreeMap<(u16, u32), At> {
    let streams = (0..).zip(&times.streams);
    let partitions = streams.flat_map(|(stream, time)| {
        time.partitions.iter().map(move |(id, partition)| {
            let at = At {
                position: partition.position,
                is_idle: partition.idle,
            };
            ((stream, *id), at)
        })
    });
    partitions.collect()
}
