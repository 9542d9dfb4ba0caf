//! A sink that sends to a Kafka topic.

use std::collections::BTreeMap;

use super::client::Client;
use super::ledger::Ledger;
use crate::sink::{Progress, Sink, SinkError};
use crate::view::{Delivery, Message};

/// Where and how a sink sends.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// Properties of librdkafka, the brokers among them.
    pub properties: BTreeMap<String, String>,
    /// Tells this service's sinks from another's on the same cluster.
    pub group: String,
    /// The sink's name.
    pub sink: String,
    /// The topic that messages go to.
    pub topic: String,
    /// What a crash may do to them.
    pub delivery: Delivery,
}

/// Sends to a topic. A group of epochs is one transaction, with the progress in it; where messages
/// may come again, the progress follows them.
///
/// After an error nothing is aborted by hand: opening anew shuts out the producer before, and the
/// broker aborts what that had left open.
pub struct KafkaSink {
    settings: KafkaSettings,
    ledger: Ledger,
    client: Option<Client>,
}

impl KafkaSink {
    /// A sink with these settings, which are checked; nothing is connected to.
    pub fn new(settings: KafkaSettings) -> Result<KafkaSink, String> {
        if let Err(error) = Client::new(&settings) {
            return Err(format!(
                "librdkafka refuses the settings of sink '{}': {error}",
                settings.sink
            ));
        }
        Ok(KafkaSink {
            ledger: Ledger::new(&settings),
            settings,
            client: None,
        })
    }
}

impl Sink for KafkaSink {
    fn open(&mut self) -> Result<Option<Progress>, SinkError> {
        // The one before first: two must not send at once.
        self.client = None;
        let client = Client::new(&self.settings)
            .map_err(|error| SinkError::Retry(format!("cannot make a producer: {error}")))?;
        client.take_over()?;
        client.find(&self.settings.topic)?;
        let progress = self.ledger.open(&client, &self.settings)?;
        self.client = Some(client);
        Ok(progress)
    }

    fn commit(&mut self, messages: &[Message], progress: &Progress) -> Result<(), SinkError> {
        let closed = || SinkError::Retry("the sink is not open".to_owned());
        let client = self.client.as_ref().ok_or_else(closed)?;
        client.begin()?;
        for message in messages {
            let value = message.value();
            client.send(&self.settings.topic, None, message.key(), value.as_deref())?;
        }
        client.settle()?;
        self.ledger.note(client, progress)?;
        client.commit()
    }
}
