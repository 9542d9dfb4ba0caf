//! Output at a measured pace.

use std::time::Duration;

use differential_dataflow::AsCollection;
use differential_dataflow::hashable::Hashable;
use timely::dataflow::channels::pact::Exchange;

use super::Table;
use crate::dataflow::clock::Clock;
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::paced::{Paced, Saved};
use crate::dataflow::retire::{by_update_time, retire};
use crate::time::Epoch;

impl<'s, K: Arrangeable, V: Arrangeable> Table<'s, K, V> {
    /// Shows changes together, once in `interval` of the service's clock, instead of epoch by
    /// epoch; a row that changed often in between changes once. A row passes at once when it is
    /// final. `replay` shows the end alone, and is no different.
    ///
    /// ```text
    /// rows                + a - a + b - b + c
    /// every(seconds(10))                      | + c
    /// ```
    #[must_use]
    pub fn every(self, interval: Duration) -> Table<'s, K, V> {
        if self.flow.final_only() {
            return self;
        }
        let (flow, final_at) = (self.flow.clone(), self.final_at());
        let rows = std::any::type_name::<(K, V)>();
        let kind = format!("paced-{:08x}", crc32fast::hash(rows.as_bytes()));
        let boundary = flow.boundary::<Saved<K, V>>(&kind);
        let mut paced = Paced::<K, V>::new(boundary, interval, flow.owns());
        let watermark = flow.watermark();
        let pact = Exchange::new(|((key, _), ..): &((K, V), Epoch, isize)| key.hashed());
        let (rows, clocks) = (self.rows.followed().inner, flow.clocks());
        let shown = retire(rows, clocks, pact, by_update_time, "Paced", |_| {
            move |clock: &Clock, changes, out: &mut Vec<_>, _: &mut Vec<()>| {
                let final_at =
                    |(key, _): &(K, V)| final_at.as_ref().map_or(i64::MAX, |at| at(key).0);
                paced.retire(clock, watermark(clock), changes, final_at, out);
            }
        });
        Table {
            final_at: self.final_at,
            ..Table::new(flow, shown.main.as_collection())
        }
    }
}
