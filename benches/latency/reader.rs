//! A reader of the view: it waits for each epoch, looks up the newest record's row, checks that the
//! row has it, and notes for every record that came with the epoch how long ago it was due.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use waterclock::prelude::*;
use waterclock::view::{KeyRange, Views};

use super::load::Load;
use super::support::{now, wait};
use super::{Click, NAME, WINDOW};

/// What was seen since the last look at it.
pub struct Seen {
    /// Microseconds from when a record was due to when a reader had its row.
    pub latency: Histogram<u64>,
    /// The longest time between two epochs that were seen.
    pub gap: Duration,
    /// How many epochs were seen.
    pub epochs: u64,
    /// The records before this were seen.
    pub through: u64,
    last: Instant,
}

/// The reader, a thread of its own until the service ends.
#[derive(Clone)]
pub struct Reader(Arc<Mutex<Seen>>);

impl Reader {
    /// Starts to read.
    pub fn start(views: &Arc<Views>, load: &Load) -> Reader {
        let latency = Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds are in order");
        let seen = Arc::new(Mutex::new(Seen {
            latency,
            gap: Duration::ZERO,
            epochs: 0,
            through: 0,
            last: now(),
        }));
        let (tell, shown) = channel();
        let tell = Mutex::new(tell);
        views.on_publish(Box::new(move |_| {
            // A reader that is gone need not be told.
            let _ = tell.lock().map(|tell| tell.send(()));
        }));
        let (views, load, reader) = (Arc::clone(views), load.clone(), Reader(seen));
        let reading = reader.clone();
        let named = std::thread::Builder::new().name("reader".to_owned());
        let thread = named.spawn(move || reading.read(&views, &load, &shown));
        thread.expect("a thread starts");
        reader
    }

    fn read(&self, views: &Views, load: &Load, shown: &Receiver<()>) {
        while shown.recv().is_ok() {
            while shown.try_recv().is_ok() {}
            let Some(labels) = views.upper().filter(|_| views.is_ready()) else {
                continue;
            };
            let stream = labels.streams.get(Click::STREAM);
            let position = stream.and_then(|stream| Some(stream.partitions.get(&0)?.position));
            let position = position.unwrap_or(0);
            let before = self.look(|seen| seen.through);
            if position > before {
                check(views, load, labels.epoch, position - 1);
            }
            self.note(load, before..position, now());
        }
    }

    fn note(&self, load: &Load, records: std::ops::Range<u64>, at: Instant) {
        let phase = (!records.is_empty()).then(|| load.phase(records.start));
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.gap = seen.gap.max(at - seen.last);
        seen.last = at;
        seen.epochs += 1;
        seen.through = seen.through.max(records.end);
        for record in records {
            let due = phase.as_ref().expect("there are records").due(record);
            let micros = at.saturating_duration_since(due).as_micros();
            seen.latency
                .saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
        }
    }

    /// Looks at what was seen.
    pub fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets what was seen, but not how far; gives it.
    pub fn take(&self) -> (Histogram<u64>, Duration, u64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = Histogram::new_from(&seen.latency);
        let latency = std::mem::replace(&mut seen.latency, empty);
        let gap = std::mem::take(&mut seen.gap);
        (latency, gap, std::mem::take(&mut seen.epochs))
    }

    /// Waits until all that was handed over is seen.
    pub fn catch_up(&self, load: &Load) {
        while self.look(|seen| seen.through) < load.handed() {
            wait(Duration::from_millis(1));
        }
    }
}

/// Reads the row of the newest record; it must count that record, and none after it.
fn check(views: &Views, load: &Load, epoch: u64, newest: u64) {
    let phase = load.phase(newest);
    let start = phase.window(newest);
    let end = start + i64::try_from(WINDOW.as_millis()).unwrap_or(0);
    let window = Window {
        start: Timestamp(start),
        end: Timestamp(end),
    };
    let key = serde_json::json!([phase.user(newest), window]).to_string();
    let view = views.query(NAME).expect("it runs");
    let range = KeyRange::key(view.spec(), &key).expect("it is a key");
    let page = view
        .read(epoch, &range, None, 2, None)
        .expect("the newest epoch is readable");
    let rows: Vec<&str> = page.rows.iter().map(|(row, _)| row.value()).collect();
    let count = phase.count(newest);
    let is_right = match count {
        Some(count) => rows == [count.to_string()],
        None => rows.len() == 1,
    };
    assert!(
        is_right,
        "the row of {key} with record {newest}: {rows:?}, not {count:?}"
    );
}
