//! The topic of progress records: one record per sink counts, the last. Who opens a sink leaves a
//! claim there and reads up to it, so that it has read everything before; a claim of somebody else
//! that is newer than one's own last says that one has been followed.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::client::{Client, Ear, PATIENCE, config, words};
use super::sink::KafkaSettings;
use crate::sink::{Progress, SinkError};

/// The topic; it is created, compacted, where it is not there.
pub(super) const TOPIC: &str = "waterclock-sinks";

/// All records are in one partition, so that one order says who came last.
const PARTITION: i32 = 0;

/// How long reading it may take. Transactions that other sinks left open hold it up until the
/// broker ends them.
const READING: Duration = Duration::from_secs(60);

/// Says who sends for a sink from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    writer: String,
    opening: u64,
}

/// One sink's part of the topic.
pub(super) struct Ledger {
    /// The key of the sink's progress.
    key: String,
    /// Whoever it is, it is nobody else.
    writer: String,
    /// How often the sink was opened.
    openings: u64,
    /// Whether this process was the sink's last writer, as far as it knows.
    is_mine: bool,
}

impl Ledger {
    pub fn new(settings: &KafkaSettings) -> Ledger {
        let random = RandomState::new().hash_one(std::process::id());
        Ledger {
            key: format!("{}/{}", settings.group, settings.sink),
            writer: format!("{}-{random:016x}", std::process::id()),
            openings: 0,
            is_mine: false,
        }
    }

    fn claim_key(&self) -> String {
        format!("{}/claim", self.key)
    }

    /// Sends the progress, to be committed with what it is the progress of.
    pub fn note(&self, client: &Client, progress: &Progress) -> Result<(), SinkError> {
        send(client, &self.key, progress)
    }

    /// Claims the sink and reads its progress.
    pub fn open(
        &mut self,
        client: &Client,
        settings: &KafkaSettings,
    ) -> Result<Option<Progress>, SinkError> {
        let reading = Reading::new(client.ear(), settings)?;
        if !reading.is_there()? {
            create(client.ear(), settings)?;
        }
        self.openings += 1;
        let claim = Claim {
            writer: self.writer.clone(),
            opening: self.openings,
        };
        client.begin()?;
        send(client, &self.claim_key(), &claim)?;
        client.commit()?;
        let (progress, before) = reading.up_to(&claim, self)?;
        if let Some(before) = before.filter(|before| before.writer != self.writer)
            && self.is_mine
        {
            // Opening shut the other one out: it must find its own claim when it begins anew.
            client.begin()?;
            send(client, &self.claim_key(), &before)?;
            client.commit()?;
            return Err(SinkError::Stop(format!(
                "another process sends as '{}' now: stop one of the two, or give each service a \
                 kafka.group of its own",
                self.key
            )));
        }
        self.is_mine = true;
        Ok(progress)
    }
}

/// Creates the topic.
fn create(ear: &Ear, settings: &KafkaSettings) -> Result<(), SinkError> {
    let what = format!("create topic '{TOPIC}'");
    let admin: AdminClient<Ear> = config(settings)
        .create_with_context(ear.clone())
        .map_err(|error| ear.retry(&what, words(error)))?;
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        // Compaction leaves the newest segment alone: a small one is soon read.
        .set("segment.bytes", "1048576");
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| ear.retry(&what, error))?;
    let created = runtime
        .block_on(admin.create_topics([&topic], &options))
        .map_err(|error| ear.retry(&what, words(error)))?;
    match created.into_iter().next() {
        // Another sink may have been first.
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => Ok(()),
        Some(Err((_, error))) => {
            let what = format!("{what}, one partition and cleanup.policy=compact");
            Err(ear.retry(&what, error))
        }
    }
}

/// Reads the topic.
struct Reading<'e> {
    consumer: BaseConsumer<Ear>,
    ear: &'e Ear,
}

impl<'e> Reading<'e> {
    fn new(ear: &'e Ear, settings: &KafkaSettings) -> Result<Reading<'e>, SinkError> {
        let consumer = config(settings)
            .set("group.id", format!("{}-{}", settings.group, settings.sink))
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            // The broker would create one that forgets.
            .set("allow.auto.create.topics", "false")
            .create_with_context(ear.clone());
        match consumer {
            Ok(consumer) => Ok(Reading { consumer, ear }),
            Err(error) => Err(ear.retry("make a consumer", words(error))),
        }
    }

    fn failed(&self, why: impl std::fmt::Display) -> SinkError {
        self.ear.retry(&format!("read topic '{TOPIC}'"), why)
    }

    fn is_there(&self) -> Result<bool, SinkError> {
        let metadata = self.consumer.fetch_metadata(Some(TOPIC), PATIENCE);
        let metadata = metadata.map_err(|error| self.failed(words(error)))?;
        let mut topics = metadata.topics().iter();
        Ok(topics.any(|topic| topic.name() == TOPIC && !topic.partitions().is_empty()))
    }

    /// The last progress before a claim, and the claim before it.
    #[allow(
        clippy::disallowed_methods,
        reason = "an edge: reading takes a bounded time"
    )]
    fn up_to(
        &self,
        claim: &Claim,
        ledger: &Ledger,
    ) -> Result<(Option<Progress>, Option<Claim>), SinkError> {
        let mut start = TopicPartitionList::new();
        let at = start.add_partition_offset(TOPIC, PARTITION, Offset::Beginning);
        at.and_then(|()| self.consumer.assign(&start))
            .map_err(|error| self.failed(words(error)))?;
        let (mut progress, mut before) = (None, None);
        let mut trouble = None;
        let since = Instant::now();
        while since.elapsed() < READING {
            let message = match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => message,
                // A topic just created may not be known everywhere; a broker may come back.
                Some(Err(error)) => {
                    trouble = Some(error);
                    continue;
                }
                None => continue,
            };
            let (key, value) = (message.key(), message.payload().unwrap_or_default());
            if key == Some(ledger.key.as_bytes()) {
                progress = Some(read(value)?);
            } else if key == Some(ledger.claim_key().as_bytes()) {
                let found: Claim = read(value)?;
                if found == *claim {
                    return Ok((progress, before));
                }
                before = Some(found);
            }
        }
        Err(match trouble {
            Some(error) => self.failed(words(error)),
            None => self.failed("it is held up"),
        })
    }
}

fn send(client: &Client, key: &str, value: &impl Serialize) -> Result<(), SinkError> {
    let value = serde_json::to_string(value).expect("text and numbers are JSON");
    client.send(TOPIC, Some(PARTITION), key, Some(&value))
}

fn read<T: for<'a> Deserialize<'a>>(value: &[u8]) -> Result<T, SinkError> {
    serde_json::from_slice(value).map_err(|error| {
        SinkError::Stop(format!(
            "a record of topic '{TOPIC}' cannot be read: {error}; remove it, then start with \
             --restart-sink"
        ))
    })
}
