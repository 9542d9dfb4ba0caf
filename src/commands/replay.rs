//! `waterclock replay`: files to final rows; a service's epochs to the rows it answered.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use serde_json::Value;
use sha2::{Digest, Sha256};
use waterclock::Query;
use waterclock::cli::{Output, ReplayArgs};
use waterclock::memory;
use waterclock::query::{Catalog, Overrides};
use waterclock::row::Row;
use waterclock::source::Source;
use waterclock::source::file::{FileOptions, FileSource};
use waterclock::time::Timestamp;
use waterclock::worker::replay::{Replay, Replayed};
use waterclock::worker::reproduce::{Reproduced, Reproduction};

use super::setting::{bucket, catalog_of_some, recorded_sources, selected};
use super::usage::peak_rss_bytes;

/// Runs the query, writes its rows, and says on stderr what there was.
#[allow(
    clippy::disallowed_methods,
    reason = "the summary says how long it took"
)]
pub fn replay(args: &ReplayArgs, all: Vec<Query>) -> anyhow::Result<()> {
    let started = Instant::now();
    memory::leave_to_system();
    let query = selected(all.clone(), std::slice::from_ref(&args.query))?.remove(0);
    let (replayed, through, about) = match &args.data_dir {
        // At the end of all input every window is closed.
        None => (
            from_files(args, query)?,
            Some(Timestamp(i64::MAX)),
            Value::Null,
        ),
        Some(data_dir) => {
            let reproduced = from_epochs(args, data_dir, query, all)?;
            let about = about(&reproduced);
            (reproduced.replayed, reproduced.complete_through, about)
        }
    };
    let (rows, sha256) = match &args.output {
        Output::Null => write(&replayed, through, std::io::sink())?,
        Output::Stdout => write(&replayed, through, std::io::stdout().lock())?,
        Output::File(path) => {
            let file =
                File::create(path).with_context(|| format!("writing '{}'", path.display()))?;
            write(&replayed, through, file)?
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = (replayed.events as f64 / seconds).round();
    let mut summary = serde_json::json!({
        "events": replayed.events,
        "seconds": seconds,
        "events_per_second": rate,
        "rows": rows,
        "late": replayed.late,
        "rejected": replayed.rejected,
        "sha256": sha256,
        "peak_rss_bytes": peak_rss_bytes(),
    });
    if let (Some(summary), Value::Object(about)) = (summary.as_object_mut(), about) {
        summary.extend(about);
    }
    writeln!(std::io::stderr(), "{summary}")?;
    // The process ends here: its rows need not be freed one by one.
    std::mem::forget(replayed);
    Ok(())
}

/// Runs the query to the end of the files.
fn from_files(args: &ReplayArgs, query: Query) -> anyhow::Result<Replayed> {
    let streams = args.streams().map_err(anyhow::Error::msg)?;
    let mut overrides = Overrides::default();
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for (name, stream) in streams {
        let source = FileSource::open(&name, &stream.paths, FileOptions::default())?;
        sources.push(Box::new(source));
        overrides
            .lateness
            .extend(stream.lateness.map(|lateness| (name, lateness)));
    }
    let catalog = Catalog::of(std::slice::from_ref(&query), &overrides)?;
    let mut replay = Replay::new(query, catalog, sources);
    replay.workers = args.workers.into();
    replay.split_bytes = args.split_bytes as usize;
    Ok(replay.run()?)
}

/// Runs the query over what a service read.
fn from_epochs(
    args: &ReplayArgs,
    data_dir: &Path,
    query: Query,
    all: Vec<Query>,
) -> anyhow::Result<Reproduced> {
    let config = args.settings().config(std::env::vars())?;
    let service = catalog_of_some(&config, &selected(all, &config.service.queries)?)?;
    let catalog = catalog_of_some(&config, std::slice::from_ref(&query))?.beside(&service);
    let sources = recorded_sources(&config, &catalog)?;
    let reproduction = Reproduction {
        query,
        catalog,
        sources,
        bucket: bucket(&config),
        checkpoint: args.checkpoint,
        to: args.to,
        workers: args.workers.into(),
        max_ahead: config.time.max_ahead,
    };
    let name = data_dir.display();
    reproduction
        .run(data_dir)
        .with_context(|| format!("replaying '{name}'"))
}

/// What the rows include.
fn about(reproduced: &Reproduced) -> Value {
    serde_json::json!({
        "as_of": reproduced.as_of,
        "checkpoint": reproduced.checkpoint,
        "complete_through": reproduced.complete_through,
        "positions": reproduced.positions,
    })
}

/// Writes the rows as NDJSON, those as final that are by `through`; says how many and their digest.
fn write(
    replayed: &Replayed,
    through: Option<Timestamp>,
    to: impl Write,
) -> anyhow::Result<(u64, String)> {
    let mut to = BufWriter::with_capacity(1 << 20, to);
    let (mut digest, mut line, mut written) = (Sha256::new(), Vec::new(), 0);
    for (row, count) in &replayed.rows {
        line.clear();
        let is_final = |at| through.is_some_and(|through| through >= at);
        render(row, row.final_at().map(is_final), &mut line);
        for _ in 0..*count {
            digest.update(&line);
            to.write_all(&line).context("writing the rows")?;
            written += 1;
        }
    }
    to.flush().context("writing the rows")?;
    Ok((written, hex(&digest.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).expect("half a byte is one digit");
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

fn render(row: &Row, is_final: Option<bool>, line: &mut Vec<u8>) {
    line.extend_from_slice(br#"{"key":"#);
    line.extend_from_slice(row.key().as_bytes());
    line.extend_from_slice(br#","value":"#);
    line.extend_from_slice(row.value().as_bytes());
    line.extend_from_slice(match is_final {
        Some(true) => b",\"final\":true}\n",
        Some(false) => b",\"final\":false}\n",
        None => b"}\n",
    });
}
