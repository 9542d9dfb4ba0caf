//! How many bids somebody made in one go: none of them a second after the one before.

use super::q11::{Visit, visits};
use waterclock::prelude::*;

pub fn query(flow: Flow) -> Table<(u64, Window), Visit> {
    visits(flow, seconds(1))
}
