//! Keys as people write them in URLs: JSON, or plain text where the key's schema says what it is.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::row::Encoder;

/// What is wrong with a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reason(pub String);

type Encoded = Result<(), Reason>;

/// Encodes a whole key.
pub(super) fn whole(schema: &Value, text: &str) -> Result<Vec<u8>, Reason> {
    let mut out = Encoder::default();
    scalar(schema, text, &mut out)?;
    Ok(out.out)
}

/// Encodes the start of a key: its first parts, or the start of a text. The encoding stands before
/// every key that starts so, and after every other that is less.
pub(super) fn start(schema: &Value, text: &str) -> Result<Vec<u8>, Reason> {
    let mut out = Encoder::default();
    let json = Some(text).filter(|text| is_json(text));
    let is_any = !is_known(schema);
    if allows(schema, "array") {
        out.open_sequence();
        match json.filter(|json| opens(json, '[')) {
            Some(json) => parts(schema, json, &mut out)?,
            None => scalar(part_schema(schema, 0), text, &mut out)?,
        }
    } else if allows(schema, "object") {
        out.open_object();
        first_fields(schema, text, json, &mut out)?;
    } else if let Some(json) = json.filter(|json| opens(json, '[')) {
        if is_any {
            out.open_sequence();
            parts(schema, json, &mut out)?;
        } else {
            // The key has one part.
            match elements(json)?.as_slice() {
                [] => {}
                [part] => raw(schema, part.get(), &mut out)?,
                parts => return Err(too_many(1, parts.len())),
            }
        }
    } else if allows(schema, "string") || is_any && json.is_none_or(|json| opens(json, '"')) {
        match json.filter(|json| opens(json, '"')) {
            Some(json) => out.text_start(&string(json)?),
            None => out.text_start(text),
        }
    } else {
        scalar(schema, text, &mut out)?;
    }
    Ok(out.out)
}

/// Encodes JSON or, where text may stand, plain text.
fn scalar(schema: &Value, text: &str, out: &mut Encoder) -> Encoded {
    let is_plain = match text.trim_start().chars().next() {
        _ if !is_json(text) => allows(schema, "string") || !is_known(schema),
        // The digits of a text key are its text. Only quotes say that JSON is meant; and null and
        // numbers where the schema has them beside text.
        Some('"') => false,
        Some('n') => allows(schema, "string") && !allows(schema, "null"),
        Some('-' | '0'..='9') => {
            allows(schema, "string") && !allows(schema, "integer") && !allows(schema, "number")
        }
        _ => allows(schema, "string") && !allows(schema, "array") && !allows(schema, "object"),
    };
    if is_plain {
        out.text(text);
        return Ok(());
    }
    if !is_json(text) {
        return Err(Reason(format!(
            "it must be the JSON of {}",
            describe(schema)
        )));
    }
    raw(schema, text.trim(), out)
}

/// Encodes JSON. Numbers are read from their digits, which a JSON tree would round.
fn raw(schema: &Value, json: &str, out: &mut Encoder) -> Encoded {
    let kind = kind_of(json);
    let fits = allows(schema, kind) || kind == "integer" && allows(schema, "number");
    if is_known(schema) && !fits {
        return Err(Reason(format!("{json} should be {}", describe(schema))));
    }
    match kind {
        "null" => out.null(),
        "boolean" => out.bool(json == "true"),
        "string" => out.text(&string(json)?),
        "array" => {
            out.open_sequence();
            let count = parts_count(schema);
            if count.is_some_and(|count| elements(json).is_ok_and(|parts| parts.len() < count)) {
                return Err(Reason(format!(
                    "{json} should have {} parts",
                    count.unwrap_or(0)
                )));
            }
            parts(schema, json, out)?;
            out.close();
        }
        "object" => {
            out.open_object();
            for (name, value) in in_order(schema, fields(json)?)? {
                out.text(&name);
                raw(field_schema(schema, &name), value.get(), out)?;
            }
            out.close();
        }
        "integer" if allows(schema, "integer") || !allows(schema, "number") => {
            let digits = json.trim_start_matches('-');
            let magnitude = digits
                .parse()
                .map_err(|_| Reason(format!("{json} is out of range")))?;
            out.integer(json.starts_with('-'), magnitude);
        }
        _ => out.float(
            json.parse()
                .map_err(|_| Reason(format!("{json} is no number")))?,
        ),
    }
    Ok(())
}

/// Encodes the elements of a JSON array as parts of a sequence that is open.
fn parts(schema: &Value, json: &str, out: &mut Encoder) -> Encoded {
    let parts = elements(json)?;
    if let Some(count) = parts_count(schema).filter(|count| parts.len() > *count) {
        return Err(too_many(count, parts.len()));
    }
    for (i, part) in parts.iter().enumerate() {
        raw(part_schema(schema, i), part.get(), out)?;
    }
    Ok(())
}

/// Encodes the first fields of an object that is open: a JSON object, a JSON array of the fields'
/// values, or the first one as plain text.
fn first_fields(schema: &Value, text: &str, json: Option<&str>, out: &mut Encoder) -> Encoded {
    let names: Vec<&String> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|p| p.keys())
        .collect();
    if let Some(json) = json.filter(|json| opens(json, '{')) {
        let given = in_order(schema, fields(json)?)?;
        for (i, (name, value)) in given.into_iter().enumerate() {
            if names.get(i).is_some_and(|expected| **expected != name) {
                return Err(Reason(format!(
                    "the field '{}' must be there, too",
                    names[i]
                )));
            }
            out.text(&name);
            raw(field_schema(schema, &name), value.get(), out)?;
        }
    } else if let Some(json) = json.filter(|json| opens(json, '[')) {
        let values = elements(json)?;
        if values.len() > names.len() {
            return Err(too_many(names.len(), values.len()));
        }
        for (name, value) in names.into_iter().zip(values) {
            out.text(name);
            raw(field_schema(schema, name), value.get(), out)?;
        }
    } else {
        let name = names
            .first()
            .ok_or_else(|| Reason("it must be a JSON object".into()))?;
        out.text(name);
        scalar(field_schema(schema, name), text, out)?;
    }
    Ok(())
}

fn too_many(count: usize, given: usize) -> Reason {
    Reason(format!("{given} parts are given, and the key has {count}"))
}

/// Whether the text is JSON, nested no deeper than serde allows.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok()
}

fn opens(json: &str, with: char) -> bool {
    json.trim_start().starts_with(with)
}

/// The kind of a JSON text, as schemas name it.
fn kind_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => "string",
        Some(b'[') => "array",
        Some(b'{') => "object",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ if json.contains(['.', 'e', 'E']) => "number",
        _ => "integer",
    }
}

/// Whether a schema says of what kind its values are.
fn is_known(schema: &Value) -> bool {
    [
        "string", "integer", "number", "array", "object", "boolean", "null",
    ]
    .into_iter()
    .any(|kind| allows(schema, kind))
}

/// Whether a schema names a kind among those of its values.
fn allows(schema: &Value, kind: &str) -> bool {
    let among = |list: &str, is: &dyn Fn(&Value) -> bool| {
        schema
            .get(list)
            .and_then(Value::as_array)
            .is_some_and(|list| list.iter().any(is))
    };
    match schema.get("type") {
        Some(Value::String(only)) => only == kind,
        Some(_) => among("type", &|one| one == kind),
        None => {
            among("anyOf", &|one| allows(one, kind))
                || among("oneOf", &|one| allows(one, kind))
                || among("enum", &|one| kind_of(&one.to_string()) == kind)
                || schema
                    .get("const")
                    .is_some_and(|one| kind_of(&one.to_string()) == kind)
        }
    }
}

fn describe(schema: &Value) -> String {
    let kinds = [
        ("string", "a text"),
        ("integer", "an integer"),
        ("number", "a number"),
        ("array", "an array"),
        ("object", "an object"),
        ("boolean", "true or false"),
        ("null", "null"),
    ];
    let allowed: Vec<_> = kinds
        .iter()
        .filter(|(kind, _)| allows(schema, kind))
        .map(|(_, name)| *name)
        .collect();
    if allowed.is_empty() {
        "a key".to_string()
    } else {
        allowed.join(" or ")
    }
}

/// The branch of a union that says what arrays or objects consist of; else the schema itself.
fn branch<'a>(schema: &'a Value, member: &str) -> &'a Value {
    let mut branches = ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|list| schema.get(list)?.as_array());
    branches
        .find_map(|list| list.iter().find(|one| one.get(member).is_some()))
        .filter(|_| schema.get(member).is_none())
        .unwrap_or(schema)
}

/// How many parts a composed key has; `None` where that is open.
fn parts_count(schema: &Value) -> Option<usize> {
    branch(schema, "prefixItems")
        .get("prefixItems")
        .and_then(Value::as_array)
        .map(Vec::len)
}

fn part_schema(schema: &Value, index: usize) -> &Value {
    match branch(schema, "prefixItems").get("prefixItems") {
        Some(parts) => parts.get(index).unwrap_or(&Value::Null),
        None => branch(schema, "items").get("items").unwrap_or(&Value::Null),
    }
}

fn field_schema<'a>(schema: &'a Value, name: &str) -> &'a Value {
    let schema = branch(schema, "properties");
    schema
        .get("properties")
        .and_then(|fields| fields.get(name))
        .unwrap_or(&Value::Null)
}

fn string(json: &str) -> Result<String, Reason> {
    serde_json::from_str(json).map_err(|e| Reason(e.to_string()))
}

fn elements(json: &str) -> Result<Vec<&RawValue>, Reason> {
    serde_json::from_str(json).map_err(|e| Reason(e.to_string()))
}

type Fields<'a> = Vec<(String, &'a RawValue)>;

/// The fields of a JSON object, as written.
fn fields(json: &str) -> Result<Fields<'_>, Reason> {
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Fields<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
            std::iter::from_fn(|| map.next_entry().transpose()).collect()
        }
    }
    let mut json = serde_json::Deserializer::from_str(json);
    json.deserialize_map(InOrder)
        .map_err(|e| Reason(e.to_string()))
}

/// Fields in the order the schema declares them, which is that of the rows.
fn in_order<'a>(schema: &Value, mut fields: Fields<'a>) -> Result<Fields<'a>, Reason> {
    let schema = branch(schema, "properties");
    let Some(declared) = schema.get("properties").and_then(Value::as_object) else {
        return Ok(fields);
    };
    let place = |name: &str| declared.keys().position(|field| field == name);
    if let Some((name, _)) = fields.iter().find(|(name, _)| place(name).is_none()) {
        return Err(Reason(format!("the key has no field '{name}'")));
    }
    fields.sort_by_key(|(name, _)| place(name));
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::row::encode_json;

    fn bytes(value: Value) -> Vec<u8> {
        encode_json(&value)
    }

    fn user_and_window() -> Value {
        let fields = json!({"start": {"type": "integer"}, "end": {"type": "integer"}});
        let window = json!({"type": "object", "properties": fields});
        json!({"type": "array", "prefixItems": [{"type": "string"}, window]})
    }

    #[test]
    fn plain_text_is_read_as_the_schema_says() {
        let text = json!({"type": "string"});
        for (written, key) in [
            ("u1", "u1"),
            ("\"u1\"", "u1"),
            ("12", "12"),
            ("null", "null"),
            ("[1]", "[1]"),
            ("\"", "\""),
        ] {
            assert_eq!(whole(&text, written), Ok(bytes(json!(key))), "{written}");
        }
        assert_eq!(
            whole(&json!({"type": "integer"}), "12"),
            Ok(bytes(json!(12)))
        );
        assert_eq!(
            whole(&json!({"type": "number"}), "12"),
            Ok(bytes(json!(12.0)))
        );
        let optional = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
        assert_eq!(whole(&optional, "null"), Ok(bytes(json!(null))));
        assert_eq!(whole(&optional, "12"), Ok(bytes(json!("12"))));
        assert_eq!(
            whole(&json!({"enum": ["on", "off"]}), "on"),
            Ok(bytes(json!("on")))
        );
        assert_eq!(whole(&Value::Null, "12"), Ok(bytes(json!(12))));
        assert_eq!(whole(&Value::Null, "u1"), Ok(bytes(json!("u1"))));
    }

    #[test]
    fn what_cannot_be_a_key_is_told_so() {
        let reason = |schema: Value, text: &str| whole(&schema, text).unwrap_err().0;
        assert_eq!(
            reason(json!({"type": "integer"}), "x"),
            "it must be the JSON of an integer"
        );
        assert_eq!(
            reason(json!({"type": "integer"}), "1.5"),
            "1.5 should be an integer"
        );
        assert_eq!(
            reason(user_and_window(), "u1"),
            "it must be the JSON of an array"
        );
        assert_eq!(
            reason(user_and_window(), r#"["u1"]"#),
            r#"["u1"] should have 2 parts"#
        );
        assert_eq!(reason(user_and_window(), "[1,{}]"), "1 should be a text");
        assert_eq!(
            reason(user_and_window(), r#"["",{"x":1}]"#),
            "the key has no field 'x'"
        );
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(whole(&json!({"type": "array"}), &deep).is_err());
        assert_eq!(
            start(&user_and_window(), "[1,2,3]").unwrap_err().0,
            "3 parts are given, and the key has 2"
        );
    }

    #[test]
    fn fields_may_come_in_any_order() {
        let key = bytes(json!(["u1", {"start": 0, "end": 5}]));
        assert_eq!(
            whole(&user_and_window(), r#" ["u1", {"end":5, "start":0}]"#),
            Ok(key)
        );
    }

    #[test]
    fn numbers_are_exact() {
        let wide = (u128::MAX, i128::MIN, 0.1_f64 + 0.2);
        let json = serde_json::to_string(&wide).unwrap();
        let mut typed = Encoder::default();
        serde::Serialize::serialize(&wide, &mut typed).unwrap();
        assert_eq!(whole(&Value::Null, &json), Ok(typed.out));
    }

    #[test]
    fn a_start_is_parts_or_the_start_of_a_text() {
        let all_of = |mut key: Vec<u8>| {
            key.pop();
            key
        };
        let first = all_of(bytes(json!(["u1"])));
        for written in ["u1", "\"u1\"", "[\"u1\"]"] {
            assert_eq!(
                start(&user_and_window(), written),
                Ok(first.clone()),
                "{written}"
            );
        }
        let text = json!({"type": "string"});
        assert_eq!(start(&text, "ab"), Ok(all_of(bytes(json!("ab")))));
        assert_eq!(start(&text, "12"), Ok(all_of(bytes(json!("12")))));
        assert_eq!(start(&text, "[\"ab\"]"), Ok(bytes(json!("ab"))));
        assert_eq!(
            start(&json!({"type": "integer"}), "[7]"),
            Ok(bytes(json!(7)))
        );
        assert_eq!(
            start(&user_and_window(), "[]"),
            Ok(all_of(bytes(json!([]))))
        );
        let fields = json!({"type": "object", "properties": {
            "country": {"type": "string"}, "minute": {"type": "integer"}}});
        let first = all_of(bytes(json!({"country": "de"})));
        for written in ["de", "[\"de\"]", "{\"country\":\"de\"}"] {
            assert_eq!(start(&fields, written), Ok(first.clone()), "{written}");
        }
        assert!(start(&fields, "{\"minute\":1}").is_err());
    }
}
