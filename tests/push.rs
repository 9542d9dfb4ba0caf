//! What a subscriber folds is what it would have pulled, over broken connections and killed
//! services; and one that does not read harms nobody.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use events::Event;
use fold::{Folded, Wanted};
use service::{Client, Launch, Lost, PATIENCE, Random, Service};

#[path = "push/events.rs"]
mod events;
#[path = "push/fold.rs"]
mod fold;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/service.rs"]
mod service;
#[path = "push/slow.rs"]
mod slow;

const TUMBLING: &str = "clicks_per_user_tumbling";
const SLIDING: &str = "clicks_per_user";
const SUBSCRIBERS: usize = 50;
const KILLS: usize = 10;
const POSTS_PER_LIFE: usize = 40;

fn wanted(n: usize) -> Wanted {
    let (query, prefix, only_final) = match n % 6 {
        0 | 1 => (TUMBLING, None, false),
        2 => (TUMBLING, Some("u1"), false),
        3 => (TUMBLING, None, true),
        4 => (SLIDING, Some("u2"), false),
        _ => (SLIDING, Some("u3"), true),
    };
    Wanted {
        query,
        prefix,
        only_final,
        is_socket: n % 2 == 1,
    }
}

/// Which service there is.
enum Stage {
    /// None: it was killed, and starts again.
    Between,
    Running(Client),
    Over,
}

/// What all threads share.
struct Scene {
    stage: Mutex<Stage>,
    changed: Condvar,
    compared: AtomicUsize,
    resets: AtomicUsize,
    resumed: AtomicUsize,
}

impl Scene {
    /// The service of the moment; `None` when it is over.
    fn client(&self) -> Option<Client> {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let is_between = |stage: &mut Stage| matches!(stage, Stage::Between);
        let waited = self.changed.wait_timeout_while(stage, PATIENCE, is_between);
        let (stage, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "no service starts");
        match &*stage {
            Stage::Running(client) => Some(client.clone()),
            _ => None,
        }
    }

    fn is_over(&self) -> bool {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*stage, Stage::Over)
    }

    fn set(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
        self.changed.notify_all();
    }
}

/// A follower, and each place that it could go on from.
#[derive(Default)]
struct Follower {
    folded: Folded,
    places: Vec<Folded>,
}

impl Follower {
    /// Follows until it is over, breaking off now and then.
    fn follow(&mut self, scene: &Scene, wanted: &Wanted, random: &mut Random, records: bool) {
        while let Some(client) = scene.client() {
            // Whatever ends a connection, the next one goes on.
            let _: Result<(), Lost> = self.connection(scene, wanted, &client, random, records);
        }
    }

    fn connection(
        &mut self,
        scene: &Scene,
        wanted: &Wanted,
        client: &Client,
        random: &mut Random,
        records: bool,
    ) -> Result<(), Lost> {
        let had = !self.folded.id.is_empty();
        let mut subscription = wanted.subscribe(&client.url, &self.folded.id)?;
        for n in 0..random.below(40) {
            let event = subscription.next()?;
            if n == 0 && had && event.name != "reset" {
                scene.resumed.fetch_add(1, Ordering::Relaxed);
            }
            scene
                .resets
                .fetch_add(usize::from(event.name == "reset"), Ordering::Relaxed);
            let is_answer = self.folded.fold(&event);
            if scene.is_over() {
                break;
            }
            if !is_answer {
                continue;
            }
            if records {
                self.places.push(self.folded.clone());
            }
            if random.below(4) == 0 && self.folded.compare(wanted, client)? {
                scene.compared.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// Clicks of fifty users, a few seconds of event time apart.
fn clicks(random: &mut Random, time: &mut u64) -> String {
    let line = |_| {
        *time += random.below(4000);
        let user = random.below(50);
        format!("{{\"user_id\":\"u{user}\",\"click_time\":{time}}}\n")
    };
    (0..8).map(line).collect()
}

fn launch(home: &std::path::Path, workers: usize) -> Launch {
    Launch::new(home)
        .args(&["--workers", &workers.to_string()])
        .args(&["--queries", &[TUMBLING, SLIDING].join(",")])
        .set("SNAPSHOT__INTERVAL", "1h")
        .set("EPOCH__HEARTBEAT_MS", "50")
}

/// Posts for a while, life by life; gives the service of the last one.
fn ingest(scene: &Scene, home: &std::path::Path) -> Service {
    let (mut random, mut time) = (Random(99), 1_641_031_200_000);
    for life in 0.. {
        let service = launch(home, life % 2 + 1).start_ready();
        scene.set(Stage::Running(Client::clone(&service)));
        let mut token = String::new();
        for _ in 0..POSTS_PER_LIFE {
            token = service.token_of("clicks", &clicks(&mut random, &mut time));
        }
        let path = format!("/v1/queries/{TUMBLING}?limit=1&after={token}");
        service.get(&path).ok();
        if life == KILLS {
            return service;
        }
        if life == 1 {
            // The next life begins here: what was before is too old to go on from.
            service.command("/v1/checkpoints").ok();
        }
        scene.set(Stage::Between);
        service.kill();
    }
    unreachable!("the last life returns")
}

/// Goes on from a place until an epoch; gives what is folded then.
fn resume(client: &Client, wanted: &Wanted, place: &Folded, until: u64) -> (Folded, bool) {
    let mut folded = place.clone();
    let mut was_reset = false;
    let mut subscription = wanted
        .subscribe(&client.url, &place.id)
        .expect("it is there");
    loop {
        let event: Event = subscription.next().expect("it is there");
        was_reset |= event.name == "reset";
        if folded.fold(&event) && folded.as_of >= until {
            return (folded, was_reset);
        }
    }
}

/// Every token that somebody had is gone on from; gives how many were reset.
fn resume_everywhere(client: &Client, followers: &[Follower]) -> (usize, usize) {
    let (mut tokens, mut resets) = (0, 0);
    for (n, follower) in followers.iter().enumerate() {
        let wanted = wanted(n);
        let upper = client.query(wanted.query)["upper"]
            .as_u64()
            .expect("an epoch");
        for place in &follower.places {
            let (folded, was_reset) = resume(client, &wanted, place, upper);
            if !folded.compare(&wanted, client).expect("it is there") {
                // So late is it: the epoch has left the history already.
                continue;
            }
            tokens += 1;
            resets += usize::from(was_reset);
        }
    }
    (tokens, resets)
}

#[test]
fn whatever_is_folded_is_the_answer_over_disconnects_and_kills() {
    let home = tempfile::tempdir().expect("a place for the test");
    let scene = Scene {
        stage: Mutex::new(Stage::Between),
        changed: Condvar::new(),
        compared: AtomicUsize::new(0),
        resets: AtomicUsize::new(0),
        resumed: AtomicUsize::new(0),
    };
    let mut followers: Vec<Follower> = (0..SUBSCRIBERS).map(|_| Follower::default()).collect();
    let service = std::thread::scope(|scope| {
        for (n, follower) in followers.iter_mut().enumerate() {
            let (scene, mut random) = (&scene, Random(n as u64));
            // One of each kind notes every token.
            scope.spawn(move || follower.follow(scene, &wanted(n), &mut random, n < 6));
        }
        let service = ingest(&scene, home.path());
        scene.set(Stage::Over);
        service
    });
    // Nobody posts any more: everybody ends with the same answer.
    for (n, follower) in followers.iter().enumerate() {
        let wanted = wanted(n);
        let upper = service.query(wanted.query)["upper"]
            .as_u64()
            .expect("an epoch");
        let (folded, _) = resume(&service, &wanted, &follower.folded, upper);
        assert!(folded.compare(&wanted, &service).expect("it is there"));
    }
    let (tokens, resets) = resume_everywhere(&service, &followers);
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (compared, resumed) = (count(&scene.compared), count(&scene.resumed));
    let told = format!(
        "{compared} folded states compared while it ran, {resumed} connections went on and {} \
         began again; of {tokens} tokens used later, {resets} were too old",
        count(&scene.resets)
    );
    eprintln!("{told}");
    assert!(compared > 100 && resumed > 50, "{told}");
    assert!(tokens > 200 && 0 < resets && resets < tokens, "{told}");
}
