//! One query's result: its rows at every retained epoch.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{KeyRange, Page, QuerySpec, ReadError, RowPosition};
use crate::row::Row;
use crate::time::{Epoch, Timestamp};

/// A query's result as an ordered, multi-versioned bag of rows.
#[derive(Debug)]
pub struct View {
    spec: QuerySpec,
    total: AtomicU64,
    failure: OnceLock<String>,
}

impl View {
    pub(super) fn new(spec: QuerySpec) -> View {
        View {
            spec,
            total: AtomicU64::new(0),
            failure: OnceLock::new(),
        }
    }

    /// What the view is of.
    pub fn spec(&self) -> &QuerySpec {
        &self.spec
    }

    /// Takes in changes of one shard at an epoch that is not published yet. Epochs of a shard never
    /// decrease; a row may occur several times and cancel out.
    pub fn apply(&self, _shard: usize, _epoch: Epoch, _changes: Vec<(Row, i64)>) {}

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
        0
    }

    /// About how many bytes the rows and their history take.
    pub fn memory_bytes(&self) -> usize {
        0
    }

    /// How often a row was taken away more often than it was there. It is never shown then.
    pub fn anomalies(&self) -> u64 {
        0
    }

    /// The rows of a range at a published epoch, from a position on: at most `limit` of them, and
    /// with `final_at` only those that are final at this watermark.
    pub fn read(
        &self,
        _at: Epoch,
        _range: &KeyRange,
        _after: Option<&RowPosition>,
        _limit: usize,
        _final_at: Option<Timestamp>,
    ) -> Result<Page, ReadError> {
        Ok(Page::default())
    }

    /// The net changes after one epoch up to and with another, removals before additions, each in
    /// row order.
    pub fn changes(&self, _from: Epoch, _to: Epoch) -> Result<Vec<(Arc<Row>, i64)>, ReadError> {
        Ok(Vec::new())
    }
}
