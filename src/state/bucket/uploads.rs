//! Objects on their way to a bucket.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::UPLOADS;
use crate::state::error::StateError;

/// Objects on their way by name, and those that never came there.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// `None` while it is under way.
    open: Mutex<BTreeMap<String, Option<StateError>>>,
    changed: Condvar,
}

type Open = BTreeMap<String, Option<StateError>>;

impl Uploads {
    fn open(&self) -> MutexGuard<'_, Open> {
        // Each change is one insertion or removal.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, holds: impl Fn(&Open) -> bool) -> MutexGuard<'_, Open> {
        let open = self.changed.wait_while(self.open(), |open| holds(open));
        open.unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails where an upload has failed and nobody has dealt with it yet: the next would, too.
    pub fn check(&self) -> Result<(), StateError> {
        match self.open().values().flatten().next() {
            Some(failed) => Err(StateError::Refused(failed.to_string())),
            None => Ok(()),
        }
    }

    /// Waits until one more may be under way, and counts it.
    pub fn begin(&self, name: &str) {
        let is_full = |open: &Open| open.values().filter(|it| it.is_none()).count() >= UPLOADS;
        self.wait_while(is_full).insert(name.to_owned(), None);
    }

    /// Notes how one ended.
    pub fn ended(&self, name: &str, outcome: Result<(), StateError>) {
        let mut open = self.open();
        match outcome {
            Ok(()) => open.remove(name),
            Err(error) => open.insert(name.to_owned(), Some(error)),
        };
        drop(open);
        self.changed.notify_all();
    }

    fn none_under_way(&self, names: &[String]) -> MutexGuard<'_, Open> {
        let is_under_way = |open: &Open, name: &String| matches!(open.get(name), Some(None));
        self.wait_while(|open| names.iter().any(|name| is_under_way(open, name)))
    }

    /// Waits until none of these is under way; why one of them failed.
    pub fn settle(&self, names: &[String]) -> Result<(), StateError> {
        let mut open = self.none_under_way(names);
        let failed = names.iter().filter_map(|name| open.remove(name).flatten());
        failed.last().map_or(Ok(()), Err)
    }

    /// Waits until none of these is under way, however they end.
    pub fn forget(&self, names: &[String]) {
        let mut open = self.none_under_way(names);
        for name in names {
            open.remove(name);
        }
    }
}
