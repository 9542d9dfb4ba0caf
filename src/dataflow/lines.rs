//! The lines of a chunk, and finding a line again while its epoch is open.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::de::DeserializeOwned;

use crate::record::{Chunk, Format, Positions, Span};
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
pub fn for_each_line<T: DeserializeOwned>(
    chunk: &Chunk,
    mut take: impl FnMut(u64, Option<Timestamp>, &[u8], Result<T, String>),
) {
    for span in &chunk.spans {
        let Some(bytes) = chunk.bytes.get(span.offset..span.offset + span.len) else {
            continue;
        };
        match &chunk.format {
            Format::Ndjson => each_json(span, chunk.positions, bytes, |position, line| {
                let parsed = serde_json::from_slice(line).map_err(|e| e.to_string());
                take(position, span.arrival, line, parsed);
            }),
            Format::Csv { header } => each_csv(span, header, bytes, |position, line, parsed| {
                take(position, span.arrival, line, parsed);
            }),
        }
    }
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

fn each_csv<T: DeserializeOwned>(
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
                    row.deserialize(Some(names.as_byte_record()))
                        .map_err(|e| e.to_string())
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

/// The chunks of this worker's open epochs, so that a late record can be shown as it came.
#[derive(Clone, Default)]
pub struct RawLines(Rc<RefCell<BTreeMap<Epoch, Vec<(u16, Held)>>>>);

struct Held {
    chunk: Chunk,
    /// Where each record starts, found when first asked for.
    starts: Option<BTreeMap<u64, (usize, usize)>>,
}

impl RawLines {
    /// Keeps a chunk while its epoch is open.
    pub fn remember(&self, epoch: Epoch, stream: u16, chunk: Chunk) {
        let held = Held {
            chunk,
            starts: None,
        };
        self.0
            .borrow_mut()
            .entry(epoch)
            .or_default()
            .push((stream, held));
    }

    /// Drops what closed.
    pub fn forget_before(&self, frontier: Epoch) {
        let mut open = self.0.borrow_mut();
        while open
            .first_key_value()
            .is_some_and(|(epoch, _)| *epoch < frontier)
        {
            open.pop_first();
        }
    }

    /// The raw record at a position, if its chunk was decoded here and its epoch is open.
    pub fn find(&self, stream: u16, partition: u32, position: u64) -> Option<String> {
        let mut open = self.0.borrow_mut();
        let held = open.values_mut().flatten().find(|(s, held)| {
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
