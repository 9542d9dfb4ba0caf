//! Segments: rows as an Arrow IPC file, with a checksum of the whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Cursor, Read, Write};
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::ArrowError;

use super::error::StateError;
use super::files::failed;
use super::manifest::SegmentInfo;
use crate::columns::merge::{BATCH_ROWS, Layer, MergeError, share_of};

/// Writes a segment durably (its directory entry is not: that is synced once per checkpoint). The
/// file must not be there; it is gone again after an error.
pub fn write(
    dir: &Path,
    file: String,
    worker: usize,
    batch: &RecordBatch,
) -> Result<SegmentInfo, StateError> {
    let path = dir.join(&file);
    match write_file(&path, batch) {
        Ok((bytes, crc32)) => Ok(SegmentInfo {
            file,
            bytes,
            crc32,
            rows: batch.num_rows() as u64,
            worker,
            layer: 0,
            share: share_of(batch).map(|share| share.to_string()),
        }),
        Err(cause) => {
            // Whatever stays behind is collected later: no manifest names it.
            drop(fs::remove_file(&path));
            Err(failed("write the segment", &path)(cause))
        }
    }
}

fn write_file(path: &Path, batch: &RecordBatch) -> io::Result<(u64, u32)> {
    let sum = Summing {
        inner: File::create_new(path)?,
        crc: crc32fast::Hasher::new(),
        bytes: 0,
    };
    let mut writer = FileWriter::try_new(BufWriter::with_capacity(1 << 18, sum), &batch.schema())
        .map_err(as_io)?;
    let mut at = 0;
    while at < batch.num_rows() {
        let rows = BATCH_ROWS.min(batch.num_rows() - at);
        writer.write(&batch.slice(at, rows)).map_err(as_io)?;
        at += rows;
    }
    let buffered = writer.into_inner().map_err(as_io)?;
    let sum = buffered
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    sum.inner.sync_all()?;
    Ok((sum.bytes, sum.crc.finalize()))
}

fn as_io(cause: ArrowError) -> io::Error {
    match cause {
        ArrowError::IoError(_, cause) => cause,
        other => io::Error::other(other),
    }
}

/// Reads a segment whose bytes are those written: no byte is decoded before that is known.
pub fn read(dir: &Path, segment: &SegmentInfo) -> Result<Vec<RecordBatch>, StateError> {
    let path = dir.join(&segment.file);
    let bytes = fs::read(&path).map_err(failed("read the segment", &path))?;
    let damaged = |place: &str, detail: String| StateError::Damaged {
        path: path.clone(),
        place: place.to_owned(),
        detail,
    };
    let crc = crc32fast::hash(&bytes);
    if let Some(detail) = compare(segment, bytes.len() as u64, crc) {
        return Err(damaged("its checksum", detail));
    }
    FileReader::try_new(Cursor::new(bytes), None)
        .and_then(Iterator::collect)
        .map_err(|cause| damaged("its columns", cause.to_string()))
}

/// Reads segments one after another, each when its rows are asked for.
pub fn layer(dir: &Path, segments: &[SegmentInfo]) -> Layer {
    let (dir, segments) = (dir.to_owned(), segments.to_vec());
    let batches = move |segment: SegmentInfo| {
        let (read, failed) = match read(&dir, &segment) {
            Ok(batches) => (batches, None),
            Err(error) => (Vec::new(), Some(Err(MergeError(error.to_string())))),
        };
        read.into_iter().map(Ok).chain(failed)
    };
    Box::new(segments.into_iter().flat_map(batches))
}

/// What is wrong with a segment's bytes, if anything is.
pub fn verify(dir: &Path, segment: &SegmentInfo) -> Option<String> {
    let sum = || -> io::Result<(u64, u32)> {
        let mut file = File::open(dir.join(&segment.file))?;
        let mut crc = crc32fast::Hasher::new();
        let mut buffer = vec![0; 1 << 18];
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok((bytes, crc.finalize())),
                n => {
                    crc.update(&buffer[..n]);
                    bytes += n as u64;
                }
            }
        }
    };
    match sum() {
        Ok((bytes, crc)) => compare(segment, bytes, crc),
        Err(cause) => Some(format!("it cannot be read: {cause}")),
    }
}

fn compare(segment: &SegmentInfo, bytes: u64, crc: u32) -> Option<String> {
    if bytes != segment.bytes {
        return Some(format!(
            "it has {bytes} bytes and should have {}",
            segment.bytes
        ));
    }
    (crc != segment.crc32).then(|| "its bytes do not match their checksum".to_owned())
}

/// Sums up what passes through.
struct Summing {
    inner: File,
    crc: crc32fast::Hasher,
    bytes: u64,
}

impl Write for Summing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.crc.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
