//! Small buffers, and partitions that wait for each other.

use crate::clicks::{
    Clicks, QUERY, click, is_ahead, is_idle, positions, rejected, total, wait_for, wait_for_epochs,
};
use crate::kafka::{Record, until};

/// A click with a kilobyte that nobody reads.
fn large(user: &str, second: u32, partition: i32) -> Record {
    let click = click(user, second);
    let fill = "x".repeat(1000);
    let value = click.replace("{\"user_id\"", &format!(r#"{{"fill":"{fill}","user_id""#));
    Record::new(value).partition(partition)
}

#[test]
fn small_buffers_lose_nothing() {
    let Some(topic) = Clicks::new(3) else {
        return;
    };
    let count = 12_000;
    let record = |i: u32| large("u", i / 10, i32::try_from(i % 3).unwrap());
    let records: Vec<_> = (0..count).map(record).collect();
    topic.produce(&records);
    let launch = topic
        .launch()
        .set("KAFKA__BUFFER_BYTES", "1048576")
        .set("EPOCH__MAX_IN_FLIGHT_BYTES", "65536")
        .set("TIME__IDLE_TIMEOUT", "1s");
    let service = launch.start_ready();
    topic.wait_for_the_end(&service);
    assert_eq!(total(&service), u64::from(count));
    assert_eq!(service.query(QUERY)["late"], 0);
    assert_eq!(rejected(&service), []);
}

#[test]
fn a_partition_that_runs_ahead_waits_for_the_slowest() {
    let Some(topic) = Clicks::new(2) else {
        return;
    };
    // An hour of the first, a minute of the second.
    let ahead: Vec<_> = (0..3600).map(|second| large("ahead", second, 0)).collect();
    let slow = |seconds: std::ops::Range<u32>| {
        let record = |second| Record::new(click("slow", second)).partition(1);
        seconds.map(record).collect::<Vec<_>>()
    };
    topic.produce(&slow(0..60));
    let launch = topic
        .launch()
        .set("STREAMS__CLICKS__MAX_DRIFT", "5m")
        .set("KAFKA__BUFFER_BYTES", "1048576")
        .set("EPOCH__MAX_IN_FLIGHT_BYTES", "131072")
        .set("TIME__IDLE_TIMEOUT", "1h");
    let service = launch.start_ready();
    wait_for(&service, 60);
    topic.produce(&ahead);
    until("it to run ahead", || is_ahead(&service, 0).then_some(()));
    let before = positions(&service);
    assert!(before[0] < 3000, "{before:?}");
    wait_for_epochs(&service, 1000);
    assert_eq!(positions(&service), before, "it waits");
    assert!(!is_ahead(&service, 1) && !is_idle(&service, 0) && !is_idle(&service, 1));
    for minute in 1..60 {
        topic.produce(&slow(minute * 60..(minute + 1) * 60));
    }
    wait_for(&service, 7200);
    until("nobody to be ahead", || {
        (!is_ahead(&service, 0)).then_some(())
    });
    assert_eq!(service.query(QUERY)["late"], 0);
}
