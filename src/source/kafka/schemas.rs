//! The schemas that a topic's messages name, asked for before the messages are handed on: workers
//! never wait for a registry.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::options::KafkaOptions;
use crate::dataflow::schemas::schema_id;
use crate::record::{Schemas, WriterSchema};
use crate::source::registry::{Registry, RegistryError};

/// How many schemas a topic may name; the messages of further ones are rejected.
const MOST: usize = 10_000;

/// The schemas known so far, and where to ask for others.
pub struct KnownSchemas {
    registry: Registry,
    known: Arc<BTreeMap<u32, Arc<WriterSchema>>>,
}

impl KnownSchemas {
    /// None known yet; `None` where messages name no schemas.
    pub fn of(options: &KafkaOptions) -> Result<Option<KnownSchemas>, RegistryError> {
        let registry = options.registry.clone().map(Registry::new).transpose()?;
        Ok(registry.map(|registry| KnownSchemas {
            registry,
            known: Arc::default(),
        }))
    }

    /// All that are known.
    pub fn all(&self) -> Schemas {
        Schemas(Arc::clone(&self.known))
    }

    /// Learns the schema that a message names. An error means that the message must wait: one that
    /// names none, or one that is nowhere, is left to be rejected.
    pub fn learn(&mut self, message: &[u8]) -> Result<(), RegistryError> {
        let Ok(id) = schema_id(message) else {
            return Ok(());
        };
        if self.known.contains_key(&id) || self.known.len() >= MOST {
            return Ok(());
        }
        match self.registry.schema(id) {
            Ok(schema) => {
                // Chunks under way keep the map they have.
                Arc::make_mut(&mut self.known).insert(id, schema);
                Ok(())
            }
            Err(error) if error.is_of_record() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
