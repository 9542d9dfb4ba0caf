//! Answer rows: a key and a value in an order-preserving encoding and as JSON.

mod order;
#[cfg(test)]
mod properties;
mod serializer;

use std::cell::Cell;
use std::sync::Arc;

use serde::Serialize;

use crate::time::Timestamp;

pub use order::encode_json;
pub(crate) use order::{AFTER_ALL, Encoder};

/// A row of an answer. Rows order as their keys do, then their values, compared as types: text by
/// bytes, numbers by value, tuples and structs part by part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The encoded key, the encoded value, then `final_at`: all of the row's identity. Compares as
    /// bytes.
    pub order: Arc<[u8]>,
    /// How many bytes of `order` are the key.
    pub key_len: u32,
    /// The key as JSON.
    pub key: Box<str>,
    /// The value as JSON.
    pub value: Box<str>,
    /// The row is final once the query's watermark has reached this; `None` where nothing closes
    /// it.
    pub final_at: Option<Timestamp>,
}

/// Why a key or value cannot be a row.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode a row: {0}")]
pub struct EncodeError(pub String);

thread_local! {
    /// The buffers of [`Row::new`], taken while in use: a row's type may itself build rows.
    static BUFFERS: Cell<(Encoder, Vec<u8>)> = Cell::default();
}

impl Row {
    /// Encodes a key and a value.
    pub fn new<K: Serialize, V: Serialize>(
        key: &K,
        value: &V,
        final_at: Option<Timestamp>,
    ) -> Result<Row, EncodeError> {
        let (mut order, mut json) = BUFFERS.take();
        order.out.clear();
        let row = Row::encode(key, value, final_at, &mut order, &mut json);
        BUFFERS.set((order, json));
        row
    }

    fn encode<K: Serialize, V: Serialize>(
        key: &K,
        value: &V,
        final_at: Option<Timestamp>,
        order: &mut Encoder,
        json: &mut Vec<u8>,
    ) -> Result<Row, EncodeError> {
        key.serialize(&mut *order)?;
        let key_len = u32::try_from(order.out.len())
            .map_err(|_| EncodeError("the key has more than 4 GiB".into()))?;
        value.serialize(&mut *order)?;
        final_at.serialize(&mut *order)?;
        Ok(Row {
            order: Arc::from(order.out.as_slice()),
            key_len,
            key: json_of(key, json)?,
            value: json_of(value, json)?,
            final_at,
        })
    }
}

fn json_of<T: Serialize>(value: &T, buffer: &mut Vec<u8>) -> Result<Box<str>, EncodeError> {
    buffer.clear();
    serde_json::to_writer(&mut *buffer, value).map_err(|e| EncodeError(e.to_string()))?;
    // Not wrong unless a type writes raw JSON that is no UTF-8.
    str::from_utf8(buffer)
        .map(Box::from)
        .map_err(|e| EncodeError(e.to_string()))
}
