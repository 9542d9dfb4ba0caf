//! The codec `abomonation`: an image of the columns' memory, for the build that wrote it alone.
//!
//! The crate of that name takes bytes for the values they once were, without looking at them. That
//! is unsound by design (RUSTSEC-2021-0120), so this is the only file with `unsafe` in it, and it
//! asks for three things first: the bytes match their checksum (who calls has compared it), they
//! begin with the fingerprint of this very build, and they lie on an address that is a multiple of
//! 16. Of what is found there everything is copied out, and Arrow checks it before it is believed.
//!
//! What is written are not rows but columns: lengths and buffers, which every type of row has.
#![allow(unsafe_code, reason = "the crate can only be called so")]

use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::sync::OnceLock;

use arrow_array::{Array, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_data::transform::MutableArrayData;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, SchemaRef};

use super::codec::Encoding;
use super::manifest::Fingerprint;

/// What a file begins with; its length keeps what follows on a multiple of 16.
const MAGIC: [u8; 8] = *b"WCIMAGE1";
const HEAD: usize = 32;
/// Where what is read must lie.
const ALIGN: usize = 16;

/// The build that runs: nothing is read that another has written.
pub fn this_build() -> Fingerprint {
    static BUILD: OnceLock<Fingerprint> = OnceLock::new();
    *BUILD.get_or_init(|| {
        // A build that cannot be read is like no other, and not like itself the next time.
        let sum = sum_of_program().unwrap_or_else(|_| u64::from(std::process::id()) << 32);
        Fingerprint(sum)
    })
}

/// The checksum of the program's file, and its length.
fn sum_of_program() -> io::Result<u64> {
    let mut file = File::open(std::env::current_exe()?)?;
    let (mut crc, mut length) = (crc32fast::Hasher::new(), 0_u64);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => {
                crc.update(&buffer[..n]);
                length += n as u64;
            }
        }
    }
    Ok((u64::from(crc.finalize()) << 32) ^ length)
}

/// Bytes as words, so that whatever comes next begins with a word, too; and how many they are.
type Bytes = (u64, Vec<u64>);

/// A column and what is below it, in order: how many rows, whether some have no value, and the
/// buffers. Where some have none the first buffer says which.
type Column = (u64, u64, Vec<Bytes>);

/// The schema, as an Arrow stream without batches; how many rows; and the columns, each before
/// those below it.
type Memory = (Bytes, u64, Vec<Column>);

/// The codec.
pub struct Image;

impl Encoding for Image {
    fn encode(&self, batch: &RecordBatch, mut out: &mut dyn Write) -> io::Result<()> {
        let mut schema = Vec::new();
        StreamWriter::try_new(&mut schema, &batch.schema())
            .and_then(|mut writer| writer.finish())
            .map_err(io::Error::other)?;
        let mut columns = Vec::new();
        for column in batch.columns() {
            note(&column.to_data(), &mut columns).map_err(io::Error::other)?;
        }
        let rows = batch.num_rows() as u64;
        let memory: Memory = (words(&schema), rows, columns);
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&MAGIC);
        head[8..16].copy_from_slice(&this_build().0.to_le_bytes());
        out.write_all(&head)?;
        // SAFETY: every part of a `Memory` is words and vectors of words: it has no padding, and
        // nothing in it points anywhere but to what the vectors own.
        unsafe { abomonation::encode(&memory, &mut out) }
    }

    fn decode(&self, bytes: Vec<u8>) -> Result<Vec<RecordBatch>, String> {
        let head = bytes.first_chunk::<HEAD>().ok_or("it is too short")?;
        let build = u64::from_le_bytes(head[8..16].try_into().expect("eight bytes of a head"));
        if head[..8] != MAGIC {
            return Err("it does not begin as an image does".to_owned());
        }
        if build != this_build().0 {
            return Err("another build wrote it".to_owned());
        }
        let mut aligned = vec![0_u8; bytes.len() + ALIGN];
        let at = aligned.as_ptr().align_offset(ALIGN);
        let image = &mut aligned[at..at + bytes.len()];
        image.copy_from_slice(&bytes);
        // SAFETY: this very build wrote these bytes, from a `Memory`, and not one has changed.
        // They lie on a multiple of 16, all parts of a `Memory` are words, and so each lies on a
        // multiple of 8. What is decoded is borrowed from them and never dropped.
        let decoded = unsafe { abomonation::decode::<Memory>(&mut image[HEAD..]) };
        let (memory, rest) = decoded.ok_or("it ends too early")?;
        if !rest.is_empty() {
            return Err("something follows it".to_owned());
        }
        let batch = batch_of(memory).map_err(|error| error.to_string())?;
        Ok(vec![batch])
    }
}

fn batch_of((schema, rows, columns): &Memory) -> Result<RecordBatch, ArrowError> {
    let schema = buffer(schema);
    let schema: SchemaRef = StreamReader::try_new(Cursor::new(&*schema), None)?.schema();
    let mut columns = columns.iter();
    let arrays = schema.fields().iter().map(|field| {
        let data = data_of(field.data_type(), &mut columns)?;
        Ok(make_array(data))
    });
    let arrays = arrays.collect::<Result<Vec<_>, ArrowError>>()?;
    let rows = usize::try_from(*rows).unwrap_or(usize::MAX);
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, arrays, &options)
}

/// Notes a column and what is below it.
fn note(data: &ArrayData, columns: &mut Vec<Column>) -> Result<(), ArrowError> {
    if data.offset() != 0 {
        // Only the rows that are meant, from the first bit on.
        let mut whole = MutableArrayData::new(vec![data], false, data.len());
        whole.try_extend(0, 0, data.len())?;
        return note(&whole.freeze(), columns);
    }
    let nulls = data.nulls().map(|nulls| words(&nulls.inner().sliced()));
    let has_nulls = u64::from(nulls.is_some());
    let buffers = data.buffers().iter().map(|buffer| words(buffer));
    let buffers = nulls.into_iter().chain(buffers).collect();
    columns.push((data.len() as u64, has_nulls, buffers));
    for child in data.child_data() {
        note(child, columns)?;
    }
    Ok(())
}

/// A column of a type, and what is below it; Arrow looks at every value.
fn data_of<'m>(
    kind: &DataType,
    columns: &mut impl Iterator<Item = &'m Column>,
) -> Result<ArrayData, ArrowError> {
    let missing = || ArrowError::ParseError("a column is missing".to_owned());
    let (rows, has_nulls, buffers) = columns.next().ok_or_else(missing)?;
    let mut buffers: Vec<Buffer> = buffers.iter().map(buffer).collect();
    let nulls = (*has_nulls != 0 && !buffers.is_empty()).then(|| buffers.remove(0));
    let below: Vec<&DataType> = match kind {
        DataType::Struct(fields) => fields.iter().map(|field| field.data_type()).collect(),
        DataType::Union(fields, _) => fields.iter().map(|(_, field)| field.data_type()).collect(),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => vec![field.data_type()],
        DataType::Dictionary(_, value) => vec![value],
        _ => Vec::new(),
    };
    let below = below.into_iter().map(|kind| data_of(kind, columns));
    let below = below.collect::<Result<Vec<_>, _>>()?;
    ArrayData::builder(kind.clone())
        .len(usize::try_from(*rows).unwrap_or(usize::MAX))
        .null_bit_buffer(nulls)
        .buffers(buffers)
        .child_data(below)
        .build()
}

/// A copy of bytes, filled up to words.
fn words(bytes: &[u8]) -> Bytes {
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    };
    (bytes.len() as u64, bytes.chunks(8).map(word).collect())
}

/// A copy of words, less what they were filled up with.
fn buffer((length, words): &Bytes) -> Buffer {
    let all = Buffer::from_slice_ref(words.as_slice());
    let length = usize::try_from(*length).unwrap_or(usize::MAX);
    all.slice_with_length(0, length.min(all.len()))
}
