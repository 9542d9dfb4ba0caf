//! The changes of a query over some epochs, written piece by piece; once for all who get the same.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use warp::hyper::body::Bytes;

use super::wire::{AsOf, Format, Frame, PIECE, one_line};
use crate::time::Epoch;
use crate::view::{Change, KeyRange};

/// About how many bytes a change takes besides its row.
const FRAME: usize = 48;

/// The net changes from one epoch to another: an event for whoever is at the first.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) from: Epoch,
    pub(super) as_of: AsOf,
    /// Removals, then additions, each in row order.
    changes: Vec<Change>,
    /// Where the additions begin.
    additions: usize,
    /// About how many bytes it has as an event.
    pub(super) event_bytes: usize,
    /// The token of who follows the whole query.
    id: String,
    /// What is written already for those who follow the whole query, by format.
    written: [Mutex<Vec<Piece>>; 2],
}

/// A piece, and where the next one begins.
#[derive(Clone, Debug)]
struct Piece {
    bytes: Bytes,
    next: Option<Place>,
}

/// Before an occurrence of a change: how many changes, and how many occurrences, come before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    change: usize,
    times: u64,
}

/// The changes that a subscriber gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// All.
    Whole,
    /// These removals and these additions, under a token of one's own.
    Some(Range<usize>, Range<usize>, String),
}

/// How far an event is sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pieces: usize,
    place: Place,
}

impl Step {
    pub(super) fn new(from: Epoch, as_of: AsOf, changes: Vec<Change>, id: String) -> Step {
        let additions = changes.partition_point(|change| change.diff < 0);
        Step {
            from,
            as_of,
            event_bytes: changes
                .iter()
                .map(event_bytes)
                .fold(0, usize::saturating_add),
            changes,
            additions,
            id,
            written: [Mutex::default(), Mutex::default()],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// About how many bytes it takes in memory, once it is written.
    pub(super) fn bytes(&self) -> usize {
        let rows = size_of::<Change>() * self.changes.len();
        size_of::<Step>() + rows.saturating_add(self.event_bytes)
    }

    /// The changes of a range of keys; `None` where it has none.
    pub(super) fn share(&self, range: &KeyRange, id: impl FnOnce() -> String) -> Option<Share> {
        let (removals, additions) = self.changes.split_at(self.additions);
        let removals = range.places(removals, |change| &change.row);
        let places = range.places(additions, |change| &change.row);
        let additions = places.start + self.additions..places.end + self.additions;
        let is_none = removals.is_empty() && additions.is_empty();
        (!is_none).then(|| Share::Some(removals, additions, id()))
    }

    /// The next piece of the event.
    pub(super) fn next(&self, share: &Share, format: Format, sent: &mut Sent) -> Frame {
        let piece = match share {
            Share::Whole => self.shared(format, sent.pieces),
            Share::Some(removals, additions, id) => {
                let changes = [
                    &self.changes[removals.clone()],
                    &self.changes[additions.clone()],
                ];
                self.write(changes, sent.place, format, id)
            }
        };
        let is_first = sent.pieces == 0;
        sent.pieces += 1;
        sent.place = piece.next.unwrap_or_default();
        Frame {
            bytes: piece.bytes,
            is_first,
            is_last: piece.next.is_none(),
        }
    }

    /// A piece of the whole event, written by whoever needs it first.
    fn shared(&self, format: Format, n: usize) -> Piece {
        let mut written = self.written[format as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while written.len() <= n {
            let place = written.last().and_then(|piece| piece.next);
            let changes = [self.changes.as_slice(), &[]];
            let piece = self.write(changes, place.unwrap_or_default(), format, &self.id);
            written.push(piece);
        }
        written[n].clone()
    }

    fn write(&self, parts: [&[Change]; 2], from: Place, format: Format, id: &str) -> Piece {
        let mut out = Vec::new();
        if from == Place::default() {
            format.open(&mut out, "changes", Some(id));
            self.as_of.write(&mut out);
            out.extend_from_slice(b",\"changes\":[");
        }
        let [first, second] = parts;
        let changes = first.iter().chain(second).enumerate().skip(from.change);
        let mut times = from.times;
        for (n, change) in changes {
            for done in std::mem::take(&mut times)..change.diff.unsigned_abs() {
                let place = Place {
                    change: n,
                    times: done,
                };
                if out.len() >= PIECE {
                    return Piece {
                        bytes: out.into(),
                        next: Some(place),
                    };
                }
                if place != Place::default() {
                    out.push(b',');
                }
                write_change(&mut out, change);
            }
        }
        out.push(b']');
        format.close(&mut out);
        Piece {
            bytes: out.into(),
            next: None,
        }
    }
}

fn event_bytes(change: &Change) -> usize {
    let times = usize::try_from(change.diff.unsigned_abs()).unwrap_or(usize::MAX);
    let once = FRAME + change.row.key().len() + change.row.value().len();
    once.saturating_mul(times)
}

fn write_change(out: &mut Vec<u8>, change: &Change) {
    let op: &[u8] = if change.diff < 0 { b"-" } else { b"+" };
    out.extend_from_slice(b"{\"op\":\"");
    out.extend_from_slice(op);
    out.extend_from_slice(b"\",\"key\":");
    one_line(out, change.row.key());
    out.extend_from_slice(b",\"value\":");
    one_line(out, change.row.value());
    if change.is_expiry {
        out.extend_from_slice(b",\"expired\":true");
    }
    out.push(b'}');
}
