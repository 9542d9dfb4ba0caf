//! Which epochs can be read: the bounds that all views share.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ReadError;
use crate::time::Epoch;

/// The oldest and the newest epoch that can be read. Both only grow.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    since: AtomicU64,
    /// The newest published epoch plus one; 0 before the first.
    shown: AtomicU64,
}

impl Horizon {
    /// Moves both bounds.
    pub fn advance(&self, since: Epoch, upper: Epoch) {
        self.since.fetch_max(since, Ordering::AcqRel);
        self.shown
            .fetch_max(upper.saturating_add(1), Ordering::AcqRel);
    }

    /// The oldest epoch that can be read.
    pub fn since(&self) -> Epoch {
        self.since.load(Ordering::Acquire)
    }

    /// Whether an epoch is published already.
    pub fn is_shown(&self, epoch: Epoch) -> bool {
        epoch < self.shown.load(Ordering::Acquire)
    }

    /// Whether an epoch can be read.
    pub fn check(&self, at: Epoch) -> Result<(), ReadError> {
        match self.shown.load(Ordering::Acquire).checked_sub(1) {
            None => Err(ReadError::NotReady),
            Some(upper) if at > upper => Err(ReadError::Future { at, upper }),
            Some(_) => self.check_kept(at),
        }
    }

    /// Whether an epoch's history is still there. Asked while a shard's lock is held, the answer
    /// holds for all that is read under it: who prunes has read `since` under that lock before.
    pub fn check_kept(&self, at: Epoch) -> Result<(), ReadError> {
        let since = self.since();
        if at < since {
            Err(ReadError::Gone { at, since })
        } else {
            Ok(())
        }
    }
}
