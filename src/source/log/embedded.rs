//! The log as a whole: opens every stream, starts the appender, and takes posts for `http`.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::disk::{Disk, OsDisk};
use super::queue::{Post, Queue, Refused};
use super::reader::LogSource;
use super::recover::recover;
use super::stream::StreamLog;
use super::visible::Visible;
use super::{LogError, LogOptions, StreamDef, appender};
use crate::source::Clock;
use crate::view::{Ingest, IngestError, PostReply, PostRequest};

/// The embedded log of all streams that are posted to.
///
/// Dropping it writes what is queued, answers it, and ends the appender thread.
pub struct EmbeddedLog {
    streams: BTreeMap<String, (usize, Arc<Visible>)>,
    elsewhere: BTreeMap<String, String>,
    queue: Arc<Queue>,
    appender: Mutex<Option<JoinHandle<()>>>,
    /// Held, and with them the streams, as long as the log is open.
    _locks: Vec<File>,
}

impl EmbeddedLog {
    /// Opens the streams below `dir`, making what is not there yet, and repairs what a crash left
    /// unfinished. Reads every byte once, so it takes as long as the disk does.
    pub fn open(
        dir: &Path,
        streams: &[StreamDef],
        options: LogOptions,
        clock: Clock,
    ) -> Result<Arc<EmbeddedLog>, LogError> {
        Self::open_on(Arc::new(OsDisk), dir, streams, options, clock)
    }

    /// Opens with other file operations: the seam for tests.
    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        streams: &[StreamDef],
        options: LogOptions,
        clock: Clock,
    ) -> Result<Arc<EmbeddedLog>, LogError> {
        let options = Arc::new(options);
        let (mut by_name, mut writers) = (BTreeMap::new(), Vec::new());
        let mut locks = Vec::new();
        for (number, def) in streams.iter().enumerate() {
            check_name(&def.name)?;
            if by_name.contains_key(&def.name) {
                return Err(LogError::Twice(def.name.clone()));
            }
            let stream_dir = dir.join(&def.name);
            fs::create_dir_all(&stream_dir)
                .map_err(|cause| LogError::io("make the directory", &stream_dir, cause))?;
            locks.push(lock(&stream_dir)?);
            let begin = options.begins.get(&def.name).copied().unwrap_or(0);
            let found = recover(&stream_dir, &*disk, &options)?;
            let found = found.beginning_with(begin, &stream_dir, &*disk)?;
            let visible = Visible::new(&def.name, found.segments);
            if by_name
                .insert(def.name.clone(), (number, Arc::clone(&visible)))
                .is_some()
            {
                return Err(LogError::Twice(def.name.clone()));
            }
            writers.push(StreamLog {
                dir: stream_dir,
                judge: Arc::clone(&def.judge),
                disk: Arc::clone(&disk),
                options: Arc::clone(&options),
                visible,
                active: found.active,
                arrival: found.arrival,
                keys: found.keys,
                group: super::stream::Group::default(),
            });
        }
        if !streams.is_empty() {
            disk.sync_dir(dir)
                .map_err(|cause| LogError::io("fsync", dir, cause))?;
        }
        let queue = Arc::new(Queue::new(&options));
        let appender = thread::Builder::new()
            .name("log-appender".to_string())
            .spawn({
                let queue = Arc::clone(&queue);
                move || appender::run(queue, writers, clock)
            })
            .map_err(|cause| LogError::io("start the appender of", dir, cause))?;
        Ok(Arc::new(EmbeddedLog {
            streams: by_name,
            elsewhere: options.elsewhere.clone(),
            queue,
            appender: Mutex::new(Some(appender)),
            _locks: locks,
        }))
    }

    /// A reader of a stream's acknowledged records; `None` for a stream the log does not hold.
    pub fn source(&self, stream: &str) -> Option<LogSource> {
        let (number, visible) = self.streams.get(stream)?;
        Some(LogSource::new(
            Arc::clone(visible),
            Arc::clone(&self.queue),
            *number,
        ))
    }

    /// Takes no more posts, writes and answers those queued, and returns when that is done.
    /// Reading goes on.
    pub fn stop(&self) {
        self.queue.stop();
        let appender = self
            .appender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // The last holder may be a reply that the appender itself just dropped.
        if let Some(appender) = appender.filter(|a| a.thread().id() != thread::current().id())
            && appender.join().is_err()
        {
            tracing::error!("the log's appender thread had panicked");
        }
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Ingest for EmbeddedLog {
    fn accepts(&self, stream: &str) -> Result<(), IngestError> {
        if self.streams.contains_key(stream) {
            return if self.queue.is_stopping() {
                Err(IngestError::Stopping)
            } else {
                Ok(())
            };
        }
        Err(match self.elsewhere.get(stream) {
            Some(origin) => IngestError::NotPostable(stream.to_string(), origin.clone()),
            None => IngestError::UnknownStream(stream.to_string()),
        })
    }

    fn post(&self, stream: &str, request: PostRequest, reply: PostReply) {
        let Some((number, _)) = self.streams.get(stream) else {
            let error = self.accepts(stream).err();
            return reply(Err(error.unwrap_or(IngestError::Stopping)));
        };
        if crate::memory::is_exhausted() {
            return reply(Err(IngestError::Memory(stream.to_string())));
        }
        match self.queue.push(Post {
            stream: *number,
            request,
            reply,
        }) {
            Ok(()) => {}
            Err(Refused::Full(reply)) => reply(Err(IngestError::Overloaded(stream.to_string()))),
            Err(Refused::Stopping(reply)) => reply(Err(IngestError::Stopping)),
        }
    }

    fn end(&self, stream: &str) -> Option<u64> {
        self.streams
            .get(stream)
            .map(|(_, visible)| visible.range().1)
    }
}

fn check_name(name: &str) -> Result<(), LogError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if (1..=100).contains(&name.len()) && name.bytes().all(plain) {
        Ok(())
    } else {
        Err(LogError::Name(name.to_string()))
    }
}

/// Keeps a second process away: two appenders would write over each other.
fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(|cause| LogError::io("create", &path, cause))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse(dir.to_path_buf())),
        // Some network file systems know no locks; there the processes are configured apart.
        Err(TryLockError::Error(cause)) if cause.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(cause)) => Err(LogError::io("lock", &path, cause)),
    }
}
