//! Where the reading of a topic begins.

use std::collections::BTreeMap;

use crate::clicks::{Clicks, click, clicks, kill_and_start, rejected, total, wait_for};
use crate::kafka::Record;

#[test]
fn reading_begins_where_it_is_told() {
    let Some(topic) = Clicks::new(2) else {
        return;
    };
    let record = |second: u32| {
        let partition = i32::try_from(second % 2).unwrap();
        let at = 1_000_000 + i64::from(second) * 1000;
        Record::new(click("u", second)).partition(partition).at(at)
    };
    let records: Vec<_> = (0..20).map(record).collect();
    topic.produce(&records);
    topic
        .client
        .commit(&topic.topic, &topic.topic, &BTreeMap::from([(0, 4)]));
    // The 14th was written at second 1014.
    for (start, count) in [
        ("", 20),
        ("earliest", 20),
        ("0:7,1:9", 4),
        ("1:9", 11),
        ("1970-01-01T00:16:54Z", 6),
        ("2100-01-01T00:00:00Z", 0),
        ("group", 16),
        ("latest", 0),
    ] {
        let home = tempfile::tempdir().unwrap();
        let launch = topic
            .launch_in(home.path())
            .set("KAFKA__GROUP", &topic.topic);
        // What it reads must not become where the next one begins.
        let launch = launch.set("SNAPSHOT__INTERVAL", "1h");
        let launch = match start {
            "" => launch,
            start => launch.set("STREAMS__CLICKS__START", start),
        };
        let service = launch.start_ready();
        crate::kafka::until("both partitions", || {
            let read = crate::clicks::positions(&service);
            (read == [10, 10] || total(&service) == count && read.len() == 2).then_some(())
        });
        wait_for(&service, count);
        service.kill();
    }
}

#[test]
fn latest_is_remembered_before_there_is_a_checkpoint() {
    let Some(topic) = Clicks::new(2) else {
        return;
    };
    topic.produce(&clicks(2, 0..10));
    let launch = topic.launch().set("STREAMS__CLICKS__START", "latest");
    let launch = launch.set("SNAPSHOT__INTERVAL", "1h");
    let service = launch.start_ready();
    crate::kafka::until("the end", || {
        (crate::clicks::positions(&service) == [5, 5]).then_some(())
    });
    topic.produce(&clicks(2, 10..15));
    wait_for(&service, 5);
    service.kill();
    // Written while nobody reads: after the start, so it counts.
    topic.produce(&clicks(2, 15..20));
    let service = launch.start_ready();
    wait_for(&service, 10);
    let service = kill_and_start(service, &launch);
    wait_for(&service, 10);
    assert_eq!(rejected(&service), []);
}
