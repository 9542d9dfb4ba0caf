//! What readers may see of a stream: its acknowledged segments, and who is woken when they grow.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::segment::Segment;
use crate::source::Wake;

/// The acknowledged part of a stream, shared by its one writer and its readers.
pub(super) struct Visible {
    pub stream: String,
    segments: Mutex<VecDeque<Segment>>,
    /// Weak, so that a reader that is gone is not woken and costs nothing.
    wakes: Mutex<Vec<Weak<dyn Fn() + Send + Sync>>>,
}

/// Where a position lies.
pub(super) struct Spot {
    /// First position of the segment, which names it.
    pub segment: u64,
    pub path: PathBuf,
    /// Readable bytes of the segment.
    pub len: u64,
    /// Offset of a frame at or shortly before the position.
    pub offset: u64,
}

impl Visible {
    pub fn new(stream: &str, segments: VecDeque<Segment>) -> Arc<Visible> {
        let (segments, wakes) = (Mutex::new(segments), Mutex::default());
        Arc::new(Visible {
            stream: stream.to_string(),
            segments,
            wakes,
        })
    }

    pub fn segments(&self) -> MutexGuard<'_, VecDeque<Segment>> {
        // Each change is one assignment or one push, so a panic leaves nothing half done.
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first position that can be read and the position after the last.
    pub fn range(&self) -> (u64, u64) {
        let segments = self.segments();
        let first = segments.front().map_or(0, |segment| segment.first);
        (first, segments.back().map_or(first, |segment| segment.end))
    }

    /// Where the record of a position lies; `None` where it is not there.
    pub fn spot(&self, position: u64) -> Option<Spot> {
        let segments = self.segments();
        let after = segments.partition_point(|segment| segment.first <= position);
        let segment = segments.get(after.checked_sub(1)?)?;
        (position < segment.end).then(|| Spot {
            segment: segment.first,
            path: segment.path.clone(),
            len: segment.len,
            offset: segment.offset_before(position),
        })
    }

    /// Wakes `wake` when records are acknowledged, as long as the caller keeps it.
    pub fn register(&self, wake: &Wake) {
        let mut wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes.retain(|wake| wake.strong_count() > 0);
        wakes.push(Arc::downgrade(wake));
    }

    pub fn wake(&self) {
        let wakes: Vec<Wake> = {
            let wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
            wakes.iter().filter_map(Weak::upgrade).collect()
        };
        for wake in wakes {
            wake();
        }
    }
}
