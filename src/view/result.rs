//! One query's result: its rows at every retained epoch.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use super::changelog::{Change, Span, has_expired};
use super::horizon::Horizon;
use super::merge::{self, Request};
use super::shard::{LogPosition, RUN, Shard};
use super::{KeyRange, Leaving, Page, QuerySpec, ReadError, RowPosition};
use crate::row::{Ordered, Row, consolidate, consolidated};
use crate::time::{Epoch, Timestamp};

/// A query's result as an ordered, multi-versioned bag of rows.
///
/// Each worker writes its own shard. A lock is held for a short run of rows at a time, by writers
/// and readers alike, so neither waits long for the other; what a reader sees is kept whole by the
/// epochs, not by the locks.
#[derive(Debug)]
pub struct View {
    spec: QuerySpec,
    horizon: Arc<Horizon>,
    shards: Vec<RwLock<Shard>>,
    sizes: Mutex<Sizes>,
    total: AtomicU64,
    anomalies: AtomicU64,
    failure: OnceLock<String>,
}

impl View {
    pub(super) fn new(spec: QuerySpec, shards: usize, horizon: &Arc<Horizon>) -> View {
        View {
            spec,
            horizon: Arc::clone(horizon),
            shards: (0..shards.max(1)).map(|_| RwLock::default()).collect(),
            sizes: Mutex::default(),
            total: AtomicU64::new(0),
            anomalies: AtomicU64::new(0),
            failure: OnceLock::new(),
        }
    }

    /// What the view is of.
    pub fn spec(&self) -> &QuerySpec {
        &self.spec
    }

    /// Takes in changes of one shard at an epoch that is not published yet. Epochs of a shard never
    /// decrease; a row may occur several times and cancel out.
    pub fn apply(&self, shard: usize, epoch: Epoch, changes: Vec<(Row, i64)>) {
        self.take_in(shard, epoch, Leaving::OneByOne, consolidated(changes));
    }

    /// The same, of changes that are consolidated, after the rows that leave together.
    pub(super) fn take_in(
        &self,
        shard: usize,
        epoch: Epoch,
        leaving: Leaving,
        changes: Vec<(Ordered, i64)>,
    ) {
        if changes.is_empty() && !leaving.is_due() {
            return;
        }
        assert!(
            !self.horizon.is_shown(epoch),
            "view '{}': epoch {epoch} is changed after it was published",
            self.spec.name
        );
        let locked = || {
            let shard = self.shards[shard].write();
            shard.unwrap_or_else(PoisonError::into_inner)
        };
        let (mut rows, mut bytes, mut anomalies) = (0, 0, 0);
        if let Leaving::Together(upto) = leaving {
            let mut shard = locked();
            shard.leave_together();
            let left = upto.map(|upto| shard.leave(epoch, upto));
            let left = left.unwrap_or_default();
            if left.instants.is_empty() && changes.is_empty() {
                return;
            }
            (rows, bytes) = (-left.rows, left.bytes);
        }
        // As much is forgotten as is learned, and a bit more: what is beyond the history drains
        // steadily and never in one go.
        let mut debt = 2 * changes.len() + RUN;
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let mut shard = locked();
            let since = self.horizon.since();
            let effect = shard.apply(epoch, since, changes.by_ref().take(RUN));
            rows += effect.rows;
            bytes += effect.history_bytes;
            anomalies += effect.anomalies;
            debt -= shard.compact(since, debt.min(2 * RUN));
        }
        self.anomalies.fetch_add(anomalies, Ordering::Relaxed);
        self.sizes().add(epoch, bytes, rows);
    }

    /// The first row of a row's key in a shard, not published ones included, and how many there
    /// are, counted up to 2.
    pub(super) fn rows_of(&self, shard: usize, row: &Row) -> (Option<Row>, i64) {
        let shard = self.shards[shard].read();
        shard.unwrap_or_else(PoisonError::into_inner).newest_of(row)
    }

    /// Sets how many rows there ever were, for views that keep only the newest ones.
    pub fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Release);
    }

    /// How many rows there ever were, as last set.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    /// Marks the query failed for good; the first reason stays.
    pub fn fail(&self, reason: String) {
        self.failure.set(reason).ok();
    }

    /// Why the query failed, if it did.
    pub fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    /// How many rows there are at the newest published epoch.
    pub fn row_count(&self) -> u64 {
        self.sizes().rows.try_into().unwrap_or(0)
    }

    /// The newest epoch, not after `at`, that changed the rows: what is read at both is the same.
    /// `at` itself where that is forgotten.
    pub fn changed_at(&self, at: Epoch) -> Epoch {
        self.sizes().changed_at(at)
    }

    /// About how many bytes the rows and their history take.
    pub fn memory_bytes(&self) -> usize {
        let bytes =
            |shard: &RwLock<Shard>| shard.read().unwrap_or_else(PoisonError::into_inner).bytes();
        self.shards.iter().map(bytes).sum()
    }

    /// How often a row was taken away more often than it was there, or came after its time. It is
    /// not shown meanwhile.
    pub fn anomalies(&self) -> u64 {
        self.anomalies.load(Ordering::Relaxed)
    }

    /// The rows of a range at a published epoch, from a position on: at most `limit` of them, and
    /// with `final_at` only those that are final at this watermark.
    pub fn read(
        &self,
        at: Epoch,
        range: &KeyRange,
        after: Option<&RowPosition>,
        limit: usize,
        final_at: Option<Timestamp>,
    ) -> Result<Page, ReadError> {
        self.read_page(Request {
            at,
            range,
            after,
            limit,
            bytes: u64::MAX,
            final_at,
        })
    }

    /// The same, but at most about so many bytes of JSON, and one row at least.
    pub fn read_bytes(
        &self,
        at: Epoch,
        range: &KeyRange,
        after: Option<&RowPosition>,
        bytes: u64,
        final_at: Option<Timestamp>,
    ) -> Result<Page, ReadError> {
        self.read_page(Request {
            at,
            range,
            after,
            limit: usize::MAX,
            bytes,
            final_at,
        })
    }

    fn read_page(&self, request: Request<'_>) -> Result<Page, ReadError> {
        self.check(request.at)?;
        merge::read(&self.shards, &self.horizon, request)
    }

    /// The net changes over a span, removals before additions, each in row order.
    pub fn changes(&self, span: &Span) -> Result<Vec<Change>, ReadError> {
        let (mut changes, mut expired) = (Vec::new(), Vec::new());
        self.log(span, |epoch, row, diff| {
            if diff < 0 && has_expired(&row.row, span.before(epoch)) {
                expired.push(row.clone());
            }
            changes.push((row.clone(), diff));
        })?;
        expired.sort_unstable();
        let net = consolidate(changes).into_iter().map(|(row, diff)| Change {
            is_expiry: diff < 0 && expired.binary_search(&row).is_ok(),
            row: row.row,
            diff,
        });
        let (mut removals, additions): (Vec<_>, Vec<_>) = net.partition(|change| change.diff < 0);
        removals.extend(additions);
        Ok(removals)
    }

    /// Visits every change of a span, shard by shard, each in the order of its epochs.
    pub(super) fn log(
        &self,
        span: &Span,
        mut each: impl FnMut(Epoch, &Ordered, i64),
    ) -> Result<(), ReadError> {
        self.check(span.from())?;
        self.check(span.to())?;
        for shard in &self.shards {
            let mut next = Some(LogPosition::after(span.from()));
            while let Some(position) = next {
                let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
                self.horizon.check_kept(span.from())?;
                next = shard.changes(position, span.to(), &mut each);
            }
        }
        Ok(())
    }

    /// Visits every row at a published epoch with how often it occurs, shard by shard.
    pub(super) fn scan(
        &self,
        at: Epoch,
        mut each: impl FnMut(&Ordered, i64),
    ) -> Result<(), ReadError> {
        self.check(at)?;
        for shard in &self.shards {
            let mut last: Option<Ordered> = None;
            loop {
                let from = last.as_ref().map(|row| row.row.order());
                let from = from.map_or(Bound::Unbounded, Bound::Excluded);
                let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
                self.horizon.check_kept(at)?;
                last = shard.visit(at, (from, Bound::Unbounded), &mut each);
                if last.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn check(&self, at: Epoch) -> Result<(), ReadError> {
        if let Some(reason) = self.failure() {
            return Err(ReadError::Failed {
                query: self.spec.name.clone(),
                reason,
            });
        }
        self.horizon.check(at)
    }

    fn sizes(&self) -> MutexGuard<'_, Sizes> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what an epoch changed as published; gives the oldest epoch, `since` or later, from
    /// which on the history fits into `limit` bytes.
    pub(super) fn settle(&self, upper: Epoch, since: Epoch, limit: usize) -> Epoch {
        self.sizes().settle(upper, since, limit)
    }

    /// Forgets what no epoch from `since` on needs, at most about `budget` changes, in shards that
    /// nobody uses right now; says how many.
    pub(super) fn compact(&self, budget: usize) -> usize {
        let mut done = 0;
        for shard in &self.shards {
            while done < budget {
                let Ok(mut shard) = shard.try_write() else {
                    break;
                };
                match shard.compact(self.horizon.since(), RUN) {
                    0 => break,
                    n => done += n,
                }
            }
        }
        done
    }
}

/// How much the epochs of the history changed.
#[derive(Debug, Default)]
struct Sizes {
    /// Bytes and rows of epochs not published yet.
    pending: BTreeMap<Epoch, (usize, i64)>,
    /// Bytes of the published epochs after `since`.
    history: VecDeque<(Epoch, usize)>,
    history_bytes: usize,
    /// The newest published epoch that changed something.
    changed: Epoch,
    /// Rows at the newest published epoch.
    rows: i64,
}

impl Sizes {
    fn add(&mut self, epoch: Epoch, bytes: usize, rows: i64) {
        let size = self.pending.entry(epoch).or_default();
        size.0 += bytes;
        size.1 += rows;
    }

    fn settle(&mut self, upper: Epoch, mut since: Epoch, limit: usize) -> Epoch {
        while let Some(first) = self
            .pending
            .first_entry()
            .filter(|first| *first.key() <= upper)
        {
            let (epoch, (bytes, rows)) = first.remove_entry();
            self.history.push_back((epoch, bytes));
            self.history_bytes += bytes;
            self.changed = epoch;
            self.rows += rows;
        }
        while let Some((epoch, bytes)) = self.history.front().copied() {
            if epoch > since && self.history_bytes <= limit {
                break;
            }
            since = since.max(epoch);
            self.history_bytes -= bytes;
            self.history.pop_front();
        }
        since
    }

    fn changed_at(&self, at: Epoch) -> Epoch {
        if at >= self.changed {
            return self.changed;
        }
        let later = self.history.partition_point(|(epoch, _)| *epoch <= at);
        let before = later.checked_sub(1).map(|place| self.history[place].0);
        before.unwrap_or(at)
    }
}
