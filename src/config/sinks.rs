//! Settings of sinks: where answers go besides readers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{invalid, lasts, within};
use super::load::ConfigError;
use super::settings::{Config, duration_text};
use crate::time::{hours, millis, seconds};
use crate::view::{Delivery, Mode};

/// Where sinks keep their progress.
const PROGRESS_TOPIC: &str = "waterclock-sinks";

/// `[sinks.NAME]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SinkConfig {
    /// The query whose answer is sent.
    pub query: String,
    /// The topic it is sent to.
    pub topic: String,
    /// Which changes are sent.
    pub mode: Mode,
    /// What a crash may do to messages.
    pub delivery: Delivery,
    /// How often messages are committed.
    #[serde(with = "duration_text")]
    pub commit_interval: Duration,
    /// Bytes of messages that may wait for the sink; beyond it no input is taken.
    pub buffer_bytes: usize,
}

impl Default for SinkConfig {
    fn default() -> SinkConfig {
        SinkConfig {
            query: String::new(),
            topic: String::new(),
            mode: Mode::default(),
            delivery: Delivery::default(),
            commit_interval: seconds(1),
            buffer_bytes: 64 << 20,
        }
    }
}

impl Config {
    /// Checks the sinks, and that there is a cluster for them.
    pub(super) fn validate_sinks(&self) -> Result<(), ConfigError> {
        let mut topics: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, sink) in &self.sinks {
            validate(name, sink)?;
            if self.kafka.brokers.trim().is_empty() {
                let reason =
                    "is empty, and there are sinks: name a broker, as in \"localhost:9092\"";
                return invalid("kafka.brokers", reason);
            }
            // Of two that write one topic neither could be told from the other.
            if let Some(other) = topics.insert(&sink.topic, name) {
                let reason = format!(
                    "is '{}', which sink '{other}' sends to: give each its own",
                    sink.topic
                );
                return invalid(&format!("sinks.{name}.topic"), &reason);
            }
        }
        Ok(())
    }
}

/// A sink's name becomes part of its transactional id.
fn validate(name: &str, sink: &SinkConfig) -> Result<(), ConfigError> {
    let key = |key: &str| format!("sinks.{name}.{key}");
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !(1..=64).contains(&name.len()) || !name.chars().all(allowed) {
        let reason = "is no sink name: use 1 to 64 letters, digits, '_' or '-'";
        return invalid(&format!("sinks.{name}"), reason);
    }
    if sink.query.is_empty() {
        let reason = "is missing: name the query whose answer is sent";
        return invalid(&key("query"), reason);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_topic = (1..=249).contains(&sink.topic.len()) && sink.topic.chars().all(allowed);
    if !is_topic || sink.topic.chars().all(|c| c == '.') {
        let reason = "is no topic: use 1 to 249 letters, digits, '.', '_' or '-'";
        return invalid(&key("topic"), reason);
    }
    if sink.topic == PROGRESS_TOPIC {
        let reason = "is the one that sinks keep their progress in";
        return invalid(&key("topic"), reason);
    }
    let interval = sink.commit_interval;
    lasts(&key("commit_interval"), interval, millis(10), hours(1))?;
    let bytes = sink.buffer_bytes as u64;
    within(&key("buffer_bytes"), bytes, 64 << 10, 64 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let config = Config::parse(Some(text), []).unwrap();
        config.validate().expect_err("must be refused").to_string()
    }

    #[test]
    fn a_sink_needs_a_broker_a_query_and_a_topic_of_its_own() {
        let kafka = "[kafka]\nbrokers = 'localhost:9092'\n";
        let sink =
            |name: &str, topic: &str| format!("[sinks.{name}]\nquery = 'q'\ntopic = '{topic}'\n");
        let both = kafka.to_owned() + &sink("a", "one") + &sink("b", "two");
        Config::parse(Some(&both), []).unwrap().validate().unwrap();
        let same = kafka.to_owned() + &sink("a", "one") + &sink("b", "one");
        assert!(refusal(&same).contains("'sinks.b.topic' is 'one', which sink 'a' sends to"));
        assert!(refusal(&sink("a", "one")).contains("'kafka.brokers'"));
        for topic in ["", "a/b", "..", PROGRESS_TOPIC] {
            let message = refusal(&(kafka.to_owned() + &sink("a", topic)));
            assert!(message.contains("'sinks.a.topic'"), "{message}");
        }
        let message = refusal(&format!("{kafka}[sinks.a]\ntopic = 't'"));
        assert!(message.contains("'sinks.a.query'"), "{message}");
        let message = refusal(&(kafka.to_owned() + &sink("'a b'", "t")));
        assert!(message.contains("is no sink name"), "{message}");
    }
}
