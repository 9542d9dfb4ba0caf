//! Nexmark: the questions of the streaming benchmark, about an auction house. Each file says in
//! its first line what is asked; the columns of its rows are called as in the published SQL.

mod events;

mod q0;
mod q1;
mod q2;
mod q22;

/// Every query of the benchmark.
pub fn all() -> Vec<waterclock::Query> {
    waterclock::queries![q0, q1, q2, q22]
}
