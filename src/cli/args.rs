//! Commands and flags, and how flags lie over the configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::bench::BenchCommand;
use super::values::{Output, ReplayStream, join_streams, named_duration, named_path};
use crate::config::{Config, ConfigError};

/// The file read from the current directory when no other is named.
const DEFAULT_FILE: &str = "waterclock.toml";

/// Streaming analytics that serves its own answers.
///
/// Without a command, runs the service: HTTP on 127.0.0.1:8080, and a demo that needs nothing else.
#[derive(Clone, Debug, Parser)]
#[command(name = "waterclock", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  waterclock                                    run with the demo, print the URL to open
  waterclock run --config waterclock.toml       run what the file says
  waterclock query page_views --limit 5         look at an answer
  waterclock replay --stream clicks=clicks.ndjson --query clicks_per_user")]
pub struct Cli {
    /// What to do; runs the service when absent.
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

impl Cli {
    /// The command asked for; without one, `run`.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}

/// What the binary can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Runs the service until it is told to stop (SIGTERM or Ctrl-C take a last checkpoint).
    Run(RunArgs),
    /// Runs one query over files from start to end and writes its final rows; or over what a
    /// service read, and writes the rows that it answered.
    #[command(
        after_help = "The rows are NDJSON, sorted by key, the same for every --workers and
--split-bytes. One JSON line on standard error says how many events, rows, late and rejected
records there were, how long it took, and the SHA-256 of the output.

With --data-dir the rows are those that the service answered as of an epoch, to the byte what
/v1/queries/QUERY?at=EPOCH gave as application/x-ndjson. Nothing in the directory is changed.

Examples:
  waterclock replay --stream clicks=clicks.ndjson --query clicks_per_user --workers 2
  waterclock replay --data-dir waterclock-data --query clicks_per_user --to 1767225600000"
    )]
    Replay(ReplayArgs),
    /// Checks the configuration, and that the newest checkpoint fits this build.
    Check(CheckArgs),
    /// Shows the rows of a query of a running service.
    #[command(after_help = "Examples:
  waterclock query page_views --limit 5
  waterclock query clicks_per_user --prefix u1     the rows whose key begins with \"u1\"
  waterclock query balances 7                      the row of account 7")]
    Query(QueryArgs),
    /// Shows the rows of a query of a running service, and then each change of them.
    #[command(
        after_help = "Goes on where it was when the connection breaks or the service restarts.
Ctrl-C ends it.

Examples:
  waterclock tail page_views
  waterclock tail clicks_per_user --prefix u1      the rows whose key begins with \"u1\"
  waterclock tail clicks_per_user --final          each row once, when it is final"
    )]
    Tail(TailArgs),
    /// Shows what a running service is complete for, query by query and stream by stream.
    Status(ServiceUrl),
    /// Says what holds each query back, and what is wrong; fails if something is.
    Doctor(ServiceUrl),
    /// Lists, takes, verifies or deletes checkpoints.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Measures what events cost.
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// Where the settings come from.
#[derive(Clone, Debug, Default, Args)]
pub struct SettingsArgs {
    /// Configuration file [default: waterclock.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of logs, journal and checkpoints [default: waterclock-data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Flags of `run`.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// The file, and the data directory.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Dataflow threads [default: one per core, at most 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Queries to run, separated by commas [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub queries: Vec<String>,
    /// Runs without the generator of visits.
    #[arg(long)]
    pub no_demo: bool,
    /// Starts without the checkpoints and the journal, from what the logs still hold.
    #[arg(long)]
    pub from_scratch: bool,
    /// Has a sink send its query's whole answer again, whatever it has sent before.
    #[arg(long, value_name = "NAME")]
    pub restart_sink: Vec<String>,
    /// Serves beyond loopback although nothing authenticates the callers.
    #[arg(long)]
    pub insecure: bool,
}

/// Flags of `replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// A stream and its NDJSON file; named again, the stream has another partition.
    #[arg(
        long = "stream", value_name = "NAME=PATH", value_parser = named_path,
        required_unless_present = "data_dir", conflicts_with = "data_dir"
    )]
    pub files: Vec<(String, PathBuf)>,
    /// The data directory of a service, best one that is stopped, or a copy.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// That service's configuration file [default: waterclock.toml, if there is one].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The checkpoint to begin with, 0 for none [default: the newest that serves].
    #[arg(long, value_name = "EPOCH")]
    pub checkpoint: Option<u64>,
    /// The epoch to answer as of [default: the last one].
    #[arg(long, value_name = "EPOCH")]
    pub to: Option<u64>,
    /// The query to run.
    #[arg(long, value_name = "QUERY")]
    pub query: String,
    /// Dataflow threads; changes the speed only.
    #[arg(
        long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub workers: u16,
    /// Where the rows go: a file, - for standard output, null for nowhere.
    #[arg(long, value_name = "PATH|-|null", default_value = "-")]
    pub output: Output,
    /// Bytes of a file that one worker decodes at a time; changes the speed only.
    #[arg(
        long, value_name = "BYTES", default_value_t = 1 << 20,
        value_parser = clap::value_parser!(u32).range(1..=1 << 30)
    )]
    pub split_bytes: u32,
    /// How far behind the newest record one of this stream may be before it is late.
    #[arg(
        long, value_name = "NAME=DURATION", value_parser = named_duration,
        conflicts_with = "data_dir"
    )]
    pub lateness: Vec<(String, Duration)>,
}

/// Flags of `check`.
#[derive(Clone, Debug, Default, Args)]
pub struct CheckArgs {
    /// The file, and the data directory.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Flags of `query`.
#[derive(Clone, Debug, Args)]
pub struct QueryArgs {
    /// The query.
    pub name: String,
    /// Only the rows of this key: its JSON, or its plain text.
    pub key: Option<String>,
    /// Answers as of this epoch instead of the newest.
    #[arg(long, value_name = "EPOCH")]
    pub at: Option<u64>,
    /// How old an answer may be, such as 10s or 1h: also while the service catches up.
    #[arg(long, value_name = "DURATION", conflicts_with = "at")]
    pub max_staleness: Option<String>,
    /// Only rows whose key begins with this: a JSON array of its first parts, or plain text.
    #[arg(long, value_name = "KEY", conflicts_with = "key")]
    pub prefix: Option<String>,
    /// Most rows to show.
    #[arg(
        long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub limit: u32,
    /// The service to ask.
    #[command(flatten)]
    pub service: ServiceUrl,
}

/// Flags of `tail`.
#[derive(Clone, Debug, Args)]
pub struct TailArgs {
    /// The query.
    pub name: String,
    /// Only the rows of this key: its JSON, or its plain text.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Only rows whose key begins with this: a JSON array of its first parts, or plain text.
    #[arg(long, value_name = "KEY", conflicts_with = "key")]
    pub prefix: Option<String>,
    /// Each row once, when it has become final.
    #[arg(long = "final")]
    pub only_final: bool,
    /// The service to ask.
    #[command(flatten)]
    pub service: ServiceUrl,
}

/// The running service a command asks.
#[derive(Clone, Debug, Args)]
pub struct ServiceUrl {
    /// The service to ask.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// File that holds the service's token [default: the variable `WATERCLOCK_HTTP__TOKEN`].
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File with the certificates to trust at https:// [default: those of the machine].
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

impl ServiceUrl {
    /// The token to show, if the service asks for one.
    pub fn token(&self) -> std::io::Result<Option<String>> {
        match &self.token_file {
            Some(path) => Ok(Some(std::fs::read_to_string(path)?.trim().to_owned())),
            None => Ok(std::env::var("WATERCLOCK_HTTP__TOKEN").ok()),
        }
    }
}

/// What may be done with checkpoints.
#[derive(Clone, Debug, Subcommand)]
pub enum CheckpointCommand {
    /// Lists the retained checkpoints, newest first.
    List(PlaceArgs),
    /// Takes one now, in a running service.
    Now {
        /// The service to ask.
        #[command(flatten)]
        service: ServiceUrl,
        /// Keeps it under this name until it is deleted.
        #[arg(long)]
        label: Option<String>,
    },
    /// Reads every byte of the checkpoints, wherever they are kept, and finds any that changed.
    Verify {
        /// The file, and the data directory.
        #[command(flatten)]
        settings: SettingsArgs,
        /// Only the checkpoint of this epoch.
        epoch: Option<u64>,
    },
    /// Deletes a checkpoint of a service that is not running.
    Delete {
        /// The file, and the data directory.
        #[command(flatten)]
        settings: SettingsArgs,
        /// The epoch of the checkpoint, as `list` shows it.
        epoch: u64,
    },
}

/// A running service, or the data directory of one that may be stopped.
#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// The service to ask.
    #[command(flatten)]
    pub service: ServiceUrl,
    /// Looks into this data directory instead of asking a service, or into the bucket that is set.
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub data_dir: Option<PathBuf>,
    /// Looks where this configuration file says instead of asking a service.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub config: Option<PathBuf>,
}

impl PlaceArgs {
    /// Where the settings come from, if not a service is asked.
    pub fn settings(&self) -> Option<SettingsArgs> {
        let is_asked = self.data_dir.is_none() && self.config.is_none();
        (!is_asked).then(|| SettingsArgs {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
        })
    }
}

impl SettingsArgs {
    /// The file to read: the one named, else `waterclock.toml` where `exists` finds it.
    fn file(&self, exists: impl Fn(&Path) -> bool) -> Option<&Path> {
        let default = Some(Path::new(DEFAULT_FILE)).filter(|path| exists(path));
        self.config.as_deref().or(default)
    }

    fn read(&self, env: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        let mut config = Config::read(self.file(Path::exists), env)?;
        if let Some(data_dir) = &self.data_dir {
            config.service.data_dir.clone_from(data_dir);
        }
        Ok(config)
    }

    /// The checked configuration: defaults, file, environment, flags, each over the one before.
    pub fn config(
        &self,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let config = self.read(env)?;
        config.validate()?;
        Ok(config)
    }
}

impl RunArgs {
    /// The checked configuration: defaults, file, environment, flags, each over the one before.
    pub fn config(
        &self,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let mut config = self.settings.read(env)?;
        self.lay_over(&mut config);
        config.validate()?;
        Ok(config)
    }

    fn lay_over(&self, config: &mut Config) {
        if let Some(workers) = self.workers {
            config.service.workers = workers.into();
        }
        if let Some(listen) = self.listen {
            config.http.listen = listen;
        }
        if !self.queries.is_empty() {
            config.service.queries.clone_from(&self.queries);
        }
        if self.no_demo {
            config.demo = None;
        }
        config.http.insecure |= self.insecure;
    }
}

impl ReplayArgs {
    /// Each stream's files and lateness bound; fails where a bound belongs to no stream.
    pub fn streams(&self) -> Result<BTreeMap<String, ReplayStream>, String> {
        if self.to.is_some() || self.checkpoint.is_some() || self.config.is_some() {
            return Err(
                "--to, --checkpoint and --config are about what a service read: name its \
                        directory with --data-dir, instead of --stream"
                    .to_owned(),
            );
        }
        join_streams(&self.files, &self.lateness)
    }

    /// The settings of the service whose data directory is replayed.
    pub fn settings(&self) -> SettingsArgs {
        SettingsArgs {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        let words = std::iter::once("waterclock").chain(line.split_whitespace());
        Cli::try_parse_from(words)
            .map(Cli::into_command)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_run() {
        for line in ["--workers 3 --no-demo", "run --workers 3 --no-demo"] {
            let Ok(Command::Run(run)) = parse(line) else {
                panic!("{line}")
            };
            assert_eq!((run.workers, run.no_demo), (Some(3), true), "{line}");
        }
        assert!(matches!(parse(""), Ok(Command::Run(_))));
        assert!(parse("--workers 0").is_err());
    }

    #[test]
    fn flags_lie_over_the_configuration() {
        let line = "--listen 0.0.0.0:1 --queries a,b --no-demo --insecure --workers 2";
        let Ok(Command::Run(run)) = parse(line) else {
            panic!("{line}")
        };
        let mut config = Config::default();
        run.lay_over(&mut config);
        assert_eq!(config.service.queries, ["a", "b"]);
        assert_eq!(config.service.workers, 2);
        assert_eq!(config.http.listen.port(), 1);
        assert!(config.demo.is_none());
        config.validate().unwrap();
    }

    #[test]
    fn the_file_in_the_current_directory_is_read_unless_another_is_named() {
        let unnamed = SettingsArgs::default();
        assert_eq!(unnamed.file(|_| true), Some(Path::new("waterclock.toml")));
        assert_eq!(unnamed.file(|_| false), None);
        let named = SettingsArgs {
            config: Some("other.toml".into()),
            data_dir: None,
        };
        assert_eq!(named.file(|_| true), Some(Path::new("other.toml")));
        let error = named.config([]).unwrap_err().to_string();
        assert!(error.contains("'other.toml'"), "{error}");
    }

    #[test]
    fn replay_takes_streams_and_settings() {
        let line = "replay --stream a=x --stream a=y --stream b=z --query q --output null \
                    --lateness b=2m --workers 2 --split-bytes 100";
        let Ok(Command::Replay(replay)) = parse(line) else {
            panic!("{line}")
        };
        let streams = replay.streams().unwrap();
        assert_eq!(streams["a"].paths.len(), 2);
        assert_eq!(streams["b"].lateness, Some(Duration::from_secs(120)));
        assert_eq!((replay.output, replay.split_bytes), (Output::Null, 100));
        assert!(parse("replay --query q").is_err_and(|e| e.contains("--stream")));
        assert!(parse("replay --query q --data-dir d --to 5 --checkpoint 0").is_ok());
        let Ok(Command::Replay(mixed)) = parse("replay --query q --stream a=x --to 5") else {
            panic!()
        };
        assert!(mixed.streams().is_err_and(|e| e.contains("--data-dir")));
        assert!(parse("replay --query q --stream a=x --data-dir d").is_err());
        assert!(parse("replay --stream a --query q").is_err_and(|e| e.contains("NAME=PATH")));
    }

    #[test]
    fn checkpoints_are_asked_of_a_service_or_found_in_a_directory() {
        let list = parse("checkpoint list --data-dir d");
        let Ok(Command::Checkpoint(CheckpointCommand::List(place))) = list else {
            panic!()
        };
        assert_eq!(place.data_dir, Some(PathBuf::from("d")));
        assert!(parse("checkpoint list --url http://h:1 --data-dir d").is_err());
        assert!(matches!(
            parse("checkpoint delete 17"),
            Ok(Command::Checkpoint(CheckpointCommand::Delete {
                epoch: 17,
                ..
            }))
        ));
        assert!(parse("checkpoint delete").is_err());
    }
}
