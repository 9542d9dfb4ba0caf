//! Lines of the epoch journal: what an epoch was, and how it is written and read back.
//!
//! A line is `CRC PREVIOUS RESERVED JSON`: the checksum of what follows it in eight hex digits; the
//! epoch of the line before, so that a missing line is noticed; a number no epoch had exceeded
//! when the line was durable; and the entry.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::StateError;
use super::files::failed;
use crate::time::{Epoch, reading_plain_times};

/// What one epoch was: enough to feed it again with the same cuts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Its number.
    pub epoch: Epoch,
    /// The run it was in.
    pub run: u64,
    /// The position reached, per stream and partition; only partitions that moved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<String, BTreeMap<u32, u64>>,
    /// What happened to partitions, in order, before the epoch's records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<PartitionEvent>,
    /// Whether a checkpoint is cut after this epoch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub checkpoint: bool,
}

/// Something that happened to a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEvent {
    /// Its stream.
    pub stream: String,
    /// Its number.
    pub partition: u32,
    /// What happened.
    pub change: PartitionChange,
    /// The position it stood at; where it appeared, that of the first record to be read. Older
    /// journals do not say it: all their partitions began at 0.
    #[serde(default)]
    pub position: u64,
}

/// What can happen to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionChange {
    /// It is new: the stream's watermark of the epoch before is its floor.
    Appeared,
    /// Nothing came for a while: it holds the stream's watermark back no longer.
    Idle,
    /// It has records again: the stream's watermark of the epoch before is its floor.
    Revived,
}

/// A line of a journal file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The epoch of the line before; 0 for the first of all.
    pub previous: Epoch,
    /// At least every epoch that may have been used when this line was durable.
    pub reserved: Epoch,
    /// The entry.
    pub entry: JournalEntry,
}

impl Line {
    /// The line's bytes with the line break.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_string(&self.entry).expect("numbers and text are JSON");
        let rest = format!("{} {} {json}", self.previous, self.reserved);
        format!("{:08x} {rest}\n", crc32fast::hash(rest.as_bytes())).into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Line, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
        let (crc, rest) = text.split_once(' ').ok_or("it has no checksum")?;
        if crc != format!("{:08x}", crc32fast::hash(rest.as_bytes())) {
            return Err("the bytes do not match its checksum".to_owned());
        }
        let mut parts = rest.splitn(3, ' ');
        let mut number = || parts.next().and_then(|text| text.parse().ok());
        let (previous, reserved) = number().zip(number()).ok_or("it has no epoch numbers")?;
        let json = parts.next().ok_or("it has no entry")?;
        let entry = reading_plain_times(|| serde_json::from_str(json))
            .map_err(|cause| format!("the entry cannot be read: {cause}"))?;
        Ok(Line {
            previous,
            reserved,
            entry,
        })
    }
}

/// What stands at the place a reader has come to.
#[derive(Debug)]
pub enum Found {
    /// A whole line.
    Line(Line),
    /// The end of the file.
    End,
    /// The start of a line whose rest was never written: its epoch was never shown.
    Torn,
    /// A line that is not what was written.
    Damaged(String),
}

/// Reads a journal file line by line.
#[derive(Debug)]
pub struct LineReader {
    path: PathBuf,
    file: BufReader<File>,
    /// Bytes of the whole lines read.
    pub offset: u64,
    /// Whole lines read.
    pub lines: u64,
}

impl LineReader {
    /// Starts at the head of a file.
    pub fn open(path: &Path) -> Result<LineReader, StateError> {
        let file = File::open(path).map_err(failed("open", path))?;
        Ok(LineReader {
            path: path.to_owned(),
            file: BufReader::new(file),
            offset: 0,
            lines: 0,
        })
    }

    /// Reads on. After anything but a line the place stays the same.
    pub fn read(&mut self) -> Result<Found, StateError> {
        let mut bytes = Vec::new();
        let length = self
            .file
            .read_until(b'\n', &mut bytes)
            .map_err(failed("read", &self.path))? as u64;
        if bytes.is_empty() {
            return Ok(Found::End);
        }
        if bytes.pop_if(|last| *last == b'\n').is_none() {
            // All of a line but its break, and then some other byte: that is no torn write.
            bytes.pop();
            return Ok(match Line::decode(&bytes) {
                Ok(_) => Found::Damaged("its line break is gone".to_owned()),
                Err(_) => Found::Torn,
            });
        }
        Ok(match Line::decode(&bytes) {
            Ok(line) => {
                self.offset += length;
                self.lines += 1;
                Found::Line(line)
            }
            Err(detail) => Found::Damaged(detail),
        })
    }

    /// The error for what stands here.
    pub fn damaged(&self, detail: String) -> StateError {
        StateError::Damaged {
            path: self.path.clone(),
            place: format!("line {}", self.lines + 1),
            detail,
        }
    }
}
