//! A query, its types hidden: what the engine runs.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::Stream as Flowing;
use timely::dataflow::channels::pact::{Exchange, Pipeline};

use super::catalog::QueryDef;
use super::flow::{Answers, Flow, Notices};
use super::schema::json_schema;
use super::table::Table;
use crate::dataflow::clock::{Clock, visible};
use crate::dataflow::keyed::Arrangeable;
use crate::dataflow::retire::{by_update_time, retire};
use crate::row::Row;
use crate::time::Epoch;

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
    /// A query by its function. Of `doc` the first line is shown; `//!` before it is dropped.
    pub fn new<K: Arrangeable, V: Arrangeable>(
        name: &str,
        doc: &str,
        build: for<'s> fn(Flow<'s>) -> Table<'s, K, V>,
    ) -> Query {
        let first = doc.lines().next().unwrap_or_default();
        let doc = first.trim_start_matches("//!").trim().to_owned();
        let build = hidden(move |flow| {
            let table = build(flow.clone());
            let def = QueryDef {
                name: flow.query.to_string(),
                doc: doc.clone(),
                streams: flow.reads_names.borrow().iter().cloned().collect(),
                key_schema: json_schema::<K>(),
                value_schema: json_schema::<V>(),
                has_final: table.final_at().is_some(),
            };
            let notices = Rc::clone(&flow.notices);
            Answer {
                def,
                notices,
                attach: Box::new(move |answers| attach(flow, table, answers)),
            }
        });
        Query {
            name: name.to_owned(),
            build,
        }
    }
}

fn attach<'s, K: Arrangeable, V: Arrangeable>(
    flow: Flow<'s>,
    table: Table<'s, K, V>,
    mut answers: Answers,
) -> Flowing<'s, Epoch, Vec<()>> {
    let final_at = table.final_at();
    let query = Rc::clone(&flow.query);
    let watermark = flow.watermark();
    let encode = move |_| {
        move |clock: &Clock,
              mut updates: Vec<((K, V), Epoch, isize)>,
              _: &mut Vec<()>,
              _: &mut Vec<()>| {
            differential_dataflow::consolidation::consolidate_updates(&mut updates);
            let mut rows = Vec::with_capacity(updates.len());
            for ((key, value), _, diff) in updates {
                match Row::new(&key, &value, final_at.as_ref().map(|at| at(&key))) {
                    Ok(row) => rows.push((row, diff as i64)),
                    Err(error) => tracing::error!(%query, %error, "a row cannot be shown"),
                }
            }
            answers(clock.epoch, visible(watermark(clock)), rows);
        }
    };
    let rows = table.collection().inner;
    let retired = if flow.final_only() {
        // Rows are ordered and netted once, at the end; where they lie until then is no matter.
        retire(
            rows,
            flow.clocks(),
            Pipeline,
            by_update_time,
            "Answer",
            encode,
        )
    } else {
        let pact = Exchange::new(|((key, _), ..): &((K, V), Epoch, isize)| {
            differential_dataflow::hashable::Hashable::hashed(key)
        });
        retire(rows, flow.clocks(), pact, by_update_time, "Answer", encode)
    };
    retired.main
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
