//! The embedded durable log behind posts: what it is made of, its options and its errors.
//!
//! Each stream is a directory of segment files, `<stream>/<first position, 20 digits>.log`; a
//! segment is a header and frames, one frame per post (`frame`). One appender thread writes all
//! streams, many posts per fsync (`appender`, `stream`); readers see only what is fsynced
//! (`reader`). It does not decode records: a verdict per line comes from the stream's [`Judge`].

mod appender;
mod cursor;
mod disk;
mod embedded;
mod frame;
mod inspect;
mod keys;
mod queue;
mod reader;
mod recover;
mod retain;
mod scan;
mod segment;
mod stream;
#[cfg(test)]
mod tests;
mod visible;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use embedded::EmbeddedLog;
pub use inspect::inspect;
pub use reader::LogSource;

use crate::time::{Timestamp, hours};

/// Decides whether one line, without its line break, is a record of its stream, given when it
/// arrived; the error is the reason. It must be deterministic: the dataflow asks it again with the
/// recorded arrival.
pub type Judge = Arc<dyn Fn(&[u8], Timestamp) -> Result<(), String> + Send + Sync>;

/// A stream that takes posts.
#[derive(Clone)]
pub struct StreamDef {
    /// Its name, made of `a-z`, `0-9`, `_` and `-`; also its directory.
    pub name: String,
    /// Gives the verdict on each posted line.
    pub judge: Judge,
}

/// What bounds the log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Size at which a segment is closed and the next one begun.
    pub segment_bytes: u64,
    /// How long records are kept although no checkpoint needs them any more.
    pub retain: Duration,
    /// How long an idempotency key is remembered at least.
    pub keep_keys_for: Duration,
    /// How many of the newest keys of a stream are remembered however old they are.
    pub min_keys: usize,
    /// How many keys of a stream may be remembered, at about 100 bytes of memory each; beyond it
    /// posts with a new key are refused.
    pub max_keys: usize,
    /// How many posts may wait, over all streams.
    pub queue_posts: usize,
    /// How many bytes the waiting posts may have, over all streams.
    pub queue_bytes: usize,
    /// With which position a stream begins that is not there: what came before is lost.
    pub begins: BTreeMap<String, u64>,
    /// Streams that take no posts, and what they are read from: a post to one is told so.
    pub elsewhere: BTreeMap<String, String>,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            segment_bytes: 64 << 20,
            retain: hours(24),
            keep_keys_for: hours(24),
            min_keys: 100_000,
            max_keys: 10_000_000,
            queue_posts: 65_536,
            queue_bytes: 64 << 20,
            begins: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
        }
    }
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The name cannot be a directory.
    #[error("stream name '{0}' is refused: use 1 to 100 of the characters a-z, 0-9, '_' and '-'")]
    Name(String),
    /// Two streams of one name.
    #[error("stream '{0}' is defined twice; remove one of the two")]
    Twice(String),
    /// Another process writes the stream.
    #[error(
        "log directory '{0}' is in use by another process; stop it or choose another directory"
    )]
    InUse(PathBuf),
    /// The operating system refused.
    #[error("cannot {action} '{path}': {cause}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Acknowledged bytes are not what was written.
    #[error(
        "log segment '{file}' is damaged at byte {offset}: {detail}; restore it from a copy, or \
         move the stream's directory away to start the stream empty"
    )]
    Damaged {
        /// The segment file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        detail: String,
    },
}

impl LogError {
    fn io(action: &'static str, path: &std::path::Path, cause: io::Error) -> LogError {
        LogError::Io {
            action,
            path: path.to_path_buf(),
            cause,
        }
    }
}
