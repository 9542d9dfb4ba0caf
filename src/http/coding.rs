//! Compression of answers, and the opposite for what is posted.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::accept::Coding;

/// A shorter answer costs more to compress than it saves.
pub(super) const WORTHWHILE: u64 = 1 << 10;

/// Levels that keep up with a fast network.
const GZIP_LEVEL: u32 = 4;
const ZSTD_LEVEL: i32 = 1;

/// Compresses an answer piece by piece.
#[derive(Default)]
pub(super) enum Coder {
    /// Passes on what it is given, or has ended.
    #[default]
    Plain,
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl Coder {
    pub(super) fn new(coding: Coding) -> io::Result<Coder> {
        Ok(match coding {
            Coding::Identity => Coder::Plain,
            Coding::Gzip => Coder::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
            Coding::Zstd => Coder::Zstd(ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?),
        })
    }

    /// Takes bytes; gives what is ready of them, which may be nothing yet.
    pub(super) fn code(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(match self {
            Coder::Plain => bytes,
            Coder::Gzip(coder) => {
                coder.write_all(&bytes)?;
                std::mem::take(coder.get_mut())
            }
            Coder::Zstd(coder) => {
                coder.write_all(&bytes)?;
                std::mem::take(coder.get_mut())
            }
        })
    }

    /// Gives the rest, once.
    pub(super) fn end(&mut self) -> io::Result<Option<Vec<u8>>> {
        match std::mem::take(self) {
            Coder::Plain => Ok(None),
            Coder::Gzip(coder) => coder.finish().map(Some),
            Coder::Zstd(coder) => coder.finish().map(Some),
        }
    }
}

/// Compresses bytes at once.
pub(super) fn coded(coding: Coding, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut coder = Coder::new(coding)?;
    let mut coded = coder.code(bytes)?;
    coded.append(&mut coder.end()?.unwrap_or_default());
    Ok(coded)
}

/// What was compressed.
#[cfg(test)]
pub(super) fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut plain = Vec::new();
    match coding {
        Coding::Identity => plain.extend_from_slice(bytes),
        Coding::Gzip => {
            let mut decoder = flate2::read::MultiGzDecoder::new(bytes);
            decoder.read_to_end(&mut plain).unwrap();
        }
        Coding::Zstd => plain = zstd::decode_all(bytes).unwrap(),
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_coded_at_once_can_be_decoded() {
        let bytes = b"water ".repeat(1000);
        for coding in [Coding::Identity, Coding::Gzip, Coding::Zstd] {
            let coded = coded(coding, bytes.clone()).unwrap();
            assert!(coded.len() < bytes.len() || coding == Coding::Identity);
            assert_eq!(decoded(coding, &coded), bytes);
        }
    }
}
