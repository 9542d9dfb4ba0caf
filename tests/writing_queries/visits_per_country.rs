//! Visits of each country, ten minutes at a time.

use super::events::Visit;
use waterclock::prelude::*;

pub fn query(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Visit>()
        .key_by(|visit| visit.country.clone())
        .window(tumbling(minutes(10)))
        .count()
}
