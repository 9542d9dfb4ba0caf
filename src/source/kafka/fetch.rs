//! The thread that takes messages from librdkafka and lays them out for the workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::Timestamp as KafkaTimestamp;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::statistics::Statistics;

use super::buffer::BLOCK_BYTES;
use super::client::{Client, News, list, offset};
use super::options::KafkaOptions;
use super::schemas::KnownSchemas;
use super::state::{Reading, Shared, Stage, State, now};
use crate::record::{Headers, Message};
use crate::time::Timestamp;

/// How long to wait for a message when there is none.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long to wait before a registry that does not answer is asked again.
const REGISTRY_RETRY: Duration = Duration::from_secs(1);

/// How long the last commit may take when the service stops.
const LAST_COMMIT: Duration = Duration::from_secs(3);

/// Messages of one partition, taken and not handed over.
#[derive(Default)]
struct Batch {
    frames: Vec<u8>,
    end: u64,
    /// Whether the end of the partition came after them.
    is_at_end: bool,
}

pub struct Fetcher {
    pub client: Arc<Client>,
    pub options: Arc<KafkaOptions>,
    pub shared: Arc<Shared>,
    batches: BTreeMap<u32, Batch>,
    /// The turns of the partitions when the batches were begun.
    turns: BTreeMap<u32, u64>,
    headers: Headers,
    schemas: Option<KnownSchemas>,
}

impl Fetcher {
    pub fn new(
        client: Arc<Client>,
        options: Arc<KafkaOptions>,
        shared: Arc<Shared>,
        schemas: Option<KnownSchemas>,
    ) -> Fetcher {
        Fetcher {
            client,
            options,
            shared,
            batches: BTreeMap::new(),
            turns: BTreeMap::new(),
            headers: Headers::default(),
            schemas,
        }
    }

    /// Runs until the source is dropped; then commits what is left to commit.
    pub fn run(mut self) {
        while self.has_room() {
            self.take();
            self.hand_over();
            self.commit();
        }
        self.commit();
        let since = now();
        while since.elapsed() < LAST_COMMIT && !self.shared.lock().sent.is_empty() {
            // Serves the answer to the commit.
            drop(self.client.poll(PATIENCE));
            self.hear_of_commit(&self.client.context().take());
        }
    }

    /// Waits while too much is fetched and not read; false when there is to be no more.
    fn has_room(&mut self) -> bool {
        let mut state = self.shared.lock();
        loop {
            if state.is_closed {
                return false;
            }
            let share = self.options.buffer_bytes / state.partitions.len().max(1);
            let is_full = state.bytes >= self.options.buffer_bytes;
            // One that starves while others are not read must not wait for them.
            let is_hungry = |p: &Reading| {
                let is_fetched = p.stage == Stage::Assigned && !p.is_paused;
                is_fetched && p.buffer.bytes() == 0 && !p.is_at_end
            };
            let has_hungry = state.partitions.values().any(is_hungry);
            if is_full && !has_hungry {
                state = self.shared.wait(state, PATIENCE);
                continue;
            }
            self.pause(
                &mut state,
                |p| is_full && p.buffer.bytes() >= share.max(1),
                true,
            );
            self.pause(&mut state, |p| p.buffer.bytes() <= share / 2, false);
            let turn = |(id, p): (&u32, &Reading)| (*id, p.turn);
            self.turns = state.partitions.iter().map(turn).collect();
            return true;
        }
    }

    /// Pauses the fetched partitions that `meant` says, or lets them go on.
    fn pause(&self, state: &mut State, meant: impl Fn(&Reading) -> bool, is_pause: bool) {
        let readings = state.partitions.iter_mut().filter(|(_, reading)| {
            let changes = reading.is_paused != is_pause;
            changes && reading.stage == Stage::Assigned && meant(reading)
        });
        let mut ids = Vec::new();
        for (id, reading) in readings {
            reading.is_paused = is_pause;
            // The end is told again once it is reached again.
            reading.is_at_end = false;
            reading.heard_at = now();
            ids.push(*id);
        }
        if ids.is_empty() {
            return;
        }
        let ids = ids.iter().map(|id| (id, rdkafka::Offset::Invalid));
        let done = list(&self.options.topic, ids).and_then(|list| {
            if is_pause {
                self.client.pause(&list)
            } else {
                self.client.resume(&list)
            }
        });
        if let Err(error) = done {
            tracing::warn!(topic = self.options.topic, %error, "cannot pause or resume");
        }
    }

    /// Takes what is there, but not too much; waits a moment where nothing is.
    fn take(&mut self) {
        let (mut patience, mut bytes) = (PATIENCE, 0);
        let client = Arc::clone(&self.client);
        while bytes < BLOCK_BYTES {
            match client.poll(patience) {
                None => return,
                Some(Ok(message)) => bytes += self.add(&message),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if let Ok(partition) = u32::try_from(partition) {
                        self.batches.entry(partition).or_default().is_at_end = true;
                    }
                }
                Some(Err(error)) => self.hear(&error),
            }
            patience = Duration::ZERO;
        }
    }

    /// Adds a message to its batch; gives about its size.
    fn add(&mut self, message: &BorrowedMessage<'_>) -> usize {
        let (Ok(partition), Ok(position)) = (
            u32::try_from(message.partition()),
            u64::try_from(message.offset()),
        ) else {
            return 0;
        };
        let (timestamp, is_append_time) = match message.timestamp() {
            KafkaTimestamp::NotAvailable => (None, false),
            KafkaTimestamp::CreateTime(ms) => (Some(Timestamp(ms)), false),
            KafkaTimestamp::LogAppendTime(ms) => (Some(Timestamp(ms)), true),
        };
        if let Some(value) = message.payload() {
            self.learn_schema(value);
        }
        self.headers.clear();
        for header in message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter())
        {
            self.headers.push(header.key, header.value);
        }
        let batch = self.batches.entry(partition).or_default();
        let before = batch.frames.len();
        Message {
            position,
            timestamp,
            is_append_time,
            key: message.key(),
            headers: self.headers.as_bytes(),
            value: message.payload(),
        }
        .write(&mut batch.frames);
        batch.end = position + 1;
        batch.is_at_end = false;
        batch.frames.len() - before
    }

    /// Sees to it that the schema which a message names is known; waits for the registry as long as
    /// it does not answer.
    fn learn_schema(&mut self, message: &[u8]) {
        let Some(schemas) = &mut self.schemas else {
            return;
        };
        while let Err(error) = schemas.learn(message) {
            let (mut state, since) = (self.shared.lock(), now());
            state.trouble.registry = Some(Arc::from(error.to_string()));
            while since.elapsed() < REGISTRY_RETRY {
                if state.is_closed {
                    return;
                }
                state = self.shared.wait(state, REGISTRY_RETRY);
            }
        }
    }

    /// Notes what the consumer says went wrong.
    fn hear(&self, error: &KafkaError) {
        let code = error.rdkafka_error_code();
        let topic = &self.options.topic;
        match code {
            // The state of the connections is in the statistics, whole.
            Some(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut,
            ) => tracing::debug!(topic, %error, "kafka"),
            // Which partition it is shows when its ends are looked at.
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                let mut state = self.shared.lock();
                for reading in state.partitions.values_mut() {
                    reading.is_doubtful = reading.stage == Stage::Assigned;
                }
                self.shared.notify();
            }
            _ => {
                let why = format!("topic '{topic}' cannot be read: {}", said(error));
                self.shared.lock().trouble.fetch = Some(Arc::from(why));
            }
        }
    }

    /// Gives the workers what was taken.
    fn hand_over(&mut self) {
        let news = self.client.context().take();
        self.hear_of_commit(&news);
        let mut state = self.shared.lock();
        let mut has_more = false;
        let batches = std::mem::take(&mut self.batches);
        if !batches.is_empty() {
            (state.trouble.fetch, state.trouble.registry) = (None, None);
        }
        if let Some(schemas) = &self.schemas {
            state.schemas = schemas.all();
        }
        for (id, batch) in batches {
            if let Some(reading) = state.partitions.get_mut(&id) {
                has_more |= self.add_to(reading, self.turns.get(&id), batch);
            }
        }
        if let Some(stats) = &news.stats {
            has_more |= self.note(&mut state, stats, news.failure.as_deref());
        }
        state.count();
        let wake = state.wake.clone().filter(|_| has_more);
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Adds what was taken to a partition that was at a turn then; says whether there is more now.
    fn add_to(&self, reading: &mut Reading, turn: Option<&u64>, batch: Batch) -> bool {
        if reading.stage != Stage::Assigned {
            return false;
        }
        if turn != Some(&reading.turn) {
            // It was put elsewhere meanwhile: which messages are from before is not known.
            reading.refetch(now());
            self.shared.notify();
            return false;
        }
        reading.is_at_end = batch.is_at_end;
        reading.heard_at = now();
        reading.trouble = None;
        let has_more = batch.end > reading.buffer.next();
        if has_more {
            reading.buffer.push(batch.frames, batch.end);
            reading.end = reading.end.max(batch.end);
        }
        has_more
    }

    /// Takes what the statistics say of brokers and ends; says whether a position moved.
    fn note(&self, state: &mut State, stats: &Statistics, failure: Option<&str>) -> bool {
        let is_up = |id: i32| {
            stats
                .brokers
                .values()
                .any(|b| b.nodeid == id && b.state == "UP")
        };
        let any_up = stats.brokers.values().any(|broker| broker.state == "UP");
        state.trouble.brokers = (!any_up).then(|| {
            let brokers = self.options.brokers();
            let why = failure.map_or_else(String::new, |failure| format!(": {failure}"));
            Arc::from(format!("no broker of '{brokers}' can be reached{why}"))
        });
        let mut has_moved = false;
        let topic = stats.topics.get(&self.options.topic);
        for (id, said) in topic.into_iter().flat_map(|topic| &topic.partitions) {
            let reading = u32::try_from(*id)
                .ok()
                .and_then(|id| state.partitions.get_mut(&id));
            let Some(reading) = reading.filter(|reading| reading.stage == Stage::Assigned) else {
                continue;
            };
            let end = said.ls_offset.max(if said.ls_offset < 0 {
                said.hi_offset
            } else {
                -1
            });
            reading.end = reading.end.max(u64::try_from(end).unwrap_or(0));
            // The end was reached with nothing after it: what is before it and did not come is
            // nobody's to read.
            let eof = u64::try_from(said.eof_offset).unwrap_or(0);
            if reading.is_at_end && eof > reading.buffer.next() {
                reading.buffer.skip_to(eof);
                has_moved = true;
            }
            let is_led = said.leader >= 0 && is_up(said.leader);
            if any_up && !is_led {
                let leader = match said.leader {
                    ..0 => "it has no leader".to_owned(),
                    id => format!("its leader, broker {id}, cannot be reached"),
                };
                let why = format!("topic '{}' partition {id}: {leader}", self.options.topic);
                reading.trouble = Some(Arc::from(why));
            } else if reading.is_at_end {
                reading.trouble = None;
            }
        }
        has_moved
    }

    /// Tells the group how far checkpoints reach.
    fn commit(&self) {
        let mut state = self.shared.lock();
        let is_busy = !state.sent.is_empty() || state.trouble.brokers.is_some();
        if state.commits.is_empty() || is_busy {
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

    fn hear_of_commit(&self, news: &News) {
        if let Some(result) = &news.committed {
            self.committed(result.as_ref().map(drop));
        }
    }

    /// Takes note of what became of a commit; one that failed is tried again.
    fn committed(&self, result: Result<(), &KafkaError>) {
        let mut state = self.shared.lock();
        let sent = std::mem::take(&mut state.sent);
        if let Err(error) = result {
            let topic = &self.options.topic;
            tracing::debug!(topic, %error, "the group's offsets are not committed; trying again");
            for (id, position) in sent {
                state.commits.entry(id).or_insert(position);
            }
        }
    }
}

/// What an error says, without the words around it.
pub fn said(error: &KafkaError) -> String {
    let code = error.rdkafka_error_code();
    code.map_or_else(|| error.to_string(), |code| code.to_string())
}
