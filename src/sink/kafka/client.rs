//! A producer of one sink: sends, and tells what went wrong in one sentence.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

use super::sink::KafkaSettings;
use crate::sink::SinkError;
use crate::view::Delivery;

/// How long nothing may come from the brokers before all is begun anew.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait for room in the producer's queue before looking for errors again.
const ROOM: Duration = Duration::from_millis(20);

/// Hears librdkafka: logs, troubles with brokers, and messages that were not taken.
#[derive(Clone, Default)]
pub(super) struct Ear(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    /// The last trouble with a broker.
    trouble: Option<String>,
    /// Why the first of the messages was not taken.
    undelivered: Option<String>,
}

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error for what could not be done, with what the brokers said.
    pub fn retry(&self, what: &str, why: impl std::fmt::Display) -> SinkError {
        let why = why.to_string();
        SinkError::Retry(match &self.heard().trouble {
            Some(trouble) if !trouble.contains(&why) => format!("cannot {what}: {why}; {trouble}"),
            _ => format!("cannot {what}: {why}"),
        })
    }
}

/// What an error says, without the kind of it.
pub(super) fn words(error: KafkaError) -> String {
    match (&error, error.rdkafka_error_code()) {
        (_, Some(RDKafkaErrorCode::OperationTimedOut)) => "the brokers do not answer".to_owned(),
        (KafkaError::Transaction(said), _) => said.to_string(),
        (_, Some(code)) => code.to_string(),
        (_, None) => error.to_string(),
    }
}

impl ClientContext for Ear {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        tracing::debug!(?level, fac, "librdkafka: {message}");
        // Why a transaction cannot go on is told nowhere else. Before it stands the thread.
        if fac == "TXNERR" {
            let said = message.split_once("]: ").map_or(message, |(_, said)| said);
            self.heard().trouble = Some(said.to_owned());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut heard = self.heard();
        // That all are down adds nothing to what is wrong with one.
        let is_sum = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if !is_sum || heard.trouble.is_none() {
            heard.trouble = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Ear {}

impl ProducerContext for Ear {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        let purged = [
            RDKafkaErrorCode::PurgeQueue,
            RDKafkaErrorCode::PurgeInflight,
        ];
        if let Err((error, _)) = delivered
            // Those follow from another error.
            && error.rdkafka_error_code().is_none_or(|code| !purged.contains(&code))
        {
            let mut heard = self.heard();
            heard
                .undelivered
                .get_or_insert_with(|| words(error.clone()));
        }
    }
}

/// The settings of a client, without those that only a producer has.
pub(super) fn config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "waterclock");
    for (key, value) in &settings.properties {
        config.set(key, value);
    }
    config
}

/// A connected producer.
pub(super) struct Client {
    producer: ThreadedProducer<Ear>,
    ear: Ear,
    delivery: Delivery,
}

impl Client {
    /// Makes a producer; connects to nothing yet.
    pub fn new(settings: &KafkaSettings) -> KafkaResult<Client> {
        let mut producer = config(settings);
        let mut default = |key: &str, value: &str| {
            if !settings.properties.contains_key(key) {
                producer.set(key, value);
            }
        };
        // Short, so that nothing waits long for what a process that died left open.
        default("transaction.timeout.ms", "30000");
        // As the Java clients do, so that equal keys meet in one partition whoever sends them.
        default("partitioner", "murmur2_random");
        default("queue.buffering.max.kbytes", "65536");
        producer.set("enable.idempotence", "true");
        if settings.delivery == Delivery::ExactlyOnce {
            let id = format!("waterclock-{}-{}", settings.group, settings.sink);
            producer.set("transactional.id", id);
        }
        let ear = Ear::default();
        Ok(Client {
            producer: producer.create_with_context(ear.clone())?,
            ear,
            delivery: settings.delivery,
        })
    }

    pub fn ear(&self) -> &Ear {
        &self.ear
    }

    fn is_transactional(&self) -> bool {
        self.delivery == Delivery::ExactlyOnce
    }

    /// Shuts out the process before, and ends what it left open.
    pub fn take_over(&self) -> Result<(), SinkError> {
        if !self.is_transactional() {
            return Ok(());
        }
        let taken = self.producer.init_transactions(PATIENCE);
        taken.map_err(|error| self.ear.retry("begin with transactions", words(error)))
    }

    /// Looks whether a topic is there; a broker that creates topics will have it created.
    pub fn find(&self, topic: &str) -> Result<(), SinkError> {
        let metadata = self.producer.client().fetch_metadata(Some(topic), PATIENCE);
        let what = format!("send to topic '{topic}'");
        let metadata = metadata.map_err(|error| self.ear.retry(&what, words(error)))?;
        let found = metadata.topics().first();
        match found.and_then(MetadataTopic::error) {
            None => Ok(()),
            Some(error) => Err(self.ear.retry(&what, RDKafkaErrorCode::from(error))),
        }
    }

    /// Begins what [`Client::commit`] ends.
    pub fn begin(&self) -> Result<(), SinkError> {
        self.ear.heard().undelivered = None;
        if !self.is_transactional() {
            return Ok(());
        }
        let begun = self.producer.begin_transaction();
        begun.map_err(|error| self.ear.retry("begin a transaction", words(error)))
    }

    /// Sends a message; it has arrived only once all is committed.
    pub fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), SinkError> {
        let mut record = BaseRecord::to(topic).key(key);
        record.partition = partition;
        record.payload = value;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.check_delivered()?;
                    // The producer's own thread makes room.
                    std::thread::park_timeout(ROOM);
                    record = back;
                }
                Err((error, _)) => {
                    let what = format!("send a message to topic '{topic}'");
                    return Err(self.ear.retry(&what, words(error)));
                }
            }
        }
    }

    /// Waits until what was sent so far has arrived, where a transaction does not see to it.
    pub fn settle(&self) -> Result<(), SinkError> {
        if self.is_transactional() {
            return Ok(());
        }
        self.flush()
    }

    /// Makes all that was sent count.
    pub fn commit(&self) -> Result<(), SinkError> {
        if !self.is_transactional() {
            return self.flush();
        }
        self.flush()?;
        let committed = self.producer.commit_transaction(PATIENCE);
        committed.map_err(|error| self.ear.retry("commit a transaction", words(error)))
    }

    /// Waits until all that was sent has arrived, as long as some of it does.
    fn flush(&self) -> Result<(), SinkError> {
        loop {
            let before = self.producer.in_flight_count();
            let flushed = self.producer.flush(PATIENCE);
            self.check_delivered()?;
            match flushed {
                Ok(()) => break,
                Err(_) if self.producer.in_flight_count() < before => {}
                Err(error) => return Err(self.ear.retry("send messages", words(error))),
            }
        }
        self.ear.heard().trouble = None;
        Ok(())
    }

    fn check_delivered(&self) -> Result<(), SinkError> {
        let undelivered = self.ear.heard().undelivered.clone();
        match undelivered {
            Some(why) => Err(self.ear.retry("send a message", why)),
            None => Ok(()),
        }
    }
}
