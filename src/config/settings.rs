//! The settings themselves: their names, units, meaning and defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::http::HttpConfig;
use super::sinks::SinkConfig;
use crate::time::{hours, minutes, seconds};

/// Everything that may be configured. [`Config::default`] is the service without a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The process: where its state is, how many threads, which queries.
    pub service: ServiceConfig,
    /// The HTTP edge.
    pub http: HttpConfig,
    /// How much memory, and what is beyond it.
    pub memory: MemoryConfig,
    /// Rounds of input.
    pub epoch: EpochConfig,
    /// Event time.
    pub time: TimeConfig,
    /// Checkpoints.
    pub snapshot: SnapshotConfig,
    /// The embedded log behind `POST /v1/streams/{s}`.
    pub log: LogConfig,
    /// How far back views can answer.
    pub history: HistoryConfig,
    /// The generator of visits; `None` turns it off, and so does a file without `[demo]`.
    #[serde(default = "no_demo")]
    pub demo: Option<DemoConfig>,
    /// The Kafka cluster that streams are read from, and sinks send to.
    pub kafka: KafkaConfig,
    /// Settings of single streams; a stream not named here is an embedded log.
    pub streams: BTreeMap<String, StreamConfig>,
    /// Where answers go besides readers.
    pub sinks: BTreeMap<String, SinkConfig>,
}

/// `[service]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceConfig {
    /// Directory of the logs, the epoch journal and the checkpoints.
    pub data_dir: PathBuf,
    /// Dataflow threads; 0 stands for one per core, at most [`ServiceConfig::MAX_AUTO_WORKERS`].
    pub workers: usize,
    /// Names of the queries to run; empty for all.
    pub queries: Vec<String>,
}

/// `[memory]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// Bytes of memory; what is beyond them lies in a file of the data directory. 0 for no budget.
    pub budget_bytes: usize,
    /// Most bytes of that file; beyond it posts are refused.
    pub file_bytes: usize,
}

/// `[epoch]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EpochConfig {
    /// How long an epoch without input stays open, in milliseconds.
    pub heartbeat_ms: u64,
    /// Bytes that may be between the sources and the slowest view; beyond it sources wait.
    pub max_in_flight_bytes: usize,
}

/// `[time]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeConfig {
    /// A partition silent for this long no longer holds its stream's watermark back.
    #[serde(with = "duration_text")]
    pub idle_timeout: Duration,
    /// How far an event time may lie after the record's arrival before the record is rejected.
    #[serde(with = "duration_text")]
    pub max_ahead: Duration,
}

/// `[snapshot]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotConfig {
    /// Time between two checkpoints.
    #[serde(with = "duration_text")]
    pub interval: Duration,
    /// How many checkpoints are kept.
    pub retain: usize,
    /// Format of their segments.
    pub codec: Codec,
    /// Where they are kept: `s3://BUCKET/PREFIX`, or the data directory when empty.
    pub store: String,
    /// The server of the bucket: `http://HOST:PORT`. AWS, or `AWS_ENDPOINT_URL`, when empty.
    pub store_endpoint: String,
    /// The region of the bucket; `AWS_REGION` when empty.
    pub store_region: String,
    /// How long a request to the bucket may take, and how long it is tried again.
    #[serde(with = "duration_text")]
    pub store_timeout: Duration,
    /// After how long without a sign of life another service may take the bucket's prefix over.
    #[serde(with = "duration_text")]
    pub store_takeover: Duration,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Size at which a log file is closed and the next one begun, in bytes.
    pub segment_bytes: u64,
    /// How long records are kept behind the oldest retained checkpoint.
    #[serde(with = "duration_text")]
    pub retain: Duration,
}

/// `[history]`: a view's past ends at whichever bound is met first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryConfig {
    /// Most epochs a view can go back.
    pub epochs: usize,
    /// Most bytes of changes a view keeps.
    pub bytes: usize,
    /// Longest time a view can go back.
    #[serde(with = "duration_text")]
    pub span: Duration,
}

/// `[kafka]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// The brokers to begin with: `host:port`, several separated by commas.
    pub brokers: String,
    /// The consumer group under which positions are shown to others.
    pub group: String,
    /// Bytes of a topic's messages that may be fetched and not read yet.
    pub buffer_bytes: usize,
    /// Time between two looks for new partitions.
    #[serde(with = "duration_text")]
    pub discover_every: Duration,
    /// Properties of librdkafka, by their own names.
    pub properties: BTreeMap<String, String>,
    /// File with further properties, `name=value` a line: for secrets. Empty for none.
    pub properties_file: PathBuf,
    /// The schema registry of Avro and Protobuf records: `http://host:8081`.
    pub registry_url: String,
    /// Who asks the registry; empty where it wants no user.
    pub registry_user: String,
    /// File with the user's password. Empty for none.
    pub registry_password_file: PathBuf,
}

/// `[demo]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DemoConfig {
    /// Visits generated per second.
    pub rate: u32,
    /// Seed of the generator: the same seed makes the same visitors, pages and countries.
    pub seed: u64,
}

/// `[streams.NAME]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    /// Where the records come from.
    pub source: StreamSource,
    /// Files to read, one partition each, numbered in this order.
    pub paths: Vec<PathBuf>,
    /// The Kafka topic; the stream's name when empty.
    pub topic: String,
    /// Where a topic that was never read begins: `earliest`, `latest`, `group`, a time, or an
    /// offset per partition such as `0:120,1:95`.
    pub start: String,
    /// What to do where records are gone from a topic before they were read.
    pub on_lost: OnLost,
    /// What a record is; of files by their ending (`.csv` or not), JSON otherwise, when absent.
    pub format: Option<RecordFormat>,
    /// The fields of a CSV message, in order: a topic has no header.
    pub columns: Vec<String>,
    /// Whether to wait for what is appended to the files later.
    pub tail: bool,
    /// Overrides the record type's lateness bound.
    #[serde(with = "optional_duration_text")]
    pub lateness: Option<Duration>,
    /// Decides which events are made up; 42 when absent.
    pub seed: Option<u64>,
    /// How many events are made up a second, of the wall clock as of event time; 1000 when absent.
    pub rate: Option<u32>,
    /// How many events are made up; no end to them when absent.
    pub events: Option<u64>,
    /// By how much made-up events are out of order at most; not at all when absent.
    #[serde(with = "optional_duration_text")]
    pub out_of_order: Option<Duration>,
    /// What to do with a record that cannot be read.
    pub poison: PoisonPolicy,
    /// How far the event time of a partition may run ahead of the slowest that is not idle; it
    /// waits then. As far as it will where nothing is said.
    #[serde(with = "optional_duration_text")]
    pub max_drift: Option<Duration>,
}

/// Where a stream's records come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamSource {
    /// The embedded log: what is posted to the stream.
    #[default]
    Log,
    /// Files.
    File,
    /// A Kafka topic.
    Kafka,
    /// Made-up events of the Nexmark benchmark.
    Nexmark,
}

/// What the bytes of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordFormat {
    /// One JSON object a line of a file.
    Ndjson,
    /// Comma-separated values: under a header in files, one row a message in topics.
    Csv,
    /// One JSON object a message.
    Json,
    /// Anything, taken as it is by a field `value`.
    Raw,
    /// A change of a database's row, in Debezium's JSON envelope.
    Debezium,
    /// Avro, with the id of its schema in a registry.
    Avro,
    /// Protobuf, with the id of its schema in a registry.
    Protobuf,
}

/// What to do where records are gone before they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLost {
    /// Stop reading the partition and say how many are lost.
    #[default]
    Stop,
    /// Count them among the rejected records and go on.
    Skip,
}

/// What to do with a record that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoisonPolicy {
    /// Stop reading the stream and say why.
    Fail,
    /// Count it and go on.
    Skip,
    /// Count it, keep it readable at `/v1/streams/{s}/rejected`, and go on.
    #[default]
    DeadLetter,
}

/// Format of a checkpoint's segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// Arrow IPC files with named columns.
    #[default]
    Arrow,
    /// A native image, which only the build reads that wrote it; of builds with that feature.
    Abomonation,
}

impl Config {
    /// Dataflow threads on a machine that offers `cores`.
    pub fn worker_count(&self, cores: usize) -> usize {
        match self.service.workers {
            0 => cores.clamp(1, ServiceConfig::MAX_AUTO_WORKERS),
            workers => workers,
        }
    }
}

impl ServiceConfig {
    /// Most threads taken unasked: a small load on a large machine does not spread over all of it.
    pub const MAX_AUTO_WORKERS: usize = 4;
}

impl Default for Config {
    fn default() -> Config {
        Config {
            service: ServiceConfig::default(),
            http: HttpConfig::default(),
            memory: MemoryConfig::default(),
            epoch: EpochConfig::default(),
            time: TimeConfig::default(),
            snapshot: SnapshotConfig::default(),
            log: LogConfig::default(),
            history: HistoryConfig::default(),
            kafka: KafkaConfig::default(),
            demo: Some(DemoConfig::default()),
            streams: BTreeMap::new(),
            sinks: BTreeMap::new(),
        }
    }
}

/// A file decides by itself whether there is a demo.
fn no_demo() -> Option<DemoConfig> {
    None
}

impl Default for ServiceConfig {
    fn default() -> ServiceConfig {
        ServiceConfig {
            data_dir: PathBuf::from("waterclock-data"),
            workers: 0,
            queries: Vec::new(),
        }
    }
}

impl Default for MemoryConfig {
    fn default() -> MemoryConfig {
        MemoryConfig {
            budget_bytes: 0,
            file_bytes: 64 << 30,
        }
    }
}

impl Default for EpochConfig {
    fn default() -> EpochConfig {
        EpochConfig {
            heartbeat_ms: 250,
            max_in_flight_bytes: 32 << 20,
        }
    }
}

impl Default for TimeConfig {
    fn default() -> TimeConfig {
        TimeConfig {
            idle_timeout: seconds(30),
            max_ahead: hours(1),
        }
    }
}

impl Default for SnapshotConfig {
    fn default() -> SnapshotConfig {
        SnapshotConfig {
            interval: seconds(10),
            retain: 2,
            codec: Codec::Arrow,
            store: String::new(),
            store_endpoint: String::new(),
            store_region: String::new(),
            store_timeout: seconds(30),
            store_takeover: seconds(15),
        }
    }
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 64 << 20,
            retain: hours(24),
        }
    }
}

impl Default for HistoryConfig {
    fn default() -> HistoryConfig {
        HistoryConfig {
            epochs: 2400,
            bytes: 64 << 20,
            span: minutes(10),
        }
    }
}

impl Default for KafkaConfig {
    fn default() -> KafkaConfig {
        KafkaConfig {
            brokers: String::new(),
            group: "waterclock".to_owned(),
            buffer_bytes: 32 << 20,
            discover_every: seconds(10),
            properties: BTreeMap::new(),
            properties_file: PathBuf::new(),
            registry_url: String::new(),
            registry_user: String::new(),
            registry_password_file: PathBuf::new(),
        }
    }
}

impl Default for DemoConfig {
    fn default() -> DemoConfig {
        DemoConfig { rate: 100, seed: 1 }
    }
}

/// Durations as text: `250ms`, `5s`, `2m`, `1h`, `7d`.
pub(super) mod duration_text {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::parse_duration;

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::text_of(*duration))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).ok_or_else(|| {
            D::Error::custom(format_args!(
                "'{text}' is no duration: write a whole number and ms, s, m, h or d, as in \"30s\""
            ))
        })
    }
}

/// The same, where there may be none.
mod optional_duration_text {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    #[allow(
        clippy::ref_option,
        reason = "serde hands over a reference to the field"
    )]
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::duration_text::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        super::duration_text::deserialize(deserializer).map(Some)
    }
}

/// A duration in the largest unit that says it whole.
fn text_of(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ];
    let whole = units
        .into_iter()
        .find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or((1, "ms"));
    format!("{}{name}", ms / unit)
}
