//! Streams that become tables by keeping their records.

use std::rc::Rc;
use std::time::Duration;

use differential_dataflow::AsCollection;
use differential_dataflow::hashable::Hashable;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;

use super::Table;
use super::latest::unbatched;
use super::stamp::Stamp;
use super::stream::{Keyed, transform};
use super::table::Known;
use crate::dataflow::clock::Clock;
use crate::dataflow::decode::{Rec, guard};
use crate::dataflow::kept::{Going, Kept, Saved};
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::retire::{retire, stamped};
use crate::dataflow::vault::Boundary;
use crate::record::Text;
use crate::time::{Epoch, millis_of};

/// A record kept as a row.
trait Kind<T>: Going<Record = T> {
    fn of(record: &Rec<T>, names: &[Text]) -> Self;
}

/// One that says which record it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Row<T> {
    stamp: Stamp,
    record: T,
}

impl<T: Arrangeable> Going for Row<T> {
    type Record = T;

    fn time(&self) -> i64 {
        self.stamp.time
    }

    fn record(&self) -> T {
        self.record.clone()
    }

    fn into_record(self) -> T {
        self.record
    }
}

impl<T: Arrangeable> Kind<T> for Row<T> {
    fn of(record: &Rec<T>, names: &[Text]) -> Self {
        Row {
            stamp: Stamp::of(record, names),
            record: record.data.clone(),
        }
    }
}

/// One that is not saved, so that nothing has to tell it from others that are alike.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Unsaved<T> {
    time: i64,
    record: T,
}

impl<T: Arrangeable> Going for Unsaved<T> {
    type Record = T;

    fn time(&self) -> i64 {
        self.time
    }

    fn record(&self) -> T {
        self.record.clone()
    }

    fn into_record(self) -> T {
        self.record
    }
}

impl<T: Arrangeable> Kind<T> for Unsaved<T> {
    fn of(record: &Rec<T>, _names: &[Text]) -> Self {
        Unsaved {
            time: record.time,
            record: record.data.clone(),
        }
    }
}

impl<'s, K: Arrangeable, T: Arrangeable> Keyed<'s, K, T> {
    /// Keeps the records as rows of a table until the query's watermark has passed their time by
    /// `how_long`. What joins it sees both sides revise earlier rows. A record that far behind its
    /// partition is late.
    pub fn keep(self, how_long: Duration) -> Table<'s, K, T> {
        kept(self, Some(millis_of(how_long)))
    }

    /// Keeps the records as rows of a table for ever, and calls none late. What is kept grows with
    /// the stream and never shrinks, so mind how much there will be of it.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    /// # struct Person { id: u32, name: Text, at: Timestamp }
    /// # impl Event for Person {
    /// #     const STREAM: &'static str = "people";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// # #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    /// # struct Offer { seller: u32, item: Text, at: Timestamp }
    /// # impl Event for Offer {
    /// #     const STREAM: &'static str = "offers";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// fn who_offers_what(flow: Flow) -> Table<u32, (Text, Text)> {
    ///     let people = flow.stream::<Person>().key_by(|person| person.id).keep_forever();
    ///     flow.stream::<Offer>()
    ///         .key_by(|offer| offer.seller)
    ///         .keep_forever()
    ///         .join(people)
    ///         .map_values(|_id, (offer, person)| (person.name.clone(), offer.item.clone()))
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("who", "", who_offers_what), &[
    /// #     ("people", r#"{"id":1,"name":"Ada","at":5000}"#),
    /// #     ("offers", r#"{"seller":1,"item":"tea","at":900000}
    /// #                   {"seller":1,"item":"cup","at":3}"#),
    /// # ]);
    /// # assert_eq!(answer, [
    /// #     r#"{"key":1,"value":["Ada","cup"]}"#,
    /// #     r#"{"key":1,"value":["Ada","tea"]}"#,
    /// # ]);
    /// ```
    pub fn keep_forever(self) -> Table<'s, K, T> {
        kept(self, None)
    }
}

fn kept<K, T>(records: Keyed<'_, K, T>, how_long: Option<i64>) -> Table<'_, K, T>
where
    K: Arrangeable,
    T: Arrangeable,
{
    let flow = records.stream.flow.clone();
    let kind = if how_long.is_some() {
        "keep"
    } else {
        "keep-forever"
    };
    let boundary = flow.boundary::<Saved<K, Row<T>>>(kind);
    match how_long {
        None if flow.final_only() => passed(records),
        Some(_) if flow.final_only() => rows::<K, T, Unsaved<T>>(records, how_long, boundary),
        _ => rows::<K, T, Row<T>>(records, how_long, boundary),
    }
}

/// Records as rows of a kind.
fn rows<K, T, R>(
    records: Keyed<'_, K, T>,
    how_long: Option<i64>,
    boundary: Boundary,
) -> Table<'_, K, T>
where
    K: Arrangeable,
    T: Arrangeable,
    R: Kind<T>,
{
    let Keyed { stream, key } = records;
    let flow = stream.flow;
    let names = flow.names();
    let events = transform(&flow, stream.batches, "Keep", move |record, out| {
        let is_late = |how_long| record.watermark >= record.time.saturating_add(how_long);
        if how_long.is_some_and(is_late) {
            return Err("late".to_owned());
        }
        let key = guard(|| key(&record.data))?;
        out.push((key, R::of(record, &names)));
        Ok(())
    });
    let mut rows = Kept::new(boundary, how_long, flow.owns());
    let watermark = flow.watermark();
    let pact = Exchange::new(|(key, _): &(K, R)| key.hashed());
    let events = unbatched(events);
    let kept = retire(events, flow.clocks(), pact, stamped, "Keep", |_| {
        move |clock: &Clock, events, out: &mut Vec<((K, T), Epoch, isize)>, _: &mut Vec<()>| {
            rows.retire(clock, watermark(clock), events, out);
        }
    });
    Table::new(flow, kept.main.as_collection()).known(Known {
        only_grows: how_long.is_none(),
        is_placed: true,
    })
}

/// Records as rows that never go and are not saved: no boundary has to know them.
fn passed<K: Arrangeable, T: Arrangeable>(records: Keyed<'_, K, T>) -> Table<'_, K, T> {
    let Keyed { stream, key } = records;
    let flow = stream.flow;
    let rows = transform(&flow, stream.batches, "Keep", move |record, out| {
        let key = guard(|| key(&record.data))?;
        out.push((key, record.data.clone()));
        Ok(())
    });
    let rows = rows.unary(Pipeline, "Rows", |_, _| {
        |input, output| {
            input.for_each(|cap, batches| {
                let Some(&epoch) = cap.least() else { return };
                let mut session = output.session(&cap);
                for batch in batches.drain(..) {
                    let rows = Rc::unwrap_or_clone(batch).into_iter();
                    let mut rows: Vec<_> = rows.map(|row| (row, epoch, 1)).collect();
                    session.give_container(&mut rows);
                }
            });
        }
    });
    Table::new(flow, rows.as_collection()).known(Known {
        only_grows: true,
        is_placed: false,
    })
}
