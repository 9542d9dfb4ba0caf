//! Metrics in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use warp::http::Response as HttpResponse;
use warp::http::header::{CONTENT_TYPE, HeaderValue};
use warp::reply::Response;

use super::catalog::{PartitionEntry, StreamEntry, stream_entries};
use super::params;
use super::problem::Problem;
use super::state::State;
use crate::time::Timestamp;
use crate::view::{Labels, SinkStatus};

/// Which route answered: left on the response for the count, under a bounded number of names.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteName(pub(super) &'static str);

/// Requests answered, by route and status, and connections open.
#[derive(Default)]
pub(super) struct Requests {
    answered: Mutex<BTreeMap<(&'static str, u16), u64>>,
    pub(super) connections: AtomicU64,
}

impl Requests {
    /// Counts an answer.
    pub(super) fn count(&self, response: &Response) {
        let route = response
            .extensions()
            .get::<RouteName>()
            .map_or("other", |route| route.0);
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered
            .entry((route, response.status().as_u16()))
            .or_default() += 1;
    }
}

/// `GET /metrics`.
pub(super) fn metrics(state: &State, raw: &str) -> Result<Response, Problem> {
    params::none(raw)?;
    let labels = state.service.views.upper();
    let mut page = Page::default();
    service(&mut page, state, labels.as_deref());
    queries(&mut page, state, labels.as_deref());
    streams(&mut page, &stream_entries(state, labels.as_deref()));
    let statuses = state.service.sinks.iter().map(|outbox| outbox.status());
    sinks(&mut page, &statuses.collect::<Vec<_>>());
    requests(&mut page, &state.requests);
    page.family("subscribers", "gauge", "Subscriptions open");
    page.sample("subscribers", &[], state.hub.subscribers());
    let mut response = HttpResponse::new(page.0.into());
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    Ok(response)
}

fn service(page: &mut Page, state: &State, labels: Option<&Labels>) {
    let service = &state.service;
    page.family(
        "ready",
        "gauge",
        "Whether the service has caught up (1) or not (0)",
    );
    page.sample("ready", &[], u8::from(service.views.is_ready()));
    page.family(
        "stale",
        "gauge",
        "Whether answers lag behind the inputs (1) or not (0)",
    );
    page.sample("stale", &[], u8::from(state.is_stale()));
    if let Some(labels) = labels {
        page.family("epoch", "gauge", "The newest epoch shown");
        page.sample("epoch", &[], labels.epoch);
    }
    if let Some(newest) = service.checkpoints.list().first() {
        page.family(
            "checkpoint_age_seconds",
            "gauge",
            "Time since the newest checkpoint",
        );
        let age = seconds(state.now().0.saturating_sub(newest.published_at));
        page.sample("checkpoint_age_seconds", &[], age);
        page.family(
            "checkpoint_bytes",
            "gauge",
            "Bytes of the newest checkpoint",
        );
        page.sample("checkpoint_bytes", &[], newest.bytes);
    }
}

fn queries(page: &mut Page, state: &State, labels: Option<&Labels>) {
    let views = &state.service.views;
    let all: Vec<_> = views.queries().map(|view| (view.spec(), view)).collect();
    page.family("query_rows", "gauge", "Rows of the query's answer");
    for (spec, view) in &all {
        page.sample("query_rows", &[("query", &spec.name)], view.row_count());
    }
    page.family(
        "query_failed",
        "gauge",
        "Whether the query has failed for good (1) or not (0)",
    );
    for (spec, view) in &all {
        let failed = u8::from(view.failure().is_some());
        page.sample("query_failed", &[("query", &spec.name)], failed);
    }
    page.family(
        "query_late_records_total",
        "counter",
        "Records that came too late for the query",
    );
    for (spec, _) in &all {
        let late = views.late(&spec.name).map_or(0, |view| view.total());
        page.sample("query_late_records_total", &[("query", &spec.name)], late);
    }
    let watermarks: Vec<(&str, Timestamp)> = all
        .iter()
        .filter_map(|(spec, _)| {
            let streams = spec.streams.iter().map(String::as_str);
            Some((spec.name.as_str(), labels?.complete_through(streams)?))
        })
        .collect();
    page.family(
        "query_watermark_seconds",
        "gauge",
        "Event time the answer is complete through",
    );
    for (name, watermark) in &watermarks {
        page.sample(
            "query_watermark_seconds",
            &[("query", name)],
            seconds(watermark.0),
        );
    }
    page.family(
        "query_freshness_seconds",
        "gauge",
        "Time of day minus the query's watermark",
    );
    let now = state.now();
    for (name, watermark) in &watermarks {
        let freshness = seconds(now.0.saturating_sub(watermark.0));
        page.sample("query_freshness_seconds", &[("query", name)], freshness);
    }
}

/// A metric of each partition: its name, its help, and its value.
type PartitionMetric = (&'static str, &'static str, fn(&PartitionEntry) -> u64);

fn streams(page: &mut Page, streams: &[StreamEntry]) {
    page.family(
        "stream_rejected_records_total",
        "counter",
        "Records that could not be read",
    );
    for stream in streams {
        page.sample(
            "stream_rejected_records_total",
            &[("stream", &stream.name)],
            stream.rejected,
        );
    }
    page.family(
        "stream_watermark_seconds",
        "gauge",
        "Event time the stream is complete through",
    );
    for stream in streams {
        if let Some(watermark) = stream.watermark {
            let labels = [("stream", stream.name.as_str())];
            page.sample("stream_watermark_seconds", &labels, seconds(watermark.0));
        }
    }
    page.family(
        "stream_problem",
        "gauge",
        "Whether something keeps the stream from being read (1)",
    );
    for stream in streams {
        let labels = [("stream", stream.name.as_str())];
        page.sample(
            "stream_problem",
            &labels,
            u8::from(stream.problem.is_some()),
        );
    }
    partitions(page, streams);
}

fn partitions(page: &mut Page, streams: &[StreamEntry]) {
    let columns: [PartitionMetric; 6] = [
        (
            "partition_position",
            "Next position not yet included",
            |partition| partition.position,
        ),
        (
            "partition_end",
            "Position after the last record there",
            |partition| partition.end,
        ),
        ("partition_lag", "Positions not yet included", |partition| {
            partition.lag
        }),
        (
            "partition_idle",
            "Whether nothing came for a while (1)",
            |p| u64::from(p.idle),
        ),
        (
            "partition_ahead",
            "Whether it waits for slower partitions (1)",
            |p| u64::from(p.ahead),
        ),
        (
            "partition_problem",
            "Whether something keeps it from being read (1)",
            |p| u64::from(p.problem.is_some()),
        ),
    ];
    for (name, help, value) in columns {
        page.family(name, "gauge", help);
        for stream in streams {
            for partition in &stream.partitions {
                let number = partition.partition.to_string();
                let labels = [
                    ("stream", stream.name.as_str()),
                    ("partition", number.as_str()),
                ];
                page.sample(name, &labels, value(partition));
            }
        }
    }
}

/// A metric of each sink: its name, its kind, its help, and its value.
type SinkMetric = (
    &'static str,
    &'static str,
    &'static str,
    fn(&SinkStatus) -> String,
);

fn sinks(page: &mut Page, sinks: &[SinkStatus]) {
    let columns: [SinkMetric; 5] = [
        (
            "sink_running",
            "gauge",
            "Whether the sink sends (1), or is starting, retrying or stopped (0)",
            |sink| u8::from(sink.state == "running").to_string(),
        ),
        (
            "sink_committed_messages_total",
            "counter",
            "Messages committed since the start",
            |sink| sink.committed_messages.to_string(),
        ),
        (
            "sink_waiting_messages",
            "gauge",
            "Messages not committed yet",
            |sink| sink.waiting_messages.to_string(),
        ),
        (
            "sink_waiting_bytes",
            "gauge",
            "Bytes of messages not committed yet",
            |sink| sink.waiting_bytes.to_string(),
        ),
        (
            "sink_lag_seconds",
            "gauge",
            "How much older the first epoch not committed is than the newest shown",
            |sink| seconds(i64::try_from(sink.lag_ms).unwrap_or(i64::MAX)),
        ),
    ];
    for (name, kind, help, value) in columns {
        page.family(name, kind, help);
        for sink in sinks {
            page.sample(name, &[("sink", &sink.name)], value(sink));
        }
    }
}

fn requests(page: &mut Page, requests: &Requests) {
    page.family("http_connections", "gauge", "Connections open");
    page.sample(
        "http_connections",
        &[],
        requests.connections.load(Ordering::Relaxed),
    );
    page.family("http_requests_total", "counter", "Requests answered");
    let answered = requests
        .answered
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    for ((route, status), count) in answered {
        let status = status.to_string();
        page.sample(
            "http_requests_total",
            &[("route", route), ("status", &status)],
            count,
        );
    }
}

/// Milliseconds as seconds, exactly.
fn seconds(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    format!("{sign}{}.{:03}", ms / 1000, ms % 1000)
}

/// A page of metrics as it is written.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let page = &mut self.0;
        write!(
            page,
            "# HELP waterclock_{name} {help}\n# TYPE waterclock_{name} {kind}\n"
        )
        .expect("writing into memory cannot fail");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str("waterclock_");
        self.0.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            self.0.push(if i == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        writeln!(self.0, " {value}").expect("writing into memory cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_seconds_exact() {
        let mut page = Page::default();
        page.sample("rows", &[("query", "a\"b\\c\nd"), ("x", "y")], 3);
        assert_eq!(
            page.0,
            "waterclock_rows{query=\"a\\\"b\\\\c\\nd\",x=\"y\"} 3\n"
        );
        assert_eq!(seconds(-1500), "-1.500");
        assert_eq!(seconds(62_007), "62.007");
    }
}
