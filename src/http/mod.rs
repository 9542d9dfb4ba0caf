//! Edge out: the views and the ports over HTTP. Routes and wire format live here; what the answer
//! is does not: that is `view`'s.
//!
//! A request passes, in this order: `server` (connections, their bounds), `edge` (host and origin,
//! body, time limit, panics, counting), `routes` (paths and methods), and one handler of `pull`,
//! `post`, `catalog` or `metrics`. Whatever goes wrong on the way is a `Problem`.

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
