//! Nexmark: the questions of the streaming benchmark, about an auction house. Each file says in
//! its first line what is asked; the columns of its rows are called as in the published SQL.

mod events;
mod parts;

mod q0;
mod q1;
mod q10;
mod q11;
mod q11s;
mod q12;
mod q13;
mod q14;
mod q15;
mod q16;
mod q17;
mod q18;
mod q19;
mod q2;
mod q20;
mod q21;
mod q22;
mod q3;
mod q4;
mod q5;
mod q6;
mod q7;
mod q8;
mod q9;

/// Every query of the benchmark.
pub fn all() -> Vec<waterclock::Query> {
    waterclock::queries![
        q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, q10, q11, q11s, q12, q13, q14, q15, q16, q17, q18,
        q19, q20, q21, q22
    ]
}
