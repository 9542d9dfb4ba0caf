//! Rows as flat columns, for formats that know no nesting: each part of a key or value has a
//! column of its own, named after its place: `key.0`, `key.1.start`, `value.price`.
//!
//! What has no fixed parts, such as a list, is one column of JSON text.

use serde_json::Value;

use crate::row::Row;
use crate::view::QuerySpec;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, taken out of its quotes.
    Text,
    /// An integer of 64 bits.
    Integer,
    /// An integer of 64 bits without a sign.
    Unsigned,
    /// An integer of 128 bits.
    Wide,
    /// A float.
    Number,
    /// True or false.
    Bool,
    /// Anything, as JSON.
    Json,
}

/// A column: what it is called, and where in a row its cells are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    is_of_key: bool,
    /// Names of fields, or places in a tuple, from the outside in.
    path: Vec<String>,
}

/// A cell: its text, or nothing where there is a null.
pub(super) type Cell = Option<String>;

/// The columns of a query's rows, by their schemas.
pub(super) fn columns(spec: &QuerySpec) -> Vec<Column> {
    let mut columns = Vec::new();
    for (name, schema, is_of_key) in [
        ("key", &spec.key_schema, true),
        ("value", &spec.value_schema, false),
    ] {
        let root = Column {
            name: name.to_owned(),
            kind: Kind::Json,
            is_of_key,
            path: Vec::new(),
        };
        flatten(schema, root, &mut columns);
    }
    columns
}

fn flatten(schema: &Value, column: Column, columns: &mut Vec<Column>) {
    // An optional value is a column that may be null.
    if let Some([schema, null]) = schema["anyOf"].as_array().map(Vec::as_slice)
        && null["type"] == "null"
    {
        return flatten(schema, column, columns);
    }
    let part = |name: &str| Column {
        name: format!("{}.{name}", column.name),
        path: [&column.path[..], &[name.to_owned()]].concat(),
        ..column.clone()
    };
    let kind = match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("object"), _)
            if schema["properties"]
                .as_object()
                .is_some_and(|p| !p.is_empty()) =>
        {
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                flatten(schema, part(name), columns);
            }
            return;
        }
        (Some("array"), _)
            if schema["prefixItems"]
                .as_array()
                .is_some_and(|p| !p.is_empty()) =>
        {
            for (place, schema) in schema["prefixItems"]
                .as_array()
                .into_iter()
                .flatten()
                .enumerate()
            {
                flatten(schema, part(&place.to_string()), columns);
            }
            return;
        }
        (Some("string"), _) => Kind::Text,
        (Some("integer"), Some("uint64")) => Kind::Unsigned,
        (Some("integer"), Some("int128")) => Kind::Wide,
        (Some("integer"), _) => Kind::Integer,
        (Some("number"), _) => Kind::Number,
        (Some("boolean"), _) => Kind::Bool,
        _ => Kind::Json,
    };
    columns.push(Column { kind, ..column });
}

/// The cells of a row, one a column.
pub(super) fn cells(row: &Row, columns: &[Column]) -> Vec<Cell> {
    // Only where there are parts is a tree needed; digits then stay as they are.
    let tree = |text: &str, is_of_key: bool| {
        let has_parts = |column: &Column| column.is_of_key == is_of_key && !column.path.is_empty();
        let tree = columns
            .iter()
            .any(has_parts)
            .then(|| serde_json::from_str(text).ok());
        tree.flatten().unwrap_or(Value::Null)
    };
    let (key, value) = (tree(row.key(), true), tree(row.value(), false));
    let cell = |column: &Column| {
        let (text, tree) = if column.is_of_key {
            (row.key(), &key)
        } else {
            (row.value(), &value)
        };
        if column.path.is_empty() {
            return whole(text, column.kind);
        }
        let leaf = column.path.iter().try_fold(tree, |tree, step| match tree {
            Value::Array(parts) => parts.get(step.parse::<usize>().ok()?),
            tree => tree.get(step),
        });
        match leaf? {
            Value::Null => None,
            Value::String(text) if column.kind != Kind::Json => Some(text.clone()),
            other => Some(other.to_string()),
        }
    };
    columns.iter().map(cell).collect()
}

/// The cell of a key or value without parts.
fn whole(json: &str, kind: Kind) -> Cell {
    match kind {
        _ if json == "null" => None,
        Kind::Text => Some(serde_json::from_str(json).unwrap_or_else(|_| json.to_owned())),
        _ => Some(json.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flat(key: Value, value: Value) -> Vec<Column> {
        let spec = QuerySpec {
            key_schema: key,
            value_schema: value,
            ..QuerySpec::default()
        };
        columns(&spec)
    }

    fn text() -> Value {
        json!({"type": "string"})
    }

    fn window() -> Value {
        let time = json!({"type": "integer"});
        json!({"type": "object", "properties": {"start": time, "end": time}})
    }

    #[test]
    fn parts_have_columns_of_their_own() {
        let columns = flat(
            json!({"type": "array", "prefixItems": [text(), window()], "items": false}),
            json!({"type": "object", "properties": {
                "price": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                "tags": {"type": "array", "items": text()},
            }}),
        );
        let names: Vec<_> = columns
            .iter()
            .map(|it| (it.name.as_str(), it.kind))
            .collect();
        assert_eq!(
            names,
            [
                ("key.0", Kind::Text),
                ("key.1.start", Kind::Integer),
                ("key.1.end", Kind::Integer),
                ("value.price", Kind::Number),
                ("value.tags", Kind::Json),
            ]
        );
        let (key, value) = (
            json!(["a \"b\"", {"start": -1, "end": 5}]),
            json!({"price": null, "tags": ["x"]}),
        );
        let row = Row::new(&key, &value, None).unwrap();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            cells(&row, &columns),
            [
                some("a \"b\""),
                some("-1"),
                some("5"),
                None,
                some("[\"x\"]")
            ]
        );
    }

    #[test]
    fn what_has_no_parts_is_one_column() {
        let wide = json!({"type": "integer", "format": "int128"});
        let columns = flat(json!({}), wide);
        assert_eq!((columns[0].kind, columns[1].kind), (Kind::Json, Kind::Wide));
        let row = Row::new(&"k", &i128::MAX, None).unwrap();
        let cells = cells(&row, &columns);
        assert_eq!(cells[0].as_deref(), Some("\"k\""));
        assert_eq!(cells[1], Some(i128::MAX.to_string()));
        let columns = flat(text(), json!({"type": "array"}));
        let row = Row::new(&"k", &Vec::<u8>::new(), None).unwrap();
        assert_eq!(
            super::cells(&row, &columns),
            [Some("k".to_owned()), Some("[]".to_owned())]
        );
    }
}
