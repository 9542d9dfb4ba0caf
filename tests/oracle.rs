//! Incremental answers against a naive recomputation, over random events, orders, cuts, numbers
//! of workers and restarts.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::FileFailurePersistence;

use support::answers::{self, Rows};
use support::cases::{Case, Input, case};
use support::names::{QUERIES, streams_of};
use support::queries::{LASTING, STREAMS};
use support::runs::{
    Manner, Said, feed, fold, number, plain, replay, start, start_changed, streams_of_all,
};
use support::times::{Prefix, prefixes};
use waterclock::dataflow::bounded::KEPT;
use waterclock::prelude::Timestamp;
use waterclock::row::Row;
use waterclock::testing::{Bag, Mark, Round};

#[path = "support/oracle/mod.rs"]
mod support;

fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|n| n.parse().ok()).unwrap_or(cases),
        max_shrink_iters: 4096,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/oracle.regressions",
        ))),
        ..ProptestConfig::default()
    }
}

fn manner() -> impl Strategy<Value = Manner> {
    let chunk_bytes = prop_oneof![Just(None), Just(Some(1)), (50..400_usize).prop_map(Some)];
    let at_once = prop_oneof![Just(1), Just(usize::MAX), 2..5_usize];
    (1..=3_usize, chunk_bytes, at_once).prop_map(|(workers, chunk_bytes, at_once)| Manner {
        workers,
        chunk_bytes,
        at_once,
    })
}

type Outcome = Result<(), TestCaseError>;

/// The rows that only one of two bags has, with how often.
fn difference(left: &Rows, right: &Rows) -> Rows {
    let mut rows = left.clone();
    for (row, count) in right {
        *rows.entry(row.clone()).or_insert(0) -= count;
    }
    rows.retain(|_, count| *count != 0);
    rows
}

/// Holds what a run said against the recomputation of each prefix.
fn check(case: &Case, prefixes: &[Prefix], said: &Said) -> Outcome {
    for query in QUERIES {
        let mut changes = said.changes[query].iter().peekable();
        let mut rows = Rows::new();
        let mut watermark = None;
        for (at, prefix) in prefixes.iter().enumerate() {
            let epoch = number(at);
            if let Some((_, changed)) = changes.next_if(|(of, _)| *of == epoch) {
                // What was final may only go, with its window.
                // A record that is an answer is final as it comes.
                let was_final =
                    |at: &Option<i64>| query != "passed" && at.is_some() && watermark >= *at;
                let mut changed_after = plain(changed).into_iter();
                let wrong = changed_after.find(|((.., at), diff)| was_final(at) && *diff > 0);
                prop_assert_eq!(wrong, None, "{} at epoch {}", query, epoch);
                fold(&mut rows, changed);
            }
            watermark = prefix.over(streams_of(query));
            let negative = rows.iter().find(|(_, count)| **count < 0);
            prop_assert_eq!(negative, None, "{} at epoch {}", query, epoch);
            let expected = answers::answer(query, case.shape, prefix).rows;
            let wrong = difference(&rows, &expected);
            prop_assert_eq!(wrong, Rows::new(), "{} at epoch {}", query, epoch);
        }
        prop_assert_eq!(changes.next(), None, "{}: an epoch that was not fed", query);
    }
    Ok(())
}

/// Holds what was not taken, and the watermarks.
fn check_beside(case: &Case, prefixes: &[Prefix], said: &Said) -> Outcome {
    let Some(all) = prefixes.last() else {
        return Ok(());
    };
    for query in QUERIES {
        let expected = answers::answer(query, case.shape, all).late;
        let wrong = difference(&plain(&said.late[query]), &expected);
        prop_assert_eq!(wrong, Rows::new(), "late for {}", query);
        let total: i64 = expected.values().sum();
        prop_assert_eq!(said.late_total[query].cast_signed(), total, "{}", query);
    }
    for stream in STREAMS {
        let raw = |value: &str| -> Option<String> {
            let value: serde_json::Value = serde_json::from_str(value).ok()?;
            Some(value["record"].as_str()?.to_owned())
        };
        let rejected = plain(&said.rejected[stream]).into_keys();
        let rejected: Vec<_> = rejected.map(|(key, value, _)| (key, raw(&value))).collect();
        let expected = answers::rejected(all, stream).into_iter();
        let expected: Vec<_> = expected.map(|(key, line)| (key, Some(line))).collect();
        prop_assert_eq!(rejected, expected, "rejected of {}", stream);
        let watermarks = prefixes.iter().map(|prefix| prefix.watermarks[stream]);
        let expected: Vec<_> = (0..).map(number).zip(watermarks).collect();
        prop_assert_eq!(&said.watermarks[stream], &expected, "{}", stream);
    }
    Ok(())
}

fn run(case: &Case, inputs: &[Input], manner: Manner) -> Said {
    let mut steps = start(case.shape, case.lateness(), manner, None);
    feed(&mut steps, manner, inputs, 0..inputs.len(), Mark::None);
    Said::of(&steps)
}

/// Stops after each of the epochs, and goes on from a checkpoint of it in the next manner. What
/// was said is put together as if nothing had happened.
fn run_with_stops(
    case: &Case,
    inputs: &[Input],
    manners: &[Manner],
    stops: &BTreeSet<usize>,
) -> Said {
    let mut said: Option<Said> = None;
    let (mut saved, mut first) = (None, 0);
    let ends = stops.iter().map(|at| at + 1).chain([inputs.len()]);
    for (end, manner) in ends.zip(manners.iter().cycle()) {
        let mut steps = start(case.shape, case.lateness(), *manner, saved.take());
        if first < end {
            feed(&mut steps, *manner, inputs, first..end, Mark::Checkpoint);
            saved = Some(steps.saved(number(end - 1)));
        }
        let now = Said::of(&steps);
        said = Some(match said {
            None => now,
            Some(before) => before.then(now),
        });
        first = end;
    }
    said.expect("ends with the last epoch")
}

proptest! {
    #![proptest_config(config(16))]

    #[test]
    fn every_prefix_is_answered_as_if_computed_anew(case in case(10), manner in manner()) {
        let inputs = case.inputs();
        let prefixes = prefixes(&inputs, case.lateness());
        let said = run(&case, &inputs, manner);
        check(&case, &prefixes, &said)?;
        check_beside(&case, &prefixes, &said)?;
    }

    #[test]
    fn how_it_is_run_changes_nothing(case in case(10), one in manner(), other in manner()) {
        let inputs = case.inputs();
        prop_assert_eq!(run(&case, &inputs, one), run(&case, &inputs, other));
    }

    #[test]
    fn a_restart_changes_nothing(
        case in case(10),
        manners in prop::collection::vec(manner(), 1..4),
        stops in prop::collection::btree_set(0..10_usize, 1..4),
    ) {
        let inputs = case.inputs();
        let stops = stops.into_iter().filter(|at| *at < inputs.len()).collect();
        let stopped = run_with_stops(&case, &inputs, &manners, &stops);
        prop_assert_eq!(stopped, run(&case, &inputs, manners[0]));
    }

    #[test]
    fn a_restart_with_other_queries_keeps_what_they_share(
        case in case(8),
        manners in (manner(), manner()),
        stop in 0..8_usize,
        names in subsequence(QUERIES.to_vec(), 1..QUERIES.len()),
    ) {
        let inputs = case.inputs();
        let prefixes = prefixes(&inputs, case.lateness());
        let stop = stop.min(inputs.len() - 1);
        let mut steps = start(case.shape, case.lateness(), manners.0, None);
        feed(&mut steps, manners.0, &inputs, 0..stop + 1, Mark::Checkpoint);
        let saved = steps.saved(number(stop));
        let mut steps = start_changed(case.shape, case.lateness(), manners.1, saved, &names);
        let streams = streams_of_all(&names);
        let inputs: Vec<_> = inputs.iter().map(|input| input.of(&streams)).collect();
        for (at, prefix) in prefixes.iter().enumerate().skip(stop) {
            if at > stop {
                feed(&mut steps, manners.1, &inputs, at..at + 1, Mark::None);
            }
            for name in &names {
                let asked = if *name == "count" { "busy" } else { *name };
                let expected = answers::answer(asked, case.shape, prefix).rows;
                let wrong = difference(&plain(&steps.rows(name)), &expected);
                prop_assert_eq!(wrong, Rows::new(), "{} at epoch {}", name, number(at));
            }
        }
        for name in &names {
            let expected = answers::answer(name, case.shape, &prefixes[inputs.len() - 1]).late;
            let wrong = difference(&plain(&steps.late(name)), &expected);
            prop_assert_eq!(wrong, Rows::new(), "late for {}", name);
        }
    }

    #[test]
    fn a_replay_ends_with_the_rows_of_the_live_service(
        case in case(6),
        shape in select(LASTING.to_vec()),
        manner in manner(),
        split_bytes in 1..2000_usize,
    ) {
        let case = Case { shape, ..case };
        // Files do not fall silent.
        let inputs = case.steady();
        let mut steps = start(shape, case.lateness(), manner, None);
        feed(&mut steps, manner, &inputs, 0..inputs.len(), Mark::None);
        steps.epoch(Round::new().mark(Mark::End));
        // Sessions take records in journal order, and a replay cuts other epochs.
        let in_journal_order = ["sessions", "visits", "ttl"];
        for query in QUERIES.into_iter().filter(|query| !in_journal_order.contains(query)) {
            let workers = manner.workers % 3 + 1;
            let (rows, late, rejected) =
                replay(shape, case.lateness(), query, &inputs, workers, split_bytes);
            let differing = difference(&plain(&steps.rows(query)), &rows);
            prop_assert_eq!(differing, Rows::new(), "{}", query);
            prop_assert_eq!(steps.late_total(query), late, "{}", query);
            let streams = streams_of(query).iter();
            let live: u64 = streams.map(|stream| steps.rejected_total(stream)).sum();
            prop_assert_eq!(live, rejected, "{}", query);
        }
    }
}

fn hits(times: impl IntoIterator<Item = i64>) -> String {
    let hit = |at| format!(r#"{{"key":1,"part":2,"n":3,"x":0.5,"at":{at}}}"#) + "\n";
    times.into_iter().map(hit).collect()
}

/// Two workers, each epoch alone.
const PLAINLY: Manner = Manner {
    workers: 2,
    chunk_bytes: None,
    at_once: 1,
};

#[test]
fn what_is_far_ahead_of_its_arrival_moves_nothing() {
    let mut steps = start(1, 0, PLAINLY, None);
    let hour = 3_600_000;
    let arrived = |times: [i64; 2]| {
        let arrival = Some(Timestamp(1000));
        Round::new().arrived("hits", 0, &hits(times), arrival)
    };
    steps.epoch(arrived([1, hour + 1001]));
    assert_eq!(steps.watermark("hits"), Some(Timestamp(1)));
    let rejected = steps.rejected("hits");
    assert!(
        rejected[0].0.value().ends_with(r#""reason":"ahead"}"#),
        "{rejected:?}"
    );
    assert_eq!(steps.rows("kept").len(), 1);
    steps.epoch(arrived([2, hour + 1000]));
    assert_eq!(steps.watermark("hits"), Some(Timestamp(hour + 1000)));
    assert_eq!(steps.rejected_total("hits"), 1);
}

#[test]
fn of_many_late_records_the_newest_are_kept_and_all_are_counted() {
    let said = |manner: Manner| {
        let mut steps = start(1, 0, manner, None);
        let late = 11_000;
        let first = hits([1_000_000]) + &hits((0..late).map(|i| i % 900));
        let mut rounds = vec![Round::new().records("hits", 0, &first)];
        rounds.push(
            Round::new()
                .records("hits", 0, &hits([5, 6]))
                .mark(Mark::Checkpoint),
        );
        for round in &mut rounds {
            round.chunk_bytes = manner.chunk_bytes;
        }
        steps.feed(rounds);
        steps.settle();
        let (late, saved) = (steps.late("count"), steps.saved(2));
        assert_eq!(steps.late_total("count"), 11_002);
        let restored = start(1, 0, PLAINLY, Some(saved));
        assert_eq!(restored.late("count"), late);
        assert_eq!(restored.late_total("count"), 11_002);
        late
    };
    let chunk_bytes = Some(10_000);
    let late = said(PLAINLY);
    assert_eq!(late.len(), KEPT);
    assert_eq!(
        late,
        said(Manner {
            workers: 3,
            chunk_bytes,
            ..PLAINLY
        })
    );
}

/// The changes of `count` that each epoch's hits of `(key, at)` make, as sign and key.
fn counted(epochs: &[&[(u8, i64)]]) -> Vec<Vec<String>> {
    // Windows of 1 s, kept for 1.5 s, open for 0.4 s after their end.
    let mut steps = start(7, 0, PLAINLY, None);
    let hit = |(key, at): &(u8, i64)| {
        format!(r#"{{"key":{key},"part":2,"n":3,"x":0.5,"at":{at}}}"#) + "\n"
    };
    let short = |(row, diff): (Row, i64)| format!("{diff} {}", row.key());
    let mut feed = |hits: &[(u8, i64)]| {
        let lines: String = hits.iter().map(hit).collect();
        let epoch = steps.epoch(Round::new().records("hits", 0, &lines));
        let changes = steps.changes("count").into_iter();
        let of = |(at, changes): (_, Bag)| (at == epoch).then_some(changes);
        changes.filter_map(of).flatten().map(short).collect()
    };
    epochs.iter().map(|hits| feed(hits)).collect()
}

#[test]
fn all_rows_of_a_window_go_at_one_instant_and_nothing_else_does() {
    let hits: [&[_]; 3] = [
        &[(1, 0), (2, 999), (3, 1000), (1, 500)],
        &[(9, 2499)],
        &[(8, 2500)],
    ];
    let changes = counted(&hits);
    assert_eq!(changes[0].len(), 3);
    // Nothing happens while it becomes final, nor just before it goes.
    assert_eq!(changes[1], [r#"1 [9,{"start":2000,"end":3000}]"#]);
    let gone = [
        r#"-1 [1,{"start":0,"end":1000}]"#,
        r#"-1 [2,{"start":0,"end":1000}]"#,
    ];
    assert_eq!(changes[2][..2], gone);
}

#[test]
fn a_window_that_time_leaps_over_is_there_for_one_epoch() {
    let leaps: [&[_]; 3] = [
        &[(1, 0), (9, 100_000)],
        &[(2, 100_001), (9, 200_000)],
        &[(9, 200_001)],
    ];
    let of = |key: u8, start: i64| format!(r#"[{key},{{"start":{start},"end":{}}}]"#, start + 1000);
    let [one, two, nine] = [of(1, 0), of(2, 100_000), of(9, 100_000)];
    let last = of(9, 200_000);
    let changes = counted(&leaps);
    let (gone, come) = (
        |key: &str| format!("-1 {key}"),
        |key: &str| format!("1 {key}"),
    );
    assert_eq!(changes[0], [come(&one), come(&nine)]);
    assert_eq!(changes[1], [gone(&one), come(&two), come(&last)]);
    assert_eq!(changes[2][..2], [gone(&two), gone(&nine)]);
}
