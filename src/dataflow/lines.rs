//! The lines of a chunk, and finding a line again while its epoch is open.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::decode::guard;
use crate::record::{Chunk, Format, Positions, Span, Text};
use crate::time::{Epoch, Timestamp};

/// How much of a raw record is kept to be read: the store of late and rejected records is bounded.
const READABLE_BYTES: usize = 16 * 1024;

/// Raw bytes as text, cut where they are long.
pub fn readable(line: &[u8]) -> String {
    let cut = &line[..line.len().min(READABLE_BYTES)];
    String::from_utf8_lossy(cut).into_owned()
}

/// Calls `take` with each record of the chunk: position, arrival, raw bytes, and the record or why
/// it cannot be read.
pub fn for_each_line<T: Serialize + DeserializeOwned>(
    chunk: &Chunk,
    mut take: impl FnMut(u64, Option<Timestamp>, &[u8], Result<T, String>),
) {
    for span in &chunk.spans {
        let Some(bytes) = chunk.bytes.get(span.offset..span.offset + span.len) else {
            continue;
        };
        match &chunk.format {
            Format::Ndjson => each_json(span, chunk.positions, bytes, |position, line| {
                let parsed = parse_json(line);
                take(position, span.arrival, line, parsed);
            }),
            Format::Csv { header } => each_csv(span, header, bytes, |position, line, parsed| {
                take(position, span.arrival, line, parsed);
            }),
        }
    }
}

/// Reads one JSON record.
pub fn parse_json<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    // serde would take an array for a struct, field by field: nobody means that.
    if line.first() == Some(&b'[') {
        return Err("a record is a JSON object, not an array".to_owned());
    }
    parse(|| serde_json::from_slice(line))
}

/// Runs a type's own reading, which may be user code.
fn parse<T, E: std::fmt::Display>(read: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    guard(read)?.map_err(|error| error.to_string())
}

/// Reads a row of CSV. Unlike JSON its cells can say that a number is none.
fn read_row<T: Serialize + DeserializeOwned>(
    row: &csv::ByteRecord,
    names: &csv::StringRecord,
) -> Result<T, String> {
    let record: T = parse(|| row.deserialize(Some(names.as_byte_record())))?;
    for (cell, name) in row.iter().zip(names) {
        let word = cell.trim_ascii().trim_ascii_start();
        let word = word
            .strip_prefix(b"-")
            .or(word.strip_prefix(b"+"))
            .unwrap_or(word);
        let is_none = [&b"nan"[..], b"inf", b"infinity"]
            .iter()
            .any(|none| word.eq_ignore_ascii_case(none));
        // Such a cell may be text; as a float it has no JSON.
        if is_none
            && guard(|| serde_json::to_value(&record))?.is_ok_and(|json| json[name].is_null())
        {
            let cell = String::from_utf8_lossy(cell);
            return Err(format!("field '{name}' is not a number: {cell}"));
        }
    }
    Ok(record)
}

fn each_json(span: &Span, positions: Positions, bytes: &[u8], mut take: impl FnMut(u64, &[u8])) {
    let (mut start, mut number) = (0, span.first);
    while start < bytes.len() {
        let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |at| start + at);
        let line = bytes[start..end].trim_ascii();
        if !line.is_empty() {
            match positions {
                Positions::Bytes => take(span.first + start as u64, line),
                Positions::Records => {
                    take(number, line);
                    number += 1;
                }
            }
        }
        start = end + 1;
    }
}

fn each_csv<T: Serialize + DeserializeOwned>(
    span: &Span,
    header: &[String],
    bytes: &[u8],
    mut take: impl FnMut(u64, &[u8], Result<T, String>),
) {
    let names: csv::StringRecord = header.iter().collect();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes);
    let mut row = csv::ByteRecord::new();
    loop {
        match reader.read_byte_record(&mut row) {
            // Reading from memory with flexible rows cannot fail; end rather than spin if it does.
            Ok(false) | Err(_) => return,
            Ok(true) => {
                let start = row.position().map_or(0, csv::Position::byte);
                let end = usize::try_from(reader.position().byte()).unwrap_or(bytes.len());
                let from = usize::try_from(start).unwrap_or(0);
                let line = bytes.get(from..end).unwrap_or_default().trim_ascii();
                let parsed = if row.len() == names.len() {
                    read_row(&row, &names)
                } else {
                    Err(format!(
                        "{} fields, but the header names {}",
                        row.len(),
                        names.len()
                    ))
                };
                take(span.first + start, line, parsed);
            }
        }
    }
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
        if held.chunk.format != Format::Ndjson {
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
    for span in &chunk.spans {
        if let Some(bytes) = chunk.bytes.get(span.offset..span.offset + span.len) {
            each_json(span, chunk.positions, bytes, |position, line| {
                starts.insert(position, (line.as_ptr() as usize - base, line.len()));
            });
        }
    }
    starts
}
