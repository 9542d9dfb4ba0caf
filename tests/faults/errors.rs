//! A disk that fails: an error from each kind of call, a file system that turned read-only, one
//! that is slow. The service refuses what it cannot keep, answers what it knows, and goes on.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::layer::{Layer, sites};
use crate::script::{Act, Actor, Recording, SCRIPT, each, launch, recover};
use crate::service::{Client, Launch, Service, until};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// What a call fails with.
fn error_of(site: &str) -> i32 {
    let takes_space = ["write", "create", "mkdir"];
    if takes_space.iter().any(|op| site.starts_with(op)) {
        ENOSPC
    } else {
        EIO
    }
}

/// The sites that can fail.
fn calls() -> Vec<String> {
    let sites = sites(&Recording::get().calls).into_keys();
    sites.filter(|site| site != "answer ").collect()
}

/// Waits for a service that ended by itself, and checks that it said why.
fn ended_with_a_sentence(launch: &Launch, service: Service) {
    let status = service.wait();
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(launch.stderr().contains("os error"), "{}", launch.stderr());
}

/// Plays the script as one who takes no for an answer, and asks again.
fn insist(launch: &Launch, mut service: Service, layer: &Layer, actor: &mut Actor) -> Service {
    for act in SCRIPT {
        loop {
            match actor.act(&service, act) {
                Ok(reply) if reply.status == 200 => break,
                Ok(reply) => {
                    let told = reply.problem(reply.status);
                    assert!(
                        matches!(reply.status, 503 | 507),
                        "{}: {told}",
                        reply.status
                    );
                }
                Err(_) => {
                    ended_with_a_sentence(launch, service);
                    layer.rules(&[]);
                    service = launch.start();
                }
            }
        }
    }
    service
}

#[test]
fn an_error_of_each_kind_of_call_is_told_and_loses_nothing() {
    let landed = Mutex::new(BTreeSet::new());
    each(&calls(), |site| {
        let home = tempfile::tempdir().expect("a place for the test");
        let (launch, layer) = (launch(home.path()), Layer::new(home.path()));
        let (launch, mut actor) = (layer.under(&launch), Actor::default());
        let service = launch.start();
        actor
            .play(&service, &SCRIPT[..3])
            .expect("nothing fails yet");
        layer.rules(&[&format!("errno:{} 1 3 {site}", error_of(site))]);
        let service = insist(&launch, service, &layer, &mut actor);
        service.ask_to_stop();
        service.wait();
        if !layer.landed().is_empty() {
            landed
                .lock()
                .expect("nobody panics with it")
                .insert(site.clone());
        }
        layer.rules(&[]);
        recover(&launch, &mut actor, false);
        assert!(!launch.stderr().contains("panicked"), "{}", launch.stderr());
    });
    let landed = landed.into_inner().expect("nobody panicked with it");
    for site in [
        "create checkpoints/#.json.tmp",
        "create journal/#.jsonl",
        "create log/clicks/#.log",
        "fsync checkpoints/#.json.tmp",
        "fsync journal/#.jsonl",
        "fsync log/clicks/#.log",
        "rename checkpoints/#.json.tmp",
        "rename run.json.tmp",
        "syncdir checkpoints",
        "syncdir journal",
        "syncdir log/clicks",
        "unlink checkpoints/#.json",
        "unlink journal/#.jsonl",
        "write checkpoints/#.json.tmp",
        "write journal/#.jsonl",
        "write log/clicks/#.log",
        "write run.json.tmp",
    ] {
        assert!(landed.contains(site), "'{site}' is not among {landed:#?}");
    }
}

#[test]
fn an_error_while_starting_is_told_and_the_next_start_works() {
    each(&calls(), |site| {
        let home = tempfile::tempdir().expect("a place for the test");
        let (launch, layer) = (launch(home.path()), Layer::new(home.path()));
        let (launch, mut actor) = (layer.under(&launch), Actor::default());
        layer.rules(&[&format!("errno:{} 1 1 {site}", error_of(site))]);
        match launch.spawn().url_or_end() {
            Ok(service) => insist(&launch, service, &layer, &mut actor).stop(),
            Err(status) => {
                let said = launch.stderr();
                assert_eq!(status.code(), Some(1), "{site}: {said}");
                assert!(said.contains("os error"), "{site}: {said}");
                status
            }
        };
        assert!(!layer.landed().is_empty(), "{site}");
        layer.rules(&[]);
        recover(&launch, &mut actor, false);
        assert!(!launch.stderr().contains("panicked"), "{}", launch.stderr());
    });
}

/// A service on a good disk that has some rows.
fn started(launch: &Launch) -> (Service, Actor) {
    let (service, mut actor) = (launch.start(), Actor::default());
    actor
        .play(&service, &SCRIPT[..5])
        .expect("nothing fails yet");
    (service, actor)
}

#[test]
fn a_file_system_that_turns_read_only_refuses_posts_until_it_does_not() {
    let home = tempfile::tempdir().expect("a place for the test");
    let (launch, layer) = (launch(home.path()), Layer::new(home.path()));
    let (service, mut actor) = started(&layer.under(&launch));
    let calls = ["create", "write", "truncate", "rename", "unlink", "mkdir"];
    let rules = calls.map(|op| format!("errno:{EROFS} 1 1000000 {op} *"));
    layer.rules(&rules.each_ref().map(String::as_str));
    for act in [Act::Post, Act::Checkpoint, Act::Post] {
        let told = actor.act(&service, act).expect("it goes on").problem(503);
        assert!(told.contains("Read-only file system"), "{act:?}: {told}");
    }
    service.get("/v1/queries/clicks_per_user_tumbling").ok();
    assert!(layer.landed().len() >= 3);
    layer.rules(&[]);
    until("input to be taken", || {
        actor
            .act(&service, Act::Post)
            .is_ok_and(|reply| reply.status == 200)
            .then_some(())
    });
    let after = [Act::Read, Act::Checkpoint, Act::Post, Act::Read];
    actor.play(&service, &after).expect("it goes on");
    service.kill();
    recover(&launch, &mut actor, false);
}

#[test]
fn a_slow_disk_holds_up_posts_and_no_reads() {
    let home = tempfile::tempdir().expect("a place for the test");
    let (launch, layer) = (launch(home.path()), Layer::new(home.path()));
    let (service, mut actor) = started(&layer.under(&launch));
    layer.rules(&["slow:3000 1 1 fsync log/clicks/#.log"]);
    let (client, is_stored) = (Client::clone(&service), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            actor.play(&client, &[Act::Post]).expect("it is only slow");
            is_stored.store(true, Ordering::Release);
        });
        until("the disk to be slow", || {
            (!layer.landed().is_empty()).then_some(())
        });
        service.get("/v1/queries/clicks_per_user_tumbling").ok();
        assert!(
            !is_stored.load(Ordering::Acquire),
            "the read waited for the post"
        );
    });
    actor.play(&service, &[Act::Read]).expect("it goes on");
}

#[test]
fn a_log_that_cannot_be_read_holds_its_stream_up_until_it_can() {
    let home = tempfile::tempdir().expect("a place for the test");
    let (launch, layer) = (launch(home.path()), Layer::new(home.path()));
    let launch = layer.under(&launch);
    let (service, mut actor) = started(&launch);
    layer.rules(&[&format!("errno:{EIO} 1 2 read log/clicks/#.log")]);
    actor
        .play(&service, &[Act::Post, Act::Read])
        .expect("it goes on");
    assert!(!layer.landed().is_empty());
    assert!(launch.stderr().contains("held up"), "{}", launch.stderr());
    service.kill();
    layer.rules(&[]);
    recover(&launch, &mut actor, false);
}
