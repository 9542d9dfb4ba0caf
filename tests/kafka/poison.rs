//! Records that no one can read, of every kind, among good ones.

use crate::clicks::{Clicks, click, counts, kill_and_start, rejected, total, wait_for};
use crate::kafka::Record;

/// Each poison, and how its reason begins.
fn poison() -> Vec<(Vec<u8>, &'static str)> {
    let at = r#""click_time":"2022-01-01 10:00:00""#;
    let deep = 100_000;
    vec![
        (b"\xff\xfe\xfd".to_vec(), "expected value"),
        (
            b"{\"user_id\":\"\xff\","
                .iter()
                .chain(at.as_bytes())
                .chain(b"}")
                .copied()
                .collect(),
            "invalid unicode",
        ),
        (br#"{"user_id":"u","click_"#.to_vec(), "EOF while parsing"),
        (
            format!(r#"{{"user_id":7,{at}}}"#).into(),
            "invalid type: integer `7`",
        ),
        (format!("{{{at}}}").into(), "missing field `user_id`"),
        (
            format!(r#"{{"user_id":"{}",{at}}}"#, "[".repeat(deep)).into(),
            "",
        ),
        (
            format!(r#"{{"user_id":{},{at}}}"#, "[".repeat(deep)).into(),
            "invalid type: sequence",
        ),
        (
            format!(r#"{{"user_id":"u","user_id":"v",{at}}}"#).into(),
            "duplicate field `user_id`",
        ),
        (
            br#"{"user_id":"u","click_time":NaN}"#.to_vec(),
            "expected value",
        ),
        (
            br#"{"user_id":"u","click_time":Infinity}"#.to_vec(),
            "expected value",
        ),
        (
            br#"{"user_id":"u","click_time":9223372036854775808}"#.to_vec(),
            "",
        ),
        (
            br#"{"user_id":"u","click_time":9223372036854775807}"#.to_vec(),
            "time outside the years",
        ),
        (
            br#"{"user_id":"u","click_time":"2022-02-30 10:00:00"}"#.to_vec(),
            "",
        ),
        (
            br#"["u","2022-01-01 10:00:00"]"#.to_vec(),
            "a record is a JSON object",
        ),
        (b"null".to_vec(), "invalid type: null"),
        (
            format!("{}{}", click("u", 1), click("u", 1)).into(),
            "trailing characters",
        ),
        (b"\0\0\0\0\0".to_vec(), "expected value"),
        (b"".to_vec(), "EOF while parsing"),
    ]
}

#[test]
fn the_good_ones_count_and_the_bad_ones_are_listed() {
    let Some(topic) = Clicks::new(1) else {
        return;
    };
    let poison = poison();
    let mut records = Vec::new();
    for (i, (value, _)) in (0..).zip(&poison) {
        records.push(Record::new(click("good", i)));
        records.push(Record::new(value.clone()));
    }
    records.push(Record::new(click("good", 59)));
    topic.produce(&records);
    let launch = topic.launch();
    let service = launch.start_ready();
    topic.wait_for_the_end(&service);

    // A user may have any name, even one of brackets.
    let named = poison
        .iter()
        .position(|(_, reason)| reason.is_empty())
        .unwrap();
    let counted = counts(&service);
    assert_eq!(counted["good"], poison.len() as u64 + 1);
    assert_eq!(counted.len(), 2, "{:?}", counted.keys());
    let rejected_now = rejected(&service);
    let expected = poison.iter().enumerate().filter(|(i, _)| *i != named);
    let expected: Vec<_> = expected
        .map(|(i, (_, begin))| (2 * i as u64 + 1, *begin))
        .collect();
    assert_eq!(rejected_now.len(), expected.len(), "{rejected_now:?}");
    for ((partition, offset, reason), (at, begin)) in rejected_now.iter().zip(&expected) {
        assert_eq!((*partition, *offset), (0, *at), "{reason}");
        assert!(reason.starts_with(begin), "at {at}: {reason}");
        assert!(!reason.is_empty());
    }
    assert_eq!(service.stream("clicks")["rejected"], expected.len());

    let service = kill_and_start(service, &launch);
    wait_for(&service, poison.len() as u64 + 2);
    assert_eq!(rejected(&service), rejected_now);
}

#[test]
fn what_a_topic_may_do_with_poison() {
    let Some(topic) = Clicks::new(1) else {
        return;
    };
    let good = |second| Record::new(click("u", second));
    topic.produce(&[good(0), Record::new("{"), good(1)]);
    let service = topic
        .launch()
        .set("STREAMS__CLICKS__POISON", "skip")
        .start_ready();
    wait_for(&service, 2);
    assert_eq!(rejected(&service), []);
    assert_eq!(service.stream("clicks")["rejected"], 1);
    assert_eq!(total(&service), 2);
}
