//! The queue between the workers and a sink, and what each side needs to know of the other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::{Committed, Message, Sent, SinkSpec, SinkState, SinkStatus};
use crate::time::Epoch;
use crate::view::View;

/// How far a sink may fall behind before no input is taken, in milliseconds of epochs: what it has
/// not sent yet keeps the journal, the log and a checkpoint from being let go.
const MAX_LAG_MS: u64 = 24 * 60 * 60 * 1000;

type Wake = Box<dyn Fn() + Send + Sync>;

/// The messages of a sink. Workers put them in epoch by epoch; the sink takes whole epochs, once
/// they are shown and their journal line is on disk. Bounded: see [`Outbox::holds_input`].
pub struct Outbox {
    spec: SinkSpec,
    /// The epoch that the messages begin with.
    from: Epoch,
    view: Arc<View>,
    queue: Mutex<Queue>,
    changed: Condvar,
    has_room: OnceLock<Wake>,
}

/// The messages of an epoch.
#[derive(Debug, Default)]
struct Closed {
    messages: Vec<Message>,
    bytes: usize,
}

/// Messages of successive epochs, to be sent together.
#[derive(Debug, Default)]
pub struct Group {
    /// The first epoch.
    pub first: Epoch,
    /// The last epoch.
    pub last: Epoch,
    /// The messages, epoch by epoch, and in each by row: the same whatever worker had them.
    pub messages: Vec<Message>,
}

/// What a sink is to do next.
#[derive(Debug)]
pub enum Next {
    /// Send these.
    Group(Group),
    /// There is nothing.
    Nothing,
    /// Everything that can be sent is; nothing more will come, for this reason.
    Ended(String),
    /// The service stops, and there is nothing left that may be sent.
    Closed,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<Epoch, Closed>,
    /// First epoch, epochs, messages and bytes of the group that the sink has taken.
    in_hand: Option<(Epoch, usize, usize, usize)>,
    /// Of all that is not committed.
    bytes: usize,
    published: Epoch,
    durable: Epoch,
    /// What is not newer than this is not to be sent.
    done: Epoch,
    committed: Option<Committed>,
    /// Whether that is all the sink has committed.
    is_known: bool,
    committed_messages: u64,
    state: SinkState,
    /// From which epoch on nothing can be sent, and why.
    ends: Option<(Epoch, String)>,
    is_closing: bool,
}

impl Queue {
    fn released(&self) -> Epoch {
        self.published.min(self.durable)
    }

    fn is_stopped(&self) -> bool {
        matches!(self.state, SinkState::Stopped(_))
    }

    /// The oldest epoch that has messages to be sent.
    fn oldest(&self) -> Option<Epoch> {
        let in_hand = self.in_hand.map(|(first, ..)| first);
        in_hand.or_else(|| self.waiting.keys().next().copied())
    }

    /// Forgets the messages of epochs from `from` up to and with `to`.
    fn drop_between(&mut self, from: Epoch, to: Epoch) {
        let dropped = |epoch: &Epoch| (from..=to).contains(epoch);
        let bytes = &mut self.bytes;
        self.waiting.retain(|epoch, closed| {
            let is_dropped = dropped(epoch);
            *bytes -= if is_dropped { closed.bytes } else { 0 };
            !is_dropped
        });
    }

    fn ready_bytes(&self) -> usize {
        let ready = self.waiting.range(..=self.released());
        ready.map(|(_, closed)| closed.bytes).sum()
    }

    fn end_before(&mut self, epoch: Epoch, reason: String) {
        if self.ends.as_ref().is_none_or(|(end, _)| epoch < *end) {
            self.drop_between(epoch, Epoch::MAX);
            self.ends = Some((epoch, reason));
        }
    }

    /// Why nothing more will come, once everything before the end is taken.
    fn ended(&self) -> Option<String> {
        let (end, reason) = self.ends.as_ref()?;
        (self.waiting.is_empty() && self.released() >= *end).then(|| reason.clone())
    }

    /// Takes released epochs until they have so many bytes.
    fn take(&mut self, enough: usize) -> Vec<(Epoch, Closed)> {
        let (mut taken, mut bytes, mut messages) = (Vec::new(), 0, 0);
        let released = self.released();
        while bytes < enough
            && let Some(entry) = self.waiting.first_entry()
            && *entry.key() <= released
        {
            let (epoch, closed) = entry.remove_entry();
            bytes += closed.bytes;
            messages += closed.messages.len();
            taken.push((epoch, closed));
        }
        if let Some((first, _)) = taken.first() {
            self.in_hand = Some((*first, taken.len(), messages, bytes));
        }
        taken
    }
}

impl Group {
    fn of(epochs: Vec<(Epoch, Closed)>) -> Option<Group> {
        let ((first, _), (last, _)) = (epochs.first()?, epochs.last()?);
        let mut group = Group {
            first: *first,
            last: *last,
            messages: Vec::new(),
        };
        for (_, mut closed) in epochs {
            closed
                .messages
                .sort_by(|a, b| a.row.order().cmp(b.row.order()));
            group.messages.append(&mut closed.messages);
        }
        Some(group)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl Outbox {
    /// The outbox of a sink that follows a view from an epoch on. `sent` is what the state restored
    /// says of it: what it had sent is dropped on arrival.
    pub fn new(spec: SinkSpec, view: Arc<View>, from: Epoch, sent: Option<Sent>) -> Outbox {
        let known = sent.filter(|sent| sent.committed.is_some());
        let queue = Queue {
            done: known.map_or(0, |sent| sent.through),
            committed: known.and_then(|sent| sent.committed),
            is_known: known.is_some(),
            ..Queue::default()
        };
        Outbox {
            spec,
            from,
            view,
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            has_room: OnceLock::new(),
        }
    }

    /// What is set for the sink.
    pub fn spec(&self) -> &SinkSpec {
        &self.spec
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Every change of it is whole before anything that could panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in a worker's messages of an epoch that is not shown yet.
    pub(super) fn put(&self, epoch: Epoch, messages: Vec<Message>) {
        let mut queue = self.queue();
        let is_past = epoch <= queue.done;
        let is_after_end = queue.ends.as_ref().is_some_and(|(end, _)| epoch >= *end);
        if messages.is_empty() || is_past || is_after_end || queue.is_stopped() {
            return;
        }
        let bytes: usize = messages.iter().map(Message::bytes).sum();
        queue.bytes += bytes;
        let closed = queue.waiting.entry(epoch).or_default();
        closed.bytes += bytes;
        closed.messages.extend(messages);
    }

    /// Says that from an epoch on nothing can be sent, and why.
    pub(super) fn end_before(&self, epoch: Epoch, reason: String) {
        self.queue().end_before(epoch, reason);
    }

    /// Says which epochs may be sent: those that are shown and whose journal line is on disk.
    pub fn release(&self, published: Epoch, durable: Epoch) {
        let mut queue = self.queue();
        if let Some(reason) = self.view.failure() {
            let next = queue.published + 1;
            queue.end_before(next, reason);
        }
        queue.published = queue.published.max(published);
        queue.durable = queue.durable.max(durable);
        drop(queue);
        self.changed.notify_all();
    }

    /// Whether too much waits: then no input is to be taken. A sink that stopped holds nothing up.
    pub fn holds_input(&self) -> bool {
        let queue = self.queue();
        queue.bytes >= self.spec.buffer_bytes || lag_ms(&queue) >= MAX_LAG_MS
    }

    /// Registers who is woken when there is room again; once.
    pub fn on_room(&self, wake: Wake) {
        self.has_room.set(wake).ok();
    }

    /// How far the sink has come; `None` where nothing needs to be kept for it.
    pub fn sent(&self) -> Option<Sent> {
        let queue = self.queue();
        if queue.is_stopped() {
            return None;
        }
        // What it had committed before is not known yet: a restart has to begin as this one did.
        let through = if queue.is_known {
            let before = |oldest: Epoch| oldest.saturating_sub(1);
            let through = queue.oldest().map_or(queue.published, before);
            through.min(queue.published).max(queue.done).max(self.from)
        } else {
            self.from
        };
        Some(Sent {
            committed: queue.committed,
            through,
        })
    }

    /// Says that the sink has everything up to and with an epoch.
    pub fn skip_through(&self, epoch: Epoch) {
        let mut queue = self.queue();
        queue.drop_between(0, epoch);
        queue.done = epoch;
    }

    /// Waits until so many bytes may be sent, or as long as told, and takes what there is then.
    pub fn next(&self, enough: usize, patience: Duration) -> Next {
        let waits = |queue: &mut Queue| {
            !queue.is_closing && queue.ended().is_none() && queue.ready_bytes() < enough
        };
        let (mut queue, _) = self
            .changed
            .wait_timeout_while(self.queue(), patience, waits)
            .unwrap_or_else(PoisonError::into_inner);
        let taken = queue.take(enough);
        if !taken.is_empty() {
            drop(queue);
            return Group::of(taken).map_or(Next::Nothing, Next::Group);
        }
        if let Some(reason) = queue.ended() {
            return Next::Ended(reason);
        }
        if queue.is_closing {
            return Next::Closed;
        }
        Next::Nothing
    }

    /// Waits as long as told, or until the service stops; says whether it does.
    pub fn pause(&self, how_long: Duration) -> bool {
        let goes_on = |queue: &mut Queue| !queue.is_closing;
        let waited = self
            .changed
            .wait_timeout_while(self.queue(), how_long, goes_on);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.is_closing
    }

    /// Says that the group taken last is committed.
    pub fn committed(&self, progress: Committed) {
        let mut queue = self.queue();
        if let Some((_, _, messages, bytes)) = queue.in_hand.take() {
            queue.bytes -= bytes;
            queue.committed_messages += messages as u64;
        }
        queue.done = queue.done.max(progress.epoch);
        queue.committed = Some(progress);
        drop(queue);
        if let Some(wake) = self.has_room.get() {
            wake();
        }
    }

    /// Notes what the sink has committed before, where it is known.
    pub fn found(&self, committed: Option<Committed>) {
        let mut queue = self.queue();
        (queue.committed, queue.is_known) = (committed, true);
    }

    /// Says how the sink fares. One that stopped does not start again.
    pub fn set_state(&self, state: SinkState) {
        let mut queue = self.queue();
        if queue.is_stopped() {
            return;
        }
        queue.state = state;
        if queue.is_stopped() {
            queue.waiting = BTreeMap::new();
            queue.in_hand = None;
            queue.bytes = 0;
            drop(queue);
            if let Some(wake) = self.has_room.get() {
                wake();
            }
        }
    }

    /// Says that the service stops.
    pub fn close(&self) {
        self.queue().is_closing = true;
        self.changed.notify_all();
    }

    /// What is told of the sink.
    pub fn status(&self) -> SinkStatus {
        let queue = self.queue();
        let (state, reason) = match &queue.state {
            SinkState::Starting => ("starting", None),
            SinkState::Running => ("running", None),
            SinkState::Retrying(reason) => ("retrying", Some(reason.clone())),
            SinkState::Stopped(reason) => ("stopped", Some(reason.clone())),
        };
        let (_, epochs, messages, _) = queue.in_hand.unwrap_or_default();
        let waiting = queue.waiting.values().map(|closed| closed.messages.len());
        let SinkSpec {
            name,
            query,
            topic,
            mode,
            delivery,
            ..
        } = self.spec.clone();
        SinkStatus {
            name,
            query,
            topic,
            mode,
            delivery,
            state,
            reason,
            epoch: queue.committed.map(|committed| committed.epoch),
            waiting_epochs: epochs + queue.waiting.len(),
            waiting_messages: messages + waiting.sum::<usize>(),
            waiting_bytes: queue.bytes,
            lag_ms: lag_ms(&queue),
            committed_messages: queue.committed_messages,
        }
    }
}

fn lag_ms(queue: &Queue) -> u64 {
    let oldest = queue.oldest();
    oldest.map_or(0, |oldest| queue.published.saturating_sub(oldest))
}
