//! The log as it is: read without an appender, and without a byte of it being changed.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::queue::Queue;
use super::reader::LogSource;
use super::recover::recover;
use super::visible::Visible;
use super::{LogError, LogOptions};

/// The acknowledged records of a stream below `dir`. Nothing is repaired, made or removed, so that
/// it may be a copy, or that of a service which runs; none of its records may go meanwhile. A
/// stream that is not there has no records.
pub fn inspect(dir: &Path, stream: &str) -> Result<LogSource, LogError> {
    let (options, stream_dir) = (LogOptions::default(), dir.join(stream));
    let segments = if stream_dir.is_dir() {
        recover(&stream_dir, &LeaveBe, &options)?.segments
    } else {
        VecDeque::new()
    };
    let queue = Arc::new(Queue::new(&options));
    Ok(LogSource::new(Visible::new(stream, segments), queue, 0))
}

/// Changes nothing, and says that it did.
struct LeaveBe;

impl Disk for LeaveBe {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn open(&self, _path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(LeaveBe))
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for LeaveBe {
    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }
}
