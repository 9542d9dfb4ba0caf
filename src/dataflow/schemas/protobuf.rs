//! Protobuf messages as serde types, by the names that the schema has for their fields.
//!
//! A field that is absent reads as its default, or as nothing where the schema tells the two apart.
//! `Timestamp` and `Duration` read as milliseconds, decimals as exact text; wrappers, `Struct`,
//! `Value` and `ListValue` as what they wrap. Enums read as names, or as numbers by a field of an
//! integer type. An enum of the type is a `oneof` that is its message's only content.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use serde::de::value::{MapAccessDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::decimal::Decimal;
use super::fault::{Fault, finite};
use super::messages::Messages;

/// Reads a message and what stands in front of it.
pub fn read<T: DeserializeOwned>(messages: &Messages, data: &[u8]) -> Result<T, Fault> {
    let (descriptor, bytes) = messages.split(data)?;
    let kind = Kind::Message(descriptor.clone());
    let message =
        DynamicMessage::decode(descriptor, bytes).map_err(|error| Fault::new(error.to_string()))?;
    T::deserialize(Part {
        value: &Value::Message(message),
        kind: &kind,
    })
}

/// What a message is to be read as.
enum Reading {
    /// Its fields.
    Fields,
    /// Milliseconds: it is one of seconds and nanoseconds.
    Millis,
    /// A number in decimal digits.
    Decimal,
    /// The one field it has.
    Wrapped,
    /// The one field of several that is set.
    Chosen,
}

fn reading(message: &DynamicMessage) -> Reading {
    let descriptor = message.descriptor();
    let name = descriptor.full_name();
    if name == "confluent.type.Decimal" {
        return Reading::Decimal;
    }
    match name.strip_prefix("google.protobuf.") {
        Some("Timestamp" | "Duration") => Reading::Millis,
        Some("Value") => Reading::Chosen,
        Some(
            "BoolValue" | "BytesValue" | "DoubleValue" | "FloatValue" | "Int32Value" | "Int64Value"
            | "ListValue" | "StringValue" | "Struct" | "UInt32Value" | "UInt64Value",
        ) => Reading::Wrapped,
        _ => Reading::Fields,
    }
}

/// The field of a message that stands for the whole of it.
fn wrapped(message: &DynamicMessage) -> Option<(FieldDescriptor, Cow<'_, Value>)> {
    let descriptor = message.descriptor();
    let field = match reading(message) {
        Reading::Wrapped => descriptor.get_field(1),
        Reading::Chosen => descriptor.fields().find(|field| message.has_field(field)),
        _ => None,
    }?;
    let value = message.get_field(&field);
    Some((field, value))
}

/// Milliseconds of a message of seconds and nanoseconds; what is less is cut off.
fn millis(message: &DynamicMessage) -> i64 {
    let seconds = message.get_field_by_number(1).and_then(|n| n.as_i64());
    let nanos = message.get_field_by_number(2).and_then(|n| n.as_i32());
    let ms = i64::from(nanos.unwrap_or(0)).div_euclid(1_000_000);
    seconds.unwrap_or(0).saturating_mul(1000).saturating_add(ms)
}

fn decimal(message: &DynamicMessage) -> Result<Decimal, Fault> {
    let value = message.get_field_by_number(1);
    let scale = message.get_field_by_number(3).and_then(|n| n.as_i32());
    let bytes = value.as_ref().and_then(|value| value.as_bytes());
    Decimal::from_bytes(bytes.map_or(&[], |bytes| bytes), scale.unwrap_or(0).into())
}

/// A value, and what it is of: for a list that is the kind of its items, for a map that of its
/// entries.
#[derive(Clone, Copy)]
struct Part<'m> {
    value: &'m Value,
    kind: &'m Kind,
}

impl Part<'_> {
    /// Reads the value, or what it wraps.
    fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        if let Value::Message(message) = self.value
            && let Some((field, value)) = wrapped(message)
        {
            let (value, kind) = (&*value, &field.kind());
            return Part { value, kind }.read(seed);
        }
        seed.deserialize(self)
    }

    fn is_null(self) -> bool {
        match self.value {
            Value::EnumNumber(_) => self
                .kind
                .as_enum()
                .is_some_and(|kind| kind.full_name() == "google.protobuf.NullValue"),
            Value::Message(message) => matches!(reading(message), Reading::Chosen),
            _ => false,
        }
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::EnumNumber(number) => visitor.visit_i32(*number),
            _ => self.deserialize_any(visitor),
        }
    }

    fn float<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Message(message) if matches!(reading(message), Reading::Decimal) => {
                visitor.visit_f64(decimal(message)?.to_f64())
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Bytes(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            _ => self.deserialize_any(visitor),
        }
    }
}

macro_rules! read_as {
    ($read:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.$read(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Part<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            _ if self.is_null() => visitor.visit_unit(),
            Value::Bool(yes) => visitor.visit_bool(*yes),
            Value::I32(n) => visitor.visit_i32(*n),
            Value::I64(n) => visitor.visit_i64(*n),
            Value::U32(n) => visitor.visit_u32(*n),
            Value::U64(n) => visitor.visit_u64(*n),
            Value::F32(n) => visitor.visit_f64(finite((*n).into())?),
            Value::F64(n) => visitor.visit_f64(finite(*n)?),
            Value::String(text) => visitor.visit_str(text),
            Value::Bytes(bytes) => visitor.visit_bytes(bytes),
            Value::EnumNumber(number) => {
                match self.kind.as_enum().and_then(|kind| kind.get_value(*number)) {
                    Some(value) => visitor.visit_str(value.name()),
                    None => visitor.visit_i32(*number),
                }
            }
            Value::List(items) => visitor.visit_seq(Items {
                items: items.iter(),
                kind: self.kind,
            }),
            Value::Map(entries) => visitor.visit_map(Entries {
                // In order of the keys: that of the map is another one each time.
                rest: entries.iter().collect::<BTreeMap<_, _>>().into_iter(),
                value: None,
                kind: &match self.kind.as_message() {
                    Some(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
                    _ => self.kind.clone(),
                },
            }),
            Value::Message(message) => match reading(message) {
                Reading::Millis => visitor.visit_i64(millis(message)),
                Reading::Decimal => visitor.visit_string(decimal(message)?.to_string()),
                _ => visitor.visit_map(Fields::of(message)),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null() {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value {
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Value::EnumNumber(number) => {
                let value = self.kind.as_enum().and_then(|kind| kind.get_value(*number));
                let value = value.ok_or_else(|| {
                    Fault::new(format!("the schema has no name for enum value {number}"))
                })?;
                visitor.visit_enum(value.name().into_deserializer())
            }
            Value::Message(message) => {
                visitor.visit_enum(MapAccessDeserializer::new(Fields::of(message)))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value {
            Value::Message(message) => visitor.visit_map(Fields::of(message)),
            // serde would take the items for the fields, one by one: nobody means that.
            Value::List(_) => Err(Fault::new("a list where a message is wanted")),
            _ => self.deserialize_any(visitor),
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

/// The fields of a message that are still to come.
struct Fields<'m> {
    message: &'m DynamicMessage,
    rest: std::vec::IntoIter<FieldDescriptor>,
    /// The one whose name was read.
    named: Option<FieldDescriptor>,
}

impl<'m> Fields<'m> {
    fn of(message: &'m DynamicMessage) -> Fields<'m> {
        let fields: Vec<FieldDescriptor> = message.descriptor().fields().collect();
        Fields {
            message,
            rest: fields.into_iter(),
            named: None,
        }
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let message = self.message;
        self.named = self.rest.find(|field| {
            let is_known = !field.supports_presence() || message.has_field(field);
            is_known || field.field_descriptor_proto().default_value.is_some()
        });
        let name = self
            .named
            .as_ref()
            .map(|field| seed.deserialize(field.name().into_deserializer()));
        name.transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let field = self
            .named
            .take()
            .expect("a value is asked for after its key");
        let value = &*self.message.get_field(&field);
        let read = Part {
            value,
            kind: &field.kind(),
        }
        .read(seed);
        read.map_err(|fault| fault.within(field.name()))
    }
}

/// The items of a list that are still to come.
struct Items<'m> {
    items: std::slice::Iter<'m, Value>,
    kind: &'m Kind,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let kind = self.kind;
        let item = self
            .items
            .next()
            .map(|value| Part { value, kind }.read(seed));
        item.transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The entries of a map that are still to come.
struct Entries<'m> {
    rest: btree_map::IntoIter<&'m MapKey, &'m Value>,
    value: Option<&'m Value>,
    kind: &'m Kind,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        seed.deserialize(Key(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let value = self
            .value
            .take()
            .expect("a value is asked for after its key");
        let kind = self.kind;
        Part { value, kind }.read(seed)
    }
}

/// A key of a map: a number, unless text is wanted.
struct Key<'m>(&'m MapKey);

impl Key<'_> {
    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            MapKey::Bool(yes) => visitor.visit_string(yes.to_string()),
            MapKey::I32(n) => visitor.visit_string(n.to_string()),
            MapKey::I64(n) => visitor.visit_string(n.to_string()),
            MapKey::U32(n) => visitor.visit_string(n.to_string()),
            MapKey::U64(n) => visitor.visit_string(n.to_string()),
            MapKey::String(text) => visitor.visit_str(text),
        }
    }
}

impl<'de> Deserializer<'de> for Key<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            MapKey::Bool(yes) => visitor.visit_bool(*yes),
            MapKey::I32(n) => visitor.visit_i32(*n),
            MapKey::I64(n) => visitor.visit_i64(*n),
            MapKey::U32(n) => visitor.visit_u32(*n),
            MapKey::U64(n) => visitor.visit_u64(*n),
            MapKey::String(text) => visitor.visit_str(text),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            MapKey::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => self.deserialize_any(visitor),
        }
    }

    read_as!(text: deserialize_str deserialize_string deserialize_identifier);

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map struct ignored_any
    }
}
