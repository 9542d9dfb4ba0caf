//! The sinks of the live service: which checkpoint lets them go on, and what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::live::LiveError;
use crate::query::{Catalog, QueryDef};
use crate::sink::{Driver, Driving, Past, Sink};
use crate::state::{DataDir, Journal, StateError};
use crate::time::Epoch;
use crate::view::{Outbox, Sent, SinkSpec, Views};

/// A sink to run.
pub struct SinkPlan {
    /// What is set for it.
    pub spec: SinkSpec,
    /// Where its messages go.
    pub sink: Box<dyn Sink>,
    /// How often they are committed.
    pub interval: Duration,
    /// Whether it sends the whole answer again, whatever it has sent before.
    pub restarts: bool,
}

/// The running sinks.
pub(super) struct Sinks {
    outboxes: Arc<[Arc<Outbox>]>,
    drivers: Vec<Driver>,
}

impl Sinks {
    /// Says which epochs may be sent: those shown, once their journal lines are on disk.
    pub fn release(&self, published: Epoch, durable: Epoch) {
        for outbox in self.outboxes.iter() {
            outbox.release(published, durable);
        }
    }

    /// Whether input has to wait for a sink.
    pub fn hold_input(&self) -> bool {
        self.outboxes.iter().any(|outbox| outbox.holds_input())
    }

    /// Sends what can be sent at once, and ends.
    pub fn stop(mut self) {
        self.close();
        let drivers = std::mem::take(&mut self.drivers);
        drivers.into_iter().for_each(Driver::stop);
    }

    fn close(&self) {
        self.outboxes.iter().for_each(|outbox| outbox.close());
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        // Where the coordinator failed nobody waits for the threads; they end all the same.
        self.close();
    }
}

/// What the sinks were given, until they run.
pub(super) struct Planned {
    /// Where the workers put messages.
    pub outboxes: Arc<[Arc<Outbox>]>,
    plans: Vec<SinkPlan>,
    sent: BTreeMap<String, Sent>,
}

impl Planned {
    /// Makes an outbox for each sink.
    pub fn new(
        plans: Vec<SinkPlan>,
        views: &Views,
        restored: Option<Epoch>,
        sent: BTreeMap<String, Sent>,
    ) -> Planned {
        let from = restored.unwrap_or(0);
        let outbox = |plan: &SinkPlan| {
            let view = views.query(&plan.spec.query);
            let view = view.expect("a sink's query is checked before it is planned");
            let sent = sent.get(&plan.spec.name).copied();
            Arc::new(Outbox::new(plan.spec.clone(), Arc::clone(view), from, sent))
        };
        Planned {
            outboxes: plans.iter().map(outbox).collect(),
            plans,
            sent,
        }
    }

    /// What asks the sinks how far they have sent.
    pub fn sent_now(&self) -> impl Fn() -> BTreeMap<String, Sent> + Send + use<> {
        let outboxes = Arc::clone(&self.outboxes);
        move || {
            let sent = |outbox: &Arc<Outbox>| Some((outbox.spec().name.clone(), outbox.sent()?));
            outboxes.iter().filter_map(sent).collect()
        }
    }

    /// Starts the sinks. `wake` is called when input need not wait any more.
    pub fn start(
        self,
        known: Known<'_>,
        wake: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Result<Sinks, LiveError> {
        let mut drivers = Vec::new();
        let journalled = if self.plans.is_empty() {
            BTreeMap::new()
        } else {
            known.journalled()?
        };
        let journalled = Arc::new(journalled);
        for (plan, outbox) in self.plans.into_iter().zip(self.outboxes.iter()) {
            outbox.on_room(Box::new(wake.clone()));
            let past = Past {
                run: known.run,
                restored: known.restored,
                journalled: Arc::clone(&journalled),
                sent: self.sent.get(&plan.spec.name).copied(),
                fingerprint: known.fingerprint(&plan.spec),
                restarts: plan.restarts,
            };
            let driver = Driver::start(Driving {
                outbox: Arc::clone(outbox),
                sink: plan.sink,
                past,
                interval: plan.interval,
            });
            drivers.push(driver.map_err(LiveError::Thread)?);
        }
        Ok(Sinks {
            outboxes: self.outboxes,
            drivers,
        })
    }
}

/// What is known when the sinks start.
pub(super) struct Known<'a> {
    run: u64,
    /// The epoch and run of the checkpoint restored.
    restored: Option<(Epoch, u64)>,
    journal: &'a Journal,
    catalog: &'a Catalog,
    max_ahead: Duration,
}

impl<'a> Known<'a> {
    pub fn new(
        data: &DataDir,
        journal: &'a Journal,
        catalog: &'a Catalog,
        restored: Option<(Epoch, u64)>,
        max_ahead: Duration,
    ) -> Known<'a> {
        Known {
            run: data.run(),
            restored,
            journal,
            catalog,
            max_ahead,
        }
    }

    /// The run of each journalled epoch that is run again.
    fn journalled(&self) -> Result<BTreeMap<Epoch, u64>, StateError> {
        let after = self.restored.map_or(0, |(epoch, _)| epoch);
        let lines = self.journal.read_after(after)?;
        lines
            .map(|line| line.map(|line| (line.epoch, line.run)))
            .collect()
    }

    /// Identifies what a sink sends: what its query answers, and everything that decides how
    /// journalled epochs are read for it.
    fn fingerprint(&self, spec: &SinkSpec) -> String {
        let query = self.catalog.queries.iter().find(|q| q.name == spec.query);
        let reads = |name: &String| query.is_some_and(|query| query.streams.contains(name));
        let streams = self.catalog.streams.iter().filter(|s| reads(&s.name));
        let streams = streams.map(|s| (&s.name, s.lateness, s.fingerprint()));
        let own = format!("{}/", spec.query);
        let boundaries = self.catalog.boundaries.iter();
        let boundaries = boundaries.filter(|(name, _)| name.starts_with(&own));
        let boundaries = boundaries.map(|(name, shape)| (name, &shape.fingerprint));
        let said = format!(
            "{:?} {:?} {:?} {:?} {:?} {}",
            query.map(QueryDef::fingerprint),
            self.max_ahead,
            streams.collect::<Vec<_>>(),
            boundaries.collect::<Vec<_>>(),
            spec.mode,
            spec.topic,
        );
        let digest = Sha256::digest(said.as_bytes());
        let start = digest.first_chunk().expect("a SHA-256 digest has 32 bytes");
        format!("{:016x}", u64::from_be_bytes(*start))
    }
}
