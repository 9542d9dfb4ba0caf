//! Every bid whose channel has a number: one of the great four, or named by its page.

use super::parts::{Visit, of_bids};
use waterclock::prelude::*;

data! {
    pub struct Numbered {
        auction: u64,
        bidder: u64,
        price: u64,
        channel: Text,
        channel_id: Text,
    }
}

pub fn query(flow: Flow) -> Stream<Numbered> {
    of_bids(&flow, |bid: &Visit| {
        number(&bid.channel, &bid.url).map(|id| Numbered {
            auction: bid.auction,
            bidder: bid.bidder,
            price: bid.price,
            channel: bid.channel.clone(),
            channel_id: id.into(),
        })
    })
}

fn number<'b>(channel: &str, url: &'b str) -> Option<&'b str> {
    match &*channel.to_lowercase() {
        "apple" => Some("0"),
        "google" => Some("1"),
        "facebook" => Some("2"),
        "baidu" => Some("3"),
        _ => url
            .split('&')
            .skip(1)
            .find_map(|part| part.strip_prefix("channel_id=")),
    }
}
