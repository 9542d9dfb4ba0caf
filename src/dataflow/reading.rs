//! From a chunk's bytes to its records, whatever their format.

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde::de::value::{Error as ValueError, MapDeserializer, SeqDeserializer};
use serde::{Deserializer, Serialize, forward_to_deserialize_any};

use super::debezium;
use super::decode::guard;
use super::json::{Reader, is_left};
use crate::record::{Chunk, Envelope, Event, Format, Message, Op, Positions, Span};
use crate::time::{Epoch, Timestamp};

/// A record as it was found in a chunk.
pub struct Found<'a, T> {
    /// Its position.
    pub position: u64,
    /// When it arrived, where that bounds its event time.
    pub arrival: Option<Timestamp>,
    /// Its bytes as they came.
    pub raw: &'a [u8],
    /// What it says, or why it cannot be read.
    pub read: Result<(Op, T), String>,
}

/// Calls `take` with each record of a chunk that was read in `epoch`. A message whose arrival
/// nobody noted counts as arrived at the epoch's time: its number is the wall clock's, and a
/// repetition has the same.
pub fn for_each_record<T: Event>(chunk: &Chunk, epoch: Epoch, mut take: impl FnMut(Found<'_, T>)) {
    let read_at = Timestamp(i64::try_from(epoch).unwrap_or(i64::MAX));
    let mut json = Reader::default();
    for span in &chunk.spans {
        let Some(bytes) = chunk.bytes.get(span.offset..span.offset + span.len) else {
            continue;
        };
        match (chunk.positions, &chunk.format) {
            (Positions::Framed, _) => each_message(chunk, bytes, read_at, &mut json, &mut take),
            (_, Format::Csv { header }) => {
                each_row(chunk.partition, span, header, bytes, &mut take);
            }
            _ => each_json(span, chunk.positions, bytes, |position, line| {
                let beside = Envelope::bare(chunk.partition, position, span.arrival);
                take(Found {
                    position,
                    arrival: span.arrival,
                    raw: line,
                    read: read_json(line, &beside, &mut json).map(|record| (Op::Put, record)),
                });
            }),
        }
    }
}

/// Calls `take` with each message that is a record.
fn each_message<T: Event>(
    chunk: &Chunk,
    frames: &[u8],
    read_at: Timestamp,
    json: &mut Reader,
    take: &mut impl FnMut(Found<'_, T>),
) {
    for (_, message) in Message::all(frames) {
        let arrival = if message.is_append_time {
            message.timestamp
        } else {
            Some(read_at)
        };
        let beside = message.envelope(chunk.partition);
        let read = read_message(&chunk.format, message.value, &beside, json);
        let Some(read) = read.transpose() else {
            continue;
        };
        take(Found {
            position: message.position,
            arrival,
            raw: message.value.unwrap_or_default(),
            read,
        });
    }
}

/// Reads one message; `None` where it is no record at all.
fn read_message<T: Event>(
    format: &Format,
    value: Option<&[u8]>,
    beside: &Envelope<'_>,
    json: &mut Reader,
) -> Result<Option<(Op, T)>, String> {
    let Some(value) = value else {
        // Debezium lets a tombstone follow each delete, for the topic's compaction.
        if *format == Format::Debezium {
            return Ok(None);
        }
        let deleted = guard(|| T::tombstone(beside))?;
        return match deleted {
            Some(record) => Ok(Some((Op::Remove, record))),
            None => Err("no value: the record type has no use for tombstones".to_owned()),
        };
    };
    let record = match format {
        Format::Json => read_json(value.trim_ascii(), beside, json)?,
        Format::Raw => received(|| read_raw(value), beside)?,
        Format::Csv { header } => read_one_row(value, header, beside)?,
        Format::Debezium => return debezium::read(value, beside).map(Some),
        Format::Registered { schemas } => {
            received(|| super::schemas::read(schemas, value), beside)?
        }
    };
    Ok(Some((Op::Put, record)))
}

/// Reads one JSON record and lets it take what came beside it.
pub fn read_json<T: Event>(
    line: &[u8],
    beside: &Envelope<'_>,
    json: &mut Reader,
) -> Result<T, String> {
    received(|| parse_json(line, json), beside).or_else(|reason| {
        // A type may panic where it is told that something is not read here.
        if is_left() {
            received(|| parse(line, |text| serde_json::from_str(text)), beside)
        } else {
            Err(reason)
        }
    })
}

/// Reads what is a record's JSON.
pub(super) fn parse_json<T: DeserializeOwned>(line: &[u8], json: &mut Reader) -> Result<T, String> {
    parse(line, |text| json.read(text))
}

fn parse<T: DeserializeOwned>(
    line: &[u8],
    read: impl FnOnce(&str) -> serde_json::Result<T>,
) -> Result<T, String> {
    // serde would take an array for a struct, field by field: nobody means that.
    if line.first() == Some(&b'[') {
        return Err("a record is a JSON object, not an array".to_owned());
    }
    // Looking at the whole line once is cheaper than at each text in it. What is no text may still
    // be a record: nobody reads the fields that its type has not.
    match simdutf8::basic::from_utf8(line) {
        Ok(line) => read(line),
        Err(_) => serde_json::from_slice(line),
    }
    .map_err(|error| error.to_string())
}

/// Runs a type's own reading, which may be user code.
pub(super) fn received<T: Event, E: Display>(
    read: impl FnOnce() -> Result<T, E>,
    beside: &Envelope<'_>,
) -> Result<T, String> {
    let read = || {
        let mut record = read()?;
        record.receive(beside);
        Ok(record)
    };
    guard(read)?.map_err(|error: E| error.to_string())
}

/// Calls `take` with each line that is not empty, and its position.
pub(super) fn each_json(
    span: &Span,
    positions: Positions,
    bytes: &[u8],
    mut take: impl FnMut(u64, &[u8]),
) {
    let (mut start, mut number) = (0, span.first);
    while start < bytes.len() {
        let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |at| start + at);
        let line = bytes[start..end].trim_ascii();
        if !line.is_empty() {
            if positions == Positions::Records {
                take(number, line);
                number += 1;
            } else {
                take(span.first + start as u64, line);
            }
        }
        start = end + 1;
    }
}

fn rows_of(bytes: &[u8]) -> csv::Reader<&[u8]> {
    let mut rows = csv::ReaderBuilder::new();
    rows.has_headers(false).flexible(true).from_reader(bytes)
}

fn each_row<T: Event>(
    partition: u32,
    span: &Span,
    header: &[String],
    bytes: &[u8],
    take: &mut impl FnMut(Found<'_, T>),
) {
    let names: csv::StringRecord = header.iter().collect();
    let mut reader = rows_of(bytes);
    let mut row = csv::ByteRecord::new();
    // Reading from memory with flexible rows cannot fail; end rather than spin if it does.
    while reader.read_byte_record(&mut row).unwrap_or(false) {
        let start = row.position().map_or(0, csv::Position::byte);
        let end = usize::try_from(reader.position().byte()).unwrap_or(bytes.len());
        let from = usize::try_from(start).unwrap_or(0);
        let position = span.first + start;
        let beside = Envelope::bare(partition, position, span.arrival);
        take(Found {
            position,
            arrival: span.arrival,
            raw: bytes.get(from..end).unwrap_or_default().trim_ascii(),
            read: read_row(&row, &names, &beside).map(|record| (Op::Put, record)),
        });
    }
}

/// Reads a message that is one row of CSV.
fn read_one_row<T: Event>(
    value: &[u8],
    header: &[String],
    beside: &Envelope<'_>,
) -> Result<T, String> {
    let (mut reader, mut row) = (rows_of(value), csv::ByteRecord::new());
    let has_row = reader.read_byte_record(&mut row).unwrap_or(false);
    if !has_row
        || reader
            .read_byte_record(&mut csv::ByteRecord::new())
            .unwrap_or(true)
    {
        return Err("a message is one row of CSV".to_owned());
    }
    read_row(&row, &header.iter().collect(), beside)
}

/// Reads a row of CSV. Unlike JSON its cells can say that a number is none.
fn read_row<T: Event>(
    row: &csv::ByteRecord,
    names: &csv::StringRecord,
    beside: &Envelope<'_>,
) -> Result<T, String> {
    if row.len() != names.len() {
        let (fields, named) = (row.len(), names.len());
        return Err(format!("{fields} fields, but the header names {named}"));
    }
    let record: T = received(|| row.deserialize(Some(names.as_byte_record())), beside)?;
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
        if is_none && is_null(&record, name, names)? {
            let cell = String::from_utf8_lossy(cell);
            return Err(format!("field '{name}' is not a number: {cell}"));
        }
    }
    Ok(record)
}

/// Whether a column is null in the record; or, where the record has no field of that name, any
/// field that no column names, which may be its alias.
fn is_null(
    record: &impl Serialize,
    column: &str,
    columns: &csv::StringRecord,
) -> Result<bool, String> {
    let record = guard(|| serde_json::to_value(record))?.unwrap_or_default();
    if let Some(field) = record.get(column) {
        return Ok(field.is_null());
    }
    let mut fields = record.as_object().into_iter().flatten();
    Ok(fields.any(|(name, value)| value.is_null() && columns.iter().all(|column| column != name)))
}

/// Gives the bytes to the type's field `value`.
fn read_raw<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ValueError> {
    T::deserialize(MapDeserializer::new(std::iter::once(("value", Raw(bytes)))))
}

/// Bytes as whatever a field wants them to be: text, bytes, or a list of numbers.
struct Raw<'a>(&'a [u8]);

impl<'de> serde::de::IntoDeserializer<'de> for Raw<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Raw<'_> {
    type Error = ValueError;

    fn deserialize_any<V: serde::de::Visitor<'de>>(self, to: V) -> Result<V::Value, ValueError> {
        match std::str::from_utf8(self.0) {
            Ok(text) => to.visit_str(text),
            Err(cause) => Err(serde::de::Error::custom(format_args!("not text: {cause}"))),
        }
    }

    fn deserialize_bytes<V: serde::de::Visitor<'de>>(self, to: V) -> Result<V::Value, ValueError> {
        to.visit_bytes(self.0)
    }

    fn deserialize_byte_buf<V: serde::de::Visitor<'de>>(
        self,
        to: V,
    ) -> Result<V::Value, ValueError> {
        to.visit_bytes(self.0)
    }

    fn deserialize_seq<V: serde::de::Visitor<'de>>(self, to: V) -> Result<V::Value, ValueError> {
        to.visit_seq(SeqDeserializer::new(self.0.iter().copied()))
    }

    fn deserialize_option<V: serde::de::Visitor<'de>>(self, to: V) -> Result<V::Value, ValueError> {
        to.visit_some(self)
    }

    fn deserialize_newtype_struct<V: serde::de::Visitor<'de>>(
        self,
        _name: &'static str,
        to: V,
    ) -> Result<V::Value, ValueError> {
        to.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string unit unit_struct
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    /// Numbers by numbers; panics where it cannot be read.
    #[derive(Clone, Debug, PartialEq, Serialize)]
    struct Strict(BTreeMap<u32, u32>);

    impl<'de> Deserialize<'de> for Strict {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Strict, D::Error> {
            Ok(Strict(BTreeMap::deserialize(from).expect("numbers")))
        }
    }

    impl Event for Strict {
        const STREAM: &'static str = "strict";
        fn time(&self) -> Timestamp {
            Timestamp(0)
        }
    }

    #[test]
    fn a_type_that_panics_at_what_is_left_to_serde_json_is_read_by_it() {
        let beside = Envelope::bare(0, 0, None);
        let read =
            |line: &str| read_json::<Strict>(line.as_bytes(), &beside, &mut Reader::default());
        assert_eq!(read(r#"{"5":1}"#), Ok(Strict([(5, 1)].into())));
        let error = read(r#"{"5":"x"}"#).expect_err("it is no number");
        let why = "the query's code panicked: numbers: Error(\"invalid type: string";
        assert!(error.starts_with(why), "{error}");
    }
}
