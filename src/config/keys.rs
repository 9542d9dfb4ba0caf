//! Which keys exist: finds unknown ones, suggests the nearest, and lays environment variables
//! over a file.

use toml::{Table, Value};

use super::load::ConfigError;
use super::settings::{Config, DemoConfig, RecordFormat, StreamConfig};
use super::sinks::SinkConfig;
use crate::time::seconds;

/// Every variable that configures the service starts like this.
pub const PREFIX: &str = "WATERCLOCK_";

/// The keys of `[http]` that only a variable may set: files are copied and committed.
const SECRETS: [&str; 3] = ["token", "read_token", "write_token"];

fn is_secret(path: &[&str]) -> bool {
    matches!(path, ["http", key] if SECRETS.contains(key))
}

/// Lays the variables over the table: `WATERCLOCK_HTTP__LISTEN` is `http.listen`.
pub fn overlay(
    table: &mut Table,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<(), ConfigError> {
    for (variable, text) in env {
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        if !rest.contains("__") {
            if is_service_link(rest) {
                continue;
            }
            return Err(unknown_variable(
                &variable,
                &rest.to_lowercase().replace('_', "."),
            ));
        }
        let key = rest.to_lowercase().replace("__", ".");
        let path: Vec<&str> = key.split('.').collect();
        let Some(sample) = sample_of(&path) else {
            return Err(unknown_variable(&variable, &key));
        };
        let value = typed(&text, &sample).map_err(|expected| ConfigError::Variable {
            variable: variable.clone(),
            value: text.clone(),
            expected,
        })?;
        insert(table, &path, value).map_err(|section| ConfigError::Invalid {
            key: section,
            reason: "must be a section, written [like.this]".to_owned(),
        })?;
    }
    Ok(())
}

/// Finds the first key that does not exist.
pub fn refuse_unknown(table: &Table) -> Result<(), ConfigError> {
    for (section, value) in table {
        let Value::Table(entries) = value else {
            if samples().contains_key(section) {
                continue;
            }
            return Err(unknown_key(section));
        };
        for (key, value) in entries {
            match (section.as_str(), value) {
                ("streams" | "sinks", Value::Table(settings)) => {
                    for name in settings.keys() {
                        refuse_unless_known(&[section, key, name])?;
                    }
                }
                ("streams" | "sinks", _) => {}
                _ if is_secret(&[section, key]) => {
                    return Err(ConfigError::Invalid {
                        key: format!("http.{key}"),
                        reason: format!(
                            "is a secret: set {PREFIX}HTTP__{}, or put it into a file of its own \
                             and name that in http.{key}_file",
                            key.to_uppercase()
                        ),
                    });
                }
                _ => refuse_unless_known(&[section, key])?,
            }
        }
        if entries.is_empty() && !samples().contains_key(section) {
            return Err(unknown_key(section));
        }
    }
    Ok(())
}

fn refuse_unless_known(path: &[&str]) -> Result<(), ConfigError> {
    match sample_of(path) {
        Some(_) => Ok(()),
        None => Err(unknown_key(&path.join("."))),
    }
}

fn unknown_key(key: &str) -> ConfigError {
    ConfigError::UnknownKey {
        key: key.to_owned(),
        nearest: nearest(key),
    }
}

fn unknown_variable(variable: &str, key: &str) -> ConfigError {
    let nearest = nearest(key).to_uppercase().replace('.', "__");
    ConfigError::UnknownVariable {
        variable: variable.to_owned(),
        nearest: format!("{PREFIX}{nearest}"),
    }
}

/// Whether Kubernetes sets this for a Service named `waterclock`, in every pod of its namespace.
fn is_service_link(rest: &str) -> bool {
    rest == "SERVICE_HOST" || rest.starts_with("SERVICE_PORT") || rest.starts_with("PORT")
}

/// A value of the type the key has; `None` where there is no such key.
fn sample_of(path: &[&str]) -> Option<Value> {
    match path {
        path if is_secret(path) => Some(Value::String(String::new())),
        [section, _, key] => samples_of_one(section).remove(*key),
        [section, key] if !is_named(section) => match samples().remove(*section)? {
            Value::Table(mut entries) => entries.remove(*key),
            _ => None,
        },
        _ => None,
    }
}

/// All sections with a value for each key, as TOML.
fn samples() -> Table {
    let config = Config {
        demo: Some(DemoConfig::default()),
        ..Config::default()
    };
    Table::try_from(config).expect("the settings are plain values")
}

/// Whether a section has a name between it and its keys.
fn is_named(section: &str) -> bool {
    ["streams", "sinks"].contains(&section)
}

/// The keys of one stream or sink, with a value for each.
fn samples_of_one(section: &str) -> Table {
    let samples = match section {
        "streams" => Table::try_from(StreamConfig {
            format: Some(RecordFormat::Ndjson),
            lateness: Some(seconds(5)),
            max_drift: Some(seconds(60)),
            seed: Some(42),
            rate: Some(1000),
            events: Some(1),
            out_of_order: Some(seconds(5)),
            ..StreamConfig::default()
        }),
        "sinks" => Table::try_from(SinkConfig::default()),
        _ => Ok(Table::new()),
    };
    samples.expect("the settings are plain values")
}

/// The text of a variable as a value of the sample's type; otherwise what was expected.
fn typed(text: &str, sample: &Value) -> Result<Value, &'static str> {
    match sample {
        Value::Integer(_) => text
            .replace('_', "")
            .parse()
            .map(Value::Integer)
            .map_err(|_| "a whole number"),
        Value::Boolean(_) => text
            .parse()
            .map(Value::Boolean)
            .map_err(|_| "true or false"),
        Value::Array(_) => Ok(Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(|part| Value::String(part.to_owned()))
                .collect(),
        )),
        Value::Table(_) => {
            let entry = |part: &str| {
                let (name, value) = part.split_once('=')?;
                Some((
                    name.trim().to_owned(),
                    Value::String(value.trim().to_owned()),
                ))
            };
            let entries: Option<Table> = text.split(',').map(entry).collect();
            entries
                .map(Value::Table)
                .ok_or("name=value pairs, separated by commas")
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Sets a key, making the sections on the way; fails with the name of one that is no section.
fn insert(table: &mut Table, path: &[&str], value: Value) -> Result<(), String> {
    let Some((key, sections)) = path.split_last() else {
        return Ok(());
    };
    let mut place = table;
    for section in sections {
        // Variables are upper case: a stream `Orders` of the file is meant by ORDERS.
        let name = place
            .keys()
            .find(|name| name.eq_ignore_ascii_case(section))
            .cloned();
        let name = name.unwrap_or_else(|| (*section).to_owned());
        let entry = place
            .entry(name)
            .or_insert_with(|| Value::Table(Table::new()));
        place = entry.as_table_mut().ok_or_else(|| (*section).to_owned())?;
    }
    place.insert((*key).to_owned(), value);
    Ok(())
}

/// The existing key most like this one.
fn nearest(key: &str) -> String {
    let mut parts = key.splitn(3, '.');
    let named = parts.next().filter(|section| is_named(section));
    let name = parts.next().filter(|name| !name.is_empty());
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let mut known: Vec<String> = Vec::new();
    for (section, value) in samples() {
        if let Value::Table(entries) = value {
            known.extend(entries.keys().map(|name| format!("{section}.{name}")));
        }
        if !key.contains('.') {
            known.push(section);
        }
    }
    for section in ["streams", "sinks"] {
        let name = name.filter(|_| named == Some(section)).unwrap_or("NAME");
        let keys = samples_of_one(section);
        known.extend(keys.keys().map(|key| format!("{section}.{name}.{key}")));
    }
    known
        .into_iter()
        .min_by_key(|candidate| {
            // The right name in the wrong section, or its beginning, beats a slip of the pen.
            let alike = last(candidate) == last(key) || candidate.starts_with(key);
            (
                if alike { 1 } else { distance(candidate, key) },
                candidate.clone(),
            )
        })
        .unwrap_or_default()
}

/// Levenshtein's edit distance, over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_meant() {
        assert_eq!(nearest("http.listn"), "http.listen");
        assert_eq!(nearest("service.listen"), "http.listen");
        assert_eq!(nearest("listen"), "http.listen");
        assert_eq!(nearest("snapshots"), "snapshot");
        assert_eq!(nearest("snapshot.intervall"), "snapshot.interval");
        assert_eq!(nearest("streams.clicks.latenes"), "streams.clicks.lateness");
    }

    #[test]
    fn edit_distance_counts_single_edits() {
        for (a, b, edits) in [
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }
}
