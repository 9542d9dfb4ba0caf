//! A query, its types hidden: what the engine runs.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use timely::dataflow::Stream as Flowing;
use timely::dataflow::channels::pact::Pipeline;

use super::catalog::QueryDef;
use super::failing::Failing;
use super::flow::{Answers, Flow, Notices, TakeRows, TakeView};
use super::joins::placed;
use super::schema::json_schema;
use super::stream::{Stream, transform};
use super::table::Table;
use crate::dataflow::appended::{Appended, Arriving, Place, Saved};
use crate::dataflow::clock::{Clock, Clocks, visible};
use crate::dataflow::decode::guard;
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::leaving::Passing;
use crate::dataflow::retire::{by_update_time, retire, stamped};
use crate::dataflow::vault::Boundary;
use crate::row::Row;
use crate::time::{Epoch, millis_of};
use crate::view::Leaving;

/// A named query. Usually made by [`queries!`](crate::queries).
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use waterclock::prelude::*;
/// # #[derive(Clone, Debug, Serialize, Deserialize)]
/// # struct Click { user: Text, at: Timestamp }
/// # impl Event for Click {
/// #     const STREAM: &'static str = "clicks";
/// #     fn time(&self) -> Timestamp { self.at }
/// # }
/// fn clicks(flow: Flow) -> Table<(Text, Window), u64> {
///     flow.stream::<Click>()
///         .key_by(|click| click.user.clone())
///         .window(sliding(minutes(5)).every(minutes(2)))
///         .count()
/// }
/// let query = Query::new("clicks", "Clicks per user.", clicks);
/// # let answer = waterclock::testing::batch(query, &[(
/// #     "clicks",
/// #     r#"{"user":"u1","at":"1970-01-01 00:05:00"}"#,
/// # )]);
/// # assert_eq!(answer, [
/// #     r#"{"key":["u1",{"start":120000,"end":420000}],"value":1,"final":true}"#,
/// #     r#"{"key":["u1",{"start":240000,"end":540000}],"value":1,"final":true}"#,
/// # ]);
/// ```
#[derive(Clone)]
pub struct Query {
    /// Its name, as in URLs.
    pub name: String,
    pub(super) build: Build,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Query").field(&self.name).finish()
    }
}

/// A built query, its types hidden.
pub struct Answer<'s> {
    pub(super) def: QueryDef,
    pub(super) notices: Rc<RefCell<Vec<Notices<'s>>>>,
    pub(super) attach: Attach<'s>,
}

type Build = Arc<dyn for<'s> Fn(Flow<'s>) -> Answer<'s> + Send + Sync>;

/// Hides a query's types; as a function, so that the closure is taken for any lifetime.
fn hidden(build: impl for<'s> Fn(Flow<'s>) -> Answer<'s> + Send + Sync + 'static) -> Build {
    Arc::new(build)
}

/// Hands the rows out; the stream's frontier says of which epochs they are taken.
type Attach<'s> = Box<dyn FnOnce(Answers) -> Flowing<'s, Epoch, Vec<()>> + 's>;

impl Query {
    /// A query by its function, which returns a [`Table`] or a [`Stream`]. Of `doc` the first line
    /// is shown; `//!` before it is dropped.
    pub fn new<F>(name: &str, doc: &str, build: F) -> Query
    where
        F: for<'s> QueryFn<'s> + Send + Sync + 'static,
    {
        let first = doc.lines().next().unwrap_or_default();
        let doc = first.trim_start_matches("//!").trim().to_owned();
        Query {
            name: name.to_owned(),
            build: hidden(move |flow| build.answer(flow, &doc)),
        }
    }
}

/// A function from a [`Flow`] to a [`Table`] or a [`Stream`].
#[diagnostic::on_unimplemented(
    message = "this is no query",
    note = "a query is a function `fn query(flow: Flow) -> Table<K, V>`, or `-> Stream<T>`",
    note = "keys and values are Clone, Debug, Eq, Ord, Hash, Serialize and Deserialize, and a \
            stream's records Clone, Serialize and Deserialize; derive what is missing"
)]
pub trait QueryFn<'s> {
    /// Builds the query, and hides its types.
    fn answer(&self, flow: Flow<'s>, doc: &str) -> Answer<'s>;
}

impl<'s, F, R> QueryFn<'s> for F
where
    F: Fn(Flow<'s>) -> R,
    R: Returned<'s>,
{
    fn answer(&self, flow: Flow<'s>, doc: &str) -> Answer<'s> {
        self(flow.clone()).answer(flow, doc)
    }
}

/// What a query may return.
pub trait Returned<'s> {
    /// Hides the types.
    fn answer(self, flow: Flow<'s>, doc: &str) -> Answer<'s>;
}

impl<'s, K: Arrangeable, V: Arrangeable> Returned<'s> for Table<'s, K, V> {
    fn answer(self, flow: Flow<'s>, doc: &str) -> Answer<'s> {
        let def = define::<K, V>(&flow, doc, self.final_at().is_some());
        Answer {
            def,
            notices: Rc::clone(&flow.notices),
            attach: Box::new(move |answers| attach(flow, self, answers)),
        }
    }
}

impl<'s, T> Returned<'s> for Stream<'s, T>
where
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
{
    fn answer(self, flow: Flow<'s>, doc: &str) -> Answer<'s> {
        let boundary = flow.boundary::<Saved<T>>("appended");
        Answer {
            def: define::<Place, T>(&flow, doc, true),
            notices: Rc::clone(&flow.notices),
            attach: Box::new(move |answers| match answers {
                Answers::Rows(rows) => append(&flow, boundary, self, rows),
                Answers::View(mut rows) => {
                    let one_by_one = move |epoch, watermark, changes| {
                        rows(epoch, watermark, Leaving::OneByOne, changes);
                    };
                    append(&flow, boundary, self, Box::new(one_by_one))
                }
                Answers::Counts(count) => {
                    let rows = |batch: &Rc<Vec<_>>| i64::try_from(batch.len()).unwrap_or(i64::MAX);
                    counted(flow.clocks(), self.batches, rows, count)
                }
            }),
        }
    }
}

fn define<K, V>(flow: &Flow<'_>, doc: &str, has_final: bool) -> QueryDef
where
    K: Serialize + DeserializeOwned + 'static,
    V: Serialize + DeserializeOwned + 'static,
{
    QueryDef {
        name: flow.query.to_string(),
        doc: doc.to_owned(),
        streams: flow.reads_names.borrow().iter().cloned().collect(),
        key_schema: json_schema::<K>(),
        value_schema: json_schema::<V>(),
        has_final,
    }
}

/// Counts rows where they are.
fn counted<'s, D: 'static>(
    clocks: Clocks<'s>,
    rows: Flowing<'s, Epoch, Vec<D>>,
    times: impl Fn(&D) -> i64 + 'static,
    mut count: Box<dyn FnMut(i64)>,
) -> Flowing<'s, Epoch, Vec<()>> {
    retire(rows, clocks, Pipeline, stamped, "Count", |_| {
        move |_: &Clock, rows: Vec<D>, _: &mut Vec<()>, _: &mut Vec<()>| {
            count(rows.iter().map(&times).sum());
        }
    })
    .main
}

/// Hands out a stream's rows on the worker that made them.
fn append<'s, T>(
    flow: &Flow<'s>,
    boundary: Boundary,
    stream: Stream<'s, T>,
    mut answers: TakeRows,
) -> Flowing<'s, Epoch, Vec<()>>
where
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
{
    let keep = millis_of(stream.keep);
    let (is_kept, names) = (!flow.final_only(), flow.names());
    let arriving = transform(flow, stream.batches, "Encode", move |record, out| {
        if is_kept && record.watermark >= record.time.saturating_add(keep) {
            return Err("late".to_owned());
        }
        let row = guard(|| Arriving::new(record, &names, is_kept))?;
        out.push(row.map_err(|error| error.to_string())?);
        Ok(())
    });
    let worker = u32::try_from(flow.scope().index()).expect("there are few workers");
    let mut failing = Failing::new(Some(&boundary), &flow.fail);
    let mut appended = Appended::new(worker, keep, boundary, flow.owns());
    let watermark = flow.watermark();
    let logic = move |clock: &Clock, batches: Vec<Batched<T>>, _: &mut Vec<()>, _: &mut Vec<()>| {
        let at = watermark(clock);
        let mut rows = Vec::new();
        failing.retire(clock, &mut rows, |rows| {
            let arriving = batches.into_iter().flat_map(Rc::unwrap_or_clone).collect();
            *rows = (appended.retire(clock, at, arriving)).map_err(|error| error.to_string())?;
            Ok(())
        });
        answers(clock.epoch, visible(at), rows);
    };
    retire(arriving, flow.clocks(), Pipeline, stamped, "Append", |_| {
        logic
    })
    .main
}

type Batched<T> = Rc<Vec<Arriving<T>>>;

fn attach<'s, K: Arrangeable, V: Arrangeable>(
    flow: Flow<'s>,
    table: Table<'s, K, V>,
    answers: Answers,
) -> Flowing<'s, Epoch, Vec<()>> {
    let (final_at, known) = (table.final_at(), table.known);
    let (mut answers, rows, leave): (TakeView, _, _) = match answers {
        Answers::View(view) => {
            let (rows, leave) = table.rows.shown();
            (view, rows, leave)
        }
        Answers::Rows(mut rows) => {
            let take = move |epoch, watermark, _, changes| rows(epoch, watermark, changes);
            (Box::new(take), table.collection(), None)
        }
        Answers::Counts(count) => {
            let rows = table.collection().inner;
            return counted(flow.clocks(), rows, |(_, _, diff)| *diff as i64, count);
        }
    };
    let query = Rc::clone(&flow.query);
    let only_grows = known.only_grows && !flow.final_only();
    let mut passing = leave.map(|leave| (Passing::new(&leave), leave));
    let watermark = flow.watermark();
    let encode = move |_| {
        move |clock: &Clock,
              mut updates: Vec<((K, V), Epoch, isize)>,
              _: &mut Vec<()>,
              _: &mut Vec<()>| {
            // Where rows only come, none takes another back. For a replay they are ordered here,
            // while they are of a type, which leaves the end to merge what is in order.
            if !only_grows {
                differential_dataflow::consolidation::consolidate_updates(&mut updates);
            }
            let mut rows = Vec::with_capacity(updates.len());
            for ((key, value), _, diff) in updates {
                match Row::new(&key, &value, final_at.as_ref().map(|at| at(&key))) {
                    Ok(row) => rows.push((row, diff as i64)),
                    Err(error) => tracing::error!(%query, %error, "a row cannot be shown"),
                }
            }
            let watermark = watermark(clock);
            let leaving = match &mut passing {
                Some((passing, leave)) if leave.is_left_to_views() => {
                    Leaving::Together(passing.advance(clock.mark, watermark))
                }
                _ => Leaving::OneByOne,
            };
            answers(clock.epoch, visible(watermark), leaving, rows);
        }
    };
    let rows = if flow.final_only() {
        // Rows are ordered and netted once, at the end; where they lie until then is no matter.
        rows.inner
    } else {
        placed(rows, known).inner
    };
    let clocks = flow.clocks();
    retire(rows, clocks, Pipeline, by_update_time, "Answer", encode).main
}

/// Lists query modules: each has a function `query`, and its name is the query's.
///
/// The first line of the module's file is the query's documentation.
#[macro_export]
macro_rules! queries {
    ($($name:ident),* $(,)?) => {
        vec![$($crate::query::Query::new(
            stringify!($name),
            include_str!(concat!(stringify!($name), ".rs")),
            $name::query,
        )),*]
    };
}

/// Declares a struct that can be the key, the value or the record of anything: its fields are
/// public, and all that rows need is derived.
///
/// ```
/// # use waterclock::prelude::*;
/// data! {
///     /// What a shop took.
///     pub struct Takings { shop: Text, amount: i64, at: Timestamp }
/// }
/// # let takings = Takings { shop: "a".into(), amount: 1, at: Timestamp(0) };
/// # assert!(takings < Takings { amount: 2, ..takings.clone() });
/// ```
#[macro_export]
macro_rules! data {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$of_field:meta])* $field:ident: $type:ty),* $(,)?
    }) => {
        #[derive(
            Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            ::serde::Serialize, ::serde::Deserialize,
        )]
        $(#[$meta])*
        $vis struct $name { $($(#[$of_field])* pub $field: $type),* }
    };
}
