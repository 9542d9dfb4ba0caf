//! JSON Schema of keys and values, from the columns their types trace to.

use std::any::TypeId;

use arrow_schema::{DataType, Field};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::columns::columns_of;

/// The JSON Schema of a type's serde form; `{}` where the type cannot be traced alone.
pub(super) fn json_schema<T: Serialize + DeserializeOwned + 'static>() -> Value {
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(bound = "T: Serialize + DeserializeOwned")]
    struct Only<T> {
        it: T,
    }
    // Sums are of this type, which alone has no column.
    if TypeId::of::<T>() == TypeId::of::<i128>() {
        return json!({"type": "integer", "format": "int128"});
    }
    let fields = columns_of::<Only<T>>().unwrap_or_default();
    fields.first().map_or_else(|| json!({}), |field| of(field))
}

fn of(field: &Field) -> Value {
    let schema = match field.data_type() {
        DataType::Null => json!({"type": "null"}),
        DataType::Boolean => json!({"type": "boolean"}),
        DataType::Float32 | DataType::Float64 => json!({"type": "number"}),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Dictionary(..) => {
            json!({"type": "string"})
        }
        DataType::List(item) | DataType::LargeList(item) => {
            json!({"type": "array", "items": of(item)})
        }
        DataType::Struct(fields) => {
            let is_tuple = fields
                .iter()
                .enumerate()
                .all(|(at, field)| *field.name() == at.to_string());
            if is_tuple {
                let parts: Vec<Value> = fields.iter().map(|field| of(field)).collect();
                json!({"type": "array", "prefixItems": parts, "items": false})
            } else {
                let properties: Map<String, Value> = fields
                    .iter()
                    .map(|field| (field.name().clone(), of(field)))
                    .collect();
                json!({"type": "object", "properties": properties})
            }
        }
        DataType::UInt64 => json!({"type": "integer", "format": "uint64"}),
        kind if kind.is_integer() => json!({"type": "integer", "format": "int64"}),
        _ => json!({}),
    };
    if field.is_nullable() && *field.data_type() != DataType::Null {
        return json!({"anyOf": [schema, {"type": "null"}]});
    }
    schema
}
