//! What does an epoch cost when nothing comes in? The budget: under 1 ms with 20 queries.

#[path = "../queries/mod.rs"]
mod queries;

use std::io::Write;
use std::time::Instant;

use waterclock::Query;
use waterclock::testing::{Round, Steps};

/// How many queries the budget is for.
const QUERIES: usize = 20;
/// How many epochs are timed.
const EPOCHS: u32 = 2_000;

fn main() {
    for workers in [1, 2] {
        let queries: Vec<Query> = (0..)
            .flat_map(|round| queries::all().into_iter().map(move |query| (round, query)))
            .take(QUERIES)
            .map(|(round, mut query)| {
                query.name = format!("{}_{round}", query.name);
                query
            })
            .collect();
        let mut steps = Steps::start(queries, workers);
        let click = r#"{"user_id":"u1","click_time":0}"#;
        steps.epoch(Round::new().records("clicks", 0, click));
        steps.settle();
        #[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
        let started = Instant::now();
        for _ in 0..EPOCHS {
            steps.epoch(Round::new());
            steps.settle();
        }
        let each = started.elapsed() / EPOCHS;
        let said = format!("empty epoch, {QUERIES} queries, {workers} workers: {each:?}\n");
        let _ = std::io::stdout().write_all(said.as_bytes());
    }
}
