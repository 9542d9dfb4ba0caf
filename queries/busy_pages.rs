//! An alert: pages with at least 100 views within a minute, looked at every ten seconds.

use super::events::Visit;
use waterclock::prelude::*;

pub fn query(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Visit>()
        .key_by(|visit| visit.page.clone())
        .window(sliding(minutes(1)).every(seconds(10)))
        .count()
        .filter(|_page, views| *views >= 100)
}
