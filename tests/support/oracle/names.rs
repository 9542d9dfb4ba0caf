//! Which queries there are, and what they read.

/// The queries' names.
pub const QUERIES: [&str; 41] = [
    "users",
    "count",
    "sum",
    "float_sum",
    "min",
    "max",
    "avg",
    "distinct",
    "top",
    "union",
    "busy",
    "names",
    "kept",
    "joined",
    "as_of",
    "as_of_count",
    "forever",
    "sides",
    "many_sides",
    "sums",
    "sessions",
    "visits",
    "lefts",
    "semi",
    "anti",
    "ranked",
    "several",
    "last",
    "close",
    "finals",
    "growing",
    "paced",
    "threes",
    "ttl",
    "extremes",
    "means",
    "parts",
    "days",
    "estimates",
    "passed",
    "splits",
];

/// The streams a query reads.
pub fn streams_of(query: &str) -> &'static [&'static str] {
    match query {
        "users" | "names" => &["users"],
        "union" => &["extras", "hits"],
        "joined" | "as_of" | "as_of_count" | "sides" | "many_sides" | "close" | "lefts"
        | "semi" | "anti" | "splits" => &["hits", "users"],
        _ => &["hits"],
    }
}
