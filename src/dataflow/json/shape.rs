//! The names of fields where they are expected.

use super::scan::Cursor;

/// How many names of a text are remembered.
const NAMES: usize = 16;

/// The names of a text's fields, in their order. Most texts have those of the one before, and to
/// see that is cheaper than to look for where a name ends.
pub(super) struct Shape {
    names: [Name; NAMES],
}

impl Default for Shape {
    fn default() -> Self {
        // No text has bytes like these.
        let none = Name {
            bytes: u128::MAX,
            others: 0,
            before: 1,
            is_first: false,
        };
        Shape {
            names: [none; NAMES],
        }
    }
}

/// A name with what is around it, as in `,"name":`, if that is not longer than sixteen bytes.
#[derive(Clone, Copy)]
struct Name {
    bytes: u128,
    /// How many of them are not part of it.
    others: usize,
    /// How many there are before the name.
    before: usize,
    /// Whether it is the first of its object: it has no comma then.
    is_first: bool,
}

impl Shape {
    /// Passes over the `nth` name with what is around it, if it is the expected one.
    #[inline(always)]
    pub fn expected<'de>(
        &self,
        nth: usize,
        is_first: bool,
        text: &mut Cursor<'de>,
    ) -> Option<&'de str> {
        let name = self.names.get(nth)?;
        let next = u128::from_le_bytes(*text.rest().first_chunk()?);
        if (next ^ name.bytes) << (8 * name.others) != 0 || name.is_first != is_first {
            return None;
        }
        let len = 16 - name.others;
        text.pass(len, name.before..len - 2)
    }

    /// Expects a name of this length there in the next text.
    pub fn expect(&mut self, nth: usize, is_first: bool, text: Cursor<'_>, len: usize) {
        let bytes = text.rest();
        let quote = bytes.iter().position(|byte| *byte == b'"').unwrap_or(0);
        let (before, end) = (quote + 1, quote + 1 + len);
        if let (Some(name), Some(sixteen)) = (self.names.get_mut(nth), bytes.first_chunk())
            && end + 2 <= 16
            && sixteen[end..].starts_with(b"\":")
        {
            *name = Name {
                bytes: u128::from_le_bytes(*sixteen),
                others: 16 - (end + 2),
                before,
                is_first,
            };
        }
    }
}
