//! Readers while a writer works: a bank whose money moves, and sums to zero in every read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::{Change, History, KeyRange, Labels, QuerySpec, ReadError, View, Views};
use crate::row::Row;
use crate::time::Epoch;

/// Moves money between accounts, each epoch in several parts over two shards.
fn move_money(views: &Views, accounts: usize, epochs: Epoch, is_over: &AtomicBool) {
    let view = views.query("bank").unwrap();
    let account = |n: usize, balance: i64| Row::new(&format!("{n:05}"), &balance, None).unwrap();
    let mut balances = vec![0_i64; accounts];
    for shard in 0..2 {
        let opened = (0..accounts)
            .filter(|n| n % 2 == shard)
            .map(|n| (account(n, 0), 1));
        view.apply(shard, 1, opened.collect());
    }
    views.publish(Labels {
        epoch: 1,
        ..Labels::default()
    });
    let mut dice = 7_usize;
    for epoch in 2..epochs {
        for _ in 0..20 {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_041);
            let (from, to) = ((dice >> 33) % accounts, (dice >> 13) % accounts);
            for (n, amount) in [(from, -5), (to, 5)] {
                let gone = (account(n, balances[n]), -1);
                balances[n] += amount;
                view.apply(n % 2, epoch, vec![gone, (account(n, balances[n]), 1)]);
            }
        }
        views.publish(Labels {
            epoch,
            ..Labels::default()
        });
    }
    is_over.store(true, Ordering::Release);
}

/// Reads every account, `limit` at a time.
fn balances_at(view: &View, at: Epoch, limit: usize) -> Result<BTreeMap<String, i64>, ReadError> {
    let (mut balances, mut next) = (BTreeMap::new(), None);
    loop {
        let page = view.read(at, &KeyRange::all(), next.as_ref(), limit, None)?;
        for (row, count) in page.rows {
            assert_eq!(count, 1);
            let before = balances.insert(row.key().to_string(), row.value().parse().unwrap());
            assert_eq!(before, None, "account {} twice at epoch {at}", row.key());
        }
        next = page.next;
        if next.is_none() {
            return Ok(balances);
        }
    }
}

/// What the changes since another epoch make of its balances.
fn folded(
    views: &Views,
    view: &View,
    (from, balances): (Epoch, &BTreeMap<String, i64>),
    to: Epoch,
) -> Result<BTreeMap<String, i64>, ReadError> {
    let mut balances = balances.clone();
    let span = views.span(view.spec(), from, to)?;
    for Change { row, diff, .. } in view.changes(&span)? {
        let balance: i64 = row.value().parse().unwrap();
        match diff {
            -1 => assert_eq!(balances.remove(row.key()), Some(balance)),
            1 => assert_eq!(balances.insert(row.key().to_string(), balance), None),
            _ => panic!("{diff} times the balance of {}", row.key()),
        }
    }
    Ok(balances)
}

/// Reads the bank until the writer is done; gives how many whole reads succeeded.
fn audit(views: &Views, accounts: usize, is_over: &AtomicBool) -> usize {
    let view = views.query("bank").unwrap();
    let (mut whole, mut last) = (0, None);
    loop {
        let seen_last = is_over.load(Ordering::Acquire);
        let Some(at) = views.upper().map(|labels| labels.epoch) else {
            continue;
        };
        match balances_at(view, at, if whole % 2 == 0 { 97 } else { 10_000 }) {
            Ok(balances) => {
                assert_eq!(
                    (balances.values().sum::<i64>(), balances.len()),
                    (0, accounts)
                );
                if let Some((from, before)) = &last {
                    match folded(views, view, (*from, before), at) {
                        Ok(after) => assert_eq!(after, balances, "from {from} to {at}"),
                        Err(error) => assert!(matches!(error, ReadError::Gone { .. }), "{error}"),
                    }
                }
                last = Some((at, balances));
                whole += 1;
            }
            Err(error) => assert!(matches!(error, ReadError::Gone { .. }), "{error}"),
        }
        if seen_last {
            return whole;
        }
    }
}

#[test]
fn every_reader_sees_all_the_money_while_it_moves() {
    // A short history, so that readers are often overtaken, and a long one.
    for (epochs, accounts) in [(2, 2000), (64, 500)] {
        let key_schema = json!({"type": "string"});
        let spec = QuerySpec {
            name: "bank".into(),
            key_schema,
            ..QuerySpec::default()
        };
        let history = History {
            epochs,
            ..History::default()
        };
        let views = Views::new(1, vec![spec], vec![], 2, history);
        views.set_ready();
        let is_over = AtomicBool::new(false);
        let audits: usize = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| audit(&views, accounts, &is_over)))
                .collect();
            move_money(&views, accounts, 800, &is_over);
            readers
                .into_iter()
                .map(|reader| reader.join().unwrap())
                .sum()
        });
        assert!(audits >= 3, "the last state at least is read by everyone");
    }
}
