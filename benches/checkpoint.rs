//! What does a checkpoint cost when one key in a hundred changes, and a restart from it?
//!
//! `WATERCLOCK_BENCH_KEYS` says how many keys one boundary has (1,000,000),
//! `WATERCLOCK_BENCH_INTERVALS` how many checkpoints follow the first (40),
//! `WATERCLOCK_BENCH_WORKERS` how many workers share it (2), and `WATERCLOCK_BENCH_CODEC` in which
//! format it is saved (arrow, or abomonation with that feature). Each worker has a map from keys
//! to counts, and notes its changes as every boundary does. Restarts, on as many workers and on
//! others, run in processes of their own, so that the peak of their memory is theirs.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use differential_dataflow::hashable::Hashable;
use waterclock::dataflow::changes::Changes;
use waterclock::dataflow::forever::Total;
use waterclock::dataflow::vault::{Boundaries, Boundary, Vault};
use waterclock::state::{BoundaryState, CheckpointStore, Codec, DataDir, Manifest, StoreOptions};
use waterclock::view::CheckpointInfo;
use waterclock::worker::snapshots::Snapshots;

const NAME: &str = "bench/forever-count";
/// Epochs between two checkpoints: those of ten seconds.
const EPOCHS: u64 = 40;

type Row = Total<String, u64>;
type Counts = foldhash::HashMap<String, u64>;
type Heard = Receiver<Result<CheckpointInfo, String>>;

fn main() {
    // `cargo test` builds benchmarks and may run them; they are for `cargo bench` alone.
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--restore") {
        restore(
            Path::new(&args[at + 1]),
            args[at + 2].parse().expect("a number of workers"),
        );
    } else if args.iter().any(|arg| arg == "--bench") {
        let dir = tempfile::tempdir().expect("a directory for files that go again");
        run(dir.path());
        for workers in ["1", "2", "3"] {
            let own = std::env::current_exe().expect("this program has a path");
            let mut again = Command::new(own);
            again.arg("--restore").arg(dir.path()).arg(workers);
            assert!(again.status().expect("it starts").success());
        }
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn number(name: &str, default: u64) -> u64 {
    let said = std::env::var(name).ok();
    said.map_or(default, |said| said.parse().expect("a number"))
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed())
}

/// A line of what the system says of this process's memory, in MB.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    let kb = found.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kb.unwrap_or_default() / 1024
}

/// The format that is set.
fn codec() -> Codec {
    match std::env::var("WATERCLOCK_BENCH_CODEC").as_deref() {
        Err(_) | Ok("arrow") => Codec::Arrow,
        #[cfg(feature = "abomonation")]
        Ok("abomonation") => Codec::Abomonation,
        Ok(other) => panic!("this build has no codec '{other}'"),
    }
}

fn open(dir: &Path) -> (DataDir, CheckpointStore, Snapshots, Heard) {
    let data = DataDir::open(dir).expect("the directory is ours");
    let options = StoreOptions {
        codec: codec(),
        ..StoreOptions::default()
    };
    let store = CheckpointStore::open(&data, &options).expect("it has no other owner");
    let restored = store.newest_valid().expect("what we wrote is whole");
    if let Some(restored) = &restored {
        store.resume(restored);
    }
    let (tell, heard) = channel();
    let hear = Box::new(move |_, result| drop(tell.send(result)));
    let restored = restored.map(Arc::new);
    let snapshots = Snapshots::start(store.clone(), restored, Box::new(BTreeMap::new), hear);
    (data, store, snapshots.expect("a thread starts"), heard)
}

/// A worker's share of the boundary.
struct Worker {
    counts: Counts,
    changes: Changes<Row>,
}

fn changes(vault: std::rc::Rc<dyn Vault>, me: u64, workers: u64) -> Changes<Row> {
    let boundary = Boundary::new::<Row>(NAME.to_owned(), vault, &mut Boundaries::new());
    Changes::new(boundary, move |owner| owner % workers == me)
}

/// Counts for one more event of a key; what a boundary does with it.
fn count(workers: &mut [Worker], key: u64) {
    let key = format!("user-{key:08}");
    let owner = key.hashed() % workers.len() as u64;
    let Worker { counts, changes } = &mut workers[usize::try_from(owner).expect("few")];
    let acc = counts.entry(key.clone()).or_default();
    *acc += 1;
    let acc = *acc;
    changes.put(|| Total { key, acc });
}

/// What checkpoints took, one after another.
#[derive(Default)]
struct Taken {
    bytes: Vec<u64>,
    times: Vec<Duration>,
    pauses: Vec<Duration>,
}

/// Takes one checkpoint and waits until it is published.
fn checkpoint(
    store: &CheckpointStore,
    snapshots: &Snapshots,
    heard: &Heard,
    workers: &mut [Worker],
    epoch: u64,
    taken: &mut Taken,
) {
    let writer = store.begin(epoch, 1).expect("none is being written");
    snapshots.begin(writer, workers.len());
    let ((), time) = timed(|| {
        for worker in workers {
            let ((), pause) = timed(|| worker.changes.save(epoch, 0));
            taken.pauses.push(pause);
        }
        snapshots.publish(Manifest {
            boundaries: BTreeMap::from([(NAME.to_owned(), BoundaryState::default())]),
            ..Manifest::default()
        });
        let published = heard.recv().expect("the writer runs");
        published.expect("it is published");
    });
    taken.times.push(time);
    taken.bytes.push(written(store));
}

/// Bytes of the newest checkpoint that only it has: those of its own epoch.
fn written(store: &CheckpointStore) -> u64 {
    let newest = store.newest_valid().expect("what we wrote is whole");
    let Some(newest) = newest else { return 0 };
    let own = format!("{:020}.", newest.manifest().epoch);
    let segments = newest.manifest().segments();
    segments
        .filter(|(_, it)| it.file.starts_with(&own))
        .map(|(_, it)| it.bytes)
        .sum()
}

fn run(dir: &Path) {
    let (keys, intervals) = (
        number("WATERCLOCK_BENCH_KEYS", 1_000_000),
        number("WATERCLOCK_BENCH_INTERVALS", 40),
    );
    let count_of_workers = number("WATERCLOCK_BENCH_WORKERS", 2);
    let (_data, store, snapshots, heard) = open(dir);
    let vaults = snapshots.vaults(usize::try_from(count_of_workers).expect("few"));
    let worker = |me| {
        let vault = vaults(usize::try_from(me).expect("few"));
        let mut changes = changes(vault, me, count_of_workers);
        changes.restore();
        changes.is_restored();
        let counts = Counts::default();
        Worker { counts, changes }
    };
    let mut workers: Vec<Worker> = (0..count_of_workers).map(worker).collect();
    let (mut first, mut next) = (Taken::default(), Taken::default());
    for key in 0..keys {
        count(&mut workers, key);
        if key % 10_000 == 0 {
            for it in &mut workers {
                it.changes.hand_over();
            }
        }
    }
    checkpoint(&store, &snapshots, &heard, &mut workers, 1, &mut first);
    say(&format!(
        "{keys} keys of one boundary on {count_of_workers} workers; the first checkpoint, of all: \
         {} bytes in {:?}",
        first.bytes[0], first.times[0]
    ));
    let (mut hands, mut at) = (Vec::new(), 0);
    for interval in 0..intervals {
        for _ in 0..EPOCHS {
            for _ in 0..keys / 100 / EPOCHS {
                at = (at + 7_919) % keys;
                count(&mut workers, at);
            }
            for worker in &mut workers {
                hands.push(timed(|| worker.changes.hand_over()).1);
            }
        }
        let epoch = interval + 2;
        checkpoint(&store, &snapshots, &heard, &mut workers, epoch, &mut next);
    }
    let most = next.bytes.iter().max().copied().unwrap_or_default();
    let (p50, p99) = (at_rank(&mut next.times, 50), at_rank(&mut next.times, 99));
    say(&format!(
        "a checkpoint where 1% changed: at most {most} bytes ({:.2}% of all), p50 {p50:?} \
         ({:.2}%), p99 {p99:?} ({:.2}%)",
        percent(float(most), float(first.bytes[0])),
        percent(p50.as_secs_f64(), first.times[0].as_secs_f64()),
        percent(p99.as_secs_f64(), first.times[0].as_secs_f64()),
    ));
    next.pauses.extend(hands);
    say(&format!(
        "pause of a worker, to save or to hand over: p50 {:?}, p99 {:?}, most {:?}",
        at_rank(&mut next.pauses, 50),
        at_rank(&mut next.pauses, 99),
        at_rank(&mut next.pauses, 100),
    ));
    say(&format!(
        "memory of the running boundary: {} MB, at most {} MB",
        memory("VmRSS:"),
        memory("VmHWM:")
    ));
    drop((workers, vaults));
    snapshots.finish();
}

/// Exact enough for a line of text.
fn float(number: u64) -> f64 {
    let (high, low) = (number >> 32, number & u64::from(u32::MAX));
    let part = |half| f64::from(u32::try_from(half).unwrap_or(u32::MAX));
    part(high) * 4_294_967_296.0 + part(low)
}

fn percent(of: f64, all: f64) -> f64 {
    100.0 * of / all
}

/// The time that so many of a hundred are not above.
fn at_rank(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) * percent).div_ceil(100)]
}

fn restore(dir: &Path, workers: u64) {
    let ((_data, store, snapshots, _heard), check) = timed(|| open(dir));
    let list = store.list().expect("it is there");
    let bytes = list.first().map_or(0, |it| it.bytes);
    let vaults = snapshots.vaults(usize::try_from(workers).expect("few"));
    let found = Mutex::new(Vec::new());
    let ((), load) = timed(|| {
        std::thread::scope(|scope| {
            for me in 0..workers {
                let (vaults, found) = (&vaults, &found);
                scope.spawn(move || {
                    let vault = vaults(usize::try_from(me).expect("few"));
                    let restored = changes(vault, me, workers).restore();
                    let restored = restored.expect("it was not asked before");
                    let mut counts = Counts::default();
                    counts.reserve(restored.expected);
                    for row in restored.rows {
                        counts.insert(row.key, row.acc);
                    }
                    found.lock().expect("nobody panics").push(counts);
                });
            }
        });
    });
    let found = found.lock().expect("nobody panics");
    let keys: usize = found.iter().map(Counts::len).sum();
    let all = check + load;
    say(&format!(
        "restart with {workers} workers: {keys} keys of {} MB, verified in {check:?} and loaded in \
         {load:?}: {:.0} MB/s, {:.0} MB/s per worker; memory now {} MB, at most {} MB",
        bytes / 1_000_000,
        float(bytes) / 1e6 / all.as_secs_f64(),
        float(bytes) / 1e6 / all.as_secs_f64() / float(workers),
        memory("VmRSS:"),
        memory("VmHWM:"),
    ));
    drop(vaults);
    snapshots.finish();
}
