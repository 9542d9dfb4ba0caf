//! What the log may forget: deletes segments that nothing needs, and carries over old keys that
//! would keep a segment for ever.

use std::fs;
use std::io;
use std::path::Path;

use super::frame::{self, Frame, Keyed, NewFrame};
use super::keys::{Place, Remembered};
use super::scan::{Found, Frames};
use super::segment::segment_path;
use super::stream::{Key, Pending, StreamLog};
use crate::time::Timestamp;

/// How much is carried over at a time: posts wait meanwhile.
const CARRY_BYTES: usize = 4 << 20;

impl StreamLog {
    /// Deletes the segments that no restart, no key and no retention needs.
    ///
    /// A key that is old but among the newest is written again, into the current group, so that
    /// few keyed posts among many others do not keep the whole log; its segment goes next time.
    pub fn release(&mut self, position: u64, now: Timestamp) {
        self.keys.expire(now, &self.options);
        let keys_from = self.keys.oldest_segment().unwrap_or(u64::MAX);
        loop {
            let oldest = {
                let segments = self.visible.segments();
                segments.front().filter(|_| segments.len() > 1).cloned()
            };
            let unneeded = oldest.filter(|segment| {
                segment.end <= position
                    && segment.first < keys_from
                    && segment.newest.plus(self.options.retain) <= now
            });
            let Some(segment) = unneeded else { break };
            match self.disk.remove(&segment.path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    let path = segment.path.display();
                    tracing::warn!(%path, %cause, "log segment not deleted; trying again later");
                    return;
                }
                _ => drop(self.visible.segments().pop_front()),
            }
        }
        if let Err(cause) = self.carry(position, now) {
            let stream = &self.visible.stream;
            tracing::error!(stream, cause, "old idempotency keys keep log segments");
        }
    }

    /// Writes the keys again that alone keep segments.
    fn carry(&mut self, position: u64, now: Timestamp) -> Result<(), String> {
        let keep = self.options.retain.max(self.options.keep_keys_for);
        let (before, holds_records) = {
            let segments = self.visible.segments();
            let kept = segments.len().saturating_sub(1);
            let old = segments
                .iter()
                .take(kept)
                .take_while(|segment| segment.end <= position && segment.newest.plus(keep) <= now);
            let holds_records = segments.back().is_some_and(|last| last.end > last.first);
            (old.last().map_or(0, |segment| segment.end), holds_records)
        };
        // A segment without records may be begun again under its name, so it must not hold keys.
        if before == 0 || self.active.is_none() || !holds_records {
            return Ok(());
        }
        let Some((base, next)) = self.tail() else {
            return Ok(());
        };
        (self.group.base, self.group.next) = (base, next);
        let mut frames = KeyedFrames::new(&self.dir);
        let group = &mut self.group;
        let old = self.keys.old(now, &self.options);
        for (number, Remembered { arrival, place, .. }) in old {
            if place.segment >= before {
                continue;
            }
            if group.bytes.len() >= CARRY_BYTES {
                break;
            }
            let offset = base + group.bytes.len() as u64;
            let answer = frames.read(place, |frame| {
                let ((key, digest), answer) = frame.key.zip(frame.answer())?;
                let keyed = Some(Keyed {
                    key,
                    digest,
                    answer: &answer,
                });
                let again = NewFrame {
                    first: next,
                    arrival,
                    synced: base,
                    keyed,
                    lines: &[],
                };
                frame::encode(&again, &mut group.bytes).map(|()| answer)
            })?;
            let Some(answer) = answer else { continue };
            let len = base + group.bytes.len() as u64 - offset;
            let (key, waiting) = (Key::Carried(number), Vec::new());
            group.frames.push(Pending {
                offset,
                len,
                end: next,
                arrival,
                key,
                answer,
                waiting,
            });
        }
        Ok(())
    }
}

/// Reads frames that hold keys, best in the order they lie in.
pub(super) struct KeyedFrames<'a> {
    dir: &'a Path,
    open: Option<(u64, Frames)>,
}

impl KeyedFrames<'_> {
    pub fn new(dir: &Path) -> KeyedFrames<'_> {
        KeyedFrames { dir, open: None }
    }

    /// Reads the frame at a place; the error says which file could not be read and why.
    pub fn read<R>(
        &mut self,
        place: Place,
        read: impl FnOnce(Frame<'_>) -> R,
    ) -> Result<R, String> {
        let path = segment_path(self.dir, place.segment);
        let unreadable = |cause: &dyn std::fmt::Display| {
            format!(
                "cannot read '{}' at byte {}: {cause}",
                path.display(),
                place.offset
            )
        };
        let (segment, mut frames) = match self.open.take() {
            Some((segment, frames)) if segment == place.segment => (segment, frames),
            _ => {
                let frames = fs::metadata(&path)
                    .and_then(|meta| Frames::open(&path, meta.len()))
                    .map_err(|cause| unreadable(&cause))?;
                (place.segment, frames)
            }
        };
        let result = match frames
            .at(place.offset)
            .map_err(|cause| unreadable(&cause))?
        {
            Found::Frame(frame) => read(frame),
            Found::Bad(reason) => return Err(unreadable(&reason)),
            Found::End => return Err(unreadable(&"the file is shorter than it was")),
        };
        self.open = Some((segment, frames));
        Ok(result)
    }
}
