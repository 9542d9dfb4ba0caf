//! Records that come when they are due, whether or not the service keeps up: a schedule, a thread
//! that hands over what is due, and the source that the service reads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use waterclock::prelude::*;
use waterclock::record::{Chunk, Format, Positions, Span};
use waterclock::source::{Partition, Source, SourceError, Wake};

use super::support::now;
use super::{Click, WINDOW};

/// How often records that are due are handed over.
const TICK: Duration = Duration::from_micros(250);
/// The most bytes handed over at a time.
const BLOCK: usize = 64 << 10;
/// How many bytes wait at most where records come as fast as they are read.
const AHEAD: usize = 16 << 20;

/// A run of records of one kind. Users take turns, in an order that looks random, so that it can
/// be told how often each came.
#[derive(Clone, Debug)]
pub struct Phase {
    /// The number of its first record.
    pub first: u64,
    /// When that is due.
    pub start: Instant,
    /// Records a second; as fast as they are read where there is none.
    pub rate: Option<f64>,
    /// How many users there are.
    pub users: u64,
    /// Tells them from those of other phases.
    pub mark: char,
    /// How many records each of them had in this window before, where it is known.
    pub before: Option<u64>,
    /// The event time of the first record, in ms.
    pub at: i64,
    /// Whether event time goes on as the wall clock does.
    pub goes_on: bool,
    /// How many records there are at most.
    pub most: u64,
}

impl Phase {
    /// When a record is due.
    #[allow(clippy::cast_precision_loss, reason = "a schedule, to the microsecond")]
    pub fn due(&self, number: u64) -> Instant {
        let rate = self.rate.unwrap_or(f64::INFINITY);
        self.start + Duration::from_secs_f64((number - self.first) as f64 / rate)
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a schedule, to the record"
    )]
    fn due_by(&self, at: Instant) -> u64 {
        let elapsed = at.saturating_duration_since(self.start).as_secs_f64();
        let count = self
            .rate
            .map_or(self.most, |rate| (elapsed * rate) as u64 + 1);
        self.first.saturating_add(count.min(self.most))
    }

    /// The event time of a record, in ms.
    pub fn time(&self, number: u64) -> i64 {
        let passed = self.due(number).saturating_duration_since(self.start);
        let passed = if self.goes_on { passed } else { Duration::ZERO };
        self.at + i64::try_from(passed.as_millis()).unwrap_or(0)
    }

    fn place(&self, number: u64) -> u64 {
        // A prime that divides no number of users anyone would choose.
        (number - self.first) % self.users * 7_919 % self.users
    }

    /// The user of a record.
    pub fn user(&self, number: u64) -> String {
        format!("{}{:08}", self.mark, self.place(number))
    }

    /// Where the window of a record starts, in ms.
    pub fn window(&self, number: u64) -> i64 {
        let size = i64::try_from(WINDOW.as_millis()).unwrap_or(1);
        self.time(number) / size * size
    }

    /// How many records of its user the window of a record has, that one being the newest.
    pub fn count(&self, number: u64) -> Option<u64> {
        let start = self.window(number);
        let turns = (number - self.first) / self.users;
        let earlier = (1..=turns).map(|turn| number - turn * self.users);
        let same = earlier.take_while(|number| self.window(*number) == start);
        Some(self.before? + 1 + same.count() as u64)
    }

    fn write(&self, number: u64, out: &mut Vec<u8>) {
        const LINE: &[u8; 44] = b"{\"user\":\"-00000000\",\"at\":0000000000000}    \n";
        let mut line = *LINE;
        line[9] = u8::try_from(self.mark).unwrap_or(b'?');
        digits(self.place(number), &mut line[10..18]);
        digits(self.time(number).unsigned_abs(), &mut line[25..38]);
        out.extend(line);
    }
}

fn digits(mut number: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Whole lines, handed over together.
struct Block {
    first: u64,
    end: u64,
    bytes: Vec<u8>,
}

/// What was handed over and not read.
#[derive(Default)]
struct Buffer {
    blocks: VecDeque<Block>,
    bytes: usize,
    end: u64,
}

#[derive(Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    wake: Mutex<Option<Wake>>,
    /// By the number of the first record.
    phases: RwLock<BTreeMap<u64, Arc<Phase>>>,
    /// The records before this are handed over.
    handed: AtomicU64,
    is_done: AtomicBool,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where records come from; its clones are the same.
#[derive(Clone, Default)]
pub struct Load(Arc<Shared>);

impl Load {
    /// The phase of a record.
    pub fn phase(&self, number: u64) -> Arc<Phase> {
        let phases = self.0.phases.read().unwrap_or_else(PoisonError::into_inner);
        let (_, phase) = phases
            .range(..=number)
            .next_back()
            .expect("it was handed over");
        Arc::clone(phase)
    }

    /// How many records were handed over so far.
    pub fn handed(&self) -> u64 {
        self.0.handed.load(Ordering::Acquire)
    }

    /// Starts a phase now, after what was handed over before.
    pub fn begin(&self, phase: Phase) -> Handing {
        let phase = Arc::new(Phase {
            first: self.handed(),
            start: now(),
            ..phase
        });
        let mut phases = self
            .0
            .phases
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        phases.insert(phase.first, Arc::clone(&phase));
        drop(phases);
        self.0.is_done.store(false, Ordering::Release);
        let load = self.clone();
        let named = std::thread::Builder::new().name("load".to_owned());
        let thread = named
            .spawn(move || load.hand_over(&phase))
            .expect("a thread starts");
        Handing {
            load: self.clone(),
            thread: Some(thread),
        }
    }

    fn hand_over(&self, phase: &Phase) {
        let (mut number, last) = (phase.first, phase.first.saturating_add(phase.most));
        while number < last && !self.0.is_done.load(Ordering::Acquire) {
            let is_ahead = phase.rate.is_none() && held(&self.0.buffer).bytes >= AHEAD;
            let due = phase.due_by(now());
            if number >= due || is_ahead {
                let next = phase.rate.map(|_| phase.due(number));
                let next = next.map_or(TICK, |at| at.saturating_duration_since(now()));
                std::thread::park_timeout(next.max(TICK));
                continue;
            }
            let first = number;
            let mut bytes = Vec::new();
            while number < due && bytes.len() < BLOCK {
                phase.write(number, &mut bytes);
                number += 1;
            }
            self.push(Block {
                first,
                end: number,
                bytes,
            });
        }
    }

    fn push(&self, block: Block) {
        let mut buffer = held(&self.0.buffer);
        buffer.end = block.end;
        buffer.bytes += block.bytes.len();
        self.0.handed.store(block.end, Ordering::Release);
        buffer.blocks.push_back(block);
        drop(buffer);
        let wake = held(&self.0.wake).clone();
        if let Some(wake) = wake {
            wake();
        }
    }
}

/// A phase that goes on until this is dropped, or its records have all come.
pub struct Handing {
    load: Load,
    thread: Option<JoinHandle<()>>,
}

impl Handing {
    /// Waits until all records have come.
    pub fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("handing over does not fail");
        }
    }
}

impl Drop for Handing {
    fn drop(&mut self) {
        self.load.0.is_done.store(true, Ordering::Release);
        self.join();
    }
}

impl Source for Load {
    fn stream(&self) -> &str {
        Click::STREAM
    }

    fn partitions(&mut self) -> Result<Vec<Partition>, SourceError> {
        Ok(vec![Partition::new(0, 0, held(&self.0.buffer).end)])
    }

    fn read(
        &mut self,
        partition: u32,
        position: u64,
        max_bytes: usize,
        _until: Option<u64>,
    ) -> Result<Option<Chunk>, SourceError> {
        let (mut bytes, mut end) = (Vec::new(), position);
        let mut buffer = held(&self.0.buffer);
        while let Some(block) = buffer.blocks.front() {
            assert!(block.first == end, "the service reads each record once");
            if !bytes.is_empty() && bytes.len() + block.bytes.len() > max_bytes {
                break;
            }
            let block = buffer.blocks.pop_front().expect("it was looked at");
            buffer.bytes -= block.bytes.len();
            end = block.end;
            if bytes.is_empty() {
                bytes = block.bytes;
            } else {
                bytes.extend(block.bytes);
            }
        }
        drop(buffer);
        let span = Span {
            first: position,
            offset: 0,
            len: bytes.len(),
            arrival: None,
        };
        Ok((end > position).then(|| Chunk {
            partition,
            start: position,
            end,
            format: Format::Json,
            positions: Positions::Records,
            bytes: bytes.into(),
            spans: vec![span],
            unread: None,
            lost: 0,
        }))
    }

    fn origin(&self, _partition: u32) -> String {
        "memory".to_owned()
    }

    fn on_arrival(&mut self, wake: Wake) {
        *held(&self.0.wake) = Some(wake);
    }
}
