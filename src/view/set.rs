//! All views of a service, which advance together.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::json;

use super::horizon::Horizon;
use super::standing::Standings;
use super::{History, Labels, QuerySpec, ReadError, Span, View};
use crate::time::Epoch;

type Listener = Box<dyn Fn(Epoch) + Send + Sync>;

/// Every view of the service. One epoch is the newest of all of them, and one the oldest.
pub struct Views {
    run: u64,
    queries: Vec<Arc<View>>,
    late: BTreeMap<String, Arc<View>>,
    rejected: BTreeMap<String, Arc<View>>,
    streams: Vec<String>,
    history: History,
    horizon: Arc<Horizon>,
    /// The labels of the epochs from `since` to the newest.
    published: RwLock<VecDeque<Arc<Labels>>>,
    listeners: RwLock<Vec<Listener>>,
    ready: AtomicBool,
    /// The view whose turn to be compacted is next.
    turn: AtomicUsize,
    /// How the streams are doing now.
    pub standings: Standings,
}

/// How many changes a publication forgets at most: it must stay short whatever falls out of the
/// history at once. Workers forget more as they apply.
const FORGET_PER_PUBLISH: usize = 1024;

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

impl Views {
    /// Empty views of these queries, their late records, and the streams' rejected records.
    /// Each view has `shards` shards: one per worker.
    pub fn new(
        run: u64,
        queries: Vec<QuerySpec>,
        streams: Vec<String>,
        shards: usize,
        history: History,
    ) -> Views {
        let horizon = Arc::new(Horizon::default());
        let view = |spec: QuerySpec| Arc::new(View::new(spec, shards, &horizon));
        let late = |spec: &QuerySpec| (spec.name.clone(), view(late_spec(spec)));
        let rejected = |stream: &String| (stream.clone(), view(rejected_spec(stream)));
        Views {
            run,
            late: queries.iter().map(late).collect(),
            queries: queries.into_iter().map(view).collect(),
            rejected: streams.iter().map(rejected).collect(),
            streams,
            history,
            horizon,
            published: RwLock::default(),
            listeners: RwLock::default(),
            ready: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            standings: Standings::default(),
        }
    }

    /// The run these views are of; part of every token.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// The queries' views, in the order given.
    pub fn queries(&self) -> impl Iterator<Item = &Arc<View>> {
        self.queries.iter()
    }

    /// A query's view.
    pub fn query(&self, name: &str) -> Option<&Arc<View>> {
        self.queries.iter().find(|view| view.spec().name == name)
    }

    /// The records that were late for a query.
    pub fn late(&self, query: &str) -> Option<&Arc<View>> {
        self.late.get(query)
    }

    /// The records of a stream that could not be read.
    pub fn rejected(&self, stream: &str) -> Option<&Arc<View>> {
        self.rejected.get(stream)
    }

    /// The streams, in the order given.
    pub fn streams(&self) -> &[String] {
        &self.streams
    }

    /// Shows an epoch in all views at once. An epoch that is not newer than the last is ignored.
    pub fn publish(&self, labels: Labels) {
        let epoch = labels.epoch;
        {
            let mut published = self
                .published
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            if published.back().is_some_and(|last| last.epoch >= epoch) {
                return;
            }
            published.push_back(Arc::new(labels));
            let since = self.trim(&mut published, epoch);
            self.horizon.advance(since, epoch);
        }
        for listener in self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            listener(epoch);
        }
        self.compact();
    }

    /// Drops the labels beyond the history; gives the oldest epoch left.
    fn trim(&self, published: &mut VecDeque<Arc<Labels>>, upper: Epoch) -> Epoch {
        let too_old = |epoch: Epoch| epoch.saturating_add(self.history.span_ms) < upper;
        while published.len() > self.history.epochs.max(1)
            || published
                .front()
                .is_some_and(|oldest| too_old(oldest.epoch))
        {
            published.pop_front();
        }
        let oldest = published.front().map_or(upper, |labels| labels.epoch);
        let since = self.every().fold(oldest, |since, view| {
            view.settle(upper, since, self.history.bytes)
        });
        while published.front().is_some_and(|labels| labels.epoch < since) {
            published.pop_front();
        }
        published.front().map_or(upper, |labels| labels.epoch)
    }

    /// Forgets what fell out of the history where no worker comes by to do it.
    fn compact(&self) {
        let count = self.queries.len() + self.late.len() + self.rejected.len();
        let mut left = FORGET_PER_PUBLISH;
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % count.max(1);
        for view in self.every().skip(first).chain(self.every().take(first)) {
            left = left.saturating_sub(view.compact(left));
        }
    }

    fn every(&self) -> impl Iterator<Item = &Arc<View>> {
        self.queries
            .iter()
            .chain(self.late.values())
            .chain(self.rejected.values())
    }

    /// Registers who is told of each published epoch, on the publishing thread: keep it short.
    pub fn on_publish(&self, listener: Box<dyn Fn(Epoch) + Send + Sync>) {
        self.listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(listener);
    }

    /// Says that the service has caught up: any reader may read.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether the service has caught up.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// What the newest published epoch is complete for.
    pub fn upper(&self) -> Option<Arc<Labels>> {
        self.published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .back()
            .map(Arc::clone)
    }

    /// The oldest epoch that can be read.
    pub fn since(&self) -> Option<Epoch> {
        self.published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .front()
            .map(|l| l.epoch)
    }

    /// The epochs after `from` up to and with `to`, with a query's watermarks; both are published
    /// and retained.
    pub fn span(&self, query: &QuerySpec, from: Epoch, to: Epoch) -> Result<Span, ReadError> {
        let first = self.labels_at(from)?;
        let newest = self.labels_at(to)?.epoch;
        let published = self
            .published
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let through = |epoch| published.partition_point(|labels| labels.epoch <= epoch);
        let rest: Vec<_> = published
            .range(through(from)..through(newest).max(through(from)))
            .map(Arc::clone)
            .collect();
        drop(published);
        let watermark = |labels: &Labels| {
            let streams = query.streams.iter().map(String::as_str);
            labels.complete_through(streams)
        };
        let mark = |labels: Arc<Labels>| (labels.epoch, watermark(&labels));
        let first = (from, watermark(&first));
        Ok(Span::new(first, rest.into_iter().map(mark).collect()))
    }

    /// The labels of a published epoch that is retained, whether or not the service has caught up.
    pub fn labels_of(&self, epoch: Epoch) -> Option<Arc<Labels>> {
        let published = self
            .published
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let place = published.binary_search_by_key(&epoch, |labels| labels.epoch);
        place.ok().map(|place| Arc::clone(&published[place]))
    }

    /// The labels of the last published epoch at or before `at`.
    pub fn labels_at(&self, at: Epoch) -> Result<Arc<Labels>, ReadError> {
        if !self.is_ready() {
            return Err(ReadError::NotReady);
        }
        let published = self
            .published
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let (Some(first), Some(last)) = (published.front(), published.back()) else {
            return Err(ReadError::NotReady);
        };
        if at > last.epoch {
            return Err(ReadError::Future {
                at,
                upper: last.epoch,
            });
        }
        match published
            .partition_point(|labels| labels.epoch <= at)
            .checked_sub(1)
        {
            Some(i) => Ok(Arc::clone(&published[i])),
            None => Err(ReadError::Gone {
                at,
                since: first.epoch,
            }),
        }
    }
}

/// The key of a record: its stream, partition and position.
fn record_key() -> serde_json::Value {
    let parts = [
        json!({"type": "string"}),
        json!({"type": "integer"}),
        json!({"type": "integer"}),
    ];
    json!({"type": "array", "prefixItems": parts, "minItems": 3, "maxItems": 3})
}

fn late_spec(query: &QuerySpec) -> QuerySpec {
    QuerySpec {
        name: format!("{}/late", query.name),
        doc: format!("The records that were late for '{}'.", query.name),
        key_schema: record_key(),
        value_schema: json!({"type": "object"}),
        streams: query.streams.clone(),
        has_final: false,
    }
}

fn rejected_spec(stream: &str) -> QuerySpec {
    QuerySpec {
        name: format!("{stream}/rejected"),
        doc: format!("The records of '{stream}' that could not be read."),
        key_schema: record_key(),
        value_schema: json!({"type": "object"}),
        streams: vec![stream.to_string()],
        has_final: false,
    }
}
