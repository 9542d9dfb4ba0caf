//! What each account holds: its credits minus its debits.

use super::{credits, debits};
use waterclock::prelude::*;

pub fn query(flow: Flow) -> Table<i64, i128> {
    credits::query(flow.clone())
        .full_join(debits::query(flow))
        .map_values(|_account, (credit, debit)| credit.unwrap_or(0) - debit.unwrap_or(0))
}
