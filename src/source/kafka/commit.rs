//! The thread that tells the group how far checkpoints reach, for others to see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};

use super::client::{Client, list, offset};
use super::options::KafkaOptions;
use super::state::{Shared, now};

/// How often to look whether there is something to tell.
const TICK: Duration = Duration::from_secs(1);

/// How long after a commit that failed the next one is tried.
const AGAIN: Duration = Duration::from_secs(5);

pub struct Committer {
    pub client: Arc<Client>,
    pub options: Arc<KafkaOptions>,
    pub shared: Arc<Shared>,
}

impl Committer {
    /// Runs until the source is dropped, and what was left to tell then was tried once more. It has
    /// a thread of its own because librdkafka tells what became of a commit only to who waits.
    pub fn run(self) {
        let mut is_refused = false;
        while let Some(commits) = self.next(is_refused) {
            let offsets = commits.iter().map(|(id, position)| (id, offset(*position)));
            let done = list(&self.options.topic, offsets)
                .and_then(|list| self.client.commit(&list, CommitMode::Sync));
            let mut state = self.shared.lock();
            if let Err(error) = &done {
                if !is_refused {
                    let (topic, group) = (&self.options.topic, &self.options.group);
                    tracing::warn!(topic, group, %error, "the group's offsets fall behind");
                }
                for (id, position) in commits {
                    state.commits.entry(id).or_insert(position);
                }
                if state.is_closed {
                    break;
                }
            }
            is_refused = done.is_err();
        }
        self.shared.notify();
    }

    /// Waits for positions to commit; `None` when there will be none.
    fn next(&self, is_refused: bool) -> Option<BTreeMap<u32, u64>> {
        let since = now();
        let mut state = self.shared.lock();
        loop {
            let is_early = is_refused && since.elapsed() < AGAIN && !state.is_closed;
            let has_brokers = state.trouble.brokers.is_none();
            if !state.commits.is_empty() && has_brokers && !is_early {
                return Some(std::mem::take(&mut state.commits));
            }
            if state.is_closed {
                return None;
            }
            state = self.shared.wait(state, TICK);
        }
    }
}
