//! Clicks per user, five minutes at a time.

use super::events::Click;
use waterclock::prelude::*;

pub fn query(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Click>()
        .key_by(|click| click.user_id.clone())
        .window(tumbling(minutes(5)))
        .count()
}
