//! Records of JSON. What is ordinary about a text is read here, in little more than half the time
//! that `serde_json` takes. The first thing that is not ends the attempt, whatever it is: then
//! `serde_json` reads the text from its start, and says what is wrong with it, if anything is. So
//! what counts as JSON, what becomes of it, and every error are `serde_json`'s.

#![expect(
    clippy::inline_always,
    reason = "records are read 4% faster than with a hint"
)]

mod scan;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt::{self, Display};

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use scan::Cursor;
use shape::Shape;

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
            Err(Unusual) => unusual(text),
        }
    }

    #[inline(always)]
    fn ordinary<'de, T: Deserialize<'de>>(&mut self, text: &'de str) -> Result<T, Unusual> {
        let mut json = Json {
            text: Cursor::new(text),
            room: DEPTH,
            names: 0,
            shape: &mut self.shape,
        };
        let value = T::deserialize(&mut json)?;
        match json.text.next() {
            None => Ok(value),
            Some(_) => Err(Unusual),
        }
    }
}

#[cold]
fn unusual<'de, T: Deserialize<'de>>(text: &'de str) -> serde_json::Result<T> {
    serde_json::from_str(text)
}

/// Something that is not read here, or that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unusual;

impl Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("left to serde_json")
    }
}

impl std::error::Error for Unusual {}

impl de::Error for Unusual {
    fn custom<T: Display>(_: T) -> Self {
        Unusual
    }
}

/// A text up to where it was read.
struct Json<'de, 's> {
    text: Cursor<'de>,
    /// How much deeper values may lie.
    room: u8,
    /// How many names of fields there were.
    names: usize,
    shape: &'s mut Shape,
}

impl<'de, 's> Json<'de, 's> {
    #[inline(always)]
    fn string<V: Visitor<'de>>(&mut self, to: V) -> Result<V::Value, Unusual> {
        match self.text.plain_string() {
            Some(string) => to.visit_borrowed_str(string),
            None => self.literal(Cursor::string, to),
        }
    }

    #[inline(always)]
    fn number<V: Visitor<'de>>(&mut self, to: V) -> Result<V::Value, Unusual> {
        match self.text.whole_number() {
            Some((number, false)) => to.visit_u64(number.unsigned_abs()),
            Some((number, true)) => to.visit_i64(number),
            None => self.literal(Cursor::number, to),
        }
    }

    /// What `serde_json` is to read, alone.
    #[cold]
    fn literal<V: Visitor<'de>>(
        &mut self,
        end: impl FnOnce(&mut Cursor<'de>) -> Result<&'de str, Unusual>,
        to: V,
    ) -> Result<V::Value, Unusual> {
        let mut json = serde_json::Deserializer::from_str(end(&mut self.text)?);
        let value = json.deserialize_any(to);
        json.end().and(value).map_err(|_| Unusual)
    }

    /// The name of a field.
    #[inline(always)]
    fn name(&mut self) -> Result<&'de str, Unusual> {
        self.text.next();
        let name = self.text.plain_string().ok_or(Unusual)?;
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
        self.room = self.room.checked_sub(1).ok_or(Unusual)?;
        // The result stays where it is: taken out and put back it would be copied.
        let read = read(Parts {
            json: self,
            close,
            is_first: true,
        });
        self.room += 1;
        if self.text.take(close).is_err() {
            return Err(Unusual);
        }
        read
    }

    /// Passes over a value of any kind.
    fn skip(&mut self) -> Result<(), Unusual> {
        match self.text.next() {
            Some(b'"') => match self.text.plain_string() {
                Some(_) => Ok(()),
                None => self.literal(Cursor::string, IgnoredAny).map(|_| ()),
            },
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
                None => self.literal(Cursor::number, IgnoredAny).map(|_| ()),
            },
        }
    }
}

/// The fields of an object or the items of an array, one by one.
struct Parts<'a, 'de, 's> {
    json: &'a mut Json<'de, 's>,
    close: u8,
    is_first: bool,
}

impl Parts<'_, '_, '_> {
    #[inline(always)]
    fn is_another(&mut self) -> Result<bool, Unusual> {
        if self.json.text.next() == Some(self.close) {
            return Ok(false);
        }
        if !self.is_first {
            self.json.text.take(b',')?;
        }
        self.is_first = false;
        Ok(true)
    }
}

impl<'de> MapAccess<'de> for Parts<'_, 'de, '_> {
    type Error = Unusual;

    #[inline(always)]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unusual> {
        let Json {
            text, names, shape, ..
        } = &mut *self.json;
        let (nth, is_first, before) = (*names, self.is_first, *text);
        *names += 1;
        if let Some(name) = shape.expected(nth, is_first, text) {
            self.is_first = false;
            return seed.deserialize(Key(name)).map(Some);
        }
        if !self.is_another()? {
            return Ok(None);
        }
        let name = self.json.name()?;
        self.json.shape.expect(nth, is_first, before, name.len());
        seed.deserialize(Key(name)).map(Some)
    }

    #[inline(always)]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Unusual> {
        seed.deserialize(&mut *self.json)
    }
}

impl<'de> SeqAccess<'de> for Parts<'_, 'de, '_> {
    type Error = Unusual;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Unusual> {
        if !self.is_another()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.json).map(Some)
    }
}

/// Kinds that are never read here.
macro_rules! left_to_serde_json {
    ($($method:ident)*) => { $(
        fn $method<V: Visitor<'de>>(self, _to: V) -> Result<V::Value, Unusual> {
            Err(Unusual)
        }
    )* };
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

/// The name of a field, which is a text. As a number or the like it is left to `serde_json`.
struct Key<'de>(&'de str);

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Unusual;

    #[inline(always)]
    fn deserialize_any<V: Visitor<'de>>(self, to: V) -> Result<V::Value, Unusual> {
        to.visit_borrowed_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        to: V,
    ) -> Result<V::Value, Unusual> {
        to.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        to: V,
    ) -> Result<V::Value, Unusual> {
        to.visit_enum(BorrowedStrDeserializer::new(self.0))
    }

    left_to_serde_json! {
        deserialize_bool deserialize_option deserialize_bytes deserialize_byte_buf
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    forward_to_deserialize_any! {
        char str string identifier ignored_any unit unit_struct seq tuple tuple_struct map struct
    }
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
        if self.text.next() == Some(b'{') {
            return self.within(*b"{}", |fields| to.visit_enum(fields));
        }
        let variant = self.text.plain_string().ok_or(Unusual)?;
        to.visit_enum(BorrowedStrDeserializer::new(variant))
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

    // Numbers of 128 bits have more digits than are read here; bytes need not be text.
    left_to_serde_json! {
        deserialize_i128 deserialize_u128 deserialize_bytes deserialize_byte_buf
    }
}

/// The one variant of an object that is an enum's value.
impl<'de> EnumAccess<'de> for Parts<'_, 'de, '_> {
    type Error = Unusual;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Unusual> {
        let variant = seed.deserialize(Key(self.json.name()?))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Parts<'_, 'de, '_> {
    type Error = Unusual;

    fn unit_variant(self) -> Result<(), Unusual> {
        Deserialize::deserialize(self.json)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Unusual> {
        seed.deserialize(self.json)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, to: V) -> Result<V::Value, Unusual> {
        self.json.deserialize_seq(to)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        to: V,
    ) -> Result<V::Value, Unusual> {
        self.json.deserialize_map(to)
    }
}
