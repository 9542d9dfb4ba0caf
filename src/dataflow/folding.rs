//! Records folded into accumulators, before anything is exchanged.

use std::collections::hash_map::Entry;
use std::hash::Hash;

use super::aggregate::Aggregate;
use super::decode::{Rec, guard};

#[allow(
    clippy::disallowed_types,
    reason = "only iterated where the rows are then ordered or summed"
)]
pub(super) type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// Folds records by key. Each comes with where it belongs, or nothing if it is late. There is
/// `room` for so many keys before more has to be made.
///
/// Whatever user code does, a record is in its accumulator wholly or not at all: where any panics,
/// each is tried alone.
pub(super) fn fold<'r, T: 'r, P, K: Hash + Eq, A: Aggregate<T>>(
    records: impl Iterator<Item = (&'r Rec<T>, Option<P>)> + Clone,
    key: impl Fn(&T, P) -> K,
    aggregate: &A,
    room: usize,
    mut refuse: impl FnMut(&Rec<T>, String),
) -> Map<K, A::Acc> {
    let mut accs: Map<K, A::Acc> = Map::default();
    accs.reserve(room);
    let mut late = Vec::new();
    let at_once = guard(|| {
        for (record, place) in records.clone() {
            let Some(place) = place else {
                late.push(record);
                continue;
            };
            match accs.entry(key(&record.data, place)) {
                Entry::Occupied(mut sum) => aggregate.add(sum.get_mut(), &record.data),
                Entry::Vacant(slot) => drop(slot.insert(aggregate.one(&record.data))),
            }
        }
    });
    if at_once.is_err() {
        (accs, late) = (Map::default(), Vec::new());
        for (record, place) in records {
            let Some(place) = place else {
                late.push(record);
                continue;
            };
            match guard(|| (key(&record.data, place), aggregate.one(&record.data))) {
                Ok((key, one)) => add(&mut accs, key, &one, aggregate),
                Err(reason) => refuse(record, reason),
            }
        }
    }
    for record in late {
        refuse(record, "late".to_owned());
    }
    accs
}

/// Adds an accumulator to those of a map.
fn add<T, K: Hash + Eq, A: Aggregate<T>>(
    accs: &mut Map<K, A::Acc>,
    key: K,
    acc: &A::Acc,
    aggregate: &A,
) {
    match accs.entry(key) {
        Entry::Occupied(mut sum) => aggregate.merge(sum.get_mut(), acc),
        Entry::Vacant(slot) => {
            slot.insert(acc.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataflow::several::{count, sum};

    fn record(n: i64) -> Rec<i64> {
        Rec {
            time: n,
            watermark: 0,
            position: 0,
            partition: 0,
            stream: 0,
            part: 0,
            data: n,
        }
    }

    #[test]
    fn a_record_is_taken_wholly_or_not_at_all() {
        let records: Vec<_> = [1, 2, 13, 3, -1].map(record).into();
        let doubled = |n: &i64| {
            assert!(*n != 13, "unlucky");
            2 * n
        };
        let placed = records.iter().map(|r| (r, (r.data > 0).then_some(())));
        let mut refused = Vec::new();
        let aggregate = (count(), sum(doubled));
        let accs = fold(
            placed,
            |_, ()| 0,
            &aggregate,
            0,
            |record, reason| {
                refused.push((record.data, reason));
            },
        );
        assert_eq!(aggregate.finish(&accs[&0]), (3, 12));
        let why = "the query's code panicked: unlucky".to_owned();
        assert_eq!(refused, [(13, why), (-1, "late".to_owned())]);
    }
}
