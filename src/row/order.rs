//! The order-preserving encoding of rows: bytes that compare as the values they stand for.
//!
//! The encoding is a function of the JSON a value is written as, so that a key read from a URL
//! finds its rows without knowing their type. Every value starts with a tag:
//!
//! ```text
//! END 00 < null 01 < false 02 < true 03
//!   < integers 14..34   tag 24 +- the number of bytes, then big-endian; negative ones complemented
//!   < floats   40       8 bytes, big-endian, sign flipped (all bits where negative)
//!   < text     50       the bytes, 00 as 00 FF; then END
//!   < sequence 60       tuples, tuple structs, vectors: the parts; then END
//!   < object   70       structs, maps, enum variants with content: name, value, ..; then END
//! ```
//!
//! * An integer has the same bytes at every width. Integers sort before floats, whatever their
//!   values: one column is always one type. NaN and infinities are null, as in JSON, and an `f32`
//!   is the number its shortest decimal reads as. -0.0 is its own value, just before 0.0.
//! * `END` is the lowest byte: what is a prefix sorts first, and a sequence without its `END` is a
//!   prefix of every longer one that starts with the same parts.
//! * What follows a whole value is `END` or a tag, and so less than `FF`: the values that extend
//!   some whole parts `p` are exactly those in `p..p FF`.

use serde::ser::{self, Serialize};
use serde_json::Value;

use super::EncodeError;

const END: u8 = 0x00;
const NULL: u8 = 0x01;
const FALSE: u8 = 0x02;
const TRUE: u8 = 0x03;
const ZERO: u8 = 0x24;
const FLOAT: u8 = 0x40;
const TEXT: u8 = 0x50;
const SEQUENCE: u8 = 0x60;
const OBJECT: u8 = 0x70;
/// Greater than whatever may follow a whole value.
pub(crate) const AFTER_ALL: u8 = 0xFF;

/// Encodes a JSON value to the bytes of the typed value that is written as it.
pub fn encode_json(value: &Value) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.json(value);
    encoder.out
}

/// Appends encoded values to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// What was encoded so far.
    pub out: Vec<u8>,
}

impl Encoder {
    /// Appends a JSON value.
    pub fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(b) => self.bool(*b),
            Value::Number(n) => match (n.as_u64(), n.as_i64()) {
                (Some(n), _) => self.integer(false, n.into()),
                (None, Some(n)) => self.integer(n < 0, n.unsigned_abs().into()),
                (None, None) => self.float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(s) => self.text(s),
            Value::Array(parts) => {
                self.open_sequence();
                for part in parts {
                    self.json(part);
                }
                self.close();
            }
            Value::Object(fields) => {
                self.open_object();
                for (name, value) in fields {
                    self.text(name);
                    self.json(value);
                }
                self.close();
            }
        }
    }

    /// Appends a null.
    pub fn null(&mut self) {
        self.out.push(NULL);
    }

    /// Appends a bool.
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { TRUE } else { FALSE });
    }

    /// Appends an integer, whatever its width.
    pub fn integer(&mut self, negative: bool, magnitude: u128) {
        let bytes = magnitude.to_be_bytes();
        let len = 16 - magnitude.leading_zeros() / 8;
        let digits = &bytes[16 - len as usize..];
        // At most 16, so the cast keeps the number.
        let len = u8::try_from(len).unwrap_or(16);
        if negative {
            self.out.push(ZERO - len);
            self.out.extend(digits.iter().map(|b| !b));
        } else {
            self.out.push(ZERO + len);
            self.out.extend_from_slice(digits);
        }
    }

    /// Appends a float; null where JSON has no number for it.
    pub fn float(&mut self, value: f64) {
        if !value.is_finite() {
            return self.null();
        }
        let bits = value.to_bits();
        let ordered = if value.is_sign_negative() {
            !bits
        } else {
            bits | 1 << 63
        };
        self.out.push(FLOAT);
        self.out.extend_from_slice(&ordered.to_be_bytes());
    }

    /// Appends a text.
    pub fn text(&mut self, text: &str) {
        self.text_start(text);
        self.out.push(END);
    }

    /// Appends a text without its end: a prefix of every text that starts with it.
    pub fn text_start(&mut self, text: &str) {
        self.out.push(TEXT);
        if !text.as_bytes().contains(&0) {
            return self.out.extend_from_slice(text.as_bytes());
        }
        for piece in text.as_bytes().split_inclusive(|b| *b == 0) {
            self.out.extend_from_slice(piece);
            if piece.ends_with(&[0]) {
                self.out.push(AFTER_ALL);
            }
        }
    }

    /// Starts a sequence: its parts follow.
    pub fn open_sequence(&mut self) {
        self.out.push(SEQUENCE);
    }

    /// Starts an object: a name, a value, and so on follow.
    pub fn open_object(&mut self) {
        self.out.push(OBJECT);
    }

    /// Ends the innermost sequence or object.
    pub fn close(&mut self) {
        self.out.push(END);
    }

    /// Appends the name of an entry; JSON has only text there.
    pub fn name<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), EncodeError> {
        let start = self.out.len();
        name.serialize(&mut *self)?;
        match self.out.get(start) {
            Some(&TEXT) => Ok(()),
            Some(&(FALSE..=FLOAT)) => {
                self.out.truncate(start);
                let text = serde_json::to_string(name).map_err(ser::Error::custom)?;
                self.text(&text);
                Ok(())
            }
            _ => Err(EncodeError(
                "a map's key must be text, a number or a bool".into(),
            )),
        }
    }
}

impl ser::Error for EncodeError {
    fn custom<T: std::fmt::Display>(message: T) -> EncodeError {
        EncodeError(message.to_string())
    }
}
