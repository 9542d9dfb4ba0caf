//! Edge out: the views and the ports over HTTP. Routes and wire format live here; what the answer
//! is does not: that is `view`'s.
//!
//! A request passes, in this order: `server` (connections, their bounds), `edge` (host and origin,
//! body, time limit, panics, compression, counting), `routes` (paths and methods), and one handler
//! of `pull`, `several`, `push`, `post`, `catalog` or `metrics`. Whatever goes wrong on the way is
//! a `Problem`. A read finds its epoch in `moment`, tells in `tag` whether the client has the
//! answer already, and is written by `render` in the format that `accept` read from the request.

mod accept;
mod answer;
mod arrow;
mod body;
mod catalog;
mod coding;
mod cors;
mod dashboard;
mod describe;
mod edge;
mod flat;
mod fresh;
mod guard;
mod metrics;
mod moment;
mod options;
mod params;
mod post;
mod problem;
mod pull;
mod push;
mod records;
mod render;
mod routes;
mod server;
mod several;
mod stall;
mod state;
mod tag;
#[cfg(test)]
mod tests;
mod tls;
mod token;

pub use options::{AccessToken, HttpError, HttpOptions, Scope, Service, TlsFiles};
pub use server::serve;
