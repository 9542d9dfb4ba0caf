//! The service: configuration, sources, workers and HTTP put together.
fn main() {}
