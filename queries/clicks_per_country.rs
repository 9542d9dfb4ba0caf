//! Clicks per country the user was in at the time, five minutes at a time.

use super::events::{Click, User};
use waterclock::prelude::*;

pub fn query(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Click>()
        .key_by(|click| click.user_id.clone())
        .as_of::<User>(hours(1))
        .key_by(|(_click, user)| {
            user.as_ref()
                .map_or("unknown".into(), |u| u.country.clone())
        })
        .window(tumbling(minutes(5)))
        .count()
}
