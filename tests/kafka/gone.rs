//! Records that are gone before they were read, and topics that are others than they were.

use crate::clicks::{
    Clicks, clicks, is_idle, positions, problem, rejected, total, wait_for, wait_for_epochs,
    wait_for_problem, wait_until_well,
};

#[test]
fn what_is_lost_is_told_and_the_rest_goes_on() {
    let Some(topic) = Clicks::new(1) else {
        return;
    };
    let launch = topic
        .launch()
        .without("--queries")
        .without(crate::clicks::QUERY);
    let launch = launch.set("TIME__IDLE_TIMEOUT", "1s");
    topic.produce(&clicks(1, 0..10));
    let service = launch.start_ready();
    wait_for(&service, 10);
    assert!(service.stop().success());
    topic.produce(&clicks(1, 10..20));
    topic.client.delete_records(&topic.topic, 0, 15);

    let service = launch.start_ready();
    let told = wait_for_problem(&service, "lost");
    let expected = format!(
        "stream 'clicks': topic '{}' partition 0 begins at offset 15, but 10 is next: 5 records \
         are lost; set on_lost = \"skip\" in [streams.clicks] to go on and have them counted, or \
         start with --from-scratch",
        topic.topic
    );
    assert_eq!(told, expected);
    let log = service.stderr();
    assert_eq!(
        log.matches("begins at offset 15, but 10 is next").count(),
        1,
        "{log}"
    );
    let doctor = service.cli(&["doctor"]);
    assert!(!doctor.status.success());
    assert!(String::from_utf8_lossy(&doctor.stdout).contains(&expected));
    // Others are served, and it is not idle.
    let user = r#"{"user_id":"u","country":"at","updated_at":1}"#;
    let token = service.token_of("users", user);
    service
        .get(&format!("/v1/queries/clicks_per_country?after={token}"))
        .ok();
    wait_for_epochs(&service, 2000);
    assert!(!is_idle(&service, 0));
    assert_eq!((total(&service), positions(&service)), (10, vec![10]));
    service.kill();

    let launch = launch.set("STREAMS__CLICKS__ON_LOST", "skip");
    let service = launch.start_ready();
    wait_for(&service, 15);
    let reason = "lost: the 5 positions before 15 are no longer there".to_owned();
    assert_eq!(rejected(&service), [(0, 10, reason)]);
    wait_until_well(&service);
    topic.wait_for_the_end(&service);
}

#[test]
fn what_a_restart_needs_and_does_not_find_keeps_it_from_starting() {
    let Some(topic) = Clicks::new(1) else {
        return;
    };
    topic.produce(&clicks(1, 0..10));
    let launch = topic.launch().set("SNAPSHOT__INTERVAL", "1h");
    let service = launch.start_ready();
    wait_for(&service, 10);
    service.kill();
    // The journal says that all ten were shown.
    topic.client.delete_records(&topic.topic, 0, 5);
    assert!(!launch.start().wait().success());
    let said = launch.stderr();
    let lost = "begins at offset 5, but 0 is next: 5 records are lost; set on_lost";
    assert!(said.contains(lost), "{said}");

    let service = launch.set("STREAMS__CLICKS__ON_LOST", "skip").start_ready();
    wait_for(&service, 5);
    let reason = "lost: the 5 positions before 5 are no longer there".to_owned();
    assert_eq!(rejected(&service), [(0, 0, reason)]);
}

/// Deletes the topic, and creates another of its name with so many records.
fn recreate(topic: &Clicks, records: u32) {
    topic.client.delete_topic(&topic.topic);
    topic.client.create_topic(&topic.topic, 1, &[]);
    topic.produce(&clicks(1, 100..100 + records));
}

#[test]
fn a_topic_made_anew_while_the_service_is_down_is_noticed() {
    let Some(topic) = Clicks::new(1) else {
        return;
    };
    topic.produce(&clicks(1, 0..10));
    let launch = topic.launch();
    let service = launch.start_ready();
    wait_for(&service, 10);
    assert!(service.stop().success());
    for (records, told) in [
        (
            4,
            "ends at offset 4, but 10 is next: the topic was made anew",
        ),
        (
            10,
            "has another record at offset 9 than was read: the topic was made anew",
        ),
        (
            40,
            "has another record at offset 9 than was read: the topic was made anew",
        ),
    ] {
        recreate(&topic, records);
        let service = launch.start_ready();
        wait_for_problem(&service, told);
        assert_eq!((total(&service), positions(&service)), (10, vec![10]));
        assert!(service.stop().success());
    }
    let launch = topic.launch().args(&["--from-scratch"]);
    let service = launch.start_ready();
    wait_for(&service, 40);
}

#[test]
fn a_topic_made_anew_while_the_service_runs_is_noticed() {
    let Some(topic) = Clicks::new(1) else {
        return;
    };
    topic.produce(&clicks(1, 0..10));
    let service = topic.launch().start_ready();
    wait_for(&service, 10);
    topic.client.delete_topic(&topic.topic);
    let told = wait_for_problem(&service, "there is no topic");
    assert!(told.contains(&topic.topic), "{told}");
    topic.client.create_topic(&topic.topic, 1, &[]);
    topic.produce(&clicks(1, 100..140));
    let told = wait_for_problem(&service, "the topic was made anew");
    assert!(
        told.contains("has another record at offset 9 than was read"),
        "{told}"
    );
    assert_eq!(total(&service), 10);
    assert_eq!(problem(&service), Some(told));
}
