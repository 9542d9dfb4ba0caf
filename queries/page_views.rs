//! Views of each page, minute by minute.

use super::events::Visit;
use waterclock::prelude::*;

pub fn query(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Visit>()
        .key_by(|visit| visit.page.clone())
        .window(tumbling(minutes(1)))
        .count()
}
