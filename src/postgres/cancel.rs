//! Asking a server to stop what it does for us, on a connection of its own, as the protocol has it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::Client;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::conninfo::{ConnInfo, Host};

/// Asks the server to stop the statement of a client. It does not say whether it has.
///
/// # Errors
/// If the server cannot be reached.
pub(super) async fn cancel(
    client: &Client,
    info: &ConnInfo,
    tls: &MakeRustlsConnect,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let [host] = &info.hosts[..] else {
        // only the driver knows which of them it is
        return Ok(client.cancel_token().cancel_query(tls.clone()).await?);
    };
    match host.socket() {
        Some(socket) => send(client, host, UnixStream::connect(socket).await?, tls).await,
        None => {
            let stream = match host.addr {
                Some(address) => TcpStream::connect((address, host.port)).await?,
                None => TcpStream::connect((host.name.as_str(), host.port)).await?,
            };
            send(client, host, stream, tls).await
        }
    }
}

async fn send<S>(
    client: &Client,
    host: &Host,
    stream: S,
    tls: &MakeRustlsConnect,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut tls = tls.clone();
    let connect = MakeTlsConnect::<UntilClosed<S>>::make_tls_connect(&mut tls, &host.name)?;
    Ok(client.cancel_token().cancel_query_raw(UntilClosed(stream), connect).await?)
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
