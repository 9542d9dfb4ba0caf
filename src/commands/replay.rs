//! `waterclock replay`: files to final rows.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;

use anyhow::Context;
use sha2::{Digest, Sha256};
use waterclock::Query;
use waterclock::cli::{Output, ReplayArgs};
use waterclock::query::{Catalog, Overrides};
use waterclock::row::Row;
use waterclock::source::Source;
use waterclock::source::file::{FileOptions, FileSource};
use waterclock::worker::replay::{Replay, Replayed};

use super::setting::selected;

/// Runs the query to the end of the files, writes its rows, and says on stderr what there was.
#[allow(
    clippy::disallowed_methods,
    reason = "the summary says how long it took"
)]
pub fn replay(args: &ReplayArgs, all: Vec<Query>) -> anyhow::Result<()> {
    let started = Instant::now();
    let query = selected(all, std::slice::from_ref(&args.query))?.remove(0);
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
    let has_final = catalog.queries.iter().all(|query| query.has_final);
    let mut replay = Replay::new(query, catalog, sources);
    replay.workers = args.workers.into();
    replay.split_bytes = args.split_bytes as usize;
    let replayed = replay.run()?;
    let (rows, sha256) = match &args.output {
        Output::Null => write(&replayed, has_final, std::io::sink())?,
        Output::Stdout => write(&replayed, has_final, std::io::stdout().lock())?,
        Output::File(path) => {
            let file =
                File::create(path).with_context(|| format!("writing '{}'", path.display()))?;
            write(&replayed, has_final, file)?
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = (replayed.events as f64 / seconds).round();
    let summary = serde_json::json!({
        "events": replayed.events,
        "seconds": seconds,
        "events_per_second": rate,
        "rows": rows,
        "late": replayed.late,
        "rejected": replayed.rejected,
        "sha256": sha256,
        "peak_rss_bytes": peak_rss_bytes(),
    });
    writeln!(std::io::stderr(), "{summary}")?;
    Ok(())
}

/// Writes the rows as NDJSON; says how many and their digest.
fn write(replayed: &Replayed, has_final: bool, to: impl Write) -> anyhow::Result<(u64, String)> {
    let mut to = BufWriter::with_capacity(1 << 20, to);
    let (mut digest, mut line, mut written) = (Sha256::new(), Vec::new(), 0);
    for (row, count) in &replayed.rows {
        line.clear();
        render(row, has_final, &mut line);
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

fn render(row: &Row, has_final: bool, line: &mut Vec<u8>) {
    line.extend_from_slice(br#"{"key":"#);
    line.extend_from_slice(row.key.as_bytes());
    line.extend_from_slice(br#","value":"#);
    line.extend_from_slice(row.value.as_bytes());
    // At the end of all input every window is closed.
    line.extend_from_slice(if has_final {
        b",\"final\":true}\n"
    } else {
        b"}\n"
    });
}

/// The most memory this process ever held; 0 where the system does not say.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    kilobytes.map_or(0, |kilobytes: u64| kilobytes * 1024)
}
