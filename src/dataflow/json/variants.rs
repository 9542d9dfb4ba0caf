//! The variants of enums: strings, or the only field of an object.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, EnumAccess, VariantAccess, Visitor};

use super::Unusual;
use super::parts::Parts;

/// A variant that is a string, which nothing follows.
pub(super) struct Alone<D>(pub D);

impl<'de, D: Deserializer<'de, Error = Unusual>> EnumAccess<'de> for Alone<D> {
    type Error = Unusual;
    type Variant = Alone<()>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Alone<()>), Unusual> {
        Ok((seed.deserialize(self.0)?, Alone(())))
    }
}

impl<'de> VariantAccess<'de> for Alone<()> {
    type Error = Unusual;

    fn unit_variant(self) -> Result<(), Unusual> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _seed: S) -> Result<S::Value, Unusual> {
        Err(Unusual::new())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _to: V) -> Result<V::Value, Unusual> {
        Err(Unusual::new())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _to: V,
    ) -> Result<V::Value, Unusual> {
        Err(Unusual::new())
    }
}

/// The one variant of an object that is an enum's value.
impl<'de> EnumAccess<'de> for Parts<'_, 'de, '_> {
    type Error = Unusual;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Unusual> {
        let variant = seed.deserialize(&mut *self.json)?;
        self.json.text.take(b':')?;
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
