//! The record of the stream `transfers`.

use serde::{Deserialize, Serialize};
use waterclock::prelude::*;

/// Money on its way from one account to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transfer {
    pub from: i64,
    pub to: i64,
    pub amount: i64,
    pub at: Timestamp,
}

impl Event for Transfer {
    const STREAM: &'static str = "transfers";
    fn time(&self) -> Timestamp {
        self.at
    }
}
