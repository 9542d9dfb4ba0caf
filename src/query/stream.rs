//! Streams: append-only, stateless. Everything here sees one record at a time.

use std::any::Any;
use std::rc::Rc;
use std::time::Duration;

use timely::dataflow::Stream as Flowing;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};

use super::flow::{Flow, Notices};
use super::windowed::{WindowKind, Windowed};
use crate::dataflow::decode::{Batch, Changes, Rec, guard, guard_all};
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::windows::notice;
use crate::record::{Entity, Op};
use crate::time::{Epoch, hours};

/// How long an answer that is a stream keeps a record, where nothing is said.
const RETENTION: Duration = hours(1);

/// A stream of records: append-only, and forgetting.
///
/// A query may return it: each record is a row of the answer then, whose key is the place it came
/// from, `[stream, partition, position]`. Rows are final from the start, and go once the query's
/// watermark has passed their time by the retention.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use waterclock::prelude::*;
/// # #[derive(Clone, Debug, Serialize, Deserialize)]
/// # struct Sale { shop: Text, amount: i64, at: Timestamp }
/// # impl Event for Sale {
/// #     const STREAM: &'static str = "sales";
/// #     fn time(&self) -> Timestamp { self.at }
/// # }
/// fn large_sales(flow: Flow) -> Stream<i64> {
///     flow.stream::<Sale>()
///         .filter(|sale| sale.amount >= 100)
///         .map(|sale| sale.amount)
///         .retain(days(1))
/// }
/// # let answer = waterclock::testing::batch(Query::new("large", "", large_sales), &[(
/// #     "sales",
/// #     "{\"shop\":\"a\",\"amount\":200,\"at\":0}\n{\"shop\":\"b\",\"amount\":1,\"at\":0}\n",
/// # )]);
/// # assert_eq!(answer, [r#"{"key":["sales",0,0],"value":200,"final":true}"#]);
/// ```
#[derive(Clone)]
pub struct Stream<'s, T: 'static> {
    pub(super) flow: Flow<'s>,
    pub(super) batches: Flowing<'s, Epoch, Vec<Batch<T>>>,
    /// How long an answer keeps the records.
    pub(super) keep: Duration,
}

/// A stream whose records have a key.
#[derive(Clone)]
pub struct Keyed<'s, K: 'static, T: 'static> {
    pub(super) stream: Stream<'s, T>,
    pub(super) key: Rc<dyn Fn(&T) -> K>,
}

/// Gives shared batches their type back. Of changes those that take a row away are left out: only
/// a table has rows to take away.
pub(super) fn typed<'s, T: Clone + 'static>(
    batches: Flowing<'s, Epoch, Vec<Rc<dyn Any>>>,
) -> Flowing<'s, Epoch, Vec<Batch<T>>> {
    batches.unary(Pipeline, "Typed", |_, _| {
        |input, output| {
            input.for_each(|cap, batches| {
                let batches = batches.drain(..).filter_map(|batch| {
                    batch
                        .downcast()
                        .or_else(|batch| batch.downcast().map(additions))
                        .ok()
                });
                output.session(&cap).give_iterator(batches);
            });
        }
    })
}

fn additions<T: Clone>(changes: Rc<Changes<T>>) -> Batch<T> {
    let added = changes.0.iter().filter(|(op, _)| !op.is_removal());
    Rc::new(added.map(|(_, record)| record.clone()).collect())
}

/// A record with what it does to its table; listed as the record alone.
#[derive(serde::Serialize)]
#[serde(transparent)]
pub(super) struct Change<T> {
    pub data: T,
    #[serde(skip)]
    pub op: Op,
}

/// Gives shared batches their type back, with what each record does to its table.
pub(super) fn typed_changes<'s, T: Clone + 'static>(
    batches: Flowing<'s, Epoch, Vec<Rc<dyn Any>>>,
) -> Flowing<'s, Epoch, Vec<Batch<Change<T>>>> {
    batches.unary(Pipeline, "Changes", |_, _| {
        |input, output| {
            input.for_each(|cap, batches| {
                let batches = batches
                    .drain(..)
                    .filter_map(|batch| changes(batch).map(Rc::new));
                output.session(&cap).give_iterator(batches);
            });
        }
    })
}

fn changes<T: Clone + 'static>(batch: Rc<dyn Any>) -> Option<Vec<Rec<Change<T>>>> {
    let change = |op, record: &Rec<T>| {
        let data = record.data.clone();
        record.with(Change { data, op })
    };
    match batch.downcast::<Vec<Rec<T>>>() {
        Ok(records) => Some(
            records
                .iter()
                .map(|record| change(Op::Put, record))
                .collect(),
        ),
        Err(batch) => {
            let changes = batch.downcast::<Changes<T>>().ok()?;
            Some(
                changes
                    .0
                    .iter()
                    .map(|(op, record)| change(*op, record))
                    .collect(),
            )
        }
    }
}

impl<'s, T> Stream<'s, T> {
    pub(super) fn new(flow: Flow<'s>, batches: Flowing<'s, Epoch, Vec<Batch<T>>>) -> Self {
        Stream {
            flow,
            batches,
            keep: RETENTION,
        }
    }

    /// How long a query that returns the stream keeps a record as a row: until its watermark has
    /// passed the record's time by this; an hour where nothing is said. One that comes later than
    /// that is late. `replay` keeps all.
    #[must_use]
    pub fn retain(self, keep: Duration) -> Self {
        Stream { keep, ..self }
    }
}

impl<'s, T: Clone + serde::Serialize + 'static> Stream<'s, T> {
    /// Makes one record of each.
    pub fn map<U: 'static>(self, logic: impl Fn(&T) -> U + 'static) -> Stream<'s, U> {
        self.each("Map", move |record, out| {
            out.push(record.with(logic(&record.data)));
        })
    }

    /// Keeps the records that `keeps` says.
    #[must_use]
    pub fn filter(self, keeps: impl Fn(&T) -> bool + 'static) -> Stream<'s, T> {
        self.each("Filter", move |record, out| {
            if keeps(&record.data) {
                out.push(record.clone());
            }
        })
    }

    /// Makes any number of records of each; they have its time.
    pub fn flat_map<U: 'static, I: IntoIterator<Item = U>>(
        self,
        logic: impl Fn(&T) -> I + 'static,
    ) -> Stream<'s, U> {
        self.each("FlatMap", move |record, out| {
            let made = logic(&record.data).into_iter().enumerate();
            out.extend(made.map(|(part, data)| {
                Rec {
                    part: record
                        .part
                        .wrapping_mul(251)
                        .wrapping_add(u16::try_from(part).unwrap_or(u16::MAX)),
                    ..record.with(data)
                }
            }));
        })
    }

    /// The records of both streams.
    #[must_use]
    pub fn union(self, other: Stream<'s, T>) -> Stream<'s, T> {
        let flow = if other.flow.lines().has_chunks() {
            self.flow
        } else {
            other.flow
        };
        Stream {
            flow,
            batches: self.batches.concat(other.batches),
            keep: self.keep.max(other.keep),
        }
    }

    /// Gives each record a key.
    pub fn key_by<K: Arrangeable>(self, key: impl Fn(&T) -> K + 'static) -> Keyed<'s, K, T> {
        Keyed {
            stream: self,
            key: Rc::new(key),
        }
    }

    /// Runs user code on each record. A panic in it rejects the record for this query alone.
    pub(super) fn each<U: 'static>(
        self,
        name: &str,
        logic: impl Fn(&Rec<T>, &mut Vec<Rec<U>>) + 'static,
    ) -> Stream<'s, U> {
        let batches = transform(&self.flow, self.batches, name, move |record, out| {
            let before = out.len();
            guard(|| logic(record, &mut *out)).inspect_err(|_| out.truncate(before))
        });
        Stream {
            flow: self.flow,
            batches,
            keep: self.keep,
        }
    }
}

/// Runs `logic` on each record of each batch; what it refuses becomes a notice of the query.
pub(super) fn transform<'s, T, U>(
    flow: &Flow<'s>,
    batches: Flowing<'s, Epoch, Vec<Batch<T>>>,
    name: &str,
    logic: impl Fn(&Rec<T>, &mut Vec<U>) -> Result<(), String> + 'static,
) -> Flowing<'s, Epoch, Vec<Rc<Vec<U>>>>
where
    T: serde::Serialize + 'static,
    U: 'static,
{
    let (made, refused) = transform_apart(flow, batches, name, logic);
    flow.notices.borrow_mut().push(refused);
    made
}

/// A stream of batches, and one of notices.
pub(super) type Transformed<'s, U> = (Flowing<'s, Epoch, Vec<Rc<Vec<U>>>>, Notices<'s>);

/// Like [`transform`], but hands out the notices.
pub(super) fn transform_apart<'s, T, U>(
    flow: &Flow<'s>,
    batches: Flowing<'s, Epoch, Vec<Batch<T>>>,
    name: &str,
    logic: impl Fn(&Rec<T>, &mut Vec<U>) -> Result<(), String> + 'static,
) -> Transformed<'s, U>
where
    T: serde::Serialize + 'static,
    U: 'static,
{
    let lines = flow.lines();
    let mut builder = OperatorBuilder::new(name.to_owned(), flow.scope());
    let mut input = builder.new_input(batches, Pipeline);
    let (made_out, made) = builder.new_output::<Vec<Rc<Vec<U>>>>();
    let (refused_out, refused) = builder.new_output();
    let mut made_out = OutputBuilder::from(made_out);
    let mut refused_out = OutputBuilder::from(refused_out);
    builder.build(move |_capabilities| {
        // Batches of one operator are much alike: the last one says how much room the next needs.
        let mut usual = 0;
        move |_frontiers| {
            input.for_each(|cap, batches| {
                let Some(&epoch) = cap.least() else { return };
                let mut notices = Vec::new();
                for batch in batches.drain(..) {
                    let (out, refused) = guard_all(|| {
                        let (mut out, mut refused) = (Vec::with_capacity(usual), Vec::new());
                        for record in batch.iter() {
                            if let Err(reason) = logic(record, &mut out) {
                                refused.push((record, reason));
                            }
                        }
                        (out, refused)
                    });
                    usual = out.len();
                    let refused = refused.into_iter();
                    notices.extend(refused.map(|(at, reason)| notice(at, reason, &lines)));
                    if !out.is_empty() {
                        let cap = cap.delayed(&epoch, 0);
                        made_out.activate().session(&cap).give(Rc::new(out));
                    }
                }
                if !notices.is_empty() {
                    let cap = cap.delayed(&epoch, 1);
                    refused_out
                        .activate()
                        .session(&cap)
                        .give_iterator(notices.into_iter());
                }
            });
        }
    });
    (made, refused)
}

impl<'s, K: Arrangeable, T: Clone + serde::Serialize + 'static> Keyed<'s, K, T> {
    /// Windows of event time per key.
    pub fn window<W: WindowKind>(self, windowing: W) -> Windowed<'s, K, T, W> {
        Windowed {
            keyed: self,
            windowing,
        }
    }

    /// Joins each record with the entity's version at the record's event time: the record with
    /// the key and the greatest time not after it. Versions are kept for `keep` once superseded.
    ///
    /// A record waits until the query's watermark has passed its time, so that no answer depends
    /// on which stream was read first; one more than `keep` behind its partition is late.
    pub fn as_of<E>(self, keep: Duration) -> Stream<'s, (T, Option<E>)>
    where
        T: Arrangeable,
        E: Entity<Key = K> + Arrangeable,
    {
        super::as_of::as_of(self, keep)
    }
}
