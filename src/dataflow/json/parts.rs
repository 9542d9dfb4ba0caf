//! What is in an object or an array.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::variants::Alone;
use super::{Json, Unusual};

/// The fields of an object or the items of an array, one by one.
pub(super) struct Parts<'a, 'de, 's> {
    pub(super) json: &'a mut Json<'de, 's>,
    pub(super) close: u8,
    pub(super) is_first: bool,
}

impl Parts<'_, '_, '_> {
    #[inline(always)]
    pub(super) fn is_another(&mut self) -> Result<bool, Unusual> {
        if self.json.text.next() == Some(self.close) {
            return Ok(false);
        }
        if !self.is_first {
            self.json.text.take(b',')?;
            if self.json.text.next() == Some(self.close) {
                return Err(Unusual::new());
            }
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
            text,
            names,
            is_value_due,
            shape,
            ..
        } = &mut *self.json;
        if std::mem::replace(is_value_due, true) {
            return Err(Unusual::new());
        }
        let (nth, is_first, before) = (*names, self.is_first, *text);
        *names += 1;
        if let Some(name) = shape.expected(nth, is_first, text) {
            self.is_first = false;
            return seed.deserialize(Key(name)).map(Some);
        }
        if !self.is_another()? {
            self.json.is_value_due = false;
            return Ok(None);
        }
        let name = self.json.name()?;
        self.json.shape.expect(nth, is_first, before, name.len());
        seed.deserialize(Key(name)).map(Some)
    }

    #[inline(always)]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Unusual> {
        if !std::mem::replace(&mut self.json.is_value_due, false) {
            return Err(Unusual::new());
        }
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

/// Kinds that are left to `serde_json`.
macro_rules! left_to_serde_json {
    ($($method:ident)*) => { $(
        fn $method<V: Visitor<'de>>(self, _to: V) -> Result<V::Value, Unusual> {
            Err(Unusual::new())
        }
    )* };
}

/// The name of a field, which is a text. As a number or the like it is left to `serde_json`.
pub(super) struct Key<'de>(&'de str);

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
        to.visit_enum(Alone(self))
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
