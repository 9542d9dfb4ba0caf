//! From configuration to what the engine is given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use waterclock::Query;
use waterclock::config::{
    self, Config, OnLost, PoisonPolicy, RecordFormat, SinkConfig, StreamConfig, StreamSource,
};
use waterclock::query::{BuildError, Catalog, Overrides};
use waterclock::record::{Format, Schemas};
use waterclock::sink::kafka::{KafkaSettings, KafkaSink};
use waterclock::source::file::{self, FileOptions, FileSource};
use waterclock::source::kafka::{self, KafkaOptions, KafkaSource, Start};
use waterclock::source::log::{EmbeddedLog, LogOptions, StreamDef, inspect};
use waterclock::source::nexmark::{NexmarkOptions, NexmarkSource};
use waterclock::source::registry::RegistryOptions;
use waterclock::source::{Clock, Source, SourceError};
use waterclock::state::{BucketOptions, Codec, StoreOptions};
use waterclock::time::{Timestamp, seconds};
use waterclock::view::{Mode, SinkSpec};
use waterclock::worker::{self, Poison, SinkPlan};

/// After how long a partition of a topic that has data and sends none is told to be silent.
const SILENT_AFTER: Duration = seconds(30);

/// The machine's clock: the one place that reads it.
#[allow(
    clippy::disallowed_methods,
    reason = "time is an argument everywhere else"
)]
pub fn clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    })
}

/// The queries the configuration names; all where it names none.
pub fn selected(all: Vec<Query>, names: &[String]) -> Result<Vec<Query>, BuildError> {
    if names.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        all.iter()
            .find(|query| query.name == *name)
            .cloned()
            .ok_or_else(|| {
                let known: Vec<&str> = all.iter().map(|query| query.name.as_str()).collect();
                BuildError::UnknownQuery(name.clone(), known.join(", "))
            })
    };
    names.iter().map(find).collect()
}

/// What is known of some of the queries that run under this configuration.
pub fn catalog_of_some(config: &Config, queries: &[Query]) -> Result<Catalog, BuildError> {
    let mut overrides = Overrides::default();
    for (name, stream) in &config.streams {
        if let Some(lateness) = stream.lateness {
            overrides.lateness.insert(name.clone(), lateness);
        }
    }
    Catalog::of(queries, &overrides)
}

/// What is known of the queries, under this configuration.
pub fn catalog(config: &Config, queries: &[Query]) -> anyhow::Result<Catalog> {
    let catalog = catalog_of_some(config, queries)?;
    for name in config.streams.keys() {
        if catalog.stream(name).is_none() {
            let known = catalog.stream_names().join(", ");
            bail!(
                "[streams.{name}]: {}",
                BuildError::UnknownStream(name.clone(), known)
            );
        }
    }
    Ok(catalog)
}

/// In which bucket the checkpoints are, if in one.
pub fn bucket(config: &Config) -> Option<BucketOptions> {
    let snapshot = &config.snapshot;
    (!snapshot.store.is_empty()).then(|| BucketOptions {
        url: snapshot.store.clone(),
        endpoint: snapshot.store_endpoint.clone(),
        region: snapshot.store_region.clone(),
        timeout: snapshot.store_timeout,
        takeover: snapshot.store_takeover,
    })
}

/// Where and how checkpoints are kept.
pub fn store_options(config: &Config) -> StoreOptions {
    StoreOptions {
        retain: config.snapshot.retain,
        codec: match config.snapshot.codec {
            config::Codec::Arrow => Codec::Arrow,
            #[cfg(feature = "abomonation")]
            config::Codec::Abomonation => Codec::Abomonation,
            #[cfg(not(feature = "abomonation"))]
            config::Codec::Abomonation => unreachable!("the configuration was checked"),
        },
        bucket: bucket(config),
    }
}

/// What happens to unreadable records, by stream.
pub fn poison(config: &Config) -> BTreeMap<String, Poison> {
    let policy = |policy| match policy {
        PoisonPolicy::Fail => Poison::Fail,
        PoisonPolicy::Skip => Poison::Skip,
        PoisonPolicy::DeadLetter => Poison::DeadLetter,
    };
    config
        .streams
        .iter()
        .map(|(name, stream)| (name.clone(), policy(stream.poison)))
        .collect()
}

/// The sinks that the configuration names, each of a query that can feed it.
pub fn sink_specs(config: &Config, catalog: &Catalog) -> anyhow::Result<Vec<SinkSpec>> {
    let spec = |(name, sink): (&String, &SinkConfig)| {
        let query = catalog
            .queries
            .iter()
            .find(|query| query.name == sink.query);
        let Some(query) = query else {
            let known: Vec<&str> = catalog.queries.iter().map(|q| q.name.as_str()).collect();
            let unknown = BuildError::UnknownQuery(sink.query.clone(), known.join(", "));
            bail!("[sinks.{name}]: {unknown}");
        };
        if sink.mode == Mode::Final && !query.has_final {
            bail!(
                "[sinks.{name}]: the rows of query '{}' never become final: send them as they \
                 change, with mode = \"upsert\"",
                sink.query
            );
        }
        Ok(SinkSpec {
            name: name.clone(),
            query: sink.query.clone(),
            topic: sink.topic.clone(),
            mode: sink.mode,
            delivery: sink.delivery,
            buffer_bytes: sink.buffer_bytes,
        })
    };
    config.sinks.iter().map(spec).collect()
}

/// The sinks, ready to run; of those to restart nothing counts that they have sent before.
pub fn sinks(
    config: &Config,
    catalog: &Catalog,
    restart: &[String],
) -> anyhow::Result<Vec<SinkPlan>> {
    if let Some(unknown) = restart
        .iter()
        .find(|name| !config.sinks.contains_key(*name))
    {
        let known: Vec<&str> = config.sinks.keys().map(String::as_str).collect();
        bail!(
            "--restart-sink {unknown}: there is no such sink: there are {}",
            if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            }
        );
    }
    let properties = config.kafka.client_properties()?;
    let plan = |spec: SinkSpec| {
        let settings = KafkaSettings {
            properties: properties.clone(),
            group: config.kafka.group.clone(),
            sink: spec.name.clone(),
            topic: spec.topic.clone(),
            delivery: spec.delivery,
        };
        let sink = KafkaSink::new(settings).map_err(anyhow::Error::msg)?;
        Ok(SinkPlan {
            interval: config.sinks[&spec.name].commit_interval,
            restarts: restart.contains(&spec.name),
            sink: Box::new(sink),
            spec,
        })
    };
    sink_specs(config, catalog)?.into_iter().map(plan).collect()
}

/// How far partitions may run ahead, by stream.
pub fn max_drift(config: &Config) -> BTreeMap<String, Duration> {
    let streams = config.streams.iter();
    streams
        .filter_map(|(name, stream)| Some((name.clone(), stream.max_drift?)))
        .collect()
}

/// Every stream's source, and in words what it is.
pub struct Sources {
    pub log: Arc<EmbeddedLog>,
    pub opened: Vec<Box<dyn Source>>,
    pub said: BTreeMap<String, String>,
}

/// How a stream is read from Kafka.
fn kafka_options(
    config: &Config,
    stream: &str,
    configured: &StreamConfig,
) -> anyhow::Result<KafkaOptions> {
    let format = match configured.format {
        None | Some(RecordFormat::Json | RecordFormat::Ndjson) => Format::Json,
        Some(RecordFormat::Csv) => Format::Csv {
            header: configured.columns.clone().into(),
        },
        Some(RecordFormat::Raw) => Format::Raw,
        Some(RecordFormat::Debezium) => Format::Debezium,
        Some(RecordFormat::Avro | RecordFormat::Protobuf) => Format::Registered {
            schemas: Schemas::default(),
        },
    };
    let registry = RegistryOptions {
        url: config.kafka.registry_url.clone(),
        user: Some(config.kafka.registry_user.clone()).filter(|user| !user.is_empty()),
        password: config.kafka.registry_password()?,
        timeout: seconds(5),
    };
    let is_registered = matches!(format, Format::Registered { .. });
    let start = match configured.start.as_str() {
        "" => Start::default(),
        text => text
            .parse()
            .map_err(|why| anyhow!("[streams.{stream}] start: {why}"))?,
    };
    let properties = config.kafka.client_properties()?;
    if let Some(why) = properties
        .keys()
        .find_map(|name| kafka::refuse_property(name))
    {
        bail!("[kafka.properties]: {why}");
    }
    let topic = match configured.topic.as_str() {
        "" => stream,
        topic => topic,
    };
    Ok(KafkaOptions {
        stream: stream.to_owned(),
        topic: topic.to_owned(),
        format,
        start,
        skip_lost: configured.on_lost == OnLost::Skip,
        group: config.kafka.group.clone(),
        properties,
        buffer_bytes: config.kafka.buffer_bytes,
        discover_every: config.kafka.discover_every,
        registry: is_registered.then_some(registry),
        silent_after: SILENT_AFTER,
    })
}

/// The sources of a data directory that is only looked at: its log as it is, and the files.
pub fn recorded_sources(
    config: &Config,
    catalog: &Catalog,
) -> anyhow::Result<Vec<Box<dyn Source>>> {
    let log = config.service.data_dir.join("log");
    let source = |name: &String| -> anyhow::Result<Box<dyn Source>> {
        let configured = config.streams.get(name).cloned().unwrap_or_default();
        Ok(match configured.source {
            StreamSource::Log => Box::new(inspect(&log, name)?),
            StreamSource::File => Box::new(file_source(name, &configured)?),
            StreamSource::Nexmark => {
                Box::new(NexmarkSource::new(name, nexmark_options(&configured)))
            }
            StreamSource::Kafka => bail!(
                "stream '{name}' is read from Kafka: only what is in the log or in files can be \
                 replayed"
            ),
        })
    };
    catalog
        .streams
        .iter()
        .map(|stream| source(&stream.name))
        .collect()
}

fn file_source(stream: &str, configured: &StreamConfig) -> Result<FileSource, SourceError> {
    let format = configured.format.map(|format| match format {
        RecordFormat::Csv => file::FileFormat::Csv,
        _ => file::FileFormat::Ndjson,
    });
    let options = FileOptions {
        format,
        tail: configured.tail,
        ..<_>::default()
    };
    FileSource::open(stream, &configured.paths, options)
}

/// Which events are made up.
fn nexmark_options(configured: &StreamConfig) -> NexmarkOptions {
    let usual = NexmarkOptions::default();
    NexmarkOptions {
        seed: configured.seed.unwrap_or(usual.seed),
        rate: configured.rate.unwrap_or(1000).into(),
        events: configured.events.unwrap_or_default(),
        out_of_order: configured.out_of_order.unwrap_or_default(),
        ..usual
    }
}

/// Opens the log, and the files and topics that the configuration names.
pub fn sources(
    config: &Config,
    catalog: &Catalog,
    start: &worker::Start,
    clock: Clock,
) -> anyhow::Result<Sources> {
    let (mut defs, mut said, mut elsewhere) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for stream in &catalog.streams {
        let configured = config
            .streams
            .get(&stream.name)
            .cloned()
            .unwrap_or_default();
        match configured.source {
            StreamSource::Log => {
                let (judge, ahead) = (stream.judge, config.time.max_ahead);
                let judge = move |line: &[u8], arrival| judge(line, Some(arrival), ahead);
                defs.push(StreamDef {
                    name: stream.name.clone(),
                    judge: Arc::new(judge),
                });
                said.insert(stream.name.clone(), "log".to_owned());
            }
            StreamSource::File => {
                sources.push(Box::new(file_source(&stream.name, &configured)?));
                let paths = configured
                    .paths
                    .iter()
                    .map(|path| path.display().to_string());
                let words = format!("file {}", paths.collect::<Vec<_>>().join(", "));
                elsewhere.insert(stream.name.clone(), words.clone());
                said.insert(stream.name.clone(), words);
            }
            StreamSource::Nexmark => {
                let options = nexmark_options(&configured);
                let source = NexmarkSource::new(&stream.name, options);
                sources.push(Box::new(source.paced(Arc::clone(&clock))));
                let words = "made-up events".to_owned();
                elsewhere.insert(stream.name.clone(), words.clone());
                said.insert(stream.name.clone(), words);
            }
            StreamSource::Kafka => {
                let options = kafka_options(config, &stream.name, &configured)?;
                let words = format!("kafka topic '{}'", options.topic);
                sources.push(Box::new(KafkaSource::open(options)?));
                elsewhere.insert(stream.name.clone(), words.clone());
                said.insert(stream.name.clone(), words);
            }
        }
    }
    let options = LogOptions {
        segment_bytes: config.log.segment_bytes,
        retain: config.log.retain,
        begins: start.begins(),
        elsewhere,
        ..LogOptions::default()
    };
    let log = EmbeddedLog::open(&start.data().log_path(), &defs, options, clock)
        .context("opening the embedded log")?;
    for def in &defs {
        if let Some(source) = log.source(&def.name) {
            sources.push(Box::new(source));
        }
    }
    Ok(Sources {
        log,
        opened: sources,
        said,
    })
}
