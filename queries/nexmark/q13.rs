//! Every bid with what a side table says of its auction.

use super::parts::offers;
use waterclock::prelude::*;

data! {
    /// A line of the side table.
    pub struct Side { key: u64, value: Text }
}

impl Event for Side {
    const STREAM: &'static str = "side_input";
    /// It has held from the start; of two lines of a key the later one counts.
    fn time(&self) -> Timestamp {
        Timestamp::default()
    }
}

impl Entity for Side {
    type Key = u64;
    fn key(&self) -> u64 {
        self.key
    }
}

data! {
    pub struct Known { auction: u64, bidder: u64, price: u64, ts: Timestamp, value: Text }
}

pub fn query(flow: Flow) -> Table<u64, Known> {
    offers(&flow)
        .key_by(|bid| bid.auction % 10_000)
        .keep_forever()
        .join(flow.table::<Side>())
        .map_values(|_key, (bid, side)| Known {
            auction: bid.auction,
            bidder: bid.bidder,
            price: bid.price,
            ts: bid.ts,
            value: side.value.clone(),
        })
}
