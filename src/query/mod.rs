//! The language queries are written in. A query is a function from a [`Flow`] to a [`Table`] or a
//! [`Stream`]; its stages are types, so that what makes no sense does not compile.
//!
//! Query code cannot see sources, HTTP or the number of workers.
//!
//! # Layout
//!
//! * [`Flow`]: where a query finds its streams and tables
//! * [`Stream`], [`Keyed`]: append-only, stateless
//! * [`tumbling`], [`sliding`], [`Windowed`]: windows of event time
//! * [`Forever`]: no windows
//! * [`Table`]: maintained rows
//! * [`Query`], [`Catalog`]: what the engine needs to know of queries

mod answer;
mod as_of;
mod catalog;
mod chains;
mod counted;
mod ends;
mod failing;
mod flow;
mod forever;
mod interval;
mod joins;
mod keep;
mod latest;
mod pace;
mod ranking;
mod rows;
mod schema;
mod sessions;
mod share;
mod stream;
mod table;
mod unending;
mod windowed;
mod windowing;

use crate::dataflow::stamp;

pub use answer::Query;
pub use catalog::{BuildError, Catalog, Overrides, QueryDef, StreamDef};
pub use chains::Sessions;
pub use counted::{Records, records};
pub use flow::{Answers, Env, Fail, Flow, Outlet, Running, TakeRows, TakeView};
pub use forever::Forever;
pub use sessions::{Session, session};
pub use stream::{Keyed, Stream};
pub use table::Table;
pub use windowed::{WindowKind, Windowed};
pub use windowing::{
    Aligned, CumulativeSize, InZone, SlidingSize, Windowing, cumulative, daily, monthly, sliding,
    tumbling,
};
