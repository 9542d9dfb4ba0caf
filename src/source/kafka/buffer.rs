//! What was fetched of one partition and is not read yet.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::record::Message;

/// How many bytes of frames make a block: what a worker decodes at a time.
pub const BLOCK_BYTES: usize = 1 << 20;

/// Frames of a partition, in order and without a hole: where offsets are missing, in a compacted
/// topic say, the block before the hole reaches over it.
#[derive(Debug)]
pub struct Buffer {
    blocks: VecDeque<Block>,
    /// The offset after the last one that is here.
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Block {
    first: u64,
    end: u64,
    frames: Frames,
    /// Whether the block stands for records that were gone before they were read.
    is_lost: bool,
}

#[derive(Debug)]
enum Frames {
    Open(Vec<u8>),
    Sealed(Bytes),
}

impl Frames {
    fn as_slice(&self) -> &[u8] {
        match self {
            Frames::Open(bytes) => bytes,
            Frames::Sealed(bytes) => bytes,
        }
    }

    fn share(&mut self) -> Bytes {
        let bytes = match self {
            Frames::Open(bytes) => Bytes::from(std::mem::take(bytes)),
            Frames::Sealed(bytes) => bytes.clone(),
        };
        *self = Frames::Sealed(bytes.clone());
        bytes
    }
}

/// What is read at a position.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Frames up to an offset.
    Frames {
        /// The offset after them.
        end: u64,
        /// The frames.
        bytes: Bytes,
        /// How many offsets from the position on were never read.
        lost: u64,
    },
    /// Nothing yet.
    Nothing,
    /// The position is not here, nor the next to come.
    Elsewhere,
}

impl Buffer {
    /// An empty buffer whose next message is at an offset, or later.
    pub fn at(next: u64) -> Buffer {
        Buffer {
            blocks: VecDeque::new(),
            next,
            bytes: 0,
        }
    }

    /// The offset after the last one that is here.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Bytes of frames that are here.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all that was fetched was read, and read beyond.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Adds frames of messages up to `end`: the offset after the last, or further where what
    /// follows is nobody's to read.
    pub fn push(&mut self, frames: Vec<u8>, end: u64) {
        self.bytes += frames.len();
        let first = std::mem::replace(&mut self.next, end);
        if let Some(Block {
            frames: Frames::Open(open),
            end: last,
            is_lost: false,
            ..
        }) = self.blocks.back_mut()
            && open.len() + frames.len() <= BLOCK_BYTES
        {
            open.extend_from_slice(&frames);
            *last = end;
            return;
        }
        self.blocks.push_back(Block {
            first,
            end,
            frames: Frames::Open(frames),
            is_lost: false,
        });
    }

    /// Notes that messages before `end` are gone.
    pub fn lose_to(&mut self, end: u64) {
        let first = std::mem::replace(&mut self.next, end);
        self.blocks.push_back(Block {
            first,
            end,
            frames: Frames::Open(Vec::new()),
            is_lost: true,
        });
    }

    /// Reads at a position: whole messages, at most about `max_bytes`, but at least one, and none
    /// at or after `until`. What is before the position is let go of; what is read is kept, in
    /// case it is asked for again.
    pub fn read(&mut self, position: u64, max_bytes: usize, until: Option<u64>) -> Taken {
        while let Some(front) = self.blocks.front()
            && front.end <= position
        {
            self.bytes -= front.frames.as_slice().len();
            self.blocks.pop_front();
        }
        let Some(front) = self.blocks.front_mut() else {
            return if position == self.next {
                Taken::Nothing
            } else {
                Taken::Elsewhere
            };
        };
        if position < front.first {
            return Taken::Elsewhere;
        }
        let until = until.unwrap_or(u64::MAX);
        if position == front.first && front.end <= until && !front.is_longer_than(max_bytes) {
            return Taken::Frames {
                end: front.end,
                bytes: front.frames.share(),
                lost: front.lost(position, front.end),
            };
        }
        front.slice(position, max_bytes, until)
    }
}

impl Block {
    fn is_longer_than(&self, max_bytes: usize) -> bool {
        self.frames.as_slice().len() > max_bytes.max(BLOCK_BYTES)
    }

    fn lost(&self, from: u64, to: u64) -> u64 {
        if self.is_lost { to - from } else { 0 }
    }

    fn slice(&mut self, position: u64, max_bytes: usize, until: u64) -> Taken {
        let frames = self.frames.share();
        let (mut begin, mut stop, mut end) = (frames.len(), frames.len(), self.end.min(until));
        for (at, message) in Message::all(&frames) {
            if message.position < position {
                continue;
            }
            begin = begin.min(at);
            if message.position >= until {
                stop = at;
                break;
            }
            if at > begin && at - begin >= max_bytes {
                (stop, end) = (at, message.position);
                break;
            }
        }
        Taken::Frames {
            end,
            bytes: frames.slice(begin.min(stop)..stop),
            lost: self.lost(position, end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(position: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        Message {
            position,
            timestamp: None,
            is_append_time: false,
            key: None,
            headers: &[],
            value: Some(b"0123456789"),
        }
        .write(&mut frame);
        frame
    }

    fn buffer(positions: &[u64]) -> Buffer {
        let mut buffer = Buffer::at(positions[0]);
        for position in positions {
            buffer.push(frame(*position), position + 1);
        }
        buffer
    }

    /// The offsets read at a position, and where it ends.
    fn read(buffer: &mut Buffer, at: u64, max: usize, until: Option<u64>) -> (Vec<u64>, u64) {
        match buffer.read(at, max, until) {
            Taken::Frames { end, bytes, .. } => {
                let positions = Message::all(&bytes).map(|(_, m)| m.position).collect();
                (positions, end)
            }
            other => panic!("{other:?} at {at}"),
        }
    }

    const ALL: usize = usize::MAX;

    #[test]
    fn what_was_pushed_is_read_once_more_until_it_is_passed() {
        let mut buffer = buffer(&[3, 4, 9]);
        assert_eq!(read(&mut buffer, 3, ALL, None), (vec![3, 4, 9], 10));
        assert_eq!(read(&mut buffer, 3, ALL, None), (vec![3, 4, 9], 10));
        assert_eq!(buffer.read(10, ALL, None), Taken::Nothing);
        assert_eq!(buffer.bytes(), 0);
        assert_eq!(buffer.read(3, ALL, None), Taken::Elsewhere);
        assert_eq!(buffer.read(11, ALL, None), Taken::Elsewhere);
        buffer.push(frame(10), 11);
        assert_eq!(read(&mut buffer, 10, ALL, None), (vec![10], 11));
    }

    #[test]
    fn a_read_stops_before_until_and_at_the_bytes() {
        let mut buffer = buffer(&[0, 1, 5, 6]);
        assert_eq!(read(&mut buffer, 0, ALL, Some(2)), (vec![0, 1], 2));
        assert_eq!(read(&mut buffer, 0, ALL, Some(4)), (vec![0, 1], 4));
        assert_eq!(read(&mut buffer, 4, ALL, Some(6)), (vec![5], 6));
        assert_eq!(read(&mut buffer, 1, 1, None), (vec![1], 5));
        assert_eq!(read(&mut buffer, 5, 1, Some(9)), (vec![5], 6));
        assert_eq!(read(&mut buffer, 6, ALL, Some(7)), (vec![6], 7));
    }

    #[test]
    fn what_nobody_can_read_moves_the_position_all_the_same() {
        let mut buffer = buffer(&[0]);
        buffer.push(Vec::new(), 3);
        assert_eq!(read(&mut buffer, 0, ALL, None), (vec![0], 3));
        buffer.push(Vec::new(), 5);
        assert_eq!(read(&mut buffer, 3, ALL, None), (vec![], 5));
        assert_eq!(buffer.read(5, ALL, None), Taken::Nothing);
    }

    #[test]
    fn lost_offsets_are_told_apart_from_missing_ones() {
        let mut buffer = Buffer::at(2);
        buffer.lose_to(7);
        buffer.push(frame(7), 8);
        let lost = |buffer: &mut Buffer, at, until| match buffer.read(at, ALL, until) {
            Taken::Frames { end, lost, .. } => (lost, end),
            other => panic!("{other:?}"),
        };
        assert_eq!(lost(&mut buffer, 2, None), (5, 7));
        assert_eq!(lost(&mut buffer, 2, Some(4)), (2, 4));
        assert_eq!(lost(&mut buffer, 4, None), (3, 7));
        assert_eq!(lost(&mut buffer, 7, None), (0, 8));
    }

    #[test]
    fn blocks_are_bounded() {
        let mut buffer = Buffer::at(0);
        let many: Vec<u8> = (0..1000).flat_map(frame).collect();
        let rounds = BLOCK_BYTES / many.len() + 1;
        for round in 1..=rounds {
            buffer.push(many.clone(), 1000 * round as u64);
        }
        assert_eq!(buffer.blocks.len(), 2);
        assert_eq!(buffer.bytes(), rounds * many.len());
    }
}
