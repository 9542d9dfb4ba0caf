//! Checkpoints from the workers' side: rows leave the worker threads at once and are encoded and
//! written elsewhere; a checkpoint is published when every boundary of every worker is on disk.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::compaction::Compaction;
use crate::columns::share::Share;
use crate::dataflow::changes::hashing;
use crate::dataflow::vault::{Encode, Saved, Vault, Work};
use crate::state::{Checkpoint, CheckpointStore, CheckpointWriter, Manifest};
use crate::time::Epoch;
use crate::view::{CheckpointInfo, Sent};

/// Pieces of work that may wait for the writer before workers keep more to themselves.
const WAITING: usize = 64;

/// What the writer thread is asked to do, in order.
enum Job {
    /// A checkpoint begins; this many boundaries of a worker belong to it.
    Begin(CheckpointWriter, usize),
    /// One boundary's rows of one worker.
    Segment {
        boundary: String,
        worker: usize,
        epoch: Epoch,
        rows: Encode,
    },
    /// Something a worker had no time for.
    Work(Work),
    /// Everything that segments do not say; publish once they are all written.
    Publish(Box<Manifest>),
}

/// Hears how a checkpoint ended.
pub type Heard = Box<dyn Fn(Epoch, Result<CheckpointInfo, String>) + Send>;

/// Says how far the sinks have sent.
pub type SentNow = Box<dyn Fn() -> BTreeMap<String, Sent> + Send>;

/// The writer thread, and the checkpoint to start from.
pub struct Snapshots {
    jobs: Sender<Job>,
    waiting: Arc<AtomicUsize>,
    stops: Arc<AtomicBool>,
    restored: Option<Arc<Checkpoint>>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshots {
    /// Starts the writer. `restored` is the checkpoint to start from, `sent` is asked when one is
    /// published: the later, the further the sinks have come.
    pub fn start(
        store: CheckpointStore,
        restored: Option<Arc<Checkpoint>>,
        sent: SentNow,
        heard: Heard,
    ) -> std::io::Result<Snapshots> {
        let (jobs, receiver) = channel();
        let (waiting, stops) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let mut writing = Writing {
            heard,
            sent,
            open: None,
            waiting: Arc::clone(&waiting),
            compaction: Compaction::new(store, Arc::clone(&stops)),
        };
        let thread = std::thread::Builder::new()
            .name("snapshots".to_owned())
            .spawn(move || writing.run(&receiver))?;
        Ok(Snapshots {
            jobs,
            waiting,
            stops,
            restored,
            thread: Some(thread),
        })
    }

    /// What makes each of so many workers its vault.
    pub fn vaults(
        &self,
        workers: usize,
    ) -> impl Fn(usize) -> Rc<dyn Vault> + Send + Sync + 'static {
        let jobs = Mutex::new(self.jobs.clone());
        let (waiting, restored) = (Arc::clone(&self.waiting), self.restored.clone());
        move |worker| {
            let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Rc::new(WorkerVault {
                worker,
                share: Share {
                    me: worker as u64,
                    of: workers.max(1) as u64,
                    hashing: hashing(),
                },
                jobs,
                waiting: Arc::clone(&waiting),
                restored: restored.clone(),
            })
        }
    }

    /// Announces a checkpoint before its epoch is fed. `shares` is how many boundaries the workers
    /// will save, each worker's counted.
    pub fn begin(&self, writer: CheckpointWriter, shares: usize) {
        // A writer thread that is gone has said so through `heard`.
        let _ = self.jobs.send(Job::Begin(writer, shares));
    }

    /// Says the rest of the checkpoint; it is published when its segments are written.
    pub fn publish(&self, manifest: Manifest) {
        let _ = self.jobs.send(Job::Publish(Box::new(manifest)));
    }

    /// Waits for what is under way; segments that are being merged are given up.
    pub fn finish(mut self) {
        self.stops.store(true, Ordering::Relaxed);
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
    share: Share,
    jobs: Sender<Job>,
    waiting: Arc<AtomicUsize>,
    restored: Option<Arc<Checkpoint>>,
}

impl Vault for WorkerVault {
    fn share(&self) -> Option<Share> {
        Some(self.share)
    }

    fn restore(&self, boundary: &str) -> Saved {
        super::restore::saved(self.restored.as_deref(), boundary, Some(&self.share))
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

    fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= WAITING
    }

    fn elsewhere(&self, work: Work) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.jobs.send(Job::Work(work));
    }
}

struct Writing {
    heard: Heard,
    sent: SentNow,
    open: Option<Open>,
    waiting: Arc<AtomicUsize>,
    compaction: Compaction,
}

struct Open {
    writer: CheckpointWriter,
    missing: usize,
    manifest: Option<Manifest>,
    failed: Option<String>,
    /// Who waits to hear whether it counts.
    settle: Vec<Box<dyn FnOnce(bool) + Send>>,
}

impl Writing {
    fn run(&mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            match job {
                Job::Begin(writer, missing) => {
                    let open = Open {
                        writer,
                        missing,
                        manifest: None,
                        failed: None,
                        settle: Vec::new(),
                    };
                    if let Some(before) = self.open.replace(open) {
                        before.settle(false);
                    }
                }
                Job::Work(work) => {
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                    work();
                }
                Job::Segment {
                    boundary,
                    worker,
                    epoch,
                    rows,
                } => {
                    let of = |open: &&mut Open| open.writer.epoch() == epoch;
                    let Some(open) = self.open.as_mut().filter(of) else {
                        unsaved(rows);
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
                let (epoch, result) = (open.writer.epoch(), open.publish((self.sent)()));
                // Before anybody builds on it: what is small is merged at once.
                self.compaction.after(&result);
                (self.heard)(epoch, result);
            }
        }
    }
}

/// Has rows go back to where changes are kept: there is no checkpoint for them.
fn unsaved(rows: Encode) {
    if let Ok(written) = rows(&mut |_| Ok(())) {
        (written.settle)(false);
    }
}

impl Open {
    fn write(&mut self, boundary: &str, worker: usize, rows: Encode) -> Result<(), String> {
        if self.failed.is_some() {
            unsaved(rows);
            return Ok(());
        }
        let writer = &self.writer;
        let mut take = |batch: arrow_array::RecordBatch| {
            // No rows, no file: a manifest that names no segment says the same.
            if batch.num_rows() == 0 {
                return Ok(());
            }
            let written = writer.write_segment(boundary, worker, &batch);
            written.map(|_| ()).map_err(|error| error.to_string())
        };
        let written = rows(&mut take).map_err(|error| format!("state '{boundary}': {error}"))?;
        writer.is_of_changes(boundary, written.note);
        self.settle.push(written.settle);
        Ok(())
    }

    fn settle(self, is_saved: bool) {
        self.settle.into_iter().for_each(|settle| settle(is_saved));
    }

    fn publish(self, sinks: BTreeMap<String, Sent>) -> Result<CheckpointInfo, String> {
        let published = match (self.failed, self.manifest) {
            (Some(why), _) => Err(why),
            (None, Some(manifest)) => self
                .writer
                .publish(Manifest { sinks, ..manifest })
                .map_err(|error| error.to_string()),
            (None, None) => Err("its positions are not known".to_owned()),
        };
        let is_saved = published.is_ok();
        self.settle.into_iter().for_each(|settle| settle(is_saved));
        published
    }
}

#[cfg(test)]
mod tests;
