//! The login: one address after the other, each with the same limit, and never a second try after a refusal.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::conninfo::{ConnInfo, Host};

/// How long a login may take unless the connection string or PGCONNECT_TIMEOUT sets a limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a login has failed.
pub(super) enum Failure {
    /// The server, the pooler or the way to it says so.
    Said(tokio_postgres::Error),
    /// The name of the host leads to no address.
    Unknown(io::Error),
    /// Nothing came in time.
    Silent,
}

impl Failure {
    /// Whether the server asks for a password, and there is none to send.
    pub(super) fn lacks_password(&self) -> bool {
        matches!(self, Failure::Said(e) if lacks_password(e))
    }
}

/// Whether the driver had no password to send. It tells that by words alone.
pub(super) fn lacks_password(e: &tokio_postgres::Error) -> bool {
    let cause = std::error::Error::source(e);
    cause.is_some_and(|cause| cause.to_string().contains("password missing"))
}

/// What a login gives: the client, and the connection that has to be driven.
type LoggedIn = (Client, Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>);

/// How long a login at one address may take.
pub(super) fn limit(info: &ConnInfo) -> Duration {
    info.connect_timeout.unwrap_or(CONNECT_TIMEOUT)
}

/// Logs in at the first address that answers. `base` has everything but the host.
///
/// As with libpq, another address is tried only where none has refused: a wrong password that is sent to every
/// address of a host would soon be a ban.
pub(super) async fn log_in(
    info: &ConnInfo,
    base: &Config,
    tls: &MakeRustlsConnect,
) -> Result<LoggedIn, Failure> {
    let limit = limit(info);
    let mut failure = Failure::Silent;
    for host in &info.hosts {
        let addresses = match addresses(host, limit).await {
            Ok(addresses) => addresses,
            Err(unknown) => {
                failure = unknown;
                continue;
            }
        };
        for address in addresses {
            let config = at(base, host, address);
            failure = match timeout(limit, config.connect(tls.clone())).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(e)) if is_final(&e) => return Err(Failure::Said(e)),
                Ok(Err(e)) => Failure::Said(e),
                Err(_) => Failure::Silent,
            };
        }
    }
    Err(failure)
}

/// The addresses of a host; one that needs none stands for itself.
async fn addresses(host: &Host, limit: Duration) -> Result<Vec<Option<IpAddr>>, Failure> {
    if host.addr.is_some() || host.socket().is_some() {
        return Ok(vec![host.addr]);
    }
    let found = timeout(limit, tokio::net::lookup_host((host.name.as_str(), host.port))).await;
    let found = found.map_err(|_| Failure::Silent)?.map_err(Failure::Unknown)?;
    Ok(found.map(|address| Some(address.ip())).collect())
}

/// The settings for one address: the name stays, since certificates are for names.
fn at(base: &Config, host: &Host, address: Option<IpAddr>) -> Config {
    let mut config = base.clone();
    config.host(&host.name).port(host.port);
    if let Some(address) = address {
        config.hostaddr(address);
    }
    config
}

/// Whether a server was reached that says no. One that is only starting is passed over for the next, and so is one
/// that is not of the kind that was asked for.
fn is_final(e: &tokio_postgres::Error) -> bool {
    match e.as_db_error() {
        Some(server) => *server.code() != SqlState::CANNOT_CONNECT_NOW,
        None => !std::error::Error::source(e).is_some_and(|cause| cause.is::<io::Error>()),
    }
}
