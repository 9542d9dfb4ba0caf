//! docs/writing-queries.md, compiled and run: the query of one's own, and every operator.

use serde_json::Value;
use waterclock::Query;
use waterclock::query::{Catalog, Overrides};
use waterclock::testing::batch;

#[allow(dead_code, reason = "a query uses the records it needs")]
#[path = "../../queries/events.rs"]
mod events;
mod operators;
mod sales;
mod visits_per_country;

/// As queries/mod.rs lists its own.
fn all() -> Vec<Query> {
    waterclock::queries![visits_per_country,]
}

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/writing-queries.md");
    std::fs::read_to_string(path).expect("the page is there")
}

/// The text with all white space as one blank, so that line breaks do not matter.
fn plain(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace(" .", ".")
}

#[test]
fn a_query_of_ones_own_is_a_short_file_and_two_lines() {
    let file = include_str!("visits_per_country.rs");
    assert!(page().contains(&format!("```rust\n{file}```")));
    assert!(file.lines().count() < 15);
    let registry = include_str!("main.rs");
    let lines = registry
        .split("fn page()")
        .next()
        .unwrap_or_default()
        .lines();
    assert_eq!(
        lines
            .filter(|line| line.contains("visits_per_country"))
            .count(),
        2
    );

    let visits = r#"{"visitor":"v1","page":"/","country":"DE","at":0}
                    {"visitor":"v2","page":"/","country":"DE","at":599999}"#;
    let query = all().remove(0);
    assert_eq!(query.name, "visits_per_country");
    let answer = batch(query, &[("visits", visits)]);
    assert_eq!(
        answer,
        [r#"{"key":["DE",{"start":0,"end":600000}],"value":2,"final":true}"#]
    );
}

#[test]
fn what_the_page_quotes_is_compiled_here() {
    let ours = plain(&[include_str!("operators.rs"), include_str!("sales.rs")].concat());
    let page = page();
    for block in page.split("```rust\n").skip(2) {
        let block = plain(block.split("```").next().unwrap_or_default());
        assert!(ours.contains(&block), "{block}");
    }
    let prose: String = page.split("```").step_by(2).collect();
    let quoted = prose.split('`').skip(1).step_by(2);
    let is_code = |quoted: &&str| {
        quoted.contains('(') && !quoted.starts_with(['(', '#']) && !quoted.contains("(..)")
    };
    let quoted: Vec<&str> = quoted.filter(is_code).collect();
    assert!(quoted.len() > 20, "{quoted:?}");
    for code in quoted {
        assert!(ours.contains(&plain(code)), "{code}");
    }
}

const SALES: &str = r#"
    {"shop":"a","item":"red tea","amount":12,"at":0}
    {"shop":"a","item":"red tea","amount":4,"at":1}
    {"shop":"a","item":"cup","amount":2000,"at":2}
    {"shop":"b","item":"cup","amount":-9,"at":3600000}"#;
const SHOPS: &str = r#"
    {"name":"a","city":"Ulm","closed":false,"since":0}
    {"name":"a","city":"Bonn","closed":false,"since":2}
    {"name":"b","city":"Ulm","closed":false,"since":0}
    {"name":"b","city":"Ulm","closed":true,"since":3600000}"#;

/// The keys and values that a query answers with, windows as the hour they begin.
fn answer(query: Query) -> String {
    let catalog = Catalog::of(std::slice::from_ref(&query), &Overrides::default());
    let catalog = catalog.expect("the query builds");
    let streams = [("sales", SALES), ("shops", SHOPS)];
    let read = streams
        .iter()
        .filter(|(name, _)| catalog.stream(name).is_some());
    let rows = batch(query, &read.copied().collect::<Vec<_>>());
    let text = |row: &String| {
        let row: Value = serde_json::from_str(row).expect("a row is JSON");
        let (key, value) = (&row["key"], &row["value"]);
        match key.get(1).and_then(|window| window["start"].as_i64()) {
            Some(start) => format!("{} {}: {value}", key[0], start.div_euclid(3_600_000)),
            None => format!("{key}: {value}"),
        }
    };
    rows.iter()
        .map(text)
        .collect::<Vec<_>>()
        .join("; ")
        .replace('"', "")
}

macro_rules! answer {
    ($query:ident) => {
        answer(Query::new(stringify!($query), "", operators::$query))
    };
}

#[test]
fn streams_and_windows_do_as_the_page_says() {
    assert_eq!(answer!(words), "cup 0: 1; cup 1: 1; red 0: 1; tea 0: 1");
    assert_eq!(answer!(dear), "[sales,0,1]: red tea; [sales,0,106]: cup");
    assert_eq!(answer!(refunded), "[sales,0,157]: -9");
    assert_eq!(answer!(takings), "a 0: 2016; b 1: -9");
    assert_eq!(answer!(mean), "a 0: 672.0; b 1: -9.0");
    assert_eq!(answer!(least), "a 0: 4; b 1: -9");
    assert_eq!(answer!(greatest), "a 0: 2000; b 1: -9");
    assert_eq!(answer!(items), "a 0: 2; b 1: 1");
    assert_eq!(answer!(best), "a 0: [[red tea,2],[cup,1]]; b 1: [[cup,1]]");
    assert_eq!(answer!(last), "a 0: cup; b 1: cup");
    let days = answer!(days_sales);
    assert_eq!(days.matches("a ").count(), 24, "{days}");
}

#[test]
fn tables_do_as_the_page_says() {
    assert_eq!(
        answer!(with_city).matches("city:Bonn").count(),
        3,
        "all moved along"
    );
    assert_eq!(answer!(by_city), "? 1: 1; Bonn 0: 1; Ulm 0: 2");
    assert_eq!(answer!(good_cities), "Bonn: 2");
    let ever = answer!(ever);
    assert!(ever.starts_with("a: [2016,{name:a,city:Bonn"), "{ever}");
    assert!(ever.ends_with("b: [-9,null]"), "closed: {ever}");
    assert_eq!(answer!(city_takings), "?: -9; Bonn: 2016");
    assert_eq!(answer!(thousands), "a 0: 2; b 1: 0");
    assert_eq!(answer!(sellers), "a: null; b: null");
}
