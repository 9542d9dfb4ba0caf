//! Ranges of keys, read from the text of a URL.

use std::ops::Range;

use serde_json::Value;

use super::key::{self, Reason};
use super::{QuerySpec, ReadError};
use crate::row::{AFTER_ALL, Row};

/// How much of a wrong text an error repeats.
const SHOWN: usize = 200;

/// The rows between two places in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every row.
    pub fn all() -> KeyRange {
        KeyRange::default()
    }

    /// The rows of one key: its JSON, or its plain text where keys are text or integers.
    pub fn key(spec: &QuerySpec, text: &str) -> Result<KeyRange, ReadError> {
        read(spec, text, key::whole).map(KeyRange::extending)
    }

    /// The rows whose key starts with these parts: a JSON array (or object, where keys are
    /// objects), or plain text, which is the first part of a composed key and the start of a text.
    pub fn prefix(spec: &QuerySpec, text: &str) -> Result<KeyRange, ReadError> {
        read(spec, text, key::start).map(KeyRange::extending)
    }

    /// The rows from one key on (inclusive) up to another (exclusive). Of a composed key the first
    /// parts are enough: they stand before every key that starts with them.
    pub fn between(
        spec: &QuerySpec,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<KeyRange, ReadError> {
        let bound = |text| read(spec, text, key::start);
        Ok(KeyRange {
            from: from.map(bound).transpose()?.unwrap_or_default(),
            to: to.map(bound).transpose()?,
        })
    }

    fn extending(start: Vec<u8>) -> KeyRange {
        let end = [start.as_slice(), &[AFTER_ALL]].concat();
        KeyRange {
            from: start,
            to: Some(end),
        }
    }

    /// Where the range starts (inclusive) and ends (exclusive), as encodings.
    pub(super) fn bounds(&self) -> (&[u8], Option<&[u8]>) {
        (&self.from, self.to.as_deref())
    }

    /// Whether a row is in the range.
    pub fn holds(&self, row: &Row) -> bool {
        let end = self.to.as_deref();
        self.from.as_slice() <= row.order() && end.is_none_or(|end| row.order() < end)
    }

    /// Where the range's rows stand among items that are in row order.
    pub fn places<T>(&self, items: &[T], row: impl Fn(&T) -> &Row) -> Range<usize> {
        let before = |bound: &[u8]| items.partition_point(|item| row(item).order() < bound);
        let start = before(&self.from);
        let end = self.to.as_deref().map_or(items.len(), before);
        start..end.max(start)
    }

    /// The rows in both ranges.
    #[must_use]
    pub fn and(self, other: KeyRange) -> KeyRange {
        let to = match (self.to, other.to) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        KeyRange {
            from: self.from.max(other.from),
            to,
        }
    }
}

fn read(
    spec: &QuerySpec,
    text: &str,
    encode: fn(&Value, &str) -> Result<Vec<u8>, Reason>,
) -> Result<Vec<u8>, ReadError> {
    encode(&spec.key_schema, text).map_err(|Reason(reason)| ReadError::BadKey {
        query: spec.name.clone(),
        text: text.chars().take(SHOWN).collect(),
        reason: reason.chars().take(SHOWN).collect(),
    })
}
