//! The bytes of an Avro datum, read from front to back: every read is checked, every loop bounded.

use super::fault::Fault;

/// How deep records, arrays and maps may be nested in a datum; a JSON text may be about as deep.
const MAX_DEPTH: u32 = 100;

/// What is left of a datum.
pub struct Input<'a> {
    bytes: &'a [u8],
    /// Records and items that may still come. Each but the strangest has a byte of its own, so a
    /// few bytes cannot announce a billion of them and keep a worker busy.
    parts: usize,
    depth: u32,
}

impl<'a> Input<'a> {
    /// The whole datum.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input {
            bytes,
            parts: bytes.len().saturating_add(16).saturating_mul(64),
            depth: 0,
        }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.bytes.split_at_checked(n).ok_or_else(|| {
            let left = self.bytes.len();
            Fault::new(format!(
                "the record ends here: {left} of {n} bytes are left"
            ))
        })?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many were taken"))
    }

    /// A varint of 64 bits.
    pub fn long(&mut self) -> Result<i64, Fault> {
        let mut n = 0_u64;
        for (i, byte) in self.bytes.iter().take(10).enumerate() {
            n |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                if i == 9 && *byte > 1 {
                    break;
                }
                self.bytes = &self.bytes[i + 1..];
                return Ok((n >> 1).cast_signed() ^ -(n & 1).cast_signed());
            }
        }
        Err(Fault::new(if self.bytes.len() < 10 {
            "the record ends in the middle of a number"
        } else {
            "a number of more than 64 bits"
        }))
    }

    /// A varint of 32 bits.
    pub fn int(&mut self) -> Result<i32, Fault> {
        let long = self.long()?;
        i32::try_from(long).map_err(|_| Fault::new(format!("{long} is more than 32 bits hold")))
    }

    /// Which of `n` there are: symbols, or branches.
    pub fn choice(&mut self, n: usize) -> Result<usize, Fault> {
        let long = self.long()?;
        let choice = usize::try_from(long).ok().filter(|choice| *choice < n);
        choice.ok_or_else(|| Fault::new(format!("choice {long}, but the schema has {n}")))
    }

    /// A length and as many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.length()?;
        self.take(length)
    }

    /// As many bytes, or a length and as many.
    pub fn sized(&mut self, size: Option<usize>) -> Result<&'a [u8], Fault> {
        match size {
            Some(size) => self.take(size),
            None => self.bytes(),
        }
    }

    /// A length and as many bytes of UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Fault> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| Fault::new("text that is not UTF-8"))
    }

    /// The head of a block of items: how many it has (0 ends them), and how many bytes if it says.
    pub fn block(&mut self) -> Result<(u64, Option<usize>), Fault> {
        let count = self.long()?;
        let size = if count < 0 {
            Some(self.length()?)
        } else {
            None
        };
        Ok((count.unsigned_abs(), size))
    }

    /// Counts a record or an item.
    pub fn part(&mut self) -> Result<(), Fault> {
        self.parts = self
            .parts
            .checked_sub(1)
            .ok_or_else(|| Fault::new("more items than its bytes can hold"))?;
        Ok(())
    }

    /// Begins a record, an array or a map.
    pub fn enter(&mut self) -> Result<(), Fault> {
        self.part()?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::new(format!("nested more than {MAX_DEPTH} deep")));
        }
        Ok(())
    }

    /// Ends what [`enter`](Input::enter) began.
    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    fn length(&mut self) -> Result<usize, Fault> {
        let length = self.long()?;
        usize::try_from(length).map_err(|_| Fault::new(format!("a length of {length}")))
    }
}
