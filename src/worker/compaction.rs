//! Merging the segments of checkpoints beside everything else: at once where there is little of
//! them, else on a thread that leaves half of a core, and of the disk, to others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::state::{CheckpointStore, SMALL};
use crate::view::CheckpointInfo;

/// Merges segments, one checkpoint's at a time.
pub(super) struct Compaction {
    store: CheckpointStore,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Compaction {
    /// Begins none. It ends early once `stops` is set.
    pub fn new(store: CheckpointStore, stops: Arc<AtomicBool>) -> Compaction {
        Compaction {
            store,
            stops,
            thread: None,
        }
    }

    /// Looks whether it is time, after a checkpoint.
    pub fn after(&mut self, checkpoint: &Result<CheckpointInfo, String>) {
        if checkpoint.is_err() || self.thread.as_ref().is_some_and(|it| !it.is_finished()) {
            return;
        }
        self.join();
        match self.store.compaction_due() {
            None => {}
            Some(bytes) if bytes <= SMALL => compact(&self.store, &mut || true),
            Some(_) => self.begin(),
        }
    }

    fn begin(&mut self) {
        let (store, stops) = (self.store.clone(), Arc::clone(&self.stops));
        let thread = std::thread::Builder::new()
            .name("compaction".to_owned())
            .spawn(move || compact(&store, &mut pacing(&stops)));
        match thread {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => tracing::warn!(%error, "segments are merged later"),
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("merging segments panicked");
        }
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.join();
    }
}

/// Rests as long as the work before took.
#[allow(
    clippy::disallowed_methods,
    reason = "an edge: it measures what it costs others"
)]
fn pacing(stops: &AtomicBool) -> impl FnMut() -> bool {
    let mut since = Instant::now();
    move || {
        std::thread::park_timeout(since.elapsed());
        since = Instant::now();
        !stops.load(Ordering::Relaxed)
    }
}

fn compact(store: &CheckpointStore, goes_on: &mut dyn FnMut() -> bool) {
    if let Err(error) = store.compact(goes_on) {
        // Nothing is lost by it, but disk: layers pile up.
        tracing::error!(%error, "segments cannot be merged; a restart begins with what is whole");
    }
}
