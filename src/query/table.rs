//! Tables: maintained collections of `(key, value)` rows. Everything here is a function of rows, so
//! nothing of it is saved: a restart recomputes it.

use std::hash::{BuildHasher, Hash};
use std::rc::Rc;

use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::{AsCollection, VecCollection};
use timely::dataflow::operators::vec::Map;

use super::flow::Flow;
use crate::dataflow::keyed::{Arrangeable, Rows};
use crate::time::{Epoch, Timestamp};

type Collection<'s, D> = VecCollection<'s, Epoch, D, isize>;

/// A maintained bag of `(key, value)` rows; what a query returns.
#[derive(Clone)]
pub struct Table<'s, K: 'static, V: 'static> {
    flow: Flow<'s>,
    rows: Collection<'s, (K, V)>,
    final_at: Option<Rc<dyn Fn(&K) -> Timestamp>>,
    /// The name under which all queries share the table's arrangement.
    shared: Option<String>,
}

impl<'s, K: Arrangeable, V: Arrangeable> Table<'s, K, V> {
    pub(super) fn new(flow: Flow<'s>, rows: Collection<'s, (K, V)>) -> Self {
        Table {
            flow,
            rows,
            final_at: None,
            shared: None,
        }
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

    pub(super) fn final_at(&self) -> Option<Rc<dyn Fn(&K) -> Timestamp>> {
        self.final_at.clone()
    }

    /// The raw differential collection: everything differential can do. [`Table::from_collection`]
    /// is the way back.
    pub fn collection(self) -> Collection<'s, (K, V)> {
        self.rows
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
        let trying = self.flow.trying();
        let rows = self
            .rows
            .flat_map(move |(key, value)| trying(&|| logic(&key, &value)));
        Table::new(self.flow, rows)
    }

    /// Makes a new value of each row; rows stay as final as they were.
    pub fn map_values<V2: Arrangeable>(
        self,
        logic: impl Fn(&K, &V) -> V2 + 'static,
    ) -> Table<'s, K, V2> {
        let trying = self.flow.trying();
        let rows = self.rows.flat_map(move |(key, value)| {
            let value = trying(&|| logic(&key, &value))?;
            Some((key, value))
        });
        Table {
            flow: self.flow,
            rows,
            final_at: self.final_at,
            shared: None,
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
        let trying = self.flow.trying();
        let rows = self
            .rows
            .filter(move |(key, value)| trying(&|| keeps(key, value)).unwrap_or_default());
        Table {
            rows,
            shared: None,
            ..self
        }
    }

    /// Pairs the rows of two tables that have the same key. A change on either side revises the
    /// pairs it is part of, also earlier ones: a user who moves takes past clicks along. Where a
    /// record should see the table as it was, see [`Keyed::as_of`](super::Keyed::as_of).
    ///
    /// ```text
    /// left   + (k, a)              + (k, b)
    /// right           + (k, x)               - (k, x)
    /// pairs           + (k, (a,x)) + (k,(b,x)) - (k,(a,x)) - (k,(b,x))
    /// ```
    pub fn join<V2: Arrangeable>(self, other: Table<'s, K, V2>) -> Table<'s, K, (V, V2)> {
        let flow = self.flow.clone();
        let (left, right) = (self.arranged(), other.arranged());
        let pairs = left.join_core(right, |key, a, b| {
            Some((key.clone(), (a.clone(), b.clone())))
        });
        Table::new(flow, pairs)
    }

    /// Pairs the rows of two tables that have the same key, and those that have no partner with
    /// nothing: a key of either table has a row. Both sides revise, as those of [`Table::join`].
    ///
    /// ```text
    /// left   + (k, a)                   + (j, b)
    /// right              + (k, x)
    /// pairs  + (k,(a,-)) - (k,(a,-))    + (j,(b,-))
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
        let left = self.rows.map(|(key, value)| (key, (Some(value), None)));
        let right = other.rows.map(|(key, value)| (key, (None, Some(value))));
        let sides = left.concat(right);
        let pairs = sides.reduce_named("FullJoin", |_key, sides, pairs| {
            // Nothing comes before something: the right side's rows are first.
            let (right, left) = sides.split_at(sides.partition_point(|(side, _)| side.0.is_none()));
            match (left, right) {
                (rows, []) | ([], rows) => {
                    pairs.extend(rows.iter().map(|(side, times)| ((*side).clone(), *times)));
                }
                (left, right) => pairs.extend(left.iter().flat_map(|(a, times)| {
                    let pair = move |(b, more): &(&(Option<V>, Option<V2>), isize)| {
                        ((a.0.clone(), b.1.clone()), times * more)
                    };
                    right.iter().map(pair)
                })),
            }
        });
        Table::new(self.flow, pairs)
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
        use differential_dataflow::operators::CountTotal;
        let trying = self.flow.trying();
        // The count of rows comes first: a sum of 0 is a row as long as rows are summed.
        let numbers = self
            .rows
            .inner
            .flat_map(move |((key, value), epoch, diff)| {
                let number = trying(&|| bounded(number(&key, &value).into()))?;
                Some((key, epoch, (diff, number * diff as i128)))
            });
        let sums = numbers.as_collection().count_total();
        let rows = sums.map(|(key, (_rows, sum))| (key, sum));
        Table {
            flow: self.flow,
            rows,
            final_at: self.final_at,
            shared: None,
        }
    }

    /// How many rows each key has.
    #[allow(clippy::cast_sign_loss, reason = "a key without rows has no count")]
    pub fn count_rows(self) -> Table<'s, K, u64> {
        use differential_dataflow::operators::CountTotal;
        let counts = self.rows.map(|(key, _value)| key).count_total();
        let rows = counts.map(|(key, count)| (key, count as u64));
        Table {
            flow: self.flow,
            rows,
            final_at: self.final_at,
            shared: None,
        }
    }

    fn arranged(self) -> Arranged<'s, TraceAgent<Rows<K, V>>> {
        let Some(name) = self.shared else {
            return self.rows.arrange_by_key();
        };
        let shared = self.flow.env.shared.clone();
        shared.arrangement(&name, || self.rows.arrange_by_key_named(&name))
    }
}

impl<'s, K, P, N> Table<'s, K, (P, N)>
where
    K: Arrangeable,
    P: Arrangeable,
    N: Arrangeable,
{
    /// Of each key's rows `(part, number)` the `n` with the greatest numbers, greatest first; ties
    /// go to the lesser part. One row a key.
    ///
    /// Work per change is bounded by staging: a key's parts fall into 64 buckets, and a change
    /// looks at one bucket and at the best of each.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, Serialize, Deserialize)]
    /// # struct View { site: Text, page: Text, at: Timestamp }
    /// # impl Event for View {
    /// #     const STREAM: &'static str = "views";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// fn top_pages(flow: Flow) -> Table<(Text, Window), Vec<(Text, u64)>> {
    ///     flow.stream::<View>()
    ///         .key_by(|view| view.site.clone())
    ///         .window(tumbling(hours(1)))
    ///         .count_by(|view| view.page.clone())
    ///         .top(2)
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("top", "", top_pages), &[(
    /// #     "views",
    /// #     r#"{"site":"s","page":"a","at":0}
    /// #        {"site":"s","page":"b","at":0}
    /// #        {"site":"s","page":"b","at":1}
    /// #        {"site":"s","page":"c","at":2}"#,
    /// # )]);
    /// # assert_eq!(answer, [
    /// #     r#"{"key":["s",{"start":0,"end":3600000}],"value":[["b",2],["a",1]],"final":true}"#,
    /// # ]);
    /// ```
    pub fn top(self, n: usize) -> Table<'s, K, Vec<(P, N)>> {
        let hasher = foldhash::quality::FixedState::with_seed(1);
        let staged = self
            .rows
            .map(move |(key, (part, number))| {
                let bucket = hasher.hash_one(&part) % 64;
                ((key, bucket), Ranked(number, part))
            })
            .reduce_named("TopOfBucket", move |_key, rows, best| {
                best.extend(
                    rows.iter()
                        .rev()
                        .take(n)
                        .map(|(row, count)| ((*row).clone(), *count)),
                );
            });
        let best = staged.map(|((key, _bucket), row)| (key, row)).reduce_named(
            "Top",
            move |_key, rows, best| {
                let top = rows.iter().rev().flat_map(|(row, count)| {
                    std::iter::repeat_n(*row, usize::try_from(*count).unwrap_or(0))
                });
                let top = top
                    .take(n)
                    .map(|row| (row.1.clone(), row.0.clone()))
                    .collect();
                best.push((top, 1));
            },
        );
        Table {
            flow: self.flow,
            rows: best,
            final_at: self.final_at,
            shared: None,
        }
    }
}

/// A number whose sums over all rows that fit into memory fit into their type.
fn bounded(number: i128) -> i128 {
    assert!(
        number.unsigned_abs() >> 96 == 0,
        "{number} is too large to be summed: it has more than 96 bits"
    );
    number
}

/// Orders by number, and ties by part, the lesser part greater.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
struct Ranked<N, P>(N, P);

impl<N: Ord, P: Ord> Ord for Ranked<N, P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0).then_with(|| other.1.cmp(&self.1))
    }
}

impl<N: Ord, P: Ord> PartialOrd for Ranked<N, P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
