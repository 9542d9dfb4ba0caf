//! Where the parts of a JSON text begin and end.

use std::ops::Range;

use super::Unusual;

/// A text, and how far it was read.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'de> {
    text: &'de str,
    at: usize,
}

impl<'de> Cursor<'de> {
    pub fn new(text: &'de str) -> Self {
        Cursor { text, at: 0 }
    }

    #[inline(always)]
    pub fn rest(&self) -> &'de [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no white space, which is passed over.
    #[inline(always)]
    pub fn next(&mut self) -> Option<u8> {
        loop {
            match *self.text.as_bytes().get(self.at)? {
                b' ' | b'\n' | b'\t' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Passes over this byte, and white space before it.
    #[inline(always)]
    pub fn take(&mut self, byte: u8) -> Result<(), Unusual> {
        if self.next() != Some(byte) {
            return Err(Unusual::new());
        }
        self.at += 1;
        Ok(())
    }

    /// Passes over this word.
    pub fn word(&mut self, word: &str) -> Result<(), Unusual> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(Unusual::new());
        }
        self.at += word.len();
        Ok(())
    }

    /// What is between quotes, if it has no escapes and no control characters.
    #[inline(always)]
    pub fn plain_string(&mut self) -> Option<&'de str> {
        let start = self.at + 1;
        self.plain_string_passed()
            .then(|| self.text.get(start..self.at - 1))?
    }

    /// Passes over such a string; says whether there was one.
    #[inline(always)]
    pub fn plain_string_passed(&mut self) -> bool {
        let [b'"', rest @ ..] = self.rest() else {
            return false;
        };
        let end = self.at + 1 + plain(rest);
        let is_plain = self.text.as_bytes().get(end) == Some(&b'"');
        if is_plain {
            self.at = end + 1;
        }
        is_plain
    }

    /// A string with its quotes, whatever is between them.
    pub fn string(&mut self) -> Result<&'de str, Unusual> {
        let rest = self.rest();
        let mut end = 1;
        while let Some(at) = rest
            .get(end..)
            .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
        {
            end += at;
            if rest[end] == b'"' {
                return self.literal(end + 1);
            }
            end += 2;
        }
        Err(Unusual::new())
    }

    /// A number of at most 18 digits without a fraction or an exponent, and whether it is negative.
    #[inline(always)]
    pub fn whole_number(&mut self) -> Option<(i64, bool)> {
        let bytes = self.text.as_bytes();
        let is_negative = bytes.get(self.at) == Some(&b'-');
        let start = self.at + usize::from(is_negative);
        let (mut number, mut end) = (0_u64, start);
        while let Some(eight) = bytes.get(end..).and_then(<[u8]>::first_chunk) {
            let (value, len) = digits(*eight);
            number = number.wrapping_mul(POWERS[len]).wrapping_add(value);
            end += len;
            if len < 8 {
                break;
            }
        }
        // At the end of a text there are fewer than eight bytes.
        while let Some(digit @ b'0'..=b'9') = bytes.get(end) {
            let digit = u64::from(digit - b'0');
            number = number.wrapping_mul(10).wrapping_add(digit);
            end += 1;
        }
        let len = end - start;
        // No number begins with a needless zero, and -0 is a float.
        let is_odd = len > 18
            || matches!(bytes.get(start), Some(b'0')) && (len > 1 || is_negative)
            || matches!(bytes.get(end), Some(b'.' | b'e' | b'E'));
        if len == 0 || is_odd {
            return None;
        }
        self.at = end;
        let number = i64::try_from(number).ok()?;
        Some((if is_negative { -number } else { number }, is_negative))
    }

    /// All that may be of one number.
    pub fn number(&mut self) -> Result<&'de str, Unusual> {
        let of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let rest = self.rest();
        let end = rest.iter().position(|byte| !of_number(byte));
        self.literal(end.unwrap_or(rest.len()))
    }

    /// Passes over this many bytes, of which some are a text.
    #[inline(always)]
    pub fn pass(&mut self, len: usize, text: Range<usize>) -> Option<&'de str> {
        let start = self.at;
        self.at += len;
        self.text.get(start + text.start..start + text.end)
    }

    fn literal(&mut self, len: usize) -> Result<&'de str, Unusual> {
        let start = self.at;
        self.at += len;
        self.text.get(start..self.at).ok_or_else(Unusual::new)
    }
}

/// How many bytes there are before the first quote, backslash or control character.
#[inline(always)]
fn plain(bytes: &[u8]) -> usize {
    // Many end soon.
    for at in [0, 8] {
        match bytes.get(at..).and_then(<[u8]>::first_chunk) {
            Some(eight) => {
                if let Some(found) = among_eight(*eight) {
                    return at + found;
                }
            }
            None => return plain_rest(bytes, at),
        }
    }
    plain_long(bytes, 16)
}

#[inline(never)]
fn plain_long(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    // The compiler makes vector instructions of this, which have no answer until the block's end.
    while let Some(block) = bytes.get(at..at + 16)
        && !block
            .iter()
            .fold(false, |found, byte| found | is_special(*byte))
    {
        at += 16;
    }
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        if let Some(found) = among_eight(*eight) {
            return at + found;
        }
        at += 8;
    }
    plain_rest(bytes, at)
}

#[inline(never)]
fn plain_rest(bytes: &[u8], from: usize) -> usize {
    let rest = &bytes[from..];
    from + rest
        .iter()
        .position(|byte| is_special(*byte))
        .unwrap_or(rest.len())
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// A byte of eight, eight times.
const fn eight_times(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Where the first special byte is among eight, which are looked at together: Mycroft's test for
/// a zero byte, whose lowest hit is exact.
#[inline(always)]
fn among_eight(bytes: [u8; 8]) -> Option<usize> {
    let bytes = u64::from_le_bytes(bytes);
    let below = |bytes: u64, limit: u8| bytes.wrapping_sub(eight_times(limit)) & !bytes;
    let equal = |byte: u8| below(bytes ^ eight_times(byte), 1);
    let found = (below(bytes, 0x20) | equal(b'"') | equal(b'\\')) & eight_times(0x80);
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

const POWERS: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// The number that eight bytes begin with, and of how many digits it is. Digits are summed by
/// pairs, fours and eights together (Lemire, "Quickly parsing eight digits", 2018).
#[inline(always)]
fn digits(bytes: [u8; 8]) -> (u64, usize) {
    let digits = u64::from_le_bytes(bytes) ^ eight_times(b'0');
    // What is over 9 has its highest bit set here, or it has in `digits`.
    let others = (digits.wrapping_add(eight_times(0x76)) | digits) & eight_times(0x80);
    let len = others.trailing_zeros() / 8;
    // Zeros before them take the place of what is behind them.
    let half = 32 - 4 * len;
    let digits = digits << half << half;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    let eight = fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff;
    (eight, len as usize)
}
