//! Tables: maintained collections of `(key, value)` rows. Everything here is a function of rows, so
//! nothing of it is saved: a restart recomputes it.

use std::rc::Rc;

use differential_dataflow::{AsCollection, VecCollection};
use timely::dataflow::Stream as Flowing;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::flow::Flow;
use super::rows::Rows;
use crate::dataflow::decode::guard;
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::settling::FinalAt;
use crate::time::{Epoch, Timestamp};

pub(super) type Collection<'s, D> = VecCollection<'s, Epoch, D, isize>;

/// A maintained bag of `(key, value)` rows; what a query returns.
#[derive(Clone)]
pub struct Table<'s, K: 'static, V: 'static> {
    pub(super) flow: Flow<'s>,
    pub(super) rows: Rows<'s, (K, V)>,
    pub(super) final_at: Option<FinalAt<K>>,
    /// The name under which all queries share the table's arrangement.
    pub(super) shared: Option<String>,
    pub(super) known: Known,
}

/// What is known of a table's rows, and saves work.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Rows come, and none ever goes.
    pub only_grows: bool,
    /// Each row is on the worker that owns its key.
    pub is_placed: bool,
}

impl Known {
    /// What is known of rows made of those of two tables.
    pub fn of_both(self, other: Known) -> Known {
        Known {
            only_grows: self.only_grows && other.only_grows,
            is_placed: self.is_placed && other.is_placed,
        }
    }
}

impl<'s, K: Arrangeable, V: Arrangeable> Table<'s, K, V> {
    pub(super) fn new(flow: Flow<'s>, rows: Collection<'s, (K, V)>) -> Self {
        Table {
            flow,
            rows: Rows::new(rows),
            final_at: None,
            shared: None,
            known: Known::default(),
        }
    }

    pub(super) fn known(self, known: Known) -> Self {
        Table { known, ..self }
    }

    /// A row is final once the watermark has reached what `at` says of its key.
    pub(super) fn closed_by(self, at: impl Fn(&K) -> Timestamp + 'static) -> Self {
        Table {
            final_at: Some(Rc::new(at)),
            ..self
        }
    }

    pub(super) fn shared_as(self, name: String) -> Self {
        Table {
            shared: Some(name),
            ..self
        }
    }

    pub(super) fn final_at(&self) -> Option<FinalAt<K>> {
        self.final_at.clone()
    }

    /// The raw differential collection: everything differential can do. [`Table::from_collection`]
    /// is the way back.
    pub fn collection(self) -> Collection<'s, (K, V)> {
        self.rows.followed()
    }

    /// A table of a raw differential collection. Its rows are never called final.
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
    /// fn busy_minutes(flow: Flow) -> Table<Text, isize> {
    ///     let counts = flow
    ///         .stream::<Ping>()
    ///         .key_by(|ping| ping.host.clone())
    ///         .window(tumbling(minutes(1)))
    ///         .count();
    ///     let busy = counts.collection().map(|((host, _window), _count)| host).count();
    ///     Table::from_collection(flow, busy)
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("busy", "", busy_minutes), &[(
    /// #     "pings",
    /// #     r#"{"host":"a","at":0}
    /// #        {"host":"a","at":1}
    /// #        {"host":"a","at":60000}"#,
    /// # )]);
    /// # assert_eq!(answer, [r#"{"key":"a","value":2}"#]);
    /// ```
    pub fn from_collection(flow: Flow<'s>, rows: Collection<'s, (K, V)>) -> Self {
        Table::new(flow, rows)
    }

    /// Makes one row of each. The new rows are not called final, since their key may be anything.
    pub fn map<K2: Arrangeable, V2: Arrangeable>(
        self,
        logic: impl Fn(&K, &V) -> (K2, V2) + 'static,
    ) -> Table<'s, K2, V2> {
        let rows = self.rows.followed();
        let rows = each(&self.flow, rows, "Map", move |(key, value)| {
            logic(&key, &value)
        });
        Table::new(self.flow, rows).known(Known {
            is_placed: false,
            ..self.known
        })
    }

    /// Makes a new value of each row; rows stay as final as they were.
    pub fn map_values<V2: Arrangeable>(
        self,
        logic: impl Fn(&K, &V) -> V2 + 'static,
    ) -> Table<'s, K, V2> {
        let make = move |(key, value)| {
            let value = logic(&key, &value);
            (key, value)
        };
        let make = |rows| each(&self.flow, rows, "Map values", make);
        let rows = self.rows.alike(make);
        Table {
            flow: self.flow,
            rows,
            final_at: self.final_at,
            shared: None,
            known: self.known,
        }
    }

    /// Keeps the rows that `keeps` says.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, Serialize, Deserialize)]
    /// # struct Login { user: u32, at: Timestamp }
    /// # impl Event for Login {
    /// #     const STREAM: &'static str = "logins";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// fn many_logins(flow: Flow) -> Table<(u32, Window), u64> {
    ///     flow.stream::<Login>()
    ///         .key_by(|login| login.user)
    ///         .window(tumbling(minutes(1)))
    ///         .count()
    ///         .filter(|_key, count| *count > 1)
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("many", "", many_logins), &[(
    /// #     "logins",
    /// #     r#"{"user":1,"at":0}
    /// #        {"user":1,"at":1}
    /// #        {"user":2,"at":2}"#,
    /// # )]);
    /// # assert_eq!(answer, [r#"{"key":[1,{"start":0,"end":60000}],"value":2,"final":true}"#]);
    /// ```
    #[must_use]
    pub fn filter(self, keeps: impl Fn(&K, &V) -> bool + 'static) -> Self {
        let pick = move |rows: &mut Vec<((K, V), Epoch, isize)>, kept: &mut Vec<_>| {
            rows.retain(|((key, value), ..)| keeps(key, value));
            std::mem::swap(rows, kept);
        };
        let pick = |rows: Collection<'s, _>| {
            each_container(&self.flow, rows.inner, "Filter", pick).as_collection()
        };
        Table {
            rows: self.rows.alike(pick),
            shared: None,
            ..self
        }
    }

    /// The sum of a number over the rows of each key. A key without rows has none; numbers that
    /// cancel out sum to 0.
    ///
    /// The sum is kept up to date by what changes, however many rows a key has. Numbers are of at
    /// most 96 bits, so that no sum leaves its type; a greater one fails the query.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, Serialize, Deserialize)]
    /// # struct Sale { city: Text, shop: Text, amount: i64, at: Timestamp }
    /// # impl Event for Sale {
    /// #     const STREAM: &'static str = "sales";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// fn best_of_each_shop(flow: Flow) -> Table<Text, i128> {
    ///     flow.stream::<Sale>()
    ///         .key_by(|sale| (sale.city.clone(), sale.shop.clone()))
    ///         .forever()
    ///         .max(|sale| sale.amount)
    ///         .map(|(city, _shop), best| (city.clone(), *best))
    ///         .sum(|_city, best| *best)
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("best", "", best_of_each_shop), &[(
    /// #     "sales",
    /// #     r#"{"city":"c","shop":"a","amount":2,"at":0}
    /// #        {"city":"c","shop":"a","amount":7,"at":1}
    /// #        {"city":"c","shop":"b","amount":-7,"at":2}"#,
    /// # )]);
    /// # assert_eq!(answer, [r#"{"key":"c","value":0}"#]);
    /// ```
    pub fn sum<N: Into<i128>>(self, number: impl Fn(&K, &V) -> N + 'static) -> Table<'s, K, i128> {
        let (flow, final_at) = (self.flow.clone(), self.final_at.clone());
        let sums = self.counted_sums(number);
        Table {
            final_at,
            ..Table::new(flow, sums.map(|(key, (_rows, sum))| (key, sum)))
        }
    }

    /// The sum of a number over the rows of each key, and how many rows they are: what a mean is
    /// made of. See [`Table::sum`].
    #[allow(clippy::cast_sign_loss, reason = "a key without rows has no count")]
    pub fn sum_and_count<N: Into<i128>>(
        self,
        number: impl Fn(&K, &V) -> N + 'static,
    ) -> Table<'s, K, (i128, u64)> {
        let (flow, final_at) = (self.flow.clone(), self.final_at.clone());
        let sums = self.counted_sums(number);
        Table {
            final_at,
            ..Table::new(
                flow,
                sums.map(|(key, (rows, sum))| (key, (sum, rows as u64))),
            )
        }
    }

    /// How many rows each key has.
    #[allow(clippy::cast_sign_loss, reason = "a key without rows has no count")]
    pub fn count_rows(self) -> Table<'s, K, u64> {
        use differential_dataflow::operators::CountTotal;
        let counts = self.rows.followed().map(|(key, _value)| key).count_total();
        let rows = counts.map(|(key, count)| (key, count as u64));
        Table {
            final_at: self.final_at,
            ..Table::new(self.flow, rows)
        }
    }

    /// How many rows, then the sum: a sum of 0 is a row as long as rows are summed.
    fn counted_sums<N: Into<i128>>(
        self,
        number: impl Fn(&K, &V) -> N + 'static,
    ) -> Collection<'s, (K, (isize, i128))> {
        use differential_dataflow::operators::CountTotal;
        let rows = self.rows.followed().inner;
        let numbers = each_container(&self.flow, rows, "Numbers", move |rows, numbers| {
            numbers.extend(rows.drain(..).map(|((key, value), epoch, diff)| {
                let number = bounded(number(&key, &value).into());
                (key, epoch, (diff, number * diff as i128))
            }));
        });
        numbers.as_collection().count_total()
    }
}

/// Makes one row of each.
pub(super) fn each<'s, D: 'static, U: 'static>(
    flow: &Flow<'s>,
    rows: Collection<'s, D>,
    name: &str,
    logic: impl Fn(D) -> U + 'static,
) -> Collection<'s, U> {
    let made = each_container(flow, rows.inner, name, move |rows, made| {
        made.extend(
            rows.drain(..)
                .map(|(row, epoch, diff)| (logic(row), epoch, diff)),
        );
    });
    made.as_collection()
}

/// Runs user code on what travels together. Its panic fails the query, and nothing comes of the
/// rows beside the one that it saw.
fn each_container<'s, D: 'static, U: 'static>(
    flow: &Flow<'s>,
    rows: Flowing<'s, Epoch, Vec<D>>,
    name: &str,
    logic: impl Fn(&mut Vec<D>, &mut Vec<U>) + 'static,
) -> Flowing<'s, Epoch, Vec<U>> {
    let fail = Rc::clone(&flow.fail);
    rows.unary(Pipeline, name, move |_, _| {
        let mut made = Vec::new();
        move |input, output| {
            input.for_each(|cap, rows| {
                made.clear();
                if let Err(reason) = guard(|| logic(rows, &mut made)) {
                    made.clear();
                    fail(reason);
                }
                output.session(&cap).give_container(&mut made);
            });
        }
    })
}

/// A number whose sums over all rows that fit into memory fit into their type.
fn bounded(number: i128) -> i128 {
    assert!(
        number.unsigned_abs() >> 96 == 0,
        "{number} is too large to be summed: it has more than 96 bits"
    );
    number
}
