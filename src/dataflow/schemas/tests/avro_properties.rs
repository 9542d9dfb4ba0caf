//! Avro data of any schema reads as it was written, and any other bytes are refused.

use apache_avro::types::Value;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::avro::written;
use super::*;

/// A type; names are made when its schema is.
#[derive(Clone, Debug)]
enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Text,
    Bytes,
    Micros,
    Fixed(usize),
    Enum(usize),
    Optional(Box<Type>),
    Array(Box<Type>),
    Map(Box<Type>),
    Record(Vec<Type>),
}

impl Type {
    fn schema(&self, names: &mut usize) -> Json {
        let mut name = || {
            *names += 1;
            format!("N{names}")
        };
        match self {
            Type::Null => json!("null"),
            Type::Boolean => json!("boolean"),
            Type::Int => json!("int"),
            Type::Long => json!("long"),
            Type::Float => json!("float"),
            Type::Double => json!("double"),
            Type::Text => json!("string"),
            Type::Bytes => json!("bytes"),
            Type::Micros => json!({"type": "long", "logicalType": "timestamp-micros"}),
            Type::Fixed(size) => json!({"type": "fixed", "name": name(), "size": size}),
            Type::Enum(n) => {
                let symbols: Vec<String> = (0..*n).map(|i| format!("S{i}")).collect();
                json!({"type": "enum", "name": name(), "symbols": symbols})
            }
            Type::Optional(some) => json!(["null", some.schema(names)]),
            Type::Array(item) => json!({"type": "array", "items": item.schema(names)}),
            Type::Map(value) => json!({"type": "map", "values": value.schema(names)}),
            Type::Record(types) => {
                let name = name();
                let types = types.iter().enumerate();
                let fields: Vec<Json> = types
                    .map(|(i, field)| json!({"name": format!("f{i}"), "type": field.schema(names)}))
                    .collect();
                json!({"type": "record", "name": name, "fields": fields})
            }
        }
    }

    fn values(&self) -> BoxedStrategy<Value> {
        match self {
            Type::Null => Just(Value::Null).boxed(),
            Type::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
            Type::Int => any::<i32>().prop_map(Value::Int).boxed(),
            Type::Long => any::<i64>().prop_map(Value::Long).boxed(),
            Type::Float => (-1e30_f32..1e30).prop_map(Value::Float).boxed(),
            Type::Double => (-1e300..1e300).prop_map(Value::Double).boxed(),
            Type::Text => ".{0,5}".prop_map(Value::String).boxed(),
            Type::Bytes => vec(any::<u8>(), 0..5).prop_map(Value::Bytes).boxed(),
            Type::Micros => any::<i64>().prop_map(Value::TimestampMicros).boxed(),
            Type::Fixed(size) => {
                let size = *size;
                vec(any::<u8>(), size)
                    .prop_map(move |bytes| Value::Fixed(size, bytes))
                    .boxed()
            }
            Type::Enum(n) => (0..*n)
                .prop_map(|i| Value::Enum(u32::try_from(i).unwrap(), format!("S{i}")))
                .boxed(),
            Type::Optional(some) => prop_oneof![
                Just(Value::Union(0, Box::new(Value::Null))),
                some.values()
                    .prop_map(|value| Value::Union(1, Box::new(value))),
            ]
            .boxed(),
            Type::Array(item) => vec(item.values(), 0..4).prop_map(Value::Array).boxed(),
            Type::Map(value) => vec((".{0,3}", value.values()), 0..4)
                .prop_map(|entries| Value::Map(entries.into_iter().collect()))
                .boxed(),
            Type::Record(types) => {
                let fields: Vec<_> = types.iter().map(Type::values).collect();
                let named = |(i, value)| (format!("f{i}"), value);
                fields
                    .prop_map(move |fields| {
                        Value::Record(fields.into_iter().enumerate().map(named).collect())
                    })
                    .boxed()
            }
        }
    }
}

fn types() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        Just(Type::Null),
        Just(Type::Boolean),
        Just(Type::Int),
        Just(Type::Long),
        Just(Type::Float),
        Just(Type::Double),
        Just(Type::Text),
        Just(Type::Bytes),
        Just(Type::Micros),
        (0..5_usize).prop_map(Type::Fixed),
        (1..5_usize).prop_map(Type::Enum),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let not_optional = inner
            .clone()
            .prop_filter("unions hold neither unions nor two nulls", |t| {
                !matches!(t, Type::Null | Type::Optional(_))
            });
        prop_oneof![
            not_optional.prop_map(|some| Type::Optional(Box::new(some))),
            inner.clone().prop_map(|item| Type::Array(Box::new(item))),
            inner.clone().prop_map(|value| Type::Map(Box::new(value))),
            vec(inner, 0..5).prop_map(Type::Record),
        ]
    })
}

fn schemas_and_values() -> impl Strategy<Value = (String, Value)> {
    types().prop_flat_map(|kind| {
        let schema = kind.schema(&mut 0).to_string();
        kind.values().prop_map(move |value| (schema.clone(), value))
    })
}

/// What the value has to read as. Maps are in no order.
fn expected(value: Value) -> Any {
    match value {
        Value::Null => Any::Null,
        Value::Boolean(yes) => Any::Bool(yes),
        Value::Int(n) => Any::Int(n.into()),
        Value::Long(n) => Any::Int(n),
        Value::Float(n) => Any::Float(n.into()),
        Value::Double(n) => Any::Float(n),
        Value::String(text) | Value::Enum(_, text) => Any::Text(text),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => Any::Bytes(bytes),
        Value::TimestampMicros(n) => Any::Int(n.div_euclid(1000)),
        Value::Union(_, value) => expected(*value),
        Value::Array(items) => Any::List(items.into_iter().map(expected).collect()),
        Value::Map(entries) => {
            let entries = entries.into_iter();
            sorted(Any::Map(
                entries.map(|(key, value)| (key, expected(value))).collect(),
            ))
        }
        Value::Record(fields) => {
            let fields = fields.into_iter();
            Any::Map(
                fields
                    .map(|(name, value)| (name, expected(value)))
                    .collect(),
            )
        }
        other => panic!("no type makes {other:?}"),
    }
}

fn sorted(any: Any) -> Any {
    match any {
        Any::List(items) => Any::List(items.into_iter().map(sorted).collect()),
        Any::Map(entries) => {
            let entries = entries.into_iter();
            let mut entries: Vec<_> = entries.map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Any::Map(entries)
        }
        other => other,
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read((schema, value) in schemas_and_values()) {
        let data = written(&schema, value.clone());
        let read = read_data::<Any>(&avro(&schema), &data);
        prop_assert_eq!(read.map(sorted), Ok(sorted(expected(value))));
    }

    #[test]
    fn what_was_written_is_passed_over((schema, value) in schemas_and_values()) {
        let data = written(&schema, value);
        prop_assert_eq!(read_data::<de::IgnoredAny>(&avro(&schema), &data), Ok(de::IgnoredAny));
    }

    #[test]
    fn what_was_cut_off_is_refused((schema, value) in schemas_and_values()) {
        let data = written(&schema, value);
        let schemas = avro(&schema);
        for cut in 0..data.len() {
            prop_assert!(read_data::<Any>(&schemas, &data[..cut]).is_err(), "{} bytes", cut);
            prop_assert!(read_data::<de::IgnoredAny>(&schemas, &data[..cut]).is_err());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        kind in types(),
        data in vec(prop_oneof![0..6_u8, any::<u8>()], 0..200),
    ) {
        let schemas = avro(&kind.schema(&mut 0).to_string());
        let read = read_data::<Any>(&schemas, &data);
        let skipped = read_data::<de::IgnoredAny>(&schemas, &data);
        prop_assert!(read.is_err() || skipped.is_ok(), "{:?}, but {:?}", read, skipped);
    }
}
