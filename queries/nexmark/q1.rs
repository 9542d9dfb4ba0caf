//! Every bid in euros instead of dollars.

use super::events::bids;
use waterclock::prelude::*;

data! {
    pub struct InEuros { auction: u64, bidder: u64, euros: Float, ts: Timestamp, extra: Text }
}

pub fn query(flow: Flow) -> Stream<InEuros> {
    bids(&flow).map(|bid| InEuros {
        auction: bid.auction,
        bidder: bid.bidder,
        euros: thousandths(908 * bid.price),
        ts: bid.ts,
        extra: bid.extra.clone(),
    })
}

/// Exact to the third decimal up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "rounded once, beyond 2^53")]
fn thousandths(n: u64) -> Float {
    Float(n as f64 / 1000.0)
}
