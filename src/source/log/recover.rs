//! Opens one stream's directory: checks every frame of it, cuts off what a crash left unfinished.
//!
//! What was acknowledged must be there: anything wrong in it is an error naming file and offset.
//! What was not acknowledged may be there or not. The two are told apart by what later writes
//! recorded: a segment's header holds the length of the segment before it, and a frame's header
//! how far its file was durable when the frame was written.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile};
use super::keys::{Keys, Place, Remembered, fingerprint};
use super::scan::{Found, Frames};
use super::segment::{SEGMENT_HEADER_LEN, Segment, SegmentHeader, position_in_name};
use super::{LogError, LogOptions};
use crate::time::Timestamp;

/// A stream as it was found.
pub(super) struct Recovered {
    pub segments: VecDeque<Segment>,
    pub active: Option<Box<dyn DiskFile>>,
    pub arrival: Timestamp,
    pub keys: Keys,
}

impl Recovered {
    /// The same, where nothing was found with a segment that begins with a position.
    pub fn beginning_with(
        mut self,
        first: u64,
        dir: &Path,
        disk: &dyn Disk,
    ) -> Result<Recovered, LogError> {
        if first == 0 || !self.segments.is_empty() {
            return Ok(self);
        }
        let segment = Segment::empty(dir, first);
        let header = SegmentHeader {
            first,
            previous_len: 0,
        };
        let create = || -> io::Result<Box<dyn DiskFile>> {
            let file = disk.create(&segment.path)?;
            file.write_at(&header.encode(), 0)?;
            file.sync()?;
            disk.sync_dir(dir)?;
            Ok(file)
        };
        let file = create().map_err(|cause| LogError::io("create", &segment.path, cause))?;
        self.active = Some(file);
        self.segments.push_back(segment);
        Ok(self)
    }
}

/// Reads the directory of a stream.
pub(super) fn recover(
    dir: &Path,
    disk: &dyn Disk,
    options: &LogOptions,
) -> Result<Recovered, LogError> {
    let headers = read_headers(dir, disk)?;
    let mut found = Recovered {
        segments: VecDeque::new(),
        active: None,
        arrival: Timestamp(i64::MIN),
        keys: Keys::default(),
    };
    for (at, (_, header)) in headers.iter().enumerate() {
        if let Some(last) = found.segments.back()
            && last.end != header.first
        {
            let detail = format!(
                "it begins with position {}, but the segment before it ends at {}",
                header.first, last.end
            );
            return Err(LogError::Damaged {
                file: headers[at].0.clone(),
                offset: 8,
                detail,
            });
        }
        let acknowledged = headers.get(at + 1).map(|(_, next)| next.previous_len);
        scan(dir, header.first, acknowledged, disk, &mut found)?;
    }
    found.keys.settle();
    found.keys.expire(found.arrival, options);
    if let Some(last) = found.segments.back() {
        // What a crash left in memory only must be durable before anyone sees it.
        let file = disk
            .open(&last.path)
            .map_err(|c| LogError::io("open", &last.path, c))?;
        file.sync()
            .map_err(|cause| LogError::io("fsync", &last.path, cause))?;
        disk.sync_dir(dir)
            .map_err(|cause| LogError::io("fsync", dir, cause))?;
        found.active = Some(file);
    }
    Ok(found)
}

/// The segments in order. A last one whose header was never durable holds nothing and is removed.
fn read_headers(dir: &Path, disk: &dyn Disk) -> Result<Vec<(PathBuf, SegmentHeader)>, LogError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(|cause| LogError::io("list", dir, cause))? {
        let path = entry
            .map_err(|cause| LogError::io("list", dir, cause))?
            .path();
        if let Some(first) = position_in_name(&path) {
            paths.push((first, path));
        }
    }
    paths.sort_unstable();
    let mut headers = Vec::with_capacity(paths.len());
    let count = paths.len();
    for (at, (first, path)) in paths.into_iter().enumerate() {
        let (bytes, len) = head_of(&path).map_err(|c| LogError::io("read", &path, c))?;
        match SegmentHeader::parse(&bytes) {
            Some(header) if header.first == first => headers.push((path, header)),
            None if at + 1 == count && len <= SEGMENT_HEADER_LEN as u64 => {
                tracing::warn!(path = %path.display(), "removing a log segment never begun");
                disk.remove(&path)
                    .map_err(|c| LogError::io("remove", &path, c))?;
            }
            _ => {
                let detail = "its header is not that of the segment it is named after".into();
                return Err(LogError::Damaged {
                    file: path,
                    offset: 0,
                    detail,
                });
            }
        }
    }
    Ok(headers)
}

fn head_of(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.take(SEGMENT_HEADER_LEN as u64)
        .read_to_end(&mut bytes)?;
    Ok((bytes, len))
}

/// Checks the frames of a segment and takes note of them; `acknowledged` is where they must end,
/// unknown for the last segment.
fn scan(
    dir: &Path,
    first: u64,
    acknowledged: Option<u64>,
    disk: &dyn Disk,
    found: &mut Recovered,
) -> Result<(), LogError> {
    let mut segment = Segment::empty(dir, first);
    let path = segment.path.clone();
    let io = |action, cause| LogError::io(action, &path, cause);
    let len = fs::metadata(&path)
        .map_err(|cause| io("read", cause))?
        .len();
    let limit = acknowledged.unwrap_or(len);
    let damaged = |offset, detail: &str| {
        Err(LogError::Damaged {
            file: path.clone(),
            offset,
            detail: detail.into(),
        })
    };
    if len < limit {
        return damaged(len, "acknowledged records after this are missing");
    }
    let mut frames = Frames::open(&path, limit).map_err(|cause| io("open", cause))?;
    let problem = loop {
        let offset = segment.len;
        let frame = match frames.at(offset).map_err(|cause| io("read", cause))? {
            Found::End => break None,
            Found::Bad(reason) => break Some(reason),
            Found::Frame(frame) => frame,
        };
        let header = frame.header;
        if header.first != segment.end {
            break Some("the frame's position does not follow the one before it");
        }
        if let Some((key, _)) = frame.key {
            let place = Place {
                segment: first,
                offset,
            };
            let (arrival, key) = (header.arrival, fingerprint(key));
            found.keys.push(Remembered {
                arrival,
                key,
                place,
            });
        }
        found.arrival = found.arrival.max(header.arrival);
        segment.push(
            offset,
            header.frame_len() as u64,
            header.end(),
            header.arrival,
        );
    };
    if let Some(reason) = problem {
        let lost = frames
            .was_durable(segment.len)
            .map_err(|cause| io("read", cause))?;
        if acknowledged.is_some() || lost {
            return damaged(segment.len, reason);
        }
    }
    if segment.len < len {
        let (offset, bytes) = (segment.len, len - segment.len);
        let reason = problem.unwrap_or("a write that failed");
        let path = path.display();
        tracing::warn!(%path, offset, bytes, reason, "cutting an unfinished write off the log");
        let file = disk
            .open(&segment.path)
            .map_err(|cause| io("open", cause))?;
        file.set_len(offset)
            .map_err(|cause| io("truncate", cause))?;
    }
    found.segments.push_back(segment);
    Ok(())
}
