//! Streams that become tables by keeping the latest record of each key.

use std::rc::Rc;
use std::time::Duration;

use differential_dataflow::AsCollection;
use serde::{Deserialize, Serialize};
use timely::dataflow::Stream as Flowing;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Map;

use super::Table;
use super::flow::Flow;
use super::stamp::Stamp;
use super::stream::{Change, transform_apart, typed_changes};
use crate::dataflow::decode::{Notice, guard};
use crate::dataflow::keyed::{Arrangeable, Behaviour, Moment, Saved, keyed};
use crate::record::{Entity, Op, Text};
use crate::time::{Epoch, days, millis_of};

/// How long a tombstone keeps older records of its key from coming back. A record that much older
/// than its partition's watermark is late.
const TOMBSTONES: Duration = days(7);

/// A key's row: where it stands in the canonical order, and nothing if it is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Version<V> {
    stamp: Stamp,
    value: Option<V>,
}

/// A version on its way to its key's row.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Arriving<V> {
    op: Op,
    version: Version<V>,
}

/// A change that does not fit the row it found: what it did, and where it stands.
type Misfit = (Op, Stamp);

struct Latest;

impl<K, V: Arrangeable> Behaviour<K, Arriving<V>, Version<V>, Misfit> for Latest {
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
        mut events: Vec<Arriving<V>>,
        misfits: &mut Vec<Misfit>,
    ) {
        events.sort_by(|a, b| a.version.stamp.cmp(&b.version.stamp));
        let mut newest = rows.drain(..).max_by(|a, b| a.stamp.cmp(&b.stamp));
        for Arriving { op, version } in events {
            let is_there = newest.as_ref().is_some_and(|row| row.value.is_some());
            let fits = match op {
                Op::Put | Op::Remove => true,
                Op::Insert => !is_there,
                Op::Update | Op::Delete => is_there,
            };
            if !fits {
                misfits.push((op, version.stamp.clone()));
            }
            if newest.as_ref().is_none_or(|row| row.stamp < version.stamp) {
                newest = Some(version);
            }
        }
        let is_kept = |row: &Version<V>| {
            let expires = Behaviour::<K, _, _, _>::timer(self, row);
            at.is_end || expires.is_none_or(|time| time > at.watermark)
        };
        rows.extend(newest.filter(is_kept));
    }
}

/// The change as it is listed: it was applied, and something before it must be missing.
fn misfit_notice(names: &[Text], (op, stamp): Misfit) -> Notice {
    let reason = match op {
        Op::Insert => "inserts a row that is there",
        Op::Update => "updates a row that is not there",
        _ => "deletes a row that is not there",
    };
    let stream = names.iter().position(|name| *name == stamp.stream);
    Notice {
        stream: stream
            .and_then(|at| u16::try_from(at).ok())
            .unwrap_or(u16::MAX),
        partition: stamp.partition,
        position: stamp.position,
        reason: reason.to_owned(),
        record: String::new(),
        time: Some(stamp.time),
    }
}

pub(super) fn table<'s, E>(flow: &Flow<'s>) -> Table<'s, E::Key, E>
where
    E: Entity + Arrangeable,
    E::Key: Arrangeable,
{
    let batches = flow.batches::<E>();
    let name = format!("tables/{}", E::STREAM);
    let rows = flow.shared(&format!("{name}/rows"), || {
        let names = flow.names();
        let records = typed_changes::<E>(batches);
        let entities = transform_apart(flow, records, "Entity", move |record, out| {
            if record.watermark >= record.time.saturating_add(millis_of(TOMBSTONES)) {
                return Err("late".to_owned());
            }
            let Change { data: entity, op } = &record.data;
            let (key, is_deleted) = guard(|| (entity.key(), entity.is_deleted()))?;
            let value = (!op.is_removal() && !is_deleted).then(|| entity.clone());
            let stamp = Stamp::of(record, &names);
            let version = Version { stamp, value };
            out.push((key, Arriving { op: *op, version }));
            Ok(())
        });
        let (events, late) = entities;
        let boundary = flow.env.boundary::<Saved<E::Key, Version<E>>>(name.clone());
        let watermark = flow.stream_watermark(E::STREAM);
        let events = unbatched(events);
        let kept = keyed(events, flow.clocks(), "Latest", boundary, watermark, Latest);
        let names = flow.names();
        let misfits = kept
            .emitted
            .map(move |misfit| misfit_notice(&names, misfit));
        let rows = kept.rows.flat_map_ref(|key, version: &Version<E>| {
            version.value.clone().map(|value| (key.clone(), value))
        });
        (rows.inner, late.concat(misfits))
    });
    Table::new(flow.clone(), rows.as_collection()).shared_as(name)
}

/// Shared batches as items that can travel.
pub(super) fn unbatched<'s, D: Clone + 'static>(
    batches: Flowing<'s, Epoch, Vec<Rc<Vec<D>>>>,
) -> Flowing<'s, Epoch, Vec<D>> {
    batches.unary(Pipeline, "Unbatched", |_, _| {
        |input, output| {
            input.for_each(|cap, batches| {
                for batch in batches.drain(..) {
                    let mut items = Rc::unwrap_or_clone(batch);
                    output.session(&cap).give_container(&mut items);
                }
            });
        }
    })
}
