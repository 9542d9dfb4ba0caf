//! Reading a page: the shards' rows merged in order, each shard's lock held for a short run.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use super::horizon::Horizon;
use super::shard::Shard;
use super::{KeyRange, Page, ReadError, RowPosition};
use crate::row::{Ordered, Row};
use crate::time::{Epoch, Timestamp};

/// What is to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub at: Epoch,
    pub range: &'a KeyRange,
    pub after: Option<&'a RowPosition>,
    pub limit: usize,
    /// About how many bytes of JSON the page may take; one row at least is given.
    pub bytes: u64,
    pub final_at: Option<Timestamp>,
}

/// Reads a page.
pub(super) fn read(
    shards: &[RwLock<Shard>],
    horizon: &Horizon,
    request: Request<'_>,
) -> Result<Page, ReadError> {
    let mut cursors: Vec<_> = shards.iter().map(Cursor::new).collect();
    let mut heads = BinaryHeap::with_capacity(cursors.len());
    for (shard, cursor) in cursors.iter_mut().enumerate() {
        if let Some((row, count)) = cursor.next(horizon, &request)? {
            heads.push(Reverse((row, shard, count)));
        }
    }
    let mut filling = Filling {
        request,
        room: request.limit as u64,
        bytes: request.bytes,
        page: Page::default(),
    };
    let mut current: Option<(Ordered, i64)> = None;
    while let Some(Reverse((row, shard, count))) = heads.pop() {
        if let Some((row, count)) = cursors[shard].next(horizon, &request)? {
            heads.push(Reverse((row, shard, count)));
        }
        // A row may have come in at one worker and gone at another: only the sum counts.
        current = match current {
            Some((same, sum)) if same == row => Some((same, sum + count)),
            Some((before, sum)) if filling.add(&before, sum) => return Ok(filling.page),
            _ => Some((row, count)),
        };
    }
    if let Some((row, count)) = current {
        filling.add(&row, count);
    }
    Ok(filling.page)
}

struct Filling<'a> {
    request: Request<'a>,
    room: u64,
    bytes: u64,
    page: Page,
}

impl Filling<'_> {
    /// Adds a row; says whether the page is full with more to come.
    fn add(&mut self, row: &Ordered, count: i64) -> bool {
        let Ok(count) = u64::try_from(count) else {
            return false;
        };
        let started = self
            .request
            .after
            .filter(|after| after.order() == row.row.order());
        let done = started.map_or(0, RowPosition::done);
        let left = count.saturating_sub(done);
        let taken = left.min(self.room).min(self.fitting(&row.row));
        if taken < left {
            self.page.next = Some(RowPosition::within(&row.row, done + taken));
        }
        if taken > 0 {
            self.room -= taken;
            let bytes = taken.saturating_mul(row_bytes(&row.row));
            self.bytes = self.bytes.saturating_sub(bytes);
            self.page.rows.push((row.row.clone(), taken));
        }
        taken < left
    }

    /// How many times the row fits; once at least on an empty page.
    fn fitting(&self, row: &Row) -> u64 {
        let fitting = self.bytes / row_bytes(row);
        fitting.max(u64::from(self.page.rows.is_empty()))
    }
}

/// About how many bytes a row takes as JSON.
fn row_bytes(row: &Row) -> u64 {
    const FRAME: usize = 20;
    (FRAME + row.key().len() + row.value().len()) as u64
}

/// One shard's rows of the request, fetched a run at a time.
struct Cursor<'a> {
    shard: &'a RwLock<Shard>,
    buffer: VecDeque<(Ordered, i64)>,
    after: Option<Ordered>,
    is_at_end: bool,
}

impl<'a> Cursor<'a> {
    fn new(shard: &'a RwLock<Shard>) -> Cursor<'a> {
        Cursor {
            shard,
            buffer: VecDeque::new(),
            after: None,
            is_at_end: false,
        }
    }

    fn next(
        &mut self,
        horizon: &Horizon,
        request: &Request<'_>,
    ) -> Result<Option<(Ordered, i64)>, ReadError> {
        while self.buffer.is_empty() && !self.is_at_end {
            self.fetch(horizon, request)?;
        }
        Ok(self.buffer.pop_front())
    }

    fn fetch(&mut self, horizon: &Horizon, request: &Request<'_>) -> Result<(), ReadError> {
        let (first, end) = request.range.bounds();
        let first = request
            .after
            .map_or(first, |after| first.max(after.order()));
        let from = match &self.after {
            Some(row) => Bound::Excluded(row.row.order()),
            None => Bound::Included(first),
        };
        if end.is_some_and(|end| end <= first) {
            self.is_at_end = true;
            return Ok(());
        }
        let shard = self.shard.read().unwrap_or_else(PoisonError::into_inner);
        horizon.check_kept(request.at)?;
        let to = end.map_or(Bound::Unbounded, Bound::Excluded);
        let last = shard.visit(request.at, (from, to), |row, count| {
            let is_wanted = request
                .final_at
                .is_none_or(|w| row.row.final_at().is_some_and(|final_at| final_at <= w));
            if count != 0 && is_wanted {
                self.buffer.push_back((row.clone(), count));
            }
        });
        drop(shard);
        self.is_at_end = last.is_none();
        self.after = last;
        Ok(())
    }
}
