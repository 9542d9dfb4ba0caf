//! One message of a sink.

use crate::row::Row;

/// What a message says of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This is the key's row now.
    Upsert,
    /// The key has no row any more.
    Tombstone,
    /// The row is final.
    Final,
}

/// A message on its way to a sink. It shares its row with the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The row; of a tombstone the one that was.
    pub row: Row,
    /// What is said of it.
    pub kind: Kind,
}

impl Message {
    /// The row's key as JSON.
    pub fn key(&self) -> &str {
        self.row.key()
    }

    /// The row as the API writes it; `None` for a tombstone. Only final rows say whether they are:
    /// a row that is sent before may become final without being sent again.
    pub fn value(&self) -> Option<String> {
        let (key, value) = (self.row.key(), self.row.value());
        match self.kind {
            Kind::Upsert => Some(format!(r#"{{"key":{key},"value":{value}}}"#)),
            Kind::Final => Some(format!(r#"{{"key":{key},"value":{value},"final":true}}"#)),
            Kind::Tombstone => None,
        }
    }

    /// About how many bytes it has, as it is written.
    pub fn bytes(&self) -> usize {
        const FRAME: usize = 40;
        let (key, value) = (self.row.key(), self.row.value());
        match self.kind {
            Kind::Upsert | Kind::Final => FRAME + 2 * key.len() + value.len(),
            Kind::Tombstone => FRAME + key.len(),
        }
    }
}
