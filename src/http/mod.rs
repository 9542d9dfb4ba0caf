//! Edge out: the views and the ports over HTTP. Routes and wire format live here; what the answer
//! is does not: that is `view`'s.
//!
//! A request passes, in this order: `server` (connections, their bounds), `edge` (host and origin,
//! body, time limit, panics, counting), `routes` (paths and methods), and one handler of `pull`,
//! `push`, `post`, `catalog` or `metrics`. Whatever goes wrong on the way is a `Problem`.

mod answer;
mod body;
mod catalog;
mod dashboard;
mod edge;
mod guard;
mod metrics;
mod options;
mod params;
mod post;
mod problem;
mod pull;
mod push;
mod records;
mod routes;
mod server;
mod stall;
mod state;
#[cfg(test)]
mod tests;
mod token;

pub use options::{HttpError, HttpOptions, Service};
pub use server::serve;
