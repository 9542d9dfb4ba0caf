//! The ten pages visited most in each country, five minutes at a time.

use super::events::Visit;
use waterclock::prelude::*;

pub fn query(flow: Flow) -> Table<(Text, Window), Vec<(Text, u64)>> {
    flow.stream::<Visit>()
        .key_by(|visit| visit.country.clone())
        .window(tumbling(minutes(5)))
        .count_by(|visit| visit.page.clone())
        .top(10)
}
