//! The records of the examples in docs/writing-queries.md.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use waterclock::prelude::*;

/// Something was sold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sale {
    pub shop: Text,
    pub item: Text,
    pub amount: i64,
    pub at: Timestamp,
}

impl Event for Sale {
    const STREAM: &'static str = "sales";
    const LATENESS: Duration = minutes(1);
    fn time(&self) -> Timestamp {
        self.at
    }
}

/// What was sold for how much.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Amount {
    pub amount: i64,
    pub at: Timestamp,
}

impl Event for Amount {
    const STREAM: &'static str = Sale::STREAM;
    fn time(&self) -> Timestamp {
        self.at
    }
}

impl Part for Amount {
    type Whole = Sale;
    fn of(sale: &Sale) -> Amount {
        Amount {
            amount: sale.amount,
            at: sale.at,
        }
    }
}

/// What is known of a shop from a time on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shop {
    pub name: Text,
    pub city: Text,
    pub closed: bool,
    pub since: Timestamp,
}

impl Event for Shop {
    const STREAM: &'static str = "shops";
    fn time(&self) -> Timestamp {
        self.since
    }
}

impl Entity for Shop {
    type Key = Text;
    fn key(&self) -> Text {
        self.name.clone()
    }
    fn is_deleted(&self) -> bool {
        self.closed
    }
}
