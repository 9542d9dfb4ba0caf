//! Where a reader stands in a segment: finds a position once, then walks on frame by frame.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::frame::Frame;
use super::scan::{Found, Frames};
use super::visible::Spot;
use crate::record::Span;

/// A place in a segment.
pub(super) struct Cursor {
    /// First position of the segment, which names it.
    pub segment: u64,
    pub path: PathBuf,
    /// The next record.
    pub position: u64,
    frames: Frames,
    /// Offset of the frame that holds the next record, or will.
    offset: u64,
    /// Where the next record begins in the frame's lines.
    line: usize,
}

/// What a read took, and what it may still take.
pub(super) struct Taken {
    pub bytes: Vec<u8>,
    pub spans: Vec<Span>,
    pub max_bytes: usize,
    /// No record at or after it is taken.
    pub stop: u64,
    /// Whether the next record has no room.
    pub full: bool,
}

/// Why a segment cannot be read.
pub(super) enum Problem {
    Io(io::Error),
    Damaged(u64, &'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Io(cause) => cause.fmt(f),
            Problem::Damaged(offset, reason) => write!(f, "{reason} (at byte {offset})"),
        }
    }
}

impl Cursor {
    /// Opens the segment at a spot and goes to `position`, which lies in it.
    pub fn open(spot: Spot, position: u64) -> Result<Cursor, (PathBuf, Problem)> {
        let frames = match Frames::open(&spot.path, spot.len) {
            Ok(frames) => frames,
            Err(cause) => return Err((spot.path, Problem::Io(cause))),
        };
        let mut cursor = Cursor {
            segment: spot.segment,
            path: spot.path,
            position,
            frames,
            offset: spot.offset,
            line: 0,
        };
        match cursor.find() {
            Ok(()) => Ok(cursor),
            Err(problem) => Err((cursor.path, problem)),
        }
    }

    /// Allows reading what was acknowledged since.
    pub fn extend_to(&mut self, len: u64) {
        self.frames.extend_to(len);
    }

    /// Walks from a frame at or before `position` to the record.
    fn find(&mut self) -> Result<(), Problem> {
        loop {
            let offset = self.offset;
            let frame = frame_at(&mut self.frames, offset)?.ok_or(missing(offset))?;
            if self.position >= frame.header.end() {
                self.offset += frame.header.frame_len() as u64;
                continue;
            }
            let before = self
                .position
                .checked_sub(frame.header.first)
                .ok_or(missing(offset))?;
            self.line = match lines(frame.lines, before, usize::MAX) {
                (count, len) if count == before => len,
                _ => return Err(missing(offset)),
            };
            return Ok(());
        }
    }

    /// Takes records until there is no room, the stop, or the end of the segment; at least one
    /// when nothing is taken yet.
    pub fn take(&mut self, taken: &mut Taken) -> Result<(), Problem> {
        while !taken.full && self.position < taken.stop {
            let offset = self.offset;
            let Some(frame) = frame_at(&mut self.frames, offset)? else {
                break;
            };
            let (end, frame_len) = (frame.header.end(), frame.header.frame_len() as u64);
            let wanted = end.min(taken.stop).saturating_sub(self.position);
            let rest = frame.lines.get(self.line..).ok_or(missing(offset))?;
            let room = taken.max_bytes.saturating_sub(taken.bytes.len());
            let (count, len) = if wanted == end - self.position && rest.len() <= room {
                (wanted, rest.len())
            } else if wanted > 0 && taken.bytes.is_empty() {
                let first = memchr::memchr(b'\n', rest).ok_or(missing(offset))? + 1;
                lines(rest, wanted, room.max(first))
            } else {
                lines(rest, wanted, room)
            };
            if count > 0 {
                taken.spans.push(Span {
                    first: self.position,
                    offset: taken.bytes.len(),
                    len,
                    arrival: Some(frame.header.arrival),
                });
                taken.bytes.extend_from_slice(&rest[..len]);
            }
            taken.full = count < wanted;
            self.position += count;
            self.line += len;
            if self.position == end {
                self.offset += frame_len;
                self.line = 0;
            }
        }
        Ok(())
    }
}

fn frame_at(frames: &mut Frames, offset: u64) -> Result<Option<Frame<'_>>, Problem> {
    match frames.at(offset).map_err(Problem::Io)? {
        Found::End => Ok(None),
        Found::Bad(reason) => Err(Problem::Damaged(offset, reason)),
        Found::Frame(frame) => Ok(Some(frame)),
    }
}

fn missing(offset: u64) -> Problem {
    Problem::Damaged(offset, "it holds fewer records than were acknowledged")
}

/// How many lines at the start of `bytes`, at most `count` within `room` bytes, and their bytes.
fn lines(bytes: &[u8], count: u64, room: usize) -> (u64, usize) {
    let (mut found, mut len) = (0, 0);
    for end in memchr::memchr_iter(b'\n', bytes) {
        if found == count || end + 1 > room {
            break;
        }
        found += 1;
        len = end + 1;
    }
    (found, len)
}
