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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use warp::http::Request;
use warp::hyper::body::Incoming;
use warp::hyper::server::conn::http1;
use warp::hyper::service::service_fn;

use super::edge::Edge;
use super::options::{HttpError, Service};
use super::stall::{Farewell, Stall};
use super::state::{State, stop};
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
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, slot) = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            () = &mut shutdown => break,
        };
        connections.spawn(connection(stream, tls.clone(), slot, Arc::clone(&edge)));
    }
    drop(listener);
    state.stop();
    // A WebSocket is no connection of hyper's any more.
    let ended = async {
        while connections.join_next().await.is_some() {}
        state.hub.ended().await;
    };
    if timeout(grace, ended).await.is_err() {
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
) {
    // A connection that is already gone has no address, and the first read says so.
    let Ok(local) = stream.local_addr().map(|address: SocketAddr| address.ip()) else {
        return;
    };
    stream.set_nodelay(true).ok();
    let slot = Slot(Arc::new((Open::new(Arc::clone(&edge.state)), slot)));
    let Some(tls) = tls else {
        return exchange(stream, local, slot, edge).await;
    };
    let patience = edge.state.service.options.head_timeout;
    match timeout(patience, tls.accept(stream)).await {
        Ok(Ok(stream)) => exchange(stream, local, slot, edge).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client does not speak TLS with us"),
        Err(_) => tracing::debug!("a client took too long to agree on TLS"),
    }
}

/// Answers the requests of a connection, one after the other.
async fn exchange<S>(stream: S, local: IpAddr, slot: Slot, edge: Arc<Edge>)
where
    S: AsyncRead + AsyncWrite + Farewell + Unpin + Send + 'static,
{
    let options = edge.state.service.options.clone();
    let mut stopping = edge.state.stopping();
    let held = slot.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let edge = Arc::clone(&edge);
        request.extensions_mut().insert(slot.clone());
        async move { Ok::<_, Infallible>(edge.answer(request, local).await) }
    });
    let is_slow = Arc::new(AtomicBool::new(false));
    let stream = Stall::new(stream, options.write_timeout, Arc::clone(&is_slow));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(options.head_timeout)
            .max_header_size(options.max_head)
            .max_headers(options.max_headers)
            .max_buf_size(options.max_head.max(MIN_BUFFER))
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        () = stop(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = outcome {
        // The stream is told before it is dropped: it says so if a head came in part.
        is_slow.store(error.is_timeout(), Ordering::Relaxed);
        tracing::debug!(%error, "a connection broke off");
    }
    drop(held);
}

/// A connection's place among those that may be open. What a connection becomes keeps it.
#[derive(Clone)]
pub(super) struct Slot(#[allow(dead_code, reason = "held")] Arc<(Open, OwnedSemaphorePermit)>);

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
