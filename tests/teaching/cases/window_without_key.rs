//! A window of records without keys.
//~ windows are per key, and these records have none yet
//~ .key_by(

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
    flow.stream::<Sale>().window(tumbling(minutes(5))).count()
}
