//! Every bid as it is: what passing a record through costs.

use std::sync::Arc;

use super::parts::{Remark, of_bids};
use waterclock::prelude::*;

pub fn query(flow: Flow) -> Stream<Arc<Remark>> {
    of_bids(&flow)
}
