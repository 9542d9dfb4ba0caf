//! `waterclock run`: the service, from its configuration to its last checkpoint.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use waterclock::Query;
use waterclock::cli::RunArgs;
use waterclock::config::{Config, MemoryConfig};
use waterclock::dataflow::decode::is_guarded;
use waterclock::http::{AccessToken, HttpOptions, Scope, Service, TlsFiles, serve};
use waterclock::memory;
use waterclock::query::Catalog;
use waterclock::source::generator::{Generator, GeneratorOptions};
use waterclock::source::log::EmbeddedLog;
use waterclock::state::{CheckpointStore, DataDir};
use waterclock::view::{Checkpoints, History, Ingest};
use waterclock::worker::live::{Live, LiveOptions, Work};
use waterclock::worker::{SinkPlan, Start};

use super::setting::{catalog, clock, max_drift, poison, selected, sinks, sources, store_options};

/// The stream that the demo's generator feeds.
const DEMO: &str = "visits";

/// Runs until told to stop.
pub fn run(args: &RunArgs, all: Vec<Query>) -> anyhow::Result<()> {
    log_to_stderr();
    die_on_panic();
    raise_open_files();
    let config = args.config(std::env::vars())?;
    let queries = selected(all, &config.service.queries)?;
    let catalog = catalog(&config, &queries)?;
    let sinks = sinks(&config, &catalog, &args.restart_sink)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the HTTP threads")?;
    let listener = runtime
        .block_on(TcpListener::bind(config.http.listen))
        .with_context(|| format!("listening on {}", config.http.listen))?;
    let address = listener.local_addr().context("listening")?;

    let name = config.service.data_dir.display().to_string();
    let start = start(args, &config, &catalog, &sinks)
        .with_context(|| format!("starting from '{name}'"))?;
    let sources = sources(&config, &catalog, &start, clock())?;
    let options = live_options(&config);
    let streams = catalog.stream_names();
    let work = Work {
        queries,
        catalog,
        sources: sources.opened,
        sinks,
        start,
        clock: clock(),
    };
    let live = Live::start(work, options, |error| fail(&error))
        .with_context(|| format!("starting from '{name}'"))?;
    let live = Arc::new(live);
    let ingest: Arc<dyn Ingest> = Arc::<EmbeddedLog>::clone(&sources.log);
    let generator = demo(&config, &streams, &ingest)?;
    let service = Service {
        views: Arc::clone(&live.views),
        ingest,
        checkpoints: Arc::clone(&live) as Arc<dyn Checkpoints>,
        sources: sources.said,
        sinks: Arc::clone(&live.outboxes),
        stale: Arc::clone(&live.stale),
        options: http_options(&config)?,
        clock: clock(),
    };
    // Before the URL is known: who knows it may send the signal.
    let stop = runtime.block_on(async { stop_signal() })?;
    let mut out = std::io::stdout();
    let scheme = if config.http.tls().is_some() {
        "https"
    } else {
        "http"
    };
    writeln!(out, "waterclock: open {scheme}://{address}/")?;
    out.flush()?;
    runtime
        .block_on(serve(listener, service, stop))
        .context("serving HTTP")?;
    drop(generator);
    sources.log.stop();
    live.stop();
    Ok(())
}

/// Takes the data directory and the checkpoints, and chooses what to start from.
fn start(
    args: &RunArgs,
    config: &Config,
    catalog: &Catalog,
    sinks: &[SinkPlan],
) -> anyhow::Result<Start> {
    let mut data = DataDir::open(&config.service.data_dir)?;
    bound_memory(config)?;
    data.settle(&identity(config, catalog))?;
    let aside = args.from_scratch.then(|| data.start_over()).transpose()?;
    let store = CheckpointStore::open(&data, &store_options(config))?;
    if let Some(mut aside) = aside {
        if store.is_apart() {
            let (run, epoch) = store.highest()?;
            data.follow(run, epoch)?;
            aside = store.put_aside(run)?;
        }
        tracing::warn!(
            "starting from scratch; what was saved is in {}",
            aside.display()
        );
    }
    Ok(Start::choose(data, store, sinks)?)
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log that cannot be written, on a full disk say, must not end the service.
        .log_internal_errors(false);
    // Colours are for people, who may switch them off by NO_COLOR, not for files and pipes.
    if std::io::stderr().is_terminal() {
        log.init();
    } else {
        log.with_ansi(false).init();
    }
}

/// Gives memory its budget, and a file beyond it that is gone when the process is.
fn bound_memory(config: &Config) -> anyhow::Result<()> {
    memory::give_back();
    let MemoryConfig {
        budget_bytes,
        file_bytes,
    } = config.memory;
    if budget_bytes == 0 {
        return Ok(());
    }
    let path = config.service.data_dir.join("memory");
    let open = || {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true);
        let file = file.open(&path)?;
        std::fs::remove_file(&path)?;
        Ok::<File, std::io::Error>(file)
    };
    let file = open().with_context(|| format!("creating '{}'", path.display()))?;
    memory::limit(budget_bytes, file, file_bytes)
        .with_context(|| format!("memory.budget_bytes, with the file '{}'", path.display()))
}

/// Starts the demo where it is set and a query reads its stream.
fn demo(
    config: &Config,
    streams: &[String],
    ingest: &Arc<dyn Ingest>,
) -> anyhow::Result<Option<Generator>> {
    let Some(demo) = &config.demo else {
        return Ok(None);
    };
    if !streams.iter().any(|stream| stream == DEMO) || ingest.accepts(DEMO).is_err() {
        return Ok(None);
    }
    let options = GeneratorOptions {
        stream: DEMO.to_owned(),
        seed: demo.seed,
        rate: demo.rate,
    };
    let stop = Arc::new(AtomicBool::new(false));
    Ok(Some(Generator::start(
        options,
        Arc::clone(ingest),
        clock(),
        stop,
    )?))
}

/// Identifies everything that decides how journalled epochs are read.
fn identity(config: &Config, catalog: &Catalog) -> String {
    let streams = catalog
        .streams
        .iter()
        .map(|s| (&s.name, s.lateness, s.fingerprint()));
    let queries = catalog
        .queries
        .iter()
        .map(|query| (&query.name, query.fingerprint()));
    let state = catalog
        .boundaries
        .iter()
        .map(|(name, shape)| (name, &shape.fingerprint));
    let formats = config.streams.iter();
    let formats = formats.map(|(name, stream)| (name, stream.format, &stream.columns));
    let said = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        config.time.max_ahead,
        formats.collect::<Vec<_>>(),
        streams.collect::<Vec<_>>(),
        queries.collect::<Vec<_>>(),
        state.collect::<Vec<_>>(),
    );
    let digest = Sha256::digest(said.as_bytes());
    digest
        .iter()
        .take(8)
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn live_options(config: &Config) -> LiveOptions {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    LiveOptions {
        workers: config.worker_count(cores),
        heartbeat: Duration::from_millis(config.epoch.heartbeat_ms),
        max_in_flight: config.epoch.max_in_flight_bytes,
        idle_timeout: config.time.idle_timeout,
        max_ahead: config.time.max_ahead,
        snapshot_interval: config.snapshot.interval,
        history: History {
            epochs: config.history.epochs,
            bytes: config.history.bytes,
            span_ms: u64::try_from(config.history.span.as_millis()).unwrap_or(u64::MAX),
        },
        poison: poison(config),
        max_drift: max_drift(config),
    }
}

fn http_options(config: &Config) -> anyhow::Result<HttpOptions> {
    let http = &config.http;
    let tokens = http.tokens()?;
    let of = |scope: Scope, secrets: Vec<String>| {
        secrets
            .into_iter()
            .map(move |secret| AccessToken { scope, secret })
    };
    let tokens = of(Scope::Admin, tokens.admin)
        .chain(of(Scope::Read, tokens.read))
        .chain(of(Scope::Write, tokens.write));
    // An epoch without input is shown once a heartbeat: that much age means nothing.
    let heartbeat = Duration::from_millis(config.epoch.heartbeat_ms);
    Ok(HttpOptions {
        hosts: http.names.clone(),
        tokens: tokens.collect(),
        insecure: http.insecure,
        tls: http.tls().map(|(certificate, key)| TlsFiles {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        }),
        origins: http.allow_origins.clone(),
        body_limit: http.max_body_bytes,
        max_subscribers: http.max_subscribers,
        max_connections: http.max_subscribers.saturating_add(http.max_connections),
        request_timeout: http.request_timeout,
        stale_after: http.stale_after.max(4 * heartbeat),
        max_backlog: http.max_backlog.max(4 * heartbeat),
        ..HttpOptions::default()
    })
}

/// Lets the process open as many files as it may. The usual limit of 1024 is for programs of
/// another time: with as many connections no checkpoint could be written.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!(%error, current = limit.current, "the limit of open files stays");
    }
}

async fn wait(mut interrupt: tokio::signal::unix::Signal, mut end: tokio::signal::unix::Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = end.recv() => {}
    }
}

fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    let end = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    Ok(wait(interrupt, end))
}

/// Outside user code that sees one record a panic is a broken invariant: the process dies, and a
/// restart recovers from the checkpoint.
fn die_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if is_guarded() {
            return;
        }
        report(panic);
        let on = std::thread::current().name().unwrap_or_default().to_owned();
        if on.starts_with("timely")
            || on.starts_with("sink-")
            || on.starts_with("kafka")
            || on == "coordinator"
            || on == "snapshots"
            || on == "journal-sync"
        {
            fail(&format!("the thread '{on}' panicked"));
        }
    }));
}

fn fail(why: &str) {
    tracing::error!(%why, "the service stops; a restart continues from the last checkpoint");
    std::process::exit(1);
}
