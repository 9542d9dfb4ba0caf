//! What all accounts hold together: nothing, whatever moves.

use super::balances;
use waterclock::prelude::*;

pub fn query(flow: Flow) -> Table<Text, i128> {
    balances::query(flow)
        .map(|_account, balance| ("all".into(), *balance))
        .sum(|_all, balance| *balance)
}
