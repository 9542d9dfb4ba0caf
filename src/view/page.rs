//! Pages: bounded runs of rows in order, and the position where the next one starts.

use super::ReadError;
use crate::row::Row;

/// A bounded run of rows, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows, each with how often it occurs on this page (at least once). The occurrences add
    /// up to at most the limit: a row that occurs more often continues on the next page.
    pub rows: Vec<(Row, u64)>,
    /// Where the next page starts; `None` when this is the last.
    pub next: Option<RowPosition>,
}

/// A place between two rows; means something only at the epoch of the page that gave it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowPosition {
    /// How many occurrences of the row were given out, then the row's encoding.
    bytes: Vec<u8>,
}

const DONE_LEN: usize = size_of::<u64>();

impl RowPosition {
    /// Before the occurrence of `row` that follows the first `done` ones.
    pub(super) fn within(row: &Row, done: u64) -> RowPosition {
        RowPosition {
            bytes: [&done.to_be_bytes()[..], row.order()].concat(),
        }
    }

    /// The bytes to put into a cursor.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads what [`RowPosition::as_bytes`] gave. Bytes of elsewhere are at worst some other place
    /// between two rows.
    pub fn from_bytes(bytes: &[u8]) -> Result<RowPosition, ReadError> {
        if bytes.len() <= DONE_LEN {
            return Err(ReadError::BadPosition);
        }
        Ok(RowPosition {
            bytes: bytes.to_vec(),
        })
    }

    /// The encoding of the row to go on with.
    pub(super) fn order(&self) -> &[u8] {
        &self.bytes[DONE_LEN..]
    }

    /// How many occurrences of that row were given out.
    pub(super) fn done(&self) -> u64 {
        self.bytes[..DONE_LEN]
            .iter()
            .fold(0, |n, b| n << 8 | u64::from(*b))
    }
}
