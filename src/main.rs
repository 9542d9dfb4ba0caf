//! The service: configuration, sources, workers and HTTP put together.

#[path = "../queries/mod.rs"]
mod queries;

fn main() {
    let _ = queries::all();
}
