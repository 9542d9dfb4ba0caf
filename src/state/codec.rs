//! How rows become the bytes of a segment, and rows again.

use std::fmt;
use std::io::{self, Cursor, Write};

use arrow_array::RecordBatch;
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::ArrowError;

use super::manifest::Fingerprint;
use crate::columns::merge::BATCH_ROWS;

/// A format of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// Arrow IPC files with named columns, which any build and any Arrow tool reads.
    #[default]
    Arrow,
    /// An image of the columns' memory, which only the very build reads that wrote it.
    #[cfg(feature = "abomonation")]
    Abomonation,
}

/// What a format can do. No byte is decoded whose checksum was not compared.
pub(super) trait Encoding {
    /// Writes a batch.
    fn encode(&self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()>;

    /// The batches that were written; what is wrong with the bytes where something is.
    fn decode(&self, bytes: Vec<u8>) -> Result<Vec<RecordBatch>, String>;
}

impl Codec {
    const ALL: &[Codec] = &[
        Codec::Arrow,
        #[cfg(feature = "abomonation")]
        Codec::Abomonation,
    ];

    pub(super) fn encoding(self) -> &'static dyn Encoding {
        match self {
            Codec::Arrow => &Arrow,
            #[cfg(feature = "abomonation")]
            Codec::Abomonation => &super::image::Image,
        }
    }

    /// How the names of its files end.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Codec::Arrow => "arrow",
            #[cfg(feature = "abomonation")]
            Codec::Abomonation => "abomonation",
        }
    }

    /// The codec of a file, by the end of its name; the end where this build has no such codec.
    pub(super) fn of_file(name: &str) -> Result<Codec, &str> {
        let end = name.rsplit_once('.').map_or("", |(_, end)| end);
        let found = Codec::ALL.iter().find(|codec| codec.extension() == end);
        found.copied().ok_or(end)
    }

    /// The build that alone reads its files; `None` where every build does.
    pub(super) fn build(self) -> Option<Fingerprint> {
        match self {
            Codec::Arrow => None,
            #[cfg(feature = "abomonation")]
            Codec::Abomonation => Some(super::image::this_build()),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

struct Arrow;

impl Encoding for Arrow {
    fn encode(&self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        let mut writer = FileWriter::try_new(out, &batch.schema()).map_err(as_io)?;
        let mut at = 0;
        while at < batch.num_rows() {
            let rows = BATCH_ROWS.min(batch.num_rows() - at);
            writer.write(&batch.slice(at, rows)).map_err(as_io)?;
            at += rows;
        }
        writer.finish().map_err(as_io)
    }

    fn decode(&self, bytes: Vec<u8>) -> Result<Vec<RecordBatch>, String> {
        FileReader::try_new(Cursor::new(bytes), None)
            .and_then(Iterator::collect)
            .map_err(|cause| cause.to_string())
    }
}

fn as_io(cause: ArrowError) -> io::Error {
    match cause {
        ArrowError::IoError(_, cause) => cause,
        other => io::Error::other(other),
    }
}
