//! Schemas ready to read with. Each thread keeps those it has parsed, so that a record costs a
//! look-up.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::layout::Layout;
use super::messages::Messages;
use super::{SchemaKind, WriterSchema, avro, protobuf};
use crate::dataflow::json::Reader;
use crate::dataflow::reading::parse_json;

/// How many schemas a thread keeps; beyond that it begins anew.
const MAX_KEPT: usize = 256;

/// A schema ready to read with.
pub enum Parsed {
    /// Avro.
    Avro(Layout),
    /// Protobuf.
    Protobuf(Messages),
    /// JSON.
    Json,
}

impl Parsed {
    fn new(schema: &WriterSchema) -> Result<Parsed, String> {
        Ok(match schema.kind {
            SchemaKind::Avro => Parsed::Avro(Layout::new(schema)?),
            SchemaKind::Protobuf => Parsed::Protobuf(Messages::new(schema)?),
            SchemaKind::Json => Parsed::Json,
        })
    }

    /// Reads what follows the schema's id; the reason if it cannot be read.
    pub fn read<T: DeserializeOwned>(&self, data: &[u8]) -> Result<T, String> {
        match self {
            Parsed::Avro(layout) => avro::read(layout, data).map_err(|fault| fault.to_string()),
            Parsed::Protobuf(messages) => {
                protobuf::read(messages, data).map_err(|fault| fault.to_string())
            }
            Parsed::Json => parse_json(data.trim_ascii(), &mut Reader::default()),
        }
    }
}

/// A schema that cannot be used is kept too: each of its records asks for it.
struct Kept {
    schema: Arc<WriterSchema>,
    parsed: Result<Rc<Parsed>, String>,
}

thread_local! {
    /// By id, and then by what the schemas say: each registry counts its ids from 1.
    static KEPT: RefCell<BTreeMap<u32, Vec<Kept>>> = const { RefCell::new(BTreeMap::new()) };
}

/// A schema ready to read with; why it cannot be used if it cannot.
pub fn parsed(id: u32, schema: &Arc<WriterSchema>) -> Result<Rc<Parsed>, String> {
    KEPT.with_borrow_mut(|kept| {
        let same = |of_id: &mut Vec<Kept>| {
            let one = of_id.iter_mut().find(|one| one.schema == *schema)?;
            // Chunks that came from another process have copies of their own. To compare with the
            // one that was seen last is to compare pointers.
            if !Arc::ptr_eq(&one.schema, schema) {
                one.schema = Arc::clone(schema);
            }
            Some(one.parsed.clone())
        };
        if let Some(parsed) = kept.get_mut(&id).and_then(same) {
            return parsed;
        }
        if kept.values().map(Vec::len).sum::<usize>() >= MAX_KEPT {
            kept.clear();
        }
        let parsed = Parsed::new(schema).map(Rc::new);
        kept.entry(id).or_default().push(Kept {
            schema: Arc::clone(schema),
            parsed: parsed.clone(),
        });
        parsed
    })
}
