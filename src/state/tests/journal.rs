//! The epoch journal: what is read back, after tears, damage, rotation and loss of power.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::time::Epoch;

fn entry(epoch: Epoch, run: u64) -> JournalEntry {
    let positions = BTreeMap::from([(0, epoch * 10), (7, u64::MAX - epoch)]);
    let change = match epoch % 3 {
        0 => PartitionChange::Idle,
        1 => PartitionChange::Appeared,
        _ => PartitionChange::Revived,
    };
    JournalEntry {
        epoch,
        run,
        streams: BTreeMap::from([("clicks 'é'".to_owned(), positions)]),
        events: vec![PartitionEvent {
            stream: "clicks".to_owned(),
            partition: 7,
            change,
            position: epoch,
        }],
        checkpoint: epoch.is_multiple_of(2),
    }
}

fn open(dir: &Path, boot: &str) -> Result<(DataDir, Journal), StateError> {
    let data = DataDir::open_in_boot(dir, Some(boot))?;
    let journal = Journal::open(&data)?;
    Ok((data, journal))
}

fn read(journal: &Journal, after: Epoch) -> Result<Vec<Epoch>, StateError> {
    journal
        .read_after(after)?
        .map(|entry| Ok(entry?.epoch))
        .collect()
}

/// A directory whose journal holds the epochs, and its newest file.
fn written(epochs: impl IntoIterator<Item = Epoch>) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (_data, mut journal) = open(dir.path(), "a").unwrap();
    for epoch in epochs {
        journal.append(&entry(epoch, 1)).unwrap();
    }
    let newest = files(dir.path()).pop().unwrap();
    (dir, newest)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let dir = dir.join("journal");
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn entries_come_back_as_they_were() {
    let (dir, _) = written([3, 4, 9]);
    let (_data, journal) = open(dir.path(), "a").unwrap();
    let entries: Vec<_> = journal.read_after(3).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries, [entry(4, 1), entry(9, 1)]);
    assert_eq!(read(&journal, 0).unwrap(), [3, 4, 9]);
    assert!(read(&journal, 9).unwrap().is_empty());
    assert_eq!((journal.high_water(), journal.durable()), (9, 9));
}

#[test]
fn a_torn_last_line_is_dropped_at_every_length() {
    let (dir, path) = written(1..=2);
    let whole = fs::read(&path).unwrap();
    let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    let data = DataDir::open_in_boot(dir.path(), Some("a")).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut journal = Journal::open(&data).unwrap();
        let left: &[Epoch] = if cut >= first { &[1] } else { &[] };
        assert_eq!(read(&journal, 0).unwrap(), left, "cut at {cut}");
        journal.append(&entry(5, 1)).unwrap();
        assert_eq!(
            read(&journal, 0).unwrap(),
            [left, &[5]].concat(),
            "cut at {cut}"
        );
    }
}

#[test]
fn any_flipped_byte_is_damage_that_names_its_line() {
    let (dir, path) = written(1..=3);
    let whole = fs::read(&path).unwrap();
    let line_of = |at: usize| whole[..at].split(|b| *b == b'\n').count();
    let data = DataDir::open_in_boot(dir.path(), Some("a")).unwrap();
    for at in 0..whole.len() {
        for flip in [1, 0x20, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            fs::write(&path, bytes).unwrap();
            let text = Journal::open(&data).unwrap_err().to_string();
            assert!(
                text.contains(".jsonl is damaged at line "),
                "byte {at}: {text}"
            );
            let named = text.contains(&format!("at line {}:", line_of(at)));
            assert!(named, "byte {at} of line {}: {text}", line_of(at));
        }
    }
}

#[test]
fn after_a_loss_of_power_all_behind_the_last_whole_line_goes() {
    let (dir, path) = written(1..=4);
    let mut bytes = fs::read(&path).unwrap();
    let second = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
    bytes[second + 5..second + 20].fill(0);
    fs::write(&path, bytes).unwrap();
    assert!(
        open(dir.path(), "a").is_err(),
        "in the same boot nothing can be lost"
    );
    // Whoever opens it first repairs it, even without looking at the journal.
    assert_eq!(
        DataDir::open_in_boot(dir.path(), Some("b")).unwrap().run(),
        2
    );
    let (data, mut journal) = open(dir.path(), "b").unwrap();
    assert_eq!((data.run(), read(&journal, 0).unwrap()), (2, vec![1]));
    // Epochs 2 to 4 were used: the next one must be greater although nothing tells of them.
    assert!(journal.high_water() > 4);
    assert!(journal.append(&entry(5, 2)).is_err());
    let next = journal.high_water() + 1;
    journal.append(&entry(next, 2)).unwrap();
    assert_eq!(read(&journal, 0).unwrap(), [1, next]);
    drop((data, journal));
    assert_eq!(open(dir.path(), "b").unwrap().1.high_water(), next);
}

#[test]
fn epochs_only_grow() {
    let (dir, _) = written([5]);
    let (_data, mut journal) = open(dir.path(), "a").unwrap();
    let text = journal.append(&entry(5, 1)).unwrap_err().to_string();
    assert!(
        text.contains("epoch 5 is not greater than epoch 5"),
        "{text}"
    );
    journal.append(&entry(6, 1)).unwrap();
}

#[test]
fn an_epoch_beyond_the_reserved_ones_is_synced_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (_data, mut journal) = open(dir.path(), "a").unwrap();
    journal.append(&entry(1_000_000, 1)).unwrap();
    assert_eq!(journal.durable(), 1_000_000);
    journal.append(&entry(1_000_001, 1)).unwrap();
    journal.append(&entry(1_100_000, 1)).unwrap();
    assert_eq!(journal.durable(), 1_000_000);
    let unsynced = journal.unsynced().unwrap();
    let epoch = std::thread::scope(|scope| {
        let syncing = scope.spawn(|| unsynced.sync().unwrap());
        syncing.join().unwrap()
    });
    assert_eq!((epoch, journal.durable()), (1_100_000, 1_100_000));
    assert!(journal.unsynced().is_none());
    journal.append(&entry(1_200_000, 1)).unwrap();
    assert_eq!(
        journal.durable(),
        1_100_000,
        "the sync had renewed the reservation"
    );
    journal.append(&entry(9_000_000, 1)).unwrap();
    assert_eq!(journal.durable(), 9_000_000, "a pause outran it");
}

#[test]
fn files_go_only_when_no_retained_checkpoint_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let (data, mut journal) = open(dir.path(), "a").unwrap();
    for epoch in 1..=8 {
        journal.append(&entry(epoch, 1)).unwrap();
        if epoch % 2 == 0 {
            journal.rotate().unwrap();
            journal.rotate().unwrap();
        }
    }
    assert_eq!(files(dir.path()).len(), 5);
    journal.forget_before(3).unwrap();
    assert_eq!(read(&journal, 3).unwrap(), [4, 5, 6, 7, 8]);
    let text = read(&journal, 1).unwrap_err().to_string();
    assert!(text.contains("does not reach back to epoch 1"), "{text}");
    journal.forget_before(100).unwrap();
    assert_eq!(files(dir.path()).len(), 2, "the newest line stays");
    drop((data, journal));
    let (_data, mut journal) = open(dir.path(), "a").unwrap();
    assert_eq!(
        (journal.high_water(), read(&journal, 6).unwrap()),
        (8, vec![7, 8])
    );
    journal.append(&entry(9, 1)).unwrap();
    journal.forget_before(8).unwrap();
    assert_eq!(files(dir.path()).len(), 1);
    assert_eq!(read(&journal, 8).unwrap(), [9]);
}

#[test]
fn damage_or_loss_in_older_files_is_an_error_when_they_are_needed() {
    let dir = tempfile::tempdir().unwrap();
    let (data, mut journal) = open(dir.path(), "a").unwrap();
    for epoch in 1..=6 {
        journal.append(&entry(epoch, 1)).unwrap();
        if epoch % 2 == 0 {
            journal.rotate().unwrap();
        }
    }
    drop((data, journal));
    let middle = &files(dir.path())[1];
    let whole = fs::read(middle).unwrap();
    fs::write(middle, &whole[..whole.len() - 9]).unwrap();
    let (_data, journal) = open(dir.path(), "a").unwrap();
    let text = read(&journal, 0).unwrap_err().to_string();
    assert!(
        text.contains("damaged at line 2: the line is cut off"),
        "{text}"
    );
    assert_eq!(read(&journal, 4).unwrap(), [5, 6]);
    fs::remove_file(middle).unwrap();
    let text = read(&journal, 0).unwrap_err().to_string();
    assert!(text.contains("the line of epoch 4 is not there"), "{text}");
    let mut entries = journal.read_after(0).unwrap().skip(2);
    assert!(entries.next().unwrap().is_err());
    assert!(entries.next().is_none(), "nothing follows an error");
}
