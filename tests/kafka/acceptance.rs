//! Everything at once: clicks of an independent client, kills, a broker that restarts, partitions
//! that are added. In the end all is counted once.
//!
//! `WATERCLOCK_TEST_CLICKS` says how many there are (100000).

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::Builder;
use std::time::Instant;

use crate::clicks::{Clicks, QUERY, counts, kill_and_start, positions, rejected};
use crate::kafka::{Broker, until};
use crate::service;

const USERS: u64 = 100;

const NOBODY: &str = "nobody panics with the lock";

/// Lets the producer write so many lines, and no more.
#[derive(Default)]
struct Gate {
    lines: Mutex<u64>,
    changed: Condvar,
}

impl Gate {
    fn open(&self, lines: u64) {
        *self.lines.lock().expect(NOBODY) = lines;
        self.changed.notify_all();
    }

    /// A line, once it may be written.
    fn pass(&self, i: u64, count: u64) -> String {
        let open = self.lines.lock().expect(NOBODY);
        let open = self.changed.wait_while(open, |open| *open <= i);
        drop(open.expect(NOBODY));
        line(i, count)
    }
}

/// A line of the producer, `KEY<TAB>VALUE`. Times grow over half an hour.
fn line(i: u64, count: u64) -> String {
    let user = i * 7919 % USERS;
    let ms = 1_640_995_200_000 + i * 1_800_000 / count;
    format!("u{user}\t{{\"user_id\":\"u{user}\",\"click_time\":{ms}}}")
}

fn expected(count: u64) -> BTreeMap<String, u64> {
    let mut expected = BTreeMap::new();
    for i in 0..count {
        *expected
            .entry(format!("u{}", i * 7919 % USERS))
            .or_default() += 1;
    }
    expected
}

/// Waits until so many offsets are read, however long it takes as long as it gets on.
fn wait_for_offsets(service: &service::Client, count: u64) {
    let mut read = 0;
    while read < count {
        read = until("more to be read", || {
            let now = positions(service).iter().sum();
            (now > read).then_some(now)
        });
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "it tells how long it took")]
fn a_million_clicks_are_counted_once_whatever_happens() {
    let Some(mut broker) = Broker::start() else {
        return;
    };
    let text = std::env::var("WATERCLOCK_TEST_CLICKS").unwrap_or_default();
    let count: u64 = text.parse().unwrap_or(100_000);
    let topic = Clicks::with(&broker, 4, &[]);
    let tools = broker.tools().expect("the broker is of Java");
    let begun = Instant::now();
    let (client, name) = (topic.client.clone(), topic.topic.clone());
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    let producer = Builder::new().name("producer".to_owned()).spawn(move || {
        let lines = |range: Range<u64>| range.map(|i| opened.pass(i, count));
        tools.produce(&name, lines(0..count / 2));
        client.raise_partitions(&name, 6);
        tools.produce(&name, lines(count / 2..count));
    });
    let producer = producer.unwrap();

    // Each fault comes while records are written that are to be read.
    let launch = topic.launch();
    let mut service = launch.start_ready();
    for (open, read, more) in [(25, 15, 40), (40, 30, 65), (75, 70, 95)] {
        gate.open(count * open / 100);
        wait_for_offsets(&service, count * read / 100);
        gate.open(count * more / 100);
        service = kill_and_start(service, &launch);
        if more == 65 {
            wait_for_offsets(&service, count * 55 / 100);
            gate.open(count * 75 / 100);
            broker.restart();
        }
    }
    assert!(positions(&service).iter().sum::<u64>() < count);
    gate.open(count);
    producer.join().unwrap();
    wait_for_offsets(&service, count);
    let read = begun.elapsed();

    assert_eq!(counts(&service), expected(count));
    topic.wait_for_the_end(&service);
    assert_eq!(positions(&service).len(), 6);
    assert_eq!(topic.committed(), topic.client.end_offsets(&topic.topic));
    assert_eq!(
        (service.query(QUERY)["late"].as_u64(), rejected(&service)),
        (Some(0), vec![])
    );
    let said = format!(
        "{count} clicks of {USERS} users over {:?}, all counted once after {read:.1?}: three \
         kills, a restart of the broker, partitions raised from 4 to 6; committed {:?}",
        positions(&service),
        topic.committed(),
    );
    // Nobody may be left to read it.
    let _ = writeln!(std::io::stderr(), "{said}");
}
