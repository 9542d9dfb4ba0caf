//! Bytes that rot: a flipped bit, a page of zeros, a page twice, a file cut short, in any file of
//! the data directory. The service says which file it is, or does without it; it never answers
//! wrongly.

use crate::images::Image;
use crate::script::{Actor, Recording, each, launch};
use crate::service::run;

const PAGE: usize = 4096;

/// Ways in which a file can differ from what was written.
fn damaged(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let changed = |what, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.to_vec();
        change(&mut bytes);
        (what, bytes)
    };
    let (middle, page) = (bytes.len() / 2, bytes.len().min(PAGE));
    vec![
        changed("its first bit flipped", &|bytes| bytes[0] ^= 0x80),
        changed("a bit in the middle flipped", &|bytes| bytes[middle] ^= 1),
        changed("a bit near the end flipped", &|bytes| {
            let at = bytes.len() - 2;
            bytes[at] ^= 4;
        }),
        changed("a page of zeros", &|bytes| bytes[..page].fill(0)),
        changed("a page twice", &|bytes| {
            let first = bytes[..page].to_vec();
            bytes.splice(page..page, first);
        }),
        changed("cut in half", &|bytes| bytes.truncate(middle)),
    ]
}

/// Whether a checkpoint needs the file: it is a manifest, or one names it.
fn is_of_a_checkpoint(image: &Image, name: &str) -> bool {
    let manifests = image
        .0
        .range("checkpoints/".to_owned()..="checkpoints/9".to_owned());
    let file = name.rsplit('/').next().unwrap_or(name);
    let mut manifests = manifests.filter_map(|(path, bytes)| Some((path, bytes.as_ref()?)));
    manifests
        .any(|(path, bytes)| path == name || memchr::memmem::find(bytes, file.as_bytes()).is_some())
}

#[test]
fn a_rotten_file_is_named_or_done_without() {
    let recording = Recording::get();
    let files = recording.left.0.iter().filter_map(|(name, bytes)| {
        let bytes = bytes.as_ref().filter(|bytes| bytes.len() > 2)?;
        (name != "lock").then(|| damaged(bytes).into_iter().map(move |it| (name, it)))
    });
    let all: Vec<_> = files.flatten().collect();
    assert!(all.len() > 40, "{}", all.len());
    let is_named = |(name, _): &&(&String, _)| is_of_a_checkpoint(&recording.left, name);
    assert!(all.iter().filter(is_named).count() > 20);
    for kind in [
        "checkpoints/0",
        "checkpoints/segments/",
        "journal/",
        "log/clicks/",
        "run.json",
    ] {
        assert!(
            all.iter().any(|(name, _)| name.starts_with(kind)),
            "no {kind}"
        );
    }
    each(&all, |(name, (what, bytes))| {
        let home = tempfile::tempdir().expect("a place for the test");
        let launch = launch(home.path());
        let mut image: Image = recording.left.clone();
        let sound = image.0.insert((*name).clone(), Some(bytes.clone()));
        assert_ne!(
            sound,
            Some(Some(bytes.clone())),
            "{name}: {what} is no damage"
        );
        image.write(&launch.data_dir());
        let file = name.rsplit('/').next().expect("it has a name");
        if is_of_a_checkpoint(&recording.left, name) {
            let data_dir = launch.data_dir().to_string_lossy().into_owned();
            let found = run(&["checkpoint", "verify", "--data-dir", &data_dir]);
            let said = String::from_utf8_lossy(&found.stdout).into_owned();
            assert!(
                !found.status.success() && said.contains(file),
                "{name}, {what}: {said}"
            );
        }
        match launch.spawn().url_or_end() {
            Ok(service) => Actor::told(&recording.told).check(&service, true),
            Err(status) => {
                let said = launch.stderr();
                assert_eq!(status.code(), Some(1), "{name}, {what}: {said}");
                assert!(said.contains(file), "{name}, {what}: {said}");
                assert!(!said.contains("panicked"), "{name}, {what}: {said}");
            }
        }
    });
}

#[test]
fn a_rotten_segment_of_the_newest_checkpoint_is_done_without() {
    let recording = Recording::get();
    let files = &recording.left.0;
    let manifests = files
        .keys()
        .filter(|name| name.starts_with("checkpoints/0"));
    let newest = manifests.max().expect("a checkpoint was taken");
    let others = |name: &&String| name.starts_with("checkpoints/0") && *name != newest;
    let names = |manifest: &String, segment: &str| {
        let bytes = files[manifest].as_deref().expect("it is a file");
        memchr::memmem::find(bytes, segment.as_bytes()).is_some()
    };
    // Two generations share no file.
    let is_of_the_newest = |(path, bytes): &(&String, &Option<Vec<u8>>)| {
        let name = path.strip_prefix("checkpoints/segments/");
        let alone =
            |name| names(newest, name) && !files.keys().filter(others).any(|it| names(it, name));
        bytes.is_some() && name.is_some_and(alone)
    };
    let segments = files.iter().filter(is_of_the_newest);
    let damaged = |(path, bytes): (&String, &Option<Vec<u8>>)| {
        let bytes = bytes.as_ref().expect("it is a file");
        let path = path.clone();
        damaged(bytes)
            .into_iter()
            .map(move |(what, bytes)| (path.clone(), what, bytes))
    };
    let all: Vec<_> = segments.flat_map(damaged).collect();
    assert!(
        all.len() >= 6,
        "the newest checkpoint has no segment of its own"
    );
    each(&all, |(path, what, bytes)| {
        let home = tempfile::tempdir().expect("a place for the test");
        let launch = launch(home.path());
        let mut image: Image = recording.left.clone();
        image.0.insert(path.clone(), Some(bytes.clone()));
        image.write(&launch.data_dir());
        let service = launch.start_ready();
        let (file, said) = (
            path.rsplit('/').next().expect("it has a name"),
            launch.stderr(),
        );
        assert!(said.contains(file), "{path}, {what}: {said}");
        assert!(!said.contains('\u{1b}'), "colours in a file: {said}");
        Actor::told(&recording.told).check(&service, false);
    });
}
