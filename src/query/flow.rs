//! Where a query finds its streams and tables, and how a dataflow of queries is put together.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::{Concatenate, Probe};
use timely::dataflow::{ProbeHandle, Scope, Stream as Flowing};

use super::answer::{Answer, Query};
use super::catalog::{BuildError, Catalog, StreamDef, is_name};
use super::share::Shared;
use super::stream::{Stream, transform_apart, typed};
use crate::dataflow::bounded::{Shown, Store};
use crate::dataflow::clock::{Clock, Clocks, Times, clocks};
use crate::dataflow::decode::{Counted, Intake, Notice, guard};
use crate::dataflow::feed::Feed;
use crate::dataflow::lines::RawLines;
use crate::dataflow::settling::FinalAt;
use crate::dataflow::vault::{Boundaries, Boundary, Vault};
use crate::record::{Entity, Event, Part, Text};
use crate::row::Row;
use crate::time::{Epoch, Timestamp};
use crate::view::Leaving;

/// Notices on their way to a store.
pub(super) type Notices<'s> = Flowing<'s, Epoch, Vec<Notice>>;

/// What building a dataflow found out, in a pass without input.
#[derive(Default)]
pub(super) struct Found {
    pub streams: Vec<StreamDef>,
    pub errors: Vec<BuildError>,
}

struct Source<'s> {
    place: u16,
    record: TypeId,
    batches: Flowing<'s, Epoch, Vec<Rc<dyn Any>>>,
}

/// What the queries of one dataflow share on one worker.
#[derive(Clone)]
pub struct Env<'s> {
    scope: Scope<'s, Epoch>,
    clocks: Clocks<'s>,
    names: Rc<Vec<Text>>,
    sources: Rc<BTreeMap<String, Source<'s>>>,
    found: Rc<RefCell<Found>>,
    boundaries: Rc<RefCell<Boundaries>>,
    pub(super) shared: Shared<'s>,
    vault: Rc<dyn Vault>,
    lines: RawLines,
    final_only: bool,
}

/// Says why a query failed. Cloning is shallow.
pub type Fail = Rc<dyn Fn(String)>;

/// What takes a query's answer.
pub enum Answers {
    /// Takes the changes of the rows: called for every closed epoch, in order, with the query's
    /// watermark after it.
    Rows(TakeRows),
    /// The same, of a view, which lets final rows leave together.
    View(TakeView),
    /// Takes how many rows came, less those that went. They are made, but nobody reads them.
    Counts(Box<dyn FnMut(i64)>),
}

/// See [`Answers::Rows`].
pub type TakeRows = Box<dyn FnMut(Epoch, Option<Timestamp>, Vec<(Row, i64)>)>;

/// See [`Answers::View`]. What leaves does so before the changes.
pub type TakeView = Box<dyn FnMut(Epoch, Option<Timestamp>, Leaving, Vec<(Row, i64)>)>;

/// Where one worker's share of the answers goes.
pub trait Outlet {
    /// Takes the rows of a query.
    fn rows(&self, query: &str) -> Answers;
    /// Shows what was late for a query.
    fn late(&self, query: &str) -> Shown;
    /// Marks a query as failed; its rows are not to be trusted any more.
    fn failed(&self, query: &str) -> Fail;
    /// Shows what a stream's decoding rejected.
    fn rejected(&self, stream: &str) -> Shown;
}

impl<'s> Env<'s> {
    /// An environment without input, to look at queries.
    pub(super) fn new(scope: Scope<'s, Epoch>, vault: Rc<dyn Vault>, final_only: bool) -> Env<'s> {
        Env {
            scope,
            clocks: empty(scope),
            names: Rc::new(Vec::new()),
            sources: Rc::new(BTreeMap::new()),
            found: Rc::default(),
            boundaries: Rc::default(),
            shared: Shared::default(),
            vault,
            lines: RawLines::default(),
            final_only,
        }
    }

    /// Builds a running dataflow: the feed's streams decoded once, their clock, and every query
    /// with its stores. The probe passes an epoch once every row of it has been taken.
    #[allow(
        clippy::too_many_arguments,
        reason = "the composition of a dataflow, called once"
    )]
    pub fn run(
        feed: Feed<'s>,
        catalog: &Catalog,
        queries: &[Query],
        running: Running,
        outlet: &dyn Outlet,
        report: impl FnMut(&Clock, &Times) + 'static,
    ) -> ProbeHandle<Epoch> {
        let scope = feed.tasks.scope();
        let mut env = Env::new(scope, running.vault, running.final_only);
        env.lines = running.lines;
        env.names = Rc::new(
            catalog
                .streams
                .iter()
                .map(|s| Text::from(&*s.name))
                .collect(),
        );
        let mut judges = Vec::new();
        let mut highest = Vec::new();
        for (place, stream) in catalog.streams.iter().enumerate() {
            let intake = Intake {
                stream: u16::try_from(place).expect("fewer than 65536 streams"),
                lateness: crate::time::millis_of(stream.lateness),
                max_ahead: running.max_ahead,
                counted: std::sync::Arc::clone(&running.counted[place]),
            };
            let (high, judge) = (stream.read.decode)(feed.tasks.clone(), intake, env.lines.clone());
            highest.push(high);
            judges.push(judge);
        }
        let highest = scope.concatenate(highest);
        env.clocks = clocks(feed.announcements, highest, running.times, report);
        let mut sources = BTreeMap::new();
        let mut closed: Vec<Flowing<'s, Epoch, Vec<()>>> = Vec::new();
        for (place, (stream, judge)) in catalog.streams.iter().zip(judges).enumerate() {
            let decoded = judge(env.clocks.clone());
            let shown = outlet.rejected(&stream.name);
            let name = rejected_store(&stream.name);
            closed.push(env.store(&name, decoded.rejected, shown));
            let place = u16::try_from(place).expect("fewer than 65536 streams");
            let source = Source {
                place,
                record: stream.read.id,
                batches: decoded.batches,
            };
            sources.insert(stream.name.clone(), source);
        }
        env.sources = Rc::new(sources);
        for query in queries {
            let answer = build_failing(&env, query, outlet.failed(&query.name));
            let name = &answer.def.name;
            closed.push((answer.attach)(outlet.rows(name)));
            let notices = scope.concatenate(answer.notices.take());
            closed.push(env.store(&late_store(name), notices, outlet.late(name)));
        }
        let probe = ProbeHandle::new();
        scope.concatenate(closed).probe_with(&probe);
        probe
    }

    fn store(&self, name: &str, notices: Notices<'s>, shown: Shown) -> Flowing<'s, Epoch, Vec<()>> {
        use crate::dataflow::retire::{retire, stamped};
        use timely::dataflow::channels::pact::Exchange;
        let names = self.names.iter().map(ToString::to_string).collect();
        // One worker keeps a store, so that its bound does not depend on their number.
        let place = differential_dataflow::hashable::Hashable::hashed(&name.to_owned());
        let is_mine = place % self.scope.peers() as u64 == self.scope.index() as u64;
        let boundary = self.boundary::<crate::dataflow::bounded::Saved>(name.to_owned());
        let mut store = Store::new(names, boundary, shown, is_mine);
        let pact = Exchange::new(move |_: &Notice| place);
        retire(notices, self.clocks.clone(), pact, stamped, name, |_| {
            move |clock: &Clock, notices, _: &mut Vec<()>, _: &mut Vec<()>| {
                store.retire(clock, notices);
            }
        })
        .main
    }

    /// Registers a boundary under its full name.
    pub(super) fn boundary<R>(&self, name: String) -> Boundary
    where
        R: serde::Serialize + serde::de::DeserializeOwned,
    {
        let mut boundaries = self.boundaries.borrow_mut();
        Boundary::new::<R>(name, Rc::clone(&self.vault), &mut boundaries)
    }

    pub(super) fn found(&self) -> Found {
        std::mem::take(&mut self.found.borrow_mut())
    }

    pub(super) fn boundaries(&self) -> Boundaries {
        self.boundaries.borrow().clone()
    }
}

/// The boundary of a query's late records.
pub(super) fn late_store(query: &str) -> String {
    format!("late/{query}")
}

/// The boundary of a stream's rejected records.
pub(super) fn rejected_store(stream: &str) -> String {
    format!("rejected/{stream}")
}

/// What a running dataflow is given.
pub struct Running {
    /// Where boundaries save and find their rows.
    pub vault: Rc<dyn Vault>,
    /// The raw lines of open epochs; the caller forgets closed ones.
    pub lines: RawLines,
    /// The streams' times to start from.
    pub times: Times,
    /// What is counted of each stream.
    pub counted: Vec<std::sync::Arc<Counted>>,
    /// How far ahead of its arrival an event time may be.
    pub max_ahead: Duration,
    /// Whether only final rows are wanted.
    pub final_only: bool,
}

/// Builds one query in a dataflow.
pub fn build<'s>(env: &Env<'s>, query: &Query) -> Answer<'s> {
    build_failing(env, query, Rc::new(|_| {}))
}

/// Builds one query, which says through `fail` should it fail while it runs.
fn build_failing<'s>(env: &Env<'s>, query: &Query, fail: Fail) -> Answer<'s> {
    let flow = Flow {
        fail,
        env: env.clone(),
        query: Rc::from(query.name.as_str()),
        reads: Rc::default(),
        reads_names: Rc::default(),
        notices: Rc::default(),
        unnamed: Rc::default(),
    };
    (query.build)(flow)
}

/// Where a query finds its streams and tables.
///
/// A query takes it by value and returns what it makes of it; see [`Query`].
#[derive(Clone)]
pub struct Flow<'s> {
    pub(super) env: Env<'s>,
    pub(super) query: Rc<str>,
    pub(super) fail: Fail,
    reads: Rc<RefCell<Vec<u16>>>,
    pub(super) reads_names: Rc<RefCell<BTreeSet<String>>>,
    pub(super) notices: Rc<RefCell<Vec<Notices<'s>>>>,
    unnamed: Rc<RefCell<BTreeMap<String, u32>>>,
}

impl<'s> Flow<'s> {
    /// The stream of a record type. All queries share its one decoding.
    pub fn stream<T: Event>(&self) -> Stream<'s, T> {
        Stream::new(self.clone(), typed(self.batches::<T>()))
    }

    /// Some fields of the records of a stream. If no query wants others, no others are decoded; a
    /// record is not rejected for what is wrong with those. Otherwise whole records are, and the
    /// parts are made of them: both once for all queries.
    pub fn part<P: Part>(&self) -> Stream<'s, P> {
        if P::STREAM != P::Whole::STREAM {
            self.refuse(BuildError::OtherStream {
                part: std::any::type_name::<P>(),
                whole: std::any::type_name::<P::Whole>(),
                expected: P::Whole::STREAM,
                said: P::STREAM,
            });
        }
        match self.batches_of::<P::Whole, P>() {
            Some(batches) => Stream::new(self.clone(), typed(batches)),
            None => self.made_of_whole(),
        }
    }

    /// Parts made of whole records, once for all queries that want them.
    fn made_of_whole<P: Part>(&self) -> Stream<'s, P> {
        let name = format!("parts/{:?}", TypeId::of::<P>());
        let parts = self.shared(&name, || {
            let whole = typed::<P::Whole>(self.batches::<P::Whole>());
            transform_apart(self, whole, "Part", |record, out| {
                out.push(record.with(guard(|| P::of(&record.data))?));
                Ok(())
            })
        });
        Stream::new(self.clone(), parts)
    }

    /// The stream of that name, which `build` makes with its notices if this is the first query to
    /// ask. Every query that reads it is told of them.
    pub(super) fn shared<D: Clone + 'static>(
        &self,
        name: &str,
        build: impl FnOnce() -> (Flowing<'s, Epoch, Vec<D>>, Notices<'s>),
    ) -> Flowing<'s, Epoch, Vec<D>> {
        let (shared, notices_name) = (&self.env.shared, format!("{name}/notices"));
        let made = shared.stream(name, || {
            let (made, notices) = build();
            shared.stream(&notices_name, || notices);
            made
        });
        let notices = shared.stream(&notices_name, || empty(self.env.scope));
        self.notices.borrow_mut().push(notices);
        made
    }

    /// The decoded records of a type; the query reads its stream from here on.
    pub(super) fn batches<T: Event>(&self) -> Flowing<'s, Epoch, Vec<Rc<dyn Any>>> {
        self.batches_of::<T, T>()
            .expect("the catalog is that of these queries")
    }

    /// The decoded records of a type `T` as `P`, unless they are decoded as something else.
    fn batches_of<T: Event, P: Event>(&self) -> Option<Flowing<'s, Epoch, Vec<Rc<dyn Any>>>> {
        self.reads_names.borrow_mut().insert(T::STREAM.to_owned());
        let Some(source) = self.env.sources.get(T::STREAM) else {
            self.find::<T, P>();
            return Some(empty(self.env.scope));
        };
        let mut reads = self.reads.borrow_mut();
        if !reads.contains(&source.place) {
            reads.push(source.place);
        }
        (source.record == TypeId::of::<P>()).then(|| source.batches.clone())
    }

    /// The table of an entity: the latest record of each key, by event time; ties go by stream,
    /// partition and position. A tombstone removes its key's row. All queries share one table.
    ///
    /// Changes of a database (Debezium) count in their order. One that deletes or updates a row
    /// that is not there, or inserts one that is, is applied and listed among the query's late
    /// records.
    pub fn table<E>(&self) -> super::Table<'s, E::Key, E>
    where
        E: Entity + crate::dataflow::keyed::Arrangeable,
        E::Key: crate::dataflow::keyed::Arrangeable,
    {
        super::latest::table(self)
    }

    /// Says that the query cannot be built like this.
    pub(super) fn refuse(&self, error: BuildError) {
        self.env.found.borrow_mut().errors.push(error);
    }

    /// Notes a stream of records `T`, of which `P` is wanted, in the pass without input.
    fn find<T: Event, P: Event>(&self) {
        let found = &mut *self.env.found.borrow_mut();
        let def = StreamDef::of::<T, P>();
        let known = found
            .streams
            .iter_mut()
            .find(|known| known.name == def.name);
        match known {
            None if is_name(&def.name) => found.streams.push(def),
            None => found.errors.push(BuildError::BadName(def.name)),
            Some(known) if known.whole.id != def.whole.id => {
                found.errors.push(BuildError::TwoTypes {
                    stream: def.name,
                    first: known.whole.name.to_owned(),
                    second: def.whole.name.to_owned(),
                });
            }
            Some(known) if known.read.id != def.read.id => known.read = known.whole,
            Some(_) => {}
        }
    }

    /// A boundary of this query: named after it, its kind, and which of that kind it is.
    pub(super) fn boundary<R>(&self, kind: &str) -> Boundary
    where
        R: serde::Serialize + serde::de::DeserializeOwned,
    {
        let mut unnamed = self.unnamed.borrow_mut();
        let number = unnamed.entry(kind.to_owned()).or_default();
        *number += 1;
        let name = match *number {
            1 => format!("{}/{kind}", self.query),
            n => format!("{}/{kind}-{n}", self.query),
        };
        self.env.boundary::<R>(name)
    }

    /// Reads the query's watermark from a clock: the minimum over all streams that the whole
    /// query reads, also those it names later.
    pub(super) fn watermark(&self) -> impl Fn(&Clock) -> i64 + 'static {
        let reads = Rc::clone(&self.reads);
        move |clock| clock.over(&reads.borrow())
    }

    /// Reads one stream's own watermark from a clock.
    pub(super) fn stream_watermark(&self, stream: &str) -> impl Fn(&Clock) -> i64 + 'static {
        let place = self.env.sources.get(stream).map(|source| source.place);
        move |clock| place.map_or(crate::dataflow::clock::NONE, |place| clock.over(&[place]))
    }

    pub(super) fn clocks(&self) -> Clocks<'s> {
        self.env.clocks.clone()
    }

    pub(super) fn scope(&self) -> Scope<'s, Epoch> {
        self.env.scope
    }

    /// The same flow, of records that left the epoch or the worker that has their chunk. That the
    /// chunk may happen to be at hand must not show.
    pub(super) fn without_chunks(mut self) -> Flow<'s> {
        self.env.lines = self.env.lines.without_chunks();
        self
    }

    /// The raw lines of records.
    pub(super) fn lines(&self) -> RawLines {
        self.env.lines.clone()
    }

    pub(super) fn names(&self) -> Rc<Vec<Text>> {
        Rc::clone(&self.env.names)
    }

    pub(super) fn final_only(&self) -> bool {
        self.env.final_only
    }

    /// When a key's rows are not only final, but stay: in a replay, which takes none back.
    pub(super) fn settled_at<K>(&self, final_at: Option<&FinalAt<K>>) -> Option<FinalAt<K>> {
        final_at.filter(|_| self.final_only()).cloned()
    }

    /// Whether rows of an owner's hash live on this worker.
    pub(super) fn owns(&self) -> impl Fn(u64) -> bool + 'static {
        let (me, peers) = (self.env.scope.index() as u64, self.env.scope.peers() as u64);
        move |owner| owner % peers == me
    }
}
