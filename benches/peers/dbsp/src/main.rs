//! Nexmark on dbsp, to run beside `waterclock bench`: `peer-dbsp FILE QUERY [WORKERS]`.
//!
//! Only the columns that a query uses are decoded, by sonic-rs on a thread of its own; what comes
//! out goes nowhere. Prints one line of JSON: the query, events, wall and CPU seconds, peak memory
//! in KiB, and how many rows came out, with retractions.

mod lines;
mod queries;

use std::fs;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, file, query, rest @ ..] = args.as_slice() else {
        eprintln!("usage: peer-dbsp FILE QUERY [WORKERS]");
        std::process::exit(2);
    };
    let workers = rest
        .first()
        .map_or(1, |n| n.parse().expect("WORKERS must be a number"));
    let begin = Instant::now();
    let (events, rows) = queries::run(query, file, workers);
    let seconds = begin.elapsed().as_secs_f64();
    let (cpu, peak) = (cpu_seconds(), peak_kib());
    println!(
        "{{\"query\":\"{query}\",\"events\":{events},\"seconds\":{seconds:.3},\
         \"cpu_seconds\":{cpu:.2},\"peak_kib\":{peak},\"rows\":{rows}}}"
    );
    // The circuit's own end is not measured.
    std::process::exit(0);
}

/// User and system time of this process, of `/proc`, where a tick is a hundredth of a second.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("there is /proc");
    let after = stat.rsplit(')').next().expect("a name in brackets");
    let field = |at: usize| -> f64 {
        let field = after.split_whitespace().nth(at).expect("it has times");
        field.parse().expect("a number")
    };
    (field(11) + field(12)) / 100.0
}

fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("there is /proc");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("it has a peak");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number")
}
