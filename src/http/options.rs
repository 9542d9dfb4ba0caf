//! What the HTTP edge is given to serve, and its bounds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::time::{Timestamp, minutes, seconds};
use crate::view::{Checkpoints, Ingest, Outbox, Views};

/// What is served.
pub struct Service {
    /// The queries' answers.
    pub views: Arc<Views>,
    /// Takes posts.
    pub ingest: Arc<dyn Ingest>,
    /// Takes and lists checkpoints.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// What feeds each stream, in words.
    pub sources: BTreeMap<String, String>,
    /// Where answers go besides readers.
    pub sinks: Arc<[Arc<Outbox>]>,
    /// Set by the owner while answers lag behind the inputs, for example after a restart.
    pub stale: Arc<AtomicBool>,
    /// The bounds.
    pub options: HttpOptions,
    /// Tells the time of day.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// The bounds of the HTTP edge, and who may use it.
#[derive(Clone)]
pub struct HttpOptions {
    /// Host names that are ours besides `localhost` and the address a client connected to.
    pub hosts: Vec<String>,
    /// The secret that requests must carry as `Authorization: Bearer ...`; `None` asks for none.
    pub token: Option<String>,
    /// Allows listening beyond loopback without a token.
    pub insecure: bool,
    /// The most bytes of one request's body.
    pub body_limit: usize,
    /// The most bytes of all bodies held at once; more are answered 429.
    pub body_budget: usize,
    /// The most open connections; more wait to be accepted.
    pub max_connections: usize,
    /// The most subscriptions open at once; more are answered 429.
    pub max_subscribers: usize,
    /// The most bytes of a request's head.
    pub max_head: usize,
    /// How long the head of a request may take, and how long a connection may sit idle.
    pub head_timeout: Duration,
    /// How long a request may take, besides the time that its client asked to wait.
    pub request_timeout: Duration,
    /// How long a client may take no byte of its answer.
    pub write_timeout: Duration,
    /// The longest `timeout` that a client may ask to wait.
    pub max_wait: Duration,
    /// How long open requests may go on once the service stops.
    pub shutdown_grace: Duration,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions {
            hosts: Vec::new(),
            token: None,
            insecure: false,
            body_limit: 8 << 20,
            body_budget: 256 << 20,
            max_connections: 2048,
            max_subscribers: 1000,
            max_head: 64 << 10,
            head_timeout: seconds(30),
            request_timeout: seconds(30),
            write_timeout: seconds(30),
            max_wait: minutes(5),
            shutdown_grace: seconds(5),
        }
    }
}

/// Why the HTTP edge does not run.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Anybody could read and write.
    #[error(
        "address {0} can be reached from other machines: set a token, listen on 127.0.0.1, \
         or allow it with --insecure"
    )]
    Exposed(SocketAddr),
    /// The listening socket is unusable.
    #[error("cannot listen: {0}")]
    Listen(std::io::Error),
}
