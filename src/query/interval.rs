//! The interval join: records of two streams that happened close together.

use std::rc::Rc;
use std::time::Duration;

use differential_dataflow::hashable::Hashable;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::Operator;

use super::latest::unbatched;
use super::stamp::Stamp;
use super::stream::{Keyed, Stream, transform};
use crate::dataflow::clock::Clock;
use crate::dataflow::decode::{Batch, guard};
use crate::dataflow::intervals::{Held, Intervals, Side};
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::retire::{retire, stamped};
use crate::time::{Epoch, millis_of};

impl<'s, K: Arrangeable, A: Arrangeable> Keyed<'s, K, A> {
    /// Pairs each record with those of another stream that have its key and are at most `before`
    /// earlier and at most `after` later, both ends included. The pairs are a stream: each has the
    /// time of its later record, and is never taken back.
    ///
    /// ```text
    /// this one                      t
    /// the other    [ t - before ... | ... t + after ]
    ///                   x     meets      x            x does not
    /// ```
    ///
    /// A record is held until the query's watermark has passed all that could meet it, and one at
    /// or before its partition's watermark is late. A record costs what it meets, however much is
    /// held.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// # #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    /// # struct Order { id: u32, at: Timestamp }
    /// # impl Event for Order {
    /// #     const STREAM: &'static str = "orders";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// # #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    /// # struct Payment { order: u32, at: Timestamp }
    /// # impl Event for Payment {
    /// #     const STREAM: &'static str = "payments";
    /// #     fn time(&self) -> Timestamp { self.at }
    /// # }
    /// fn paid_in_time(flow: Flow) -> Table<(u32, Window), u64> {
    ///     let payments = flow.stream::<Payment>().key_by(|payment| payment.order);
    ///     flow.stream::<Order>()
    ///         .key_by(|order| order.id)
    ///         .interval_join(payments, seconds(0), minutes(1))
    ///         .key_by(|(order, _payment)| order.id)
    ///         .window(tumbling(hours(1)))
    ///         .count()
    /// }
    /// # let answer = waterclock::testing::batch(Query::new("paid", "", paid_in_time), &[
    /// #     ("orders", r#"{"id":1,"at":0}
    /// #                   {"id":2,"at":1}"#),
    /// #     ("payments", r#"{"order":1,"at":60000}
    /// #                     {"order":2,"at":60002}"#),
    /// # ]);
    /// # assert_eq!(answer, [r#"{"key":[1,{"start":0,"end":3600000}],"value":1,"final":true}"#]);
    /// ```
    pub fn interval_join<B: Arrangeable>(
        self,
        other: Keyed<'s, K, B>,
        before: Duration,
        after: Duration,
    ) -> Stream<'s, (A, B)> {
        let lefts = held(&self, Side::Left);
        let rights = held(&other, Side::Right);
        let flow = self.stream.flow;
        let reach = (millis_of(before), millis_of(after));
        let name = format!("interval-{}-{}", reach.0, reach.1);
        let boundary = flow.boundary::<Held<K, A, B>>(&name);
        let mut intervals = Intervals::new(boundary, reach, flow.owns());
        let (watermark, names) = (flow.watermark(), flow.names());
        let pact = Exchange::new(|held: &Held<K, A, B>| held.key.hashed());
        let (events, clocks) = (unbatched(lefts).concat(unbatched(rights)), flow.clocks());
        let pairs = retire(events, clocks, pact, stamped, "Interval join", |_| {
            move |clock: &Clock, events, out: &mut Vec<_>, _: &mut Vec<()>| {
                intervals.retire(clock, watermark(clock), events, out);
            }
        });
        let batches = pairs.main.unary(Pipeline, "Pairs", move |_, _| {
            move |input, output| {
                input.for_each(|cap, pairs| {
                    let pairs = pairs.drain(..);
                    let pairs = pairs.filter_map(|p| p.stamp.record(p.watermark, p.data, &names));
                    let batch: Batch<(A, B)> = Rc::new(pairs.collect());
                    output.session(&cap).give(batch);
                });
            }
        });
        let flow = flow.without_chunks();
        Stream::new(flow, batches)
    }
}

type Batches<'s, D> = timely::dataflow::Stream<'s, Epoch, Vec<Rc<Vec<D>>>>;

/// One stream's records on their way to their partners.
fn held<'s, K: Arrangeable, T: Arrangeable, A: Arrangeable, B: Arrangeable>(
    records: &Keyed<'s, K, T>,
    side: fn(T) -> Side<A, B>,
) -> Batches<'s, Held<K, A, B>> {
    let (flow, key) = (&records.stream.flow, Rc::clone(&records.key));
    let (names, batches) = (flow.names(), records.stream.batches.clone());
    transform(flow, batches, "Interval records", move |record, out| {
        if record.watermark >= record.time {
            return Err("late".to_owned());
        }
        out.push(Held {
            key: guard(|| key(&record.data))?,
            stamp: Stamp::of(record, &names),
            watermark: record.watermark,
            side: side(record.data.clone()),
        });
        Ok(())
    })
}
