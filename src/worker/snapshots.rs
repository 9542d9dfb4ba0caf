//! Checkpoints from the workers' side: rows leave the worker threads at once and are encoded and
//! written elsewhere; a checkpoint is published when every boundary of every worker is on disk.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arrow_array::RecordBatch;

use crate::dataflow::vault::{Encode, Vault};
use crate::state::{CheckpointWriter, Manifest, StateError};
use crate::time::Epoch;
use crate::view::{CheckpointInfo, Sent};

/// What the writer thread is asked to do, in order.
enum Job {
    /// A checkpoint begins; this many segments belong to it.
    Begin(CheckpointWriter, usize),
    /// One boundary's rows of one worker.
    Segment {
        boundary: String,
        worker: usize,
        epoch: Epoch,
        rows: Encode,
    },
    /// Everything that segments do not say; publish once they are all written.
    Publish(Box<Manifest>),
}

/// Hears how a checkpoint ended.
pub type Heard = Box<dyn Fn(Epoch, Result<CheckpointInfo, String>) + Send>;

/// Says how far the sinks have sent.
pub type SentNow = Box<dyn Fn() -> BTreeMap<String, Sent> + Send>;

/// The writer thread, and the rows to start from.
pub struct Snapshots {
    jobs: Sender<Job>,
    restored: Arc<Mutex<BTreeMap<String, Vec<RecordBatch>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshots {
    /// Starts the writer. `restored` are the rows of the checkpoint to start from, `sent` is asked
    /// when one is published: the later, the further the sinks have come.
    pub fn start(
        restored: BTreeMap<String, Vec<RecordBatch>>,
        sent: SentNow,
        heard: Heard,
    ) -> std::io::Result<Snapshots> {
        let (jobs, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("snapshots".to_owned())
            .spawn(move || {
                let open = None;
                Writing { heard, sent, open }.run(&receiver);
            })?;
        let restored = Arc::new(Mutex::new(restored));
        Ok(Snapshots {
            jobs,
            restored,
            thread: Some(thread),
        })
    }

    /// What makes each worker its vault.
    pub fn vaults(&self) -> impl Fn(usize) -> Rc<dyn Vault> + Send + Sync + 'static {
        let (jobs, restored) = (Mutex::new(self.jobs.clone()), Arc::clone(&self.restored));
        move |worker| {
            let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Rc::new(WorkerVault {
                worker,
                jobs,
                restored: Arc::clone(&restored),
            })
        }
    }

    /// Lets go of the rows to start from, once all workers have taken theirs.
    pub fn forget_restored(&self) {
        self.restored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Announces a checkpoint before its epoch is fed. `segments` is how many rows-of-a-boundary
    /// the workers will save.
    pub fn begin(&self, writer: CheckpointWriter, segments: usize) {
        // A writer thread that is gone has said so through `heard`.
        let _ = self.jobs.send(Job::Begin(writer, segments));
    }

    /// Says the rest of the checkpoint; it is published when its segments are written.
    pub fn publish(&self, manifest: Manifest) {
        let _ = self.jobs.send(Job::Publish(Box::new(manifest)));
    }

    /// Waits for what is under way.
    pub fn finish(mut self) {
        let (unused, _) = channel();
        drop(std::mem::replace(&mut self.jobs, unused));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the snapshot writer panicked");
        }
    }
}

struct WorkerVault {
    worker: usize,
    jobs: Sender<Job>,
    restored: Arc<Mutex<BTreeMap<String, Vec<RecordBatch>>>>,
}

impl Vault for WorkerVault {
    fn restore(&self, boundary: &str) -> Vec<RecordBatch> {
        // A batch is columns behind reference counts; this copies no rows.
        let restored = self.restored.lock().unwrap_or_else(PoisonError::into_inner);
        restored.get(boundary).cloned().unwrap_or_default()
    }

    fn save(&self, boundary: &str, epoch: Epoch, rows: Encode) {
        let boundary = boundary.to_owned();
        let _ = self.jobs.send(Job::Segment {
            boundary,
            worker: self.worker,
            epoch,
            rows,
        });
    }
}

struct Writing {
    heard: Heard,
    sent: SentNow,
    open: Option<Open>,
}

struct Open {
    writer: CheckpointWriter,
    missing: usize,
    manifest: Option<Manifest>,
    failed: Option<String>,
}

impl Writing {
    fn run(mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            match job {
                Job::Begin(writer, missing) => {
                    self.open = Some(Open {
                        writer,
                        missing,
                        manifest: None,
                        failed: None,
                    });
                }
                Job::Segment {
                    boundary,
                    worker,
                    epoch,
                    rows,
                } => {
                    let of = |open: &&mut Open| open.writer.epoch() == epoch;
                    let Some(open) = self.open.as_mut().filter(of) else {
                        continue;
                    };
                    open.missing = open.missing.saturating_sub(1);
                    if let Err(why) = open.write(&boundary, worker, rows) {
                        open.failed.get_or_insert(why);
                    }
                }
                Job::Publish(manifest) => {
                    if let Some(open) = &mut self.open {
                        open.manifest = Some(*manifest);
                    }
                }
            }
            if let Some(open) = self
                .open
                .take_if(|open| open.missing == 0 && open.manifest.is_some())
            {
                (self.heard)(open.writer.epoch(), open.publish((self.sent)()));
            }
        }
    }
}

impl Open {
    fn write(&self, boundary: &str, worker: usize, rows: Encode) -> Result<(), String> {
        if self.failed.is_some() {
            return Ok(());
        }
        let batch = rows().map_err(|error| format!("state '{boundary}': {error}"))?;
        // No rows, no file: a manifest that names no segment says the same.
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let written = self.writer.write_segment(boundary, worker, &batch);
        written
            .map(|_| ())
            .map_err(|error: StateError| error.to_string())
    }

    fn publish(self, sinks: BTreeMap<String, Sent>) -> Result<CheckpointInfo, String> {
        match (self.failed, self.manifest) {
            (Some(why), _) => Err(why),
            (None, Some(manifest)) => self
                .writer
                .publish(Manifest { sinks, ..manifest })
                .map_err(|error| error.to_string()),
            (None, None) => Err("its positions are not known".to_owned()),
        }
    }
}
