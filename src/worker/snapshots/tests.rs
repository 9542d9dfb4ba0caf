//! What a checkpoint costs, counted in bytes; and that nothing is lost when one fails.

use std::fs;
use std::sync::mpsc::{Receiver, channel};

use serde::{Deserialize, Serialize};

use super::*;
use crate::columns::fingerprint;
use crate::dataflow::changes::{Changes, Lasting, identity_of};
use crate::dataflow::vault::{Boundaries, Boundary};
use crate::row::EncodeError;
use crate::state::{BoundaryState, DataDir, Fingerprint, StoreOptions};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Row {
    key: u64,
    value: u64,
}

impl Lasting for Row {
    fn identity(&self) -> Result<Vec<u8>, EncodeError> {
        identity_of(&self.key)
    }

    fn owner(&self) -> u64 {
        self.key
    }
}

const NAME: &str = "q/rows";

/// A store with its writer, and workers that share a boundary.
struct Rig {
    snapshots: Snapshots,
    store: CheckpointStore,
    heard: Receiver<(Epoch, Result<CheckpointInfo, String>)>,
    boundaries: Vec<Boundary>,
    workers: Vec<Changes<Row>>,
    _data: DataDir,
}

impl Rig {
    fn open(dir: &std::path::Path, workers: u64) -> Rig {
        Rig::open_with(dir, workers, &StoreOptions::default())
    }

    fn open_with(dir: &std::path::Path, workers: u64, options: &StoreOptions) -> Rig {
        let data = DataDir::open(dir).unwrap();
        let store = CheckpointStore::open(&data, options).unwrap();
        let restored = store.newest_valid().unwrap();
        if let Some(restored) = &restored {
            store.resume(restored);
        }
        let (tell, heard) = channel();
        let hear = Box::new(move |epoch, result| tell.send((epoch, result)).unwrap());
        let sent = Box::new(BTreeMap::new);
        let restored = restored.map(Arc::new);
        let snapshots = Snapshots::start(store.clone(), restored, sent, hear).unwrap();
        let vaults = snapshots.vaults(usize::try_from(workers).unwrap());
        let boundary = |me: u64| {
            let vault = vaults(usize::try_from(me).unwrap());
            Boundary::new::<Row>(NAME.to_owned(), vault, &mut Boundaries::new())
        };
        let boundaries: Vec<_> = (0..workers).map(boundary).collect();
        let changes = |(me, boundary): (u64, &Boundary)| {
            Changes::new(boundary.clone(), move |owner| owner % workers == me)
        };
        Rig {
            workers: (0..).zip(&boundaries).map(changes).collect(),
            boundaries,
            snapshots,
            store,
            heard,
            _data: data,
        }
    }

    /// The rows that all workers begin with.
    fn restore(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        for worker in &mut self.workers {
            rows.extend(worker.restore().unwrap().rows);
            worker.is_restored();
        }
        rows.sort();
        rows
    }

    fn worker(&mut self, key: u64) -> &mut Changes<Row> {
        let workers = self.workers.len() as u64;
        &mut self.workers[usize::try_from(key % workers).unwrap()]
    }

    fn put(&mut self, key: u64, value: u64) {
        self.worker(key).put(|| Row { key, value });
    }

    fn checkpoint(&mut self, epoch: Epoch) -> Result<CheckpointInfo, String> {
        self.begin(epoch);
        self.workers
            .iter_mut()
            .for_each(|worker| worker.save(epoch, 0));
        self.end()
    }

    fn begin(&self, epoch: Epoch) {
        let writer = self.store.begin(epoch, 1).unwrap();
        self.snapshots.begin(writer, self.workers.len());
    }

    fn end(&self) -> Result<CheckpointInfo, String> {
        let state = BoundaryState {
            fingerprint: Fingerprint(fingerprint::<Row>().unwrap()),
            ..BoundaryState::default()
        };
        self.snapshots.publish(Manifest {
            boundaries: BTreeMap::from([(NAME.to_owned(), state)]),
            ..Manifest::default()
        });
        self.heard.recv().unwrap().1
    }
}

impl Rig {
    /// How many rows the segments of the newest checkpoint have.
    fn rows_of_the_newest(&self) -> u64 {
        let newest = self.store.newest_valid().unwrap().unwrap();
        newest.manifest().segments().map(|(_, it)| it.rows).sum()
    }

    /// Ends the writer, once nobody gives it work any more.
    fn close(self) {
        drop((self.workers, self.boundaries));
        self.snapshots.finish();
    }
}

#[cfg(feature = "abomonation")]
#[test]
fn another_codec_holds_all_rows_from_the_next_checkpoint_on() {
    use crate::state::Codec;

    let dir = tempfile::tempdir().unwrap();
    let expected: Vec<Row> = (0..100).map(|key| Row { key, value: 7 }).collect();
    let mut epoch = 0;
    for codec in [Codec::Abomonation, Codec::Arrow, Codec::Abomonation] {
        let options = StoreOptions {
            codec,
            ..StoreOptions::default()
        };
        let mut rig = Rig::open_with(dir.path(), 2, &options);
        let mut found = Vec::new();
        for worker in &mut rig.workers {
            let restored = worker.restore().unwrap();
            assert!(!restored.is_of_changes, "they are to be noted again");
            for row in restored.rows {
                found.push(row.clone());
                worker.put(|| row);
            }
            worker.is_restored();
        }
        found.sort();
        if epoch == 0 {
            (0..100).for_each(|key| rig.put(key, 7));
        } else {
            assert_eq!(found, expected, "{codec}");
        }
        for _ in 0..2 {
            epoch += 1;
            rig.checkpoint(epoch).unwrap();
        }
        let newest = rig.store.newest_valid().unwrap().unwrap();
        let end = format!(".{codec}");
        let mut segments = newest.manifest().segments();
        assert!(segments.all(|(_, segment)| segment.file.ends_with(&end)));
        drop(segments);
        rig.close();
    }
}

/// The bytes of segments that were written for this checkpoint.
fn written(dir: &std::path::Path, epoch: Epoch) -> u64 {
    let files = fs::read_dir(dir.join("checkpoints/segments")).unwrap();
    let files = files.map(Result::unwrap).filter(|file| {
        let name = file.file_name().into_string().unwrap();
        name.starts_with(&format!("{epoch:020}")) && !name.contains("merged")
    });
    files.map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn bytes_follow_the_change_and_not_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), 2);
    assert_eq!(rig.restore(), []);
    let rows = 200_000;
    for key in 0..rows {
        rig.put(key, 1);
        rig.worker(key).hand_over();
    }
    rig.checkpoint(1).unwrap();
    let whole = written(dir.path(), 1);
    assert!(whole > 5_000_000, "{whole}");
    // One in a hundred changes, each of them fifty times.
    for value in 2..52 {
        for key in (0..rows).step_by(100) {
            rig.put(key, value);
            rig.worker(key).hand_over();
        }
    }
    rig.checkpoint(2).unwrap();
    let changed = written(dir.path(), 2);
    assert!(changed * 100 < whole * 2, "{changed} of {whole}");
    rig.checkpoint(3).unwrap();
    assert_eq!(written(dir.path(), 3), 0, "nothing changed");
    rig.close();

    // Any number of workers find each row once, as it was last.
    for workers in [1, 2, 3] {
        let mut rig = Rig::open(dir.path(), workers);
        let found = rig.restore();
        assert_eq!(found.len() as u64, rows);
        let is_right = |row: &Row| {
            let value = if row.key.is_multiple_of(100) { 51 } else { 1 };
            row.key == 7 || row.value == value
        };
        assert!(found.iter().all(is_right));
        rig.put(7, 70 + workers);
        rig.worker(8).gone(|| Row { key: 8, value: 1 });
        rig.put(8, 1);
        rig.checkpoint(10 + workers).unwrap();
        rig.close();
    }
    let mut rig = Rig::open(dir.path(), 2);
    let found = rig.restore();
    assert_eq!(found.len() as u64, rows);
    assert_eq!((found[7].value, found[8].value), (73, 1));
}

#[test]
fn what_a_failed_checkpoint_took_is_in_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), 2);
    rig.restore();
    (0..10).for_each(|key| rig.put(key, 1));
    rig.begin(1);
    rig.workers[0].save(1, 0);
    // The other worker's query has failed.
    rig.boundaries[1].refuse(1);
    assert!(
        rig.end()
            .unwrap_err()
            .contains("the query that owns them failed")
    );
    rig.put(0, 2);
    rig.worker(2).gone(|| Row { key: 2, value: 1 });
    rig.checkpoint(2).unwrap();
    rig.close();
    let mut rig = Rig::open(dir.path(), 1);
    let found = rig.restore();
    let expected = (0..10).filter(|key| *key != 2);
    let expected = expected.map(|key| Row {
        key,
        value: if key == 0 { 2 } else { 1 },
    });
    assert_eq!(found, expected.collect::<Vec<_>>());
}

#[test]
fn of_a_row_that_came_and_went_nothing_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), 1);
    rig.restore();
    let came = |rig: &mut Rig, key| rig.worker(key).came(|| Row { key, value: 1 });
    let gone = |rig: &mut Rig, key| rig.worker(key).gone(|| Row { key, value: 0 });
    for key in 0..5 {
        came(&mut rig, key);
        rig.put(key, 2);
    }
    (0..4).for_each(|key| gone(&mut rig, key));
    came(&mut rig, 3);
    rig.checkpoint(1).unwrap();
    assert_eq!(rig.rows_of_the_newest(), 2, "3 and 4 stand");
    // What was saved once is said to be gone.
    gone(&mut rig, 3);
    gone(&mut rig, 4);
    came(&mut rig, 4);
    rig.checkpoint(2).unwrap();
    rig.close();
    let mut rig = Rig::open(dir.path(), 1);
    assert_eq!(rig.restore(), [Row { key: 4, value: 1 }]);
}

#[test]
fn each_worker_reads_its_own_rows_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), 2);
    rig.restore();
    (0..1000).for_each(|key| rig.put(key, 1));
    // As it was written, and as it was merged.
    for epoch in [1, 2] {
        rig.checkpoint(epoch).unwrap();
        let newest = rig.store.newest_valid().unwrap().unwrap();
        let read = |me, of| {
            let hashing = hashing();
            let layers = newest.layers_for(NAME, &Share { me, of, hashing });
            let batches = layers.into_iter().flatten().map(Result::unwrap);
            batches.map(|batch| batch.num_rows()).sum::<usize>()
        };
        assert_eq!((read(0, 2), read(1, 2)), (500, 500));
        assert_eq!((read(0, 4), read(3, 4)), (500, 500));
        assert_eq!((read(0, 1), read(2, 3)), (1000, 1000));
    }
}
