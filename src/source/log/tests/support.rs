//! What the tests of the log share: a log in its own directory, a settable clock, a failing disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use crate::source::log::disk::{Disk, DiskFile, OsDisk};
use crate::source::log::{EmbeddedLog, LogError, LogOptions, StreamDef};
use crate::source::{Clock, Source};
use crate::time::Timestamp;
use crate::view::{Ingest, IngestError, PostAnswer, PostRequest};

pub type Outcome = Result<PostAnswer, IngestError>;

/// The operating system's files, until told to fail.
#[derive(Default)]
pub struct FailingDisk {
    /// Creating fails, and writing fails after half of the bytes.
    pub full: AtomicBool,
    pub sync_fails: AtomicBool,
    pub truncate_fails: AtomicBool,
}

struct FailingFile(Box<dyn DiskFile>, Arc<FailingDisk>);

/// A disk shared with the test.
pub struct Shared(pub Arc<FailingDisk>);

fn fail_if(flag: &AtomicBool, text: &str) -> io::Result<()> {
    if flag.load(Ordering::SeqCst) {
        Err(io::Error::other(text))
    } else {
        Ok(())
    }
}

impl Disk for Shared {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        fail_if(&self.0.full, "no space left")?;
        Ok(Box::new(FailingFile(
            OsDisk.create(path)?,
            Arc::clone(&self.0),
        )))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FailingFile(
            OsDisk.open(path)?,
            Arc::clone(&self.0),
        )))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.sync_dir(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }
}

impl DiskFile for FailingFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.1.full.load(Ordering::SeqCst) {
            self.0.write_at(&bytes[..bytes.len() / 2], offset)?;
        }
        fail_if(&self.1.full, "no space left")?;
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        fail_if(&self.1.sync_fails, "input/output error")?;
        self.0.sync()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fail_if(&self.1.truncate_fails, "input/output error")?;
        self.0.set_len(len)
    }
}

/// A directory with the log of one stream `s`, which can be closed and opened again.
pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub now: Arc<AtomicI64>,
    pub options: LogOptions,
    pub disk: Arc<FailingDisk>,
    /// Lets the line `wait`, on which the judge waits, go on.
    pub go_on: Sender<()>,
    gate: Arc<Mutex<Receiver<()>>>,
}

impl Fixture {
    pub fn new(options: LogOptions) -> Fixture {
        let (go_on, gate) = mpsc::channel();
        Fixture {
            dir: tempfile::tempdir().unwrap(),
            now: Arc::new(AtomicI64::new(1_000)),
            options,
            disk: Arc::default(),
            go_on,
            gate: Arc::new(Mutex::new(gate)),
        }
    }

    /// Small segments: a new one with nearly every post.
    pub fn with_small_segments() -> Fixture {
        Fixture::new(LogOptions {
            segment_bytes: 200,
            ..LogOptions::default()
        })
    }

    pub fn try_open(&self) -> Result<Arc<EmbeddedLog>, LogError> {
        let gate = Arc::clone(&self.gate);
        let judge = move |line: &[u8], _arrival| {
            if line == b"wait" {
                gate.lock().unwrap().recv().unwrap();
            }
            if line.starts_with(b"bad") {
                Err("bad".to_string())
            } else {
                Ok(())
            }
        };
        let streams = [StreamDef {
            name: "s".to_string(),
            judge: Arc::new(judge),
        }];
        let now = Arc::clone(&self.now);
        let clock: Clock = Arc::new(move || Timestamp(now.load(Ordering::SeqCst)));
        let disk = Arc::new(Shared(Arc::clone(&self.disk)));
        EmbeddedLog::open_on(disk, self.dir.path(), &streams, self.options.clone(), clock)
    }

    pub fn open(&self) -> Arc<EmbeddedLog> {
        self.try_open().unwrap()
    }

    pub fn advance(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }

    /// The segment files, in order.
    pub fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = fs::read_dir(self.dir.path().join("s"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        paths.sort();
        paths
    }

    pub fn segment_len(&self, at: usize) -> u64 {
        File::open(&self.segments()[at])
            .unwrap()
            .metadata()
            .unwrap()
            .len()
    }
}

pub fn request(lines: &[&str], key: Option<&str>) -> PostRequest {
    PostRequest {
        lines: lines.iter().map(|line| line.as_bytes().to_vec()).collect(),
        idempotency_key: key.map(str::to_string),
        digest: Sha256::digest(lines.join("\n")).into(),
    }
}

/// Posts; the outcome comes later.
pub fn begin(log: &EmbeddedLog, lines: &[&str], key: Option<&str>) -> Receiver<Outcome> {
    let (answer, answered) = mpsc::channel();
    let reply = Box::new(move |outcome| answer.send(outcome).unwrap());
    log.post("s", request(lines, key), reply);
    answered
}

/// Posts and waits for the outcome.
pub fn post(log: &EmbeddedLog, lines: &[&str], key: Option<&str>) -> Outcome {
    begin(log, lines, key).recv().unwrap()
}

/// A record as read: position, line, arrival.
pub type Read = (u64, String, i64);

/// Reads `from..until` in chunks of at most `max_bytes`, checking what each chunk says of itself.
pub fn read(
    source: &mut impl Source,
    from: u64,
    max_bytes: usize,
    until: Option<u64>,
) -> Vec<Read> {
    let (mut at, mut all) = (from, Vec::new());
    while let Some(chunk) = source.read(0, at, max_bytes, until).unwrap() {
        assert_eq!((chunk.partition, chunk.start), (0, at));
        let (mut offset, mut position) = (0, at);
        for span in &chunk.spans {
            assert_eq!((span.offset, span.first), (offset, position));
            offset += span.len;
            let lines = &chunk.bytes[span.offset..offset];
            assert!(lines.ends_with(b"\n"));
            for line in lines[..lines.len() - 1].split(|byte| *byte == b'\n') {
                let text = String::from_utf8(line.to_vec()).unwrap();
                all.push((position, text, span.arrival.unwrap().0));
                position += 1;
            }
        }
        assert_eq!((offset, position), (chunk.bytes.len(), chunk.end));
        assert!(chunk.bytes.len() <= max_bytes || chunk.end == chunk.start + 1);
        at = chunk.end;
    }
    all
}

/// Every line of the log.
pub fn lines(log: &EmbeddedLog) -> Vec<String> {
    let mut source = log.source("s").unwrap();
    let first = source.partitions().unwrap()[0].first;
    read(&mut source, first, 1 << 20, None)
        .into_iter()
        .map(|(_, line, _)| line)
        .collect()
}
