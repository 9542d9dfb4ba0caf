//! What is in a topic and is nobody's to read: aborted and open transactions, marks, what was
//! compacted away.

use std::time::Duration;

use crate::clicks::{
    Clicks, click, clicks, is_idle, kill_and_start, lag, positions, rejected, total, wait_for,
    wait_for_epochs,
};
use crate::kafka::{Broker, Record, unique, until};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn transactions_count_once_they_are_committed() {
    let Some(topic) = Clicks::new(1) else {
        return;
    };
    let (client, name, id) = (&topic.client, &topic.topic, unique("writer"));
    let launch = topic.launch();
    let service = launch.start_ready();
    let committed = client.begin(&id, LONG);
    committed.send(name, &clicks(1, 0..3));
    committed.commit();
    wait_for(&service, 3);
    // The mark at the end is passed, too.
    topic.wait_for_the_end(&service);
    assert_eq!(positions(&service), [4]);

    let aborted = client.begin(&id, LONG);
    aborted.send(name, &clicks(1, 10..20));
    aborted.abort();
    topic.wait_for_the_end(&service);
    assert_eq!((total(&service), positions(&service)), (3, vec![15]));

    let open = client.begin(&id, LONG);
    open.send(name, &clicks(1, 20..25));
    topic.produce(&clicks(1, 30..32));
    wait_for_epochs(&service, 1000);
    assert_eq!((total(&service), positions(&service)), (3, vec![15]));
    let service = kill_and_start(service, &launch);
    assert_eq!((total(&service), positions(&service)), (3, vec![15]));
    open.commit();
    wait_for(&service, 10);
    topic.wait_for_the_end(&service);
    assert_eq!(positions(&service), [23]);
    let service = kill_and_start(service, &launch);
    assert_eq!(
        (total(&service), positions(&service), lag(&service)),
        (10, vec![23], 0)
    );
    assert_eq!(rejected(&service), []);
}

#[test]
fn an_aborted_transaction_wakes_no_idle_partition() {
    let Some(topic) = Clicks::new(1) else {
        return;
    };
    topic.produce(&clicks(1, 0..1));
    let launch = topic.launch().set("TIME__IDLE_TIMEOUT", "1s");
    let service = launch.start_ready();
    until("silence", || is_idle(&service, 0).then_some(()));
    let aborted = topic.client.begin(&unique("writer"), LONG);
    aborted.send(&topic.topic, &clicks(1, 10..20));
    aborted.abort();
    until("the mark to be passed", || {
        assert!(is_idle(&service, 0));
        (positions(&service) == [12]).then_some(())
    });
}

#[test]
fn a_compacted_topic_is_read_over_its_gaps() {
    let settings = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("segment.ms", "100"),
        ("delete.retention.ms", "0"),
    ];
    let Some(topic) = Broker::shared().map(|broker| Clicks::with(broker, 1, &settings)) else {
        return;
    };
    let record = |second: u32| Record::new(click("u", second)).key(format!("k{}", second % 10));
    let mut second = 0;
    let left = until("the cleaner", || {
        // Only what is behind the newest segment is cleaned, and writing begins a new one.
        let records: Vec<_> = (second..second + 20).map(record).collect();
        topic.produce(&records);
        second += 20;
        let left = topic.client.read(&topic.topic).len();
        let written = usize::try_from(second).unwrap();
        (left < written / 2 && second > 60).then_some(left)
    });
    let service = topic.launch().start_ready();
    topic.wait_for_the_end(&service);
    assert_eq!(positions(&service), [u64::from(second)]);
    // It may have been cleaned further since it was counted.
    let counted = usize::try_from(total(&service)).unwrap();
    assert!((10..=left).contains(&counted), "{counted} of {left}");
    assert_eq!(rejected(&service), []);
}
