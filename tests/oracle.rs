//! Incremental answers against a naive recomputation, over random events, orders, cuts, numbers
//! of workers and restarts.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::FileFailurePersistence;

use support::answers::{self, Rows};
use support::cases::{Case, Input, case};
use support::queries::{LASTING, QUERIES, STREAMS, streams_of};
use support::runs::{Manner, Said, feed, fold, number, plain, replay, start};
use support::times::{Prefix, prefixes};
use waterclock::testing::{Mark, Round};

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
        for (at, prefix) in prefixes.iter().enumerate() {
            let epoch = number(at);
            if let Some((_, changed)) = changes.next_if(|(of, _)| *of == epoch) {
                fold(&mut rows, changed);
            }
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
    #![proptest_config(config(24))]

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
        for query in QUERIES {
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
