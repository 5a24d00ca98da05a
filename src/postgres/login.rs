//! The login: one address after the other, each with the same limit, and never a second try after a refusal.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_postgres::config::{SslMode as DriversMode, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use super::conninfo::{ConnInfo, Host, Proof, Wire};
use super::link::{self, Socket, Watch, Watched, WatchedTls};
use super::tls::{self, Encryption};
use crate::error::Error;

/// How long a login may take unless the connection string or PGCONNECT_TIMEOUT sets a limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Where a client has logged in, and how.
#[derive(Clone)]
pub(super) struct Place {
    /// The host, with the address that has answered.
    pub(super) host: Host,
    /// Whether nothing that is sent there leaves this machine.
    pub(super) is_this_machine: bool,
    pub(super) wire: Wire,
    pub(super) proof: Proof,
}

/// A session, and the socket under it.
pub(super) struct LoggedIn {
    pub(super) client: Arc<Client>,
    pub(super) place: Place,
    pub(super) watch: Arc<Watch>,
}

/// Why a login has failed.
pub(super) enum Failure {
    /// The server, the pooler or the way to it says so.
    Said(Host, tokio_postgres::Error),
    /// The name of the host leads to no address, or nothing there speaks with us.
    Unreached(io::Error),
    /// The server has no TLS, and nothing may be said without it.
    HasNoTls,
    /// Nothing came in time.
    Silent,
    /// Servers were reached, and none was of the kind that `target_session_attrs` wants.
    Unsuited,
    /// It could not even be tried.
    Untried(Error),
}

impl Failure {
    /// Whether the server asks for a password, and there is none to send.
    pub(super) fn lacks_password(&self) -> bool {
        matches!(self, Failure::Said(_, e) if lacks_password(e))
    }
}

/// Whether the driver had no password to send. It tells that by words alone.
pub(super) fn lacks_password(e: &tokio_postgres::Error) -> bool {
    let cause = std::error::Error::source(e);
    cause.is_some_and(|cause| cause.to_string().contains("password missing"))
}

/// How long a login at one address may take.
pub(super) fn limit(info: &ConnInfo) -> Duration {
    info.connect_timeout.unwrap_or(CONNECT_TIMEOUT)
}

/// Logs in at the first address that answers and is of the kind that is wanted. `base` has everything but the host.
pub(super) async fn log_in(
    info: &ConnInfo,
    base: &Config,
    encryption: &Encryption,
) -> Result<LoggedIn, Failure> {
    let wanted = info.target_session_attrs.as_deref().unwrap_or("any");
    if wanted != "prefer-standby" {
        return log_in_at(info, base, encryption, wanted).await;
    }
    match log_in_at(info, base, encryption, "standby").await {
        Err(Failure::Unsuited) => log_in_at(info, base, encryption, "any").await,
        result => result,
    }
}

/// As with libpq, another address is tried only where none has refused: a wrong password that is sent to every address of
/// a host would soon be a ban.
async fn log_in_at(
    info: &ConnInfo,
    base: &Config,
    encryption: &Encryption,
    wanted: &str,
) -> Result<LoggedIn, Failure> {
    let limit = limit(info);
    let is_random = info.load_balance_hosts.as_deref() == Some("random");
    let mut failure = Failure::Silent;
    for host in shuffled(info.hosts.clone(), is_random) {
        let addresses = match addresses(&host, limit).await {
            Ok(addresses) => shuffled(addresses, is_random),
            Err(unknown) => {
                failure = unknown;
                continue;
            }
        };
        for address in addresses {
            let tried = async {
                let logged_in = reach(info, base, encryption, &host, address).await?;
                match suits(&logged_in.client, wanted).await {
                    true => Ok(logged_in),
                    false => Err(Failure::Unsuited),
                }
            };
            failure = match timeout(limit, tried).await {
                Ok(Ok(logged_in)) => return Ok(logged_in),
                Ok(Err(Failure::Said(host, e))) if is_final(&e) => {
                    return Err(Failure::Said(host, e));
                }
                Ok(Err(final_one @ (Failure::HasNoTls | Failure::Untried(_)))) => {
                    return Err(final_one);
                }
                Ok(Err(failed)) => failed,
                Err(_) => Failure::Silent,
            };
        }
    }
    Err(failure)
}

/// The same things in their order, or in one that nobody can foresee.
fn shuffled<T>(things: Vec<T>, is_random: bool) -> Vec<T> {
    if !is_random {
        return things;
    }
    let mut drawn: Vec<(Uuid, T)> = things.into_iter().map(|t| (Uuid::new_v4(), t)).collect();
    drawn.sort_by_key(|(lot, _)| *lot);
    drawn.into_iter().map(|(_, thing)| thing).collect()
}

/// The addresses of a host; one that needs none stands for itself.
async fn addresses(host: &Host, limit: Duration) -> Result<Vec<Option<IpAddr>>, Failure> {
    if host.addr.is_some() || host.socket().is_some() {
        return Ok(vec![host.addr]);
    }
    let found = timeout(limit, tokio::net::lookup_host((host.name.as_str(), host.port))).await;
    let found = found.map_err(|_| Failure::Silent)?.map_err(Failure::Unreached)?;
    Ok(found.map(|address| Some(address.ip())).collect())
}

/// Logs in at one address, encrypted or not, in the order that the connection string wants.
async fn reach(
    info: &ConnInfo,
    base: &Config,
    encryption: &Encryption,
    named: &Host,
    addr: Option<IpAddr>,
) -> Result<LoggedIn, Failure> {
    let host = Host { addr, ..named.clone() };
    let (ways, proof) = info.tls_at(named);
    let is_this_machine = host.socket().is_some() || named.is_this_machine();
    let place = |wire| Place { host: host.clone(), is_this_machine, wire, proof };
    let connector = encryption.connector(proof).map_err(Failure::Untried)?;
    let mut failure = Failure::Silent;
    for (at, wire) in ways.iter().enumerate() {
        let mut place = place(*wire);
        let is_last = at + 1 == ways.len();
        let mut socket = link::open(info, &host).await.map_err(Failure::Unreached)?;
        if place.wire == Wire::Tls && !info.tls.direct {
            let may_begin = link::may_begin_tls(&mut socket).await.map_err(Failure::Unreached)?;
            match may_begin {
                true => {}
                false if is_last => return Err(Failure::HasNoTls),
                false => place.wire = Wire::Plain,
            }
        }
        failure = match enter(socket, base, connector, place).await {
            Ok(logged_in) => return Ok(logged_in),
            Err(e) if !is_last && may_do_otherwise(*wire, &e) => Failure::Said(host.clone(), e),
            Err(e) => return Err(Failure::Said(host, e)),
        };
    }
    Err(failure)
}

/// Logs in over a socket on which TLS may begin at once, if there is to be any.
async fn enter(
    socket: Socket,
    base: &Config,
    connector: &MakeRustlsConnect,
    place: Place,
) -> Result<LoggedIn, tokio_postgres::Error> {
    let mut config = base.clone();
    let watch = Watch::new();
    let client = match place.wire {
        Wire::Tls => {
            config.ssl_mode(DriversMode::Require).ssl_negotiation(SslNegotiation::Direct);
            let connect = connector_for::<Socket>(connector, &place.host);
            let tls = WatchedTls { connect, watch: Arc::clone(&watch) };
            let (client, connection) = config.connect_raw(socket, tls).await?;
            tokio::spawn(driven(connection, watch.clone()));
            client
        }
        Wire::Plain => {
            config.ssl_mode(DriversMode::Disable);
            let watched = Watched::new(socket, watch.clone());
            let (client, connection) = config.connect_raw(watched, NoTls).await?;
            tokio::spawn(driven(connection, watch.clone()));
            client
        }
    };
    Ok(LoggedIn { client: Arc::new(client), place, watch })
}

/// The maker of one encrypted stream to a host.
pub(super) fn connector_for<S>(
    connector: &MakeRustlsConnect,
    host: &Host,
) -> <MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(connect) = MakeTlsConnect::<S>::make_tls_connect(&mut connector.clone(), &host.name);
    connect
}

/// Drives a connection to its end. Those who wait for an answer hear only that it has ended: why is kept for them.
async fn driven<S, T>(connection: Connection<S, T>, watch: Arc<Watch>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: TlsStream + Unpin,
{
    if let Err(e) = connection.await {
        let cause = std::error::Error::source(&e);
        let is_closed = cause.and_then(|c| c.downcast_ref::<io::Error>());
        let is_closed = is_closed.is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof);
        watch.lose(match (is_closed, cause) {
            (true, _) => "the other side has closed it".to_owned(),
            (false, Some(cause)) => cause.to_string(),
            (false, None) => e.to_string(),
        });
    }
}

/// Whether the other way, with or without encryption, may lead in: the server's rules say no to this one before any
/// password is sent. A certificate that proves too little is no such case.
fn may_do_otherwise(wire: Wire, e: &tokio_postgres::Error) -> bool {
    e.as_db_error().is_some_and(|server| {
        let words = server.message().to_lowercase();
        *server.code() == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            || (wire == Wire::Plain && words.contains("ssl") && words.contains("required"))
    })
}

/// Whether the server is of the kind that is wanted, in libpq's words. One that cannot be asked will say so later.
async fn suits(client: &Client, wanted: &str) -> bool {
    let question = match wanted {
        "read-write" => "current_setting('transaction_read_only') = 'off'",
        "read-only" => "current_setting('transaction_read_only') = 'on'",
        "primary" => "NOT pg_catalog.pg_is_in_recovery()",
        "standby" => "pg_catalog.pg_is_in_recovery()",
        _ => return true,
    };
    let asked = client.query_typed(&format!("SELECT {question}"), &[]).await;
    asked.map_or(true, |rows| rows.first().is_none_or(|row| row.get(0)))
}

/// Whether a server was reached that says no. One that is only starting is passed over for the next.
fn is_final(e: &tokio_postgres::Error) -> bool {
    match e.as_db_error() {
        Some(server) => *server.code() != SqlState::CANNOT_CONNECT_NOW,
        None if tls::reason(e).is_some() => true,
        None => !std::error::Error::source(e).is_some_and(|cause| cause.is::<io::Error>()),
    }
}
