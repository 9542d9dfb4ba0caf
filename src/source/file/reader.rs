//! Reads files by byte offset, a bounded chunk of whole records at a time.
//!
//! Chunks end where a record ends. A last line without a line break is a record, unless the file
//! is followed: then it waits for its line break. A CSV header and a byte order mark are no
//! records: a read of the file's start gives a chunk that starts behind them.
//!
//! A record larger than `max_record` is not held in memory: its first bytes are given as one
//! record, spoiled at the end so that no decoder takes the part for the whole, and the position
//! goes on behind all of it. So it is rejected and readable like any other bad record.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memchr::memrchr;

use super::lent::Buffers;
use super::opened::{Header, OpenedFile, Skipping};
use super::split::{Csv, Splitter};
use crate::record::{Chunk, Format, Positions, Span, Unread};
use crate::source::{Partition, Source, SourceError};

const BLOCK: usize = 1 << 20;
/// How much is read to find where the last line ends, in bytes.
const TAIL: usize = 4 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How a file divides into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values under a header line.
    Csv,
}

impl FileFormat {
    /// What a file's name says: `.csv` is CSV, everything else NDJSON.
    pub fn of(path: &Path) -> FileFormat {
        match path.extension() {
            Some(extension) if extension.eq_ignore_ascii_case("csv") => FileFormat::Csv,
            _ => FileFormat::Ndjson,
        }
    }
}

/// How files are read.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// The format of all files; where absent each file's name decides.
    pub format: Option<FileFormat>,
    /// Whether to wait at the end for more.
    pub tail: bool,
    /// The largest record read whole, in bytes without its line break.
    pub max_record: usize,
}

impl Default for FileOptions {
    fn default() -> Self {
        FileOptions {
            format: None,
            tail: false,
            max_record: 16 << 20,
        }
    }
}

/// One or several files as the partitions of a stream, in the order given.
pub struct FileSource {
    stream: String,
    files: Vec<OpenedFile>,
    options: FileOptions,
    buffer: Vec<u8>,
    buffers: Buffers,
    /// Where those who read lines themselves say what went wrong, if they are to.
    unread: Option<Refusal>,
}

/// The first read by others that went wrong: the file, the position, the cause.
type Refusal = Arc<Mutex<Option<(usize, u64, io::Error)>>>;

impl FileSource {
    /// Opens the files. Not followed ones end where they end now, whatever is appended later.
    pub fn open(
        stream: &str,
        paths: &[PathBuf],
        options: FileOptions,
    ) -> Result<FileSource, SourceError> {
        let open = |path: &PathBuf| {
            let format = options.format.unwrap_or_else(|| FileFormat::of(path));
            OpenedFile::open(stream, path, format, options.tail)
        };
        let files = paths.iter().map(open).collect::<Result<_, _>>()?;
        Ok(FileSource {
            stream: stream.to_string(),
            files,
            options,
            buffer: Vec::new(),
            buffers: Buffers::default(),
            unread: None,
        })
    }

    /// Reads the header of a CSV file; `None` while a followed file has none yet.
    fn header(&mut self, file: usize) -> Result<Option<Header>, SourceError> {
        if let Some(header) = &self.files[file].header {
            return Ok(Some(header.clone()));
        }
        let len = self.files[file].len;
        let want = usize::try_from(len).unwrap_or(usize::MAX).min(BLOCK);
        self.fill(file, 0, 0, want)?;
        let bytes = &self.buffer[..want];
        let mut splitter = self.files[file].splitter();
        let mut end = 0;
        // Empty lines before the header are no header.
        let found = loop {
            let Some(more) = splitter.first_end(&bytes[end..]) else {
                break match (want as u64 == len, self.options.tail) {
                    (true, true) => return Ok(None),
                    (true, false) => {
                        end = want;
                        names_in(bytes).map(Option::unwrap_or_default)
                    }
                    (false, _) => Err(format!("it has no header within {BLOCK} bytes")),
                };
            };
            end += more;
            match names_in(&bytes[..end]) {
                Ok(None) => {}
                Ok(Some(names)) => break Ok(names),
                Err(detail) => break Err(detail),
            }
        };
        let names = found.map_err(|detail| SourceError::Damaged {
            stream: self.stream.clone(),
            object: self.files[file].object(),
            detail,
        })?;
        let header = Header {
            names,
            end: end as u64,
        };
        self.files[file].header = Some(header.clone());
        Ok(Some(header))
    }

    /// Reads `len` bytes at `position` to `at` in the buffer.
    fn fill(
        &mut self,
        file: usize,
        position: u64,
        at: usize,
        len: usize,
    ) -> Result<(), SourceError> {
        if self.buffer.len() < at + len {
            self.buffer.resize(at + len, 0);
        }
        self.files[file].read(&self.stream, position, &mut self.buffer[at..at + len])
    }

    /// How many bytes from `position` on are whole records, and whether they are in the buffer.
    /// Records that begin at or after `position + want` are not counted.
    fn whole_records(
        &mut self,
        file: usize,
        position: u64,
        want: usize,
    ) -> Result<Whole, SourceError> {
        let left = self.files[file].len - position;
        let at_end = |have: usize| have as u64 == left;
        let mut splitter = self.files[file].splitter();
        self.fill(file, position, 0, want)?;
        let end = splitter.last_end(&self.buffer[..want]);
        if at_end(want) && !self.options.tail {
            return Ok(Whole::Buffered(want));
        }
        if let Some(end) = end {
            return Ok(Whole::Buffered(end));
        }
        let most = self.options.max_record.saturating_add(1);
        let mut have = want;
        while have < most && !at_end(have) {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(most) - have;
            let more = have.max(BLOCK).min(room);
            self.fill(file, position + have as u64, have, more)?;
            if let Some(end) = splitter.first_end(&self.buffer[have..have + more]) {
                return Ok(Whole::Buffered(have + end));
            }
            have += more;
        }
        match (at_end(have), self.options.tail) {
            (true, true) => Ok(Whole::Unfinished),
            (true, false) => Ok(Whole::Buffered(have)),
            (false, _) => self.skip(file, position, splitter, have as u64),
        }
    }

    /// The bytes of whole records from `position` on, read or not, and where they end; `None` while
    /// there are none. In the place of a too large record stands a part of it.
    fn records(
        &mut self,
        file: usize,
        position: u64,
        want: usize,
        columns: usize,
    ) -> Result<Option<(u64, Bytes, Option<Unread>)>, SourceError> {
        if let Some(unread) = self.unread_lines(file, position, want)? {
            let end = position + unread.size() as u64;
            return Ok(Some((end, Bytes::new(), Some(unread))));
        }
        Ok(match self.whole_records(file, position, want)? {
            Whole::Buffered(len) => {
                let bytes = self.buffers.lend(&mut self.buffer, len);
                Some((position + len as u64, bytes, None))
            }
            Whole::TooLarge(len) => {
                let bytes = self.spoiled(file, position, columns)?;
                Some((position + len, Bytes::from(bytes), None))
            }
            Whole::Unfinished => None,
        })
    }

    /// Lines for others to read: as many as end in the `want` bytes from `position` on. `None`
    /// where that is not found from behind.
    fn unread_lines(
        &mut self,
        file: usize,
        position: u64,
        want: usize,
    ) -> Result<Option<Unread>, SourceError> {
        let Some(refusal) = self.unread.clone() else {
            return Ok(None);
        };
        if self.files[file].format == FileFormat::Csv {
            return Ok(None);
        }
        let mut len = want;
        if want as u64 != self.files[file].len - position {
            let mut begin = want;
            len = loop {
                let end = begin;
                begin = end.saturating_sub(TAIL);
                self.fill(file, position + begin as u64, 0, end - begin)?;
                match memrchr(b'\n', &self.buffer[..end - begin]) {
                    Some(at) => break begin + at + 1,
                    None if begin == 0 => return Ok(None),
                    None => {}
                }
            };
        }
        let (opened, buffers) = (self.files[file].shared(), self.buffers.clone());
        Ok(Some(Unread::new(len, move || {
            buffers
                .read(&opened, position, len)
                .unwrap_or_else(|cause| {
                    let mut refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner);
                    refusal.get_or_insert((file, position, cause));
                    Bytes::new()
                })
        })))
    }

    /// Looks for the end of a record of which `scanned` bytes are known and none is its end.
    fn skip(
        &mut self,
        file: usize,
        position: u64,
        mut splitter: Splitter,
        mut scanned: u64,
    ) -> Result<Whole, SourceError> {
        // A followed file may grow for long until the record ends; what was scanned stays scanned.
        if let Some(at) = self.files[file]
            .skipping
            .take()
            .filter(|at| at.position == position)
        {
            (splitter, scanned) = (at.splitter, at.scanned);
        }
        let left = self.files[file].len - position;
        while scanned < left {
            let len = usize::try_from(left - scanned)
                .unwrap_or(usize::MAX)
                .min(BLOCK);
            self.fill(file, position + scanned, 0, len)?;
            if let Some(end) = splitter.first_end(&self.buffer[..len]) {
                return Ok(Whole::TooLarge(scanned + end as u64));
            }
            scanned += len as u64;
        }
        if self.options.tail {
            self.files[file].skipping = Some(Skipping {
                position,
                splitter,
                scanned,
            });
            return Ok(Whole::Unfinished);
        }
        Ok(Whole::TooLarge(left))
    }

    /// The part of a too large record that is given in its place.
    fn spoiled(
        &mut self,
        file: usize,
        position: u64,
        columns: usize,
    ) -> Result<Vec<u8>, SourceError> {
        let csv = self.files[file].format == FileFormat::Csv;
        // More fields than the header has, and a byte that no text may hold.
        let tail_len = if csv { columns + 2 } else { 1 };
        let len = self.options.max_record.saturating_sub(tail_len);
        self.fill(file, position, 0, len)?;
        let mut bytes = self.buffer[..len].to_vec();
        if csv {
            let mut splitter = Splitter::Csv(Csv::Start);
            splitter.first_end(&bytes);
            if matches!(splitter, Splitter::Csv(Csv::Quoted)) {
                bytes.push(b'"');
            }
            bytes.resize(bytes.len() + columns, b',');
        }
        bytes.push(0xFF);
        Ok(bytes)
    }
}

/// What was found from a position on.
enum Whole {
    /// This many bytes of the buffer are whole records.
    Buffered(usize),
    /// One record of this many bytes, too large to be buffered.
    TooLarge(u64),
    /// The beginning of a record whose end is not written yet.
    Unfinished,
}

/// The column names in the first record of some bytes; `None` where there is no record.
fn names_in(bytes: &[u8]) -> Result<Option<Arc<[String]>>, String> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let mut builder = csv::ReaderBuilder::new();
    let reader = builder.has_headers(false).flexible(true).from_reader(bytes);
    let mut records = reader.into_records();
    let Some(first) = records.next() else {
        return Ok(None);
    };
    let first = first.map_err(|cause| format!("its header cannot be read: {cause}"))?;
    if records.next().is_some() {
        return Err("its lines end with carriage returns alone; convert them to line feeds".into());
    }
    Ok(Some(first.iter().map(str::to_string).collect()))
}

impl Source for FileSource {
    fn stream(&self) -> &str {
        &self.stream
    }

    fn partitions(&mut self) -> Result<Vec<Partition>, SourceError> {
        if let Some(refusal) = &self.unread {
            let refused = refusal
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some((file, position, cause)) = refused {
                return Err(self.files[file].refused(&self.stream, position, cause));
            }
        }
        let mut partitions = Vec::with_capacity(self.files.len());
        for (file, id) in self.files.iter_mut().zip(0..) {
            file.look(&self.stream)?;
            partitions.push(Partition::new(id, 0, file.len));
        }
        Ok(partitions)
    }

    fn read(
        &mut self,
        partition: u32,
        position: u64,
        max_bytes: usize,
        until: Option<u64>,
    ) -> Result<Option<Chunk>, SourceError> {
        let stream = self.stream.clone();
        let gone = |end| SourceError::Gone {
            stream,
            partition,
            position,
            first: 0,
            end,
        };
        let file = partition as usize;
        let Some(opened) = self.files.get_mut(file) else {
            return Err(gone(0));
        };
        opened.look(&self.stream)?;
        let len = opened.len;
        if position > len {
            return Err(gone(len));
        }
        if opened.unfinished == Some((position, len)) {
            return Ok(None);
        }
        let (mut start, mut format) = (position, Format::Json);
        let mut columns = 0;
        if opened.format == FileFormat::Csv {
            let Some(header) = self.header(file)? else {
                return Ok(None);
            };
            start = start.max(header.end);
            columns = header.names.len();
            format = Format::Csv {
                header: header.names,
            };
        } else if position == 0 && len >= 3 {
            self.fill(file, 0, 0, 3)?;
            start = if self.buffer.starts_with(BYTE_ORDER_MARK) {
                3
            } else {
                0
            };
        }
        let stop = until.map_or(len, |until| until.min(len));
        if start >= stop {
            return Ok(None);
        }
        let left = usize::try_from(stop - start).unwrap_or(usize::MAX);
        let want = left.min(max_bytes.max(1));
        let Some((end, bytes, unread)) = self.records(file, start, want, columns)? else {
            self.files[file].unfinished = Some((position, len));
            return Ok(None);
        };
        let spans = vec![Span {
            first: start,
            offset: 0,
            len: unread.as_ref().map_or(bytes.len(), Unread::size),
            arrival: None,
        }];
        let positions = Positions::Bytes;
        Ok(Some(Chunk {
            partition,
            start,
            end,
            format,
            positions,
            bytes,
            unread,
            spans,
            lost: 0,
        }))
    }

    /// Those of files that grow are read here: whether a line has its end yet must be known.
    fn leave_unread(&mut self) {
        if !self.options.tail {
            self.unread = Some(Refusal::default());
        }
    }

    /// The file's name without its directory: the data may be moved as a whole.
    fn origin(&self, partition: u32) -> String {
        let file = self.files.get(partition as usize);
        file.map_or_else(String::new, |file| format!("file {}", file.name()))
    }

    fn is_bounded(&self) -> bool {
        !self.options.tail
    }
}
