//! Windows by number: so many records of a key, one after the other.

use std::rc::Rc;
use std::time::Duration;

use differential_dataflow::AsCollection;
use differential_dataflow::hashable::Hashable;
use timely::dataflow::channels::pact::Exchange;

use super::Table;
use super::failing::Failing;
use super::latest::unbatched;
use super::stamp::Stamp;
use super::stream::{Keyed, transform};
use super::windowed::{Sealed, WindowKind};
use crate::dataflow::aggregate::Aggregate;
use crate::dataflow::clock::Clock;
use crate::dataflow::counted::{Arriving, CountShape, Counted, Saved};
use crate::dataflow::decode::guard;
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::retire::{retire, stamped};
use crate::time::{days, millis_of};

/// How many records make a window, and how long a full one is kept.
#[derive(Clone, Copy, Debug)]
pub struct Records {
    size: u64,
    keep: Duration,
}

/// Windows of `n` records of a key each, by event time; ties go by stream, partition and position.
/// The key of a row is the key and the number of the window, from 0 on, and it comes once the
/// window is full: what is never full has no row.
///
/// Records wait until the query's watermark has passed them, so that no answer depends on which
/// arrived first; one at or before its partition's watermark is late. A row per key is kept for
/// ever, to count on from.
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
/// fn means(flow: Flow) -> Table<(u32, u64), Float> {
///     flow.stream::<Reading>()
///         .key_by(|reading| reading.sensor)
///         .window(records(2))
///         .avg(|reading| reading.celsius)
/// }
/// # let answer = waterclock::testing::batch(Query::new("means", "", means), &[(
/// #     "readings",
/// #     r#"{"sensor":1,"celsius":20,"at":0}
/// #        {"sensor":1,"celsius":40,"at":2}
/// #        {"sensor":1,"celsius":30,"at":1}
/// #        {"sensor":1,"celsius":50,"at":3}
/// #        {"sensor":1,"celsius":60,"at":4}"#,
/// # )]);
/// # assert_eq!(answer, [r#"{"key":[1,0],"value":25.0}"#, r#"{"key":[1,1],"value":45.0}"#]);
/// ```
pub fn records(n: u64) -> Records {
    Records {
        size: n.max(1),
        keep: days(7),
    }
}

impl Records {
    /// Keeps a window's row until the watermark has passed its last record by `retention`; 7 days
    /// where nothing is said.
    #[must_use]
    pub fn keep(self, retention: Duration) -> Records {
        Records {
            keep: retention,
            ..self
        }
    }
}

impl Sealed for Records {}

impl WindowKind for Records {
    type Pane = u64;

    fn aggregate<'s, K, T, A>(
        self,
        keyed: Keyed<'s, K, T>,
        aggregate: A,
    ) -> Table<'s, (K, u64), A::Out>
    where
        K: Arrangeable,
        T: Clone + serde::Serialize + 'static,
        A: Aggregate<T>,
        A::Out: Arrangeable,
    {
        let Keyed { stream, key } = keyed;
        let flow = stream.flow;
        let shape = CountShape {
            size: self.size,
            keep: millis_of(self.keep),
            is_replay: flow.final_only(),
        };
        let aggregate = Rc::new(aggregate);
        let (taking, names) = (Rc::clone(&aggregate), flow.names());
        let arriving = transform(&flow, stream.batches, "Arriving", move |record, out| {
            if record.watermark >= record.time {
                return Err("late".to_owned());
            }
            let (key, acc) = guard(|| (key(&record.data), taking.one(&record.data)))?;
            let stamp = Stamp::of(record, &names);
            out.push(Arriving { key, stamp, acc });
            Ok(())
        });
        let name = format!("records-{}-{}", aggregate.name(), self.size);
        let boundary = flow.boundary::<Saved<K, A::Acc>>(&name);
        let mut failing = Failing::new(Some(&boundary), &flow.fail);
        let mut counted = Counted::new(shape, aggregate, boundary, flow.owns());
        let watermark = flow.watermark();
        let pact = Exchange::new(|event: &Arriving<K, A::Acc>| event.key.hashed());
        let events = unbatched(arriving);
        let rows = retire(events, flow.clocks(), pact, stamped, "Records", |_| {
            move |clock: &Clock, events, out: &mut Vec<_>, _: &mut Vec<()>| {
                failing.retire(clock, out, |out| {
                    counted.retire(clock, watermark(clock), events, out);
                    Ok(())
                });
            }
        });
        Table::new(flow, rows.main.as_collection())
    }
}
