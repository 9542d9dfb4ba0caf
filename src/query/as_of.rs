//! The as-of join: each record meets the table's version at the record's own time.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use timely::dataflow::operators::Concat;

use super::flow::Flow;
use super::latest::unbatched;
use super::stamp::Stamp;
use super::stream::{Change, Keyed, Stream, transform, typed_changes};
use crate::dataflow::decode::{Batch, Rec, guard};
use crate::dataflow::keyed::{Arrangeable, Behaviour, Moment, Saved, keyed};
use crate::dataflow::lines::RawLines;
use crate::dataflow::windows::text_of;
use crate::record::{Entity, Text};
use crate::time::{Epoch, millis_of};

/// A row of the join: a record that waits for its time, or a version of the entity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Side<T, E> {
    stamp: Stamp,
    /// The watermark of the record's partition just before it.
    watermark: i64,
    /// The record; none in a version.
    record: Option<T>,
    /// The version; none in a record, and in a tombstone.
    entity: Option<E>,
    /// The time of the version after this one; none in a record, and in the newest version.
    until: Option<i64>,
    /// The record as it came, where a window may call it late: it may leave this operator in
    /// another epoch and on another worker, where its line is not at hand.
    raw: Option<Text>,
}

struct AsOf {
    keep: i64,
}

impl<K, T: Arrangeable, E: Arrangeable> Behaviour<K, Side<T, E>, Side<T, E>, Joined<T, E>>
    for AsOf
{
    /// A record waits for its own time. A version goes once no record can ask for it any more: one
    /// is late once it is `keep` behind. The newest stays, unless it says that there is nothing.
    fn timer(&self, row: &Side<T, E>) -> Option<i64> {
        match (&row.record, row.until, &row.entity) {
            (Some(_), ..) => Some(row.stamp.time),
            (None, Some(until), _) => Some(until.saturating_add(self.keep)),
            (None, None, None) => Some(row.stamp.time.saturating_add(self.keep)),
            (None, None, Some(_)) => None,
        }
    }

    fn step(
        &mut self,
        at: Moment,
        _key: &K,
        rows: &mut Vec<Side<T, E>>,
        events: Vec<Side<T, E>>,
        out: &mut Vec<Joined<T, E>>,
    ) {
        rows.extend(events);
        rows.sort();
        let all = std::mem::take(rows);
        let (records, versions): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|row| row.record.is_some());
        for row in records {
            if row.stamp.time > at.watermark {
                rows.push(row);
                continue;
            }
            let until = versions.partition_point(|version| version.stamp.time <= row.stamp.time);
            let version = until
                .checked_sub(1)
                .and_then(|newest| versions[newest].entity.clone());
            if let Some(record) = row.record {
                out.push(Joined {
                    stamp: row.stamp,
                    watermark: row.watermark,
                    raw: row.raw,
                    data: (record, version),
                });
            }
        }
        let nexts: Vec<i64> = versions
            .iter()
            .skip(1)
            .map(|version| version.stamp.time)
            .collect();
        for (place, mut version) in versions.into_iter().enumerate() {
            version.until = nexts.get(place).copied();
            let goes_at = Behaviour::<K, _, _, Joined<T, E>>::timer(self, &version);
            if at.is_end || goes_at.is_none_or(|goes_at| goes_at > at.watermark) {
                rows.push(version);
            }
        }
    }
}

/// A record and the version it met.
struct Joined<T, E> {
    stamp: Stamp,
    watermark: i64,
    raw: Option<Text>,
    data: (T, Option<E>),
}

pub(super) fn as_of<'s, K, T, E>(
    records: Keyed<'s, K, T>,
    keep: Duration,
) -> Stream<'s, (T, Option<E>)>
where
    K: Arrangeable,
    T: Arrangeable,
    E: Entity<Key = K> + Arrangeable,
{
    let Keyed { stream, key } = records;
    let flow = stream.flow;
    let keep = millis_of(keep);
    let (names, lines) = (flow.names(), flow.lines());
    let asking = transform(&flow, stream.batches, "AsOf records", move |record, out| {
        if record.watermark >= record.time.saturating_add(keep) {
            return Err("late".to_owned());
        }
        let key = guard(|| key(&record.data))?;
        let stamp = Stamp::of(record, &names);
        let asked = Some(record.data.clone());
        // No window that holds a record is closed before the watermark has reached its time.
        let may_be_late = record.watermark >= record.time;
        let raw = may_be_late.then(|| text_of(record, &lines).into());
        out.push((
            key,
            Side {
                stamp,
                watermark: record.watermark,
                record: asked,
                entity: None,
                until: None,
                raw,
            },
        ));
        Ok(())
    });
    let versions = versions::<T, E>(&flow);
    let both = unbatched(asking).concat(unbatched(versions));
    let boundary = flow.boundary::<Saved<K, Side<T, E>>>("as-of");
    let (watermark, behaviour) = (flow.watermark(), AsOf { keep });
    let joined = keyed(both, flow.clocks(), "AsOf", boundary, watermark, behaviour);
    let batches = rebatched(joined.emitted, flow.names(), flow.lines());
    let flow = flow.without_chunks();
    Stream::new(flow, batches)
}

type Sides<'s, K, T, E> = timely::dataflow::Stream<'s, Epoch, Vec<Rc<Vec<(K, Side<T, E>)>>>>;

/// The entity's versions. One that comes behind its partition's watermark is late: a record may
/// already have been answered without it.
fn versions<'s, T: Arrangeable, E: Entity + Arrangeable>(flow: &Flow<'s>) -> Sides<'s, E::Key, T, E>
where
    E::Key: 'static,
{
    let changes = typed_changes::<E>(flow.batches::<E>());
    let names = flow.names();
    transform(flow, changes, "AsOf versions", move |record, out| {
        if record.watermark >= record.time {
            return Err("late".to_owned());
        }
        let Change { data, op } = &record.data;
        let (key, is_deleted) = guard(|| (data.key(), data.is_deleted()))?;
        let entity = (!op.is_removal() && !is_deleted).then(|| data.clone());
        let stamp = Stamp::of(record, &names);
        out.push((
            key,
            Side {
                stamp,
                watermark: record.watermark,
                record: None,
                entity,
                until: None,
                raw: None,
            },
        ));
        Ok(())
    })
}

/// Joined records as batches of a stream again, with the place of the record.
fn rebatched<'s, T: 'static, E: 'static>(
    joined: timely::dataflow::Stream<'s, Epoch, Vec<Joined<T, E>>>,
    names: Rc<Vec<Text>>,
    lines: RawLines,
) -> timely::dataflow::Stream<'s, Epoch, Vec<Batch<(T, Option<E>)>>> {
    use timely::dataflow::channels::pact::Pipeline;
    use timely::dataflow::operators::generic::Operator;
    joined.unary(Pipeline, "Rebatch", move |_, _| {
        move |input, output| {
            input.for_each(|cap, joined| {
                let Some(&epoch) = cap.least() else { return };
                let records = joined.drain(..).filter_map(|joined| {
                    let Stamp {
                        time,
                        stream,
                        partition,
                        position,
                        part,
                    } = joined.stamp;
                    // A stream that is not read any more cannot be named; its records go with it.
                    let stream = names.iter().position(|name| *name == stream)?;
                    let stream = u16::try_from(stream).ok()?;
                    if let Some(raw) = joined.raw {
                        lines.remember_text(epoch, (stream, partition, position), raw);
                    }
                    Some(Rec {
                        time,
                        watermark: joined.watermark,
                        position,
                        partition,
                        stream,
                        part,
                        data: joined.data,
                    })
                });
                let batch: Batch<(T, Option<E>)> = Rc::new(records.collect());
                output.session(&cap).give(batch);
            });
        }
    })
}
