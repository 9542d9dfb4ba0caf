//! `waterclock checkpoint`: what is saved, and whether it is whole.

use std::io::Write;
use std::process::ExitCode;

use waterclock::cli::{self, PlaceArgs, SettingsArgs};
use waterclock::state::{CheckpointStore, DataDir};
use waterclock::time::Timestamp;

use super::setting::{bucket, store_options};

/// Lists checkpoints of a running service, or those of a data directory or a bucket.
pub fn list(place: &PlaceArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let Some(settings) = place.settings() else {
        return Ok(cli::show_checkpoints(&place.service, out)?);
    };
    let config = settings.config(std::env::vars())?;
    let store = CheckpointStore::inspect(&config.service.data_dir, bucket(&config).as_ref())?;
    for info in store.list()? {
        let at = Timestamp(info.published_at);
        let label = info.label.map(|label| format!("  {label}"));
        writeln!(
            out,
            "{}  {at}  {} rows  {} bytes{}",
            info.epoch,
            info.rows,
            info.bytes,
            label.unwrap_or_default()
        )?;
    }
    Ok(())
}

/// Reads every byte of every checkpoint; fails if one is not what was written.
pub fn verify(
    settings: &SettingsArgs,
    epoch: Option<u64>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    let config = settings.config(std::env::vars())?;
    let store = CheckpointStore::inspect(&config.service.data_dir, bucket(&config).as_ref())?;
    let problems = store.verify(epoch)?;
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    if problems.is_empty() {
        writeln!(
            out,
            "{} checkpoints, every byte as written",
            store.list()?.len()
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// Deletes a checkpoint of a service that is not running.
pub fn delete(settings: &SettingsArgs, epoch: u64, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = settings.config(std::env::vars())?;
    let data = DataDir::open(&config.service.data_dir)?;
    CheckpointStore::open(&data, &store_options(&config))?.delete(epoch, false)?;
    writeln!(out, "checkpoint {epoch} is deleted")?;
    Ok(())
}
