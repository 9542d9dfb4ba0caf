//! A key without the derives of one.
//~ `Shop` cannot be a key or a value of a table
//~ PartialOrd, Ord, Hash, Serialize, Deserialize

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

#[derive(Clone, Debug, PartialEq)]
pub struct Shop(Text);

pub fn query(flow: Flow) -> Table<(Shop, Window), u64> {
    flow.stream::<Sale>()
        .key_by(|sale| Shop(sale.shop.clone()))
        .window(tumbling(minutes(5)))
        .count()
}
