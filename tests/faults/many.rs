//! Every kind of state under faults, on one, two and three workers in turn: a kill while it is
//! written, at each boundary, and while it is loaded; checkpoints upon checkpoints.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

use crate::kinds::{self, launch};
use crate::layer::{Layer, sites};
use crate::script::{Act, Actor, each, plain_rows};
use crate::service::Service;

/// Two checkpoints, the second of what has changed, and more after it.
const SCRIPT: [Act; 9] = [
    Act::Post,
    Act::Ready,
    Act::Post,
    Act::Checkpoint,
    Act::Post,
    Act::Read,
    Act::Checkpoint,
    Act::Post,
    Act::Read,
];

/// The other number of workers comes next.
fn workers(turn: usize) -> usize {
    turn % 3 + 1
}

/// The kinds of calls that write state, each with how often one worker makes it.
fn writes() -> Vec<(String, usize)> {
    let home = tempfile::tempdir().expect("a place for the test");
    let layer = Layer::new(home.path());
    let service = layer.under(&launch(home.path(), 1)).start();
    Actor::of_kinds()
        .play(&service, &SCRIPT)
        .expect("nobody kills it");
    service.kill();
    let sites = sites(&layer.calls()).into_iter();
    sites
        .filter(|(site, _)| site.contains("checkpoints/"))
        .collect()
}

#[test]
fn a_kill_while_any_state_is_written_loses_none_on_any_number_of_workers() {
    let writes = writes();
    let of_segments = |op: &str| {
        let of = format!("{op} checkpoints/segments/");
        let names = writes.iter().filter_map(|(site, _)| site.strip_prefix(&of));
        // What waits for its pace may be nothing just then.
        let names = names.filter(|name| !name.contains("paced"));
        names.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let segments = of_segments("create");
    assert_eq!(segments, of_segments("fsync"));
    // A boundary each, besides those that two queries share, and the late and rejected records.
    assert!(segments.len() > kinds::KINDS.len(), "{segments:#?}");
    // Of every fifth of them one call, and not always the same; of the manifests each.
    let mut kills: Vec<(String, usize)> = Vec::new();
    for (place, name) in segments.iter().enumerate().step_by(5) {
        let op = ["create", "write", "fsync"][place / 5 % 3];
        let site = format!("{op} checkpoints/segments/{name}");
        let written = writes.iter().find(|(write, _)| *write == site);
        let again = written.map_or(1, |(_, times)| (*times).min(1 + place % 2));
        kills.push((site, again));
    }
    let of_manifests = writes
        .iter()
        .filter(|(site, _)| site.contains("checkpoints/#"));
    kills.extend(of_manifests.cloned());
    let turns: Vec<_> = kills.into_iter().enumerate().collect();
    each(&turns, |(turn, (site, time))| {
        let home = tempfile::tempdir().expect("a place for the test");
        let (layer, mut actor) = (Layer::new(home.path()), Actor::of_kinds());
        layer.rules(&[&format!("kill {time} {time} {site}")]);
        let service = layer.under(&launch(home.path(), workers(*turn))).start();
        let is_killed = actor.play(&service, &SCRIPT).is_err();
        let landed = layer.landed();
        assert!(
            is_killed && landed == [format!("kill {site}")],
            "{landed:?}"
        );
        drop(service);
        let service = launch(home.path(), workers(turn + 1)).start();
        actor.check(&service, false);
        service.kill();
    });
}

#[test]
fn state_goes_on_from_worker_count_to_worker_count_whatever_the_end() {
    let home = tempfile::tempdir().expect("a place for the test");
    let (layer, mut actor) = (Layer::new(home.path()), Actor::of_kinds());
    for life in 0..4 {
        let launch = layer.under(&launch(home.path(), workers(life)));
        if life > 0 {
            // Killed once more on the way there: while it checks the state, or while it loads it.
            let opened = 8 * life;
            layer.rules(&[&format!(
                "kill {opened} {opened} open checkpoints/segments/*"
            )]);
            let status = launch
                .spawn()
                .url_or_end()
                .map_or_else(|status| status, Service::wait);
            assert_eq!(status.signal(), Some(9), "{status} {}", launch.stderr());
            assert_eq!(layer.landed().len(), life, "{:?}", layer.landed());
        }
        layer.rules(&[]);
        let service = launch.start();
        actor.check(&service, false);
        let acts = [Act::Checkpoint, Act::Post, Act::Read];
        actor.play(&service, &acts).expect("nobody kills it");
        match life % 2 {
            0 => service.kill(),
            _ => assert!(service.stop().success()),
        }
    }
    for (query, (rows, _)) in &*kinds::expected(actor.posted) {
        let replayed = plain_rows(&kinds::replay(home.path(), query));
        assert_eq!(kinds::shown(query, replayed), *rows, "{query}");
    }
}
