//! Answers that are streams: append-only rows, keyed by the place of their records, which go when
//! their retention has passed, over restarts and on any number of workers.
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use sales::{Sale, sale, written};
use waterclock::prelude::*;
use waterclock::query::Overrides;
use waterclock::testing::{Round, Steps};

#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/sales.rs"]
mod sales;

const NAME: &str = "large_sales";

/// Sales of at least ten, for a minute.
fn large(flow: Flow) -> Stream<(Text, i64)> {
    flow.stream::<Sale>()
        .filter(|sale| sale.amount >= 10)
        .map(|sale| (sale.shop.clone(), sale.amount))
        .retain(minutes(1))
}

fn query() -> Vec<Query> {
    vec![Query::new(NAME, "Large sales.", large)]
}

/// Feeds an epoch with a sale of shop `a`, and as many others.
fn take(steps: &mut Steps, partition: u32, sales: &[(i64, i64)]) {
    let lines: Vec<String> = (sales.iter())
        .map(|(amount, second)| sale("a", *amount, *second))
        .collect();
    steps.epoch(Round::new().records("sales", partition, &lines.join("\n")));
}

fn rows(steps: &Steps) -> Vec<String> {
    written(&steps.rows(NAME))
}

/// The rows that the last epoch changed, and by how much.
fn changed(steps: &Steps) -> Vec<String> {
    written(&steps.changes(NAME).pop().unwrap().1)
}

#[test]
fn rows_come_with_their_epoch_and_go_when_the_watermark_has_passed() {
    let mut steps = Steps::start(query(), 2);
    take(&mut steps, 0, &[(10, 5), (1, 6), (20, 7)]);
    let both = [r#"["sales",0,0] ["a",10]"#, r#"["sales",0,69] ["a",20]"#];
    assert_eq!(rows(&steps), both);

    // The watermark is at 64.999 s, and then at 65 s.
    steps.epoch(Round::new().records("sales", 0, r#"{"shop":"b","amount":1,"at":64999}"#));
    assert_eq!(rows(&steps), both);
    take(&mut steps, 0, &[(1, 65)]);
    assert_eq!(changed(&steps), [r#"["sales",0,0] ["a",10] x-1"#]);
    assert_eq!(rows(&steps), both[1..]);

    // What comes when its row would be gone is late; what comes before is not.
    take(&mut steps, 0, &[(30, 5), (40, 6)]);
    assert_eq!(rows(&steps).len(), 2);
    assert_eq!(steps.late_total(NAME), 1);
    assert!(written(&steps.late(NAME))[0].contains(r#""reason":"late""#));
}

#[test]
fn a_row_is_there_for_an_epoch_at_least() {
    let mut steps = Steps::start(query(), 2);
    take(&mut steps, 0, &[(10, 5), (20, 500)]);
    assert_eq!(rows(&steps).len(), 2, "both came with one epoch");
    steps.epoch(Round::new());
    assert_eq!(rows(&steps), [r#"["sales",0,35] ["a",20]"#]);
}

#[test]
fn rows_outlive_a_restart_on_other_workers_and_still_go_in_time() {
    let mut steps = Steps::start(query(), 2);
    take(&mut steps, 0, &[(10, 5), (11, 6), (12, 40)]);
    take(&mut steps, 1, &[(13, 8), (14, 9)]);
    let before = rows(&steps);
    assert_eq!(before.len(), 5);
    let saved = steps.checkpoint();
    drop(steps);

    let mut steps = Steps::with(query(), 3, Some(saved), &Overrides::default());
    assert_eq!(rows(&steps), before);
    take(&mut steps, 0, &[(1, 68)]);
    take(&mut steps, 1, &[(1, 68)]);
    let gone = ["sales\",0,0", "sales\",0,35", "sales\",1,0"];
    for (row, gone) in changed(&steps).iter().zip(gone) {
        assert!(row.contains(gone) && row.ends_with("x-1"), "{row}");
    }
    assert_eq!(rows(&steps).len(), 2);
}

#[test]
fn several_records_made_of_one_share_its_key() {
    fn twice(flow: Flow) -> Stream<i64> {
        flow.stream::<Sale>()
            .flat_map(|sale| [sale.amount, sale.amount, -sale.amount])
    }
    let mut steps = Steps::start(vec![Query::new(NAME, "", twice)], 1);
    take(&mut steps, 0, &[(10, 5)]);
    let want = [r#"["sales",0,0] -10"#, r#"["sales",0,0] 10 x2"#];
    assert_eq!(rows(&steps), want);
}
