//! Answer rows: a key and a value in an order-preserving encoding and as JSON.

use std::sync::Arc;

use serde::Serialize;

use crate::time::Timestamp;

/// A row of an answer. Rows order as their keys do, then their values, compared as types: text by
/// bytes, numbers by value, tuples and structs part by part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The encoded key, the encoded value, and `final_at`; compares as bytes and is all of the
    /// row's identity.
    pub order: Arc<[u8]>,
    /// How many bytes of `order` are the key.
    pub key_len: u32,
    /// The key as JSON.
    pub key: Box<str>,
    /// The value as JSON.
    pub value: Box<str>,
    /// The row is final once the query's watermark has reached this; `None` where nothing closes it.
    pub final_at: Option<Timestamp>,
}

/// Why a key or value cannot be a row.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode a row: {0}")]
pub struct EncodeError(pub String);

impl Row {
    /// Encodes a key and a value.
    pub fn new<K: Serialize, V: Serialize>(
        key: &K,
        value: &V,
        final_at: Option<Timestamp>,
    ) -> Result<Row, EncodeError> {
        let json = |e: serde_json::Error| EncodeError(e.to_string());
        let key = serde_json::to_string(key).map_err(json)?;
        let value = serde_json::to_string(value).map_err(json)?;
        let order: Arc<[u8]> = format!("{key}{value}").into_bytes().into();
        let key_len = u32::try_from(key.len()).map_err(|e| EncodeError(e.to_string()))?;
        Ok(Row {
            order,
            key_len,
            key: key.into(),
            value: value.into(),
            final_at,
        })
    }
}
