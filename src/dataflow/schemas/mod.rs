//! Records that name the schema they were written with, in the wire format of schema registries: a
//! byte 0, four bytes with the schema's id, and the data. Pure computation: who has to ask a
//! registry for a schema does so before the records come here.
//!
//! # Layout
//!
//! * `parsed`: schemas ready to read with, kept by each thread
//! * `layout`, `input`, `avro`, `skip`: an Avro schema, the bytes, and what both say
//! * `messages`, `protobuf`: a Protobuf schema, and its messages as serde types
//! * `decimal`, `fault`: what both need

use serde::de::DeserializeOwned;

mod avro;
mod decimal;
mod fault;
mod input;
mod layout;
mod messages;
mod parsed;
mod protobuf;
mod skip;

#[cfg(test)]
mod tests;

pub use crate::record::{SchemaKind, Schemas, WriterSchema};

/// The schema id of a record in the wire format; the sentence to reject it with if it is not.
pub fn schema_id(bytes: &[u8]) -> Result<u32, String> {
    split(bytes).map(|(id, _)| id)
}

/// Reads a record in the wire format; the sentence to reject it with if it cannot be read.
pub fn read<T: DeserializeOwned>(schemas: &Schemas, bytes: &[u8]) -> Result<T, String> {
    let (id, data) = split(bytes)?;
    let Some(schema) = schemas.0.get(&id) else {
        return Err(format!("the registry has no schema {id}"));
    };
    let parsed = parsed::parsed(id, schema);
    parsed
        .and_then(|parsed| parsed.read(data))
        .map_err(|reason| format!("schema {id}: {reason}"))
}

fn split(bytes: &[u8]) -> Result<(u32, &[u8]), String> {
    match bytes {
        [0, a, b, c, d, data @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), data)),
        [] | [0, ..] => Err(format!(
            "a record with a schema is at least 5 bytes long, not {}",
            bytes.len()
        )),
        [first, ..] => Err(format!(
            "no schema id: a record with a schema begins with byte 0, not {first}{}",
            if matches!(first, b'{' | b'[') {
                "; is it JSON?"
            } else {
                ""
            }
        )),
    }
}
