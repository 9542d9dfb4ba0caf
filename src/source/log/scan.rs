//! Reads frames out of a segment file, a bounded block at a time, checking every checksum once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::frame::{Frame, HEADER_LEN, Header, MARKER};

const BLOCK: usize = 512 << 10;

/// What stands at an offset.
pub(super) enum Found<'a> {
    /// The end of what may be read.
    End,
    /// A whole frame.
    Frame(Frame<'a>),
    /// No frame, and why.
    Bad(&'static str),
}

/// A segment file and the block of it read last.
pub(super) struct Frames {
    file: File,
    /// Nothing at or after it is read.
    limit: u64,
    base: u64,
    block: Vec<u8>,
    /// Offset of the frame whose body was checked last.
    checked: Option<u64>,
}

impl Frames {
    pub fn open(path: &Path, limit: u64) -> io::Result<Frames> {
        Ok(Frames {
            file: File::open(path)?,
            limit,
            base: 0,
            block: Vec::new(),
            checked: None,
        })
    }

    /// Allows reading further, where the file has grown.
    pub fn extend_to(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// The frame at an offset; loads no more than a block, or the frame where it is larger.
    pub fn at(&mut self, offset: u64) -> io::Result<Found<'_>> {
        if offset >= self.limit {
            return Ok(Found::End);
        }
        let header = match Header::parse(self.load(offset, HEADER_LEN)?) {
            Ok(header) => header,
            Err(reason) => return Ok(Found::Bad(reason)),
        };
        let checked = self.checked == Some(offset);
        self.checked = None;
        let bytes = self.load(offset, header.frame_len())?;
        // The borrow of the block must not keep `checked` from being set, so it is asked twice.
        if let Err(reason) = Frame::parse(header, bytes, checked) {
            return Ok(Found::Bad(reason));
        }
        self.checked = Some(offset);
        let bytes = self.loaded(offset);
        Ok(match Frame::parse(header, bytes, true) {
            Ok(frame) => Found::Frame(frame),
            Err(reason) => Found::Bad(reason),
        })
    }

    /// Whether a frame after `offset` says that the bytes at `offset` were durable when it was
    /// written: then what is wrong there is damage, and not a write that never finished.
    pub fn was_durable(&mut self, offset: u64) -> io::Result<bool> {
        let mut at = offset;
        while at < self.limit {
            let bytes = self.load(at, BLOCK)?;
            let found = memchr::memmem::find_iter(bytes, &MARKER)
                .filter_map(|start| Header::parse(&bytes[start..]).ok())
                .any(|header| header.synced > offset);
            if found {
                return Ok(true);
            }
            if bytes.len() < BLOCK {
                break;
            }
            // A header may lie across the end of the block.
            at += (bytes.len() - HEADER_LEN) as u64;
        }
        Ok(false)
    }

    /// At least `len` bytes from `offset` on, fewer only at the limit.
    fn load(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let allowed = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = len.min(allowed);
        let end = offset + len as u64;
        if offset < self.base || end > self.base + self.block.len() as u64 {
            let want = len.max(BLOCK).min(allowed);
            self.block.resize(want, 0);
            if len <= BLOCK {
                self.block.shrink_to(4 * BLOCK);
            }
            self.base = offset;
            if let Err(cause) = self.file.read_exact_at(&mut self.block, offset) {
                self.block.clear();
                return Err(cause);
            }
        }
        Ok(self.loaded(offset))
    }

    fn loaded(&self, offset: u64) -> &[u8] {
        let start = usize::try_from(offset - self.base).expect("inside the loaded block");
        &self.block[start..]
    }
}
