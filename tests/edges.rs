//! Records and sources that go wrong: a record counts wholly or not at all, and what cannot be
//! read is said.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::Builder;
use std::time::Duration;

use bytes::Bytes;
use sales::{Sale, per_shop, sale, written};
use serde::{Deserialize, Serialize};
use waterclock::prelude::*;
use waterclock::query::{Catalog, Overrides};
use waterclock::record::{Chunk, Unread};
use waterclock::source::file::{FileOptions, FileSource};
use waterclock::source::{Partition, Source, SourceError};
use waterclock::testing::{MemorySource, Round, Steps, batch};
use waterclock::worker::replay::{Replay, ReplayError};

#[path = "support/sales.rs"]
mod sales;

/// How long anything may take before the test has failed; generous, because machines are shared.
const PATIENCE: Duration = Duration::from_secs(60);

fn lucky(sale: &Sale) -> i64 {
    assert!(sale.amount != 1, "unlucky");
    sale.amount
}

fn total(flow: Flow) -> Table<(Text, Window), i128> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(tumbling(seconds(10)))
        .sum(lucky)
}

fn mean(flow: Flow) -> Table<(Text, Window), Float> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(tumbling(seconds(10)))
        .avg(lucky)
}

fn least(flow: Flow) -> Table<(Text, Window), i64> {
    flow.stream::<Sale>()
        .key_by(|sale| sale.shop.clone())
        .window(tumbling(seconds(10)))
        .min(lucky)
}

#[test]
fn a_record_whose_code_panics_leaves_no_trace() {
    let expected = [("total", "6"), ("mean", "3.0"), ("least", "2")];
    let queries = || {
        vec![
            Query::new("total", "", total),
            Query::new("mean", "", mean),
            Query::new("least", "", least),
        ]
    };
    // Of the second shop nothing is left, not even a row.
    let records = [("a", 2), ("a", 1), ("b", 1), ("a", 4)];
    let records = records.map(|(shop, amount)| sale(shop, amount, 5));
    let mut steps = Steps::start(queries(), 2);
    for record in &records {
        steps.epoch(Round::new().records("sales", 0, record));
    }
    for (name, value) in expected {
        let row = format!(r#"["a",{{"start":0,"end":10000}}] {value}"#);
        assert_eq!(written(&steps.rows(name)), [row], "{name}");
        let refused = steps.late(name);
        assert_eq!(refused.len(), 2, "{name}: {refused:?}");
        for (row, _) in refused {
            assert!(row.value().contains("unlucky"), "{name}: {}", row.value());
        }
    }
    for (query, (name, value)) in queries().into_iter().zip(expected) {
        let row =
            format!(r#"{{"key":["a",{{"start":0,"end":10000}}],"value":{value},"final":true}}"#);
        assert_eq!(
            batch(query, &[("sales", &records.join("\n"))]),
            [row],
            "{name}"
        );
    }
}

/// What a sensor measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    sensor: Text,
    #[serde(alias = "temperature")]
    celsius: f64,
    at: Timestamp,
}

impl Event for Reading {
    const STREAM: &'static str = "readings";

    fn time(&self) -> Timestamp {
        self.at
    }
}

fn hottest(flow: Flow) -> Table<(Text, Window), Float> {
    flow.stream::<Reading>()
        .key_by(|reading| reading.sensor.clone())
        .window(tumbling(seconds(10)))
        .max(|reading| Float(reading.celsius))
}

fn replay(query: Query, source: impl Source + 'static) -> Replay {
    let catalog = Catalog::of(std::slice::from_ref(&query), &Overrides::default());
    Replay::new(
        query,
        catalog.expect("the query builds"),
        vec![Box::new(source)],
    )
}

#[test]
fn a_number_that_is_none_is_rejected_also_where_csv_can_say_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("readings.csv");
    let text = "sensor,temperature,at,note\na,1.5,1000,nan\na,NaN,2000,\na,-inf,3000,\n\
                a, Infinity,4000,\nnan,2,5000,\n";
    std::fs::write(&path, text).unwrap();
    let source = FileSource::open("readings", &[path], FileOptions::default()).unwrap();
    let replayed = replay(Query::new("hottest", "", hottest), source)
        .run()
        .unwrap();
    assert_eq!((replayed.events, replayed.rejected), (5, 3));
    // As text the word is as good as any, and nobody reads the note.
    assert_eq!(
        written(&replayed.rows),
        [
            r#"["a",{"start":0,"end":10000}] 1.5"#,
            r#"["nan",{"start":0,"end":10000}] 2.0"#,
        ]
    );
}

/// A source that cannot be read from a position on.
struct Broken {
    source: MemorySource,
    from: u64,
    /// Where it is for others to read: whether somebody tried to.
    tried: Option<Arc<AtomicBool>>,
}

impl Broken {
    fn is_torn(&self) -> SourceError {
        SourceError::Damaged {
            stream: self.stream().to_owned(),
            object: "the tape".to_owned(),
            detail: "it is torn".to_owned(),
        }
    }
}

impl Source for Broken {
    fn stream(&self) -> &str {
        self.source.stream()
    }

    fn partitions(&mut self) -> Result<Vec<Partition>, SourceError> {
        match &self.tried {
            Some(tried) if tried.load(Ordering::Acquire) => Err(self.is_torn()),
            _ => self.source.partitions(),
        }
    }

    fn read(
        &mut self,
        partition: u32,
        position: u64,
        max_bytes: usize,
        until: Option<u64>,
    ) -> Result<Option<Chunk>, SourceError> {
        let read = self.source.read(partition, position, max_bytes, until)?;
        let (Some(mut chunk), true) = (read.clone(), position >= self.from) else {
            return Ok(read);
        };
        let Some(tried) = self.tried.clone() else {
            return Err(self.is_torn());
        };
        chunk.unread = Some(Unread::new(chunk.bytes.len(), move || {
            tried.store(true, Ordering::Release);
            Bytes::new()
        }));
        chunk.bytes = Bytes::new();
        Ok(Some(chunk))
    }

    fn origin(&self, _partition: u32) -> String {
        "memory".to_owned()
    }
}

#[test]
fn a_source_that_breaks_ends_the_replay() {
    let records: Vec<String> = (0..10).map(|second| sale("a", 1, second)).collect();
    // Half-way, or at the last record, when all plans are made, and the worker is who reads it.
    let last = records.join("\n").rfind('\n').expect("there are lines") as u64;
    for (from, tried) in [(60, None), (last, Some(Arc::default()))] {
        let source = MemorySource::new("sales", &[&records.join("\n")]);
        let broken = Broken {
            source,
            from,
            tried,
        };
        let mut replay = replay(Query::new("per_shop", "", per_shop), broken);
        // A chunk for each record: there is work under way when it breaks.
        (replay.workers, replay.split_bytes) = (2, 1);
        let (done, outcome) = channel();
        let run = move || done.send(replay.run());
        let thread = Builder::new().name("replay".to_owned()).spawn(run);
        drop(thread.unwrap());
        match outcome.recv_timeout(PATIENCE).expect("it ends") {
            Err(ReplayError::Source(error)) => {
                assert!(error.to_string().contains("is torn"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}
