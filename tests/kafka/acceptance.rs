//! Everything at once: clicks of an independent client, kills, a broker that restarts, partitions
//! that are added. In the end all is counted once.
//!
//! `WATERCLOCK_TEST_CLICKS` says how many there are (100000).

use std::collections::BTreeMap;
use std::io::Write;
use std::thread::Builder;
use std::time::Instant;

use crate::clicks::{Clicks, QUERY, counts, kill_and_start, positions, rejected};
use crate::kafka::{Broker, until};
use crate::service;

const USERS: u64 = 100;

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
    let topic = Clicks::with(&broker, 4, &[]).unwrap();
    let tools = broker.tools().expect("the broker is of Java");
    let begun = Instant::now();
    let (client, name) = (topic.client.clone(), topic.topic.clone());
    let producer = Builder::new().name("producer".to_owned()).spawn(move || {
        tools.produce(&name, (0..count / 2).map(|i| line(i, count)));
        client.raise_partitions(&name, 6);
        tools.produce(&name, (count / 2..count).map(|i| line(i, count)));
    });
    let producer = producer.unwrap();

    let launch = topic.launch();
    let mut service = launch.start_ready();
    wait_for_offsets(&service, count / 10);
    service = kill_and_start(service, &launch);
    wait_for_offsets(&service, count * 4 / 10);
    service = kill_and_start(service, &launch);
    wait_for_offsets(&service, count * 6 / 10);
    broker.restart();
    wait_for_offsets(&service, count * 8 / 10);
    service = kill_and_start(service, &launch);
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
        "{count} clicks of {USERS} users over {:?}, all counted once after {read:.1?}: three kills, \
         a restart of the broker, partitions raised from 4 to 6; committed {:?}",
        positions(&service),
        topic.committed(),
    );
    // Nobody may be left to read it.
    let _ = writeln!(std::io::stderr(), "{said}");
}
