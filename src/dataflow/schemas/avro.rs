//! Avro data as serde types, straight from the bytes: no tree of values in between, and a field
//! that the type does not have is passed over.
//!
//! Numbers on the time line (`timestamp-*`, `local-timestamp-*`, `date`) read as milliseconds,
//! except by a field of an integer type, which gets the number as it was written. Decimals read as
//! exact text, or as the number that the field's type is. A union reads as the branch it took; an
//! enum of the type names its branches by the names of their types.

use serde::Deserialize;
use serde::de::value::SeqDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::decimal::Decimal;
use super::fault::{Fault, finite};
use super::input::Input;
use super::layout::{At, Layout, Named, Node};
use super::skip::skip;

/// Reads a datum, which has to fill the bytes.
pub fn read<'de, T: Deserialize<'de>>(layout: &Layout, bytes: &'de [u8]) -> Result<T, Fault> {
    let mut input = Input::new(bytes);
    let record = T::deserialize(Datum {
        input: &mut input,
        layout,
        node: layout.root(),
    })?;
    match input.left() {
        0 => Ok(record),
        left => Err(Fault::new(format!(
            "bytes left over behind the record: {left}"
        ))),
    }
}

/// The value that comes next.
struct Datum<'r, 'de> {
    input: &'r mut Input<'de>,
    layout: &'r Layout,
    node: &'r Node,
}

impl<'r, 'de> Datum<'r, 'de> {
    /// The same, with the branch that a union took in the union's place.
    fn resolved(self) -> Result<Datum<'r, 'de>, Fault> {
        match self.node {
            Node::Union(branches) => Ok(self.branch(branches)?.1),
            _ => Ok(self),
        }
    }

    fn branch(self, branches: &'r [Named]) -> Result<(&'r str, Datum<'r, 'de>), Fault> {
        let branch = &branches[self.input.choice(branches.len())?];
        let node = self.layout.node(branch.at);
        Ok((&branch.name, Datum { node, ..self }))
    }

    fn integer<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let datum = self.resolved()?;
        match datum.node {
            Node::Instant { .. } => visitor.visit_i64(datum.input.long()?),
            Node::Decimal { .. } | Node::BigDecimal => {
                let decimal = decimal(datum.node, datum.input)?;
                match decimal.as_integer() {
                    Some(n) => match i64::try_from(n) {
                        Ok(n) => visitor.visit_i64(n),
                        Err(_) => visitor.visit_i128(n),
                    },
                    None => visitor.visit_string(decimal.to_string()),
                }
            }
            _ => datum.deserialize_any(visitor),
        }
    }

    fn float<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let datum = self.resolved()?;
        match datum.node {
            Node::Decimal { .. } | Node::BigDecimal => {
                visitor.visit_f64(decimal(datum.node, datum.input)?.to_f64())
            }
            _ => datum.deserialize_any(visitor),
        }
    }

    fn list<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let datum = self.resolved()?;
        match datum.node {
            Node::Bytes => visit_bytes(datum.input.bytes()?, visitor),
            Node::Fixed(size) => visit_bytes(datum.input.take(*size)?, visitor),
            _ => datum.deserialize_any(visitor),
        }
    }

    fn record<V: Visitor<'de>>(self, fields: &'r [Named], visitor: V) -> Result<V::Value, Fault> {
        self.input.enter()?;
        let mut fields = Fields {
            input: &mut *self.input,
            layout: self.layout,
            rest: fields.iter(),
            named: None,
        };
        let value = visitor.visit_map(&mut fields)?;
        if fields.rest.len() > 0 || fields.named.is_some() {
            return Err(Fault::new("more fields than are wanted"));
        }
        self.input.leave();
        Ok(value)
    }

    fn items<V: Visitor<'de>>(
        self,
        item: At,
        visitor: V,
        visit: impl FnOnce(V, &mut Items<'_, 'de>) -> Result<V::Value, Fault>,
    ) -> Result<V::Value, Fault> {
        self.input.enter()?;
        let mut items = Items {
            input: &mut *self.input,
            layout: self.layout,
            node: self.layout.node(item),
            in_block: 0,
            left_behind: None,
            ended: false,
        };
        let value = visit(visitor, &mut items)?;
        if items.next()? {
            return Err(Fault::new("more items than are wanted"));
        }
        self.input.leave();
        Ok(value)
    }
}

/// Bytes where a list of numbers is wanted.
fn visit_bytes<'de, V: Visitor<'de>>(bytes: &[u8], visitor: V) -> Result<V::Value, Fault> {
    let items = SeqDeserializer::new(bytes.iter().copied());
    visitor.visit_seq(items)
}

fn decimal(node: &Node, input: &mut Input<'_>) -> Result<Decimal, Fault> {
    if let Node::Decimal { size, scale } = node {
        return Decimal::from_bytes(input.sized(*size)?, *scale);
    }
    let mut parts = Input::new(input.bytes()?);
    let unscaled = parts.bytes()?;
    Decimal::from_bytes(unscaled, parts.long()?)
}

fn uuid(bytes: &[u8]) -> Result<String, Fault> {
    let bytes: [u8; 16] = bytes
        .try_into()
        .map_err(|_| Fault::new(format!("a UUID of {} bytes, not 16", bytes.len())))?;
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
    Ok(parts.join("-"))
}

macro_rules! read_as {
    ($read:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.$read(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Datum<'_, 'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let input = &mut *self.input;
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Boolean => match input.array()? {
                [0] => visitor.visit_bool(false),
                [1] => visitor.visit_bool(true),
                [other] => Err(Fault::new(format!("{other} is neither true nor false"))),
            },
            Node::Int => visitor.visit_i64(input.int()?.into()),
            Node::Long => visitor.visit_i64(input.long()?),
            Node::Float => visitor.visit_f64(finite(f32::from_le_bytes(input.array()?).into())?),
            Node::Double => visitor.visit_f64(finite(f64::from_le_bytes(input.array()?))?),
            Node::Bytes => visitor.visit_borrowed_bytes(input.bytes()?),
            Node::Fixed(size) => visitor.visit_borrowed_bytes(input.take(*size)?),
            Node::Text => visitor.visit_borrowed_str(input.text()?),
            Node::Uuid(size) => visitor.visit_string(uuid(input.sized(*size)?)?),
            Node::Decimal { .. } | Node::BigDecimal => {
                visitor.visit_string(decimal(self.node, input)?.to_string())
            }
            Node::Instant { ms, per } => {
                visitor.visit_i64(input.long()?.saturating_mul(*ms).div_euclid(*per))
            }
            Node::Enum(symbols) => visitor.visit_str(&symbols[input.choice(symbols.len())?]),
            Node::Array(item) => {
                self.items(*item, visitor, |visitor, items| visitor.visit_seq(items))
            }
            Node::Map(value) => {
                self.items(*value, visitor, |visitor, items| visitor.visit_map(items))
            }
            Node::Record(fields) => self.record(fields, visitor),
            Node::Union(_) => self.resolved()?.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let datum = self.resolved()?;
        match datum.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(datum),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let (name, datum) = match self.node {
            Node::Union(branches) => self.branch(branches)?,
            _ => ("", self),
        };
        match datum.node {
            Node::Enum(symbols) => {
                let symbol: &str = &symbols[datum.input.choice(symbols.len())?];
                visitor.visit_enum(symbol.into_deserializer())
            }
            Node::Text => visitor.visit_enum(datum.input.text()?.into_deserializer()),
            _ if name.is_empty() => datum.deserialize_any(visitor),
            _ => visitor.visit_enum(Branch { name, datum }),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let datum = self.resolved()?;
        match datum.node {
            // serde would take the items for the fields, one by one: nobody means that.
            Node::Array(_) => Err(Fault::new("an array where a record is wanted")),
            _ => datum.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.list(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        skip(self.input, self.layout, self.node)?;
        visitor.visit_unit()
    }

    read_as!(integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_u128);
    read_as!(float: deserialize_f32 deserialize_f64);
    read_as!(list: deserialize_seq);

    forward_to_deserialize_any! {
        bool char str string bytes byte_buf unit unit_struct tuple_struct map identifier
    }
}

/// The fields of a record that are still to come.
struct Fields<'r, 'de> {
    input: &'r mut Input<'de>,
    layout: &'r Layout,
    rest: std::slice::Iter<'r, Named>,
    /// The one whose name was read.
    named: Option<&'r Named>,
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.named = self.rest.next();
        let name = self
            .named
            .map(|field| seed.deserialize((*field.name).into_deserializer()));
        name.transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let field = self
            .named
            .take()
            .expect("a value is asked for after its key");
        let value = seed.deserialize(Datum {
            input: self.input,
            layout: self.layout,
            node: self.layout.node(field.at),
        });
        value.map_err(|fault| fault.within(&field.name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The items of an array or a map that are still to come.
struct Items<'r, 'de> {
    input: &'r mut Input<'de>,
    layout: &'r Layout,
    node: &'r Node,
    in_block: u64,
    /// How many bytes must be left behind the block, if it says how long it is.
    left_behind: Option<usize>,
    ended: bool,
}

impl<'de> Items<'_, 'de> {
    /// Whether there is another item, which then has to be read.
    fn next(&mut self) -> Result<bool, Fault> {
        if self.in_block == 0 && !self.ended {
            let is_other = |left: usize| left != self.input.left();
            // Who passes over a block goes by its length: it has to be what it says.
            if self.left_behind.is_some_and(is_other) {
                return Err(Fault::new("a block that is not as long as it says"));
            }
            let (count, size) = self.input.block()?;
            let behind = |size| self.input.left().checked_sub(size);
            self.left_behind = size.map(|size| behind(size).unwrap_or(usize::MAX));
            self.in_block = count;
            self.ended = count == 0;
        }
        if self.ended {
            return Ok(false);
        }
        self.in_block -= 1;
        self.input.part()?;
        Ok(true)
    }

    fn value<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(Datum {
            input: self.input,
            layout: self.layout,
            node: self.node,
        })
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        self.next()?.then(|| self.value(seed)).transpose()
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        if !self.next()? {
            return Ok(None);
        }
        let key = self.input.text()?;
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        self.value(seed)
    }
}

/// The branch that a union took, as the variant of an enum.
struct Branch<'r, 'de> {
    name: &'r str,
    datum: Datum<'r, 'de>,
}

impl<'r, 'de> EnumAccess<'de> for Branch<'r, 'de> {
    type Error = Fault;
    type Variant = Datum<'r, 'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Datum<'r, 'de>), Fault> {
        let variant = seed.deserialize(self.name.into_deserializer())?;
        Ok((variant, self.datum))
    }
}

impl<'de> VariantAccess<'de> for Datum<'_, 'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        skip(self.input, self.layout, self.node)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_struct("", fields, visitor)
    }
}
