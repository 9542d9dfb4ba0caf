//! Segments: rows as one object, with a checksum of the whole.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use arrow_array::RecordBatch;

use super::codec::Codec;
use super::error::StateError;
use super::files::failed;
use super::manifest::SegmentInfo;
use super::objects::{Objects, SEGMENTS, Unfinished};
use crate::columns::merge::{Layer, MergeError, share_of};

/// The name of a segment's object.
pub fn object(file: &str) -> String {
    format!("{SEGMENTS}{file}")
}

/// Writes a segment in the format that the end of its name says. It is durable once it was
/// settled; after an error nothing is left of it.
pub fn write(
    objects: &dyn Objects,
    file: String,
    worker: usize,
    batch: &RecordBatch,
) -> Result<SegmentInfo, StateError> {
    let name = object(&file);
    let inner = objects.create(&name)?;
    match write_to(inner, &file, batch) {
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
            drop(objects.discard(std::slice::from_ref(&name)));
            Err(failed("write the segment", &objects.path(&name))(cause))
        }
    }
}

fn write_to(inner: Box<dyn Unfinished>, file: &str, batch: &RecordBatch) -> io::Result<(u64, u32)> {
    let sum = Summing {
        inner,
        crc: crc32fast::Hasher::new(),
        bytes: 0,
    };
    let codec = Codec::of_file(file).map_err(io::Error::other)?;
    let mut buffered = BufWriter::with_capacity(1 << 18, sum);
    codec.encoding().encode(batch, &mut buffered)?;
    let sum = buffered
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    sum.inner.finish()?;
    Ok((sum.bytes, sum.crc.finalize()))
}

/// Reads a segment whose bytes are those written: no byte is decoded before that is known.
pub fn read(objects: &dyn Objects, segment: &SegmentInfo) -> Result<Vec<RecordBatch>, StateError> {
    let name = object(&segment.file);
    let bytes = objects.load(&name)?;
    let damaged = |place: &str, detail: String| StateError::Damaged {
        path: objects.path(&name),
        place: place.to_owned(),
        detail,
    };
    let crc = crc32fast::hash(&bytes);
    if let Some(detail) = compare(segment, bytes.len() as u64, crc) {
        return Err(damaged("its checksum", detail));
    }
    let codec = Codec::of_file(&segment.file)
        .map_err(|end| damaged("its name", format!("this build has no codec '{end}'")))?;
    let decoded = codec.encoding().decode(bytes);
    decoded.map_err(|detail| damaged("its columns", detail))
}

/// Reads segments one after another, each when its rows are asked for.
pub fn layer(objects: &Arc<dyn Objects>, segments: &[SegmentInfo]) -> Layer {
    let (objects, segments) = (Arc::clone(objects), segments.to_vec());
    let batches = move |segment: SegmentInfo| {
        let (read, failed) = match read(&*objects, &segment) {
            Ok(batches) => (batches, None),
            Err(error) => (Vec::new(), Some(Err(MergeError(error.to_string())))),
        };
        read.into_iter().map(Ok).chain(failed)
    };
    Box::new(segments.into_iter().flat_map(batches))
}

/// What is wrong with a segment's bytes, if anything is.
pub fn verify(objects: &dyn Objects, segment: &SegmentInfo) -> Option<String> {
    let (mut crc, mut bytes) = (crc32fast::Hasher::new(), 0);
    let scanned = objects.scan(&object(&segment.file), &mut |piece| {
        crc.update(piece);
        bytes += piece.len() as u64;
    });
    match scanned {
        Ok(()) => compare(segment, bytes, crc.finalize()),
        Err(StateError::Io { cause, .. }) => Some(format!("it cannot be read: {cause}")),
        Err(other) => Some(format!("it cannot be read: {other}")),
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
    inner: Box<dyn Unfinished>,
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
