//! The thread that takes messages from librdkafka and lays them out for the workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::statistics::Statistics;
use rdkafka::{Offset, Timestamp as KafkaTimestamp};

use super::buffer::BLOCK_BYTES;
use super::client::{Client, list, offset};
use super::options::KafkaOptions;
use super::schemas::KnownSchemas;
use super::state::{Reading, Shared, Stage, State, now};
use crate::dataflow::decode::guard;
use crate::record::{Headers, LastRecord, Message};
use crate::time::Timestamp;

/// How long to wait for a message when there is none.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long to wait before a registry that does not answer is asked again.
const REGISTRY_RETRY: Duration = Duration::from_secs(1);

/// How long not to take messages while too many are not read. Then the partitions that have most
/// are paused, which throws away what librdkafka has fetched ahead, and the others go on.
const HELD: Duration = Duration::from_secs(1);

/// Messages of one partition, taken and not handed over.
#[derive(Default)]
struct Batch {
    frames: Vec<u8>,
    /// Where the last of them begins.
    last_at: usize,
    /// The offset after them, and after what nobody may read: the marks of transactions, and what
    /// was aborted or compacted away.
    end: u64,
    /// Whether the end of the partition came after them.
    is_at_end: bool,
}

pub struct Fetcher {
    pub client: Arc<Client>,
    pub options: Arc<KafkaOptions>,
    pub shared: Arc<Shared>,
    batches: BTreeMap<u32, Batch>,
    /// The partitions that the consumer has.
    assigned: BTreeSet<u32>,
    /// How many bytes to take at a time.
    most: usize,
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
            assigned: BTreeSet::new(),
            most: BLOCK_BYTES,
            headers: Headers::default(),
            schemas,
        }
    }

    /// Runs until the source is dropped.
    pub fn run(mut self) {
        while self.has_room() {
            self.assign();
            self.take();
            self.hand_over();
        }
    }

    /// Waits a moment while too much is fetched and not read, then lets partitions of which there
    /// is little go on without the others. False when there is to be no more.
    fn has_room(&mut self) -> bool {
        let since = now();
        let mut state = self.shared.lock();
        while !state.is_closed {
            let left = self.options.buffer_bytes.saturating_sub(state.bytes);
            // Half of a partition's share: one that has less may get as much again beside what
            // fills the buffer, so that it is passed by its own size at most.
            let half = (self.options.buffer_bytes / state.partitions.len().max(1) / 2).max(1);
            let is_fat = |p: &Reading| left == 0 && p.buffer.bytes() >= half;
            let has_fat = state
                .partitions
                .values()
                .any(|p| p.is_fetched() && is_fat(p));
            // One that starves while others are not read must not wait for them.
            let has_hungry = state.partitions.values().any(Reading::is_hungry);
            if has_fat && !has_hungry && since.elapsed() < HELD {
                state = self.shared.wait(state, PATIENCE);
                continue;
            }
            self.pause(&mut state, is_fat, true);
            self.pause(&mut state, |p| p.buffer.bytes() <= half / 2, false);
            self.most = if left == 0 { half } else { left }.min(BLOCK_BYTES);
            return true;
        }
        false
    }

    /// Gives the consumer the partitions that are to be fetched, and takes those that are not.
    fn assign(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let is_kept = |id: &u32| {
            let reading = state.partitions.get(id);
            reading.is_some_and(|reading| reading.stage == Stage::Assigned)
        };
        let gone: Vec<u32> = self
            .assigned
            .iter()
            .filter(|id| !is_kept(id))
            .copied()
            .collect();
        let placed = state
            .partitions
            .iter()
            .filter(|(_, p)| p.stage == Stage::Placed);
        let from = |p: &Reading| p.proof.map_or(p.buffer.next(), |last| last.position);
        let placed: BTreeMap<u32, u64> = placed.map(|(id, p)| (*id, from(p))).collect();
        if let Err(error) = self.reassign(&gone, &placed) {
            // What is where is not known now: all of it begins anew.
            tracing::warn!(topic = self.options.topic, %error, "cannot assign partitions");
            let why: Arc<str> = Arc::from(format!("it cannot be assigned: {}", said(&error)));
            for id in placed.keys() {
                if let Some(reading) = state.partitions.get_mut(id) {
                    reading.refetch(now());
                    reading.trouble = Some(Arc::clone(&why));
                }
            }
            return;
        }
        for id in placed.keys() {
            if let Some(reading) = state.partitions.get_mut(id) {
                reading.stage = Stage::Assigned;
                reading.heard_at = now();
            }
        }
    }

    fn reassign(&mut self, gone: &[u32], placed: &BTreeMap<u32, u64>) -> KafkaResult<()> {
        let topic = &self.options.topic;
        if !gone.is_empty() {
            let gone_list = list(topic, gone.iter().map(|id| (id, Offset::Invalid)))?;
            self.client.incremental_unassign(&gone_list)?;
            self.assigned.retain(|id| !gone.contains(id));
        }
        if !placed.is_empty() {
            let offsets = placed.iter().map(|(id, next)| (id, offset(*next)));
            self.client.incremental_assign(&list(topic, offsets)?)?;
            self.assigned.extend(placed.keys());
        }
        Ok(())
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
        let ids = ids.iter().map(|id| (id, Offset::Invalid));
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
        while bytes < self.most {
            match client.poll(patience) {
                None => return,
                Some(Ok(message)) => bytes += self.add(&message),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let end = client.context().take_end();
                    if let Ok(partition) = u32::try_from(partition) {
                        let batch = self.batches.entry(partition).or_default();
                        batch.is_at_end = true;
                        batch.end = end.map_or(batch.end, |end| end.max(batch.end));
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
        self.take_headers(message);
        let batch = self.batches.entry(partition).or_default();
        batch.last_at = batch.frames.len();
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
        batch.frames.len() - batch.last_at
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

    /// Takes the headers of a message. One whose name is not text is left out: Kafka's own clients
    /// write none, and the library panics rather than hand it over.
    fn take_headers(&mut self, message: &BorrowedMessage<'_>) {
        self.headers.clear();
        let Some(headers) = message.headers() else {
            return;
        };
        for i in 0..headers.count() {
            if let Ok(header) = guard(|| headers.get(i)) {
                self.headers.push(header.key, header.value);
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
                has_more |= add_to(reading, batch);
            }
        }
        if let Some(stats) = &news.stats {
            self.note(&mut state, stats, news.failure.as_deref());
        }
        state.count();
        let wake = state.wake.clone().filter(|_| has_more);
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Takes what the statistics say of brokers and ends. They come before messages that are older.
    fn note(&self, state: &mut State, stats: &Statistics, failure: Option<&str>) {
        let is_up = |id: i32| {
            stats
                .brokers
                .values()
                .any(|b| b.nodeid == id && b.state == "UP")
        };
        let any_up = stats.brokers.values().any(|broker| broker.state == "UP");
        if any_up {
            state.trouble.brokers = None;
        } else {
            // Each try fails in words of its own: what was told first stands, and since when.
            state.trouble.brokers.get_or_insert_with(|| {
                let brokers = self.options.brokers();
                let why = failure.map_or_else(String::new, |failure| format!(": {failure}"));
                Arc::from(format!("no broker of '{brokers}' can be reached{why}"))
            });
        }
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
    }
}

/// Adds what was taken to a partition; says whether there is more now.
fn add_to(reading: &mut Reading, mut batch: Batch) -> bool {
    if reading.stage != Stage::Assigned {
        return false;
    }
    reading.is_at_end = batch.is_at_end;
    reading.heard_at = now();
    reading.trouble = None;
    let last = LastRecord::of(&batch.frames[batch.last_at..]);
    if let Some(proof) = reading.proof.take()
        && !is_proven(proof, reading.buffer.next(), &mut batch.frames)
    {
        reading.stage = Stage::Replaced { at: proof.position };
        return true;
    }
    let has_more = batch.end > reading.buffer.next();
    if has_more {
        reading.last = last.or(reading.last);
        reading.buffer.push(batch.frames, batch.end);
        reading.end = reading.end.max(batch.end);
    }
    has_more
}

/// Takes what is before the next offset from the first messages that were fetched; says whether the
/// record is among them that should be. One that is gone proves nothing: it may be compacted away.
fn is_proven(proof: LastRecord, next: u64, frames: &mut Vec<u8>) -> bool {
    let new = Message::all(frames).find(|(_, message)| message.position >= next);
    let new = new.map_or(frames.len(), |(at, _)| at);
    let seen = LastRecord::of(&frames[..new]);
    frames.drain(..new);
    seen.is_none_or(|seen| seen == proof)
}

/// What an error says, without the words around it.
pub fn said(error: &KafkaError) -> String {
    let code = error.rdkafka_error_code();
    code.map_or_else(|| error.to_string(), |code| code.to_string())
}
