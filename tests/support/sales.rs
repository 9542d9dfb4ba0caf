//! A stream of sales, and the smallest query in which windows, lateness and restarts show.

use serde::{Deserialize, Serialize};
use waterclock::prelude::*;
use waterclock::row::Row;

/// What a shop sold; none is expected to come late.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sale {
    pub shop: Text,
    pub amount: i64,
    pub at: Timestamp,
}

impl Event for Sale {
    const STREAM: &'static str = "sales";
    const LATENESS: std::time::Duration = seconds(0);

    fn time(&self) -> Timestamp {
        self.at
    }
}

/// A sale as a line, at so many seconds.
pub fn sale(shop: &str, amount: i64, second: i64) -> String {
    format!(r#"{{"shop":"{shop}","amount":{amount},"at":{second}000}}"#)
}

/// How many sales each shop had in ten seconds.
pub fn per_shop(flow: Flow) -> Table<(Text, Window), u64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(tumbling(seconds(10)))
        .count()
}

/// Rows as a test writes them down: `KEY VALUE`, and how often where it is not once.
pub fn written<'r>(rows: impl IntoIterator<Item = &'r (Row, i64)>) -> Vec<String> {
    let line = |(row, count): &(Row, i64)| match count {
        1 => format!("{} {}", row.key(), row.value()),
        _ => format!("{} {} x{count}", row.key(), row.value()),
    };
    rows.into_iter().map(line).collect()
}
