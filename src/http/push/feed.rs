//! The newest changes of one query, read once for all its subscribers.
//!
//! A feed is kept up by one task, in steps of an epoch or more. Whoever is at the end of a step
//! needs only the next one. Whoever is further behind reads the net change since from the view:
//! what waits for a subscriber is its place in the shared history, and nothing else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::step::Step;
use super::wire::AsOf;
use crate::http::token::Resume;
use crate::time::Epoch;
use crate::view::{Change, Finals, Labels, ReadError, Span, View, Views};

/// About how many bytes of steps are kept; the newest one is kept whatever its size.
const KEPT: usize = 8 << 20;

/// How many steps a subscriber may be behind before it gets their net change instead of each.
const MAX_BEHIND: usize = 16;

/// About what a core works for a subscriber at each step: to look whether it is concerned, to send
/// it something, and for each KiB of that (measured with 1,000 subscribers on 2 cores).
const LOOK: Duration = Duration::from_micros(4);
const SEND: Duration = Duration::from_micros(15);
const SEND_KIB: Duration = Duration::from_nanos(800);

/// The recent changes of a query, or the rows that became final.
pub(super) struct Feed {
    pub(super) views: Arc<Views>,
    pub(super) view: Arc<View>,
    pub(super) only_final: bool,
    /// What the tokens of those who follow the whole query are for.
    pub(super) scope: u32,
    /// Shared by those who follow the whole query: counts them.
    pub(super) whole: Arc<()>,
    ring: Mutex<Ring>,
    /// Told when there is more.
    moved: watch::Sender<()>,
}

struct Ring {
    steps: VecDeque<Arc<Step>>,
    bytes: usize,
    /// Where the newest step ends.
    upper: AsOf,
    failure: Option<String>,
}

/// What comes after an epoch.
pub(super) enum After {
    /// Nothing yet.
    Nothing,
    /// This.
    Step(Arc<Step>),
    /// Something that has to be read from the view.
    Unread,
    /// Nothing any more.
    Failed(String),
}

impl Feed {
    /// A feed that begins at the newest epoch, which the labels are of.
    pub(super) fn new(
        views: &Arc<Views>,
        view: &Arc<View>,
        only_final: bool,
        scope: u32,
        labels: &Labels,
    ) -> Feed {
        let upper = as_of(view, labels);
        Feed {
            views: Arc::clone(views),
            view: Arc::clone(view),
            only_final,
            scope,
            whole: Arc::new(()),
            ring: Mutex::new(Ring {
                steps: VecDeque::new(),
                bytes: 0,
                upper,
                failure: None,
            }),
            moved: watch::Sender::new(()),
        }
    }

    /// Told when there is more.
    pub(super) fn moved(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }

    /// About what a core works at each step for all subscribers: as much as it did at the last.
    pub(super) fn cost(self: &Arc<Feed>) -> Duration {
        let count = |shared: usize| u32::try_from(shared).unwrap_or(u32::MAX);
        let bytes = self.ring().steps.back().map_or(0, |step| step.event_bytes);
        let sending = SEND + SEND_KIB * count(bytes >> 10);
        LOOK * count(Arc::strong_count(self)) + sending * count(Arc::strong_count(&self.whole) - 1)
    }

    /// What the labels say of this query.
    pub(super) fn as_of(&self, labels: &Labels) -> AsOf {
        as_of(&self.view, labels)
    }

    pub(super) fn token(&self, epoch: Epoch, scope: u32) -> String {
        let run = self.views.run();
        Resume { run, epoch, scope }.encode()
    }

    /// What comes after an epoch.
    pub(super) fn after(&self, epoch: Epoch) -> After {
        let ring = self.ring();
        if let Some(reason) = &ring.failure {
            return After::Failed(reason.clone());
        }
        if epoch >= ring.upper.epoch {
            return After::Nothing;
        }
        let place = ring.steps.partition_point(|step| step.as_of.epoch <= epoch);
        // In the middle of a step without changes one has missed nothing of it.
        let follows = |step: &Step| step.from == epoch || step.is_empty() && step.from < epoch;
        match ring.steps.get(place) {
            Some(step) if follows(step) && ring.steps.len() - place <= MAX_BEHIND => {
                After::Step(Arc::clone(step))
            }
            _ => After::Unread,
        }
    }

    /// Reads the net change from an epoch to the feed's newest.
    pub(super) fn catch_up(&self, from: Epoch) -> Result<Step, ReadError> {
        let to = self.ring().upper.epoch;
        let span = self.views.span(self.view.spec(), from, to)?;
        let changes = if self.only_final {
            Finals::at(&self.view, &span, false)?.advance(&self.view, &span)?
        } else {
            self.view.changes(&span)?
        };
        Ok(self.step(&span, changes))
    }

    /// Reads what is newer than the feed. `finals` waits for rows to become final, from call to
    /// call.
    pub(super) fn advance(&self, finals: &mut Option<Finals>) {
        let from = self.ring().upper.epoch;
        let Some(newest) = self.views.upper().filter(|newest| newest.epoch > from) else {
            return;
        };
        match self.read(finals, from, newest.epoch) {
            Ok(step) => self.push(step),
            Err(ReadError::Failed { reason, .. }) => self.fail(reason),
            // The views have moved on too far meanwhile. Whoever follows will find so, too.
            Err(_) => {
                *finals = None;
                let mut ring = self.ring();
                ring.steps.clear();
                ring.bytes = 0;
                ring.upper = self.as_of(&newest);
                drop(ring);
                self.moved.send_replace(());
            }
        }
    }

    fn read(&self, finals: &mut Option<Finals>, from: Epoch, to: Epoch) -> Result<Step, ReadError> {
        let span = self.views.span(self.view.spec(), from, to)?;
        if !self.only_final {
            let changes = self.view.changes(&span)?;
            return Ok(self.step(&span, changes));
        }
        let waiting = match finals {
            Some(waiting) => waiting,
            None => finals.insert(Finals::at(&self.view, &span, true)?),
        };
        let changes = waiting.advance(&self.view, &span)?;
        Ok(self.step(&span, changes))
    }

    fn step(&self, span: &Span, changes: Vec<Change>) -> Step {
        let as_of = AsOf {
            epoch: span.to(),
            complete_through: span.watermark(),
        };
        let id = self.token(as_of.epoch, self.scope);
        Step::new(span.from(), as_of, changes, id)
    }

    fn push(&self, mut step: Step) {
        let mut ring = self.ring();
        ring.upper = step.as_of;
        let is_empty = step.is_empty();
        if is_empty
            && ring.steps.back().is_some_and(|last| last.is_empty())
            && let Some(last) = ring.steps.pop_back()
        {
            step.from = last.from;
            ring.bytes -= last.bytes();
        }
        ring.bytes += step.bytes();
        ring.steps.push_back(Arc::new(step));
        while ring.bytes > KEPT
            && ring.steps.len() > 1
            && let Some(oldest) = ring.steps.pop_front()
        {
            ring.bytes -= oldest.bytes();
        }
        drop(ring);
        if !is_empty {
            self.moved.send_replace(());
        }
    }

    fn fail(&self, reason: String) {
        let reason = format!("query '{}' failed: {reason}", self.view.spec().name);
        self.ring().failure = Some(reason);
        self.moved.send_replace(());
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn as_of(view: &View, labels: &Labels) -> AsOf {
    let streams = view.spec().streams.iter().map(String::as_str);
    AsOf {
        epoch: labels.epoch,
        complete_through: labels.complete_through(streams),
    }
}

/// Keeps a feed up as epochs are shown, until nobody follows it any more. `pace` is how long to
/// wait between two steps: what comes meanwhile is one step.
pub(super) async fn keep_up(
    feed: Weak<Feed>,
    mut shown: watch::Receiver<Epoch>,
    pace: impl Fn() -> Duration,
) {
    let mut finals = None;
    loop {
        shown.borrow_and_update();
        let Some(feed) = feed.upgrade() else {
            return;
        };
        let reading = Arc::clone(&feed);
        let read = spawn_blocking(move || {
            reading.advance(&mut finals);
            finals
        });
        match read.await {
            Ok(kept) => finals = kept,
            Err(_) => return feed.fail("its changes could not be read, see the log".to_owned()),
        }
        drop(feed);
        sleep(pace()).await;
        if shown.changed().await.is_err() {
            return;
        }
    }
}
