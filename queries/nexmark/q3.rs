//! Who sells things of category 10 in three states.

use super::parts::{listings, people};
use waterclock::prelude::*;

data! {
    pub struct Offer { name: Text, city: Text, state: Text, id: u64 }
}

pub fn query(flow: Flow) -> Table<u64, Offer> {
    let people = people(&flow)
        .filter(|person| ["OR", "ID", "CA"].contains(&&*person.state))
        .key_by(|person| person.id)
        .keep_forever();
    listings(&flow)
        .filter(|auction| auction.category == 10)
        .key_by(|auction| auction.seller)
        .keep_forever()
        .join(people)
        .map_values(|_seller, (auction, person)| Offer {
            name: person.name.clone(),
            city: person.city.clone(),
            state: person.state.clone(),
            id: auction.id,
        })
}
