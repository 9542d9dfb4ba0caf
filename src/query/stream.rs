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
use crate::dataflow::decode::{Batch, Changes, Rec, guard};
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::windows::notice;
use crate::record::{Entity, Op};
use crate::time::Epoch;

/// A stream of records: append-only, and forgetting.
#[derive(Clone)]
pub struct Stream<'s, T: 'static> {
    pub(super) flow: Flow<'s>,
    pub(super) batches: Flowing<'s, Epoch, Vec<Batch<T>>>,
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
        }
    }

    /// Gives each record a key.
    pub fn key_by<K>(self, key: impl Fn(&T) -> K + 'static) -> Keyed<'s, K, T> {
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
        move |_frontiers| {
            input.for_each(|cap, batches| {
                let Some(&epoch) = cap.least() else { return };
                let mut notices = Vec::new();
                for batch in batches.drain(..) {
                    let mut out = Vec::with_capacity(batch.len());
                    for record in batch.iter() {
                        if let Err(reason) = logic(record, &mut out) {
                            notices.push(notice(record, reason, &lines));
                        }
                    }
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
