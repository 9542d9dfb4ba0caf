//! Buffers that become chunks, and come back.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, mem};

use bytes::Bytes;

/// How many buffers wait to be used again, at most.
const SPARE: usize = 16;
/// The largest that waits, in bytes: one that had to hold a large record is let go.
const LARGEST: usize = 4 << 20;

/// Buffers that were filled once: memory that is there already is much cheaper to read into, and
/// what was read need not be copied to outlive the next read.
#[derive(Clone, Default)]
pub(super) struct Buffers {
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// The first `len` bytes of a buffer as a chunk's bytes. The buffer is another one afterwards,
    /// unless it holds so little that a copy is less than what it would keep.
    pub fn lend(&self, buffer: &mut Vec<u8>, len: usize) -> Bytes {
        if len < buffer.capacity() / 2 {
            return Bytes::copy_from_slice(&buffer[..len]);
        }
        let bytes = mem::replace(buffer, self.spare());
        let spare = Arc::clone(&self.spare);
        Bytes::from_owner(Lent { bytes, len, spare })
    }

    /// The `len` bytes of a file at `position`.
    pub fn read(&self, file: &File, position: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = self.spare();
        if bytes.len() < len {
            // Lines end where they end: the next chunk may be a little longer.
            bytes = vec![0; len.next_power_of_two()];
        }
        let spare = Arc::clone(&self.spare);
        let mut lent = Lent { bytes, len, spare };
        file.read_exact_at(&mut lent.bytes[..len], position)?;
        Ok(Bytes::from_owner(lent))
    }

    fn spare(&self) -> Vec<u8> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop().unwrap_or_default()
    }
}

/// A buffer whose first bytes are being read.
struct Lent {
    bytes: Vec<u8>,
    len: usize,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE && self.bytes.capacity() <= LARGEST {
            spare.push(mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_nobody_reads_it() {
        let (buffers, mut buffer) = (Buffers::default(), vec![b'a'; 100]);
        let place = buffer.as_ptr();
        let first = buffers.lend(&mut buffer, 60);
        let part = first.slice(10..20);
        assert_eq!((&*part, buffer.len()), (&[b'a'; 10][..], 0));
        drop(first);
        buffer.resize(80, b'b');
        let second = buffers.lend(&mut buffer, 80);
        assert_eq!((&*part, &*second), (&[b'a'; 10][..], &[b'b'; 80][..]));
        assert_ne!(buffer.as_ptr(), place);
        drop(part);
        buffer.resize(50, b'c');
        assert_eq!(buffers.lend(&mut buffer, 50), [b'c'; 50][..]);
        assert_eq!((buffer.as_ptr(), buffer.len()), (place, 100));
    }

    #[test]
    fn what_is_little_is_copied() {
        let (buffers, mut buffer) = (Buffers::default(), vec![b'a'; 100]);
        let place = buffer.as_ptr();
        assert_eq!(buffers.lend(&mut buffer, 49), [b'a'; 49][..]);
        assert_eq!(buffer.as_ptr(), place);
    }

    #[test]
    fn few_buffers_wait() {
        let buffers = Buffers::default();
        let lent: Vec<Bytes> = (0..2 * SPARE)
            .map(|_| buffers.lend(&mut vec![0; 10], 10))
            .collect();
        drop(lent);
        assert_eq!(buffers.spare.lock().expect("nobody panicked").len(), SPARE);
    }

    #[test]
    fn what_is_large_does_not_wait() {
        let buffers = Buffers::default();
        drop(buffers.lend(&mut vec![0; LARGEST + 1], LARGEST + 1));
        assert_eq!(buffers.spare.lock().expect("nobody panicked").len(), 0);
    }
}
