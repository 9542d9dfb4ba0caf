//! A clock that steps back while the service runs, and is still behind when it starts again.

use crate::layer::Layer;
use crate::script::{Act, Actor, Told, launch, recover};
use crate::service::Client;

fn published_at(service: &Client) -> i64 {
    let newest = &service.get("/v1/checkpoints").ok()["checkpoints"][0];
    newest["published_at"].as_i64().expect("a time")
}

#[test]
fn epochs_grow_and_nothing_is_lost_when_the_clock_steps_back() {
    let home = tempfile::tempdir().expect("a place for the test");
    let (launch, layer) = (launch(home.path()), Layer::new(home.path()));
    let launch = layer.under(&launch);
    let (mut actor, acts) = (
        Actor::default(),
        [Act::Post, Act::Ready, Act::Read, Act::Checkpoint],
    );
    let service = launch.start();
    actor.play(&service, &acts).expect("it goes on");
    let before = published_at(&service);
    layer.rules(&["clock:-7200 0 0 none"]);
    for _ in 0..3 {
        actor.play(&service, &acts).expect("it goes on");
    }
    let behind = published_at(&service);
    assert!(
        behind < before - 3_600_000,
        "the clock did not step back: {before}, {behind}"
    );
    service.kill();
    // Still two hours behind.
    recover(&launch, &mut actor, false);
    let epochs: Vec<u64> = (actor.told.iter())
        .filter_map(|told| match told {
            Told::Shown(epoch, _) => Some(*epoch),
            _ => None,
        })
        .collect();
    assert!(epochs.len() > 4 && epochs.is_sorted(), "{epochs:?}");
}
