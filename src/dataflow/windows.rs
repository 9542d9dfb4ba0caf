//! The window boundary: events become panes, panes become windows, closed windows become final.
//!
//! Events are combined per worker and epoch before anything is exchanged, so that what travels and
//! what is kept has one row per touched key and pane, not one per event. Panes live until their
//! last window is final; final rows live until their retention has passed, and all rows of a
//! window expire at one instant. State is ordered by instant, so that closing and expiring cost
//! what they touch (decision record 0002 says why this is not a differential trace).

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::rc::Rc;

use differential_dataflow::hashable::Hashable;
use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use super::changes::{Changes, Lasting, identity_of};
use super::clock::Clock;
use super::decode::{Batch, Notice, Rec, guard};
use super::feed::Mark;
use super::folding::{Map, fold};
use super::leaving::{Forgetting, Leave, Passing};
use super::lines::RawLines;
use super::panes::{Assigner, closes_at};
use super::running::Running;
use super::vault::Boundary;
use crate::row::EncodeError;
use crate::time::{Epoch, Timestamp, Window};

/// What is asked of a window.
#[derive(Clone, Copy, Debug)]
pub struct WindowShape {
    /// Which windows there are.
    pub assigner: Assigner,
    /// How long after its end a window still takes events, in ms.
    pub allowed: i64,
    /// How long a final window is kept, in ms of event time.
    pub keep: i64,
    /// Whether only final rows are wanted: then no live rows are built.
    pub final_only: bool,
    /// Whether final rows are not kept: a replay ends before they would go.
    pub is_replay: bool,
}

/// The events of one key and pane in one epoch, folded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Folded<K, A> {
    /// The key.
    pub key: K,
    /// The start of the pane in ms.
    pub pane: i64,
    /// How many of the pane's windows, oldest first, were closed to these events.
    pub closed: u32,
    /// The accumulator.
    pub acc: A,
}

/// A row of the window boundary as it is saved. Closing changes no row: which windows a row is
/// still awaited by follows from the watermark that is noted with all rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    bound = "K: Serialize + serde::de::DeserializeOwned, A: Serialize + serde::de::DeserializeOwned"
)]
pub struct Saved<K, A> {
    key: K,
    /// The start of the pane, or the number of the window if it is final; in ms.
    start: i64,
    closed: u32,
    /// Whether it is a window's row, which no pane yields any more.
    is_final: bool,
    acc: A,
}

impl<K, A> Lasting for Saved<K, A>
where
    K: Clone + Hash + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Clone + Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    fn identity(&self) -> Result<Vec<u8>, EncodeError> {
        identity_of(&(self.is_final, self.start, &self.key, self.closed))
    }

    fn owner(&self) -> u64 {
        self.key.hashed()
    }
}

/// Folds one epoch's events of a worker by key and pane, and notices the late ones. `folded` has
/// room for as many as the epoch before had.
pub fn combine<T, K: Hash + Eq, A: Aggregate<T>>(
    batches: &[Batch<T>],
    shape: &WindowShape,
    key: &impl Fn(&T) -> K,
    aggregate: &A,
    folded: &mut Vec<Folded<K, A::Acc>>,
    refuse: impl FnMut(&Rec<T>, String),
) {
    let assigner = &shape.assigner;
    // Neighbouring events mostly share a pane; its arithmetic is done once for the run.
    let (mut pane, mut first, mut count) = (0, 0, 0);
    let mut known = 0..0;
    let mut judge = move |record: &Rec<T>| {
        if !known.contains(&record.time) {
            pane = assigner.pane_of(record.time);
            (first, count) = assigner.windows_of(pane);
            known = pane..assigner.pane_end(pane);
        }
        let closed = assigner.closed(first, count, record.watermark, shape.allowed);
        // In a gap between windows an event belongs to none, and is not late for any.
        (count > 0).then_some((closed < count).then_some((pane, closed)))
    };
    let records = batches.iter().flat_map(|batch| batch.iter());
    let records = records.filter_map(move |record| Some((record, judge(record)?)));
    let key = |data: &T, (pane, closed)| (key(data), pane, closed);
    let accs = fold(records, key, aggregate, folded.capacity(), refuse);
    folded.reserve(accs.len());
    folded.extend(accs.into_iter().map(|((key, pane, closed), acc)| Folded {
        key,
        pane,
        closed,
        acc,
    }));
}

/// The record as it came; of a format without lines, its fields as JSON.
pub fn text_of<T: Serialize>(record: &Rec<T>, lines: &RawLines) -> String {
    let raw = lines.find(record.stream, record.partition, record.position);
    let json = || guard(|| serde_json::to_string(&record.data)).map(Result::unwrap_or_default);
    raw.unwrap_or_else(|| json().unwrap_or_default())
}

/// Says that a record was not taken.
pub fn notice<T: Serialize>(record: &Rec<T>, reason: String, lines: &RawLines) -> Notice {
    Notice {
        stream: record.stream,
        partition: record.partition,
        position: record.position,
        reason,
        record: text_of(record, lines),
        time: Some(record.time),
    }
}

/// One change of the window table.
pub type Update<K, V> = ((K, Window), V);

/// One worker's share of the window boundary.
pub struct Windows<K, T, A: Aggregate<T>> {
    shape: WindowShape,
    aggregate: Rc<A>,
    changes: Changes<Saved<K, A::Acc>>,
    /// Accumulators by pane start, then by key and how many windows were closed to them. Empty
    /// where panes are windows.
    panes: BTreeMap<i64, Map<(K, u32), A::Acc>>,
    /// Windows that are not final, by start. Where only final rows are wanted, the starts alone.
    open: BTreeMap<i64, Map<K, A::Acc>>,
    /// Per pane, how many of its windows, oldest first, are not awaited; only where final rows
    /// alone are wanted.
    awaited: BTreeMap<i64, u32>,
    /// What a window has in common with the next, where final rows alone are wanted.
    running: Running<K, A::Acc>,
    /// Final windows, by start.
    done: BTreeMap<i64, Vec<(K, A::Acc)>>,
    leave: Leave,
    /// Which windows are gone from the table.
    passing: Passing,
    /// What is left of them here.
    gone: Forgetting<K, A::Acc>,
}

impl<K, T, A> Windows<K, T, A>
where
    K: Clone + Hash + Eq + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Aggregate<T>,
{
    /// Starts with the rows saved for this worker.
    pub fn new(
        shape: WindowShape,
        aggregate: Rc<A>,
        leave: Leave,
        boundary: Boundary,
        owns: impl Fn(u64) -> bool + 'static,
    ) -> Self {
        Windows {
            shape,
            aggregate,
            changes: Changes::new(boundary, owns),
            panes: BTreeMap::new(),
            open: BTreeMap::new(),
            awaited: BTreeMap::new(),
            running: Running::new(),
            done: BTreeMap::new(),
            passing: Passing::new(&leave),
            leave,
            gone: Forgetting::default(),
        }
    }

    /// Takes a closed epoch: its events, then its watermark. Emits the changes of the table.
    ///
    /// What expires was final before the epoch: every final row is there for one epoch at least
    /// (decision record 0010).
    pub fn retire(
        &mut self,
        clock: &Clock,
        watermark: i64,
        events: Vec<Folded<K, A::Acc>>,
        out: &mut Vec<(Update<K, A::Out>, Epoch, isize)>,
    ) {
        let mut emit = Emit {
            shape: self.shape,
            epoch: clock.epoch,
            out,
        };
        let gone = self.passing.advance(clock.mark, watermark);
        // The epoch restored is shown as it was.
        if let Some(restored) = self.changes.restore() {
            let past = restored.note.unwrap_or(i64::MIN);
            for row in restored.rows {
                self.restore(row, past, &mut emit);
            }
            self.changes.is_restored();
        } else if let Some(gone) = gone {
            self.expire(gone, &mut emit);
        }
        for event in events {
            self.show_or_await(&event, &mut emit);
            self.keep_pane(event);
        }
        self.close(watermark, &mut emit);
        // A checkpoint has no row of what is gone.
        self.forget(clock.mark == Mark::Checkpoint);
        if clock.mark == Mark::Checkpoint {
            // What was final stays so, whatever lateness is allowed when it is restored.
            let past = watermark.saturating_sub(self.shape.allowed);
            self.changes.save(clock.epoch, past);
        } else {
            self.changes.hand_over();
        }
    }

    fn show_or_await(&mut self, event: &Folded<K, A::Acc>, emit: &mut Emit<'_, K, A::Out>) {
        if self.shape.final_only {
            self.await_close(event);
        } else {
            self.show(event, emit);
        }
    }

    fn keep_pane(&mut self, event: Folded<K, A::Acc>) {
        if self.shape.assigner.is_tumbling() && !self.shape.final_only {
            return;
        }
        let Folded {
            key,
            pane: start,
            closed,
            acc,
        } = event;
        self.running.changed(start, &key, closed);
        let pane = self.panes.entry(start).or_default();
        match pane.entry((key, closed)) {
            Entry::Occupied(mut row) => {
                self.aggregate.merge(row.get_mut(), &acc);
                self.changes
                    .put(|| saved(start, closed, &row.key().0, row.get()));
            }
            Entry::Vacant(row) => {
                self.changes
                    .put(|| saved(start, closed, &row.key().0, &acc));
                row.insert(acc);
            }
        }
    }

    /// Notes which windows the event's pane belongs to, so that they are found when they close.
    fn await_close(&mut self, event: &Folded<K, A::Acc>) {
        let before = self.awaited.get(&event.pane).copied().unwrap_or(u32::MAX);
        if before <= event.closed {
            return;
        }
        self.awaited.insert(event.pane, event.closed);
        let (first, count) = self.shape.assigner.windows_of(event.pane);
        for place in event.closed..count.min(before) {
            self.open
                .entry(self.shape.assigner.window_at(first, place))
                .or_default();
        }
    }

    /// Adds the event to its open windows and emits how their rows change.
    fn show(&mut self, event: &Folded<K, A::Acc>, emit: &mut Emit<'_, K, A::Out>) {
        let are_panes = !self.shape.assigner.is_tumbling();
        let (first, count) = self.shape.assigner.windows_of(event.pane);
        for place in event.closed..count {
            let start = self.shape.assigner.window_at(first, place);
            let window = self.open.entry(start).or_default();
            if let Some(acc) = window.get_mut(&event.key) {
                emit.row(&event.key, start, self.aggregate.finish(acc), -1);
                self.aggregate.merge(acc, &event.acc);
                emit.row(&event.key, start, self.aggregate.finish(acc), 1);
                if !are_panes {
                    self.changes.put(|| saved(start, 0, &event.key, acc));
                }
            } else {
                emit.row(&event.key, start, self.aggregate.finish(&event.acc), 1);
                window.insert(event.key.clone(), event.acc.clone());
                if !are_panes {
                    self.changes.put(|| saved(start, 0, &event.key, &event.acc));
                }
            }
        }
    }

    fn close(&mut self, watermark: i64, emit: &mut Emit<'_, K, A::Out>) {
        while let Some(entry) = self.open.first_entry() {
            if !emit.is_closed(*entry.key(), watermark) {
                break;
            }
            let (start, rows) = entry.remove_entry();
            if self.shape.final_only {
                self.emit_final(start, emit);
            } else {
                if !self.shape.assigner.is_tumbling() {
                    for (key, acc) in &rows {
                        let assigner = &self.shape.assigner;
                        self.changes.put(|| done_row(assigner, start, key, acc));
                    }
                }
                self.done.entry(start).or_default().extend(rows);
            }
        }
        while let Some(entry) = self.panes.first_entry() {
            let (first, count) = self.shape.assigner.windows_of(*entry.key());
            let last = self
                .shape
                .assigner
                .window_at(first, count.saturating_sub(1));
            if !emit.is_closed(last, watermark) {
                break;
            }
            self.awaited.remove(entry.key());
            let (start, rows) = entry.remove_entry();
            // The row of a pane that is a window stays: it is the window's now.
            let gone = rows.iter().filter(|_| !self.shape.assigner.is_tumbling());
            for ((key, closed), acc) in gone {
                self.changes.gone(|| saved(start, *closed, key, acc));
            }
        }
    }

    /// Sums a closing window from its panes.
    fn emit_final(&mut self, start: i64, emit: &mut Emit<'_, K, A::Out>) {
        let assigner = self.shape.assigner;
        let window = assigner.window(start);
        let mut done = Vec::new();
        if assigner.is_tumbling() {
            for ((key, _), acc) in self.panes.get(&start).into_iter().flatten() {
                emit.row(key, start, self.aggregate.finish(acc), 1);
                if !self.shape.is_replay {
                    done.push((key.clone(), acc.clone()));
                }
            }
            self.keep_final(start, done);
            return;
        }
        let aggregate = &*self.aggregate;
        self.running.window(
            window.start.0..window.end.0,
            &self.panes,
            |pane| assigner.place(start, pane),
            |sum, acc| aggregate.merge(sum, acc),
            |key, sum| {
                emit.row(key, start, aggregate.finish(&sum), 1);
                if !self.shape.is_replay {
                    done.push((key.clone(), sum));
                }
            },
        );
        self.keep_final(start, done);
    }

    fn keep_final(&mut self, start: i64, rows: Vec<(K, A::Acc)>) {
        if rows.is_empty() {
            return;
        }
        let assigner = &self.shape.assigner;
        for (key, acc) in rows.iter().filter(|_| !assigner.is_tumbling()) {
            self.changes.put(|| done_row(assigner, start, key, acc));
        }
        self.done.entry(start).or_default().extend(rows);
    }

    /// Removes the windows that became final up to an instant, whose retention has passed: all
    /// rows of a window at once.
    fn expire(&mut self, upto: Timestamp, emit: &mut Emit<'_, K, A::Out>) {
        while let Some(entry) = self.done.first_entry() {
            let window = self.shape.assigner.window(*entry.key());
            if upto < final_at(&window, self.shape.allowed) {
                break;
            }
            let (start, rows) = entry.remove_entry();
            if !self.leave.is_left_to_views() {
                for (key, acc) in &rows {
                    emit.row(key, start, self.aggregate.finish(acc), -1);
                }
            }
            self.gone.add(start, rows);
        }
    }

    /// Frees windows that are gone, and notes that nothing is to be saved of them any more.
    fn forget(&mut self, all: bool) {
        let is_final = !self.shape.assigner.is_tumbling();
        self.gone.run(all, |start, key, acc| {
            self.changes.gone(move || Saved {
                key,
                start,
                closed: 0,
                is_final,
                acc,
            });
        });
    }

    /// Takes a row back. `past` is the watermark it was saved at, less the lateness allowed then:
    /// of a pane only the windows open at that time need it again.
    fn restore(&mut self, row: Saved<K, A::Acc>, past: i64, emit: &mut Emit<'_, K, A::Out>) {
        let assigner = self.shape.assigner;
        let (first, count) = assigner.windows_of(row.start);
        let closed = assigner.closed(first, count, past, 0).max(row.closed);
        if row.is_final || (assigner.is_tumbling() && closed >= count) {
            emit.row(&row.key, row.start, self.aggregate.finish(&row.acc), 1);
            self.changes
                .put(|| done_row(&assigner, row.start, &row.key, &row.acc));
            let done = self.done.entry(row.start).or_default();
            done.push((row.key, row.acc));
            return;
        }
        let mut event = Folded {
            key: row.key,
            pane: row.start,
            closed,
            acc: row.acc,
        };
        self.show_or_await(&event, emit);
        // The pane keeps the name it is saved under.
        event.closed = row.closed;
        self.keep_pane(event);
    }
}

/// A pane's row, or that of a window which is its only pane.
fn saved<K: Clone, A: Clone>(start: i64, closed: u32, key: &K, acc: &A) -> Saved<K, A> {
    Saved {
        key: key.clone(),
        start,
        closed,
        is_final: false,
        acc: acc.clone(),
    }
}

/// The row of a final window: of one that is a pane it is the pane's.
fn done_row<K: Clone, A: Clone>(assigner: &Assigner, start: i64, key: &K, acc: &A) -> Saved<K, A> {
    Saved {
        is_final: !assigner.is_tumbling(),
        ..saved(start, 0, key, acc)
    }
}

struct Emit<'o, K, V> {
    shape: WindowShape,
    epoch: Epoch,
    out: &'o mut Vec<(Update<K, V>, Epoch, isize)>,
}

impl<K: Clone, V> Emit<'_, K, V> {
    fn row(&mut self, key: &K, start: i64, value: V, diff: isize) {
        let window = self.shape.assigner.window(start);
        self.out
            .push((((key.clone(), window), value), self.epoch, diff));
    }

    fn is_closed(&self, start: i64, watermark: i64) -> bool {
        watermark >= closes_at(self.shape.assigner.window(start).end.0, self.shape.allowed)
    }
}

/// The watermark from which the window is final.
pub fn final_at(window: &Window, allowed: i64) -> Timestamp {
    Timestamp(closes_at(window.end.0, allowed))
}
