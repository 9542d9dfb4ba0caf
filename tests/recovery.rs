//! Nothing acknowledged is lost and nothing counts twice, whenever the process is killed; and what
//! had been shown is shown again, to the byte.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use service::{Launch, Service, until};
use witness::{Witness, as_of};

#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/service.rs"]
mod service;
#[path = "recovery/witness.rs"]
mod witness;
#[path = "recovery/workload.rs"]
mod workload;

const KILLS: usize = 20;

fn launch(home: &Path, workers: usize) -> Launch {
    let queries = "clicks_per_user,clicks_per_user_tumbling,clicks_per_country";
    Launch::new(home)
        .args(&["--workers", &workers.to_string(), "--queries", queries])
        .set("SNAPSHOT__INTERVAL", "300ms")
        .set("EPOCH__HEARTBEAT_MS", "20")
        .set("LOG__SEGMENT_BYTES", "65536")
}

/// The moment of a kill.
#[derive(Clone, Copy, Debug)]
enum When {
    /// After so many posts were acknowledged.
    Acknowledged(usize),
    /// When a checkpoint has written its first segment.
    Segment,
    /// When a checkpoint was just published.
    Manifest,
    /// When the journal goes on in a new file.
    Journal,
}

impl When {
    fn of(round: usize) -> When {
        match round % 5 {
            0 => When::Acknowledged(10 + round * 7),
            1 => When::Segment,
            2 => When::Manifest,
            3 => When::Journal,
            _ => When::Acknowledged(1 + round % 3),
        }
    }

    /// Waits for it; the number of posts acknowledged meanwhile.
    fn wait(self, data: &Path, acknowledged: &Receiver<()>) -> usize {
        let published = newest(data, "checkpoints");
        let journal = newest(data, "journal");
        let mut count = 0;
        until("the moment to kill", || {
            match acknowledged.recv_timeout(Duration::from_millis(1)) {
                Ok(()) => count += 1,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("it died by itself"),
            }
            let is_now = match self {
                When::Acknowledged(posts) => count >= posts,
                When::Segment => newest(data, "checkpoints/segments") > published,
                When::Manifest => newest(data, "checkpoints") > published,
                When::Journal => newest(data, "journal") > journal,
            };
            (is_now && count > 0).then_some(())
        });
        count
    }
}

/// The newest epoch that a file in a directory is named after.
fn newest(data: &Path, directory: &str) -> u64 {
    let entries = fs::read_dir(data.join(directory)).into_iter().flatten();
    let epoch = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_finished = Path::new(&name).extension()? != "tmp";
        let epoch = name.split('.').next()?.parse().ok()?;
        is_finished.then_some(epoch)
    };
    entries.flatten().filter_map(epoch).max().unwrap_or(0)
}

/// Kills a service that has hardly begun; how far it gets depends on the round.
fn kill_while_starting(launch: &Launch, round: usize) {
    let starting = launch.spawn();
    match round % 3 {
        0 => {
            let owner = format!("process {}\n", starting.id());
            let lock = launch.data_dir().join("lock");
            until("it to own its data", || {
                (fs::read_to_string(&lock).ok()? == owner).then_some(())
            });
            starting.kill();
        }
        1 => starting.ready_for_requests().kill(),
        _ => {
            let service = starting.ready_for_requests();
            service.get("/healthz").ok();
            service.kill();
        }
    }
}

#[test]
fn killed_twenty_times_under_load_it_loses_and_repeats_nothing() {
    let home = tempfile::tempdir().expect("a place for the test");
    let mut witness = Witness::new();
    let (mut kills, mut early_kills) = (0, 0);
    for round in 0..KILLS {
        let launch = launch(home.path(), round % 3 + 1);
        if round % 2 == 1 {
            kill_while_starting(&launch, early_kills);
            early_kills += 1;
        }
        let service = launch.start();
        witness.after_restart(&service);
        let acknowledged = witness.load_until(service, |service, acknowledged| {
            let count = When::of(round).wait(&launch.data_dir(), acknowledged);
            service.kill();
            kills += 1;
            count
        });
        assert!(acknowledged > 0, "nothing was posted before kill {round}");
    }
    witness.after_restart(&launch(home.path(), 2).start());
    let (compared, replayed) = (witness.compared, witness.replayed);
    let told = format!(
        "{kills} kills under load, {early_kills} earlier; after {compared} of them answers were \
         compared, {replayed} restarts read a checkpoint and a journal; {} records",
        witness.lines()
    );
    eprintln!("{told}");
    assert_eq!((kills, early_kills), (KILLS, KILLS / 2));
    assert!(compared >= KILLS * 3 / 4, "{told}");
    assert!(replayed >= KILLS / 2, "{told}");
}

#[test]
fn asked_to_stop_under_load_it_takes_a_last_checkpoint_and_goes_on_from_it() {
    let home = tempfile::tempdir().expect("a place for the test");
    let mut witness = Witness::new();
    let never = |workers| launch(home.path(), workers).set("SNAPSHOT__INTERVAL", "1h");
    for round in 0..3 {
        let launch = never(round % 3 + 1);
        let service = launch.start();
        witness.after_restart(&service);
        let before = newest(&launch.data_dir(), "checkpoints");
        let mut upper = 0;
        let acknowledged = witness.load_until(service, |service, acknowledged| {
            let count = When::Acknowledged(20).wait(&launch.data_dir(), acknowledged);
            upper = as_of(&service.get("/v1/queries").ok());
            let status = service.stop();
            assert!(status.success(), "{status}: {}", launch.stderr());
            count
        });
        assert!(acknowledged > 0, "nothing was posted before the stop");
        let last = newest(&launch.data_dir(), "checkpoints");
        assert!(before < upper && upper <= last, "{before} {upper} {last}");
    }
    witness.after_restart(&never(2).start());
}

/// A service that takes no checkpoint but its last, and an epoch every millisecond.
fn without_checkpoints(home: &Path) -> Launch {
    Launch::new(home)
        .args(&["--queries", "clicks_per_user"])
        .set("SNAPSHOT__INTERVAL", "1h")
        .set("EPOCH__HEARTBEAT_MS", "1")
        .set("HISTORY__EPOCHS", "1000000")
}

/// Starts a service and returns while it reads its journal again.
fn caught_replaying(launch: &Launch) -> Service {
    let service = launch.start();
    until("it to be in the middle of its journal", || {
        let answer = service.get("/v1/queries").ok();
        assert_eq!(answer["ready"], false, "the journal is too short for this");
        answer["as_of"].is_u64().then_some(())
    });
    service
}

#[test]
fn killed_and_stopped_in_the_middle_of_its_journal_it_shows_the_same_again() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = without_checkpoints(home.path());
    let service = launch.start_ready();
    let mut shown = Vec::new();
    for n in 0..400 {
        let line = format!("{{\"user_id\":\"u{}\",\"click_time\":{}}}", n % 9, n * 1000);
        let token = service.token_of("clicks", &line);
        let path = "/v1/queries/clicks_per_user?limit=10000";
        let answer = service.get(&format!("{path}&after={token}"));
        let epoch = as_of(&answer.ok());
        shown.push((format!("{path}&at={epoch}"), answer.text()));
    }
    service.kill();
    for _ in 0..2 {
        caught_replaying(&launch).kill();
        let status = caught_replaying(&launch).stop();
        assert!(status.success(), "{status}: {}", launch.stderr());
    }
    let service = launch.start_ready();
    for (path, before) in shown {
        assert_eq!(service.get(&path).text(), before);
    }
}
