//! One segment file: its name, its header, and what is kept of it in memory to find positions.
//!
//! The header is "WCLOG", two zero bytes and the version byte 1 (8 bytes), the position of the
//! first record (8), the length of the segment before it, counting acknowledged bytes only (8), and
//! the crc32 of those 24 bytes (4), little-endian. It is durable before the first frame is written.

use std::path::{Path, PathBuf};

use crate::time::Timestamp;

/// Length of the header.
pub(super) const SEGMENT_HEADER_LEN: usize = 28;
const MAGIC: [u8; 8] = *b"WCLOG\0\0\x01";
/// At most one index entry per this many bytes, so that the index of a segment is bounded.
const INDEX_EVERY: u64 = 64 << 10;

/// What a segment file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub first: u64,
    /// Where the segment before this one ends; what follows there was never acknowledged.
    pub previous_len: u64,
}

impl SegmentHeader {
    pub fn encode(self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = [0; SEGMENT_HEADER_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.first.to_le_bytes());
        out[16..24].copy_from_slice(&self.previous_len.to_le_bytes());
        let crc = crc32fast::hash(&out[..24]);
        out[24..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub fn parse(bytes: &[u8]) -> Option<SegmentHeader> {
        let bytes: &[u8; SEGMENT_HEADER_LEN] = bytes.first_chunk()?;
        let u64_at = |at: usize| {
            u64::from_le_bytes(
                bytes[at..at + 8]
                    .try_into()
                    .expect("eight bytes of a header"),
            )
        };
        let header = SegmentHeader {
            first: u64_at(8),
            previous_len: u64_at(16),
        };
        (header.encode() == *bytes).then_some(header)
    }
}

/// The path of the segment that begins with a position.
pub(super) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// The first position that a segment's file name states; `None` where it is no segment's name.
pub(super) fn position_in_name(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".log")?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// The acknowledged part of a segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub first: u64,
    pub path: PathBuf,
    /// Durable bytes, header included.
    pub len: u64,
    /// Position after its last record.
    pub end: u64,
    /// Arrival of its newest record.
    pub newest: Timestamp,
    /// Position and offset of some frames, in order.
    index: Vec<(u64, u64)>,
}

impl Segment {
    /// A segment without records.
    pub fn empty(dir: &Path, first: u64) -> Segment {
        Segment {
            first,
            path: segment_path(dir, first),
            len: SEGMENT_HEADER_LEN as u64,
            end: first,
            newest: Timestamp(i64::MIN),
            index: Vec::new(),
        }
    }

    /// Takes note of the frame at `offset`, the next one after those noted before.
    pub fn push(&mut self, offset: u64, frame_len: u64, end: u64, arrival: Timestamp) {
        if self
            .index
            .last()
            .is_none_or(|(_, last)| offset - last >= INDEX_EVERY)
        {
            self.index.push((self.end, offset));
        }
        self.len = offset + frame_len;
        self.end = end;
        self.newest = self.newest.max(arrival);
    }

    /// Offset of a frame at or before the one that holds `position`, with little between.
    pub fn offset_before(&self, position: u64) -> u64 {
        let after = self.index.partition_point(|(first, _)| *first <= position);
        after
            .checked_sub(1)
            .map_or(SEGMENT_HEADER_LEN as u64, |at| self.index[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_name_round_trip_and_notice_damage() {
        let header = SegmentHeader {
            first: 12,
            previous_len: 3456,
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::parse(&bytes), Some(header));
        for at in 0..bytes.len() {
            let mut flipped = bytes;
            flipped[at] ^= 1;
            assert_eq!(SegmentHeader::parse(&flipped), None, "byte {at}");
        }
        assert_eq!(
            position_in_name(&segment_path(Path::new("d"), 12)),
            Some(12)
        );
        assert_eq!(position_in_name(Path::new("d/12.log")), None);
        assert_eq!(
            position_in_name(Path::new("d/+0000000000000000012.log")),
            None
        );
    }

    #[test]
    fn the_index_is_sparse_and_finds_every_frame() {
        let mut segment = Segment::empty(Path::new("d"), 100);
        let mut offset = SEGMENT_HEADER_LEN as u64;
        for n in 0..10_000 {
            segment.push(offset, 100, 101 + n, Timestamp(0));
            offset += 100;
        }
        assert!(segment.index.len() <= 16, "{}", segment.index.len());
        for n in 0..10_000 {
            let exact = SEGMENT_HEADER_LEN as u64 + n * 100;
            let found = segment.offset_before(100 + n);
            assert!(found <= exact && exact - found < INDEX_EVERY + 100);
        }
    }
}
