//! Brokers that are gone and rights that are taken away: told, and gone on from.

use crate::clicks::{
    Clicks, clicks, is_idle, positions, problem, total, wait_for, wait_for_epochs,
    wait_for_problem, wait_until_well,
};
use crate::kafka::{Broker, until};

#[test]
fn a_broker_that_is_gone_is_told_and_waited_for() {
    let Some(mut broker) = Broker::start() else {
        return;
    };
    let topic = Clicks::with(&broker, 1, &[]);
    let launch = topic.launch().set("TIME__IDLE_TIMEOUT", "1s");
    let service = launch.start_ready();
    topic.produce(&clicks(1, 0..10));
    wait_for(&service, 10);

    // While the service runs.
    broker.kill();
    let told = wait_for_problem(&service, "no broker of");
    assert!(
        told.contains(&format!("'{}' can be reached", broker.address())),
        "{told}"
    );
    let since = service.stream("clicks")["problem"]["since"]
        .as_i64()
        .unwrap();
    wait_for_epochs(&service, 2000);
    assert!(
        !is_idle(&service, 0),
        "it is not silent, it cannot be heard"
    );
    assert_eq!(total(&service), 10, "what is known is served");
    assert_eq!(
        service.stream("clicks")["problem"]["since"],
        since,
        "it began once"
    );
    broker.start_again();
    topic.produce(&clicks(1, 10..20));
    wait_for(&service, 20);
    wait_until_well(&service);
    topic.wait_for_the_end(&service);
    until("silence", || is_idle(&service, 0).then_some(()));
    topic.produce(&clicks(1, 20..21));
    wait_for(&service, 21);

    // While it starts: with everything in a checkpoint it can be read.
    assert!(service.stop().success());
    broker.kill();
    let service = launch.start_ready();
    wait_for_problem(&service, "no broker of");
    wait_for_epochs(&service, 2000);
    assert!(
        !is_idle(&service, 0),
        "what was not looked for is not silent"
    );
    assert_eq!((total(&service), positions(&service)), (21, vec![21]));
    broker.start_again();
    topic.produce(&clicks(1, 21..30));
    wait_for(&service, 30);
    service.kill();

    // While it starts, with records to be read again.
    let launch = launch.set("SNAPSHOT__INTERVAL", "1h");
    let service = launch.start_ready();
    topic.produce(&clicks(1, 30..40));
    wait_for(&service, 40);
    service.kill();
    broker.kill();
    let service = launch.start();
    assert_eq!(service.get("/healthz").status, 200);
    let told = wait_for_problem(&service, "no broker of");
    assert!(told.contains(broker.address()), "{told}");
    assert_eq!(service.get("/readyz").status, 503);
    broker.start_again();
    service.wait_ready();
    assert_eq!((total(&service), positions(&service)), (40, vec![40]));
    topic.produce(&clicks(1, 40..50));
    wait_for(&service, 50);
    wait_until_well(&service);
}

#[test]
fn a_right_that_is_taken_away_is_told_and_comes_back() {
    let Some(broker) = Broker::shared() else {
        return;
    };
    let Some(tools) = broker.tools() else {
        return;
    };
    let topic = Clicks::with(broker, 1, &[]);
    let service = topic.launch().start_ready();
    topic.produce(&clicks(1, 0..10));
    wait_for(&service, 10);
    tools.revoke_reading(&topic.topic);
    let told = wait_for_problem(&service, "authorization failed");
    assert!(told.contains(&topic.topic), "{told}");
    wait_for_epochs(&service, 1500);
    assert_eq!(total(&service), 10);
    assert!(problem(&service).is_some(), "it is told until it is over");
    tools.restore_reading(&topic.topic);
    topic.produce(&clicks(1, 10..20));
    wait_for(&service, 20);
    wait_until_well(&service);
}
