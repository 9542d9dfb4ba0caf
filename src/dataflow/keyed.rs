//! The general state boundary: a keyed operator over its own arrangement.
//!
//! It retires closed epochs one by one, in order; for the keys an epoch touches, and those with a
//! due timer, it reads the key's rows from its arrangement, runs a pure function over them, and
//! adds the differences. Timers are a column of the rows; the index of timers is derived, also at
//! a restart. differential's `arrange_from_upsert` is the model.

use std::collections::{BTreeMap, BTreeSet};

use differential_dataflow::hashable::Hashable;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent, TraceWriter};
use differential_dataflow::trace::cursor::{CursorList, cursor_list};
use differential_dataflow::trace::implementations::{ValBuilder, ValSpine};
use differential_dataflow::trace::{
    Builder, Cursor, Description, Navigable, Span, Trace, TraceReader,
};
use serde::{Deserialize, Serialize};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OperatorInfo;
use timely::progress::{Antichain, Stamp};

use super::changes::{Changes, Lasting, identity_among};
use super::clock::{Clock, Clocks};
use super::feed::Mark;
use super::retire::{retire, stamped};
use super::vault::Boundary;
use crate::row::EncodeError;
use crate::time::Epoch;

/// The arrangement of a keyed boundary: rows by key.
pub type Rows<K, R> = ValSpine<K, R, Epoch, isize>;

type SpanOf<K, R> = Span<Epoch, <Rows<K, R> as TraceReader>::Batch>;

/// What a key or a value of a table must be able to do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key or a value of a table",
    label = "must be ordered, hashed, copied and saved",
    note = "derive what it lacks: `#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, \
            Serialize, Deserialize)]`",
    note = "floats are not ordered: write `Float` instead of `f64`"
)]
pub trait Arrangeable: differential_dataflow::ExchangeData + std::hash::Hash + Sync {}
#[diagnostic::do_not_recommend]
impl<T: differential_dataflow::ExchangeData + std::hash::Hash + Sync> Arrangeable for T {}

/// The moment an epoch is retired at.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The query's watermark in ms; `clock::NONE` before any event.
    pub watermark: i64,
    /// Whether the input has ended: everything waiting is answered, but nothing expires.
    pub is_end: bool,
}

/// The pure function of a boundary, and which column is the timer.
pub trait Behaviour<K, E, R, O>: 'static {
    /// When the row wants to be looked at again: once the watermark reaches it.
    fn timer(&self, row: &R) -> Option<i64>;

    /// From a key's rows and new events to its new rows. Called for a key with events or a due
    /// timer, each epoch at most once. The order of `rows` and `events` is not defined.
    fn step(&mut self, at: Moment, key: &K, rows: &mut Vec<R>, events: Vec<E>, out: &mut Vec<O>);
}

/// A keyed boundary: its rows as an arrangement, and what it emits once.
pub struct Boundaried<'s, K, R, O>
where
    K: Arrangeable,
    R: Arrangeable,
    O: 'static,
{
    /// The rows.
    pub rows: Arranged<'s, TraceAgent<Rows<K, R>>>,
    /// What was emitted, at its epoch.
    pub emitted: Stream<'s, Epoch, Vec<O>>,
}

/// A row as it is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    bound = "K: Serialize + serde::de::DeserializeOwned, R: Serialize + serde::de::DeserializeOwned"
)]
pub struct Saved<K, R> {
    key: K,
    row: R,
    /// Tells rows of a key apart that are alike.
    #[serde(default)]
    copy: u64,
}

impl<K: Arrangeable, R: Arrangeable> Lasting for Saved<K, R> {
    fn identity(&self) -> Result<Vec<u8>, EncodeError> {
        identity_among(&self.key, &(&self.row, self.copy))
    }

    fn owner(&self) -> u64 {
        self.key.hashed()
    }
}

/// Builds the boundary. `watermark` reads the query's watermark from a clock.
pub fn keyed<'s, K, E, R, O, B>(
    events: Stream<'s, Epoch, Vec<(K, E)>>,
    clocks: Clocks<'s>,
    name: &str,
    boundary: Boundary,
    watermark: impl Fn(&Clock) -> i64 + 'static,
    behaviour: B,
) -> Boundaried<'s, K, R, O>
where
    K: Arrangeable,
    E: timely::ExchangeData,
    R: Arrangeable,
    O: 'static,
    B: Behaviour<K, E, R, O>,
{
    let scope = events.scope();
    let (me, peers) = (scope.index() as u64, scope.peers() as u64);
    let pact = Exchange::new(|(key, _): &(K, E)| key.hashed());
    let mut reader = None;
    let retired = retire(events, clocks, pact, stamped, name, |info| {
        let (mut state, trace) =
            Keyed::<K, R, B>::new(info, boundary, behaviour, move |owner| owner % peers == me);
        reader = Some(trace);
        move |clock: &Clock, events, spans: &mut Vec<SpanOf<K, R>>, out: &mut Vec<O>| {
            let at = Moment {
                watermark: watermark(clock),
                is_end: clock.mark == Mark::End,
            };
            spans.push(state.retire(clock, at, events, out));
        }
    });
    let trace = reader.expect("the operator's constructor ran");
    Boundaried {
        rows: Arranged {
            stream: retired.main,
            trace,
        },
        emitted: retired.aside,
    }
}

struct Keyed<K: Arrangeable, R: Arrangeable, B> {
    behaviour: B,
    saving: Changes<Saved<K, R>>,
    trace: TraceAgent<Rows<K, R>>,
    writer: TraceWriter<Rows<K, R>>,
    upper: Antichain<Epoch>,
    timers: BTreeMap<i64, BTreeSet<K>>,
}

type Change<K, R> = ((K, R), Epoch, isize);

impl<K: Arrangeable, R: Arrangeable, B> Keyed<K, R, B> {
    fn new(
        info: OperatorInfo,
        boundary: Boundary,
        behaviour: B,
        owns: impl Fn(u64) -> bool + 'static,
    ) -> (Self, TraceAgent<Rows<K, R>>) {
        let empty = Rows::<K, R>::new(info.clone(), None, None);
        let (trace, writer) = TraceAgent::new(empty, info, None);
        let outside = trace.clone();
        let state = Keyed {
            behaviour,
            saving: Changes::new(boundary, owns),
            trace,
            writer,
            upper: Antichain::from_elem(0),
            timers: BTreeMap::new(),
        };
        (state, outside)
    }

    fn retire<E, O>(
        &mut self,
        clock: &Clock,
        at: Moment,
        events: Vec<(K, E)>,
        out: &mut Vec<O>,
    ) -> SpanOf<K, R>
    where
        B: Behaviour<K, E, R, O>,
    {
        let mut changes: Vec<Change<K, R>> = Vec::new();
        if let Some(restored) = self.saving.restore() {
            for saved in restored.rows {
                if let Some(timer) = self.behaviour.timer(&saved.row) {
                    let keys = self.timers.entry(timer).or_default();
                    keys.insert(saved.key.clone());
                }
                self.saving.put(|| saved.clone());
                changes.push(((saved.key, saved.row), clock.epoch, 1));
            }
            self.saving.is_restored();
        }
        let mut touched: BTreeMap<K, Vec<E>> = BTreeMap::new();
        for (key, event) in events {
            touched.entry(key).or_default().push(event);
        }
        if !changes.is_empty() {
            // What was restored must be in the trace before it is looked up.
            debug_assert!(touched.is_empty(), "the epoch that restores has no input");
        }
        // Timers due at the epoch that restores fire at the next one: rows are not readable yet.
        while let Some(entry) = self.timers.first_entry() {
            if *entry.key() > at.watermark || !changes.is_empty() {
                break;
            }
            for key in entry.remove() {
                touched.entry(key).or_default();
            }
        }
        if !touched.is_empty() && changes.is_empty() {
            self.step(clock.epoch, at, touched, &mut changes, out);
        }
        let span = self.insert(clock.epoch, changes);
        if clock.mark == Mark::Checkpoint {
            self.saving.save(clock.epoch, 0);
        } else {
            self.saving.hand_over();
        }
        span
    }

    fn step<E, O>(
        &mut self,
        epoch: Epoch,
        at: Moment,
        touched: BTreeMap<K, Vec<E>>,
        changes: &mut Vec<Change<K, R>>,
        out: &mut Vec<O>,
    ) where
        B: Behaviour<K, E, R, O>,
    {
        let (mut cursor, storage) = self.cursor();
        for (key, events) in touched {
            let before = rows_of(&mut cursor, &storage, &key);
            let mut after = before.clone();
            self.behaviour.step(at, &key, &mut after, events, out);
            for row in &after {
                // A timer that is still due was declined; asking again at once would not end.
                let timer = self
                    .behaviour
                    .timer(row)
                    .filter(|timer| *timer > at.watermark);
                if let Some(timer) = timer {
                    self.timers.entry(timer).or_default().insert(key.clone());
                }
            }
            let old = before.iter().map(|row| (row, -1));
            let mut net: Vec<(&R, isize)> = old.chain(after.iter().map(|row| (row, 1))).collect();
            differential_dataflow::consolidation::consolidate(&mut net);
            for (row, diff) in net {
                // What a key has comes in order.
                let had = before.partition_point(|other| other <= row)
                    - before.partition_point(|other| other < row);
                let had = had as u64;
                for n in 0..diff.unsigned_abs() as u64 {
                    let copy = if diff > 0 { had + n } else { had - n - 1 };
                    let saved = || Saved {
                        key: key.clone(),
                        row: row.clone(),
                        copy,
                    };
                    if diff > 0 {
                        self.saving.put(saved);
                    } else {
                        self.saving.gone(saved);
                    }
                }
                changes.push(((key.clone(), row.clone()), epoch, diff));
            }
        }
    }

    #[allow(clippy::type_complexity, reason = "a cursor and what it reads")]
    fn cursor(
        &mut self,
    ) -> (
        CursorList<<<Rows<K, R> as TraceReader>::Batch as Navigable>::Cursor>,
        Vec<<Rows<K, R> as TraceReader>::Batch>,
    ) {
        let batches = self.trace.batches_through(Antichain::new().borrow());
        cursor_list(batches.expect("the trace is never advanced beyond what it holds"))
    }

    fn insert(&mut self, epoch: Epoch, mut changes: Vec<Change<K, R>>) -> SpanOf<K, R> {
        changes.sort();
        let mut builder = ValBuilder::<K, R, Epoch, isize>::default();
        if !changes.is_empty() {
            builder.push(&mut changes);
        }
        let upper = Antichain::from_elem(epoch + 1);
        let description =
            Description::new(self.upper.clone(), upper.clone(), Antichain::from_elem(0));
        let span = Span::new(description, builder.done().map(Into::into));
        self.writer.insert(span.clone(), Stamp::from_elem(epoch));
        self.trace.set_logical_compaction(upper.borrow());
        self.trace.set_physical_compaction(upper.borrow());
        self.upper = upper;
        span
    }
}

/// The rows of one key; keys are asked for in ascending order.
fn rows_of<K, R, C>(cursor: &mut C, storage: &C::Storage, key: &K) -> Vec<R>
where
    K: Ord,
    R: Clone,
    C: for<'a> Cursor<Key<'a> = &'a K, Val<'a> = &'a R, DiffGat<'a> = &'a isize>,
{
    let mut rows = Vec::new();
    cursor.seek_key(storage, key);
    if cursor.get_key(storage) == Some(key) {
        while let Some(row) = cursor.get_val(storage) {
            let mut count = 0;
            cursor.map_times(storage, |_, diff| count += *diff);
            rows.extend((0..count).map(|_| row.clone()));
            cursor.step_val(storage);
        }
    }
    rows
}
