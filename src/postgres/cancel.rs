//! Asking a server to stop what it does for us, on a connection of its own, as the protocol has it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Client;

use super::conninfo::{ConnInfo, Wire};
use super::link::{self, Socket};
use super::login::{Place, connector_for};
use super::tls::Encryption;

/// Asks the server to stop the statement of a client. It does not say whether it has.
///
/// # Errors
/// If the server cannot be reached.
pub(super) async fn cancel(
    client: &Client,
    info: &ConnInfo,
    place: &Place,
    encryption: &Encryption,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut socket = link::open(info, &place.host).await?;
    if place.wire == Wire::Tls && !info.tls.direct && !link::may_begin_tls(&mut socket).await? {
        return Err("the server has no TLS any more".into());
    }
    let tls = connector_for::<UntilClosed<Socket>>(encryption.connector(place.proof)?, &place.host);
    Ok(client.cancel_token().cancel_query_raw(UntilClosed(socket), tls).await?)
}

/// A stream that we close only after the server has: a pooler forgets a request whose client is gone before it has passed
/// it on, and PgBouncer 1.18 crashes.
struct UntilClosed<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for UntilClosed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for UntilClosed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut bytes = [0; 64];
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Pin::new(&mut self.0).poll_shutdown(cx);
            }
        }
    }
}
