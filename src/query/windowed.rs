//! Windows of event time, and what is asked of them.

use std::rc::Rc;

use differential_dataflow::AsCollection;
use timely::dataflow::channels::pact::{Exchange, Pipeline};

use super::Table;
use super::catalog::{BuildError, MAX_OVERLAP};
use super::failing::Failing;
use super::rows::Rows;
use super::stream::Keyed;
use super::table::Known;
use super::windowing::Windowing;
use crate::dataflow::aggregate::{Aggregate, Average, Count, Max, Min, Of, Sum, Summand};
use crate::dataflow::clock::Clock;
use crate::dataflow::decode::guard;
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::leaving::Leave;
use crate::dataflow::retire::{retire, stamped};
use crate::dataflow::windows::{Folded, Saved, Windows, combine, final_at, notice};
use crate::time::Window;

/// A keyed stream in windows, waiting to be told what is asked of each.
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
/// fn takings(flow: Flow) -> Table<(Text, Window), i128> {
///     flow.stream::<Sale>()
///         .key_by(|sale| sale.shop.clone())
///         .window(tumbling(minutes(1)))
///         .sum(|sale| sale.amount)
/// }
/// # let answer = waterclock::testing::batch(Query::new("takings", "", takings), &[(
/// #     "sales",
/// #     r#"{"shop":"a","amount":2,"at":0}
/// #        {"shop":"a","amount":-5,"at":59999}
/// #        {"shop":"b","amount":1,"at":60000}"#,
/// # )]);
/// # assert_eq!(answer, [
/// #     r#"{"key":["a",{"start":0,"end":60000}],"value":-3,"final":true}"#,
/// #     r#"{"key":["b",{"start":60000,"end":120000}],"value":1,"final":true}"#,
/// # ]);
/// ```
#[derive(Clone)]
pub struct Windowed<'s, K: 'static, T: 'static, W = Windowing> {
    pub(super) keyed: Keyed<'s, K, T>,
    pub(super) windowing: W,
}

/// Says which windows there are: made by [`tumbling`](super::tumbling),
/// [`sliding`](super::sliding), [`cumulative`](super::cumulative), [`daily`](super::daily),
/// [`monthly`](super::monthly), [`session`](super::session) or [`records`](super::records).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which windows there are",
    label = "not windows",
    note = "write `.window(tumbling(minutes(5)))`, `.window(session(minutes(5)))` or \
            `.window(sliding(minutes(5)).every(minutes(1)))`"
)]
pub trait WindowKind: Sealed + Copy + 'static {
    /// What a window is known by.
    type Pane: Arrangeable;

    /// Aggregates the records of each window.
    #[doc(hidden)]
    fn aggregate<'s, K, T, A>(
        self,
        keyed: Keyed<'s, K, T>,
        aggregate: A,
    ) -> Table<'s, (K, Self::Pane), A::Out>
    where
        K: Arrangeable,
        T: Clone + serde::Serialize + 'static,
        A: Aggregate<T>,
        A::Out: Arrangeable;
}

/// Windows are a closed set.
pub trait Sealed {}

impl<Z: Copy + 'static> Sealed for Windowing<Z> {}

impl<'s, K, T, W> Windowed<'s, K, T, W>
where
    K: Arrangeable,
    T: Clone + serde::Serialize + 'static,
    W: WindowKind,
{
    /// How many records.
    pub fn count(self) -> Table<'s, (K, W::Pane), u64> {
        self.aggregate(Count)
    }

    /// The sum of a number; exact, whatever the order. Integers sum to `i128`, floats to `Float`.
    pub fn sum<N: Summand>(
        self,
        number: impl Fn(&T) -> N + 'static,
    ) -> Table<'s, (K, W::Pane), N::Sum>
    where
        N::Sum: Arrangeable,
    {
        self.aggregate(Of::<_, N, Sum>::new(number))
    }

    /// The mean of a number: the exact sum, divided once.
    pub fn avg<N: Summand>(
        self,
        number: impl Fn(&T) -> N + 'static,
    ) -> Table<'s, (K, W::Pane), crate::number::Float> {
        self.aggregate(Of::<_, N, Average>::new(number))
    }

    /// The least of a value.
    pub fn min<V: Arrangeable>(
        self,
        value: impl Fn(&T) -> V + 'static,
    ) -> Table<'s, (K, W::Pane), V> {
        self.aggregate(Of::<_, V, Min>::new(value))
    }

    /// The greatest of a value.
    pub fn max<V: Arrangeable>(
        self,
        value: impl Fn(&T) -> V + 'static,
    ) -> Table<'s, (K, W::Pane), V> {
        self.aggregate(Of::<_, V, Max>::new(value))
    }

    /// Any aggregate: what is kept of a window's records, and the answer read from it.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, Serialize, Deserialize)]
    /// # struct Reading { sensor: u32, celsius: i64, at: Timestamp }
    /// # impl Event for Reading {
    /// #     const STREAM: &'static str = "readings";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// /// The spread between the coldest and the warmest reading.
    /// struct Spread;
    ///
    /// impl Aggregate<Reading> for Spread {
    ///     type Acc = (i64, i64);
    ///     type Out = i64;
    ///
    ///     fn one(&self, reading: &Reading) -> (i64, i64) {
    ///         (reading.celsius, reading.celsius)
    ///     }
    ///     fn merge(&self, acc: &mut (i64, i64), other: &(i64, i64)) {
    ///         *acc = (acc.0.min(other.0), acc.1.max(other.1));
    ///     }
    ///     fn finish(&self, acc: &(i64, i64)) -> i64 {
    ///         acc.1 - acc.0
    ///     }
    /// }
    ///
    /// fn spread(flow: Flow) -> Table<(u32, Window), i64> {
    ///     flow.stream::<Reading>()
    ///         .key_by(|reading| reading.sensor)
    ///         .window(tumbling(minutes(1)))
    ///         .aggregate(Spread)
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("spread", "", spread), &[(
    /// #     "readings",
    /// #     r#"{"sensor":1,"celsius":20,"at":0}
    /// #        {"sensor":1,"celsius":-3,"at":1}
    /// #        {"sensor":1,"celsius":5,"at":2}"#,
    /// # )]);
    /// # assert_eq!(answer, [r#"{"key":[1,{"start":0,"end":60000}],"value":23,"final":true}"#]);
    /// ```
    pub fn aggregate<A>(self, aggregate: A) -> Table<'s, (K, W::Pane), A::Out>
    where
        A: Aggregate<T>,
        A::Out: Arrangeable,
    {
        self.windowing.aggregate(self.keyed, aggregate)
    }
}

impl<'s, K, T, Z> Windowed<'s, K, T, Windowing<Z>>
where
    K: Arrangeable,
    T: Clone + serde::Serialize + 'static,
    Z: Copy + 'static,
{
    /// How many records there are of each part of the window: a row `(part, count)` per part.
    pub fn count_by<P: Arrangeable>(
        self,
        part: impl Fn(&T) -> P + 'static,
    ) -> Table<'s, (K, Window), (P, u64)> {
        let Windowed {
            keyed: Keyed { stream, key },
            windowing,
        } = self;
        let both = stream.key_by(move |record| (key(record), part(record)));
        let counts = Windowed {
            keyed: both,
            windowing,
        }
        .count();
        let allowed = windowing.allowed_ms();
        counts
            .map(|((key, part), window), count| ((key.clone(), *window), (part.clone(), *count)))
            .closed_by(move |(_, window)| final_at(window, allowed))
    }

    /// How many different values there are in each window, exactly.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, Serialize, Deserialize)]
    /// # struct Visit { site: Text, who: Text, at: Timestamp }
    /// # impl Event for Visit {
    /// #     const STREAM: &'static str = "visits";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// fn visitors(flow: Flow) -> Table<(Text, Window), u64> {
    ///     flow.stream::<Visit>()
    ///         .key_by(|visit| visit.site.clone())
    ///         .window(tumbling(minutes(1)))
    ///         .count_distinct(|visit| visit.who.clone())
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("visitors", "", visitors), &[(
    /// #     "visits",
    /// #     r#"{"site":"s","who":"a","at":0}
    /// #        {"site":"s","who":"b","at":1}
    /// #        {"site":"s","who":"a","at":2}"#,
    /// # )]);
    /// # assert_eq!(answer, [r#"{"key":["s",{"start":0,"end":60000}],"value":2,"final":true}"#]);
    /// ```
    pub fn count_distinct<P: Arrangeable>(
        self,
        part: impl Fn(&T) -> P + 'static,
    ) -> Table<'s, (K, Window), u64> {
        self.count_by(part).count_rows()
    }
}

impl<Z: Copy + 'static> WindowKind for Windowing<Z> {
    type Pane = Window;

    fn aggregate<'s, K, T, A>(
        self,
        keyed: Keyed<'s, K, T>,
        aggregate: A,
    ) -> Table<'s, (K, Window), A::Out>
    where
        K: Arrangeable,
        T: Clone + serde::Serialize + 'static,
        A: Aggregate<T>,
        A::Out: Arrangeable,
    {
        let Keyed { stream, key } = keyed;
        let flow = stream.flow;
        let shape = self.shape(&flow);
        let (_, overlap) = shape.assigner.windows_of(shape.assigner.pane_of(0));
        if overlap > MAX_OVERLAP {
            flow.refuse(BuildError::TooManyWindows(flow.query.to_string(), overlap));
        }
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
                move |_: &Clock, batches, folded: &mut Vec<Folded<K, A::Acc>>, late: &mut Vec<_>| {
                    let combined = guard(|| {
                        let (key, batches) = (&|t: &T| key(t), &batches);
                        combine(batches, &shape, key, &*folding, folded, |record, reason| {
                            late.push(notice(record, reason, &lines));
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

        let boundary = flow.boundary::<Saved<K, A::Acc>>(&self.state_name(&aggregate.name()));
        let mut failing = Failing::new(Some(&boundary), &flow.fail);
        let leave = Leave::of(&shape);
        let mut windows = Windows::new(shape, aggregate, leave.clone(), boundary, flow.owns());
        let watermark = flow.watermark();
        let pact = Exchange::new(|folded: &Folded<K, A::Acc>| {
            differential_dataflow::hashable::Hashable::hashed(&folded.key)
        });
        let rows = retire(
            combined.main,
            flow.clocks(),
            pact,
            stamped,
            "Windows",
            |_| {
                move |clock: &Clock, events, out: &mut Vec<_>, _: &mut Vec<()>| {
                    failing.retire(clock, out, |out| {
                        windows.retire(clock, watermark(clock), events, out);
                        Ok(())
                    });
                }
            },
        );
        let rows = rows.main.as_collection();
        let table = Table {
            rows: Rows::leaving(rows.clone(), leave),
            known: Known {
                only_grows: shape.is_replay,
                is_placed: false,
            },
            ..Table::new(flow, rows)
        };
        table.closed_by(move |(_, window)| final_at(window, shape.allowed))
    }
}
