//! Partitions that are added to a topic.

use crate::clicks::{Clicks, clicks, positions, wait_for};

#[test]
fn new_partitions_are_found_and_read_from_their_beginning() {
    let Some(topic) = Clicks::new(2) else {
        return;
    };
    topic.produce(&clicks(2, 0..10));
    let launch = topic.launch().set("STREAMS__CLICKS__START", "latest");
    let service = launch.start_ready();
    crate::kafka::until("the end", || (positions(&service) == [5, 5]).then_some(()));
    topic.client.raise_partitions(&topic.topic, 4);
    // They are there before they are found.
    topic.produce(&clicks(4, 12..24));
    wait_for(&service, 12);
    assert_eq!(positions(&service), [8, 8, 3, 3]);
    assert!(service.stop().success());

    topic.client.raise_partitions(&topic.topic, 6);
    topic.produce(&clicks(6, 24..36));
    let service = launch.start_ready();
    wait_for(&service, 24);
    topic.wait_for_the_end(&service);
    assert_eq!(positions(&service), [10, 10, 5, 5, 2, 2]);
}
