//! Finding a record's raw bytes again while its epoch is open.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::reading::each_json;
use crate::record::{Chunk, Format, Message, Positions, Text};
use crate::time::Epoch;

/// How much of a raw record is kept to be read: the store of late and rejected records is bounded.
const READABLE_BYTES: usize = 16 * 1024;

/// Raw bytes as text, cut where they are long.
pub fn readable(line: &[u8]) -> String {
    let cut = &line[..line.len().min(READABLE_BYTES)];
    String::from_utf8_lossy(cut).into_owned()
}

/// The raw records of this worker's open epochs, so that a late one can be shown as it came.
#[derive(Clone)]
pub struct RawLines {
    open: Rc<RefCell<BTreeMap<Epoch, Open>>>,
    has_chunks: bool,
}

impl Default for RawLines {
    fn default() -> RawLines {
        RawLines {
            open: Rc::default(),
            has_chunks: true,
        }
    }
}

/// Where a record stands: stream, partition, position.
type Place = (u16, u32, u64);

#[derive(Default)]
struct Open {
    chunks: Vec<(u16, Held)>,
    /// Records that were read in an earlier epoch or on another worker.
    texts: BTreeMap<Place, Text>,
}

struct Held {
    chunk: Chunk,
    /// Where each record starts, found when first asked for.
    starts: Option<BTreeMap<u64, (usize, usize)>>,
}

impl RawLines {
    /// The same, for records that are no longer where their chunk was decoded.
    #[must_use]
    pub fn without_chunks(&self) -> RawLines {
        RawLines {
            open: Rc::clone(&self.open),
            has_chunks: false,
        }
    }

    /// Whether chunks are looked into.
    pub fn has_chunks(&self) -> bool {
        self.has_chunks
    }

    /// Keeps a chunk while its epoch is open.
    pub fn remember(&self, epoch: Epoch, stream: u16, chunk: Chunk) {
        let held = Held {
            chunk,
            starts: None,
        };
        self.open
            .borrow_mut()
            .entry(epoch)
            .or_default()
            .chunks
            .push((stream, held));
    }

    /// Keeps a record that a boundary lets go of in this epoch, while the epoch is open.
    pub fn remember_text(&self, epoch: Epoch, place: Place, text: Text) {
        let mut open = self.open.borrow_mut();
        open.entry(epoch).or_default().texts.insert(place, text);
    }

    /// Drops what closed.
    pub fn forget_before(&self, frontier: Epoch) {
        let mut open = self.open.borrow_mut();
        while open
            .first_key_value()
            .is_some_and(|(epoch, _)| *epoch < frontier)
        {
            open.pop_first();
        }
    }

    /// The raw record at a position, if it was decoded or let go of here and its epoch is open.
    pub fn find(&self, stream: u16, partition: u32, position: u64) -> Option<String> {
        let mut open = self.open.borrow_mut();
        let place = (stream, partition, position);
        if let Some(text) = open.values().find_map(|open| open.texts.get(&place)) {
            return Some(text.to_string());
        }
        if !self.has_chunks {
            return None;
        }
        let chunks = open.values_mut().flat_map(|open| &mut open.chunks);
        let held = chunks.into_iter().find(|(s, held)| {
            let chunk = &held.chunk;
            let range = chunk.start..chunk.end;
            *s == stream && chunk.partition == partition && range.contains(&position)
        });
        let held = &mut held?.1;
        if !matches!(
            held.chunk.format,
            Format::Json | Format::Debezium | Format::Raw
        ) {
            return None;
        }
        let starts = held.starts.get_or_insert_with(|| index(&held.chunk));
        let (start, len) = *starts.get(&position)?;
        held.chunk.bytes.get(start..start + len).map(readable)
    }
}

fn index(chunk: &Chunk) -> BTreeMap<u64, (usize, usize)> {
    let mut starts = BTreeMap::new();
    let base = chunk.bytes.as_ptr() as usize;
    let mut note = |position, raw: &[u8]| {
        starts.insert(position, (raw.as_ptr() as usize - base, raw.len()));
    };
    for span in &chunk.spans {
        let Some(bytes) = chunk.bytes.get(span.offset..span.offset + span.len) else {
            continue;
        };
        if chunk.positions == Positions::Framed {
            for (_, message) in Message::all(bytes) {
                note(message.position, message.value.unwrap_or_default());
            }
        } else {
            each_json(span, chunk.positions, bytes, &mut note);
        }
    }
    starts
}
