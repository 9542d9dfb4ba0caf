//! Pages: bounded runs of rows in order, and the position where the next one starts.

use std::sync::Arc;

use super::ReadError;
use crate::row::Row;

/// A bounded run of rows, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows, each with how often it occurs on this page (at least once). The occurrences add
    /// up to at most the limit: a row that occurs more often continues on the next page.
    pub rows: Vec<(Arc<Row>, u64)>,
    /// Where the next page starts; `None` when this is the last.
    pub next: Option<RowPosition>,
}

/// A place between two rows; means something only at the epoch of the page that gave it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowPosition(Vec<u8>);

impl RowPosition {
    /// The bytes to put into a cursor.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads what [`RowPosition::as_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<RowPosition, ReadError> {
        if bytes.len() < 8 {
            return Err(ReadError::BadPosition);
        }
        Ok(RowPosition(bytes.to_vec()))
    }
}
