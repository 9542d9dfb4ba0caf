//! What the HTTP edge is given to serve, and its bounds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
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

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To read answers, lists and metrics.
    Read,
    /// To post records.
    Write,
    /// Everything.
    Admin,
}

/// A secret and what it allows. Not `Debug`.
#[derive(Clone)]
pub struct AccessToken {
    /// What it allows.
    pub scope: Scope,
    /// The text to show.
    pub secret: String,
}

/// What TLS is served with: PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, and those it builds on.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The bounds of the HTTP edge, and who may use it.
#[derive(Clone)]
pub struct HttpOptions {
    /// Host names that are ours besides `localhost` and the address a client connected to.
    pub hosts: Vec<String>,
    /// One of these a request must carry as `Authorization: Bearer ...`; none at all ask for none.
    pub tokens: Vec<AccessToken>,
    /// Allows listening beyond loopback without a token.
    pub insecure: bool,
    /// Serves over TLS with this certificate.
    pub tls: Option<TlsFiles>,
    /// Origins, besides our own, whose pages may use the service: `https://example.org`.
    pub origins: Vec<String>,
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
    /// The most headers of a request.
    pub max_headers: usize,
    /// How long the head of a request may take, and how long a connection may sit idle.
    pub head_timeout: Duration,
    /// How long a request may take, besides the time that its client asked to wait.
    pub request_timeout: Duration,
    /// How long a client may take no byte of its answer.
    pub write_timeout: Duration,
    /// The longest `timeout` that a client may ask to wait.
    pub max_wait: Duration,
    /// A post is refused while records acknowledged longer ago than this are not shown yet.
    pub max_backlog: Duration,
    /// An answer that lags further behind its input than this says that it is stale.
    pub stale_after: Duration,
    /// How long open requests may go on once the service stops.
    pub shutdown_grace: Duration,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions {
            hosts: Vec::new(),
            tokens: Vec::new(),
            insecure: false,
            tls: None,
            origins: Vec::new(),
            body_limit: 8 << 20,
            body_budget: 256 << 20,
            max_connections: 2048,
            max_subscribers: 1000,
            max_head: 64 << 10,
            max_headers: 100,
            head_timeout: seconds(30),
            request_timeout: seconds(30),
            write_timeout: seconds(30),
            max_wait: minutes(5),
            max_backlog: seconds(30),
            stale_after: seconds(10),
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
    /// The certificate or its key is unusable.
    #[error("cannot serve TLS with '{path}': {cause}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The listening socket is unusable.
    #[error("cannot listen: {0}")]
    Listen(std::io::Error),
}
