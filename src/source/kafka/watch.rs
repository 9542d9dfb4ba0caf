//! The thread that finds partitions, puts them to their offsets, and asks after silent ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use super::client::{Client, list, offset, offsets};
use super::fetch::said;
use super::options::{KafkaOptions, Start};
use super::state::{Reading, Shared, Stage, now};

/// How often to look whether there is something to do.
const TICK: Duration = Duration::from_secs(1);

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// After how long without a message a partition with data is told to be silent.
const SILENT: Duration = Duration::from_secs(30);

/// How often a fetch that was refused is tried again.
const RETRY: Duration = Duration::from_secs(10);

pub struct Watcher {
    pub client: Arc<Client>,
    pub options: Arc<KafkaOptions>,
    pub shared: Arc<Shared>,
    discovered_at: Option<Instant>,
    retried_at: Instant,
}

impl Watcher {
    pub fn new(client: Arc<Client>, options: Arc<KafkaOptions>, shared: Arc<Shared>) -> Watcher {
        Watcher {
            client,
            options,
            shared,
            discovered_at: None,
            retried_at: now(),
        }
    }

    /// Runs until the source is dropped.
    pub fn run(mut self) {
        while self.waits_for_work() {
            self.discover();
            self.find_starts();
            for id in self.those(|reading| reading.is_doubtful) {
                self.refetch(id);
            }
            for id in self.those(|reading| reading.stage == Stage::Asked) {
                self.place(id);
            }
            self.ask_after_silent();
            self.retry_refused();
        }
    }

    fn waits_for_work(&self) -> bool {
        let state = self.shared.lock();
        let has_work = |reading: &Reading| {
            let is_unplaced = reading.stage == Stage::Asked && reading.trouble.is_none();
            reading.is_doubtful || is_unplaced
        };
        let is_idle = !state.is_closed && !state.partitions.values().any(has_work);
        let state = if is_idle && self.discovered_at.is_some() {
            self.shared.wait(state, TICK)
        } else {
            state
        };
        !state.is_closed
    }

    fn those(&self, meant: impl Fn(&Reading) -> bool) -> Vec<u32> {
        let state = self.shared.lock();
        let those = state
            .partitions
            .iter()
            .filter(|(_, reading)| meant(reading));
        those.map(|(id, _)| *id).collect()
    }

    /// Changes what is known of a partition.
    fn with(&self, id: u32, change: impl FnOnce(&mut Reading)) {
        if let Some(reading) = self.shared.lock().partitions.get_mut(&id) {
            change(reading);
        }
    }

    fn trouble(&self, id: u32, what: &str) {
        let why = format!("topic '{}' partition {id}: {what}", self.options.topic);
        self.with(id, |reading| reading.trouble = Some(Arc::from(why)));
    }

    /// Looks for the topic and its partitions, from time to time.
    fn discover(&mut self) {
        let has_trouble = self.shared.lock().trouble.topic.is_some();
        let every = if has_trouble {
            TICK
        } else {
            self.options.discover_every
        };
        if self.discovered_at.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        self.discovered_at = Some(now());
        let found = self.find_partitions();
        let mut state = self.shared.lock();
        match found {
            Ok(ids) => {
                state.trouble.topic = None;
                for id in ids {
                    state
                        .partitions
                        .entry(id)
                        .or_insert_with(|| Reading::new(now()));
                }
            }
            Err(why) => state.trouble.topic = Some(Arc::from(why)),
        }
        let wake = state.wake.clone();
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
    }

    fn find_partitions(&self) -> Result<Vec<u32>, String> {
        let name = &self.options.topic;
        let answer = self.client.fetch_metadata(Some(name), PATIENCE);
        let unread = |why: &str| format!("topic '{name}' cannot be read: {why}");
        let metadata = answer.map_err(|error| unread(&said(&error)))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        let topic = topic.ok_or_else(|| unread("no broker knows it"))?;
        match topic.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                let brokers = self.options.brokers();
                return Err(format!("there is no topic '{name}' on '{brokers}'"));
            }
            Some(code) => return Err(unread(&code.to_string())),
        }
        let ids = topic.partitions().iter();
        Ok(ids.filter_map(|p| u32::try_from(p.id()).ok()).collect())
    }

    /// Finds where the partitions begin that nobody read yet.
    fn find_starts(&self) {
        let Some(is_new) = self.shared.lock().is_new else {
            return;
        };
        let starting =
            self.those(|reading| reading.stage == Stage::Unasked && reading.first.is_none());
        // What appears later is new as a whole.
        let start = if is_new {
            &self.options.start
        } else {
            &Start::Earliest
        };
        for id in starting {
            match self.start_of(id, start) {
                Ok(first) => self.with(id, |reading| {
                    (reading.first, reading.end) = (Some(first), first);
                    reading.trouble = None;
                }),
                Err(error) => {
                    self.trouble(
                        id,
                        &format!("where to start is not known: {}", said(&error)),
                    );
                    return;
                }
            }
        }
        let mut state = self.shared.lock();
        let are_found = state
            .partitions
            .values()
            .all(|reading| reading.first.is_some());
        if is_new && are_found && !state.partitions.is_empty() {
            state.is_new = Some(false);
        }
        let wake = state.wake.clone();
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
    }

    fn start_of(&self, id: u32, start: &Start) -> KafkaResult<u64> {
        let (low, high) = self.ends(id)?;
        let topic = &self.options.topic;
        let start = match start {
            Start::Earliest => None,
            Start::Latest => Some(high),
            Start::Offsets(offsets) => offsets.get(&id).copied(),
            Start::Time(time) => {
                let asked = list(topic, [(&id, Offset::Offset(time.0.max(0)))])?;
                let answer = self.client.offsets_for_times(asked, PATIENCE)?;
                Some(offsets(&answer).get(&id).copied().unwrap_or(high))
            }
            Start::Group => {
                let asked = list(topic, [(&id, Offset::Invalid)])?;
                let answer = self.client.committed_offsets(asked, PATIENCE)?;
                offsets(&answer).get(&id).copied()
            }
        };
        Ok(start.unwrap_or(low))
    }

    /// The first offset of a partition, and the one after the last.
    fn ends(&self, id: u32) -> KafkaResult<(u64, u64)> {
        let number = i32::try_from(id).unwrap_or(i32::MAX);
        let ends = self
            .client
            .fetch_watermarks(&self.options.topic, number, PATIENCE)?;
        let offset = |raw: i64| u64::try_from(raw).unwrap_or(0);
        Ok((offset(ends.0), offset(ends.1)))
    }

    fn refetch(&self, id: u32) {
        self.with(id, |reading| reading.refetch(now()));
    }

    /// Lets a partition be fetched from where it was asked for, if that is there.
    fn place(&self, id: u32) {
        let (low, high) = match self.ends(id) {
            Ok(ends) => ends,
            Err(error) => return self.trouble(id, &said(&error)),
        };
        let mut state = self.shared.lock();
        let Some(reading) = state.partitions.get_mut(&id) else {
            return;
        };
        let next = reading.buffer.next();
        reading.end = high;
        reading.trouble = None;
        if next > high {
            reading.stage = Stage::Recreated {
                first: low,
                end: high,
            };
        } else if next < low && !self.options.skip_lost {
            reading.stage = Stage::Lost {
                first: low,
                end: high,
            };
        } else {
            if next < low {
                reading.buffer.lose_to(low);
            }
            match self.assign(id, next.max(low)) {
                Ok(()) => {
                    reading.stage = Stage::Assigned;
                    reading.heard_at = now();
                }
                Err(error) => {
                    tracing::warn!(topic = self.options.topic, id, %error, "not assigned");
                }
            }
        }
        let wake = state.wake.clone();
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
    }

    fn assign(&self, id: u32, position: u64) -> KafkaResult<()> {
        let topic = &self.options.topic;
        let number = i32::try_from(id).unwrap_or(i32::MAX);
        let is_assigned = self
            .client
            .assignment()?
            .find_partition(topic, number)
            .is_some();
        if is_assigned {
            self.client
                .incremental_unassign(&list(topic, [(&id, Offset::Invalid)])?)?;
        }
        self.client
            .incremental_assign(&list(topic, [(&id, offset(position))])?)
    }

    /// Asks the broker after partitions of which nothing came for long: is there data?
    fn ask_after_silent(&self) {
        let has_brokers = self.shared.lock().trouble.brokers.is_none();
        let silent = self.those(|reading| {
            let waits = reading.stage == Stage::Assigned && !reading.is_paused;
            waits && !reading.is_at_end && reading.heard_at.elapsed() >= SILENT
        });
        for id in silent.into_iter().filter(|_| has_brokers) {
            let Ok((_, high)) = self.ends(id) else {
                continue;
            };
            let mut waiting = 0;
            self.with(id, |reading| {
                reading.end = reading.end.max(high);
                waiting = high.saturating_sub(reading.buffer.next());
                if waiting > 0 {
                    // Fetched anew, in case that helps.
                    reading.refetch(now());
                } else {
                    reading.heard_at = now();
                }
            });
            if waiting > 0 {
                let long = SILENT.as_secs();
                let what = format!("{waiting} offsets are there, and nothing came for {long} s");
                tracing::warn!(topic = self.options.topic, id, "{what}");
                self.place(id);
                self.trouble(id, &what);
            }
        }
    }

    /// A refusal is told once: whether it stands is seen by asking again.
    fn retry_refused(&mut self) {
        if self.retried_at.elapsed() < RETRY {
            return;
        }
        self.retried_at = now();
        if self.shared.lock().trouble.fetch.is_some() {
            for id in self.those(|reading| reading.stage == Stage::Assigned) {
                self.refetch(id);
            }
        }
    }
}
