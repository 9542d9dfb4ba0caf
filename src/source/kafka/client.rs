//! The consumer, and what librdkafka tells of itself.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::{Offset, TopicPartitionList};

use super::options::KafkaOptions;

/// A consumer of one topic.
pub type Client = BaseConsumer<Told>;

/// The properties that are ours to set, and why.
const OURS: [(&str, &str); 6] = [
    ("group.id", "set kafka.group"),
    (
        "enable.auto.commit",
        "offsets are committed with checkpoints",
    ),
    (
        "enable.auto.offset.store",
        "offsets are committed with checkpoints",
    ),
    ("auto.offset.reset", "set start and on_lost of the stream"),
    (
        "enable.partition.eof",
        "the end of a partition must be told",
    ),
    (
        "statistics.interval.ms",
        "the state of brokers must be told",
    ),
];

/// Why a property cannot be set, if so.
pub fn refuse_property(name: &str) -> Option<String> {
    let (name, why) = OURS.into_iter().find(|(ours, _)| *ours == name)?;
    Some(format!("property '{name}' is the service's own: {why}"))
}

/// Makes a consumer; nothing is connected yet.
pub fn consumer(options: &KafkaOptions) -> KafkaResult<Client> {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "waterclock")
        // Records of open and aborted transactions are nobody's.
        .set("isolation.level", "read_committed")
        .set("queued.max.messages.kbytes", "32768")
        .set("queued.min.messages", "100000")
        .set("fetch.wait.max.ms", "100")
        .set("reconnect.backoff.max.ms", "2000");
    for (name, value) in &options.properties {
        config.set(name, value);
    }
    config
        .set("group.id", &options.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", "1000")
        .set_log_level(RDKafkaLogLevel::Info);
    config.create_with_context(Told::default())
}

/// A list of partitions of a topic with their offsets.
pub fn list<'a>(
    topic: &str,
    offsets: impl IntoIterator<Item = (&'a u32, Offset)>,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        let partition = i32::try_from(*partition).unwrap_or(i32::MAX);
        list.add_partition_offset(topic, partition, offset)?;
    }
    Ok(list)
}

/// An offset of ours as Kafka's.
pub fn offset(position: u64) -> Offset {
    Offset::Offset(i64::try_from(position).unwrap_or(i64::MAX))
}

/// What librdkafka told last.
#[derive(Default)]
pub struct Told(Mutex<News>);

/// News since they were taken last.
#[derive(Default)]
pub struct News {
    pub stats: Option<Box<Statistics>>,
    /// Where the partition ends whose end was reached last.
    pub end: Option<u64>,
    /// The last thing that went wrong with a connection.
    pub failure: Option<Arc<str>>,
}

impl Told {
    /// What is new; the last failure stays.
    pub fn take(&self) -> News {
        let mut news = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = news.failure.clone();
        let fresh = News {
            failure,
            ..News::default()
        };
        std::mem::replace(&mut *news, fresh)
    }

    /// Where the partition ends whose end was just told to be reached.
    pub fn take_end(&self) -> Option<u64> {
        let mut news = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        news.end.take()
    }

    fn tell(&self, tell: impl FnOnce(&mut News)) {
        tell(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ClientContext for Told {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                tracing::debug!(facility, message, "kafka");
                if facility == "FAIL" || facility == "ERROR" {
                    // `[thrd:...]: ` says nothing to a reader.
                    let said = message.split_once("]: ").map_or(message, |(_, said)| said);
                    self.tell(|news| news.failure = Some(Arc::from(said)));
                }
            }
            _ => tracing::trace!(facility, message, "kafka"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.tell(|news| news.stats = Some(Box::new(statistics)));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => self.tell(|news| news.end = end_of(reason)),
            // Why they are was told before.
            Some(RDKafkaErrorCode::AllBrokersDown) => {}
            _ => {
                tracing::debug!(%error, reason, "kafka");
                self.tell(|news| news.failure = Some(Arc::from(reason)));
            }
        }
    }
}

impl ConsumerContext for Told {}

/// The offset at which a partition was found to end, which librdkafka says in words alone. It is
/// beyond the last message where what follows that is nobody's to read.
fn end_of(reason: &str) -> Option<u64> {
    let (_, said) = reason.split_once("at offset ")?;
    let digits = said.find(|c: char| !c.is_ascii_digit());
    said[..digits.unwrap_or(said.len())].parse().ok()
}

/// The offset that was found for the one partition of a list; `None` where there is none.
pub fn found(list: &TopicPartitionList) -> KafkaResult<Option<u64>> {
    let mut found = None;
    for element in list.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            found = u64::try_from(offset).ok();
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_from_what_is_said_of_it() {
        let said = "Fetch from broker 1 reached end of partition at offset 70 (HighwaterMark 71)";
        assert_eq!(end_of(said), Some(70));
        assert_eq!(end_of("reached end of partition at offset 7"), Some(7));
        assert_eq!(end_of("reached end of partition"), None);
    }
}
