//! The schemas that records name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The language a schema is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SchemaKind {
    /// Apache Avro.
    Avro,
    /// Protocol Buffers.
    Protobuf,
    /// JSON Schema. The data is JSON and needs no schema to be read; it is not validated.
    Json,
}

/// A writer's schema as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterSchema {
    /// The language.
    pub kind: SchemaKind,
    /// The schema itself.
    pub text: String,
    /// The schemas it refers to, by name or import path, each after those it refers to itself.
    pub references: Vec<(String, String)>,
}

/// The schemas a chunk's records were written with, by the registry's id. Cloning is shallow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schemas(pub Arc<BTreeMap<u32, Arc<WriterSchema>>>);
