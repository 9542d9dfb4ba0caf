//! Tests of reading records that name their schemas.

use std::sync::Arc;

use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{SchemaKind, Schemas, WriterSchema, read, schema_id};

mod avro;
mod avro_faults;
mod avro_properties;
mod peers;
mod protobuf;
mod protobuf_properties;
mod wire;

/// The registry's schema 7, and nothing else.
fn registry(kind: SchemaKind, text: &str, references: &[(&str, &str)]) -> Schemas {
    let references = references.iter();
    let schema = WriterSchema {
        kind,
        text: text.to_owned(),
        references: references
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
    };
    Schemas(Arc::new([(7, Arc::new(schema))].into()))
}

fn avro(text: &str) -> Schemas {
    registry(SchemaKind::Avro, text, &[])
}

/// The data behind the id of schema 7.
fn record(data: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, 7], data].concat()
}

fn read_data<T: DeserializeOwned>(schemas: &Schemas, data: &[u8]) -> Result<T, String> {
    read(schemas, &record(data))
}

/// Whatever a record says, in the order it says it.
#[derive(Clone, Debug, PartialEq)]
enum Any {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Any>),
    Map(Vec<(String, Any)>),
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("anything")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Any, E> {
        Ok(Any::Null)
    }
    fn visit_bool<E: de::Error>(self, yes: bool) -> Result<Any, E> {
        Ok(Any::Bool(yes))
    }
    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Any, E> {
        Ok(Any::Int(n))
    }
    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Any, E> {
        i64::try_from(n).map(Any::Int).map_err(E::custom)
    }
    fn visit_f64<E: de::Error>(self, n: f64) -> Result<Any, E> {
        Ok(Any::Float(n))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Any, E> {
        Ok(Any::Text(text.to_owned()))
    }
    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Any, E> {
        Ok(Any::Bytes(bytes.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Any, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Any::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Any, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Any::Map(map))
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Any, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}
