//! What there is: queries, streams, sinks and checkpoints, and whether the service is ready.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;
use warp::http::Method;
use warp::reply::Response;

use super::answer;
use super::params;
use super::problem::{Kind, Problem};
use super::state::State;
use crate::time::{Epoch, Timestamp};
use crate::view::{CheckpointInfo, Labels, ReadError, SinkStatus, Trouble, View};

#[derive(Serialize)]
struct QueryList<'a> {
    now: Timestamp,
    ready: bool,
    stale: bool,
    as_of: Option<Epoch>,
    queries: Vec<QueryEntry<'a>>,
}

#[derive(Serialize)]
struct QueryEntry<'a> {
    name: &'a str,
    doc: &'a str,
    key_schema: &'a Value,
    value_schema: &'a Value,
    streams: &'a [String],
    has_final: bool,
    since: Option<Epoch>,
    upper: Option<Epoch>,
    watermark: Option<Timestamp>,
    rows: u64,
    late: u64,
    rejected: u64,
    failed: Option<String>,
}

/// `GET /v1/queries`.
pub(super) fn queries(state: &State, raw: &str) -> Result<Response, Problem> {
    params::none(raw)?;
    let views = &state.service.views;
    let labels = views.upper();
    let since = views.since();
    let entry = |view| query_entry(state, view, labels.as_deref(), since);
    Ok(json(&QueryList {
        now: state.now(),
        ready: views.is_ready(),
        stale: state.is_any_stale(),
        as_of: labels.as_ref().map(|labels| labels.epoch),
        queries: views.queries().map(|view| entry(view)).collect(),
    }))
}

fn query_entry<'a>(
    state: &State,
    view: &'a View,
    labels: Option<&Labels>,
    since: Option<Epoch>,
) -> QueryEntry<'a> {
    let views = &state.service.views;
    let spec = view.spec();
    let streams = || spec.streams.iter().map(String::as_str);
    QueryEntry {
        name: &spec.name,
        doc: &spec.doc,
        key_schema: &spec.key_schema,
        value_schema: &spec.value_schema,
        streams: &spec.streams,
        has_final: spec.has_final,
        since,
        upper: labels.map(|labels| labels.epoch),
        watermark: labels.and_then(|labels| labels.complete_through(streams())),
        rows: view.row_count(),
        late: views.late(&spec.name).map_or(0, |late| late.total()),
        rejected: streams()
            .filter_map(|name| views.rejected(name))
            .map(|view| view.total())
            .sum(),
        failed: view.failure(),
    }
}

#[derive(Serialize)]
struct StreamList {
    now: Timestamp,
    as_of: Option<Epoch>,
    streams: Vec<StreamEntry>,
}

/// What is known of a stream.
#[derive(Serialize)]
pub(super) struct StreamEntry {
    pub(super) name: String,
    source: String,
    pub(super) watermark: Option<Timestamp>,
    pub(super) rejected: u64,
    pub(super) problem: Option<ProblemEntry>,
    pub(super) partitions: Vec<PartitionEntry>,
}

/// What keeps an input from being read.
#[derive(Serialize)]
pub(super) struct ProblemEntry {
    reason: Arc<str>,
    since: Timestamp,
}

impl From<Trouble> for ProblemEntry {
    fn from(Trouble { why, since }: Trouble) -> ProblemEntry {
        ProblemEntry { reason: why, since }
    }
}

/// What is known of a partition.
#[derive(Serialize)]
pub(super) struct PartitionEntry {
    pub(super) partition: u32,
    pub(super) position: u64,
    pub(super) end: u64,
    pub(super) lag: u64,
    pub(super) watermark: Option<Timestamp>,
    pub(super) idle: bool,
    silent_ms: u64,
    /// Whether it waits for slower partitions.
    pub(super) ahead: bool,
    pub(super) problem: Option<ProblemEntry>,
}

/// `GET /v1/streams`.
pub(super) fn streams(state: &State, raw: &str) -> Result<Response, Problem> {
    params::none(raw)?;
    let labels = state.service.views.upper();
    Ok(json(&StreamList {
        now: state.now(),
        as_of: labels.as_ref().map(|labels| labels.epoch),
        streams: stream_entries(state, labels.as_deref()),
    }))
}

/// Every stream that anything here knows of, by name.
pub(super) fn stream_entries(state: &State, labels: Option<&Labels>) -> Vec<StreamEntry> {
    let service = &state.service;
    let labelled = labels.into_iter().flat_map(|labels| labels.streams.keys());
    let names: BTreeSet<&String> = service
        .sources
        .keys()
        .chain(service.views.streams())
        .chain(labelled)
        .collect();
    names
        .into_iter()
        .map(|name| stream_entry(state, name, labels))
        .collect()
}

fn stream_entry(state: &State, name: &str, labels: Option<&Labels>) -> StreamEntry {
    let service = &state.service;
    let mut label = labels
        .and_then(|labels| labels.streams.get(name))
        .cloned()
        .unwrap_or_default();
    // The log's end now, not as it was when the epoch was cut: lag that grows must show.
    if let Some(end) = service.ingest.end(name) {
        let partition = label.partitions.entry(0).or_default();
        partition.end = partition.end.max(end);
    }
    let mut standing = service.views.standings.of(name);
    // A partition that cannot be read was in no epoch yet.
    for id in standing.partitions.keys() {
        label.partitions.entry(*id).or_default();
    }
    let partitions = label.partitions.iter().map(|(partition, label)| {
        let standing = standing.partitions.remove(partition).unwrap_or_default();
        let end = label.end.max(standing.end).max(label.position);
        PartitionEntry {
            partition: *partition,
            position: label.position,
            end,
            lag: end - label.position,
            watermark: label.watermark,
            idle: label.idle,
            silent_ms: standing.silent_ms,
            ahead: standing.is_ahead,
            problem: standing.trouble.map(ProblemEntry::from),
        }
    });
    let partitions = partitions.collect();
    StreamEntry {
        name: name.to_owned(),
        source: service
            .sources
            .get(name)
            .cloned()
            .unwrap_or_else(|| "nothing".to_owned()),
        watermark: label.watermark,
        rejected: service.views.rejected(name).map_or(0, |view| view.total()),
        problem: standing.trouble.map(ProblemEntry::from),
        partitions,
    }
}

#[derive(Serialize)]
struct SinkList {
    sinks: Vec<SinkStatus>,
}

/// `GET /v1/sinks`.
pub(super) fn sinks(state: &State, raw: &str) -> Result<Response, Problem> {
    params::none(raw)?;
    let sinks = state.service.sinks.iter();
    let sinks = sinks.map(|outbox| outbox.status()).collect();
    Ok(json(&SinkList { sinks }))
}

#[derive(Serialize)]
struct CheckpointList {
    checkpoints: Vec<CheckpointInfo>,
    /// Why the last one that was tried failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// `GET /v1/checkpoints` lists them, newest first; `POST` takes one now; one
/// with a `label` is kept until it is deleted.
pub(super) async fn checkpoints(
    state: Arc<State>,
    method: Method,
    raw: String,
) -> Result<Response, Problem> {
    let checkpoints = &state.service.checkpoints;
    if method != Method::POST {
        params::none(&raw)?;
        return Ok(json(&CheckpointList {
            checkpoints: checkpoints.list(),
            problem: checkpoints.problem(),
        }));
    }
    let label = params::label(&raw)?;
    let (reply, outcome) = oneshot::channel();
    let hear = move |taken| drop(reply.send(taken));
    checkpoints.take(label, Box::new(hear));
    match outcome.await {
        Ok(Ok(taken)) => Ok(json(&taken)),
        Ok(Err(reason)) => Err(Problem::new(
            Kind::Storage,
            format!("the checkpoint was not taken: {reason}"),
        )),
        Err(_) => Err(Problem::stopping()),
    }
}

/// `GET /healthz`: whether the process answers at all.
pub(super) fn health(raw: &str) -> Result<Response, Problem> {
    params::none(raw)?;
    Ok(answer::json(br#"{"status":"ok"}"#.to_vec()))
}

/// `GET /readyz`: whether the service has caught up and can be read.
pub(super) fn readiness(state: &State, raw: &str) -> Result<Response, Problem> {
    params::none(raw)?;
    if state.service.views.is_ready() {
        Ok(answer::json(br#"{"status":"ready"}"#.to_vec()))
    } else {
        Err(ReadError::NotReady.into())
    }
}

fn json(value: &impl Serialize) -> Response {
    answer::json(serde_json::to_vec(value).expect("text, numbers and JSON always serialise"))
}
