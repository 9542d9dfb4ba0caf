//! `waterclock tail`: follows a query until Ctrl-C.

use std::io::Write;

use anyhow::Context;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use waterclock::cli::{self, Stop, TailArgs};

/// Runs until the terminal says so.
pub fn tail(args: &TailArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("watching for Ctrl-C")?;
    // Before anything is shown: who sees it may press Ctrl-C.
    let (mut interrupt, mut end) = runtime.block_on(async {
        let interrupt = signal(SignalKind::interrupt())?;
        anyhow::Ok((interrupt, signal(SignalKind::terminate())?))
    })?;
    let mut watch = move |stop: Stop| {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = end.recv() => {}
            }
        });
        stop.now();
    };
    let mut watching = Ok(());
    let on_stop = |stop| {
        let thread = std::thread::Builder::new().name("signals".to_owned());
        watching = thread.spawn(move || watch(stop)).map(drop);
    };
    cli::tail(args, out, &mut std::io::stderr(), on_stop)?;
    watching.context("watching for Ctrl-C")
}
