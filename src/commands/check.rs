//! `waterclock check`: will it start, and what will happen to what was saved?

use std::io::Write;
use std::process::ExitCode;

use waterclock::Query;
use waterclock::cli::CheckArgs;
use waterclock::state::CheckpointStore;
use waterclock::worker::restore::{Fate, fates};

use super::setting::{bucket, catalog, selected, sink_specs};

/// Checks the configuration, the queries and the newest checkpoint; touches nothing.
pub fn check(args: &CheckArgs, all: Vec<Query>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let config = args.settings.config(std::env::vars())?;
    let queries = selected(all, &config.service.queries)?;
    let catalog = catalog(&config, &queries)?;
    writeln!(out, "configuration: ok")?;
    let (count, streams) = (catalog.queries.len(), catalog.stream_names().join(", "));
    writeln!(out, "queries: {count}, reading {streams}")?;
    for sink in sink_specs(&config, &catalog)? {
        let (name, query, topic) = (sink.name, sink.query, sink.topic);
        writeln!(out, "sink {name}: {query} to topic '{topic}'")?;
    }
    let store = CheckpointStore::inspect(&config.service.data_dir, bucket(&config).as_ref())?;
    let Some(checkpoint) = store.newest_valid()? else {
        writeln!(out, "checkpoint: none, the service starts empty")?;
        return Ok(ExitCode::SUCCESS);
    };
    writeln!(out, "checkpoint: {}", checkpoint.manifest().epoch)?;
    for problem in checkpoint.skipped() {
        writeln!(out, "  passed over: {problem}")?;
    }
    let mut code = ExitCode::SUCCESS;
    for (boundary, fate) in fates(&checkpoint, &catalog)? {
        match fate {
            Fate::Restored => writeln!(out, "  {boundary}: restored")?,
            Fate::New => writeln!(out, "  {boundary}: new, starts empty")?,
            Fate::Dropped => writeln!(out, "  {boundary}: no query uses it any more, dropped")?,
            Fate::Refused(reason) => {
                code = ExitCode::FAILURE;
                writeln!(
                    out,
                    "  {boundary}: REFUSED, the service will not start: {reason}"
                )?;
            }
        }
    }
    Ok(code)
}
