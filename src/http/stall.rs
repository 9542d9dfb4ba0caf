//! A connection that is given up when its client takes no byte of an answer for too long, and that
//! tells a client whose request never ends why it is closed.

use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::problem::{Kind, Problem};

/// What can be said at the very end, without waiting.
pub(super) trait Farewell {
    /// Sends bytes if they can be sent at once.
    fn farewell(&self, bytes: &[u8]);
}

impl Farewell for TcpStream {
    fn farewell(&self, bytes: &[u8]) {
        // It is gone, or takes nothing: then there is nobody to tell.
        self.try_write(bytes).ok();
    }
}

impl Farewell for TlsStream<TcpStream> {
    /// Over TLS nothing can be said without waiting.
    fn farewell(&self, _bytes: &[u8]) {}
}

/// A stream whose writes fail once they have made no progress for a while.
pub(super) struct Stall<S: Farewell> {
    stream: S,
    patience: Duration,
    timer: Pin<Box<Sleep>>,
    is_waiting: bool,
    /// Whether something came in that nothing was answered to.
    has_read: bool,
    /// Set where the connection ends because a request took too long.
    is_slow: Arc<AtomicBool>,
}

impl<S: Farewell> Drop for Stall<S> {
    fn drop(&mut self) {
        if self.has_read && self.is_slow.load(Ordering::Relaxed) {
            let problem =
                Problem::new(Kind::Slow, "the head of the request did not arrive in time");
            self.stream.farewell(&problem.into_bytes());
        }
    }
}

impl<S: Farewell> Stall<S> {
    pub(super) fn new(stream: S, patience: Duration, is_slow: Arc<AtomicBool>) -> Stall<S> {
        Stall {
            stream,
            patience,
            timer: Box::pin(sleep(patience)),
            is_waiting: false,
            has_read: false,
            is_slow,
        }
    }

    /// Passes on the outcome of a write, and fails it when it has been pending for too long.
    fn watch<T>(&mut self, written: Poll<Result<T>>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        if written.is_ready() {
            self.is_waiting = false;
            self.has_read = false;
            return written;
        }
        if !self.is_waiting {
            self.is_waiting = true;
            self.timer.as_mut().reset(Instant::now() + self.patience);
        }
        match self.timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Error::from(ErrorKind::TimedOut))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Farewell + Unpin> AsyncRead for Stall<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.has_read |= buf.filled().len() > before;
        read
    }
}

impl<S: AsyncWrite + Farewell + Unpin> AsyncWrite for Stall<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let has_read = self.has_read;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        let flushed = self.watch(flushed, cx);
        // Nothing is said by flushing.
        self.has_read = has_read;
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(shut, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(written, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    impl Farewell for tokio::io::DuplexStream {
        fn farewell(&self, _bytes: &[u8]) {}
    }

    #[tokio::test]
    async fn a_write_that_nobody_reads_fails() {
        let (ours, _theirs) = tokio::io::duplex(8);
        let mut ours = Stall::new(ours, Duration::from_millis(10), Arc::default());
        let error = ours.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
