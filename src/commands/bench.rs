//! `waterclock bench`: what events cost.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use waterclock::Query;
use waterclock::cli::{BenchArgs, EventsArgs, Grid};
use waterclock::memory;
use waterclock::query::{Catalog, Overrides};
use waterclock::source::Source;
use waterclock::source::file::{FileOptions, FileSource};
use waterclock::source::nexmark::{NexmarkOptions, NexmarkSource};
use waterclock::testing::MemorySource;
use waterclock::worker::replay::Replay;

use super::setting::selected;
use super::usage::{cpu_seconds, peak_rss_bytes, reset_peak_rss, rss_bytes};

/// The stream of the table that the benchmark's q13 looks things up in.
const SIDE_INPUT: &str = "side_input";

/// What one run of a query took.
#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    query: String,
    workers: u16,
    events: u64,
    seconds: f64,
    events_per_second: f64,
    /// For a million events.
    cpu_seconds: f64,
    /// Beyond the events themselves.
    peak_bytes: u64,
    rows: i64,
}

/// Runs each query over events held in memory, or in a file, and writes a table, or figures as
/// JSON.
pub fn nexmark(args: &BenchArgs, all: Vec<Query>, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut queries = selected(all, &args.queries)?;
    if args.json && queries.len() == 1 {
        let figures = measured(args, queries.remove(0))?;
        serde_json::to_writer(&mut *out, &figures)?;
        writeln!(out)?;
        return Ok(());
    }
    let own = std::env::current_exe().context("finding this program to run it again")?;
    if let Some(other) = &args.against {
        return against(args, &queries, (own.as_path(), other.as_path()), out);
    }
    let mut table = Grid::new(&[
        "query",
        ">workers",
        ">events/s",
        ">CPU s per million",
        ">peak MB",
        ">rows",
    ]);
    for query in queries {
        let figures = in_a_process(&own, args, &query.name)?;
        if args.json {
            serde_json::to_writer(&mut *out, &figures)?;
            writeln!(out)?;
        }
        table.row(vec![
            figures.query,
            figures.workers.to_string(),
            format!("{:.0}", figures.events_per_second),
            format!("{:.2}", figures.cpu_seconds),
            (figures.peak_bytes / 1_000_000).to_string(),
            figures.rows.to_string(),
        ]);
    }
    if !args.json {
        table.write(out)?;
    }
    Ok(())
}

/// Runs two builds in turns, and writes what this one does for each of the other's.
fn against(
    args: &BenchArgs,
    queries: &[Query],
    (own, other): (&Path, &Path),
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut table = Grid::new(&["query", ">workers", ">events/s", ">CPU s", ">peak memory"]);
    for query in queries {
        let mut ratios: [Vec<f64>; 3] = Default::default();
        for _ in 0..args.rounds {
            let theirs = in_a_process(other, args, &query.name)?;
            let ours = in_a_process(own, args, &query.name)?;
            if ours.rows != theirs.rows {
                let (name, ours, theirs) = (&query.name, ours.rows, theirs.rows);
                bail!("query '{name}': {ours} rows, {theirs} of the other build");
            }
            ratios[0].push(ours.events_per_second / theirs.events_per_second);
            ratios[1].push(ours.cpu_seconds / theirs.cpu_seconds);
            #[allow(clippy::cast_precision_loss, reason = "ratios for people")]
            ratios[2].push(ours.peak_bytes as f64 / theirs.peak_bytes.max(1) as f64);
        }
        let mut row = vec![query.name.clone(), args.workers.to_string()];
        row.extend(ratios.map(|of_rounds| format!("x {:.2}", middle(of_rounds))));
        table.row(row);
    }
    table.write(out)?;
    Ok(())
}

fn middle(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// One query's figures, from a process of its own: the peak of memory is a process's.
fn in_a_process(binary: &Path, args: &BenchArgs, query: &str) -> anyhow::Result<Figures> {
    let mut command = Command::new(binary);
    command
        .args(["bench", "nexmark", "--json", "--query", query])
        .args(["--workers", &args.workers.to_string()])
        .args(args.rows.then_some("--rows"));
    match &args.file {
        Some(path) => command.arg("--file").arg(path),
        None => command.args(["--events", &args.events.to_string()]),
    };
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running query '{query}' with '{}'", binary.display()))?;
    if !output.status.success() {
        bail!("query '{query}': its run ended with {}", output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("figures of query '{query}'"))
}

/// Runs a query to the end of the events.
#[allow(clippy::disallowed_methods, reason = "it says how long the run took")]
#[allow(clippy::cast_precision_loss, reason = "rates for people")]
fn measured(args: &BenchArgs, query: Query) -> anyhow::Result<Figures> {
    let name = query.name.clone();
    let catalog = Catalog::of(std::slice::from_ref(&query), &Overrides::default())?;
    let mut sources: Vec<Box<dyn Source>> = vec![match &args.file {
        Some(path) => {
            let (files, options) = (std::slice::from_ref(path), FileOptions::default());
            Box::new(FileSource::open("nexmark", files, options)?)
        }
        None => Box::new(MemorySource::new("nexmark", &[&events(args.events)?])),
    }];
    if catalog.stream(SIDE_INPUT).is_some() {
        let side = MemorySource::new(SIDE_INPUT, &[&side_input()]);
        sources.push(Box::new(side));
    }
    let mut replay = Replay::new(query, catalog, sources);
    replay.workers = args.workers.into();
    replay.only_counts = !args.rows;
    memory::leave_to_system();
    reset_peak_rss();
    let (held, used, started) = (rss_bytes(), cpu_seconds(), Instant::now());
    let replayed = replay.run()?;
    let seconds = started.elapsed().as_secs_f64();
    let events = replayed.events as f64;
    Ok(Figures {
        query: name,
        workers: args.workers,
        events: replayed.events,
        seconds,
        events_per_second: (events / seconds).round(),
        cpu_seconds: (cpu_seconds() - used) / events * 1e6,
        peak_bytes: peak_rss_bytes().saturating_sub(held),
        rows: replayed.count,
    })
}

/// Writes so many events to a file.
pub fn events_to_file(args: &EventsArgs) -> anyhow::Result<()> {
    let doing = || format!("writing events to {}", args.file.display());
    let mut file = File::create(&args.file).with_context(doing)?;
    for bytes in made(args.events).chunks() {
        file.write_all(&bytes?).with_context(doing)?;
    }
    Ok(())
}

/// So many events, as NDJSON.
fn events(count: u64) -> anyhow::Result<String> {
    let mut text = Vec::new();
    for bytes in made(count).chunks() {
        text.extend_from_slice(&bytes?);
    }
    Ok(String::from_utf8(text)?)
}

/// Makes so many events.
fn made(count: u64) -> NexmarkSource {
    let options = NexmarkOptions {
        events: count,
        ..NexmarkOptions::default()
    };
    NexmarkSource::new("nexmark", options)
}

/// A value for each key that q13 looks up.
fn side_input() -> String {
    let line = |key| format!("{{\"key\":{key},\"value\":\"value-{key}\"}}\n");
    (0..10_000).map(line).collect()
}
