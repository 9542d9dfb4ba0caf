//! The answers that are known of the made-up events: how many rows, and the digest of them all as
//! sorted lines of CSV.

/// An answer that is known.
pub struct Known {
    /// The query's name.
    pub query: &'static str,
    /// The columns of a line.
    pub columns: &'static str,
    /// How many lines.
    pub rows: usize,
    /// Their digest.
    pub sha256: &'static str,
}

/// What Flink SQL 2.3 answers to events out of order, none of them late.
pub const FLINK: &[Known] = &[
    Known {
        query: "q1",
        columns: "auction,bidder,euros,ts,extra",
        rows: 92_000,
        sha256: "0ce7f9dd251382de9dee81a189afacb3b9dbd2c4dd56143de51cac7a543e93fe",
    },
    Known {
        query: "q2",
        columns: "auction,price",
        rows: 370,
        sha256: "efce19040df0c7478cfa68cf5a95796cd1f537587d9e417a3f44564132b9f65f",
    },
    Known {
        query: "q3",
        columns: "name,city,state,id",
        rows: 432,
        sha256: "1e7019e3ea4b6c31e6c0080640dbbb0dffd083cfc48381756904fc15997e6b7d",
    },
    Known {
        query: "q5",
        columns: "window_start,window_end,auction,n",
        rows: 59,
        sha256: "66d2708d0db7daa10f03ee300fe50a90d57eb5cdd8a0d6cb83f9ece15fab2c37",
    },
    Known {
        query: "q8",
        columns: "id,name,window_start",
        rows: 286,
        sha256: "6234778fb7ad400032c2dd9bb2a6cf17823e4169f41ec6f88a3e38eeaea8b4cd",
    },
    Known {
        query: "q11",
        columns: "bidder,n,started,ended",
        rows: 2856,
        sha256: "d01542ac9bb1c72e0652dc6ac1c27b628a0f941b10d217645e6e92b37381c648",
    },
    Known {
        query: "q18",
        columns: "auction,bidder,price,channel,url,ts,extra",
        rows: 28_324,
        sha256: "e9b410a0cd1ab5080bc67023318c0ee03bcb27c005d9ba081c4b67d1f97a2d22",
    },
    Known {
        query: "q22",
        columns: "auction,bidder,price,channel,dir1,dir2,dir3",
        rows: 92_000,
        sha256: "5b31b682f69e69ffc8e72b0c828153c65dd9e283b95eb9820fa8391763c4180f",
    },
];

/// What Flink answers where two events in a hundred are late.
pub const FLINK_LATE: &[Known] = &[
    Known {
        query: "q5",
        columns: "window_start,window_end,auction,n",
        rows: 55,
        sha256: "0fccfa9df462bd81e5e4ea0fe2616289d5a9594e0b4cbeef5c606fd11e1d398b",
    },
    Known {
        query: "q11",
        columns: "bidder,n,started,ended",
        rows: 2884,
        sha256: "3482f3b2e15c6ac715225d97ed42464840219dc00ee4df30c805ead08814267a",
    },
];

/// What Flink answers to clicks out of order.
pub const FLINK_CLICKS: &[Known] = &[Known {
    query: "clicks_per_user",
    columns: "user,window_start,window_end,clicks",
    rows: 65_332,
    sha256: "ae7305c848cc8ef1c25d3c6ba0f09692916b5cc34363f7cee56b7004c87f0439",
}];

/// What a plain evaluation of the other queries answers to the same events as Flink's: a program of
/// its own, which holds everything in memory and knows nothing of streams.
pub const PLAIN: &[Known] = &[
    Known {
        query: "q0",
        columns: "auction,bidder,price,ts,extra",
        rows: 92_000,
        sha256: "1b734a5b0929e50abbe270bea297eaf329c445a20a985fc5314e7c114a14c5d2",
    },
    Known {
        query: "q4",
        columns: "category,avg_best",
        rows: 5,
        sha256: "bd6a35778e03aeb009af9e7d531a6a335010bcfc7894bd4668236604b2ecb073",
    },
    Known {
        query: "q6",
        columns: "seller,avg_best",
        rows: 920,
        sha256: "7637d330d6ebf4a035f6ea45ac686e35032db4976ac60d1deaf8418dd82a7da8",
    },
    Known {
        query: "q7",
        columns: "auction,price,bidder,ts,extra",
        rows: 10,
        sha256: "e7775e475e9e32794d3cea2e011286863349dab17ea252d4ab8a4ec73f8e4945",
    },
    Known {
        query: "q9",
        columns: "id,item,description,initial_bid,reserve,ts,expires,seller,category,\
                  extra,auction,bidder,price,bid_ts,bid_extra",
        rows: 5597,
        sha256: "91402164348069af61b980f461fac0208af8349fa0bdb9d45f75a8fa794f0ddc",
    },
    Known {
        query: "q10",
        columns: "auction,bidder,price,ts,extra,day,minute",
        rows: 92_000,
        sha256: "3bd6a13b3223ff3c5717545837a7f483602a7019a3ede12c4c23bcb2adc9dcdb",
    },
    Known {
        query: "q11s",
        columns: "bidder,n,started,ended",
        rows: 15_652,
        sha256: "6a485eac03cf1d2de0a123d156d6916f1aafa8cb995f145a3781111852483d48",
    },
    Known {
        query: "q12",
        columns: "bidder,n,started,ended",
        rows: 7624,
        sha256: "5b9449dbd5902fc3170dddc3d4490ad808436dab2a74d1e34cb40126f1c03f1c",
    },
    Known {
        query: "q13",
        columns: "auction,bidder,price,ts,value",
        rows: 61_128,
        sha256: "d85b1ad2778fab3998e6910935849b3b74ef5bd7406fcc132c63d2d27c457163",
    },
    Known {
        query: "q14",
        columns: "auction,bidder,price,time_of_day,ts,extra,letters",
        rows: 26_057,
        sha256: "e82d63d02047afe6650203bca11535d1c0bcee56edcd205940440b20f8d663e4",
    },
    Known {
        query: "q15",
        columns: "day,bids_all,bids_low,bids_mid,bids_high,bidders_all,bidders_low,\
                  bidders_mid,bidders_high,auctions_all,auctions_low,auctions_mid,\
                  auctions_high",
        rows: 2,
        sha256: "cda26d6a7957ebceaa0b9aaed8729d3c57faaa539b00f386d9ca74f533944ab6",
    },
    Known {
        query: "q16",
        columns: "channel,day,last_minute,bids_all,bids_low,bids_mid,bids_high,\
                  bidders_all,bidders_low,bidders_mid,bidders_high,auctions_all,\
                  auctions_low,auctions_mid,auctions_high",
        rows: 18_048,
        sha256: "65bd640c37064dca6591fdc306faabb1189ddb0ad7a64ce0ea568c06c3429887",
    },
    Known {
        query: "q17",
        columns: "auction,day,bids_all,bids_low,bids_mid,bids_high,lowest,highest,mean,\
                  total",
        rows: 6081,
        sha256: "c6de5c44e4befee21071bf05e737b1eb69b1d6d084232b05cc86bb5b175c93a3",
    },
    Known {
        query: "q19",
        columns: "auction,bidder,price,channel,url,ts,extra,place",
        rows: 43_890,
        sha256: "b4e50c70b42a18aa57a33a808ebf6771d667afed57af1a0c7dc47e033919b060",
    },
    Known {
        query: "q20",
        columns: "auction,bidder,price,channel,url,ts,extra,item,description,\
                  initial_bid,reserve,listed,expires,seller,category,auction_extra",
        rows: 20_035,
        sha256: "015336583f9f00b0bbcb1c419c4f18ee15f993c9cac50e6074d69cd646e79263",
    },
    Known {
        query: "q21",
        columns: "auction,bidder,price,channel,channel_id",
        rows: 87_467,
        sha256: "f8c00a3e28abebfd137a7304b95de083344f6651336b381546c6ca3c09602fd6",
    },
];

/// The same where events are late.
pub const PLAIN_LATE: &[Known] = &[
    Known {
        query: "q7",
        columns: "auction,price,bidder,ts,extra",
        rows: 10,
        sha256: "e7775e475e9e32794d3cea2e011286863349dab17ea252d4ab8a4ec73f8e4945",
    },
    Known {
        query: "q11s",
        columns: "bidder,n,started,ended",
        rows: 15_460,
        sha256: "a5c85e9a8595a8eaf6994f079e479e9c3b217dea00712f59866bb206d966ffc5",
    },
    Known {
        query: "q12",
        columns: "bidder,n,started,ended",
        rows: 7593,
        sha256: "32a79305883626270abd36d2b7df512d55c67af16c7de9ce516014173db5a2c4",
    },
];
