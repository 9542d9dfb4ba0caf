//! What the engine knows of its queries before it runs them: streams, boundaries, schemas.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use timely::dataflow::Stream as Flowing;

use super::answer::Query;
use super::flow::{Env, build, late_store, rejected_store};
use crate::columns::fingerprint;
use crate::dataflow::bounded;
use crate::dataflow::clock::{Clocks, Highest};
use crate::dataflow::decode::{Decoded, Intake, decode, read_line};
use crate::dataflow::feed::Task;
use crate::dataflow::lines::RawLines;
use crate::dataflow::vault::{Boundaries, NoVault};
use crate::record::Event;
use crate::time::{Epoch, Timestamp};

/// A stream that queries read.
#[derive(Clone)]
pub struct StreamDef {
    /// Its name.
    pub name: String,
    /// The lateness bound.
    pub lateness: Duration,
    /// Reads one JSON record that arrived then, and judges its time; the reason if it is no good.
    pub judge: fn(&[u8], Option<Timestamp>, Duration) -> Result<(), String>,
    /// Its record type.
    pub(super) whole: RecordType,
    /// What is decoded: the record type, or the one part of it that is wanted.
    pub(super) read: RecordType,
}

/// A type that records are decoded into.
#[derive(Clone, Copy)]
pub(super) struct RecordType {
    pub id: TypeId,
    pub name: &'static str,
    pub decode: DecodeFn,
    /// Identifies its fields.
    fingerprint: u64,
}

impl RecordType {
    fn of<T: Event>() -> RecordType {
        RecordType {
            id: TypeId::of::<T>(),
            name: std::any::type_name::<T>(),
            decode: decode_as::<T>,
            // A type that cannot be traced alone has no number; nothing is decided by it.
            fingerprint: fingerprint::<T>().unwrap_or_default(),
        }
    }
}

type Chunks<'s> = Flowing<'s, Epoch, Vec<Task>>;
pub(super) type Judge<'s> = Box<dyn FnOnce(Clocks<'s>) -> Decoded<'s> + 's>;
pub(super) type DecodeFn =
    for<'s> fn(Chunks<'s>, Intake, RawLines) -> (Flowing<'s, Epoch, Vec<Highest>>, Judge<'s>);

fn decode_as<'s, T: Event>(
    tasks: Chunks<'s>,
    intake: Intake,
    lines: RawLines,
) -> (Flowing<'s, Epoch, Vec<Highest>>, Judge<'s>) {
    let raw = decode::<T>(tasks, intake, lines);
    (
        raw.highest.clone(),
        Box::new(move |clocks| raw.judge(clocks)),
    )
}

impl StreamDef {
    /// The stream of a record type `T`, of which `P` is wanted.
    pub(super) fn of<T: Event, P: Event>() -> StreamDef {
        StreamDef {
            name: T::STREAM.to_owned(),
            lateness: T::LATENESS,
            judge: |line, arrival, ahead| read_line::<T>(line, arrival, ahead).map(|_| ()),
            whole: RecordType::of::<T>(),
            read: RecordType::of::<P>(),
        }
    }

    /// Identifies the fields of the records, and which of them are read.
    pub fn fingerprint(&self) -> u64 {
        let whole = self.whole.fingerprint;
        if self.read.id == self.whole.id {
            return whole;
        }
        whole.rotate_left(1) ^ self.read.fingerprint
    }
}

/// A query as the engine sees it.
#[derive(Clone, Debug)]
pub struct QueryDef {
    /// Its name, as in URLs.
    pub name: String,
    /// The first line of its documentation.
    pub doc: String,
    /// The streams it reads, by name.
    pub streams: Vec<String>,
    /// JSON Schema of its keys.
    pub key_schema: Value,
    /// JSON Schema of its values.
    pub value_schema: Value,
    /// Whether its rows become final.
    pub has_final: bool,
}

impl QueryDef {
    /// Identifies what the query answers with: its streams, keys and values.
    pub fn fingerprint(&self) -> u64 {
        let said = serde_json::json!([self.streams, self.key_schema, self.value_schema]);
        let digest = Sha256::digest(said.to_string().as_bytes());
        u64::from_be_bytes(*digest.first_chunk().expect("a SHA-256 digest has 32 bytes"))
    }
}

/// Everything known of a set of queries.
#[derive(Clone)]
pub struct Catalog {
    /// The streams they read, by name.
    pub streams: Vec<StreamDef>,
    /// The queries, in their order.
    pub queries: Vec<QueryDef>,
    /// Their state boundaries.
    pub boundaries: Boundaries,
}

/// What configuration says of the streams instead of the record types.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Lateness bounds by stream.
    pub lateness: BTreeMap<String, Duration>,
}

/// How many windows an instant may lie in: each event touches them all where rows are live.
pub(super) const MAX_OVERLAP: u32 = 10_000;

/// Why a set of queries cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Two record types claim one stream.
    #[error(
        "stream '{stream}' is read as {first} and as {second}: a stream has one record type, \
         share it between the queries, or read a `Part` of it with `flow.part`"
    )]
    TwoTypes {
        /// The stream.
        stream: String,
        /// The first type.
        first: String,
        /// The other.
        second: String,
    },
    /// A part says that it is of another stream than its whole.
    #[error(
        "{part} is a part of {whole}, whose stream is '{expected}', not '{said}': give it \
         `const STREAM: &'static str = {whole}::STREAM;`"
    )]
    OtherStream {
        /// The part.
        part: &'static str,
        /// The whole.
        whole: &'static str,
        /// The stream of the whole.
        expected: &'static str,
        /// The stream of the part.
        said: &'static str,
    },
    /// A stream's name cannot stand in a URL or a file name.
    #[error("stream '{0}': a name has 1 to 64 characters of a-z, 0-9, '_' and '-'")]
    BadName(String),
    /// A query's name cannot stand in a URL, or means something else there.
    #[error(
        "query '{0}': a name has 1 to 64 characters of a-z, 0-9, '_' and '-', and is not 'late', \
         'rejected' or 'tables'"
    )]
    BadQueryName(String),
    /// An instant lies in too many windows.
    #[error(
        "query '{0}': each instant lies in {1} windows, at most {MAX_OVERLAP} are allowed; \
         let a window start less often"
    )]
    TooManyWindows(String, u32),
    /// The step of cumulative windows does not divide their size.
    #[error(
        "query '{0}': the step of cumulative windows does not divide their size; choose a size \
         that is a multiple of it"
    )]
    UnevenSteps(String),
    /// There is no such time zone.
    #[error("query '{0}': there is no time zone '{1}'; write one like 'Europe/Berlin' or 'UTC'")]
    UnknownZone(String, String),
    /// Two queries have one name.
    #[error("two queries are called '{0}': a query's name is its URL")]
    TwoQueries(String),
    /// No such stream.
    #[error("stream '{0}' is read by no query: check its name, the queries read {1}")]
    UnknownStream(String, String),
    /// No such query.
    #[error("there is no query '{0}': there are {1}")]
    UnknownQuery(String, String),
    /// A state boundary's rows cannot be saved.
    #[error("the state '{0}' cannot be saved: {1}")]
    Unsavable(String, String),
    /// Nothing to run.
    #[error("there are no queries: list them in queries/mod.rs")]
    NoQueries,
}

impl Catalog {
    /// Looks at queries without running them, by building their dataflow once with no input.
    pub fn of(queries: &[Query], overrides: &Overrides) -> Result<Catalog, BuildError> {
        if queries.is_empty() {
            return Err(BuildError::NoQueries);
        }
        for (at, query) in queries.iter().enumerate() {
            // State is saved under the query's name, beside the stores and the shared tables.
            if !is_name(&query.name) || ["late", "rejected", "tables"].contains(&&*query.name) {
                return Err(BuildError::BadQueryName(query.name.clone()));
            }
            if queries[..at].iter().any(|other| other.name == query.name) {
                return Err(BuildError::TwoQueries(query.name.clone()));
            }
        }
        let queries = queries.to_vec();
        let mut catalog = timely::execute_directly(move |worker| {
            worker.dataflow::<Epoch, _, _>(|scope| {
                let env = Env::new(scope, Rc::new(NoVault), false);
                let answers: Vec<_> = queries.iter().map(|query| build(&env, query)).collect();
                let mut found = env.found();
                found.streams.sort_by(|a, b| a.name.cmp(&b.name));
                let defs: Vec<_> = answers.iter().map(|answer| answer.def.clone()).collect();
                // The stores of what was not taken are made with the running dataflow only.
                let rejected = found.streams.iter().map(|s| rejected_store(&s.name));
                let late = defs.iter().map(|def: &QueryDef| late_store(&def.name));
                for store in rejected.chain(late) {
                    env.boundary::<bounded::Saved>(store);
                }
                let catalog = Catalog {
                    streams: found.streams,
                    queries: defs,
                    boundaries: env.boundaries(),
                };
                match found.errors.into_iter().next() {
                    Some(error) => Err(error),
                    None => Ok(catalog),
                }
            })
        })?;
        for (name, shape) in &catalog.boundaries {
            if let Err(reason) = &shape.fingerprint {
                return Err(BuildError::Unsavable(name.clone(), reason.clone()));
            }
        }
        for (name, lateness) in &overrides.lateness {
            let known = catalog.stream_names();
            match catalog
                .streams
                .iter_mut()
                .find(|stream| stream.name == *name)
            {
                Some(stream) => stream.lateness = *lateness,
                None => return Err(BuildError::UnknownStream(name.clone(), known.join(", "))),
            }
        }
        Ok(catalog)
    }

    /// The same queries with their streams decoded as they are beside all of a service's: a record
    /// is rejected for any field that is read.
    #[must_use]
    pub fn beside(mut self, service: &Catalog) -> Catalog {
        for stream in &mut self.streams {
            let other = service
                .streams
                .iter()
                .find(|other| other.name == stream.name);
            if other.is_some_and(|other| other.read.id != stream.read.id) {
                stream.read = stream.whole;
            }
        }
        self
    }

    /// The names of the streams, in order.
    pub fn stream_names(&self) -> Vec<String> {
        self.streams
            .iter()
            .map(|stream| stream.name.clone())
            .collect()
    }

    /// The place of a stream.
    pub fn stream(&self, name: &str) -> Option<u16> {
        let at = self.streams.iter().position(|stream| stream.name == name)?;
        u16::try_from(at).ok()
    }
}

/// Whether a stream's name can stand in URLs and file names.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}
