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
//! 40  4  length of the stored answer
//! 44  4  crc32 of the body
//! 48  4  crc32 of the 48 bytes before
//! 52     body: lines, each ended by '\n'; with a key before them: digest (32), key, answer
//! ```
//!
//! The answer is position (8), accepted (8), and per rejected line its number (8), the length of
//! the reason (4) and the reason. A frame without lines carries a key over from a segment that is
//! about to be deleted.

use crate::time::Timestamp;
use crate::view::{LineVerdict, PostAnswer};

/// What every frame begins with.
pub(super) const MARKER: [u8; 4] = *b"WCF\x01";
/// Length of the part before the body.
pub(super) const HEADER_LEN: usize = 52;
/// The largest body written or believed.
pub(super) const MAX_BODY: usize = 1 << 30;
const NO_KEY: u32 = u32::MAX;
const DIGEST_LEN: usize = 32;

/// A post about to be written.
pub(super) struct NewFrame<'a> {
    pub first: u64,
    pub arrival: Timestamp,
    pub synced: u64,
    pub keyed: Option<Keyed<'a>>,
    pub lines: &'a [Vec<u8>],
}

/// What makes a post repeatable.
pub(super) struct Keyed<'a> {
    pub key: &'a [u8],
    pub digest: &'a [u8],
    pub answer: &'a PostAnswer,
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
    answer_len: usize,
    body_crc: u32,
}

/// A whole frame whose checksums match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub header: Header,
    pub key: Option<(&'a [u8], &'a [u8])>,
    answer: &'a [u8],
    pub lines: &'a [u8],
}

/// Appends the frame to `out`; `None`, and nothing appended, where it is larger than frames may be.
pub(super) fn encode(frame: &NewFrame<'_>, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let lines_len: usize = frame.lines.iter().map(|line| line.len() + 1).sum();
    if lines_len > MAX_BODY {
        return None;
    }
    out.resize(start + HEADER_LEN, 0);
    let body = out.len();
    let (mut key_len, mut answer_len) = (NO_KEY, 0);
    if let Some(Keyed {
        key,
        digest,
        answer,
    }) = &frame.keyed
    {
        out.extend_from_slice(digest);
        out.extend_from_slice(key);
        key_len = u32::try_from(key.len()).unwrap_or(NO_KEY);
        let start = out.len();
        encode_answer(answer, out);
        answer_len = out.len() - start;
    }
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
    header[40..44].copy_from_slice(&number(answer_len));
    header[44..48].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32fast::hash(&header[..48]);
    header[48..52].copy_from_slice(&crc.to_le_bytes());
    Some(())
}

fn encode_answer(answer: &PostAnswer, out: &mut Vec<u8>) {
    out.extend_from_slice(&answer.position.to_le_bytes());
    out.extend_from_slice(&answer.accepted.to_le_bytes());
    for LineVerdict { line, reason } in &answer.rejected {
        out.extend_from_slice(&line.to_le_bytes());
        let len = u32::try_from(reason.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(reason.as_bytes());
    }
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
        if crc32fast::hash(&bytes[..48]) != u32_at(48) {
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
            answer_len: u32_at(40) as usize,
            body_crc: u32_at(44),
        };
        let parts = header.key_len.map_or(0, |n| n + DIGEST_LEN) + header.answer_len;
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
        let (answer, lines) = rest.split_at(header.answer_len);
        Ok(Frame {
            header,
            key,
            answer,
            lines,
        })
    }

    /// The answer the post was given; `None` where there is none, or bytes that are none.
    pub fn answer(&self) -> Option<PostAnswer> {
        let (position, rest) = self.answer.split_first_chunk::<8>()?;
        let (accepted, mut rest) = rest.split_first_chunk::<8>()?;
        let mut rejected = Vec::new();
        while !rest.is_empty() {
            let (line, tail) = rest.split_first_chunk::<8>()?;
            let (len, tail) = tail.split_first_chunk::<4>()?;
            let (reason, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            rejected.push(LineVerdict {
                line: u64::from_le_bytes(*line),
                reason: String::from_utf8_lossy(reason).into_owned(),
            });
            rest = tail;
        }
        let (position, accepted) = (u64::from_le_bytes(*position), u64::from_le_bytes(*accepted));
        Some(PostAnswer {
            accepted,
            rejected,
            position,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> PostAnswer {
        let rejected = vec![LineVerdict {
            line: 2,
            reason: "no time".into(),
        }];
        PostAnswer {
            accepted: 2,
            rejected,
            position: 10,
        }
    }

    fn sample(key: Option<&[u8]>) -> Vec<u8> {
        let answer = answer();
        let lines = [b"{}".to_vec(), b"x".to_vec(), b"{\"a\":1}".to_vec()];
        let keyed = key.map(|key| Keyed {
            key,
            digest: &[9; 32],
            answer: &answer,
        });
        let (first, arrival, synced) = (7, Timestamp(-5), 28);
        let mut out = Vec::new();
        encode(
            &NewFrame {
                first,
                arrival,
                synced,
                keyed,
                lines: &lines,
            },
            &mut out,
        )
        .unwrap();
        out
    }

    #[test]
    fn what_was_encoded_is_parsed() {
        for key in [None, Some(&b""[..]), Some(b"k1")] {
            let bytes = sample(key);
            let header = Header::parse(&bytes).unwrap();
            assert_eq!(header.frame_len(), bytes.len());
            assert_eq!(
                (header.first, header.end(), header.arrival),
                (7, 10, Timestamp(-5))
            );
            let frame = Frame::parse(header, &bytes, false).unwrap();
            assert_eq!(frame.lines, b"{}\nx\n{\"a\":1}\n");
            assert_eq!(frame.key, key.map(|key| (key, &[9; 32][..])));
            assert_eq!(frame.answer(), key.map(|_| answer()));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let whole = sample(Some(b"key"));
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
