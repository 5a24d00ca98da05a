//! Opening a socket, with the settings that let a dead network be seen.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::super::conninfo::{ConnInfo, Host};

/// When an idle connection is asked whether it still stands, how often again, and how often in vain.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);
/// How long the network may keep what was sent without a word, or the server not take it: longer than any lock is waited
/// for, since that is when a server takes nothing.
const UNACKNOWLEDGED: Duration = Duration::from_secs(600);

/// An open socket.
pub(in crate::postgres) enum Socket {
    /// To a port.
    Tcp(TcpStream),
    /// In a folder of this machine.
    Unix(UnixStream),
}

/// Opens a socket to the address of a host, or to the first one that its name has.
///
/// # Errors
/// If nobody listens there, or there is no way to it.
pub(in crate::postgres) async fn open(info: &ConnInfo, host: &Host) -> io::Result<Socket> {
    if let Some(path) = host.socket() {
        return UnixStream::connect(path).await.map(Socket::Unix);
    }
    let stream = match host.addr {
        Some(address) => TcpStream::connect((address, host.port)).await?,
        None => TcpStream::connect((host.name.as_str(), host.port)).await?,
    };
    stream.set_nodelay(true)?;
    let keep = &info.keepalives;
    if keep.on.unwrap_or(true) {
        let (idle, interval, count) = KEEPALIVE;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, keep.idle.unwrap_or(idle))?;
        sockopt::set_tcp_keepintvl(&stream, keep.interval.unwrap_or(interval))?;
        sockopt::set_tcp_keepcnt(&stream, keep.count.unwrap_or(count))?;
    }
    let limit = info.tcp_user_timeout.unwrap_or(UNACKNOWLEDGED);
    limit_unacknowledged(&stream, limit)?;
    Ok(Socket::Tcp(stream))
}

/// Asks the server whether TLS is to begin, as the protocol has it (`SSLRequest`).
///
/// # Errors
/// If it does not answer with yes or no.
pub(in crate::postgres) async fn may_begin_tls(socket: &mut Socket) -> io::Result<bool> {
    const REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    socket.write_all(&REQUEST).await?;
    match socket.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the server does not say whether it has TLS",
        )),
    }
}

#[cfg(target_os = "linux")]
fn limit_unacknowledged(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(stream, milliseconds)?)
}

/// Other systems have no such limit.
#[cfg(not(target_os = "linux"))]
fn limit_unacknowledged(_stream: &TcpStream, _limit: Duration) -> io::Result<()> {
    Ok(())
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
