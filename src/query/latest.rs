//! Streams that become tables by keeping records: the latest per key, and all for a while.

use std::time::Duration;

use differential_dataflow::AsCollection;
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::generic::operator::empty;

use super::Table;
use super::flow::Flow;
use super::stamp::Stamp;
use super::stream::{Keyed, transform, transform_apart};
use crate::dataflow::keyed::{Arrangeable, Behaviour, Moment, Saved, keyed};
use crate::record::Entity;
use crate::time::{days, millis_of};

/// How long a tombstone keeps older records of its key from coming back. A record that much older
/// than its partition's watermark is late.
const TOMBSTONES: Duration = days(7);

/// A key's row: where it stands in the canonical order, and nothing if it is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Version<V> {
    stamp: Stamp,
    value: Option<V>,
}

struct Latest;

impl<K, V: Arrangeable> Behaviour<K, Version<V>, Version<V>, ()> for Latest {
    fn timer(&self, row: &Version<V>) -> Option<i64> {
        row.value
            .is_none()
            .then(|| row.stamp.time.saturating_add(millis_of(TOMBSTONES)))
    }

    fn step(
        &mut self,
        at: Moment,
        _key: &K,
        rows: &mut Vec<Version<V>>,
        events: Vec<Version<V>>,
        _out: &mut Vec<()>,
    ) {
        let newest = rows
            .drain(..)
            .chain(events)
            .max_by(|a, b| a.stamp.cmp(&b.stamp));
        rows.extend(newest.filter(|row| {
            at.is_end || Behaviour::<K, _, _, ()>::timer(self, row).is_none_or(|t| t > at.watermark)
        }));
    }
}

pub(super) fn table<'s, E>(flow: &Flow<'s>) -> Table<'s, E::Key, E>
where
    E: Entity + Arrangeable,
    E::Key: Arrangeable,
{
    let records = flow.stream::<E>();
    let name = format!("tables/{}", E::STREAM);
    let late_name = format!("{name}/late");
    let shared = flow.env.shared.clone();
    let rows = shared.stream(&format!("{name}/rows"), || {
        let names = flow.names();
        let entities = transform_apart(flow, records.batches, "Entity", move |record, out| {
            if record.watermark >= record.time.saturating_add(millis_of(TOMBSTONES)) {
                return Err("late".to_owned());
            }
            let (key, is_deleted) =
                crate::dataflow::decode::guard(|| (record.data.key(), record.data.is_deleted()))?;
            let value = (!is_deleted).then(|| record.data.clone());
            out.push((
                key,
                Version {
                    stamp: Stamp::of(record, &names),
                    value,
                },
            ));
            Ok(())
        });
        let (events, late) = entities;
        shared.stream(&late_name, || late);
        let boundary = flow.env.boundary::<Saved<E::Key, Version<E>>>(name.clone());
        let watermark = flow.stream_watermark(E::STREAM);
        let events = unbatched(events);
        let kept = keyed(events, flow.clocks(), "Latest", boundary, watermark, Latest);
        let rows = kept.rows.flat_map_ref(|key, version: &Version<E>| {
            version.value.clone().map(|value| (key.clone(), value))
        });
        rows.inner
    });
    // Every query that reads the table is told what was late for it.
    let late = shared.stream(&late_name, || empty(flow.scope()));
    flow.notices.borrow_mut().push(late);
    Table::new(flow.clone(), rows.as_collection()).shared_as(name)
}

/// Shared batches as items that can travel.
pub(super) fn unbatched<'s, D: Clone + 'static>(
    batches: timely::dataflow::Stream<'s, crate::time::Epoch, Vec<std::rc::Rc<Vec<D>>>>,
) -> timely::dataflow::Stream<'s, crate::time::Epoch, Vec<D>> {
    use timely::dataflow::operators::vec::Map;
    batches.flat_map(std::rc::Rc::unwrap_or_clone)
}

/// A record kept as a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Kept<T> {
    stamp: Stamp,
    record: T,
}

struct Keep {
    how_long: i64,
}

impl<K, T: Arrangeable> Behaviour<K, Kept<T>, Kept<T>, ()> for Keep {
    fn timer(&self, row: &Kept<T>) -> Option<i64> {
        Some(row.stamp.time.saturating_add(self.how_long))
    }

    fn step(
        &mut self,
        at: Moment,
        _key: &K,
        rows: &mut Vec<Kept<T>>,
        events: Vec<Kept<T>>,
        _out: &mut Vec<()>,
    ) {
        rows.extend(events);
        let how_long = self.how_long;
        rows.retain(|row| at.is_end || row.stamp.time.saturating_add(how_long) > at.watermark);
    }
}

pub(super) fn keep<'s, K, T>(records: Keyed<'s, K, T>, how_long: Duration) -> Table<'s, K, T>
where
    K: Arrangeable,
    T: Arrangeable,
{
    let Keyed { stream, key } = records;
    let flow = stream.flow;
    let (names, how_long) = (flow.names(), millis_of(how_long));
    let events = transform(&flow, stream.batches, "Keep", move |record, out| {
        if record.watermark >= record.time.saturating_add(how_long) {
            return Err("late".to_owned());
        }
        let key = crate::dataflow::decode::guard(|| key(&record.data))?;
        let stamp = Stamp::of(record, &names);
        out.push((
            key,
            Kept {
                stamp,
                record: record.data.clone(),
            },
        ));
        Ok(())
    });
    let boundary = flow.boundary::<Saved<K, Kept<T>>>("keep");
    let watermark = flow.watermark();
    let behaviour = Keep { how_long };
    let events = unbatched(events);
    let kept = keyed(
        events,
        flow.clocks(),
        "Keep",
        boundary,
        watermark,
        behaviour,
    );
    let rows = kept
        .rows
        .as_collection(|key, kept: &Kept<T>| (key.clone(), kept.record.clone()));
    Table::new(flow, rows)
}
