//! A stream of what is no record.
//~ `Sale` is not a record of a stream
//~ impl Event for Sale

use waterclock::prelude::*;
use waterclock::serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(crate = "waterclock::serde")]
pub struct Sale {
    shop: Text,
    amount: i64,
    at: Timestamp,
}

pub fn query(flow: Flow) {
    flow.stream::<Sale>();
}
