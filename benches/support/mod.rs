//! What benchmarks of a live service share.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use waterclock::view::{CheckpointInfo, Checkpoints};
use waterclock::worker::live::Live;

/// Writes a line.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A number that the environment may say.
pub fn number(name: &str, default: u64) -> u64 {
    let said = std::env::var(name).ok();
    said.map_or(default, |said| said.parse().expect("a number"))
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Lets time pass.
pub fn wait(lasts: Duration) {
    let (_keep, never) = channel::<()>();
    assert_eq!(never.recv_timeout(lasts), Err(RecvTimeoutError::Timeout));
}

/// Takes a checkpoint and waits until it is written.
pub fn checkpoint(live: &Live) -> CheckpointInfo {
    let (tell, told) = channel();
    live.take(None, Box::new(move |taken| drop(tell.send(taken))));
    let taken = told.recv().expect("the service runs");
    taken.expect("it is written")
}
