//! A kill before each call: of the running service, of the one that recovers, again and again.

use std::os::unix::process::ExitStatusExt;

use crate::images::{Disk, Ending, Image};
use crate::layer::{Layer, sites};
use crate::script::{Act, Actor, Recording, SCRIPT, each, launch as at, recover};
use crate::service::Launch;

/// Lets a service live until the rule kills it, and proves that it did.
fn live_until_killed(launch: &Launch, layer: &Layer, actor: &mut Actor, acts: &[Act]) {
    let before = layer.landed().len();
    let status = match launch.spawn().url_or_end() {
        Ok(service) => {
            if actor.play(&service, acts).is_ok() {
                service.ask_to_stop();
            }
            service.wait()
        }
        Err(status) => status,
    };
    assert_eq!(status.signal(), Some(9), "{status} {}", launch.stderr());
    assert_eq!(layer.landed().len(), before + 1, "{:?}", layer.landed());
}

#[test]
fn a_kill_before_each_kind_of_call_loses_and_doubles_nothing() {
    // The first and about the last time that each is passed: how many journal lines one fsync
    // covers differs from run to run.
    let sites = sites(&Recording::get().calls);
    let ends = sites.iter().flat_map(|(site, count)| {
        let mut times = vec![1, if *count > 6 { count - 3 } else { *count }];
        times.dedup();
        times.into_iter().map(move |time| (site.clone(), time))
    });
    each(&ends.collect::<Vec<_>>(), |(site, time)| {
        let home = tempfile::tempdir().expect("a place for the test");
        let (launch, layer) = (at(home.path()), Layer::new(home.path()));
        layer.rules(&[&format!("kill {time} {time} {site}")]);
        let mut actor = Actor::default();
        live_until_killed(&layer.under(&launch), &layer, &mut actor, &SCRIPT);
        assert_eq!(layer.landed(), [format!("kill {site}")]);
        recover(&launch, &mut actor, false);
    });
}

/// A directory that needs some repair, and what its client had been told: killed before the last
/// checkpoint counted, with a post that was stored and not acknowledged.
fn broken_off() -> (Image, Actor) {
    let recording = Recording::get();
    let is_last = |site: &str| {
        let mut calls = recording.calls.iter();
        calls
            .rposition(|call| call.site() == site)
            .expect("it is passed")
    };
    let end = is_last("rename checkpoints/#.json.tmp");
    let (mut disk, mut told) = (Disk::default(), 0);
    for call in &recording.calls[..end] {
        disk.apply(call);
        told += usize::from(call.op == "answer");
    }
    let mut image = disk.image(Ending::Kill);
    for (name, bytes) in &mut image.0 {
        // A line and a frame that were being written.
        if let Some(bytes) = bytes.as_mut().filter(|bytes| !bytes.is_empty())
            && (name.starts_with("journal/") || name.starts_with("log/clicks/0"))
        {
            let part = bytes[..bytes.len().min(20)].to_vec();
            bytes.extend(part);
        }
    }
    (image, Actor::told(&recording.told[..told]))
}

/// How a service recovers: on the same machine, or after a loss of power.
type Boot = fn(&Layer, &Launch) -> Launch;
const BOOTS: [Boot; 2] = [Layer::under, Layer::in_another_boot];

/// What a client does to a service that has recovered.
const AFTER: [Act; 4] = [Act::Post, Act::Ready, Act::Read, Act::Checkpoint];

#[test]
fn a_kill_before_each_call_of_a_recovery_changes_nothing() {
    let (image, actor) = broken_off();
    for boot in BOOTS {
        let home = tempfile::tempdir().expect("a place for the test");
        let layer = Layer::new(home.path());
        let launch = boot(&layer, &at(home.path()));
        image.write(&launch.data_dir());
        let service = launch.start();
        actor
            .clone()
            .play(&service, &AFTER)
            .expect("nobody kills it");
        service.kill();
        let sites = sites(&layer.calls());
        for site in ["truncate journal/#.jsonl", "truncate log/clicks/#.log"] {
            assert!(sites.contains_key(site), "'{site}' is not among {sites:#?}");
        }
        // How many journal lines one fsync covers differs from run to run.
        let times = |site: &str, count| if site.contains("journal") { 1 } else { count };
        let all = sites
            .iter()
            .flat_map(|(site, count)| (1..=times(site, *count)).map(move |time| (site, time)));
        each(&all.collect::<Vec<_>>(), |(site, time)| {
            let home = tempfile::tempdir().expect("a place for the test");
            let (launch, layer) = (at(home.path()), Layer::new(home.path()));
            let launch = boot(&layer, &launch);
            image.write(&launch.data_dir());
            layer.rules(&[&format!("kill {time} {time} {site}")]);
            let mut actor = actor.clone();
            live_until_killed(&launch, &layer, &mut actor, &AFTER);
            layer.rules(&[]);
            recover(&launch, &mut actor, true);
        });
    }
}

#[test]
fn twenty_crashes_in_a_row_change_nothing() {
    let (image, mut actor) = broken_off();
    let home = tempfile::tempdir().expect("a place for the test");
    let layer = Layer::new(home.path());
    let launch = layer.under(&at(home.path()));
    image.write(&launch.data_dir());
    for life in 1..=20 {
        // Each life gets a little further than the one before.
        layer.rules(&[&format!("kill {0} {0} !(open*|read*)", 2 * life)]);
        live_until_killed(&launch, &layer, &mut actor, &AFTER);
    }
    layer.rules(&[]);
    assert_eq!(layer.landed().len(), 20);
    recover(&launch, &mut actor, false);
}
