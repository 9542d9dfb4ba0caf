//! The description of the service against the service: every answer that any test gets must be one
//! that is documented, and every address must be in it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{Answer, World};
use crate::http::describe::OPENAPI;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(OPENAPI).unwrap());

fn paths() -> &'static Map<String, Value> {
    DOCUMENT["paths"].as_object().unwrap()
}

/// Whether a path is one of a template. The last part may hold slashes where it is a key.
fn is_of(path: &str, template: &str) -> bool {
    let (path, template) = (path.trim_end_matches('/'), template.trim_end_matches('/'));
    let (mut parts, mut wanted) = (path.split('/'), template.split('/'));
    loop {
        match (parts.next(), wanted.next()) {
            (None, None) => return true,
            (Some(part), Some("{key}")) => return !part.is_empty(),
            (Some(_), Some(wanted)) if wanted.starts_with('{') => {}
            (Some(part), Some(wanted)) if part == wanted => {}
            _ => return false,
        }
    }
}

/// What a `$ref` stands for.
fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(place) => resolved(DOCUMENT.pointer(place.trim_start_matches('#')).unwrap()),
        None => value,
    }
}

/// Checks that an answer is one of those that the document promises.
#[track_caller]
pub(super) fn check(method: &str, path: &str, answer: &Answer) {
    let path = path.split('?').next().unwrap();
    if method == "HEAD" && answer.status == 405 {
        return;
    }
    let method = if method == "HEAD" { "GET" } else { method };
    let item = paths().iter().find(|(template, _)| is_of(path, template));
    let operation = item.and_then(|(_, item)| item.get(method.to_ascii_lowercase()));
    let status = answer.status.as_u16();
    let Some(operation) = operation else {
        // What is described for no address: that there is none, and what browsers ask.
        let general = [204, 400, 401, 403, 404, 405, 408, 413, 429, 503];
        assert!(
            general.contains(&status),
            "{method} {path} answers {status}"
        );
        return;
    };
    let documented = &operation["responses"][status.to_string()];
    assert!(
        !documented.is_null(),
        "{method} {path}: {status} is not documented"
    );
    let documented = resolved(documented);
    let Some(content) = documented["content"].as_object() else {
        assert!(
            answer.body.is_empty(),
            "{method} {path}: {status} has a body"
        );
        return;
    };
    let media_type = answer.header("content-type").split(';').next().unwrap();
    let schema = content.get(media_type).map(|content| &content["schema"]);
    let schema = schema.unwrap_or_else(|| panic!("{method} {path}: {media_type}"));
    let is_plain = answer.header("content-encoding").is_empty();
    if is_plain && media_type.ends_with("json") && media_type != "application/x-ndjson" {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let wrong = fault(schema, &body);
        assert_eq!(wrong, None, "{method} {path}: {status} {}", answer.text());
    }
    for (name, header) in documented["headers"].as_object().into_iter().flatten() {
        let value = answer.header(name);
        let is_number = resolved(header)["schema"]["type"] == "integer";
        assert!(
            !is_number || value.is_empty() || value.parse::<i64>().is_ok(),
            "{name}: {value}"
        );
    }
}

/// What is wrong with a value, as far as the document uses JSON Schema.
fn fault(schema: &'static Value, value: &Value) -> Option<String> {
    let schema = resolved(schema);
    let wrong = || Some(format!("{value} is not {schema}"));
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = choices.iter().any(|choice| fault(choice, value).is_none());
        return if fits { None } else { wrong() };
    }
    if let Some(choices) = schema["enum"].as_array() {
        return if choices.contains(value) {
            None
        } else {
            wrong()
        };
    }
    match (schema["type"].as_str(), value) {
        (None, _)
        | (Some("null"), Value::Null)
        | (Some("boolean"), Value::Bool(_))
        | (Some("string"), Value::String(_)) => None,
        (Some("integer"), Value::Number(number)) if !number.is_f64() => None,
        (Some("array"), Value::Array(items)) => items.iter().enumerate().find_map(|(at, item)| {
            let schema = schema["prefixItems"].get(at).unwrap_or(&schema["items"]);
            fault(schema, item)
        }),
        (Some("object"), Value::Object(fields)) => fields_fault(schema, fields),
        _ => wrong(),
    }
}

/// What is wrong with the fields of an object. Those that are not named must be allowed.
fn fields_fault(schema: &'static Value, fields: &Map<String, Value>) -> Option<String> {
    let required = schema["required"].as_array().into_iter().flatten();
    let missing = required
        .filter_map(Value::as_str)
        .find(|name| !fields.contains_key(*name));
    if let Some(name) = missing {
        return Some(format!("'{name}' is missing"));
    }
    fields.iter().find_map(|(name, value)| {
        let others = &schema["additionalProperties"];
        match schema["properties"].get(name) {
            None if *others == false => Some(format!("'{name}' is not documented")),
            named => fault(named.unwrap_or(others), value),
        }
    })
}

/// The addresses that the routes take, as templates without names.
fn routes() -> BTreeSet<String> {
    let source = include_str!("../routes.rs");
    let routes = source.split("path!(").skip(1).map(|rest| {
        let parts = rest.split(')').next().unwrap().split(" / ");
        let part = |part: &str| match part.trim_matches('"') {
            "String" | ".." => "/{}".to_owned(),
            text => format!("/{text}"),
        };
        parts.map(part).collect::<String>()
    });
    routes.chain(["/".to_owned()]).collect()
}

#[test]
fn every_address_is_described_and_nothing_else() {
    let bare = |template: &String| {
        let part = |part: &str| {
            if part.starts_with('{') {
                "{}".into()
            } else {
                part.to_owned()
            }
        };
        template.split('/').map(part).collect::<Vec<_>>().join("/")
    };
    let described: BTreeSet<String> = paths().keys().map(bare).collect();
    assert_eq!(routes(), described);
}

#[tokio::test]
async fn every_method_is_described_and_nothing_else() {
    let world = World::ready();
    for (template, item) in paths() {
        let path = template
            .replace("{query}", "names")
            .replace("{stream}", "clicks")
            .replace("{key}", "x")
            // An answer without an end is not begun.
            .replace("/changes", "/changes?last_event_id=x");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let answer = world.send(method, &path, &[], "").await;
            let is_described = item.get(method.to_ascii_lowercase()).is_some();
            assert_eq!(answer.status == 405, !is_described, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_description_is_served_and_refers_to_what_it_has() {
    let answer = World::new().get("/v1/openapi.json").await;
    assert_eq!(answer.json(), *DOCUMENT);
    for place in OPENAPI.split("\"$ref\": \"#").skip(1) {
        let place = place.split('"').next().unwrap();
        assert!(DOCUMENT.pointer(place).is_some(), "{place}");
    }
    let version = DOCUMENT["info"]["version"].as_str();
    assert_eq!(version, Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_is_not_documented_is_found() {
    let schema = &DOCUMENT["components"]["schemas"]["Checkpoint"];
    let good = serde_json::json!({"epoch": 1, "run": 1, "published_at": 1, "bytes": 1, "rows": 1});
    assert_eq!(fault(schema, &good), None);
    for (name, value) in [
        ("epoch", Value::Null),
        ("epoch", 1.5.into()),
        ("more", 1.into()),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        assert!(fault(schema, &bad).is_some(), "{bad}");
    }
    let mut bad = good;
    bad.as_object_mut().unwrap().remove("rows");
    assert_eq!(fault(schema, &bad).as_deref(), Some("'rows' is missing"));
    assert!(is_of(
        "/v1/queries/a/key/b/c",
        "/v1/queries/{query}/key/{key}"
    ));
    assert!(!is_of("/v1/queries/a", "/v1/queries"));
}
