//! Notices whether bytes move: on the socket while sending, in the body while receiving.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Lease;
use super::fault::TransportFault;
use crate::host::Stream;

/// When and how much a connection last sent.
pub(super) struct Activity {
    opened: Instant,
    /// Milliseconds from `opened` to the last write that took bytes.
    last_ms: AtomicU64,
    /// Bytes written since [`Activity::begin`], TLS and headers included.
    written: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { opened: Instant::now(), last_ms: AtomicU64::new(0), written: AtomicU64::new(0) }
    }

    /// A new request starts.
    pub(super) fn begin(&self) {
        self.written.store(0, Ordering::Relaxed);
        self.touch();
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// When something was last written, or the request begun.
    pub(super) fn last(&self) -> Instant {
        self.opened + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    fn touch(&self) {
        let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(since, Ordering::Relaxed);
    }

    fn wrote(&self, bytes: usize) {
        if bytes > 0 {
            self.written.fetch_add(bytes as u64, Ordering::Relaxed);
            self.touch();
        }
    }
}

/// A socket whose writes are noted.
pub(super) struct Watched {
    inner: Box<dyn Stream>,
    activity: Arc<Activity>,
}

impl Watched {
    pub(super) fn new(inner: Box<dyn Stream>, activity: Arc<Activity>) -> Self {
        Self { inner, activity }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        self.activity.wrote(*result.as_ref().unwrap_or(&0));
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs));
        self.activity.wrote(*result.as_ref().unwrap_or(&0));
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// An answer's body: an error if nothing comes for too long while somebody waits, and the connection back to the
/// pool at its end. A reader that takes its time is no fault of the server.
pub(super) struct ResponseBody {
    inner: Incoming,
    lease: Option<Lease>,
    limit: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    pub(super) fn new(inner: Incoming, lease: Lease, limit: Duration) -> Self {
        let mut body = Self { inner, lease: Some(lease), limit, deadline: None };
        if body.inner.is_end_stream() {
            body.release();
        }
        body
    }

    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = TransportFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportFault>>> {
        let body = &mut *self;
        match Pin::new(&mut body.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                body.deadline = None;
                match &frame {
                    Some(Ok(_)) if !body.inner.is_end_stream() => {}
                    Some(Err(_)) => body.lease = None,
                    _ => body.release(),
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|error| TransportFault::broken(error.into()))))
            }
            Poll::Pending => {
                let limit = body.limit;
                let deadline = body.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                ready!(deadline.as_mut().poll(cx));
                body.lease = None;
                Poll::Ready(Some(Err(TransportFault::silent("receiving the answer", limit))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
