//! What may be said to `waterclock bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// The queries of Nexmark over events made up beforehand and held in memory as NDJSON.
    ///
    /// Each query runs in a process of its own. Decoding is part of what is measured, making the
    /// events is not; the peak of memory is beyond the events. The rows of the answer are made and
    /// counted, and go nowhere.
    #[command(after_help = "Examples:
  waterclock bench nexmark
  waterclock bench nexmark --query q5 --workers 2 --events 10000000
  waterclock bench nexmark --file nexmark.ndjson --workers 2
  waterclock bench nexmark --against ../before/waterclock --rounds 5")]
    Nexmark(BenchArgs),
    /// Writes the events of Nexmark to a file as NDJSON, to be read again and again.
    #[command(after_help = "Example:
  waterclock bench events nexmark.ndjson
  waterclock bench nexmark --file nexmark.ndjson --query q5")]
    Events(EventsArgs),
}

/// Flags of `bench events`.
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    /// Where to write; a file that exists is written over.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How many events [default: a million].
    #[arg(
        long, value_name = "N", default_value_t = 1_000_000, hide_default_value = true,
        value_parser = clap::value_parser!(u64).range(1..=100_000_000)
    )]
    pub events: u64,
}

/// Flags of `bench nexmark`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// How many events [default: a million].
    #[arg(
        long, value_name = "N", default_value_t = 1_000_000, hide_default_value = true,
        value_parser = clap::value_parser!(u64).range(1..=100_000_000)
    )]
    pub events: u64,
    /// Dataflow threads.
    #[arg(
        long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub workers: u16,
    /// The queries to run, separated by commas [default: all].
    #[arg(long = "query", value_name = "QUERY", value_delimiter = ',')]
    pub queries: Vec<String>,
    /// Writes the rows as JSON and orders them, as `replay` does, instead of counting them.
    #[arg(long)]
    pub rows: bool,
    /// Reads the events from this NDJSON file instead of making them up.
    #[arg(long, value_name = "PATH", conflicts_with = "events")]
    pub file: Option<PathBuf>,
    /// Runs each query with another build too, in turns, and writes how this one compares: the
    /// middle of the rounds' ratios. Read processor time first: others on the machine disturb it
    /// least.
    #[arg(long, value_name = "BINARY", conflicts_with = "json")]
    pub against: Option<PathBuf>,
    /// How many turns each build gets, with `--against`.
    #[arg(
        long, value_name = "N", default_value_t = 3, requires = "against",
        value_parser = clap::value_parser!(u16).range(1..=99)
    )]
    pub rounds: u16,
    /// Writes a JSON object per query instead of a table.
    #[arg(long)]
    pub json: bool,
}
