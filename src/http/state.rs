//! What all requests share: the service, and being woken when an epoch is shown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::fresh::Freshness;
use super::metrics::Requests;
use super::options::Service;
use super::problem::{Kind, Problem};
use super::push::Hub;
use crate::time::{Epoch, Timestamp};
use crate::view::{Labels, ReadError};

/// How many reads that take long go on at once; others wait for their turn.
const LARGE_READS: usize = 4;

/// The service and what the requests to it share.
pub(super) struct State {
    pub(super) service: Service,
    /// Bytes of bodies that may still be held.
    pub(super) body_budget: Arc<Semaphore>,
    /// Turns of reads that take long.
    pub(super) large_reads: Semaphore,
    pub(super) requests: Requests,
    pub(super) fresh: Arc<Freshness>,
    /// Every subscription.
    pub(super) hub: Arc<Hub>,
    /// The newest epoch shown.
    pub(super) shown: watch::Receiver<Epoch>,
    stopping: watch::Sender<bool>,
}

impl State {
    pub(super) fn new(service: Service) -> State {
        let (show, shown) = watch::channel(0);
        let fresh = Arc::new(Freshness::new((service.clock)()));
        let (looking, clock) = (Arc::clone(&fresh), Arc::clone(&service.clock));
        // The views own this closure: holding them would hold them for ever.
        let (views, ingest) = (Arc::downgrade(&service.views), Arc::clone(&service.ingest));
        service.views.on_publish(Box::new(move |epoch| {
            if let Some(labels) = views.upgrade().and_then(|views| views.upper()) {
                looking.shown(clock(), &labels, |stream| ingest.end(stream));
            }
            show.send_replace(epoch);
        }));
        let budget = service.options.body_budget.min(Semaphore::MAX_PERMITS);
        State {
            hub: Arc::new(Hub::new(service.options.max_subscribers)),
            service,
            body_budget: Arc::new(Semaphore::new(budget)),
            large_reads: Semaphore::new(LARGE_READS),
            requests: Requests::default(),
            fresh,
            shown,
            stopping: watch::Sender::new(false),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.service.clock)()
    }

    /// Up to when an answer over these streams includes all of their input.
    pub(super) fn until(&self, labels: &Labels, streams: &[&String]) -> Timestamp {
        self.fresh.until(labels, streams.iter().copied())
    }

    /// How long ago that was.
    pub(super) fn age(&self, labels: &Labels, streams: &[&String]) -> Duration {
        let age = self.now().0.saturating_sub(self.until(labels, streams).0);
        Duration::from_millis(u64::try_from(age).unwrap_or(0))
    }

    /// Whether an answer of this age lags behind its input: because the service is catching up,
    /// because no input can be taken, or because too much of it waits.
    pub(super) fn is_stale(&self, age: Duration) -> bool {
        !self.service.views.is_ready()
            || self.service.stale.load(Ordering::Relaxed)
            || age > self.service.options.stale_after
    }

    /// Whether any answer lags behind its input.
    pub(super) fn is_any_stale(&self) -> bool {
        let age = self.service.views.upper().map(|labels| {
            let streams: Vec<&String> = labels.streams.keys().collect();
            self.age(&labels, &streams)
        });
        self.is_stale(age.unwrap_or_default())
    }

    /// The newest epoch that any reader may read: none before the service has caught up.
    pub(super) fn upper(&self) -> Result<Arc<Labels>, Problem> {
        if self.service.views.is_ready() {
            self.newest()
        } else {
            Err(ReadError::NotReady.into())
        }
    }

    /// The newest epoch there is. Before the service has caught up it is for readers who say how
    /// old an answer may be.
    pub(super) fn newest(&self) -> Result<Arc<Labels>, Problem> {
        let newest = self.service.views.upper();
        newest.ok_or_else(|| ReadError::NotReady.into())
    }

    /// Waits for an epoch that satisfies `is_enough`, for a reader who may read the newest; `what`
    /// says what was waited for.
    pub(super) async fn wait_for(
        &self,
        patience: Duration,
        what: impl Fn() -> String,
        is_enough: impl Fn(&Labels) -> bool,
    ) -> Result<Arc<Labels>, Problem> {
        let deadline = Instant::now() + patience;
        let mut shown = self.shown.clone();
        let mut stopping = self.stopping();
        loop {
            shown.borrow_and_update();
            let labels = self.newest()?;
            if is_enough(&labels) {
                return Ok(labels);
            }
            tokio::select! {
                () = stop(&mut stopping) => return Err(Problem::stopping()),
                woken = timeout_at(deadline, shown.changed()) => {
                    if !matches!(woken, Ok(Ok(()))) {
                        return Err(Problem::new(Kind::WaitedTooLong, what()));
                    }
                }
            }
        }
    }

    /// Told when all waiting is to end.
    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Ends all waiting.
    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }
}

/// Waits until all waiting is to end.
pub(super) async fn stop(stopping: &mut watch::Receiver<bool>) {
    // Who would tell is gone: that is an end, too.
    stopping.wait_for(|is_stopping| *is_stopping).await.ok();
}
