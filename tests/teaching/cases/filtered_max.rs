//! A maximum of nothing.
//~ has no answer where a filter keeps nothing
//~ then_some

use waterclock::prelude::*;
use waterclock::serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(crate = "waterclock::serde")]
pub struct Sale {
    shop: Text,
    amount: i64,
    at: Timestamp,
}

impl Event for Sale {
    const STREAM: &'static str = "sales";
    fn time(&self) -> Timestamp {
        self.at
    }
}

pub fn query(flow: Flow) -> Table<Text, (u64, i64)> {
    let dear = Neutral::<Sale>::filter(max(|sale: &Sale| sale.amount), |sale| sale.amount > 5);
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .forever()
        .aggregate((count(), dear))
}
