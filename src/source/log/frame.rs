//! One frame of the log as bytes: the lines of one post with all that makes the post repeatable.
//!
//! All numbers are little-endian:
//!
//! ```text
//!  0  4  marker: "WCF" and the version byte 1
//!  4  4  length of the body
//!  8  8  position of the first line
//! 16  4  how many lines
//! 20  8  arrival in ms
//! 28  8  synced: this file was durable up to this offset when the frame was written
//! 36  4  length of the idempotency key; all ones when there is none
//! 40  4  how many lines were rejected
//! 44  4  length of the rejected list, which names the first ones
//! 48  4  crc32 of the body
//! 52  4  crc32 of the 52 bytes before
//! 56     body: digest (32, only with a key), key, rejected list, lines each ended by '\n'
//! ```
//!
//! A rejected entry is line (4), length of the reason (4), reason. The rest of the stored answer
//! follows from positions and counts.

use crate::time::Timestamp;
use crate::view::{LineVerdict, PostAnswer};

/// What every frame begins with.
pub(super) const MARKER: [u8; 4] = *b"WCF\x01";
/// Length of the part before the body.
pub(super) const HEADER_LEN: usize = 56;
/// The largest body written or believed.
pub(super) const MAX_BODY: usize = 1 << 30;
const NO_KEY: u32 = u32::MAX;
const DIGEST_LEN: usize = 32;

/// A post about to be written.
pub(super) struct NewFrame<'a> {
    pub first: u64,
    pub arrival: Timestamp,
    pub synced: u64,
    pub key: Option<(&'a str, &'a [u8; 32])>,
    /// How many lines were rejected; `listed` names the first ones.
    pub rejected: u32,
    pub listed: &'a [LineVerdict],
    pub lines: &'a [Vec<u8>],
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub body_len: usize,
    pub first: u64,
    pub count: u32,
    pub arrival: Timestamp,
    pub synced: u64,
    key_len: Option<usize>,
    rejected: u32,
    listed_len: usize,
    body_crc: u32,
}

/// A whole frame whose checksums match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub header: Header,
    pub key: Option<(&'a [u8], &'a [u8])>,
    listed: &'a [u8],
    pub lines: &'a [u8],
}

/// Appends the frame to `out`; `None`, and nothing appended, where it is larger than a frame may be.
pub(super) fn encode(frame: &NewFrame<'_>, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let lines_len: usize = frame.lines.iter().map(|line| line.len() + 1).sum();
    if lines_len > MAX_BODY {
        return None;
    }
    out.resize(start + HEADER_LEN, 0);
    let body = out.len();
    let mut key_len = NO_KEY;
    if let Some((key, digest)) = frame.key {
        out.extend_from_slice(digest);
        out.extend_from_slice(key.as_bytes());
        key_len = u32::try_from(key.len()).unwrap_or(NO_KEY);
    }
    let list = out.len();
    for verdict in frame.listed {
        out.extend_from_slice(
            &u32::try_from(verdict.line)
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        let len = u32::try_from(verdict.reason.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(verdict.reason.as_bytes());
    }
    let listed_len = out.len() - list;
    out.reserve(lines_len);
    for line in frame.lines {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    let body_len = out.len() - body;
    if body_len > MAX_BODY {
        out.truncate(start);
        return None;
    }
    let number = |n: usize| u32::try_from(n).expect("bounded by MAX_BODY").to_le_bytes();
    let crc = crc32fast::hash(&out[body..]);
    let header = &mut out[start..body];
    header[0..4].copy_from_slice(&MARKER);
    header[4..8].copy_from_slice(&number(body_len));
    header[8..16].copy_from_slice(&frame.first.to_le_bytes());
    header[16..20].copy_from_slice(&number(frame.lines.len()));
    header[20..28].copy_from_slice(&frame.arrival.0.to_le_bytes());
    header[28..36].copy_from_slice(&frame.synced.to_le_bytes());
    header[36..40].copy_from_slice(&key_len.to_le_bytes());
    header[40..44].copy_from_slice(&frame.rejected.to_le_bytes());
    header[44..48].copy_from_slice(&number(listed_len));
    header[48..52].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32fast::hash(&header[..52]);
    header[52..56].copy_from_slice(&crc.to_le_bytes());
    Some(())
}

impl Header {
    /// Reads the fixed part; the error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Header, &'static str> {
        let bytes = bytes.get(..HEADER_LEN).ok_or("the frame is cut short")?;
        if bytes[..4] != MARKER {
            return Err("no frame begins here");
        }
        let u32_at = |at: usize| {
            u32::from_le_bytes(
                bytes[at..at + 4]
                    .try_into()
                    .expect("four bytes of a header"),
            )
        };
        let u64_at = |at: usize| {
            u64::from_le_bytes(
                bytes[at..at + 8]
                    .try_into()
                    .expect("eight bytes of a header"),
            )
        };
        if crc32fast::hash(&bytes[..52]) != u32_at(52) {
            return Err("the checksum of the frame's header does not match");
        }
        let header = Header {
            body_len: u32_at(4) as usize,
            first: u64_at(8),
            count: u32_at(16),
            arrival: Timestamp(u64_at(20).cast_signed()),
            synced: u64_at(28),
            key_len: Some(u32_at(36))
                .filter(|n| *n != NO_KEY)
                .map(|n| n as usize),
            rejected: u32_at(40),
            listed_len: u32_at(44) as usize,
            body_crc: u32_at(48),
        };
        let parts = header.key_len.map_or(0, |n| n + DIGEST_LEN) + header.listed_len;
        if header.body_len > MAX_BODY || parts > header.body_len {
            return Err("the lengths in the frame's header contradict each other");
        }
        Ok(header)
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> usize {
        HEADER_LEN + self.body_len
    }

    /// Position after the frame's last line.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }
}

impl<'a> Frame<'a> {
    /// Takes a frame apart whose header was read from the start of `bytes`. `checked` skips the
    /// checksum of a body that was checked before.
    pub fn parse(header: Header, bytes: &'a [u8], checked: bool) -> Result<Self, &'static str> {
        let body = bytes
            .get(HEADER_LEN..header.frame_len())
            .ok_or("the frame is cut short")?;
        if !checked && crc32fast::hash(body) != header.body_crc {
            return Err("the checksum of the frame's records does not match");
        }
        let (key, rest) = match header.key_len {
            Some(len) => {
                let (digest, rest) = body.split_at(DIGEST_LEN);
                let (key, rest) = rest.split_at(len);
                (Some((key, digest)), rest)
            }
            None => (None, body),
        };
        let (listed, lines) = rest.split_at(header.listed_len);
        Ok(Frame {
            header,
            key,
            listed,
            lines,
        })
    }

    /// The answer the post was given; `None` where the rejected list is no list.
    pub fn answer(&self) -> Option<PostAnswer> {
        let mut rejected = Vec::new();
        let mut rest = self.listed;
        while !rest.is_empty() {
            let (line, tail) = rest.split_first_chunk::<4>()?;
            let (len, tail) = tail.split_first_chunk::<4>()?;
            let (reason, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            rejected.push(LineVerdict {
                line: u64::from(u32::from_le_bytes(*line)),
                reason: String::from_utf8_lossy(reason).into_owned(),
            });
            rest = tail;
        }
        let accepted = self.header.count.checked_sub(self.header.rejected)?;
        Some(PostAnswer {
            accepted: accepted.into(),
            rejected,
            position: self.header.end(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(key: Option<(&str, &[u8; 32])>) -> Vec<u8> {
        let listed = [LineVerdict {
            line: 2,
            reason: "no time".into(),
        }];
        let lines = [b"{}".to_vec(), b"x".to_vec(), b"{\"a\":1}".to_vec()];
        let mut out = Vec::new();
        let frame = NewFrame {
            first: 7,
            arrival: Timestamp(-5),
            synced: 28,
            key,
            rejected: 1,
            listed: &listed,
            lines: &lines,
        };
        encode(&frame, &mut out).unwrap();
        out
    }

    #[test]
    fn what_was_encoded_is_parsed() {
        let digest = [9; 32];
        for key in [None, Some(("", &digest)), Some(("k1", &digest))] {
            let bytes = sample(key);
            let header = Header::parse(&bytes).unwrap();
            assert_eq!(header.frame_len(), bytes.len());
            assert_eq!(
                (header.first, header.end(), header.arrival),
                (7, 10, Timestamp(-5))
            );
            let frame = Frame::parse(header, &bytes, false).unwrap();
            assert_eq!(frame.lines, b"{}\nx\n{\"a\":1}\n");
            assert_eq!(
                frame.key,
                key.map(|(key, digest)| (key.as_bytes(), &digest[..]))
            );
            let answer = frame.answer().unwrap();
            assert_eq!((answer.accepted, answer.position), (2, 10));
            assert_eq!(answer.rejected[0].reason, "no time");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let whole = sample(Some(("key", &[1; 32])));
        let read = |bytes: &[u8]| {
            Header::parse(bytes).and_then(|h| Frame::parse(h, bytes, false).map(|_| ()))
        };
        assert!(read(&whole).is_ok());
        for at in 0..whole.len() {
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert!(read(&bytes).is_err(), "byte {at} bit {bit}");
            }
        }
    }
}
