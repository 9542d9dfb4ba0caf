//! Aggregates over everything there ever was of a key.

use std::cmp::Reverse;
use std::rc::Rc;
use std::time::Duration;

use differential_dataflow::AsCollection;
use timely::dataflow::channels::pact::{Exchange, Pipeline};

use super::Table;
use super::failing::Failing;
use super::sessions::session;
use super::stream::Keyed;
use crate::dataflow::aggregate::{Aggregate, Average, Count, Max, Min, Of, Sum, Summand};
use crate::dataflow::clock::Clock;
use crate::dataflow::decode::guard;
use crate::dataflow::forever::{Total, Totals, combine};
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::retire::{retire, stamped};
use crate::dataflow::windows::notice;
use crate::number::Float;

/// A keyed stream without windows, waiting to be told what is asked of all its records.
///
/// One row per key is kept for ever, and no record is late. Rows are never final.
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
/// fn takings(flow: Flow) -> Table<Text, i128> {
///     flow.stream::<Sale>()
///         .key_by(|sale| sale.shop.clone())
///         .forever()
///         .sum(|sale| sale.amount)
/// }
/// # let answer = waterclock::testing::batch(Query::new("takings", "", takings), &[(
/// #     "sales",
/// #     r#"{"shop":"a","amount":2,"at":"2024-01-01 00:00:00"}
/// #        {"shop":"b","amount":1,"at":"2024-01-01 00:00:00"}
/// #        {"shop":"a","amount":-5,"at":"1999-01-01 00:00:00"}"#,
/// # )]);
/// # assert_eq!(answer, [r#"{"key":"a","value":-3}"#, r#"{"key":"b","value":1}"#]);
/// ```
#[derive(Clone)]
pub struct Forever<'s, K: 'static, T: 'static> {
    pub(super) keyed: Keyed<'s, K, T>,
    pub(super) silence: Option<Duration>,
}

impl<'s, K: Arrangeable, T: Clone + serde::Serialize + 'static> Keyed<'s, K, T> {
    /// No windows: aggregates over all records of each key, kept for ever. What is kept grows with
    /// the number of keys and never shrinks, so mind which keys there can be.
    pub fn forever(self) -> Forever<'s, K, T> {
        Forever {
            keyed: self,
            silence: None,
        }
    }
}

impl<'s, K, T> Forever<'s, K, T>
where
    K: Arrangeable,
    T: Clone + serde::Serialize + 'static,
{
    /// Forgets a key once it is silent: when the query's watermark has passed its last record by
    /// `silence`, its row goes, and a record after that begins anew. So what is kept grows with
    /// the keys that are active, not with all there ever were.
    ///
    /// The records that a row is about are a [`session`](super::session) whose gap is `silence`;
    /// one that is late for it is listed as late.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, Serialize, Deserialize)]
    /// # struct Ping { host: Text, at: Timestamp }
    /// # impl Event for Ping {
    /// #     const STREAM: &'static str = "pings";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// fn hosts(flow: Flow) -> Table<Text, u64> {
    ///     flow.stream::<Ping>()
    ///         .key_by(|ping| ping.host.clone())
    ///         .forever()
    ///         .ttl(days(30))
    ///         .count()
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("hosts", "", hosts), &[(
    /// #     "pings",
    /// #     r#"{"host":"a","at":"2024-01-01 00:00:00"}
    /// #        {"host":"a","at":"2024-03-01 00:00:00"}
    /// #        {"host":"a","at":"2024-03-02 00:00:00"}"#,
    /// # )]);
    /// # assert_eq!(answer, [r#"{"key":"a","value":2}"#]);
    /// ```
    #[must_use]
    pub fn ttl(self, silence: Duration) -> Self {
        Forever {
            silence: Some(silence),
            ..self
        }
    }

    /// How many records.
    pub fn count(self) -> Table<'s, K, u64> {
        self.aggregate(Count)
    }

    /// The sum of a number; exact, whatever the order. Integers sum to `i128`, floats to `Float`.
    pub fn sum<N: Summand>(self, number: impl Fn(&T) -> N + 'static) -> Table<'s, K, N::Sum>
    where
        N::Sum: Arrangeable,
    {
        self.aggregate(Of::<_, N, Sum>::new(number))
    }

    /// The mean of a number: the exact sum, divided once.
    pub fn avg<N: Summand>(self, number: impl Fn(&T) -> N + 'static) -> Table<'s, K, Float> {
        self.aggregate(Of::<_, N, Average>::new(number))
    }

    /// The least of a value.
    pub fn min<V: Arrangeable>(self, value: impl Fn(&T) -> V + 'static) -> Table<'s, K, V> {
        self.aggregate(Of::<_, V, Min>::new(value))
    }

    /// The greatest of a value.
    pub fn max<V: Arrangeable>(self, value: impl Fn(&T) -> V + 'static) -> Table<'s, K, V> {
        self.aggregate(Of::<_, V, Max>::new(value))
    }

    /// Any aggregate: what is kept of a key's records, and the answer read from it.
    pub fn aggregate<A>(self, aggregate: A) -> Table<'s, K, A::Out>
    where
        A: Aggregate<T>,
        A::Out: Arrangeable,
    {
        if let Some(silence) = self.silence {
            return lively(self.keyed, silence, aggregate);
        }
        let Keyed { stream, key } = self.keyed;
        let flow = stream.flow;
        let aggregate = Rc::new(aggregate);
        let (folding, lines) = (Rc::clone(&aggregate), flow.lines());
        let failing = Rc::clone(&flow.fail);
        let combined = retire(
            stream.batches,
            flow.clocks(),
            Pipeline,
            stamped,
            "Combine",
            |_| {
                move |_: &Clock,
                      batches,
                      folded: &mut Vec<Total<K, A::Acc>>,
                      refused: &mut Vec<_>| {
                    let combined = guard(|| {
                        let (key, batches) = (&|t: &T| key(t), &batches);
                        combine(batches, key, &*folding, folded, |record, reason| {
                            refused.push(notice(record, reason, &lines));
                        });
                    });
                    if let Err(reason) = combined {
                        folded.clear();
                        failing(reason);
                    }
                }
            },
        );
        flow.notices.borrow_mut().push(combined.aside);

        let boundary = flow.boundary::<Total<K, A::Acc>>(&format!("forever-{}", aggregate.name()));
        let final_only = flow.final_only();
        let mut failing = Failing::new(Some(&boundary), &flow.fail);
        let mut totals = Totals::new(aggregate, boundary, flow.owns(), final_only);
        let pact = Exchange::new(|total: &Total<K, A::Acc>| {
            differential_dataflow::hashable::Hashable::hashed(&total.key)
        });
        let rows = retire(
            combined.main,
            flow.clocks(),
            pact,
            stamped,
            "Forever",
            |_| {
                move |clock: &Clock, events, out: &mut Vec<_>, _: &mut Vec<()>| {
                    failing.retire(clock, out, |out| {
                        totals.retire(clock, events, out);
                        Ok(())
                    });
                }
            },
        );
        Table::new(flow, rows.main.as_collection())
    }
}

/// Of each key what its newest session holds, until that is over.
fn lively<'s, K, T, A>(
    keyed: Keyed<'s, K, T>,
    silence: Duration,
    aggregate: A,
) -> Table<'s, K, A::Out>
where
    K: Arrangeable,
    T: Clone + serde::Serialize + 'static,
    A: Aggregate<T>,
    A::Out: Arrangeable,
{
    let lives = keyed.window(session(silence).keep(Duration::ZERO));
    lives
        .aggregate(aggregate)
        .map(|(key, life), value| (key.clone(), (life.start, value.clone())))
        .ranked(1, |_key, (start, _value)| Reverse(*start))
        .map_values(|_key, (_place, (_start, value))| value.clone())
}
