//! The writer of one stream: gathers posts into a group and makes the group durable in one go.
//!
//! Only the appender thread touches it. A group that fails leaves nothing: its posts are answered
//! with the failure, its bytes are cut off or left behind in a segment that is closed before them.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::frame::{self, Keyed, NewFrame};
use super::keys::{Fingerprint, Keys, Place, Remembered, fingerprint};
use super::retain::KeyedFrames;
use super::segment::{Segment, SegmentHeader};
use super::visible::Visible;
use super::{Judge, LogOptions};
use crate::time::Timestamp;
use crate::view::{IngestError, LineVerdict, PostAnswer, PostReply, PostRequest};

/// How many rejected lines an answer names; the others are only counted. All are in the log, and
/// the dataflow lists them. A post of nothing but line breaks and rubbish stays affordable so.
const MAX_LISTED: usize = 10_000;
/// How much of a reason is kept.
const MAX_REASON: usize = 500;
/// Buffer kept from one group to the next.
const KEEP_BUFFER: usize = 8 << 20;

/// Outcomes to be told once everything is in order.
pub(super) type Replies = Vec<(PostReply, Result<PostAnswer, IngestError>)>;

/// The writing side of a stream.
pub(super) struct StreamLog {
    pub dir: PathBuf,
    pub judge: Judge,
    pub disk: Arc<dyn Disk>,
    pub options: Arc<LogOptions>,
    pub visible: Arc<Visible>,
    /// The newest segment's file; `None` where a new segment must be begun first.
    pub active: Option<Box<dyn DiskFile>>,
    /// Arrival of the newest record: later ones are never earlier.
    pub arrival: Timestamp,
    pub keys: Keys,
    pub group: Group,
}

/// Posts that will be durable together.
#[derive(Default)]
pub(super) struct Group {
    pub bytes: Vec<u8>,
    /// Offset in the active segment where `bytes` go.
    pub base: u64,
    /// Position of the next line.
    pub next: u64,
    pub frames: Vec<Pending>,
    by_key: BTreeMap<Fingerprint, usize>,
    /// Why no segment could be begun for this group.
    failure: Option<String>,
}

/// A frame that will be durable with its group.
pub(super) struct Pending {
    pub offset: u64,
    pub len: u64,
    /// Position after its lines.
    pub end: u64,
    pub arrival: Timestamp,
    pub key: Key,
    pub answer: PostAnswer,
    /// The post, and repeats of it that came before it was durable.
    pub waiting: Vec<(PostRequest, PostReply)>,
}

/// What a frame does for idempotency.
pub(super) enum Key {
    None,
    /// Makes a key known.
    New(Fingerprint),
    /// Is the new place of a key, given by its number in the order of keys.
    Carried(usize),
}

impl StreamLog {
    /// Takes a post into the group, or answers it where nothing needs to be written.
    pub fn take(
        &mut self,
        request: PostRequest,
        reply: PostReply,
        now: Timestamp,
        replies: &mut Replies,
    ) {
        let key = request
            .idempotency_key
            .as_deref()
            .map(|key| fingerprint(key.as_bytes()));
        if let Some(key) = key {
            if let Some(at) = self.group.by_key.get(&key) {
                self.group.frames[*at].waiting.push((request, reply));
                return;
            }
            match self.remembered(key, &request) {
                Ok(None) => {}
                Ok(Some(answer)) => return replies.push((reply, Ok(answer))),
                Err(error) => return replies.push((reply, Err(error))),
            }
        }
        // A post of nothing changes nothing however often it is repeated: it needs no frame.
        if request.lines.is_empty() {
            let position = self.visible.range().1;
            return replies.push((
                reply,
                Ok(PostAnswer {
                    accepted: 0,
                    rejected: vec![],
                    position,
                }),
            ));
        }
        if let Err(cause) = self.begin(key.is_some()) {
            return replies.push((reply, Err(self.storage(cause))));
        }
        self.append(key, request, reply, now, replies);
    }

    /// Makes the group durable and visible, or nothing of it.
    pub fn commit(&mut self, now: Timestamp, replies: &mut Replies) {
        self.group.failure = None;
        let Some(file) = self
            .active
            .as_ref()
            .filter(|_| !self.group.frames.is_empty())
        else {
            return;
        };
        let mut group = std::mem::take(&mut self.group);
        let written = file.write_at(&group.bytes, group.base);
        let outcome = match written {
            Ok(()) => file.sync().map_err(|cause| ("fsync", cause)),
            Err(cause) => Err(("write", cause)),
        };
        match outcome {
            Ok(()) => self.publish(&mut group, now, replies),
            Err((action, cause)) => {
                tracing::error!(stream = self.visible.stream, action, %cause, "log not written");
                // After a failed fsync the pages may be dropped and still read as written, so the
                // file is never trusted with more.
                if file.set_len(group.base).is_err() || action == "fsync" {
                    self.active = None;
                }
                let error = self.storage(format!("{action} failed: {cause}"));
                let waiting = group.frames.drain(..).flat_map(|frame| frame.waiting);
                replies.extend(waiting.map(|(_, reply)| (reply, Err(error.clone()))));
            }
        }
        group.bytes.clear();
        group.bytes.shrink_to(KEEP_BUFFER);
        self.group.bytes = group.bytes;
    }

    /// The answer that the key's post was given, where the key is remembered.
    fn remembered(
        &self,
        key: Fingerprint,
        request: &PostRequest,
    ) -> Result<Option<PostAnswer>, IngestError> {
        let Some(place) = self.keys.find(key) else {
            return Ok(None);
        };
        let text = request.idempotency_key.as_deref().unwrap_or_default();
        let stored = KeyedFrames::new(&self.dir).read(place, |frame| match frame.key {
            Some((key, digest)) if key == text.as_bytes() => {
                Some((digest == request.digest, frame.answer()))
            }
            _ => None,
        });
        match stored.map_err(|cause| self.storage(cause))? {
            None => Ok(None),
            Some((false, _)) => Err(IngestError::KeyReused(text.to_string())),
            Some((true, Some(answer))) => Ok(Some(answer)),
            Some((true, None)) => Err(self.storage(format!("no answer is stored under '{text}'"))),
        }
    }

    /// Sees to it that there is a segment to write the group to.
    fn begin(&mut self, keyed: bool) -> Result<(), String> {
        if keyed && self.keys.len() + self.group.by_key.len() >= self.options.max_keys {
            return Err(format!(
                "{} idempotency keys are remembered, which is the bound; post without a key, more \
                 records per post, or raise the bound",
                self.options.max_keys
            ));
        }
        if let Some(cause) = &self.group.failure {
            return Err(cause.clone());
        }
        if !self.group.frames.is_empty() {
            return Ok(());
        }
        let full = self
            .tail()
            .is_none_or(|(len, _)| len >= self.options.segment_bytes);
        if (full || self.active.is_none())
            && let Err(cause) = self.roll()
        {
            let cause = format!(
                "cannot begin a segment in '{}': {cause}",
                self.dir.display()
            );
            tracing::error!(stream = self.visible.stream, cause, "log not written");
            self.group.failure = Some(cause.clone());
            return Err(cause);
        }
        (self.group.base, self.group.next) = self.tail().expect("a segment was begun");
        Ok(())
    }

    /// Length and end position of the newest segment.
    pub fn tail(&self) -> Option<(u64, u64)> {
        self.visible
            .segments()
            .back()
            .map(|segment| (segment.len, segment.end))
    }

    /// Begins a segment; its header is durable before it is used.
    fn roll(&mut self) -> io::Result<()> {
        self.active = None;
        let (_, first) = self.visible.range();
        let previous_len = {
            let segments = self.visible.segments();
            segments
                .iter()
                .rev()
                .find(|segment| segment.end > segment.first)
                .map_or(0, |s| s.len)
        };
        let segment = Segment::empty(&self.dir, first);
        let file = self.disk.create(&segment.path)?;
        file.write_at(
            &SegmentHeader {
                first,
                previous_len,
            }
            .encode(),
            0,
        )?;
        file.sync()?;
        self.disk.sync_dir(&self.dir)?;
        let mut segments = self.visible.segments();
        // A segment given up before its first record has the same name and is now this one.
        if segments.back().is_some_and(|last| last.first == first) {
            segments.pop_back();
        }
        segments.push_back(segment);
        drop(segments);
        self.active = Some(file);
        Ok(())
    }

    fn append(
        &mut self,
        key: Option<Fingerprint>,
        mut request: PostRequest,
        reply: PostReply,
        now: Timestamp,
        replies: &mut Replies,
    ) {
        let newest = self
            .group
            .frames
            .last()
            .map_or(self.arrival, |frame| frame.arrival);
        let arrival = newest.max(self.arrival).max(now);
        for line in &mut request.lines {
            keep_one_line(line);
        }
        let count = request.lines.len() as u64;
        let (rejected, listed) = self.judge_lines(&request.lines, arrival);
        let end = self.group.next + count;
        let answer = PostAnswer {
            accepted: count - rejected,
            rejected: listed,
            position: end,
        };
        let start = self.group.bytes.len();
        let text = request.idempotency_key.as_deref();
        let frame = NewFrame {
            first: self.group.next,
            arrival,
            synced: self.group.base,
            keyed: text.map(|text| Keyed {
                key: text.as_bytes(),
                digest: &request.digest,
                answer: &answer,
            }),
            lines: &request.lines,
        };
        if frame::encode(&frame, &mut self.group.bytes).is_none() {
            let cause = format!("a post may have {} bytes; split it", frame::MAX_BODY);
            return replies.push((reply, Err(self.storage(cause))));
        }
        self.group.next = end;
        if let Some(key) = key {
            self.group.by_key.insert(key, self.group.frames.len());
        }
        // The lines are in the group's bytes now; what waits need not hold them twice.
        request.lines = Vec::new();
        self.group.frames.push(Pending {
            offset: self.group.base + start as u64,
            len: (self.group.bytes.len() - start) as u64,
            end,
            arrival,
            key: key.map_or(Key::None, Key::New),
            answer,
            waiting: vec![(request, reply)],
        });
    }

    fn judge_lines(&self, lines: &[Vec<u8>], arrival: Timestamp) -> (u64, Vec<LineVerdict>) {
        let (mut rejected, mut listed) = (0, Vec::new());
        for (line, number) in lines.iter().zip(1..) {
            let verdict = catch_unwind(AssertUnwindSafe(|| (self.judge)(line, arrival)))
                .unwrap_or_else(|_| Err("the record's decoder panicked".to_string()));
            let Err(mut reason) = verdict else { continue };
            rejected += 1;
            if listed.len() < MAX_LISTED {
                let cut = (0..=MAX_REASON)
                    .rev()
                    .find(|at| reason.is_char_boundary(*at));
                reason.truncate(cut.unwrap_or(MAX_REASON));
                listed.push(LineVerdict {
                    line: number,
                    reason,
                });
            }
        }
        (rejected, listed)
    }

    fn publish(&mut self, group: &mut Group, now: Timestamp, replies: &mut Replies) {
        let mut segments = self.visible.segments();
        let segment = segments.back_mut().expect("the group was written to it");
        for frame in &group.frames {
            segment.push(frame.offset, frame.len, frame.end, frame.arrival);
            self.arrival = self.arrival.max(frame.arrival);
            let place = Place {
                segment: segment.first,
                offset: frame.offset,
            };
            match frame.key {
                Key::None => {}
                Key::New(key) => {
                    self.keys.push(Remembered {
                        arrival: frame.arrival,
                        key,
                        place,
                    });
                }
                Key::Carried(number) => self.keys.carried(number, place),
            }
        }
        drop(segments);
        self.keys.expire(now, &self.options);
        for Pending {
            answer, waiting, ..
        } in group.frames.drain(..)
        {
            let digest = waiting.first().map(|(first, _)| first.digest);
            for (request, reply) in waiting {
                let outcome = if Some(request.digest) == digest {
                    Ok(answer.clone())
                } else {
                    Err(IngestError::KeyReused(
                        request.idempotency_key.unwrap_or_default(),
                    ))
                };
                replies.push((reply, outcome));
            }
        }
        self.visible.wake();
    }

    fn storage(&self, cause: String) -> IngestError {
        IngestError::Storage {
            stream: self.visible.stream.clone(),
            cause,
        }
    }
}

/// Makes sure that a line counts as one record, whatever it holds: readers divide at line breaks
/// and skip empty lines, and each line must keep its position.
fn keep_one_line(line: &mut Vec<u8>) {
    if line.iter().all(u8::is_ascii_whitespace) {
        *line = b"null".to_vec();
        return;
    }
    for byte in line.iter_mut().filter(|byte| **byte == b'\n') {
        *byte = b' ';
    }
}
