//! Clicks per user over five-minute windows, a new one every two minutes.

use super::events::Click;
use waterclock::prelude::*;

pub fn query(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Click>()
        .key_by(|click| click.user_id.clone())
        .window(sliding(minutes(5)).every(minutes(2)))
        .count()
}
