//! Ranges of keys, read from the text of a URL.

use super::{QuerySpec, ReadError};

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
    pub fn key(_spec: &QuerySpec, text: &str) -> Result<KeyRange, ReadError> {
        Ok(KeyRange {
            from: text.into(),
            to: None,
        })
    }

    /// The rows whose key starts with these parts: a JSON array, or plain text, which is the first
    /// part of a composed key or the start of a text key.
    pub fn prefix(_spec: &QuerySpec, text: &str) -> Result<KeyRange, ReadError> {
        Ok(KeyRange {
            from: text.into(),
            to: None,
        })
    }

    /// The rows from one key on (inclusive) up to another (exclusive).
    pub fn between(
        _spec: &QuerySpec,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<KeyRange, ReadError> {
        Ok(KeyRange {
            from: from.unwrap_or_default().into(),
            to: to.map(Into::into),
        })
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
