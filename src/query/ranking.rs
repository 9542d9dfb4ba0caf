//! The first rows of each key, in an order.

use std::cmp::Reverse;

use differential_dataflow::AsCollection;
use timely::dataflow::channels::pact::Pipeline;

use super::Table;
use super::table::{Known, each};
use crate::dataflow::clock::Clock;
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::ranks::{Ranks, Shown};
use crate::dataflow::retire::{by_update_time, retire};
use crate::time::Epoch;

impl<'s, K: Arrangeable, V: Arrangeable> Table<'s, K, V> {
    /// Of each key's rows the `n` that are first by `order`, each with its place, from 1 on. What
    /// `order` leaves equal is ordered by the rows themselves, so that places are settled.
    ///
    /// A change costs what finding its place does, and reading `n` rows: large groups are cheap.
    ///
    /// ```text
    /// rows     + (k, b)       + (k, a)                      - (k, a)
    /// first 2  + (k, (1, b))  + (k, (1, a)) - (k, (1, b))   - (k, (1, a)) + (k, (1, b))
    ///                                       + (k, (2, b))                 - (k, (2, b))
    /// ```
    ///
    /// ```
    /// # use std::cmp::Reverse;
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    /// # struct Bid { lot: u32, who: Text, price: u64, at: Timestamp }
    /// # impl Event for Bid {
    /// #     const STREAM: &'static str = "bids";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// fn best_bids(flow: Flow) -> Table<u32, (u64, Text)> {
    ///     flow.stream::<Bid>()
    ///         .key_by(|bid| bid.lot)
    ///         .keep_forever()
    ///         .ranked(2, |_lot, bid| (Reverse(bid.price), bid.at))
    ///         .map_values(|_lot, (place, bid)| (*place, bid.who.clone()))
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("best", "", best_bids), &[(
    /// #     "bids",
    /// #     r#"{"lot":1,"who":"a","price":3,"at":9}
    /// #        {"lot":1,"who":"b","price":1,"at":0}
    /// #        {"lot":1,"who":"c","price":3,"at":2}"#,
    /// # )]);
    /// # assert_eq!(answer, [r#"{"key":1,"value":[1,"c"]}"#, r#"{"key":1,"value":[2,"a"]}"#]);
    /// ```
    pub fn ranked<O: Arrangeable>(
        self,
        n: usize,
        order: impl Fn(&K, &V) -> O + 'static,
    ) -> Table<'s, K, (u64, V)> {
        self.first_rows(
            n,
            move |key, value| (order(key, value), value.clone()),
            |rows| (1..).zip(rows.iter().map(|row| row.1.clone())).collect(),
        )
    }

    /// The least of a value over each key's rows. A change costs what finding its place does.
    pub fn min<N: Arrangeable>(self, value: impl Fn(&K, &V) -> N + 'static) -> Table<'s, K, N> {
        self.first_rows(1, value, |rows| Shown::from([rows[0].clone()]))
    }

    /// The greatest of a value over each key's rows. A change costs what finding its place does.
    pub fn max<N: Arrangeable>(self, value: impl Fn(&K, &V) -> N + 'static) -> Table<'s, K, N> {
        let order = move |key: &K, row: &V| Reverse(value(key, row));
        self.first_rows(1, order, |rows| Shown::from([rows[0].0.clone()]))
    }

    fn first_rows<R: Arrangeable, S: Arrangeable>(
        self,
        n: usize,
        row: impl Fn(&K, &V) -> R + 'static,
        show: impl Fn(&[&R]) -> Shown<S> + 'static,
    ) -> Table<'s, K, S> {
        let (flow, final_at, known) = (self.flow.clone(), self.final_at.clone(), self.known);
        let rows = each(&flow, self.rows.followed(), "Order", move |(key, value)| {
            let row = row(&key, &value);
            (key, row)
        });
        let rows = Table::new(flow.clone(), rows).known(known).placed();
        let ranks = Ranks::new(n, known.only_grows, flow.final_only(), show);
        let mut ranks = ranks.settled_at(flow.settled_at(final_at.as_ref()));
        let watermark = flow.watermark();
        let (rows, clocks) = (rows.inner, flow.clocks());
        let first = retire(rows, clocks, Pipeline, by_update_time, "First rows", |_| {
            move |clock: &Clock, changes, out: &mut Vec<((K, S), Epoch, isize)>, _: &mut Vec<()>| {
                ranks.retire(clock, watermark(clock), changes, out);
            }
        });
        let known = Known {
            is_placed: true,
            only_grows: false,
        };
        Table {
            final_at,
            known,
            ..Table::new(flow, first.main.as_collection())
        }
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
    /// A change costs what finding its place does, and reading `n` rows. [`Table::ranked`] is the
    /// same with any order and a row for each place.
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
        self.first_rows(
            n,
            |_key, (part, number)| (Reverse(number.clone()), part.clone()),
            |rows| {
                let pair = |row: &&(Reverse<N>, P)| (row.1.clone(), row.0.0.clone());
                Shown::from([rows.iter().map(pair).collect()])
            },
        )
    }
}
