//! Settings of single streams, and of the Kafka cluster they may be read from.

use std::collections::BTreeMap;
use std::path::Path;

use super::check::{invalid, lasts, within};
use super::load::ConfigError;
use super::settings::{Config, KafkaConfig, OnLost, RecordFormat, StreamConfig, StreamSource};
use crate::time::{days, millis, minutes, seconds};

/// Properties that are secrets: a configuration file is copied and committed.
const SECRETS: [&str; 4] = [
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "ssl.key.password",
    "ssl.keystore.password",
];

impl Config {
    /// Checks the streams, and that the cluster is named if one is read from it.
    pub(super) fn validate_streams(&self) -> Result<(), ConfigError> {
        self.kafka.validate()?;
        for (name, stream) in &self.streams {
            validate_name(name)?;
            validate(name, stream)?;
            if stream.source == StreamSource::Kafka && self.kafka.brokers.is_empty() {
                let reason = format!(
                    "is empty, but the stream '{name}' is read from Kafka: name a broker, as in \
                     \"localhost:9092\""
                );
                return invalid("kafka.brokers", &reason);
            }
            let has_schema = matches!(
                stream.format,
                Some(RecordFormat::Avro | RecordFormat::Protobuf)
            );
            if has_schema && self.kafka.registry_url.is_empty() {
                let reason = format!(
                    "is empty, but the records of the stream '{name}' name their schemas: name \
                     the registry, as in \"http://localhost:8081\""
                );
                return invalid("kafka.registry_url", &reason);
            }
        }
        Ok(())
    }
}

impl KafkaConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let bytes = self.buffer_bytes as u64;
        within("kafka.buffer_bytes", bytes, 1 << 20, 16 << 30)?;
        lasts(
            "kafka.discover_every",
            self.discover_every,
            millis(100),
            days(1),
        )?;
        if self.group.is_empty() {
            return invalid("kafka.group", "is empty: name a consumer group");
        }
        match self
            .properties
            .keys()
            .find(|name| SECRETS.contains(&name.as_str()))
        {
            None => Ok(()),
            Some(name) => invalid(
                "kafka.properties",
                &format!(
                    "has '{name}', which is a secret: put it into a file of its own and name that \
                     in kafka.properties_file"
                ),
            ),
        }
    }

    /// The password of the registry's user, if a file has it.
    pub fn registry_password(&self) -> Result<Option<String>, ConfigError> {
        let path = &self.registry_password_file;
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        Ok(Some(read(path)?.trim().to_owned()))
    }

    /// What a client of the cluster is given: the brokers, the properties, and those of the file.
    pub fn client_properties(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut all = self.properties.clone();
        if !self.properties_file.as_os_str().is_empty() {
            let text = read(&self.properties_file)?;
            let lines = text.lines().map(str::trim).enumerate();
            for (i, line) in lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
                // What is wrong may be a secret: the line's number must do.
                let Some((name, value)) = line.split_once('=') else {
                    let reason = format!("line {} of it is no 'name=value'", i + 1);
                    invalid("kafka.properties_file", &reason)?;
                    continue;
                };
                all.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
        all.insert("bootstrap.servers".to_owned(), self.brokers.clone());
        Ok(all)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|cause| ConfigError::Read {
        path: path.to_owned(),
        cause,
    })
}

/// A stream's name becomes a directory and a part of URLs.
fn validate_name(name: &str) -> Result<(), ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    let key = format!("streams.{name}");
    invalid(
        &key,
        "is no stream name: use 1 to 64 letters, digits, '_' or '-'",
    )
}

fn validate(name: &str, stream: &StreamConfig) -> Result<(), ConfigError> {
    let key = |key: &str| format!("streams.{name}.{key}");
    if let Some(lateness) = stream.lateness {
        lasts(&key("lateness"), lateness, millis(0), days(3650))?;
    }
    if let Some(drift) = stream.max_drift {
        lasts(&key("max_drift"), drift, seconds(1), days(3650))?;
    }
    let is_kafka = stream.source == StreamSource::Kafka;
    let is_file = stream.source == StreamSource::File;
    for (what, is_set) in [
        ("topic", !stream.topic.is_empty()),
        ("start", !stream.start.is_empty()),
        ("on_lost", stream.on_lost != OnLost::Stop),
        ("columns", !stream.columns.is_empty()),
    ] {
        if is_set && !is_kafka {
            return invalid(&key(what), "is for topics only: add source = \"kafka\"");
        }
    }
    for (what, is_set) in [("paths", !stream.paths.is_empty()), ("tail", stream.tail)] {
        if is_set && !is_file {
            return invalid(&key(what), "is for files only: add source = \"file\"");
        }
    }
    let is_made_up = stream.source == StreamSource::Nexmark;
    for (what, is_set) in [
        ("seed", stream.seed.is_some()),
        ("rate", stream.rate.is_some()),
        ("events", stream.events.is_some()),
        ("out_of_order", stream.out_of_order.is_some()),
    ] {
        if is_set && !is_made_up {
            return invalid(
                &key(what),
                "is for made-up events: add source = \"nexmark\"",
            );
        }
    }
    if let Some(rate) = stream.rate {
        within(&key("rate"), rate.into(), 1, 10_000_000)?;
    }
    if let Some(behind) = stream.out_of_order {
        // What is under way is held in memory.
        lasts(&key("out_of_order"), behind, millis(0), minutes(1))?;
    }
    if is_file && stream.paths.is_empty() {
        let reason = "is missing: a stream read from files needs at least one";
        return invalid(&key("paths"), reason);
    }
    validate_format(name, stream)
}

fn validate_format(name: &str, stream: &StreamConfig) -> Result<(), ConfigError> {
    let key = format!("streams.{name}.format");
    let Some(format) = stream.format else {
        return Ok(());
    };
    let is_of_files = matches!(format, RecordFormat::Ndjson | RecordFormat::Csv);
    match stream.source {
        StreamSource::Log => invalid(
            &key,
            "is for files and topics only: what is posted is always JSON",
        ),
        StreamSource::Nexmark => invalid(
            &key,
            "is for files and topics only: what is made up is always JSON",
        ),
        StreamSource::File if !is_of_files => {
            invalid(&key, "is none of files: write \"ndjson\" or \"csv\"")
        }
        StreamSource::Kafka if format == RecordFormat::Ndjson => invalid(
            &key,
            "is none of topics: a message is one record, write \"json\"",
        ),
        StreamSource::Kafka if (format == RecordFormat::Csv) == stream.columns.is_empty() => {
            let columns = format!("streams.{name}.columns");
            invalid(
                &columns,
                "names the fields of CSV messages, and is for them only",
            )
        }
        _ => Ok(()),
    }
}
