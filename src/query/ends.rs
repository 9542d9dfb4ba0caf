//! The first and the last record of each key, by the canonical order: event time, stream,
//! partition, position. No answer depends on which arrived first.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::stamp::Stamp;
use super::stream::Keyed;
use super::windowed::{WindowKind, Windowed};
use super::{Forever, Table};
use crate::dataflow::aggregate::Aggregate;
use crate::dataflow::keyed::Arrangeable;

/// A record with its place; listed as the record alone.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub(super) struct Placed<T> {
    #[serde(skip)]
    stamp: Stamp,
    data: T,
}

/// What is kept of a first or last record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct End<T> {
    stamp: Stamp,
    record: T,
}

/// Keeps the first record, or the last.
pub(super) struct Ends {
    is_last: bool,
}

impl<T> Aggregate<Placed<T>> for Ends
where
    T: Clone + Ord + std::fmt::Debug + Serialize + DeserializeOwned + Send + 'static,
{
    type Acc = End<T>;
    type Out = T;

    fn name(&self) -> String {
        let name = if self.is_last { "last" } else { "first" };
        name.to_owned()
    }
    fn one(&self, item: &Placed<T>) -> End<T> {
        End {
            stamp: item.stamp.clone(),
            record: item.data.clone(),
        }
    }
    fn merge(&self, acc: &mut End<T>, other: &End<T>) {
        let is_better = if self.is_last {
            other > acc
        } else {
            other < acc
        };
        // Pairs of a join may stand in one place.
        if is_better {
            acc.clone_from(other);
        }
    }
    fn finish(&self, acc: &End<T>) -> T {
        acc.record.clone()
    }
}

/// The same records, each with its place.
fn placed<K: Arrangeable, T>(records: Keyed<'_, K, T>) -> Keyed<'_, K, Placed<T>>
where
    T: Clone + Serialize + 'static,
{
    let Keyed { stream, key } = records;
    let names = stream.flow.names();
    let placed = stream.each("Place", move |record, out| {
        let stamp = Stamp::of(record, &names);
        let data = record.data.clone();
        out.push(record.with(Placed { stamp, data }));
    });
    placed.key_by(move |placed| key(&placed.data))
}

impl<'s, K: Arrangeable, T: Arrangeable> Forever<'s, K, T> {
    /// The first record of each key: by event time, then stream, partition and position.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    /// # struct Login { user: Text, from: Text, at: Timestamp }
    /// # impl Event for Login {
    /// #     const STREAM: &'static str = "logins";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// fn first_logins(flow: Flow) -> Table<Text, Login> {
    ///     flow.stream::<Login>().key_by(|login| login.user.clone()).forever().first()
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("first", "", first_logins), &[(
    /// #     "logins",
    /// #     r#"{"user":"u","from":"home","at":7}
    /// #        {"user":"u","from":"work","at":3}"#,
    /// # )]);
    /// # assert_eq!(answer, [r#"{"key":"u","value":{"user":"u","from":"work","at":3}}"#]);
    /// ```
    pub fn first(self) -> Table<'s, K, T> {
        placed(self.keyed)
            .forever()
            .aggregate(Ends { is_last: false })
    }

    /// The last record of each key: by event time, then stream, partition and position.
    pub fn last(self) -> Table<'s, K, T> {
        placed(self.keyed)
            .forever()
            .aggregate(Ends { is_last: true })
    }
}

impl<'s, K: Arrangeable, T: Arrangeable, W: WindowKind> Windowed<'s, K, T, W> {
    /// The first record of each window: by event time, then stream, partition and position.
    pub fn first(self) -> Table<'s, (K, W::Pane), T> {
        self.end(Ends { is_last: false })
    }

    /// The last record of each window: by event time, then stream, partition and position.
    pub fn last(self) -> Table<'s, (K, W::Pane), T> {
        self.end(Ends { is_last: true })
    }

    fn end(self, ends: Ends) -> Table<'s, (K, W::Pane), T> {
        let Windowed { keyed, windowing } = self;
        let windowed = Windowed {
            keyed: placed(keyed),
            windowing,
        };
        windowed.aggregate(ends)
    }
}
