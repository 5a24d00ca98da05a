//! A stream of protocol messages that knows whose turn it is, and since when nothing came.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::frames::Frames;

/// What is known of a connection while it is open.
pub(in crate::postgres) struct Watch(Mutex<State>);

struct State {
    sent: Frames,
    received: Frames,
    /// Whether the server has something to answer.
    owes: bool,
    /// Whether the server reads rows of ours, so that nothing else can be said.
    reads_rows: bool,
    is_in_transaction: bool,
    /// Since when a byte of the server is waited for, while somebody waits.
    waits_to_read: Option<Instant>,
    /// Since when the server takes nothing.
    waits_to_write: Option<Instant>,
    last: Instant,
    /// Why the connection has ended, once it has.
    lost: Option<String>,
    wakers: Vec<Waker>,
}

impl Watch {
    pub(in crate::postgres) fn new() -> Arc<Watch> {
        Arc::new(Watch(Mutex::new(State {
            sent: Frames::of_client(),
            received: Frames::of_server(),
            owes: false,
            reads_rows: false,
            is_in_transaction: false,
            waits_to_read: None,
            waits_to_write: None,
            last: Instant::now(),
            lost: None,
            wakers: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the server has neither answered, while it has to and we wait, nor taken what we send.
    pub(super) fn silence(&self) -> Duration {
        let state = self.state();
        let reading = state.waits_to_read.filter(|_| state.owes);
        let since = [reading, state.waits_to_write].into_iter().flatten().min();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Lets the time of silence begin anew: the server was seen at work.
    pub(super) fn excuse(&self) {
        let mut state = self.state();
        let now = Instant::now();
        state.waits_to_read = state.waits_to_read.map(|_| now);
        state.waits_to_write = state.waits_to_write.map(|_| now);
    }

    /// How long an open transaction has had nothing to do.
    pub(super) fn idle(&self) -> Option<Duration> {
        let state = self.state();
        let is_idle = state.is_in_transaction && !state.owes && !state.reads_rows;
        is_idle.then(|| state.last.elapsed())
    }

    /// Ends the connection for this reason, at once and on this side alone.
    pub(in crate::postgres) fn lose(&self, why: String) {
        let wakers = {
            let mut state = self.state();
            state.lost.get_or_insert(why);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Why the connection has ended, if it has.
    pub(in crate::postgres) fn lost(&self) -> Option<String> {
        self.state().lost.clone()
    }
}

impl State {
    fn end(&self) -> io::Result<()> {
        match &self.lost {
            Some(why) => Err(io::Error::new(io::ErrorKind::TimedOut, why.clone())),
            None => Ok(()),
        }
    }

    fn has_received(&mut self, bytes: &[u8]) {
        let State { received, owes, reads_rows, is_in_transaction, .. } = self;
        received.follow(bytes, |kind, first| match kind {
            // ready for the next query
            b'Z' => {
                (*owes, *reads_rows) = (false, false);
                *is_in_transaction = first != Some(b'I');
            }
            // ready for rows
            b'G' => (*owes, *reads_rows) = (false, true),
            _ => {}
        });
        (self.waits_to_read, self.last) = (None, Instant::now());
    }

    fn has_sent(&mut self, bytes: &[u8]) {
        let State { sent, owes, .. } = self;
        sent.follow(bytes, |kind, _| {
            // a query, or the end of what the server is to answer at once, or of rows
            if matches!(kind, b'Q' | b'S' | b'c' | b'f') {
                *owes = true;
            }
        });
        (self.waits_to_write, self.last) = (None, Instant::now());
    }

    fn waits(&mut self, cx: &Context<'_>) {
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
    }
}

/// A stream under watch: what goes over it is not encrypted here.
pub(in crate::postgres) struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
}

impl<S> Watched<S> {
    pub(in crate::postgres) fn new(stream: S, watch: Arc<Watch>) -> Watched<S> {
        Watched { stream, watch }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Watched { stream, watch } = self.get_mut();
        watch.state().end()?;
        let before = buffer.filled().len();
        let read = Pin::new(stream).poll_read(cx, buffer);
        let mut state = watch.state();
        match &read {
            Poll::Ready(Ok(())) => state.has_received(&buffer.filled()[before..]),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                state.waits_to_read.get_or_insert_with(Instant::now);
                state.waits(cx);
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Watched { stream, watch } = self.get_mut();
        watch.state().end()?;
        let written = Pin::new(stream).poll_write(cx, bytes);
        let mut state = watch.state();
        match &written {
            Poll::Ready(Ok(count)) => state.has_sent(&bytes[..*count]),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                state.waits_to_write.get_or_insert_with(Instant::now);
                state.waits(cx);
            }
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Watched { stream, watch } = self.get_mut();
        watch.state().end()?;
        let flushed = Pin::new(stream).poll_flush(cx);
        let mut state = watch.state();
        match &flushed {
            Poll::Ready(_) => state.waits_to_write = None,
            Poll::Pending => {
                state.waits_to_write.get_or_insert_with(Instant::now);
                state.waits(cx);
            }
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Watched<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

/// A maker of encrypted streams that are watched above the encryption.
pub(in crate::postgres) struct WatchedTls<C> {
    pub(in crate::postgres) connect: C,
    pub(in crate::postgres) watch: Arc<Watch>,
}

impl<S, C> TlsConnect<S> for WatchedTls<C>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: TlsConnect<S>,
    C::Future: Send + 'static,
{
    type Stream = Watched<C::Stream>;
    type Error = C::Error;
    type Future = BoxFuture<'static, Result<Self::Stream, Self::Error>>;

    fn connect(self, stream: S) -> Self::Future {
        let (connected, watch) = (self.connect.connect(stream), self.watch);
        Box::pin(async move { Ok(Watched::new(connected.await?, watch)) })
    }
}
