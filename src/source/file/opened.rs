//! One open file of a file source: how long it is, and whether it still is the same file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reader::FileFormat;
use super::split::{Csv, Splitter};
use crate::source::SourceError;

/// A file being read.
pub(super) struct OpenedFile {
    path: PathBuf,
    file: Arc<File>,
    tail: bool,
    pub format: FileFormat,
    /// Readable bytes: fixed at opening, or as last seen where the file is followed.
    pub len: u64,
    /// A CSV file's header, once read.
    pub header: Option<Header>,
    /// Position and length at which the last record had no end yet: no need to look again before
    /// the file grows.
    pub unfinished: Option<(u64, u64)>,
    /// How far the end of a too large record was looked for.
    pub skipping: Option<Skipping>,
}

/// The first record of a CSV file.
#[derive(Clone)]
pub(super) struct Header {
    /// The column names.
    pub names: Arc<[String]>,
    /// Where the first record of data begins.
    pub end: u64,
}

/// A search for the end of a too large record.
pub(super) struct Skipping {
    pub position: u64,
    pub splitter: Splitter,
    /// Bytes from `position` on that hold no end.
    pub scanned: u64,
}

impl OpenedFile {
    pub fn open(
        stream: &str,
        path: &Path,
        format: FileFormat,
        tail: bool,
    ) -> Result<OpenedFile, SourceError> {
        let open = || {
            let file = File::open(path)?;
            let meta = file.metadata()?;
            if !meta.is_file() {
                return Err(io::Error::other(
                    "not a regular file, so it has no positions",
                ));
            }
            Ok((file, meta.len()))
        };
        let (file, len) = open().map_err(|cause| SourceError::Io {
            stream: stream.to_string(),
            object: format!("file '{}'", path.display()),
            cause,
        })?;
        Ok(OpenedFile {
            path: path.to_path_buf(),
            file: Arc::new(file),
            tail,
            format,
            len,
            header: None,
            unfinished: None,
            skipping: None,
        })
    }

    /// A walk over records from the start of one.
    pub fn splitter(&self) -> Splitter {
        match self.format {
            FileFormat::Ndjson => Splitter::Lines,
            FileFormat::Csv => Splitter::Csv(Csv::Start),
        }
    }

    /// Notices growth, and that the file is no longer the one that was read.
    pub fn look(&mut self, stream: &str) -> Result<(), SourceError> {
        let meta = self
            .file
            .metadata()
            .map_err(|cause| self.io(stream, cause))?;
        if meta.len() < self.len {
            return Err(self.shrank(stream, meta.len()));
        }
        if !self.tail {
            return Ok(());
        }
        if meta.len() == self.len {
            // A rotation leaves the open file as it is and puts another one in its place; between
            // the two there may be none for a moment.
            let there = match fs::metadata(&self.path) {
                Ok(there) => there,
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(cause) => return Err(self.io(stream, cause)),
            };
            if (there.dev(), there.ino()) != (meta.dev(), meta.ino()) {
                let change = format!("was replaced by another file of {} bytes", there.len());
                return Err(self.replaced(stream, change));
            }
        }
        self.len = meta.len();
        Ok(())
    }

    /// Reads exactly the bytes asked for, which were there when the file was looked at.
    pub fn read(&self, stream: &str, position: u64, bytes: &mut [u8]) -> Result<(), SourceError> {
        let read = self.file.read_exact_at(bytes, position);
        read.map_err(|cause| self.refused(stream, position, cause))
    }

    /// What it means that the bytes at `position` could not be read.
    pub fn refused(&self, stream: &str, position: u64, cause: io::Error) -> SourceError {
        if cause.kind() == io::ErrorKind::UnexpectedEof {
            let now = self.file.metadata().map_or(position, |meta| meta.len());
            return self.shrank(stream, now);
        }
        self.io(stream, cause)
    }

    /// The file for others to read.
    pub fn shared(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// The file's name without its directory.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The file as error messages name it.
    pub fn object(&self) -> String {
        format!("file '{}'", self.path.display())
    }

    fn io(&self, stream: &str, cause: io::Error) -> SourceError {
        SourceError::Io {
            stream: stream.to_string(),
            object: self.object(),
            cause,
        }
    }

    fn shrank(&self, stream: &str, now: u64) -> SourceError {
        self.replaced(stream, format!("shrank from {} to {now} bytes", self.len))
    }

    fn replaced(&self, stream: &str, change: String) -> SourceError {
        SourceError::Replaced {
            stream: stream.to_string(),
            object: self.object(),
            change,
        }
    }
}
