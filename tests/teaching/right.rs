//! A query as it should be.

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

pub fn query(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(tumbling(minutes(5)))
        .count()
}
