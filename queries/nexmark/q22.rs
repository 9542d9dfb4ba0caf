//! Every bid with the folders its page is in.

use super::parts::{Visit, of_bids};
use waterclock::prelude::*;

data! {
    pub struct Folders {
        auction: u64,
        bidder: u64,
        price: u64,
        channel: Text,
        dir1: Option<Text>,
        dir2: Option<Text>,
        dir3: Option<Text>,
    }
}

pub fn query(flow: Flow) -> Stream<Folders> {
    of_bids(&flow, |bid: &Visit| {
        let mut folders = bid.url.split('/').skip(3).map(Text::from);
        Some(Folders {
            auction: bid.auction,
            bidder: bid.bidder,
            price: bid.price,
            channel: bid.channel.clone(),
            dir1: folders.next(),
            dir2: folders.next(),
            dir3: folders.next(),
        })
    })
}
