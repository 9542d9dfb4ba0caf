//! Connections: accepted one by one, within bounds of number and time.

use std::convert::Infallible;
use std::future::Future;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use warp::hyper::server::conn::http1;
use warp::hyper::service::service_fn;

use super::edge::Edge;
use super::options::{HttpError, Service};
use super::stall::{Farewell, Stall};
use super::state::State;
use super::tls;

/// The most bytes hyper buffers of a connection; a request's head must fit.
const MIN_BUFFER: usize = 64 << 10;
/// How long to wait when a connection cannot be accepted, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` is done, and then until the open requests are, or their grace is over.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    shutdown: impl Future<Output = ()>,
) -> Result<(), HttpError> {
    let local = listener.local_addr().map_err(HttpError::Listen)?;
    let options = &service.options;
    let is_open = options.tokens.is_empty() && !options.insecure;
    if !local.ip().to_canonical().is_loopback() && is_open {
        return Err(HttpError::Exposed(local));
    }
    let tls = options.tls.as_ref().map(tls::acceptor).transpose()?;
    let grace = options.shutdown_grace;
    let slots = Arc::new(Semaphore::new(
        options.max_connections.clamp(1, Semaphore::MAX_PERMITS),
    ));
    let state = Arc::new(State::new(service));
    let edge = Arc::new(Edge::new(Arc::clone(&state)));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, slot) = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            () = &mut shutdown => break,
        };
        connections.spawn(connection(
            stream,
            tls.clone(),
            slot,
            Arc::clone(&edge),
            graceful.watcher(),
        ));
    }
    drop(listener);
    state.stop();
    if timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "connections cut off: their grace is over"
        );
    }
    connections.shutdown().await;
    Ok(())
}

/// The next connection. Beyond the allowed number they wait in the system's queue.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            // The peer changed its mind; others have not.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    slot: OwnedSemaphorePermit,
    edge: Arc<Edge>,
    watcher: Watcher,
) {
    // A connection that is already gone has no address, and the first read says so.
    let Ok(local) = stream.local_addr().map(|address: SocketAddr| address.ip()) else {
        return;
    };
    stream.set_nodelay(true).ok();
    let open = Open::new(Arc::clone(&edge.state));
    match tls {
        None => exchange(stream, local, edge, watcher).await,
        Some(tls) => {
            let patience = edge.state.service.options.head_timeout;
            match timeout(patience, tls.accept(stream)).await {
                Ok(Ok(stream)) => exchange(stream, local, edge, watcher).await,
                Ok(Err(error)) => tracing::debug!(%error, "a client does not speak TLS with us"),
                Err(_) => tracing::debug!("a client took too long to agree on TLS"),
            }
        }
    }
    drop((open, slot));
}

/// Answers the requests of a connection, one after the other.
async fn exchange<S>(stream: S, local: IpAddr, edge: Arc<Edge>, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Farewell + Unpin + Send + 'static,
{
    let options = edge.state.service.options.clone();
    let service = service_fn(move |request| {
        let edge = Arc::clone(&edge);
        async move { Ok::<_, Infallible>(edge.answer(request, local).await) }
    });
    let is_slow = Arc::new(AtomicBool::new(false));
    let stream = Stall::new(stream, options.write_timeout, Arc::clone(&is_slow));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_timeout)
        .max_header_size(options.max_head)
        .max_headers(options.max_headers)
        .max_buf_size(options.max_head.max(MIN_BUFFER))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(watcher.watch(connection));
    if let Err(error) = connection.as_mut().await {
        // The stream is told before it is dropped: it says so if a head came in part.
        is_slow.store(error.is_timeout(), Ordering::Relaxed);
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Counts a connection while it is open.
struct Open(Arc<State>);

impl Open {
    fn new(state: Arc<State>) -> Open {
        state.requests.connections.fetch_add(1, Ordering::Relaxed);
        Open(state)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.requests.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
