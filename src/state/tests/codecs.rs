//! Formats of segments: what is written is read, by those who can.

use std::fs;
use std::path::Path;

use arrow_array::RecordBatch;

use super::super::files::{seal, unseal};
use super::checkpoints::{Row, files, manifest, rows};
use super::*;
use crate::columns::{from_batch, to_batch};
use crate::time::Epoch;

const BOUNDARY: &str = "q/window.0";

fn codecs() -> Vec<Codec> {
    vec![
        Codec::Arrow,
        #[cfg(feature = "abomonation")]
        Codec::Abomonation,
    ]
}

fn opened(dir: &Path, codec: Codec) -> (DataDir, CheckpointStore) {
    let data = DataDir::open(dir).unwrap();
    let options = StoreOptions {
        codec,
        ..StoreOptions::default()
    };
    let store = CheckpointStore::open(&data, &options).unwrap();
    (data, store)
}

/// Publishes batches, as what changed.
fn publish(store: &CheckpointStore, epoch: Epoch, batches: &[RecordBatch]) {
    let writer = store.begin(epoch, 1).unwrap();
    writer.is_of_changes(BOUNDARY, None);
    for batch in batches {
        writer.write_segment(BOUNDARY, 0, batch).unwrap();
    }
    writer.publish(manifest()).unwrap();
}

fn read(checkpoint: &Checkpoint) -> Vec<Row> {
    let batches = checkpoint.load(BOUNDARY).unwrap();
    let rows = batches
        .iter()
        .map(|batch| from_batch::<Row>(batch).unwrap());
    rows.flatten().collect()
}

#[test]
fn what_is_written_is_read() {
    for codec in codecs() {
        let dir = tempfile::tempdir().unwrap();
        let (_data, store) = opened(dir.path(), codec);
        let all = rows(0, 1000);
        let batch = to_batch(&all).unwrap();
        // A part of a batch begins in the middle of its buffers.
        publish(
            &store,
            1,
            &[
                batch.slice(0, 3),
                batch.slice(3, 500),
                batch.slice(503, 497),
            ],
        );
        let found = store.newest_valid().unwrap().unwrap();
        assert_eq!(read(&found), all, "{codec}");
        let end = format!(".{codec}");
        let mut segments = found.manifest().segments();
        assert!(
            segments.all(|(_, segment)| segment.file.ends_with(&end)),
            "{codec}"
        );
        drop(segments);
        assert_eq!(found.manifest().codec, codec.to_string());
        assert!(!found.is_to_be_rewritten(BOUNDARY));
    }
}

#[test]
fn no_byte_is_decoded_that_is_not_as_it_was_written() {
    for codec in codecs() {
        let dir = tempfile::tempdir().unwrap();
        let (_data, store) = opened(dir.path(), codec);
        publish(&store, 1, &[to_batch(&rows(0, 20)).unwrap()]);
        let found = store.newest_valid().unwrap().unwrap();
        let path = files(dir.path())
            .into_iter()
            .find(|path| path.ends_with(&found.manifest().segments().next().unwrap().1.file));
        let path = path.unwrap();
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(11) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let text = found.load(BOUNDARY).unwrap_err().to_string();
            assert!(
                text.contains("its bytes do not match their checksum"),
                "{text}"
            );
            fs::write(&path, &whole[..at]).unwrap();
            let text = found.load(BOUNDARY).unwrap_err().to_string();
            assert!(text.contains("and should have"), "{text}");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(read(&found).len(), 20);
    }
}

/// Changes the text of a checkpoint's manifest.
fn edit(dir: &Path, epoch: Epoch, edit: impl FnOnce(&str) -> String) {
    let path = dir.join(format!("checkpoints/{epoch:020}.json"));
    let bytes = fs::read(&path).unwrap();
    let edited = edit(unseal(&bytes).unwrap());
    fs::write(path, seal(&edited)).unwrap();
}

#[test]
fn a_codec_that_this_build_does_not_have_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let (data, store) = opened(dir.path(), Codec::Arrow);
    publish(&store, 1, &[to_batch(&rows(0, 5)).unwrap()]);
    drop((data, store));
    let segment = files(dir.path())
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "arrow"))
        .unwrap();
    fs::rename(&segment, segment.with_extension("other")).unwrap();
    edit(dir.path(), 1, |text| text.replace(".arrow\"", ".other\""));
    let (_data, store) = opened(dir.path(), Codec::Arrow);
    let found = store.newest_valid().unwrap().unwrap();
    let text = found.is_readable().unwrap_err().to_string();
    for words in [
        "checkpoint 1",
        "'other'",
        "does not have it",
        "snapshot.codec = \"arrow\"",
    ] {
        assert!(text.contains(words), "{text}");
    }
}

#[cfg(feature = "abomonation")]
mod images {
    use super::super::super::codec::Encoding;
    use super::super::super::image::{Image, this_build};
    use super::*;

    #[test]
    fn an_image_of_another_build_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let (data, store) = opened(dir.path(), Codec::Abomonation);
        publish(&store, 1, &[to_batch(&rows(0, 5)).unwrap()]);
        let found = store.newest_valid().unwrap().unwrap();
        assert_eq!(found.manifest().build, Some(this_build()));
        found.is_readable().unwrap();
        drop((data, store));
        let (ours, other) = (
            this_build().to_string(),
            Fingerprint(!this_build().0).to_string(),
        );
        edit(dir.path(), 1, |text| text.replace(&ours, &other));
        let (_data, store) = opened(dir.path(), Codec::Abomonation);
        let found = store.newest_valid().unwrap().unwrap();
        let text = found.load(BOUNDARY).unwrap_err().to_string();
        for words in [
            "checkpoint 1",
            "another build wrote it",
            "snapshot.codec = \"arrow\"",
        ] {
            assert!(text.contains(words), "{text}");
        }
        // Its segment says the same, whatever the manifest says.
        let mut bytes = Vec::new();
        Image
            .encode(&to_batch(&rows(0, 5)).unwrap(), &mut bytes)
            .unwrap();
        bytes[9] ^= 1;
        assert_eq!(Image.decode(bytes).unwrap_err(), "another build wrote it");
        assert!(Image.decode(vec![0; 40]).is_err());
        assert!(Image.decode(Vec::new()).is_err());
    }

    #[test]
    fn a_change_of_the_setting_writes_everything_anew() {
        let dir = tempfile::tempdir().unwrap();
        let all = rows(0, 10);
        let batch = to_batch(&all).unwrap();
        let mut epoch = 0;
        for codec in [Codec::Arrow, Codec::Abomonation, Codec::Arrow] {
            let (_data, store) = opened(dir.path(), codec);
            if let Some(found) = store.newest_valid().unwrap() {
                assert_eq!(read(&found).len(), 11);
                assert!(found.is_to_be_rewritten(BOUNDARY));
                store.resume(&found);
            }
            epoch += 1;
            publish(&store, epoch, std::slice::from_ref(&batch));
            // What follows builds on it.
            epoch += 1;
            publish(&store, epoch, &[batch.slice(0, 1)]);
            let found = store.newest_valid().unwrap().unwrap();
            assert!(!found.is_to_be_rewritten(BOUNDARY));
            assert_eq!(found.manifest().segments().count(), 2, "{codec}");
            assert_eq!(
                found.manifest().build.is_some(),
                codec == Codec::Abomonation
            );
        }
    }
}
