//! Joins of tables. Both sides revise: a change on either is a change of what was made of it, also
//! earlier. Work goes with the rows that a change meets.

use std::rc::Rc;

use differential_dataflow::AsCollection;
use differential_dataflow::hashable::Hashable;
use differential_dataflow::operators::ThresholdTotal;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Exchange;

use super::Table;
use super::table::{Collection, Known, each};
use crate::dataflow::clock::Clock;
use crate::dataflow::intervals::Side;
use crate::dataflow::joined::Joined;
use crate::dataflow::keyed::{Arrangeable, Rows};
use crate::dataflow::retire::{by_update_time, retire};
use crate::dataflow::settling::FinalAt;
use crate::time::Epoch;

type Arranging<'s, K, V> = Arranged<'s, TraceAgent<Rows<K, V>>>;

impl<'s, K: Arrangeable, V: Arrangeable> Table<'s, K, V> {
    /// Pairs the rows of two tables that have the same key. A change on either side revises the
    /// pairs it is part of, also earlier ones: a user who moves takes past clicks along. Where a
    /// record should see the table as it was, see [`Keyed::as_of`](super::Keyed::as_of).
    ///
    /// ```text
    /// left   + (k, a)              + (k, b)
    /// right           + (k, x)               - (k, x)
    /// pairs           + (k, (a,x)) + (k,(b,x)) - (k,(a,x)) - (k,(b,x))
    /// ```
    ///
    /// A pair is final when both its rows are, if the tables say so of their rows.
    pub fn join<V2: Arrangeable>(self, other: Table<'s, K, V2>) -> Table<'s, K, (V, V2)> {
        let (flow, final_at) = (self.flow.clone(), both(self.final_at(), other.final_at()));
        let known = self.known.of_both(other.known);
        let pair = |a: &V, b: &V2| (a.clone(), b.clone());
        let (rows, is_placed) = if self.shared.is_some() || other.shared.is_some() {
            let pairs = pairs(self.arranged(), other.arranged(), pair);
            (pairs, known.is_placed)
        } else {
            (
                joined(self, other, flow.settled_at(final_at.as_ref()), pair),
                true,
            )
        };
        Table {
            final_at,
            known: Known { is_placed, ..known },
            ..Table::new(flow, rows)
        }
    }

    /// Pairs the rows of two tables that have the same key; a row of this one that has no partner
    /// is paired with nothing, until it has one.
    ///
    /// ```text
    /// left   + (k, a)                               + (k, b)
    /// right              + (k, x)       + (j, y)                  - (k, x)
    /// rows   + (k,(a,-)) - (k,(a,-))                + (k,(b,x))   - (k,(a,x)) + (k,(a,-))
    ///                    + (k,(a,x))                              - (k,(b,x)) + (k,(b,-))
    /// ```
    pub fn left_join<V2: Arrangeable>(
        self,
        other: Table<'s, K, V2>,
    ) -> Table<'s, K, (V, Option<V2>)> {
        let flow = self.flow.clone();
        let (left, right) = (self.arranged(), other.arranged());
        let alone = without(left.clone(), right.clone());
        let rows = pairs(left, right, |a, b| (a.clone(), Some(b.clone())));
        let rows = rows.concat(alone.map(|(key, a)| (key, (a, None))));
        Table::new(flow, rows)
    }

    /// Pairs the rows of two tables that have the same key, and those that have no partner with
    /// nothing: a key of either table has a row. Both sides revise, as those of [`Table::join`].
    ///
    /// ```text
    /// left   + (k, a)                   + (j, b)
    /// right              + (k, x)                    + (i, y)
    /// rows   + (k,(a,-)) - (k,(a,-))    + (j,(b,-))  + (i,(-,y))
    ///                    + (k,(a,x))
    /// ```
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, Serialize, Deserialize)]
    /// # struct Mail { from: Text, to: Text, at: Timestamp }
    /// # impl Event for Mail {
    /// #     const STREAM: &'static str = "mails";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// fn mails(flow: Flow) -> Table<Text, (Option<u64>, Option<u64>)> {
    ///     let mails = flow.stream::<Mail>();
    ///     let sent = mails.clone().key_by(|mail| mail.from.clone()).forever().count();
    ///     let received = mails.key_by(|mail| mail.to.clone()).forever().count();
    ///     sent.full_join(received)
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("mails", "", mails), &[(
    /// #     "mails",
    /// #     r#"{"from":"a","to":"b","at":0}
    /// #        {"from":"b","to":"c","at":1}"#,
    /// # )]);
    /// # assert_eq!(answer, [
    /// #     r#"{"key":"a","value":[1,null]}"#,
    /// #     r#"{"key":"b","value":[1,1]}"#,
    /// #     r#"{"key":"c","value":[null,1]}"#,
    /// # ]);
    /// ```
    pub fn full_join<V2: Arrangeable>(
        self,
        other: Table<'s, K, V2>,
    ) -> Table<'s, K, (Option<V>, Option<V2>)> {
        let flow = self.flow.clone();
        let (left, right) = (self.arranged(), other.arranged());
        let lefts = without(left.clone(), right.clone());
        let rights = without(right.clone(), left.clone());
        let rows = pairs(left, right, |a, b| (Some(a.clone()), Some(b.clone())));
        let rows = rows.concat(lefts.map(|(key, a)| (key, (Some(a), None))));
        let rows = rows.concat(rights.map(|(key, b)| (key, (None, Some(b)))));
        Table::new(flow, rows)
    }

    /// Keeps the rows whose key the other table has, once each, however often it has it.
    ///
    /// ```text
    /// left   + (k, a)
    /// right            + (k, x)   + (k, y)   - (k, x)   - (k, y)
    /// rows             + (k, a)                         - (k, a)
    /// ```
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, Serialize, Deserialize)]
    /// # struct Mail { from: Text, to: Text, at: Timestamp }
    /// # impl Event for Mail {
    /// #     const STREAM: &'static str = "mails";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// fn sent_by_those_who_got_any(flow: Flow) -> Table<Text, u64> {
    ///     let mails = flow.stream::<Mail>();
    ///     let sent = mails.clone().key_by(|mail| mail.from.clone()).forever().count();
    ///     let received = mails.key_by(|mail| mail.to.clone()).forever().count();
    ///     sent.semi_join(received)
    /// }
    /// # let query = Query::new("mails", "", sent_by_those_who_got_any);
    /// # let answer = waterclock::testing::batch(query, &[(
    /// #     "mails",
    /// #     r#"{"from":"a","to":"b","at":0}
    /// #        {"from":"b","to":"c","at":1}"#,
    /// # )]);
    /// # assert_eq!(answer, [r#"{"key":"b","value":1}"#]);
    /// ```
    ///
    /// A row is final when both tables are final for its key.
    #[must_use]
    pub fn semi_join<V2: Arrangeable>(self, other: Table<'s, K, V2>) -> Table<'s, K, V> {
        let (flow, final_at) = (self.flow.clone(), both(self.final_at(), other.final_at()));
        Table {
            final_at,
            ..Table::new(flow, with(self.arranged(), other.arranged()))
        }
    }

    /// Keeps the rows whose key the other table has not.
    ///
    /// ```text
    /// left   + (k, a)              + (k, b)
    /// right            + (k, x)               - (k, x)
    /// rows   + (k, a)  - (k, a)               + (k, a)  + (k, b)
    /// ```
    ///
    /// Rows are not called final: what the other table has may go, and leave a row behind.
    #[must_use]
    pub fn anti_join<V2: Arrangeable>(self, other: Table<'s, K, V2>) -> Table<'s, K, V> {
        let flow = self.flow.clone();
        Table::new(flow, without(self.arranged(), other.arranged()))
    }

    /// Every row once, however often it was there.
    #[must_use]
    pub fn distinct(self) -> Table<'s, K, V> {
        Table {
            final_at: self.final_at,
            known: Known {
                is_placed: false,
                ..self.known
            },
            ..Table::new(self.flow, self.rows.followed().distinct_total())
        }
    }

    /// The rows, each on the worker that owns its key.
    pub(super) fn placed(self) -> Collection<'s, (K, V)> {
        placed(self.rows.followed(), self.known)
    }

    fn arranged(self) -> Arranging<'s, K, V> {
        let Some(name) = self.shared else {
            return self.rows.followed().arrange_by_key();
        };
        let shared = self.flow.env.shared.clone();
        let rows = self.rows;
        shared.arrangement(&name, || rows.followed().arrange_by_key_named(&name))
    }
}

/// Rows, each on the worker that owns its key.
pub(super) fn placed<'s, K: Arrangeable, V: Arrangeable>(
    rows: Collection<'s, (K, V)>,
    known: Known,
) -> Collection<'s, (K, V)> {
    if known.is_placed {
        return rows;
    }
    rows.inner
        .exchange(|((key, _), ..): &((K, V), Epoch, isize)| key.hashed())
        .as_collection()
}

/// When both of two rows are final, if both ever are.
fn both<K: 'static>(left: Option<FinalAt<K>>, right: Option<FinalAt<K>>) -> Option<FinalAt<K>> {
    let (left, right) = (left?, right?);
    Some(Rc::new(move |key| left(key).max(right(key))))
}

/// The join of two tables that no other arranges.
fn joined<'s, K: Arrangeable, A: Arrangeable, B: Arrangeable, P: Arrangeable>(
    left: Table<'s, K, A>,
    right: Table<'s, K, B>,
    settled_at: Option<FinalAt<K>>,
    pair: impl Fn(&A, &B) -> P + 'static,
) -> Collection<'s, (K, P)> {
    let flow = left.flow.clone();
    let lefts = each(&flow, left.placed(), "Left", |(key, a)| {
        (key, Side::Left(a))
    });
    let rights = each(&flow, right.placed(), "Right", |(key, b)| {
        (key, Side::Right(b))
    });
    let changes = lefts.concat(rights).inner;
    let (clocks, watermark) = (flow.clocks(), flow.watermark());
    let pairs = retire(changes, clocks, Pipeline, by_update_time, "Join", |_| {
        let mut joined = Joined::new(settled_at);
        move |clock: &Clock, changes, out: &mut Vec<_>, _: &mut Vec<()>| {
            joined.retire(clock.epoch, watermark(clock), changes, &pair, out);
        }
    });
    pairs.main.as_collection()
}

fn pairs<'s, K: Arrangeable, A: Arrangeable, B: Arrangeable, P: Arrangeable>(
    left: Arranging<'s, K, A>,
    right: Arranging<'s, K, B>,
    pair: impl Fn(&A, &B) -> P + 'static,
) -> Collection<'s, (K, P)> {
    left.join_core(right, move |key, a, b| Some((key.clone(), pair(a, b))))
}

/// The rows whose key is in the other table.
fn with<'s, K: Arrangeable, A: Arrangeable, B: Arrangeable>(
    left: Arranging<'s, K, A>,
    right: Arranging<'s, K, B>,
) -> Collection<'s, (K, A)> {
    let keys = right.as_collection(|key, _| key.clone()).distinct_total();
    let keys = keys.arrange_by_self();
    left.join_core(keys, |key, a, ()| Some((key.clone(), a.clone())))
}

/// The rows whose key is not in the other table.
fn without<'s, K: Arrangeable, A: Arrangeable, B: Arrangeable>(
    left: Arranging<'s, K, A>,
    right: Arranging<'s, K, B>,
) -> Collection<'s, (K, A)> {
    let met = with(left.clone(), right);
    let all = left.as_collection(|key, a| (key.clone(), a.clone()));
    all.concat(met.negate())
}
