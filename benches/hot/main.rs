//! What do the steps of the hot path cost, one by one?
//!
//! ```text
//! cargo run --release --example hot                  ns an item, the middle of some rounds
//! cargo run --release --example hot decode view      only the steps that are named like this
//! cargo run --profile counts --example hot -- --count    instructions an item, under callgrind
//! cargo run --profile counts --example hot -- --check    the same, against benches/hot.txt
//! cargo run --profile counts --example hot -- --bless    the same, written to benches/hot.txt
//! ```
//!
//! Times say what a step costs on this machine now. Instructions are the same on a busy machine,
//! and so CI can tell a step that became slower. They are not those of another compiler, and of a
//! processor with other vector instructions: valgrind shows those up to AVX2, and memchr and libc
//! choose by them. So `hot.txt` says with what it was counted, and holds others less strictly.

mod steps;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use steps::{STEPS, Step};

/// What a step may gain in instructions before the check fails, in percent. Two runs of one build
/// differ by less than one, since hash maps are seeded at random.
const TOLERANCE: f64 = 5.0;
/// The same where the compiler or the processor is another one.
const TOLERANCE_ELSEWHERE: f64 = 25.0;
/// How often each step is timed.
const ROUNDS: usize = 11;

/// Instructions an item, by step.
type Counts = BTreeMap<String, f64>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let names: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let is_wanted = |step: &&Step| {
        names.is_empty() || names.iter().any(|name| step.name.contains(name.as_str()))
    };
    let wanted: Vec<&Step> = STEPS.iter().filter(is_wanted).collect();
    if has("--once") {
        for step in wanted {
            once(step);
        }
    } else if has("--count") || has("--check") || has("--bless") {
        let counts = wanted.iter().filter(|step| step.is_counted);
        let counts: Counts = counts
            .map(|step| (step.name.to_owned(), count(step)))
            .collect();
        if has("--bless") {
            let text = format!("# {}\n{}", surroundings(), written(&counts));
            std::fs::write(baseline_file(), text).expect("the baseline is ours");
        } else if has("--check") {
            return checked(&counts);
        }
        say(&written(&counts));
    } else {
        wanted.into_iter().for_each(timed);
    }
    ExitCode::SUCCESS
}

fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The middle of some rounds, each of which begins anew.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed(step: &Step) {
    let mut prepare = (step.make)();
    let round = |_| {
        let work = prepare();
        let started = Instant::now();
        measured(work);
        started.elapsed()
    };
    let mut times: Vec<_> = (0..ROUNDS).map(round).collect();
    times.sort();
    let nanos = times[ROUNDS / 2].as_secs_f64() * 1e9 / per(step);
    say(&format!("{:12} {nanos:8.1} ns an item\n", step.name));
}

#[allow(clippy::cast_precision_loss, reason = "items are few")]
fn per(step: &Step) -> f64 {
    step.items as f64
}

/// Callgrind counts what happens in here.
#[inline(never)]
fn measured(work: Box<dyn FnOnce()>) {
    work();
}

/// A first time to warm up what is made once, then the one that counts.
fn once(step: &Step) {
    let mut prepare = (step.make)();
    prepare()();
    measured(prepare());
}

/// The instructions of a step, from a process of its own.
fn count(step: &Step) -> f64 {
    let dir = tempfile::tempdir().expect("a directory for a file that goes again");
    let out = dir.path().join("callgrind");
    let own = std::env::current_exe().expect("this program has a path");
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*measured*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(own)
        .args(["--once", step.name])
        // Nothing that depends on the number of cores, or on how long the steps take.
        .env(
            "_RJEM_MALLOC_CONF",
            "narenas:1,dirty_decay_ms:-1,muzzy_decay_ms:-1",
        )
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("counting needs valgrind: apt-get install valgrind");
    assert!(status.success(), "step '{}' ended with {status}", step.name);
    let text = std::fs::read_to_string(&out).expect("callgrind writes what it counted");
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: f64 = (total.and_then(|total| total.trim().parse().ok())).expect("callgrind's sum");
    assert!(total > 0.0, "step '{}': nothing was counted", step.name);
    (total / per(step) * 10.0).round() / 10.0
}

/// What instructions depend on, besides the code.
fn surroundings() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = version.unwrap_or_default();
    let compiler: Vec<&str> = version.split_whitespace().take(2).collect();
    #[cfg(target_arch = "x86_64")]
    let vectors = if std::arch::is_x86_feature_detected!("avx2") {
        "avx2"
    } else {
        "sse2"
    };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = "its own";
    let processor = std::env::consts::ARCH;
    format!("{}, {processor} with {vectors}", compiler.join(" "))
}

fn baseline_file() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/benches/hot.txt")
}

fn written(counts: &Counts) -> String {
    let line = |(step, count): (&String, &f64)| format!("{step:12} {count:10.1}\n");
    counts.iter().map(line).collect()
}

fn read(text: &str) -> Counts {
    let pair = |line: &str| {
        let mut words = line.split_whitespace();
        let (step, count) = (words.next()?, words.next()?);
        Some((step.to_owned(), count.parse().ok()?))
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(pair).collect()
}

/// Compares with the baseline. That it can fail is seen each time: it must refuse these counts
/// where the baseline is a tenth below them.
fn checked(counts: &Counts) -> ExitCode {
    let lower = counts
        .iter()
        .map(|(step, count)| (step.clone(), 0.9 * count));
    let (_, passes) = compared(&lower.collect(), counts, TOLERANCE);
    assert!(!passes, "the check lets anything pass");
    let text = std::fs::read_to_string(baseline_file()).unwrap_or_default();
    let (was, is) = (text.lines().next().unwrap_or_default(), surroundings());
    let is_alike = was.trim_start_matches("# ") == is;
    let tolerance = if is_alike {
        TOLERANCE
    } else {
        TOLERANCE_ELSEWHERE
    };
    let (table, is_good) = compared(&read(&text), counts, tolerance);
    say(&table);
    if !is_alike {
        say(&format!(
            "counted with {is}, and benches/hot.txt with {was}: held to {tolerance} % only\n"
        ));
    }
    if is_good {
        return ExitCode::SUCCESS;
    }
    say(&format!(
        "a step needs over {tolerance} % more instructions than benches/hot.txt says, or is not in \
         it; if that is meant: just hot-bless\n"
    ));
    ExitCode::FAILURE
}

/// A table of both, and whether no step became slower than tolerated.
fn compared(baseline: &Counts, counts: &Counts, tolerance: f64) -> (String, bool) {
    let mut table = format!("{:12} {:>10} {:>10}\n", "step", "before", "now");
    let mut is_good = true;
    for (step, now) in counts {
        let Some(before) = baseline.get(step) else {
            let _ = writeln!(table, "{step:12} {:>10} {now:10.1}", "none");
            is_good = false;
            continue;
        };
        let more = (now / before - 1.0) * 100.0;
        is_good &= more <= tolerance;
        let _ = writeln!(table, "{step:12} {before:10.1} {now:10.1} {more:+6.1} %");
    }
    (table, is_good)
}
