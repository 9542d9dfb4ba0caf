//! The unbounded boundary: of each key one accumulator over all its events, for ever.
//!
//! Events are combined per worker and epoch before anything is exchanged, as those of windows are.
//! Nothing is ever late and nothing expires: state is one row per key there ever was, which is why
//! a query has to say the word.

use std::hash::Hash;
use std::rc::Rc;

use differential_dataflow::hashable::Hashable;
use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use super::changes::{Changes, Lasting, identity_of};
use super::clock::Clock;
use super::decode::{Batch, Rec};
use super::dense::Dense;
use super::feed::Mark;
use super::folding::fold;
use super::vault::Boundary;
use crate::row::EncodeError;
use crate::time::Epoch;

/// The events of one key in one epoch, folded; also a row of the boundary as it is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    bound = "K: Serialize + serde::de::DeserializeOwned, A: Serialize + serde::de::DeserializeOwned"
)]
pub struct Total<K, A> {
    /// The key.
    pub key: K,
    /// The accumulator.
    pub acc: A,
}

impl<K, A> Lasting for Total<K, A>
where
    K: Clone + Hash + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Clone + Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    fn identity(&self) -> Result<Vec<u8>, EncodeError> {
        identity_of(&self.key)
    }

    fn owner(&self) -> u64 {
        self.key.hashed()
    }
}

/// Folds one epoch's events of a worker by key.
pub fn combine<T, K: Hash + Eq, A: Aggregate<T>>(
    batches: &[Batch<T>],
    key: &impl Fn(&T) -> K,
    aggregate: &A,
    folded: &mut Vec<Total<K, A::Acc>>,
    refuse: impl FnMut(&Rec<T>, String),
) {
    let records = batches.iter().flat_map(|batch| batch.iter());
    let records = records.map(|record| (record, Some(())));
    let room = folded.capacity();
    let accs = fold(records, |data, ()| key(data), aggregate, room, refuse);
    folded.extend(accs.into_iter().map(|(key, acc)| Total { key, acc }));
}

/// One worker's share of the boundary.
pub struct Totals<K, T, A: Aggregate<T>> {
    aggregate: Rc<A>,
    changes: Changes<Total<K, A::Acc>>,
    accs: Dense<K, A::Acc>,
    /// Whether only the rows at the end are wanted.
    final_only: bool,
}

impl<K, T, A> Totals<K, T, A>
where
    K: Clone + Hash + Eq + Serialize + serde::de::DeserializeOwned + Send + 'static,
    A: Aggregate<T>,
{
    /// Starts with the rows saved for this worker.
    pub fn new(
        aggregate: Rc<A>,
        boundary: Boundary,
        owns: impl Fn(u64) -> bool + 'static,
        final_only: bool,
    ) -> Self {
        Totals {
            aggregate,
            changes: Changes::new(boundary, owns),
            accs: Dense::default(),
            final_only,
        }
    }

    /// Takes a closed epoch; emits the changes of the table.
    pub fn retire(
        &mut self,
        clock: &Clock,
        events: Vec<Total<K, A::Acc>>,
        out: &mut Vec<((K, A::Out), Epoch, isize)>,
    ) {
        if let Some(restored) = self.changes.restore() {
            self.accs.reserve(restored.expected);
            for row in restored.rows {
                self.take(clock.epoch, row, out);
            }
            self.changes.is_restored();
        }
        for event in events {
            self.take(clock.epoch, event, out);
        }
        match clock.mark {
            Mark::End if self.final_only => {
                let row = |(key, acc): (&K, &A::Acc)| {
                    ((key.clone(), self.aggregate.finish(acc)), clock.epoch, 1)
                };
                out.extend(self.accs.iter().map(row));
            }
            Mark::Checkpoint => self.changes.save(clock.epoch, 0),
            _ => self.changes.hand_over(),
        }
    }

    fn take(
        &mut self,
        epoch: Epoch,
        event: Total<K, A::Acc>,
        out: &mut Vec<((K, A::Out), Epoch, isize)>,
    ) {
        let Total { key, acc } = event;
        if !self.final_only {
            self.show(epoch, key, acc, out);
        } else if let Some(sum) = self.accs.get_mut(&key) {
            self.aggregate.merge(sum, &acc);
        } else {
            self.accs.insert(key, acc);
        }
    }

    /// Adds to a key's accumulator and emits how its row changes.
    fn show(
        &mut self,
        epoch: Epoch,
        key: K,
        acc: A::Acc,
        out: &mut Vec<((K, A::Out), Epoch, isize)>,
    ) {
        let mut emit = |value, diff| out.push(((key.clone(), value), epoch, diff));
        if let Some(sum) = self.accs.get_mut(&key) {
            emit(self.aggregate.finish(sum), -1);
            self.aggregate.merge(sum, &acc);
            emit(self.aggregate.finish(sum), 1);
            let acc = &*sum;
            self.changes.put(|| Total {
                key: key.clone(),
                acc: acc.clone(),
            });
        } else {
            emit(self.aggregate.finish(&acc), 1);
            self.changes.put(|| Total {
                key: key.clone(),
                acc: acc.clone(),
            });
            self.accs.insert(key, acc);
        }
    }
}
