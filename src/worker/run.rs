//! The worker threads: they run the dataflow, and neither block nor wait for anything but input.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use timely::scheduling::SyncActivator;

use crate::dataflow::clock::Times;
use crate::dataflow::decode::Counted;
use crate::dataflow::feed::{Plan, feed};
use crate::dataflow::lines::RawLines;
use crate::dataflow::vault::Vault;
use crate::query::{Catalog, Env, Outlet, Query, Running};
use crate::time::Epoch;

/// What the workers say while they run; worker 0 speaks for all.
#[derive(Debug)]
pub enum Said {
    /// An epoch's input is complete; these are the streams' times after it.
    Times(Epoch, Times),
    /// Every epoch before this is complete on every worker, and taken by every sink.
    Closed(Epoch),
    /// The dataflow has ended.
    Ended,
}

/// What one worker is given; made on its own thread.
pub struct Hands {
    /// Where its boundaries save and find their rows.
    pub vault: Rc<dyn Vault>,
    /// Where its share of the answers goes.
    pub outlet: Box<dyn Outlet>,
}

/// A dataflow to run.
pub struct Setup {
    /// The queries.
    pub queries: Vec<Query>,
    /// What is known of them.
    pub catalog: Catalog,
    /// How many workers.
    pub workers: usize,
    /// The streams' times to start from.
    pub times: Times,
    /// How far ahead of its arrival an event time may be.
    pub max_ahead: Duration,
    /// Whether only final rows are wanted.
    pub final_only: bool,
    /// Makes what a worker is given, by its index.
    pub hands: Arc<dyn Fn(usize) -> Hands + Send + Sync>,
    /// Hears the workers.
    pub said: Box<dyn Fn(Said) + Send + Sync>,
}

/// A running dataflow.
pub struct Dataflow {
    // Dropped before the guards, which wait for the workers: these must hear of it first.
    feeder: Feeder,
    guards: timely::communication::WorkerGuards<()>,
    /// What is counted of each stream of the catalog.
    pub counted: Vec<Arc<Counted>>,
}

/// The way into the dataflow. Dropping it ends the input and wakes the workers to learn of it.
struct Feeder {
    plans: Option<Sender<Plan>>,
    wake: SyncActivator,
}

impl Drop for Feeder {
    fn drop(&mut self) {
        drop(self.plans.take());
        // Workers that are gone need not be woken.
        let _ = self.wake.activate();
    }
}

/// Why a dataflow could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The threads could not be started.
    #[error("cannot start the workers: {0}")]
    Start(String),
    /// A worker panicked; the dataflow is lost, its checkpoint is not.
    #[error("a worker stopped: {0}")]
    Panicked(String),
}

impl Dataflow {
    /// Starts the workers.
    pub fn start(setup: Setup) -> Result<Dataflow, RunError> {
        let (plans, receiver) = channel();
        let (wake_sender, wake) = channel();
        let counted: Vec<Arc<Counted>> = setup
            .catalog
            .streams
            .iter()
            .map(|_| Arc::default())
            .collect();
        let worker = Worker {
            setup,
            counted: counted.clone(),
            plans: Mutex::new(Some(receiver)),
            wake: Mutex::new(wake_sender),
        };
        let config = timely::Config::process(worker.setup.workers.max(1));
        let guards =
            timely::execute(config, move |timely| worker.run(timely)).map_err(RunError::Start)?;
        let wake = wake.recv().map_err(|e| RunError::Start(e.to_string()))?;
        let feeder = Feeder {
            plans: Some(plans),
            wake,
        };
        Ok(Dataflow {
            feeder,
            guards,
            counted,
        })
    }

    /// Feeds an epoch. Epochs must increase.
    pub fn feed(&self, plan: Plan) -> Result<(), RunError> {
        self.feed_all(vec![plan])
    }

    /// Feeds epochs of which workers that wait learn all at once.
    pub fn feed_all(&self, plans: Vec<Plan>) -> Result<(), RunError> {
        let gone = || RunError::Panicked("the workers take no more input".to_owned());
        let sender = self.feeder.plans.as_ref().ok_or_else(gone)?;
        for plan in plans {
            sender.send(plan).map_err(|_| gone())?;
        }
        self.feeder.wake.activate().map_err(|_| gone())
    }

    /// Ends the input, and waits for the workers to finish what they have.
    pub fn finish(self) -> Result<(), RunError> {
        let Dataflow { feeder, guards, .. } = self;
        drop(feeder);
        for result in guards.join() {
            result.map_err(RunError::Panicked)?;
        }
        Ok(())
    }
}

struct Worker {
    setup: Setup,
    counted: Vec<Arc<Counted>>,
    plans: Mutex<Option<Receiver<Plan>>>,
    wake: Mutex<Sender<SyncActivator>>,
}

impl Worker {
    fn run(&self, timely: &mut timely::worker::Worker) {
        let is_first = timely.index() == 0;
        let plans = is_first.then(|| self.plans.lock().ok().and_then(|mut plans| plans.take()));
        let plans = Rc::new(RefCell::new(plans.flatten()));
        let hands = (self.setup.hands)(timely.index());
        let lines = RawLines::default();
        let running = Running {
            vault: hands.vault,
            lines: lines.clone(),
            times: self.setup.times.clone(),
            counted: self.counted.clone(),
            max_ahead: self.setup.max_ahead,
            final_only: self.setup.final_only,
        };
        let (reports, report) = channel();
        let (probe, address) = timely.dataflow(|scope| {
            let feed = feed(scope, plans);
            let address = feed.address.clone();
            let report = move |clock: &crate::dataflow::clock::Clock, times: &Times| {
                if is_first {
                    // The receiver outlives the dataflow; a failed send has nobody to tell.
                    let _ = reports.send((clock.epoch, times.clone()));
                }
            };
            let Setup {
                catalog, queries, ..
            } = &self.setup;
            (
                Env::run(feed, catalog, queries, running, &*hands.outlet, report),
                address,
            )
        });
        if is_first && let Ok(wake) = self.wake.lock() {
            let _ = wake.send(timely.sync_activator_for(address));
        }
        let mut frontier = 0;
        while !probe.done() {
            timely.step_or_park(None);
            let now = probe
                .with_frontier(|f| f.first().copied())
                .unwrap_or(Epoch::MAX);
            if now == frontier {
                continue;
            }
            frontier = now;
            lines.forget_before(frontier);
            if is_first {
                for (epoch, times) in report.try_iter() {
                    (self.setup.said)(Said::Times(epoch, times));
                }
                (self.setup.said)(Said::Closed(frontier));
            }
        }
        if is_first {
            (self.setup.said)(Said::Ended);
        }
    }
}
