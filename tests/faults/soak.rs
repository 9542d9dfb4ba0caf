//! Faults at random, for as long as asked: `SOAK_SECONDS=600 cargo test --test faults soak`, to a
//! service with every kind of state, on one to three workers. The seed is printed, and `SOAK_SEED`
//! makes the same faults again, life by life.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::images::{Disk, Ending, POWER};
use crate::kinds;
use crate::layer::Layer;
use crate::script::{Act, Actor, plain_rows};
use crate::service::{Launch, Random};

/// Lives of a service where no time is asked for.
const LIVES: u64 = 5;
/// Lives on one data directory: comparing takes longer the more was posted.
const OF_ONE: u64 = 25;
/// Things that a client does in a life.
const ACTS: usize = 14;

/// What a life meets.
#[derive(Debug)]
struct Fault {
    rule: String,
    /// What outlives the end.
    ending: Ending,
    /// Whether calls fail, so that no is an answer.
    may_refuse: bool,
    workers: usize,
}

impl Fault {
    fn random(random: &mut Random) -> Fault {
        let (number, kind) = (1 + random.below(200), random.below(7));
        let ending = match kind {
            2 | 3 => one_of(&POWER, random),
            _ => Ending::Kill,
        };
        let any = "!(open*|read*)";
        let rule = match kind {
            4 => format!("torn:{} {number} {number} write *", random.below(300)),
            5 => {
                let ops = [
                    "write", "fsync", "create", "rename", "syncdir", "unlink", "truncate",
                ];
                let (op, error) = (one_of(&ops, random), one_of(&[5, 28, 30], random));
                let number = 1 + number % 20;
                format!("errno:{error} {number} {} {op} *", number + random.below(2))
            }
            6 => format!("kill {0} {0} answer *", 1 + number % 12),
            _ => format!("kill {number} {number} {any}"),
        };
        Fault {
            rule,
            ending,
            may_refuse: kind == 5,
            workers: one_of(&[1, 2, 3], random),
        }
    }
}

fn one_of<T: Copy>(all: &[T], random: &mut Random) -> T {
    let at = random.below(all.len() as u64);
    all[usize::try_from(at).expect("it is an index")]
}

/// A data directory over its lives.
struct Soaked {
    home: tempfile::TempDir,
    layer: Layer,
    disk: Disk,
    actor: Actor,
    lost_power: bool,
    boots: u64,
}

impl Soaked {
    fn new() -> Soaked {
        let home = tempfile::tempdir().expect("a place for the test");
        Soaked {
            layer: Layer::new(home.path()),
            home,
            disk: Disk::default(),
            actor: Actor::of_kinds(),
            lost_power: false,
            boots: 0,
        }
    }

    fn launch(&self, workers: usize) -> Launch {
        let launch = kinds::launch(self.home.path(), workers);
        self.layer.in_boot(&launch, &self.boots.to_string())
    }

    /// One life, and its end; whether its fault came.
    fn live(&mut self, fault: &Fault, random: &mut Random) -> bool {
        self.layer.forget();
        self.layer.rules(&[&fault.rule]);
        let launch = self.launch(fault.workers);
        let status = match launch.spawn().url_or_end() {
            Err(status) => status,
            Ok(service) => {
                if self.act(&service, fault, random) {
                    service.ask_to_stop();
                }
                service.wait()
            }
        };
        assert_expected(status, fault, &launch);
        self.end(fault.ending, &launch.data_dir());
        !self.layer.landed().is_empty()
    }

    /// Does this and that; whether the service lives on.
    fn act(
        &mut self,
        service: &crate::service::Client,
        fault: &Fault,
        random: &mut Random,
    ) -> bool {
        let is_told = |told: Result<crate::service::Reply, _>| match told {
            Ok(reply) if reply.status == 200 => true,
            Ok(reply) => {
                assert!(fault.may_refuse, "{}", reply.problem(reply.status));
                true
            }
            Err(crate::service::Lost) => false,
        };
        let first = [Act::Post, Act::Ready];
        let later = (0..ACTS).map(|_| match random.below(6) {
            0..3 => Act::Post,
            3 | 4 => Act::Read,
            _ => Act::Checkpoint,
        });
        let acts: Vec<Act> = first.into_iter().chain(later).collect();
        acts.into_iter()
            .all(|act| is_told(self.actor.act(service, act)))
    }

    /// Leaves on disk what outlives the end.
    fn end(&mut self, ending: Ending, data_dir: &Path) {
        self.layer
            .calls()
            .iter()
            .for_each(|call| self.disk.apply(call));
        let left = self.disk.image(ending);
        if ending != Ending::Kill {
            fs::remove_dir_all(data_dir).expect("it is there");
            left.write(data_dir);
            self.disk = Disk::of(&left);
            self.boots += 1;
            self.lost_power = true;
        }
    }

    /// Checks everything, and that `replay` says the same, of one query after the other.
    fn check(&mut self, life: u64) {
        self.layer.forget();
        self.layer.rules(&[]);
        let launch = self.launch(2);
        let service = launch.start();
        self.actor.check(&service, self.lost_power);
        service.kill();
        self.lost_power = false;
        self.layer
            .calls()
            .iter()
            .for_each(|call| self.disk.apply(call));
        let place = usize::try_from(life).expect("it is small") % kinds::KINDS.len();
        let (query, home) = (kinds::KINDS[place], self.home.path());
        let replayed = kinds::shown(query, plain_rows(&kinds::replay(home, query)));
        let expected = kinds::expected(self.actor.posted);
        assert_eq!(replayed, expected[query].0, "{query}");
    }
}

/// A service is killed, told to stop, or says why it cannot go on.
fn assert_expected(status: ExitStatus, fault: &Fault, launch: &Launch) {
    let said = launch.stderr();
    let is_told = said.contains("os error") && fault.may_refuse;
    assert!(
        status.code() != Some(1) || is_told,
        "{status}, {fault:?}: {said}"
    );
    assert!(!said.contains("panicked"), "{fault:?}: {said}");
}

/// Each life has its own numbers, so that what one did does not move the faults of the next.
fn numbers(seed: u64, life: u64) -> Random {
    Random(seed.wrapping_mul(1_000_003).wrapping_add(life))
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().expect("it is a number"))
}

#[test]
#[allow(clippy::print_stdout, reason = "tells the seed, and how far it is")]
#[allow(
    clippy::disallowed_methods,
    reason = "soaks for as long as asked, by a new seed"
)]
fn soak() {
    let (begun, seconds) = (Instant::now(), setting("SOAK_SECONDS"));
    let new = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| since.as_secs());
    let seed = setting("SOAK_SEED").unwrap_or(if seconds.is_some() { new } else { 1 });
    println!("soak: SOAK_SEED={seed}");
    let is_over = |life: u64| match seconds {
        None => life >= LIVES,
        Some(seconds) => begun.elapsed() >= Duration::from_secs(seconds),
    };
    let (mut soaked, mut landed, mut posts, mut life) = (Soaked::new(), 0, 0, 0);
    while !is_over(life) {
        let mut random = numbers(seed, life);
        let fault = Fault::random(&mut random);
        println!("soak: life {life}: {} on {:?}", fault.rule, fault.ending);
        landed += u64::from(soaked.live(&fault, &mut random));
        soaked.check(life);
        life += 1;
        if life.is_multiple_of(OF_ONE) {
            posts += soaked.actor.posted;
            soaked = Soaked::new();
        }
    }
    posts += soaked.actor.posted;
    println!("soak: {life} lives, {landed} faults, {posts} posts, each there once");
    assert!(landed * 2 > life, "only {landed} faults in {life} lives");
}

#[test]
fn a_seed_is_a_list_of_faults() {
    let faults = |seed| {
        let fault = move |life| format!("{:?}", Fault::random(&mut numbers(seed, life)));
        (0..200).map(fault).collect::<Vec<_>>()
    };
    assert_eq!(faults(7), faults(7));
    assert_ne!(faults(7), faults(8));
    for word in ["torn:", "errno:", "answer", "PowerTore", "PowerKeptNames"] {
        assert!(faults(7).iter().any(|fault| fault.contains(word)), "{word}");
    }
}
