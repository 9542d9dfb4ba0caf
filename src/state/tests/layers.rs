//! Checkpoints of changes: whatever is written, merged, torn and started again, the newest says
//! what there is, every retained one is whole, and the oldest needed shares nothing with the
//! newest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::checkpoints::{files, manifest, opened};
use super::*;
use crate::columns::merge::{Marks, Merge, Wanted, changes_of, rows_of};
use crate::columns::{from_batch, to_batch};
use crate::time::Epoch;

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Row {
    key: u8,
    value: u32,
}

type State = BTreeMap<u8, u32>;

const BOUNDARY: &str = "q/window.0";

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// These keys change, or go where nothing is said; a checkpoint is published.
    Publish(BTreeMap<u8, Option<u32>>, Option<String>),
    /// Segments are merged if it is time; after so many of them the process may be told to stop.
    Compact(Option<usize>),
    /// The process dies while it writes a checkpoint, and another begins with the newest.
    Die(BTreeMap<u8, Option<u32>>),
    /// The oldest checkpoint with a label is deleted.
    Unlabel,
}

fn changes() -> impl Strategy<Value = BTreeMap<u8, Option<u32>>> {
    prop::collection::btree_map(0_u8..40, prop::option::weighted(0.7, any::<u32>()), 0..12)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let label = prop::option::weighted(0.1, Just("before".to_owned()));
    let step = prop_oneof![
        6 => (changes(), label).prop_map(|(changes, label)| Step::Publish(changes, label)),
        4 => prop::option::weighted(0.3, 0_usize..2).prop_map(Step::Compact),
        2 => changes().prop_map(Step::Die),
        1 => Just(Step::Unlabel),
    ];
    prop::collection::vec(step, 1..30)
}

/// Writes changes as one worker's segment.
fn write(writer: &CheckpointWriter, changes: &BTreeMap<u8, Option<u32>>) {
    let rows: Vec<Row> = (changes.iter())
        .map(|(key, value)| Row {
            key: *key,
            value: value.unwrap_or_default(),
        })
        .collect();
    let marks = Marks {
        share: None,
        identities: changes.keys().map(|key| Box::from([*key])).collect(),
        owners: changes.keys().map(|key| u64::from(*key)).collect(),
        diffs: (changes
            .values()
            .map(|value| if value.is_some() { 1 } else { -1 }))
        .collect(),
    };
    writer.is_of_changes(BOUNDARY, Some(9));
    if !rows.is_empty() {
        let batch = changes_of(&to_batch(&rows).unwrap(), marks, 0).unwrap();
        writer.write_segment(BOUNDARY, 0, &batch).unwrap();
    }
}

fn publish(
    store: &CheckpointStore,
    epoch: Epoch,
    changes: &BTreeMap<u8, Option<u32>>,
    label: Option<String>,
) {
    let writer = store.begin(epoch, 1).unwrap();
    write(&writer, changes);
    let manifest = Manifest {
        label,
        ..manifest()
    };
    writer.publish(manifest).unwrap();
}

fn apply(state: &mut State, changes: &BTreeMap<u8, Option<u32>>) {
    for (key, value) in changes {
        match value {
            Some(value) => state.insert(*key, *value),
            None => state.remove(key),
        };
    }
}

fn state_of(checkpoint: &Checkpoint) -> State {
    let rows = Merge::new(checkpoint.layers(BOUNDARY), Wanted::Standing);
    let rows = rows.flat_map(|batch| from_batch::<Row>(&rows_of(&batch.unwrap())).unwrap());
    rows.map(|row| (row.key, row.value)).collect()
}

fn names(manifest: &Manifest) -> BTreeSet<String> {
    manifest
        .segments()
        .map(|(_, segment)| segment.file.clone())
        .collect()
}

/// What is there is what was published.
fn check(dir: &Path, store: &CheckpointStore, known: &BTreeMap<Epoch, (State, bool)>) {
    assert_eq!(store.verify(None).unwrap(), []);
    let listed: BTreeSet<Epoch> = store
        .list()
        .unwrap()
        .iter()
        .map(|info| info.epoch)
        .collect();
    let newest = known.keys().next_back();
    assert_eq!(listed.last(), newest, "the newest is there");
    for (epoch, (_, is_labelled)) in known {
        assert!(
            !is_labelled || listed.contains(epoch),
            "{epoch} has a label"
        );
    }
    for epoch in &listed {
        let checkpoint = store.newest_valid_through(*epoch).unwrap().unwrap();
        assert_eq!(checkpoint.manifest().epoch, *epoch);
        assert_eq!(state_of(&checkpoint), known[epoch].0, "checkpoint {epoch}");
    }
    if let Some(needed) = store.oldest_needed().unwrap() {
        let manifest = |epoch| {
            let found = store.newest_valid_through(epoch).unwrap().unwrap();
            found.manifest().clone()
        };
        let (newest, since) = (manifest(Epoch::MAX), manifest(Epoch::MAX).lineage.since);
        let apart = manifest(since);
        assert!(apart.epoch <= since && needed <= apart.epoch);
        assert!(names(&newest).is_disjoint(&names(&apart)));
    }
    drop(files(dir));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_newest_says_what_there_is_whatever_happens(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let (mut data, mut store) = opened(dir.path());
        let (mut state, mut epoch) = (State::new(), 0);
        let mut known: BTreeMap<Epoch, (State, bool)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Publish(changes, label) => {
                    epoch += 1;
                    apply(&mut state, &changes);
                    publish(&store, epoch, &changes, label.clone());
                    known.insert(epoch, (state.clone(), label.is_some()));
                }
                Step::Compact(stop) => {
                    let mut left = stop.unwrap_or(usize::MAX);
                    let mut goes_on = || {
                        left = left.saturating_sub(1);
                        left > 0
                    };
                    store.compact(&mut goes_on).unwrap();
                }
                Step::Die(changes) => {
                    epoch += 1;
                    let writer = store.begin(epoch, 1).unwrap();
                    write(&writer, &changes);
                    std::mem::forget(writer);
                    drop((store, data));
                    (data, store) = opened(dir.path());
                    if let Some(newest) = store.newest_valid().unwrap() {
                        store.resume(&newest);
                    }
                }
                Step::Unlabel => {
                    let oldest = known.iter().find(|(_, (_, is_labelled))| *is_labelled);
                    if let Some(oldest) = oldest.map(|(epoch, _)| *epoch) {
                        if store.delete(oldest, false).is_ok() {
                            known.remove(&oldest);
                        }
                        if let Some(newest) = known.keys().next_back() {
                            state.clone_from(&known[newest].0);
                        }
                        drop((store, data));
                        (data, store) = opened(dir.path());
                        if let Some(newest) = store.newest_valid().unwrap() {
                            store.resume(&newest);
                        }
                    }
                }
            }
            check(dir.path(), &store, &known);
        }
        drop(data);
    }
}

#[test]
fn a_flipped_byte_of_any_layer_leaves_the_checkpoint_that_shares_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, store) = opened(dir.path());
    let all = |value: u32| (0..40).map(|key| (key, Some(value))).collect();
    publish(&store, 1, &all(1), None);
    assert!(store.compact(&mut || true).unwrap());
    for epoch in 2..5 {
        publish(
            &store,
            epoch,
            &BTreeMap::from([(1, Some(9)), (2, None)]),
            None,
        );
    }
    let newest = store.newest_valid().unwrap().unwrap();
    assert_eq!(newest.manifest().lineage.since, 1);
    let segments = dir.path().join("checkpoints/segments");
    for name in names(newest.manifest()) {
        let path = segments.join(name);
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(37) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let problems = store.verify(Some(4)).unwrap();
            assert_eq!((problems.len(), &problems[0].file), (1, &path), "byte {at}");
            let found = store.newest_valid().unwrap().unwrap();
            assert!(found.manifest().epoch < 4);
            assert_eq!(store.verify(Some(1)).unwrap(), []);
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(store.newest_valid().unwrap().unwrap().manifest().epoch, 4);
}
