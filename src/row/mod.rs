//! Answer rows: a key and a value in an order-preserving encoding and as JSON.

mod order;
mod ordered;
#[cfg(test)]
mod properties;
mod serializer;

use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::time::Timestamp;

pub use order::encode_json;
pub(crate) use order::{AFTER_ALL, Encoder};
pub(crate) use ordered::{Ordered, consolidate, consolidated};

/// A row of an answer, shared: a clone is the same row. Rows order as their keys do, then their
/// values, compared as types: text by bytes, numbers by value, tuples and structs part by part.
///
/// All of it lies in one allocation: a million rows are a million of them, and not four.
#[derive(Clone)]
pub struct Row {
    /// Three lengths of 4 bytes: of the encoded key, of the identity, of the key as JSON. Then the
    /// identity: the encoded key, the encoded value, `final_at`. Then key and value as JSON.
    bytes: Arc<[u8]>,
}

/// The lengths at the front of a row.
const HEADER: usize = 12;
/// The end of a row's identity: whether something makes it final, and when. Of fixed length, so
/// that it is found from behind; it orders as the `Option` does.
const FINAL: usize = 9;

/// Why a key or value cannot be a row.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode a row: {0}")]
pub struct EncodeError(pub String);

thread_local! {
    /// The buffer of [`Row::new`], taken while in use: a row's type may itself build rows.
    static BUFFER: Cell<Encoder> = Cell::default();
}

impl Row {
    /// Encodes a key and a value. The row is final once the query's watermark has reached
    /// `final_at`; `None` where nothing closes it.
    pub fn new<K: Serialize, V: Serialize>(
        key: &K,
        value: &V,
        final_at: Option<Timestamp>,
    ) -> Result<Row, EncodeError> {
        let mut buffer = BUFFER.take();
        buffer.out.clear();
        let row = Row::encode(key, value, final_at, &mut buffer);
        BUFFER.set(buffer);
        row
    }

    fn encode<K: Serialize, V: Serialize>(
        key: &K,
        value: &V,
        final_at: Option<Timestamp>,
        buffer: &mut Encoder,
    ) -> Result<Row, EncodeError> {
        buffer.out.extend_from_slice(&[0; HEADER]);
        key.serialize(&mut *buffer)?;
        let key_end = buffer.out.len();
        value.serialize(&mut *buffer)?;
        let at = final_at.map_or(0, |at| at.0.cast_unsigned() ^ 1 << 63);
        buffer.out.push(final_at.is_some().into());
        buffer.out.extend_from_slice(&at.to_be_bytes());
        let identity_end = buffer.out.len();
        append_json(key, &mut buffer.out)?;
        let json_key_end = buffer.out.len();
        append_json(value, &mut buffer.out)?;
        let lengths = [
            key_end - HEADER,
            identity_end - HEADER,
            json_key_end - identity_end,
        ];
        for (place, length) in buffer.out.chunks_exact_mut(4).zip(lengths) {
            let length =
                u32::try_from(length).map_err(|_| EncodeError("it has more than 4 GiB".into()))?;
            place.copy_from_slice(&length.to_ne_bytes());
        }
        Ok(Row {
            bytes: Arc::from(buffer.out.as_slice()),
        })
    }

    /// The encoded key, the encoded value, then when it is final: all of the row's identity.
    /// Compares as bytes.
    pub fn order(&self) -> &[u8] {
        &self.bytes[HEADER..HEADER + self.length(1)]
    }

    /// The encoded key, with which the identity starts.
    pub fn order_of_key(&self) -> &[u8] {
        &self.bytes[HEADER..HEADER + self.length(0)]
    }

    /// The key as JSON.
    pub fn key(&self) -> &str {
        let start = HEADER + self.length(1);
        text(&self.bytes[start..start + self.length(2)])
    }

    /// The value as JSON.
    pub fn value(&self) -> &str {
        text(&self.bytes[HEADER + self.length(1) + self.length(2)..])
    }

    /// The row is final once the query's watermark has reached this; `None` where nothing closes
    /// it.
    pub fn final_at(&self) -> Option<Timestamp> {
        let end = HEADER + self.length(1);
        let (is_some, at) = self.bytes[end - FINAL..end].split_first()?;
        let at = u64::from_be_bytes(at.try_into().ok()?) ^ 1 << 63;
        (*is_some == 1).then_some(Timestamp(at.cast_signed()))
    }

    /// How many bytes it takes, besides what the allocator adds.
    pub fn bytes(&self) -> usize {
        // The counts of who shares it.
        self.bytes.len() + 2 * size_of::<usize>()
    }

    fn length(&self, which: usize) -> usize {
        let mut length = [0; 4];
        length.copy_from_slice(&self.bytes[4 * which..4 * (which + 1)]);
        u32::from_ne_bytes(length) as usize
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Row {}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Row) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Row {
    fn cmp(&self, other: &Row) -> Ordering {
        self.order().cmp(other.order())
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("key", &self.key())
            .field("value", &self.value())
            .field("final_at", &self.final_at())
            .finish()
    }
}

fn append_json<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    serde_json::to_writer(&mut *out, value).map_err(|e| EncodeError(e.to_string()))?;
    // Not wrong unless a type writes raw JSON that is no UTF-8.
    str::from_utf8(&out[start..])
        .map(|_| ())
        .map_err(|e| EncodeError(e.to_string()))
}

fn text(json: &[u8]) -> &str {
    str::from_utf8(json).expect("JSON was checked when the row was made")
}
