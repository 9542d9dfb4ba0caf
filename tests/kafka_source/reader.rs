//! A Kafka source, driven as the service drives it, and librdkafka's brokers made of nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use waterclock::record::{Format, LastRecord, Message};
use waterclock::source::kafka::{KafkaOptions, KafkaSource, Start};
use waterclock::source::{Partition, Source, SourceError};

use crate::kafka::{Client, Record, until};

/// Brokers in this process that do as they are told.
pub type Mock = MockCluster<'static, DefaultProducerContext>;

pub const TOPIC: &str = "clicks";

/// Brokers with the topic.
pub fn mock(brokers: i32, partitions: i32) -> Mock {
    let mock = Mock::new(brokers).expect("a cluster of nothing");
    mock.create_topic(TOPIC, partitions, brokers)
        .expect("a topic");
    mock
}

/// Who writes to them.
pub fn client<C: ClientContext>(mock: &MockCluster<'_, C>) -> Client {
    Client::new(&mock.bootstrap_servers())
}

/// Records of one partition, each of which says its number in `size` bytes.
pub fn numbered(partition: i32, numbers: std::ops::Range<u64>, size: usize) -> Vec<Record> {
    let record = |n| Record::new(text(n, size)).partition(partition);
    numbers.map(record).collect()
}

/// A number in so many bytes.
pub fn text(number: u64, size: usize) -> String {
    let number = number.to_string();
    let fill = " ".repeat(size - number.len());
    number + &fill
}

/// How the topic is read where nothing else is said.
pub fn options(servers: &str) -> KafkaOptions {
    let properties = [
        ("bootstrap.servers", servers),
        ("reconnect.backoff.ms", "10"),
        ("reconnect.backoff.max.ms", "100"),
        ("fetch.error.backoff.ms", "50"),
        ("retry.backoff.ms", "20"),
    ];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
    KafkaOptions {
        stream: "clicks".to_owned(),
        topic: TOPIC.to_owned(),
        format: Format::Raw,
        start: Start::Earliest,
        skip_lost: false,
        group: "readers".to_owned(),
        properties: properties.into(),
        buffer_bytes: 32 << 20,
        discover_every: Duration::from_millis(200),
        silent_after: Duration::from_secs(30),
        registry: None,
    }
}

/// A source and how far it was read.
pub struct Reader {
    pub source: KafkaSource,
    pub at: BTreeMap<u32, u64>,
    /// What was read of each partition: the positions, and the records as text.
    pub read: BTreeMap<u32, Vec<(u64, String)>>,
    /// What the last record of each partition looked like.
    pub last: BTreeMap<u32, LastRecord>,
    /// How many positions were lost.
    pub lost: u64,
}

impl Reader {
    /// One that reads for the first time.
    pub fn start(options: KafkaOptions) -> Reader {
        Reader::resume(options, BTreeMap::new())
    }

    /// One that goes on at positions.
    pub fn resume(options: KafkaOptions, at: BTreeMap<u32, u64>) -> Reader {
        let mut source = KafkaSource::open(options).expect("options that librdkafka knows");
        source.resume(&at);
        Reader {
            source,
            at,
            read: BTreeMap::new(),
            last: BTreeMap::new(),
            lost: 0,
        }
    }

    pub fn partitions(&mut self) -> Vec<Partition> {
        self.source.partitions().expect("a list")
    }

    /// One look at every partition, as the service looks.
    pub fn look(&mut self) -> Result<(), SourceError> {
        for partition in self.partitions() {
            self.look_at(&partition)?;
        }
        Ok(())
    }

    pub fn look_at(&mut self, partition: &Partition) -> Result<(), SourceError> {
        let id = partition.id;
        let at = *self.at.entry(id).or_insert(partition.first);
        let Some(chunk) = self.source.read(id, at, 1 << 20, None)? else {
            return Ok(());
        };
        assert_eq!((chunk.partition, chunk.start), (id, at));
        assert!(chunk.end > at, "a chunk gets on");
        for (_, message) in Message::all(&chunk.bytes) {
            assert!((at..chunk.end).contains(&message.position));
            let value = String::from_utf8_lossy(message.value.unwrap_or_default());
            let read = self.read.entry(id).or_default();
            read.push((message.position, value.into_owned()));
        }
        if let Some(last) = LastRecord::of(&chunk.bytes) {
            self.last.insert(id, last);
        }
        self.lost += chunk.lost;
        self.at.insert(id, chunk.end);
        Ok(())
    }

    /// Looks until so many records of a partition were read.
    pub fn read_until(&mut self, partition: u32, count: usize) {
        until("records", || {
            self.look().expect("nothing is wrong");
            (self.read.get(&partition).map_or(0, Vec::len) >= count).then_some(())
        });
    }

    /// Looks until reading fails, or the source says what is wrong with all of it.
    pub fn trouble(&mut self, what: &str) -> String {
        until(what, || {
            let error = self.look().err().map(|error| error.to_string());
            error.or_else(|| self.source_problem())
        })
    }

    /// What is wrong with all of it.
    pub fn source_problem(&self) -> Option<String> {
        self.source.problem().map(|problem| problem.to_string())
    }

    /// Looks until the source says what is wrong with one of its partitions.
    pub fn trouble_of(&mut self, what: &str) -> String {
        until(what, || {
            self.look().expect("reading goes on");
            let mut all = self.partitions().into_iter();
            all.find_map(|partition| partition.problem.map(|problem| problem.to_string()))
        })
    }

    /// Says what the last record before the position of partition 0 looked like.
    pub fn recognise(&mut self, last: LastRecord) {
        self.source.recognise(0, self.at[&0], last);
    }

    /// Says how far a checkpoint reaches.
    pub fn checkpoint(&mut self, reached: &[(u32, u64)]) {
        for (partition, position) in reached {
            self.source.checkpointed(*partition, *position);
        }
    }

    /// Looks until nothing is wrong.
    pub fn until_well(&mut self) {
        until("all to be well", || {
            let is_read = self.look().is_ok();
            let is_well = self
                .partitions()
                .iter()
                .all(|partition| partition.problem.is_none());
            (is_read && is_well && self.source.problem().is_none()).then_some(())
        });
    }

    /// Whether silence of the partition means that nothing was written.
    pub fn is_live(&mut self, partition: u32) -> bool {
        let all = self.partitions();
        all.iter()
            .any(|found| found.id == partition && found.is_live)
    }

    /// Looks until a partition is read to its end.
    pub fn until_live(&mut self, partition: u32) {
        until("the end", || {
            self.look().expect("nothing is wrong");
            self.is_live(partition).then_some(())
        });
    }

    /// Fails unless the partition's records say the numbers from `first` to `last`, each once.
    pub fn assert_numbers(&self, partition: u32, numbers: std::ops::Range<u64>) {
        let read = self.read.get(&partition).into_iter().flatten();
        let read = read.map(|(_, text)| text.trim().parse::<u64>().expect("a number"));
        let read: Vec<u64> = read.collect();
        assert!(read.iter().copied().eq(numbers), "{read:?}");
    }
}
