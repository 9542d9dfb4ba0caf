//! A key that is not ordered.
//~ `f64` cannot be a key or a value of a table
//~ write `Float` instead of `f64`

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

pub fn query(flow: Flow) -> Table<(f64, Window), u64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.amount as f64)
        .window(tumbling(minutes(5)))
        .count()
}
