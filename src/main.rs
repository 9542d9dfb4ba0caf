//! The `waterclock` binary: the engine, the queries of this service, and the command line.

mod commands;
#[path = "../queries/mod.rs"]
mod queries;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use waterclock::cli::{self, BenchCommand, CheckpointCommand, Cli, Command};

fn main() -> ExitCode {
    let command = Cli::parse().into_command();
    match perform(command) {
        Ok(code) => code,
        Err(error) => {
            // The chain of causes, in one sentence.
            let _ = writeln!(std::io::stderr(), "waterclock: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> anyhow::Result<ExitCode> {
    let out = &mut std::io::stdout().lock();
    match command {
        Command::Run(args) => commands::run::run(&args, queries::all())?,
        Command::Replay(args) => commands::replay::replay(&args, queries::all())?,
        Command::Check(args) => return commands::check::check(&args, queries::all(), out),
        Command::Query(args) => cli::show_query(&args, out)?,
        Command::Tail(args) => commands::tail::tail(&args, out)?,
        Command::Status(service) => cli::show_status(&service, out)?,
        Command::Doctor(service) => return Ok(cli::show_doctor(&service, out)?),
        Command::Bench(BenchCommand::Nexmark(args)) => {
            commands::bench::nexmark(&args, queries::nexmark::all(), out)?;
        }
        Command::Bench(BenchCommand::Events(args)) => commands::bench::events_to_file(&args)?,
        Command::Checkpoint(CheckpointCommand::List(place)) => {
            commands::checkpoint::list(&place, out)?;
        }
        Command::Checkpoint(CheckpointCommand::Now { service, label }) => {
            cli::show_checkpoint_now(&service, label.as_deref(), out)?;
        }
        Command::Checkpoint(CheckpointCommand::Verify { settings, epoch }) => {
            return commands::checkpoint::verify(&settings, epoch, out);
        }
        Command::Checkpoint(CheckpointCommand::Delete { settings, epoch }) => {
            commands::checkpoint::delete(&settings, epoch, out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
