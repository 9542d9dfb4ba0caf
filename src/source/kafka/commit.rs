//! The group's offsets: how far checkpoints reach, for others to see.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;

use super::client::{Client, News, list, offset};
use super::options::KafkaOptions;
use super::state::{Shared, now};

/// How long after a commit that failed the next one is tried.
const AGAIN: Duration = Duration::from_secs(5);

/// Commits what checkpoints hold, one commit at a time.
pub struct Committer {
    client: Arc<Client>,
    options: Arc<KafkaOptions>,
    shared: Arc<Shared>,
    /// When a commit failed, if the last one did.
    refused_at: Option<Instant>,
}

impl Committer {
    pub fn new(client: Arc<Client>, options: Arc<KafkaOptions>, shared: Arc<Shared>) -> Committer {
        Committer {
            client,
            options,
            shared,
            refused_at: None,
        }
    }

    /// Tells the group how far checkpoints reach.
    pub fn commit(&mut self) {
        let mut state = self.shared.lock();
        let is_refused = self.refused_at.is_some_and(|at| at.elapsed() < AGAIN);
        let is_busy = !state.sent.is_empty() || state.trouble.brokers.is_some();
        if state.commits.is_empty() || is_busy || is_refused {
            return;
        }
        let commits = std::mem::take(&mut state.commits);
        state.sent.clone_from(&commits);
        drop(state);
        let offsets = commits.iter().map(|(id, position)| (id, offset(*position)));
        let sent = list(&self.options.topic, offsets)
            .and_then(|list| self.client.commit(&list, CommitMode::Async));
        if let Err(error) = sent {
            self.committed(Err(&error));
        }
    }

    /// The same for the last time; says whether an answer is worth waiting for.
    pub fn commit_rest(&mut self) -> bool {
        self.refused_at = None;
        self.commit();
        let state = self.shared.lock();
        !state.sent.is_empty() && state.trouble.brokers.is_none()
    }

    /// Takes note of what became of a commit; one that failed is tried again.
    pub fn hear(&mut self, news: &News) {
        if let Some(result) = &news.committed {
            self.committed(result.as_ref().map(drop));
        }
    }

    fn committed(&mut self, result: Result<(), &KafkaError>) {
        let mut state = self.shared.lock();
        let sent = std::mem::take(&mut state.sent);
        let Err(error) = result else {
            self.refused_at = None;
            return;
        };
        if self.refused_at.replace(now()).is_none() {
            let (topic, group) = (&self.options.topic, &self.options.group);
            tracing::warn!(topic, group, %error, "the group's offsets fall behind; trying again");
        }
        for (id, position) in sent {
            state.commits.entry(id).or_insert(position);
        }
    }
}
