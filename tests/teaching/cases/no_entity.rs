//! A table of records that replace nothing.
//~ `Sale` does not say what its latest record replaces
//~ impl Entity for Sale

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

pub fn query(flow: Flow) {
    flow.table::<Sale>();
}
