//! Merged layers against a map that is told the same.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::columns::{from_batch, to_batch};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Row {
    key: u8,
    text: String,
}

/// The row as an older build had it.
#[derive(Serialize, Deserialize)]
struct Narrow {
    key: u8,
}

/// What a layer says of a row: how it is, or that it is gone.
type Said = BTreeMap<u8, Option<u8>>;

const HASH: u64 = 7;

fn batch(said: &[(u8, Option<u8>)], is_narrow: bool) -> RecordBatch {
    let row = |(key, value): &(u8, Option<u8>)| Row {
        key: *key,
        text: value.unwrap_or_default().to_string(),
    };
    let rows: Vec<Row> = said.iter().map(row).collect();
    let columns = if is_narrow {
        let narrow: Vec<Narrow> = rows.iter().map(|row| Narrow { key: row.key }).collect();
        to_batch(&narrow).unwrap()
    } else {
        to_batch(&rows).unwrap()
    };
    let marks = Marks {
        share: None,
        identities: rows.iter().map(|row| Box::from([row.key])).collect(),
        owners: rows.iter().map(|row| row.key.into()).collect(),
        diffs: (said
            .iter()
            .map(|(_, value)| if value.is_some() { 1 } else { -1 }))
        .collect(),
    };
    changes_of(&columns, marks, HASH).unwrap()
}

/// A layer in batches of that many rows.
fn layer(said: &Said, size: usize, is_narrow: bool) -> Layer {
    let said: Vec<_> = said.iter().map(|(key, value)| (*key, *value)).collect();
    let batches: Vec<_> = said
        .chunks(size)
        .map(|part| Ok(batch(part, is_narrow)))
        .collect();
    Box::new(batches.into_iter())
}

fn keys(batch: &RecordBatch) -> Vec<u8> {
    let rows: Vec<Narrow> = from_batch(&rows_of(batch)).unwrap();
    rows.into_iter().map(|row| row.key).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn of_each_row_the_newest_layer_counts(
        layers in prop::collection::vec(
            (prop::collection::btree_map(any::<u8>(), prop::option::of(any::<u8>()), 0..40),
             1_usize..9, any::<bool>()),
            0..6,
        ),
    ) {
        let mut newest: BTreeMap<u8, (Option<u8>, bool)> = BTreeMap::new();
        for (said, _, is_narrow) in &layers {
            newest.extend(said.iter().map(|(key, value)| (*key, (*value, *is_narrow))));
        }
        let merge = |wanted: Wanted| {
            let layers = layers.iter().map(|(said, size, narrow)| layer(said, *size, *narrow));
            Merge::new(layers.collect(), wanted).map(Result::unwrap).collect::<Vec<_>>()
        };
        // Every row that stands, each from the layer that said so last.
        let mut standing = Vec::new();
        for batch in merge(Wanted::Standing) {
            let found = keys(&batch);
            prop_assert!(found.is_sorted());
            let is_narrow = batch.column_by_name("text").is_none();
            standing.extend(found.into_iter().map(|key| (key, is_narrow)));
        }
        standing.sort_unstable();
        let expected = newest.iter().filter(|(_, (value, _))| value.is_some());
        let expected: Vec<_> = expected.map(|(key, (_, is_narrow))| (*key, *is_narrow)).collect();
        prop_assert_eq!(&standing, &expected);
        // That rows are gone is said as well, where older layers may be below.
        let changes: usize = merge(Wanted::Changes).iter().map(RecordBatch::num_rows).sum();
        prop_assert_eq!(changes, newest.len());
        // Of an owner's, its own; of owners hashed in another way, all.
        let owned = |hashing| {
            let owns = Box::new(|owner| owner % 2 == 1);
            let mut found: Vec<u8> =
                merge(Wanted::Owned { hashing, owns }).iter().flat_map(keys).collect();
            found.sort_unstable();
            found
        };
        let all = || expected.iter().map(|(key, _)| *key);
        prop_assert_eq!(owned(HASH), all().filter(|key| key % 2 == 1).collect::<Vec<_>>());
        prop_assert_eq!(owned(HASH + 1), all().collect::<Vec<_>>());
    }
}

#[test]
fn a_layer_that_cannot_be_read_ends_the_merge() {
    let said = Said::from([(1, Some(1))]);
    let broken: Layer = Box::new(std::iter::once(Err(MergeError("torn".to_owned()))));
    let mut merge = Merge::new(vec![layer(&said, 1, false), broken], Wanted::Standing);
    assert_eq!(merge.next().unwrap().unwrap_err().to_string(), "torn");
    assert!(merge.next().is_none());
}

#[test]
fn full_batches_are_given_out_as_they_fill() {
    let rows = |from: u32| -> Layer {
        let rows: Vec<Row> = (0..100_000)
            .map(|n| Row {
                key: 0,
                text: (from + n).to_string(),
            })
            .collect();
        let marks = Marks {
            share: None,
            identities: (from..from + 100_000)
                .map(|n| Box::from(n.to_be_bytes()))
                .collect(),
            owners: vec![0; rows.len()],
            diffs: vec![1; rows.len()],
        };
        let batch = changes_of(&to_batch(&rows).unwrap(), marks, HASH);
        Box::new(std::iter::once(batch))
    };
    let merged: Vec<_> = Merge::new(vec![rows(0), rows(50_000)], Wanted::Standing)
        .map(|batch| batch.unwrap().num_rows())
        .collect();
    assert_eq!(merged, [BATCH_ROWS, BATCH_ROWS, 150_000 - 2 * BATCH_ROWS]);
}
