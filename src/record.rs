//! Records: what a stream may carry, and the raw chunks that sources hand to the dataflow.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::time::{Timestamp, seconds};

mod envelope;
mod schema;

pub use envelope::{Envelope, Headers, LastRecord, Message};
pub use schema::{SchemaKind, Schemas, WriterSchema};

/// Text that holds up to 24 bytes without an allocation: for keys.
pub type Text = compact_str::CompactString;

/// Something that happened at a time. A stream of events is append-only.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use waterclock::prelude::*;
///
/// #[derive(Clone, Debug, Serialize, Deserialize)]
/// struct Click {
///     user_id: Text,
///     click_time: Timestamp,
/// }
///
/// impl Event for Click {
///     const STREAM: &'static str = "clicks";
///     fn time(&self) -> Timestamp {
///         self.click_time
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record of a stream",
    label = "no stream carries this",
    note = "say which stream it is and when it happened: `impl Event for {Self} {{ const STREAM: \
            &'static str = \"..\"; fn time(&self) -> Timestamp {{ self.at }} }}`"
)]
pub trait Event: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// The stream that carries these records, as URLs and configuration name it.
    const STREAM: &'static str;
    /// How much older than the newest record of its partition a record may be before it is late.
    const LATENESS: Duration = seconds(5);

    /// The event time of the record.
    fn time(&self) -> Timestamp;

    /// Takes what it wants of what came beside the record, right after it was read: Kafka's key,
    /// headers, offset or timestamp into fields that serde skips.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use waterclock::prelude::*;
    /// /// A line of a log, whose time is that of its Kafka message.
    /// #[derive(Clone, Debug, Serialize, Deserialize)]
    /// struct Line {
    ///     value: Text,
    ///     #[serde(skip)]
    ///     at: Timestamp,
    ///     #[serde(skip)]
    ///     host: Option<Text>,
    /// }
    ///
    /// impl Event for Line {
    ///     const STREAM: &'static str = "lines";
    ///     fn time(&self) -> Timestamp {
    ///         self.at
    ///     }
    ///     fn receive(&mut self, envelope: &Envelope<'_>) {
    ///         self.at = envelope.timestamp.unwrap_or_default();
    ///         let host = envelope.header("host");
    ///         self.host = host.map(|host| String::from_utf8_lossy(host).into());
    ///     }
    /// }
    /// ```
    fn receive(&mut self, envelope: &Envelope<'_>) {
        let _ = envelope;
    }

    /// The record that a message without a value stands for: it deletes the row of its key from
    /// [`Flow::table`](crate::query::Flow::table). `None` where such messages mean nothing; they
    /// are rejected then.
    fn tombstone(envelope: &Envelope<'_>) -> Option<Self> {
        let _ = envelope;
        None
    }
}

/// Some fields of a stream's records, for queries that want no more of them: see
/// [`Flow::part`](crate::query::Flow::part).
///
/// It has the time of the whole record, so that both are late alike, its stream, and its lateness.
/// What the whole takes from its [envelope](Event::receive), or makes of a
/// [missing value](Event::tombstone), the part has to as well: it is read in place of the whole.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use waterclock::prelude::*;
/// # #[derive(Clone, Debug, Serialize, Deserialize)]
/// # struct Sale { shop: Text, note: Text, amount: i64, at: Timestamp }
/// # impl Event for Sale {
/// #     const STREAM: &'static str = "sales";
/// #     fn time(&self) -> Timestamp { self.at }
/// # }
/// #[derive(Clone, Debug, Serialize, Deserialize)]
/// struct Amount {
///     amount: i64,
///     at: Timestamp,
/// }
///
/// impl Event for Amount {
///     const STREAM: &'static str = Sale::STREAM;
///     fn time(&self) -> Timestamp {
///         self.at
///     }
/// }
///
/// impl Part for Amount {
///     type Whole = Sale;
///     fn of(sale: &Sale) -> Amount {
///         Amount { amount: sale.amount, at: sale.at }
///     }
/// }
///
/// fn amounts(flow: Flow) -> Stream<i64> {
///     flow.part::<Amount>().map(|sale| sale.amount)
/// }
/// # let answer = waterclock::testing::batch(Query::new("amounts", "", amounts), &[(
/// #     "sales",
/// #     "{\"shop\":\"a\",\"note\":\"\",\"amount\":2,\"at\":0}\n",
/// # )]);
/// # assert_eq!(answer, [r#"{"key":["sales",0,0],"value":2,"final":true}"#]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a part of a stream's records",
    label = "of which record type?",
    note = "`flow.stream::<{Self}>()` reads whole records; or say which these are some fields of: \
            `impl Part for {Self} {{ type Whole = ..; fn of(whole: &Self::Whole) -> Self {{ .. }} \
            }}`"
)]
pub trait Part: Event {
    /// The record type of the stream.
    type Whole: Event;

    /// The same as is read where the whole record is not: needed where somebody wants more of it.
    fn of(whole: &Self::Whole) -> Self;
}

/// A record that replaces the last one of its key: a stream of entities is read as a table.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what its latest record replaces",
    label = "no key of its own",
    note = "give it one: `impl Entity for {Self} {{ type Key = ..; fn key(&self) -> .. }}`"
)]
pub trait Entity: Event {
    /// What identifies the entity.
    type Key;

    /// The key whose row this record replaces.
    fn key(&self) -> Self::Key;

    /// Whether the record removes its key's row (a tombstone).
    fn is_deleted(&self) -> bool {
        false
    }
}

/// What a record does to the table it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Op {
    /// It becomes its key's row, whatever was there.
    Put,
    /// It takes its key's row away, if there is one.
    Remove,
    /// It becomes its key's row, of which there was none.
    Insert,
    /// It becomes its key's row in the place of another.
    Update,
    /// It takes its key's row away, which was there.
    Delete,
}

impl Op {
    /// Whether no row is left of its key.
    pub fn is_removal(self) -> bool {
        matches!(self, Op::Remove | Op::Delete)
    }
}

/// What the bytes of a record are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// A JSON object; where records are lines, empty ones are none.
    Json,
    /// Comma-separated values; the header names the fields.
    Csv {
        /// The column names, in order.
        header: Arc<[String]>,
    },
    /// Anything: the record type has one field, `value`, that takes them as text or bytes.
    Raw,
    /// A change of a database's row, in Debezium's JSON envelope.
    Debezium,
    /// Avro, Protobuf or JSON that begins with the id of its schema in a registry.
    Registered {
        /// The schemas known so far.
        schemas: Schemas,
    },
}

/// How positions advance within a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Positions {
    /// A record's position is the offset of its first byte (files).
    Bytes,
    /// A record's position is its number; every non-empty line counts one (the embedded log).
    Records,
    /// Records are [`Message`] frames that say their position, with gaps between them (Kafka).
    Framed,
}

/// A run of records of a chunk that arrived together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Position of the first record.
    pub first: u64,
    /// Where the span's bytes start in the chunk.
    pub offset: usize,
    /// How many bytes it has.
    pub len: usize,
    /// When the records arrived (log append time); `None` where nothing bounds event times (files).
    /// Framed records say it themselves.
    pub arrival: Option<Timestamp>,
}

/// A bounded run of whole records of one partition, as bytes: what a source reads at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The partition read.
    pub partition: u32,
    /// Position of the first record.
    pub start: u64,
    /// Position after the last record: where the next read starts.
    pub end: u64,
    /// How the bytes divide into records.
    pub format: Format,
    /// How positions advance.
    pub positions: Positions,
    /// The raw bytes; empty while they are unread.
    pub bytes: Bytes,
    /// The raw bytes, if whoever takes the chunk is to read them.
    #[serde(skip)]
    pub unread: Option<Unread>,
    /// The runs of records in the bytes, in order.
    pub spans: Vec<Span>,
    /// How many positions from `start` on were never read, because their records are gone.
    pub lost: u64,
}

impl Chunk {
    /// How many bytes it has, read or not.
    pub fn size(&self) -> usize {
        (self.unread.as_ref()).map_or(self.bytes.len(), |unread| unread.size)
    }

    /// Reads what was left unread.
    pub fn fetch(&mut self) {
        if let Some(unread) = self.unread.take() {
            self.bytes = (unread.read)();
        }
    }
}

/// Bytes that are read where they are used: so several threads read one file, and what a thread has
/// read is in its cache.
#[derive(Clone)]
pub struct Unread {
    size: usize,
    read: Arc<dyn Fn() -> Bytes + Send + Sync>,
}

impl Unread {
    /// That many bytes. Where `read` fails it gives none, and the source says why.
    pub fn new(size: usize, read: impl Fn() -> Bytes + Send + Sync + 'static) -> Unread {
        let read = Arc::new(read);
        Unread { size, read }
    }

    /// How many bytes there are.
    pub fn size(&self) -> usize {
        self.size
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} unread bytes", self.size)
    }
}

impl PartialEq for Unread {
    fn eq(&self, other: &Unread) -> bool {
        Arc::ptr_eq(&self.read, &other.read)
    }
}

impl Eq for Unread {}
