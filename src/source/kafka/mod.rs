//! Kafka topics as sources: each partition of a topic is one of the stream, its offsets are the
//! positions.
//!
//! A topic has one consumer. Three threads serve it: one takes messages and lays them out for the
//! workers, one finds partitions and puts them to their offsets, one commits. The consumer takes
//! part in no group protocol: positions live in checkpoints, and are committed to the group only so
//! that others can see them.

mod buffer;
mod client;
mod commit;
mod fetch;
mod options;
mod schemas;
mod state;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use buffer::Taken;
pub use client::refuse_property;
use commit::Committer;
use fetch::Fetcher;
pub use options::{KafkaOptions, Start};
use schemas::KnownSchemas;
use state::{Reading, Shared, Stage, now};
use watch::Watcher;

use super::registry::RegistryError;
use super::{Partition, Source, SourceError, Wake};
use crate::record::{Chunk, Format, LastRecord, Positions, Span};

/// How long the last commit may take.
const LAST_COMMIT: Duration = Duration::from_secs(3);

/// Why a topic cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// A property is none of librdkafka's, or has an impossible value.
    #[error("stream '{stream}': Kafka cannot be set up so: {cause}; see [kafka.properties]")]
    Properties {
        /// The stream.
        stream: String,
        /// What librdkafka said.
        cause: rdkafka::error::KafkaError,
    },
    /// The schema registry cannot be asked so.
    #[error("stream '{stream}': {cause}; see kafka.registry_url")]
    Registry {
        /// The stream.
        stream: String,
        /// What is wrong.
        cause: RegistryError,
    },
    /// A thread cannot be started.
    #[error("stream '{stream}': cannot start a thread: {cause}")]
    Thread {
        /// The stream.
        stream: String,
        /// What the system said.
        cause: std::io::Error,
    },
}

/// A Kafka topic. It connects in the background: a broker that is down is waited for.
pub struct KafkaSource {
    options: Arc<KafkaOptions>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    committer: Option<JoinHandle<()>>,
}

impl KafkaSource {
    /// Begins to look for the topic. Nothing is read before it is asked for.
    pub fn open(options: KafkaOptions) -> Result<KafkaSource, KafkaError> {
        let stream = options.stream.clone();
        let client = client::consumer(&options).map_err(|cause| KafkaError::Properties {
            stream: stream.clone(),
            cause,
        })?;
        let schemas = KnownSchemas::of(&options).map_err(|cause| KafkaError::Registry {
            stream: stream.clone(),
            cause,
        })?;
        let (client, options) = (Arc::new(client), Arc::new(options));
        let shared = Arc::new(Shared::default());
        let mut source = KafkaSource {
            options: Arc::clone(&options),
            shared: Arc::clone(&shared),
            threads: Vec::new(),
            committer: None,
        };
        let ours = || {
            (
                Arc::clone(&client),
                Arc::clone(&options),
                Arc::clone(&shared),
            )
        };
        let (c, o, s) = ours();
        let fetcher = Fetcher::new(c, o, s, schemas);
        let (c, o, s) = ours();
        let watcher = Watcher::new(c, o, s);
        let committer = Committer {
            client,
            options,
            shared,
        };
        let failed = |cause| KafkaError::Thread {
            stream: stream.clone(),
            cause,
        };
        for spawned in [
            spawn("kafka-fetch", move || fetcher.run()),
            spawn("kafka-watch", move || watcher.run()),
        ] {
            source.threads.push(spawned.map_err(failed)?);
        }
        let spawned = spawn("kafka-commit", move || committer.run());
        source.committer = Some(spawned.map_err(failed)?);
        Ok(source)
    }

    fn waiting(&self, partition: u32, position: u64) -> SourceError {
        SourceError::Waiting {
            stream: self.options.stream.clone(),
            partition,
            position,
        }
    }

    /// Why the partition cannot be read on, if it cannot.
    fn refusal(&self, partition: u32, reading: &Reading) -> Option<SourceError> {
        let (stream, topic) = (self.options.stream.clone(), self.options.topic.clone());
        let position = reading.buffer.next();
        let change = match reading.stage {
            Stage::Unasked | Stage::Asked | Stage::Placed | Stage::Assigned => return None,
            Stage::Lost { first, end } => {
                return Some(SourceError::Lost {
                    stream,
                    topic,
                    partition,
                    position,
                    first,
                    end,
                });
            }
            Stage::Ended { end } => format!("ends at offset {end}, but {position} is next"),
            Stage::Replaced { at } => format!("has another record at offset {at} than was read"),
        };
        Some(SourceError::Recreated {
            stream,
            topic,
            partition,
            change,
        })
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.notify();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(
                    topic = self.options.topic,
                    "a thread of its reader panicked"
                );
            }
        }
        // A broker that is asked and does not answer keeps nobody longer than this.
        let (committer, since) = (self.committer.take(), now());
        let mut state = self.shared.lock();
        while committer
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
            && since.elapsed() < LAST_COMMIT
        {
            state = self.shared.wait(state, Duration::from_millis(10));
        }
    }
}

impl Source for KafkaSource {
    fn stream(&self) -> &str {
        &self.options.stream
    }

    fn partitions(&mut self) -> Result<Vec<Partition>, SourceError> {
        let state = self.shared.lock();
        let is_reached = state.trouble.first().is_none();
        let listed = state
            .partitions
            .iter()
            .filter(|(_, reading)| reading.is_listed());
        let partition = |(id, reading): (&u32, &Reading)| {
            let first = reading.first.unwrap_or_default();
            Partition {
                is_live: is_reached && reading.is_silent() && reading.trouble.is_none(),
                problem: reading.trouble.clone(),
                ..Partition::new(*id, first, reading.end.max(reading.buffer.next()))
            }
        };
        Ok(listed.map(partition).collect())
    }

    fn read(
        &mut self,
        partition: u32,
        position: u64,
        max_bytes: usize,
        until: Option<u64>,
    ) -> Result<Option<Chunk>, SourceError> {
        let mut state = self.shared.lock();
        let reading = state
            .partitions
            .entry(partition)
            .or_insert_with(|| Reading::new(now()));
        let before = reading.buffer.bytes();
        let taken = match reading.stage {
            Stage::Unasked => Taken::Elsewhere,
            _ => reading.buffer.read(position, max_bytes, until),
        };
        if taken == Taken::Elsewhere {
            reading.ask(position, now());
        }
        let refusal = (taken == Taken::Nothing)
            .then(|| self.refusal(partition, reading))
            .flatten();
        let is_less = reading.buffer.bytes() < before;
        let format = match &self.options.format {
            Format::Registered { .. } => Format::Registered {
                schemas: state.schemas.clone(),
            },
            format => format.clone(),
        };
        state.count();
        drop(state);
        if is_less || taken == Taken::Elsewhere {
            self.shared.notify();
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        match taken {
            Taken::Frames { end, bytes, lost } => Ok(Some(Chunk {
                partition,
                start: position,
                end,
                format,
                positions: Positions::Framed,
                spans: vec![Span {
                    first: position,
                    offset: 0,
                    len: bytes.len(),
                    arrival: None,
                }],
                bytes,
                unread: None,
                lost,
            })),
            Taken::Nothing | Taken::Elsewhere if until.is_some() => {
                Err(self.waiting(partition, position))
            }
            Taken::Nothing | Taken::Elsewhere => Ok(None),
        }
    }

    fn origin(&self, _partition: u32) -> String {
        format!("kafka {}", self.options.topic)
    }

    fn recognise(&mut self, partition: u32, position: u64, last: LastRecord) {
        let mut state = self.shared.lock();
        let reading = state.partitions.entry(partition);
        let reading = reading.or_insert_with(|| Reading::new(now()));
        reading.saved = Some((position, last));
    }

    fn on_arrival(&mut self, wake: Wake) {
        self.shared.lock().wake = Some(wake);
    }

    fn resume(&mut self, positions: &BTreeMap<u32, u64>) {
        let mut state = self.shared.lock();
        state.is_new = Some(positions.is_empty());
        // Listed before a broker says that they are there: until then they are waited for.
        for (id, position) in positions {
            let reading = state.partitions.entry(*id);
            let reading = reading.or_insert_with(|| Reading::new(now()));
            reading.first.get_or_insert(*position);
        }
        drop(state);
        self.shared.notify();
    }

    fn problem(&self) -> Option<Arc<str>> {
        self.shared.lock().problem()
    }

    fn checkpointed(&mut self, partition: u32, position: u64) {
        self.shared.lock().commits.insert(partition, position);
        self.shared.notify();
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;
    use crate::record::Format;

    const LONG: Duration = Duration::from_secs(60);

    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = now();
        while !is_so() {
            assert!(begun.elapsed() < LONG, "waited in vain for {what}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_fetched_and_not_read_is_bounded() {
        const BOUND: usize = 1 << 20;
        const SIZE: usize = 10_000;
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("t", 4, 1).unwrap();
        let servers = mock.bootstrap_servers();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &servers)
            .create()
            .unwrap();
        let value = vec![b'x'; SIZE];
        for i in 0..1600 {
            let record = BaseRecord::<(), _>::to("t")
                .payload(&value)
                .partition(i % 4);
            producer.send(record).unwrap();
        }
        producer.flush(LONG).unwrap();

        let mut source = KafkaSource::open(KafkaOptions {
            stream: "t".to_owned(),
            topic: "t".to_owned(),
            format: Format::Raw,
            start: Start::Earliest,
            skip_lost: false,
            group: "g".to_owned(),
            properties: [("bootstrap.servers".to_owned(), servers)].into(),
            buffer_bytes: BOUND,
            discover_every: LONG,
            silent_after: LONG,
            registry: None,
        })
        .unwrap();
        source.resume(&BTreeMap::new());
        until("the partitions", || source.partitions().unwrap().len() == 4);
        // All are asked for; then one after the other is read, and the others are not.
        let mut at = [0; 4];
        for id in 0..4 {
            drop(source.read(id, 0, BOUND, None).unwrap());
        }
        for id in [3, 0, 2, 1] {
            until("the end", || {
                let bytes = source.shared.lock().bytes;
                assert!(bytes <= 2 * BOUND + 4 * (SIZE + 100), "{bytes} bytes");
                let place = &mut at[id as usize];
                if let Some(chunk) = source.read(id, *place, BOUND, None).unwrap() {
                    *place = chunk.end;
                }
                *place == 400
            });
        }
    }
}
