//! Who came and sold something within the same ten seconds.

use super::parts::{listings, people};
use waterclock::prelude::*;

data! {
    pub struct Newcomer { id: u64, name: Text, window_start: Timestamp }
}

pub fn query(flow: Flow) -> Table<(u64, Window), Newcomer> {
    let sellers = listings(&flow)
        .key_by(|auction| auction.seller)
        .window(tumbling(seconds(10)))
        .count();
    people(&flow)
        .key_by(|person| (person.id, person.name.clone()))
        .window(tumbling(seconds(10)))
        .count()
        .map(|((id, name), window), _n| ((*id, *window), name.clone()))
        .semi_join(sellers)
        .map_values(|(id, window), name| Newcomer {
            id: *id,
            name: name.clone(),
            window_start: window.start,
        })
}
