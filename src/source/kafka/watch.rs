//! The thread that finds partitions, puts them to their offsets, and asks after silent ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use super::client::{Client, found, list};
use super::fetch::said;
use super::options::{KafkaOptions, Start};
use super::state::{Reading, Shared, Stage, now};

/// How often to look whether there is something to do.
const TICK: Duration = Duration::from_secs(1);

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a fetch that was refused is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Why there are no partitions.
enum Unfound {
    /// The brokers know no such topic.
    Missing(String),
    /// They do not say.
    Unread(String),
}

pub struct Watcher {
    pub client: Arc<Client>,
    pub options: Arc<KafkaOptions>,
    pub shared: Arc<Shared>,
    discovered_at: Option<Instant>,
    retried_at: Instant,
    /// Whether there was no such topic: one that comes later is new as a whole.
    was_missing: bool,
}

impl Watcher {
    pub fn new(client: Arc<Client>, options: Arc<KafkaOptions>, shared: Arc<Shared>) -> Watcher {
        Watcher {
            client,
            options,
            shared,
            discovered_at: None,
            retried_at: now(),
            was_missing: false,
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
        let is_missing = matches!(found, Err(Unfound::Missing(_)));
        self.was_missing |= is_missing;
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
            Err(Unfound::Missing(why) | Unfound::Unread(why)) => {
                state.trouble.topic = Some(Arc::from(why));
            }
        }
        if is_missing {
            // The next one of its name may be another: nothing is taken of it unseen.
            let readings = state.partitions.values_mut();
            for reading in readings.filter(|reading| reading.stage == Stage::Assigned) {
                reading.refetch(now());
            }
        }
        let wake = state.wake.clone();
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
    }

    fn find_partitions(&self) -> Result<Vec<u32>, Unfound> {
        let name = &self.options.topic;
        let answer = self.client.fetch_metadata(Some(name), PATIENCE);
        let unread = |why: &str| Unfound::Unread(format!("topic '{name}' cannot be read: {why}"));
        let metadata = answer.map_err(|error| unread(&said(&error)))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        let topic = topic.ok_or_else(|| unread("no broker knows it"))?;
        match topic.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                let brokers = self.options.brokers();
                let why = format!("there is no topic '{name}' on '{brokers}'");
                return Err(Unfound::Missing(why));
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
        // What appears later is new as a whole.
        let start = match &self.options.start {
            _ if !is_new => &Start::Earliest,
            Start::Latest if self.was_missing => &Start::Earliest,
            start => start,
        };
        let mut starts = BTreeMap::new();
        let mut is_whole = true;
        for id in self.those(|reading| reading.stage == Stage::Unasked && reading.first.is_none()) {
            match self.start_of(id, start) {
                Ok(first) => drop(starts.insert(id, first)),
                Err(why) => {
                    self.trouble(id, &format!("where to start is not known: {why}"));
                    is_whole = false;
                }
            }
        }
        // A restart takes those for new as a whole that nothing is known of: all begin, or none.
        if !is_whole && *start != Start::Earliest {
            return;
        }
        let mut state = self.shared.lock();
        for (id, first) in starts {
            if let Some(reading) = state.partitions.get_mut(&id) {
                (reading.first, reading.end) = (Some(first), first);
                reading.trouble = None;
            }
        }
        if is_new && is_whole && !state.partitions.is_empty() {
            state.is_new = Some(false);
        }
        let wake = state.wake.clone();
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
    }

    fn start_of(&self, id: u32, start: &Start) -> Result<u64, String> {
        let failed = |error| said(&error);
        let (low, high) = self.ends(id).map_err(failed)?;
        let asked = |offset| list(&self.options.topic, [(&id, offset)]).map_err(failed);
        let begin = match start {
            Start::Earliest => None,
            Start::Latest => Some(high),
            Start::Offsets(offsets) => offsets.get(&id).copied(),
            Start::Time(time) => {
                let asked = asked(Offset::Offset(time.0.max(0)))?;
                let answer = self.client.offsets_for_times(asked, PATIENCE);
                Some(
                    answer
                        .and_then(|answer| found(&answer))
                        .map_err(failed)?
                        .unwrap_or(high),
                )
            }
            Start::Group => {
                let asked = asked(Offset::Invalid)?;
                let answer = self.client.committed_offsets(asked, PATIENCE);
                answer.and_then(|answer| found(&answer)).map_err(failed)?
            }
        };
        match begin {
            Some(begin) if begin > high => Err(format!("{begin} is beyond its end, {high}")),
            begin => Ok(begin.unwrap_or(low)),
        }
    }

    /// The first offset of a partition, and the one after the last.
    fn ends(&self, id: u32) -> KafkaResult<(u64, u64)> {
        // Whoever waits for the end waits for one answer, not for one per partition.
        if self.shared.lock().is_closed {
            return Err(KafkaError::Canceled);
        }
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
        let asked = state.partitions.get_mut(&id);
        let Some(reading) = asked.filter(|reading| reading.stage == Stage::Asked) else {
            return;
        };
        let next = reading.buffer.next();
        reading.end = high;
        reading.stage = if next > high {
            Stage::Ended { end: high }
        } else if next < low && !self.options.skip_lost {
            let (first, end) = (low, high);
            Stage::Lost { first, end }
        } else {
            if next < low {
                reading.buffer.lose_to(low);
            }
            reading.proof = reading.last.filter(|last| last.position >= low);
            Stage::Placed
        };
        let wake = state.wake.clone();
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Asks the broker after partitions of which nothing came for long: is there data?
    fn ask_after_silent(&self) {
        let long = self.options.silent_after;
        let has_brokers = self.shared.lock().trouble.brokers.is_none();
        let silent =
            self.those(|reading| reading.is_hungry() && reading.heard_at.elapsed() >= long);
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
                let (topic, long) = (&self.options.topic, long.as_secs());
                let what = format!("{waiting} offsets are there, and nothing came for {long} s");
                tracing::warn!(topic, id, "{what}");
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
