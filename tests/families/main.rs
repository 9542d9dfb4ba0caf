//! docs/windows.md, docs/joins.md and docs/ranking.md: what they quote is compiled and run here.
#![allow(
    clippy::cast_precision_loss,
    clippy::trivially_copy_pass_by_ref,
    reason = "queries as a user writes them"
)]

use serde_json::Value;
use waterclock::Query;
use waterclock::query::{Catalog, Overrides};
use waterclock::testing::batch;

mod queries;

const PAGES: [(&str, &str); 3] = [
    ("windows", include_str!("../../docs/windows.md")),
    ("joins", include_str!("../../docs/joins.md")),
    ("ranking", include_str!("../../docs/ranking.md")),
];

/// The text with all white space as one blank, so that line breaks do not matter.
fn plain(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace(" .", ".")
}

#[test]
fn what_the_pages_quote_is_compiled_here() {
    let ours = plain(include_str!("queries.rs"));
    for (page, text) in PAGES {
        let blocks: Vec<&str> = text.split("```rust\n").skip(1).collect();
        assert!(blocks.len() > 2, "{page} shows too little");
        for block in blocks {
            let block = plain(block.split("```").next().unwrap_or_default());
            assert!(ours.contains(&block), "{page}: {block}");
        }
    }
}

const LOTS: &str = r#"
    {"id":1,"category":"art","opens":0,"closes":100000}
    {"id":2,"category":"art","opens":0,"closes":100000}
    {"id":3,"category":"tea","opens":0,"closes":100000}"#;
const BIDS: &str = r#"
    {"lot":1,"who":"ada","price":90,"at":1000}
    {"lot":1,"who":"bob","price":120,"at":2000}
    {"lot":1,"who":"ada","price":120,"at":70000}
    {"lot":2,"who":"ada","price":50,"at":80000}
    {"lot":1,"who":"bob","price":500,"at":3600000}"#;

/// Keys and values that a query answers with; a window as its minutes.
fn answer(query: Query) -> String {
    let catalog = Catalog::of(std::slice::from_ref(&query), &Overrides::default());
    let catalog = catalog.expect("the query builds");
    let streams = [("lots", LOTS), ("bids", BIDS)];
    let read = streams
        .iter()
        .filter(|(name, _)| catalog.stream(name).is_some());
    let rows = batch(query, &read.copied().collect::<Vec<_>>());
    let text = |row: &String| {
        let row: Value = serde_json::from_str(row).expect("a row is JSON");
        let (key, value) = (&row["key"], &row["value"]);
        let window = key.get(1).filter(|window| window["start"].is_i64());
        match window {
            Some(window) => {
                let minute = |end: &str| window[end].as_f64().unwrap_or(0.0) / 60_000.0;
                format!("{} {}..{}: {value}", key[0], minute("start"), minute("end"))
            }
            None => format!("{key}: {value}"),
        }
    };
    let rows: Vec<String> = rows.iter().map(text).collect();
    rows.join("; ").replace('"', "")
}

macro_rules! answer {
    ($query:ident) => {
        answer(Query::new(stringify!($query), "", queries::$query))
    };
}

#[test]
fn windows_do_as_the_page_says() {
    let visits = answer!(visits);
    assert!(visits.starts_with("ada 0.01"), "{visits}");
    assert!(visits.ends_with("bob 60..70: 1"), "{visits}");
    assert_eq!(answer!(seasons), "art 0..60: 2; tea 0..60: 1");
    let so_far = answer!(so_far);
    assert!(
        so_far.starts_with("null 0..60: 380; null 0..120: 880"),
        "{so_far}"
    );
    assert_eq!(so_far.matches(';').count(), 23);
    assert_eq!(answer!(per_day), "1 -1140..300: 2; 2 -1140..300: 1");
    assert!(answer!(calm).starts_with("1 -59..1: 2; 1 -58..2: 3"));
    let tiers = "1: [[4,1,3],[2,1,2],500]; 2: [[1,1,0],[1,1,0],50]";
    assert_eq!(answer!(tiers), tiers);
    assert_eq!(answer!(bidders), "1: [1,2]; 2: [1,0]");
    assert_eq!(answer!(by_threes), "[1,0]: 120");
    assert_eq!(answer!(active), "ada: 3; bob: 2");
    let estimates = answer!(estimates);
    assert!(estimates.starts_with("null 0..60: [2,1"), "{estimates}");
}

#[test]
fn joins_do_as_the_page_says() {
    assert_eq!(answer!(closing), "1: 120; 2: 50");
    assert_eq!(
        answer!(all_lots),
        "1: 90; 1: 120; 1: 120; 1: 500; 2: 50; 3: null"
    );
    assert_eq!(answer!(wanted), "1: art; 2: art");
    assert_eq!(answer!(unwanted), "3: tea");
    assert_eq!(answer!(early), "art 0..60: 2");
}

#[test]
fn ranking_does_as_the_page_says() {
    assert_eq!(answer!(best), "1: [1,bob]; 1: [2,bob]; 2: [1,ada]");
    let last = answer!(last_bids);
    assert!(
        last.starts_with("[1,ada]: {lot:1,who:ada,price:120"),
        "{last}"
    );
    assert_eq!(answer!(not_repeated).matches("price").count(), 5);
    assert_eq!(answer!(averages), "art: 85");
}
