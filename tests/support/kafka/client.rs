//! What tests ask of a broker through librdkafka. Whatever is refused fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic};
use rdkafka::admin::{TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::broker::{PATIENCE, until};

/// A record as it is written or was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Where it goes, or where it was; to write, `None` lets the key decide.
    pub partition: Option<i32>,
    /// Set by reading only.
    pub offset: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; to write, `None` is now.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A record of this value.
    pub fn new(value: impl Into<Vec<u8>>) -> Record {
        Record {
            value: Some(value.into()),
            ..Record::default()
        }
    }

    /// A record of this key without a value.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Record {
        Record::default().key(key)
    }

    /// Gives it a key.
    pub fn key(self, key: impl Into<Vec<u8>>) -> Record {
        let key = Some(key.into());
        Record { key, ..self }
    }

    /// Sends it to a partition.
    pub fn partition(self, partition: i32) -> Record {
        let partition = Some(partition);
        Record { partition, ..self }
    }

    /// Dates it, in milliseconds since 1970.
    pub fn at(self, timestamp_ms: i64) -> Record {
        let timestamp_ms = Some(timestamp_ms);
        Record {
            timestamp_ms,
            ..self
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Record {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    /// The value as text; empty without one.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    fn read(message: &BorrowedMessage<'_>) -> Record {
        let headers = message.headers().map(|headers| {
            let owned = |header: Header<'_, &[u8]>| {
                (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
            };
            headers.iter().map(owned).collect()
        });
        Record {
            partition: Some(message.partition()),
            offset: Some(message.offset()),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
            timestamp_ms: message.timestamp().to_millis(),
        }
    }

    fn to<'a>(&'a self, topic: &'a str) -> BaseRecord<'a, [u8], [u8]> {
        let headers = self
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| {
                let value = value.as_deref();
                all.insert(Header { key, value })
            });
        BaseRecord {
            partition: self.partition,
            payload: self.value.as_deref(),
            key: self.key.as_deref(),
            timestamp: self.timestamp_ms,
            headers: (!self.headers.is_empty()).then_some(headers),
            ..BaseRecord::to(topic)
        }
    }
}

/// A name that no other test has: tests share brokers.
pub fn unique(name: &str) -> String {
    format!("{name}-{:016x}", RandomState::new().hash_one(name))
}

/// Asks one broker; each call makes connections of its own.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
}

impl Client {
    /// A client of the broker at `HOST:PORT`, which need not be there yet.
    pub fn new(address: &str) -> Client {
        let address = address.to_owned();
        Client { address }
    }

    /// What all clients of this broker begin with.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.address)
            .set("reconnect.backoff.ms", "10")
            .set("reconnect.backoff.max.ms", "200");
        config
    }

    fn consumer(&self, group: &str, settings: &[(&str, &str)]) -> BaseConsumer {
        let mut config = self.config();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false");
        set(&mut config, settings);
        config.create().expect("settings that librdkafka knows")
    }

    fn ask(&self) -> BaseConsumer {
        self.consumer("nobody", &[])
    }

    /// Waits until it answers and all its partitions can be used; `ended` says why it never will.
    pub(super) fn wait_until_up(&self, mut ended: impl FnMut() -> Option<String>) {
        let asking = self.ask();
        until("the broker to answer", || {
            if let Some(how) = ended() {
                panic!("the broker ended: {how}");
            }
            let found = asking.fetch_metadata(None, Duration::from_millis(500));
            let found = found.ok()?;
            let mut partitions = found.topics().iter().flat_map(MetadataTopic::partitions);
            let is_up = !found.brokers().is_empty() && partitions.all(|one| one.leader() >= 0);
            is_up.then_some(())
        });
    }

    /// How many partitions the topic has that can be used; none if it is not there.
    pub fn partitions(&self, topic: &str) -> usize {
        partitions(&self.ask(), topic)
    }

    fn wait_for_partitions(&self, topic: &str, count: usize) {
        let asking = self.ask();
        until("the topic to change", || {
            (partitions(&asking, topic) == count).then_some(())
        });
    }

    /// Creates a topic, and waits until it can be used.
    pub fn create_topic(&self, topic: &str, partitions: usize, settings: &[(&str, &str)]) {
        let count = i32::try_from(partitions).expect("few partitions");
        let new = NewTopic::new(topic, count, TopicReplication::Fixed(1));
        let new = settings
            .iter()
            .fold(new, |new, (key, value)| new.set(key, value));
        let done = self.administrate(|admin, options| admin.create_topics([&new], options));
        each(done, "the topic is new");
        self.wait_for_partitions(topic, partitions);
    }

    /// Gives a topic more partitions: `count` altogether.
    pub fn raise_partitions(&self, topic: &str, count: usize) {
        let new = NewPartitions::new(topic, count);
        let done = self.administrate(|admin, options| admin.create_partitions([&new], options));
        each(done, "more than before");
        self.wait_for_partitions(topic, count);
    }

    /// Deletes a topic, and waits until it is gone.
    pub fn delete_topic(&self, topic: &str) {
        let done = self.administrate(|admin, options| admin.delete_topics(&[topic], options));
        each(done, "the topic is there");
        self.wait_for_partitions(topic, 0);
    }

    /// Deletes the records of a partition before an offset.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let list = list(topic, [(partition, Offset::Offset(before))]);
        let done = self.administrate(|admin, options| admin.delete_records(&list, options));
        for element in done.elements() {
            element.error().expect("the offset is there");
        }
    }

    fn administrate<T, F: Future<Output = Result<T, KafkaError>>>(
        &self,
        ask: impl FnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> F,
    ) -> T {
        let admin = self
            .config()
            .create()
            .expect("settings that librdkafka knows");
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime of this thread");
        runtime
            .block_on(ask(&admin, &options))
            .expect("the broker answers")
    }

    /// Writes records, and waits until the broker has them.
    pub fn produce(&self, topic: &str, records: &[Record]) {
        self.produce_with(topic, records, &[]);
    }

    /// The same with settings of the producer: `compression.type`.
    pub fn produce_with(&self, topic: &str, records: &[Record], settings: &[(&str, &str)]) {
        send(&self.producer(settings), topic, records);
    }

    fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer<Deliveries> {
        let mut config = self.config();
        config.set("linger.ms", "1").set("acks", "all");
        set(&mut config, settings);
        let producer = BaseProducer::from_config_and_context(&config, Deliveries::default());
        producer.expect("settings that librdkafka knows")
    }

    /// Begins a transaction; who held this id before is fenced off. One that is dropped stays
    /// open, as after a crash, until the broker aborts it after `timeout`.
    pub fn begin(&self, transactional_id: &str, timeout: Duration) -> Transaction {
        let timeout = timeout.as_millis().to_string();
        let producer = self.producer(&[
            ("transactional.id", transactional_id),
            ("transaction.timeout.ms", &timeout),
        ]);
        producer
            .init_transactions(PATIENCE)
            .expect("the broker answers");
        producer.begin_transaction().expect("none has begun");
        Transaction { producer }
    }

    /// All records that are committed, by partition and offset.
    pub fn read(&self, topic: &str) -> Vec<Record> {
        self.try_read(topic, "read_committed")
            .expect("the broker lets us read")
    }

    /// All records, those of open and aborted transactions too.
    pub fn read_uncommitted(&self, topic: &str) -> Vec<Record> {
        self.try_read(topic, "read_uncommitted")
            .expect("the broker lets us read")
    }

    /// The same where the broker may refuse it.
    pub fn try_read(&self, topic: &str, isolation: &str) -> Result<Vec<Record>, KafkaError> {
        let settings = [
            ("isolation.level", isolation),
            ("enable.partition.eof", "true"),
            ("fetch.wait.max.ms", "10"),
        ];
        let reader = self.consumer("nobody", &settings);
        let mut unread: BTreeSet<i32> = numbers(partitions(&reader, topic)).collect();
        assert!(!unread.is_empty(), "there is no topic '{topic}'");
        let begin = unread
            .iter()
            .map(|partition| (*partition, Offset::Beginning));
        reader.assign(&list(topic, begin))?;
        let mut records = Vec::new();
        while !unread.is_empty() {
            match reader.poll(PATIENCE).expect("the broker goes on") {
                Ok(message) => records.push(Record::read(&message)),
                Err(KafkaError::PartitionEOF(partition)) => drop(unread.remove(&partition)),
                Err(error) => return Err(error),
            }
        }
        records.sort();
        Ok(records)
    }

    /// By partition, the offset of the first record that is left.
    pub fn begin_offsets(&self, topic: &str) -> BTreeMap<i32, i64> {
        self.watermarks(topic, |(begin, _)| begin)
    }

    /// By partition, the offset that the next record gets.
    pub fn end_offsets(&self, topic: &str) -> BTreeMap<i32, i64> {
        self.watermarks(topic, |(_, end)| end)
    }

    fn watermarks(&self, topic: &str, which: fn((i64, i64)) -> i64) -> BTreeMap<i32, i64> {
        let asking = self.consumer("nobody", &[("isolation.level", "read_uncommitted")]);
        let watermarks = numbers(partitions(&asking, topic)).map(|partition| {
            let both = asking.fetch_watermarks(topic, partition, PATIENCE);
            (partition, which(both.expect("the broker answers")))
        });
        watermarks.collect()
    }

    /// By partition, what a group has committed; partitions without are left out.
    pub fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        let asking = self.consumer(group, &[]);
        let all = numbers(partitions(&asking, topic)).map(|partition| (partition, Offset::Invalid));
        let found = asking.committed_offsets(list(topic, all), PATIENCE);
        let found = found.expect("the broker answers");
        let elements = found.elements();
        let offsets = elements
            .iter()
            .filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            });
        offsets.collect()
    }

    /// Commits for a group that nobody is in.
    pub fn commit(&self, group: &str, topic: &str, offsets: &BTreeMap<i32, i64>) {
        let offsets = offsets
            .iter()
            .map(|(partition, at)| (*partition, Offset::Offset(*at)));
        let done = self
            .consumer(group, &[])
            .commit(&list(topic, offsets), CommitMode::Sync);
        done.expect("nobody is in the group");
    }
}

/// Records that become readable all together, or never.
pub struct Transaction {
    producer: BaseProducer<Deliveries>,
}

impl Transaction {
    /// Writes records, and waits until the broker has them.
    pub fn send(&self, topic: &str, records: &[Record]) {
        send(&self.producer, topic, records);
    }

    /// Makes them readable.
    pub fn commit(self) {
        let done = self.producer.commit_transaction(PATIENCE);
        done.expect("nobody has fenced us off");
    }

    /// Takes them back.
    pub fn abort(self) {
        let done = self.producer.abort_transaction(PATIENCE);
        done.expect("nobody has fenced us off");
    }
}

/// Keeps why records were not taken.
#[derive(Default)]
struct Deliveries {
    refused: Mutex<Vec<KafkaError>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut refused = self.refused.lock().expect("nobody panics with the lock");
            refused.push(error.clone());
        }
    }
}

fn send(producer: &BaseProducer<Deliveries>, topic: &str, records: &[Record]) {
    for record in records {
        let mut next = record.to(topic);
        while let Err((error, back)) = producer.send(next) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full, "writing to '{topic}'");
            producer.poll(Duration::from_millis(10));
            next = back;
        }
    }
    producer.flush(PATIENCE).expect("the broker takes records");
    let refused = producer.context().refused.lock();
    let refused = refused.expect("nobody panics with the lock");
    assert!(refused.is_empty(), "writing to '{topic}': {refused:?}");
}

fn set(config: &mut ClientConfig, settings: &[(&str, &str)]) {
    for (key, value) in settings {
        config.set(*key, *value);
    }
}

/// Fails unless each topic was changed as asked; `because` says why it should be.
fn each(results: Vec<TopicResult>, because: &str) {
    for result in results {
        result.expect(because);
    }
}

fn partitions(asking: &BaseConsumer, topic: &str) -> usize {
    let found = asking.fetch_metadata(Some(topic), PATIENCE);
    let found = found.expect("the broker answers");
    let all = found.topics().iter().flat_map(MetadataTopic::partitions);
    all.filter(|partition| partition.leader() >= 0).count()
}

fn numbers(count: usize) -> impl Iterator<Item = i32> {
    0..i32::try_from(count).expect("few partitions")
}

fn list(topic: &str, offsets: impl IntoIterator<Item = (i32, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        let added = list.add_partition_offset(topic, partition, offset);
        added.expect("an offset that can be asked for");
    }
    list
}
