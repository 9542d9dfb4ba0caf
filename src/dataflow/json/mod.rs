//! Records of JSON. What is ordinary about a text is read here, in little more than half the time
//! that `serde_json` takes. The first thing that is not ends the attempt, whatever it is: then
//! `serde_json` reads the text from its start, and says what is wrong with it, if anything is. So
//! what counts as JSON, what becomes of it, and every error are `serde_json`'s.

#![expect(
    clippy::inline_always,
    reason = "records are read 4% faster than with a hint"
)]

#[cfg(test)]
mod odd_types;
mod parts;
mod scan;
mod shape;
#[cfg(test)]
mod tests;
mod variants;

use std::cell::Cell;
use std::fmt::{self, Display};

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, Visitor};

use parts::Parts;
use scan::Cursor;
use shape::Shape;
use variants::Alone;

/// How deep values may lie in each other here. `serde_json` allows 127.
const DEPTH: u8 = 32;

/// Reads texts one after the other, the faster the more they are alike.
#[derive(Default)]
pub struct Reader {
    shape: Shape,
}

impl Reader {
    /// Reads a value, as `serde_json::from_str` does.
    ///
    /// # Errors
    ///
    /// Those of `serde_json::from_str`.
    #[inline]
    pub fn read<'de, T: Deserialize<'de>>(&mut self, text: &'de str) -> serde_json::Result<T> {
        match self.ordinary(text) {
            Ok(value) => Ok(value),
            Err(_) => unusual(text),
        }
    }

    #[inline(always)]
    fn ordinary<'de, T: Deserialize<'de>>(&mut self, text: &'de str) -> Result<T, Unusual> {
        let mut json = Json {
            text: Cursor::new(text),
            room: DEPTH,
            names: 0,
            is_value_due: false,
            shape: &mut self.shape,
        };
        MET.set(false);
        let value = T::deserialize(&mut json)?;
        // A type may take an error for a value; it would have been another error, if any.
        if json.text.next().is_some() || MET.get() {
            return Err(Unusual::new());
        }
        Ok(value)
    }
}

#[cold]
fn unusual<'de, T: Deserialize<'de>>(text: &'de str) -> serde_json::Result<T> {
    serde_json::from_str(text)
}

thread_local! {
    /// Whether anything unusual was met in the text that is read.
    static MET: Cell<bool> = const { Cell::new(false) };
}

/// Whether the last text that a [`Reader`] of this thread began to read is for `serde_json`.
pub fn is_left() -> bool {
    MET.get()
}

/// Something that is not read here, or that is wrong.
#[derive(Debug, PartialEq, Eq)]
struct Unusual(());

impl Unusual {
    #[cold]
    fn new() -> Self {
        MET.set(true);
        Unusual(())
    }
}

impl Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("left to serde_json")
    }
}

impl std::error::Error for Unusual {}

impl de::Error for Unusual {
    fn custom<T: Display>(_: T) -> Self {
        Unusual::new()
    }
}

/// A text up to where it was read.
struct Json<'de, 's> {
    text: Cursor<'de>,
    /// How much deeper values may lie.
    room: u8,
    /// How many names of fields there were.
    names: usize,
    /// Whether a name was given out, but not yet its value.
    is_value_due: bool,
    shape: &'s mut Shape,
}

impl<'de, 's> Json<'de, 's> {
    #[inline(always)]
    fn string<V: Visitor<'de>>(&mut self, to: V) -> Result<V::Value, Unusual> {
        match self.text.plain_string() {
            Some(string) => to.visit_borrowed_str(string),
            None => self.literal(Cursor::string, |json| json.deserialize_any(to)),
        }
    }

    #[inline(always)]
    fn number<V: Visitor<'de>>(&mut self, to: V) -> Result<V::Value, Unusual> {
        match self.text.whole_number() {
            Some((number, false)) => to.visit_u64(number.unsigned_abs()),
            Some((number, true)) => to.visit_i64(number),
            None => self.literal(Cursor::number, |json| json.deserialize_any(to)),
        }
    }

    /// What `serde_json` is to read, alone.
    #[cold]
    fn literal<R>(
        &mut self,
        end: impl FnOnce(&mut Cursor<'de>) -> Result<&'de str, Unusual>,
        read: impl FnOnce(&mut SerdeJson<'de>) -> serde_json::Result<R>,
    ) -> Result<R, Unusual> {
        let mut json = SerdeJson::from_str(end(&mut self.text)?);
        let value = read(&mut json);
        json.end().and(value).map_err(|_| Unusual::new())
    }

    /// The name of a field.
    #[inline(always)]
    fn name(&mut self) -> Result<&'de str, Unusual> {
        self.text.next();
        let name = self.text.plain_string().ok_or_else(Unusual::new)?;
        self.text.take(b':')?;
        Ok(name)
    }

    /// What lies between two brackets.
    #[inline(always)]
    fn within<R>(
        &mut self,
        [open, close]: [u8; 2],
        read: impl FnOnce(Parts<'_, 'de, 's>) -> Result<R, Unusual>,
    ) -> Result<R, Unusual> {
        self.text.take(open)?;
        self.room = self.room.checked_sub(1).ok_or_else(Unusual::new)?;
        // The result stays where it is: taken out and put back it would be copied.
        let read = read(Parts {
            json: self,
            close,
            is_first: true,
        });
        self.room += 1;
        if self.is_value_due {
            return Err(Unusual::new());
        }
        match self.text.take(close) {
            Ok(()) => read,
            Err(unusual) => Err(unusual),
        }
    }

    /// Passes over a value of any kind.
    fn skip(&mut self) -> Result<(), Unusual> {
        match self.text.next() {
            Some(b'"') if self.text.plain_string_passed() => Ok(()),
            Some(b'"') => self.literal(Cursor::string, ignored),
            Some(b'n') => self.text.word("null"),
            Some(b't') => self.text.word("true"),
            Some(b'f') => self.text.word("false"),
            Some(b'{') => self.within(*b"{}", |mut fields| {
                while fields.is_another()? {
                    fields.json.name()?;
                    fields.json.skip()?;
                }
                Ok(())
            }),
            Some(b'[') => self.within(*b"[]", |mut items| {
                while items.is_another()? {
                    items.json.skip()?;
                }
                Ok(())
            }),
            _ => match self.text.whole_number() {
                Some(_) => Ok(()),
                None => self.literal(Cursor::number, ignored),
            },
        }
    }
}

type SerdeJson<'de> = serde_json::Deserializer<serde_json::de::StrRead<'de>>;

fn ignored(json: &mut SerdeJson<'_>) -> serde_json::Result<()> {
    IgnoredAny::deserialize(json).map(|_| ())
}

/// Values that are of this kind and no other.
macro_rules! only {
    ($kind:ident: $($method:ident)*) => { $(
        #[inline(always)]
        fn $method<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
            self.text.next();
            self.$kind(to)
        }
    )* };
}

impl<'de> Deserializer<'de> for &mut Json<'de, '_> {
    type Error = Unusual;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
        match self.text.next() {
            Some(b'"') => self.string(to),
            Some(b'{') => self.deserialize_map(to),
            Some(b'[') => self.deserialize_seq(to),
            Some(b'n') => self.deserialize_unit(to),
            Some(b't' | b'f') => self.deserialize_bool(to),
            _ => self.number(to),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
        let is_true = self.text.next() == Some(b't');
        self.text.word(if is_true { "true" } else { "false" })?;
        to.visit_bool(is_true)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
        self.text.next();
        self.text.word("null")?;
        to.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        to: V,
    ) -> Result<V::Value, Unusual> {
        self.deserialize_unit(to)
    }

    #[inline(always)]
    fn deserialize_option<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
        match self.text.next() {
            Some(b'n') => {
                self.text.word("null")?;
                to.visit_none()
            }
            _ => to.visit_some(self),
        }
    }

    #[inline(always)]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        to: V,
    ) -> Result<V::Value, Unusual> {
        to.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
        self.within(*b"[]", |items| to.visit_seq(items))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, to: V) -> Result<V::Value, Unusual> {
        self.deserialize_seq(to)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        to: V,
    ) -> Result<V::Value, Unusual> {
        self.deserialize_seq(to)
    }

    #[inline(always)]
    fn deserialize_map<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
        self.within(*b"{}", |fields| to.visit_map(fields))
    }

    #[inline(always)]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        to: V,
    ) -> Result<V::Value, Unusual> {
        self.deserialize_map(to)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        to: V,
    ) -> Result<V::Value, Unusual> {
        match self.text.next() {
            Some(b'{') => self.within(*b"{}", |fields| to.visit_enum(fields)),
            Some(b'"') => to.visit_enum(Alone(self)),
            _ => Err(Unusual::new()),
        }
    }

    #[inline(always)]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
        self.skip()?;
        to.visit_unit()
    }

    only! {
        string: deserialize_char deserialize_str deserialize_string deserialize_identifier
    }

    only! {
        number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8
            deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64
    }

    fn deserialize_i128<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
        self.text.next();
        self.literal(Cursor::number, |json| json.deserialize_i128(to))
    }

    fn deserialize_u128<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
        self.text.next();
        self.literal(Cursor::number, |json| json.deserialize_u128(to))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
        match self.text.next() {
            Some(b'[') => self.deserialize_seq(to),
            _ => self.literal(Cursor::string, |json| json.deserialize_bytes(to)),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
        self.deserialize_bytes(to)
    }
}
