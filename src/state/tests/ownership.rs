//! Who owns the directory, and which run it is.

use std::fs;

use super::super::files::seal;
use super::*;

#[test]
fn a_second_owner_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = DataDir::open(dir.path()).unwrap();
    let text = DataDir::open(dir.path()).unwrap_err().to_string();
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    assert!(
        text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    drop(first);
    DataDir::open(dir.path()).unwrap();
    assert!(dir.path().join("log").is_dir() && dir.path().join("checkpoints").is_dir());
}

#[test]
fn the_run_changes_only_when_power_may_have_been_lost() {
    let dir = tempfile::tempdir().unwrap();
    let run = |boot| DataDir::open_in_boot(dir.path(), boot).unwrap().run();
    assert_eq!(run(Some("a")), 1);
    assert_eq!(run(Some("a")), 1, "killed in the same boot");
    assert_eq!(run(Some("b")), 2, "another boot");
    assert_eq!(run(Some("b")), 2);
    assert_eq!(run(None), 3, "boot unknown now");
    assert_eq!(run(None), 4, "boot unknown both times");
    assert_eq!(run(Some("b")), 5, "boot unknown before");
    let data = DataDir::open_in_boot(dir.path(), Some("b")).unwrap();
    let journal = Journal::open(&data).unwrap();
    data.close(journal).unwrap();
    assert_eq!(run(Some("c")), 5, "closed cleanly");
    assert_eq!(run(Some("d")), 6, "the close counts once");
}

#[test]
fn a_lost_run_record_begins_a_run_never_used() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open_in_boot(dir.path(), Some("a")).unwrap();
    let mut journal = Journal::open(&data).unwrap();
    journal
        .append(&JournalEntry {
            epoch: 1,
            run: 7,
            ..JournalEntry::default()
        })
        .unwrap();
    drop(data);
    fs::remove_file(dir.path().join("run.json")).unwrap();
    assert_eq!(
        DataDir::open_in_boot(dir.path(), Some("a")).unwrap().run(),
        8
    );
}

#[test]
fn a_damaged_or_newer_run_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open(dir.path()).unwrap());
    let path = dir.path().join("run.json");
    let mut bytes = fs::read(&path).unwrap();
    bytes[30] ^= 1;
    fs::write(&path, bytes).unwrap();
    let text = DataDir::open(dir.path()).unwrap_err().to_string();
    assert!(
        text.contains("run.json is damaged at its checksum"),
        "{text}"
    );
    fs::write(&path, seal("{\"version\":9,\"all\":\"new\"}")).unwrap();
    let text = DataDir::open(dir.path()).unwrap_err().to_string();
    assert!(text.contains("newer version of waterclock"), "{text}");
}

#[test]
fn starting_over_keeps_what_was_and_reuses_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(dir.path()).unwrap();
    let mut journal = Journal::open(&data).unwrap();
    let entry = |epoch, run| JournalEntry {
        epoch,
        run,
        ..JournalEntry::default()
    };
    journal.append(&entry(5, 1)).unwrap();
    journal.append(&entry(6, 1)).unwrap();
    drop((data, journal));
    let file = dir.path().join("journal/00000000000000000000.jsonl");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, [&whole[..whole.len() / 2], b"\n"].concat()).unwrap();

    let mut data = DataDir::open(dir.path()).unwrap();
    assert!(Journal::open(&data).is_err());
    let aside = data.start_over().unwrap();
    assert!(aside.join("journal/00000000000000000000.jsonl").exists());
    assert!(aside.join("checkpoints").exists());
    assert_eq!(data.run(), 2);
    let mut journal = Journal::open(&data).unwrap();
    assert!(journal.read_after(0).unwrap().next().is_none());
    let first = journal.high_water() + 1;
    assert!(first > 6);
    journal.append(&entry(first, 2)).unwrap();
    drop((data, journal));
    let data = DataDir::open(dir.path()).unwrap();
    assert_eq!(
        (data.run(), Journal::open(&data).unwrap().high_water()),
        (2, first)
    );
}
