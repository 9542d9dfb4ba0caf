//! What is to be read from Kafka, and from where on.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use crate::record::Format;
use crate::source::registry::RegistryOptions;
use crate::time::Timestamp;

/// How to read a topic.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// The stream it feeds.
    pub stream: String,
    /// The topic.
    pub topic: String,
    /// What its messages are.
    pub format: Format,
    /// Where a stream that was never read begins.
    pub start: Start,
    /// Whether to go on where records are gone before they were read; they are counted then.
    pub skip_lost: bool,
    /// The consumer group whose offsets tell others how far the service is.
    pub group: String,
    /// librdkafka's properties, the brokers among them.
    pub properties: BTreeMap<String, String>,
    /// Bytes of messages that may be fetched and not read yet.
    pub buffer_bytes: usize,
    /// How often to look for new partitions.
    pub discover_every: Duration,
    /// The registry of the schemas that messages name; `None` where they name none.
    pub registry: Option<RegistryOptions>,
    /// After how long without a message a partition that has some is told to be silent.
    pub silent_after: Duration,
}

impl KafkaOptions {
    /// The brokers, as they were named.
    pub fn brokers(&self) -> &str {
        self.properties
            .get("bootstrap.servers")
            .map_or("", String::as_str)
    }
}

/// Where a stream that was never read begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record there is.
    #[default]
    Earliest,
    /// With the first record written from now on.
    Latest,
    /// Where the consumer group stands; with the oldest record where it stands nowhere.
    Group,
    /// With the first record written at or after a time, by the broker's timestamps.
    Time(Timestamp),
    /// At these offsets by partition; with the oldest record in others.
    Offsets(BTreeMap<u32, u64>),
}

impl FromStr for Start {
    type Err = String;

    /// Reads `earliest`, `latest`, `group`, a time, or offsets such as `0:120,1:95`.
    fn from_str(text: &str) -> Result<Start, String> {
        match text {
            "earliest" => return Ok(Start::Earliest),
            "latest" => return Ok(Start::Latest),
            "group" => return Ok(Start::Group),
            _ => {}
        }
        let offset = |part: &str| {
            let (partition, offset) = part.split_once(':')?;
            Some((partition.trim().parse().ok()?, offset.trim().parse().ok()?))
        };
        if let Some(offsets) = text.split(',').map(offset).collect() {
            return Ok(Start::Offsets(offsets));
        }
        Timestamp::parse(text).map(Start::Time).ok_or_else(|| {
            format!(
                "'{text}' is no place to start: write earliest, latest, group, a time such as \
                 2026-01-31T00:00:00Z, or an offset per partition such as 0:120,1:95"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_read_as_it_is_written() {
        let start = |text: &str| text.parse::<Start>();
        assert_eq!(start("latest"), Ok(Start::Latest));
        assert_eq!(
            start("1970-01-01T00:00:01Z"),
            Ok(Start::Time(Timestamp(1000)))
        );
        let offsets = BTreeMap::from([(0, 120), (7, 0)]);
        assert_eq!(start("0:120, 7:0"), Ok(Start::Offsets(offsets)));
        for wrong in ["", "newest", "0:", "0:1,", "-1:5", "0:-5"] {
            assert!(
                start(wrong).unwrap_err().contains("no place to start"),
                "{wrong}"
            );
        }
    }
}
