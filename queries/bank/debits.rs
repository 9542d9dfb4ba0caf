//! What each account ever paid.

use super::transfer::Transfer;
use waterclock::prelude::*;

pub fn query(flow: Flow) -> Table<i64, i128> {
    flow.stream::<Transfer>()
        .key_by(|transfer| transfer.from)
        .forever()
        .sum(|transfer| transfer.amount)
}
