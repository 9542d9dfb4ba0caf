//! Sessions of the rows of a table.

use std::time::Duration;

use differential_dataflow::AsCollection;
use differential_dataflow::hashable::Hashable;
use timely::dataflow::channels::pact::Exchange;

use super::Table;
use super::failing::Failing;
use crate::dataflow::aggregate::{Aggregate, Count};
use crate::dataflow::chains::{Chains, Change};
use crate::dataflow::clock::Clock;
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::retire::{by_update_time, retire};
use crate::time::{Timestamp, Window, millis_of};

/// A table whose rows are in sessions, waiting to be told what is asked of each.
#[derive(Clone)]
pub struct Sessions<'s, K: 'static, V: 'static> {
    rows: Table<'s, K, (i64, V)>,
    gap: Duration,
}

impl<'s, K: Arrangeable, V: Arrangeable> Table<'s, K, V> {
    /// Each key's rows in sessions: `[first, last + gap)`, as long as no two are further apart than
    /// `gap`. Where rows come sessions merge, and where rows go they split again.
    ///
    /// ```text
    /// rows      x   x   x            - x (the second)
    /// sessions [x---x---x-gap)       [x-gap)   [x-gap)
    /// ```
    ///
    /// A row that comes costs finding its place, however long its session is; where rows go, what
    /// is left of their sessions is read anew, once an epoch. Sessions of a table are never final:
    /// a row may always go. Those of a stream are [`session`](super::session).
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    /// # struct Shift { id: u32, who: Text, at: Timestamp, called_off: bool }
    /// # impl Event for Shift {
    /// #     const STREAM: &'static str = "shifts";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// # impl Entity for Shift {
    /// #     type Key = u32;
    /// #     fn key(&self) -> u32 { self.id }
    /// #     fn is_deleted(&self) -> bool { self.called_off }
    /// # }
    /// /// How many shifts somebody works without half a day in between.
    /// fn runs(flow: Flow) -> Table<(Text, Window), u64> {
    ///     flow.table::<Shift>()
    ///         .map(|_id, shift| (shift.who.clone(), shift.at))
    ///         .sessions(hours(12), |_who, at| *at)
    ///         .count()
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("runs", "", runs), &[(
    /// #     "shifts",
    /// #     r#"{"id":1,"who":"a","at":0,"called_off":false}
    /// #        {"id":2,"who":"a","at":28800000,"called_off":false}
    /// #        {"id":3,"who":"a","at":57600000,"called_off":false}
    /// #        {"id":2,"who":"a","at":28800000,"called_off":true}"#,
    /// # )]);
    /// # assert_eq!(answer, [
    /// #     r#"{"key":["a",{"start":0,"end":43200000}],"value":1}"#,
    /// #     r#"{"key":["a",{"start":57600000,"end":100800000}],"value":1}"#,
    /// # ]);
    /// ```
    pub fn sessions(
        self,
        gap: Duration,
        time: impl Fn(&K, &V) -> Timestamp + 'static,
    ) -> Sessions<'s, K, V> {
        let rows = self.map_values(move |key, row| (time(key, row).0, row.clone()));
        Sessions { rows, gap }
    }
}

impl<'s, K: Arrangeable, V: Arrangeable> Sessions<'s, K, V> {
    /// How many rows each session has.
    pub fn count(self) -> Table<'s, (K, Window), u64> {
        self.aggregate(Count)
    }

    /// Any aggregate of the rows of each session, or a tuple of several.
    pub fn aggregate<A>(self, aggregate: A) -> Table<'s, (K, Window), A::Out>
    where
        A: Aggregate<V>,
        A::Out: Arrangeable,
    {
        let (flow, rows) = (self.rows.flow, self.rows.rows.followed().inner);
        let gap = millis_of(self.gap).max(1);
        let mut chains = Chains::new(gap, aggregate, flow.final_only());
        let mut failing = Failing::new(None, &flow.fail);
        let pact = Exchange::new(|((key, _), ..): &Change<K, V>| key.hashed());
        let clocks = flow.clocks();
        let sessions = retire(rows, clocks, pact, by_update_time, "Row sessions", |_| {
            move |clock: &Clock, changes, out: &mut Vec<_>, _: &mut Vec<()>| {
                failing.retire(clock, out, |out| {
                    chains.retire(clock, changes, out);
                    Ok(())
                });
            }
        });
        Table::new(flow, sessions.main.as_collection())
    }
}
