//! A kill or a loss of power after each call of a recorded run: what it leaves on disk is enough.

use std::collections::BTreeMap;

use crate::images::{Disk, Ending, Image, POWER};
use crate::layer::{Layer, sites};
use crate::script::{Actor, Recording, each, launch, recover};

/// Every different directory that such an end can leave, with how much the client had been told.
fn ends(ending: Ending) -> Vec<(Image, usize)> {
    let recording = Recording::get();
    let (mut disk, mut told, mut ends) = (Disk::default(), 0, BTreeMap::new());
    for call in &recording.calls {
        disk.apply(call);
        told += usize::from(call.op == "answer");
        // Of two ends with the same directory the later one promises more.
        ends.insert(disk.image(ending), told);
    }
    assert_eq!(told, recording.told.len());
    ends.into_iter().collect()
}

fn recover_each(ending: Ending) {
    let ends = ends(ending);
    assert!(ends.len() > 20, "{} {ending:?}", ends.len());
    each(&ends, |(image, told)| {
        let home = tempfile::tempdir().expect("a place for the test");
        let (mut launch, lost_power) = (launch(home.path()), ending != Ending::Kill);
        image.write(&launch.data_dir());
        if lost_power {
            launch = Layer::new(home.path()).in_another_boot(&launch);
        }
        let mut actor = Actor::told(&Recording::get().told[..*told]);
        recover(&launch, &mut actor, lost_power);
    });
}

#[test]
fn the_trace_explains_every_byte_of_the_directory() {
    let recording = Recording::get();
    let mut disk = Disk::default();
    recording.calls.iter().for_each(|call| disk.apply(call));
    // A call that the layer does not know would leave something unexplained: none is forgotten.
    let (told, left) = (disk.image(Ending::Kill).0, &recording.left.0);
    for name in told.keys().chain(left.keys()) {
        assert!(
            told.get(name) == left.get(name),
            "nothing explains '{name}'"
        );
    }
    let sites = sites(&recording.calls);
    for site in [
        "write log/clicks/#.log",
        "fsync log/clicks/#.log",
        "write journal/#.jsonl",
        "fsync journal/#.jsonl",
        "rename checkpoints/#.json.tmp",
        "syncdir checkpoints",
        "unlink checkpoints/#.json",
        "unlink journal/#.jsonl",
        "rename run.json.tmp",
        "answer ",
    ] {
        assert!(sites.contains_key(site), "'{site}' is not among {sites:#?}");
    }
}

#[test]
fn without_one_kind_of_sync_a_loss_of_power_takes_what_it_kept() {
    let calls = &Recording::get().calls;
    // With the names of what was to be kept by it.
    for (site, kept) in [
        ("fsync log/clicks/#.log", "log/clicks/"),
        ("syncdir log/clicks", "log/clicks/"),
        ("fsync journal/#.jsonl", "journal/"),
        ("syncdir journal", "journal/"),
        ("fsync checkpoints/#.json.tmp", "checkpoints/"),
        ("syncdir checkpoints", "checkpoints/"),
        ("fsync run.json.tmp", "run.json"),
        ("syncdir ", "run.json"),
    ] {
        let (mut whole, mut without) = (Disk::default(), Disk::default());
        for call in calls {
            whole.apply(call);
            if call.site() != site {
                without.apply(call);
            }
        }
        let left = |disk: Disk| {
            let mut image = disk.image(Ending::Power).0;
            image.retain(|name, bytes| name.starts_with(kept) && bytes.is_some());
            image
        };
        assert_ne!(left(whole), left(without), "'{site}' keeps nothing");
    }
}

#[test]
fn a_kill_after_any_call_loses_and_doubles_nothing() {
    recover_each(Ending::Kill);
}

#[test]
fn a_loss_of_power_after_any_call_loses_and_doubles_nothing() {
    POWER.into_iter().for_each(recover_each);
}
