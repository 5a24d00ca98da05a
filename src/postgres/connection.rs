//! Getting into a Postgres server, and what its errors mean.

use std::sync::Arc;
use std::time::Duration;

use futures::pin_mut;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio_postgres::config::{ChannelBinding, SslMode as Tls, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::advice;
use super::cancel::cancel;
use super::conninfo::{ConnInfo, Host, SslMode};
use super::login::{self, Failure};
use super::quoted;
use crate::error::{Code, Error, Result};
use chronicle_archive::{show_path, show_text};

/// A transaction that sees what others commit meanwhile.
pub const READ_COMMITTED: &str = "READ COMMITTED";
/// A transaction that sees one moment, and writes nothing.
pub const SNAPSHOT: &str = "REPEATABLE READ READ ONLY";
/// How long a server without work takes to answer.
const BUSY_AFTER: Duration = Duration::from_millis(100);
/// How long we wait for the server to stop what it is doing.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// An open connection. Dropping it ends the session, and with it an open transaction.
pub struct Connection {
    /// The connection's front end.
    pub client: Client,
    /// The server's version as a number, for example 150004.
    pub version: u32,
    tls: MakeRustlsConnect,
    info: ConnInfo,
}

impl Connection {
    /// Logs in.
    ///
    /// # Errors
    /// With the message of the server or the network, what it most likely means and what helps.
    pub async fn open(info: &ConnInfo) -> Result<Connection> {
        let tls = MakeRustlsConnect::new(tls_config()?);
        let mut config = config(info)?;
        let mut logged_in = login::log_in(info, &config, &tls).await;
        if logged_in.as_ref().is_err_and(Failure::lacks_password)
            && let Some(password) = info.ask().await?
        {
            config.password(password);
            logged_in = login::log_in(info, &config, &tls).await;
        }
        let (client, connection) = logged_in.map_err(|failure| login_failed(info, failure))?;
        tokio::spawn(async move {
            // its errors reach the code that waits for an answer of the client
            let _ = connection.await;
        });
        let mut connection = Connection { client, version: 0, tls, info: info.clone() };
        // a pooler lets clients in before it has a connection for them
        let version = tokio::time::timeout(login::limit(info), connection.read_version()).await;
        connection.version = version.unwrap_or_else(|_| Err(silent(info)))?;
        Ok(connection)
    }

    async fn read_version(&self) -> Result<u32> {
        let rows = self
            .client
            .query_typed("SELECT current_setting('server_version_num')", &[])
            .await
            .map_err(|e| self.failed(Code::Connect, "cannot ask for the version", e))?;
        let text: String = rows.first().map_or_else(String::new, |row| row.get(0));
        let version = text.parse().unwrap_or(0);
        if version < 130_000 {
            return Err(Error::new(
                Code::Connect,
                format!("the server is PostgreSQL {}; 13 or later is needed", version / 10_000),
            ));
        }
        Ok(version)
    }

    /// Runs statements without results.
    pub async fn run(&self, code: Code, what: &str, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|e| self.failed(code, what, e))
    }

    /// Runs a query and gives its rows as texts.
    pub async fn rows(
        &self,
        code: Code,
        what: &str,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>> {
        use tokio_postgres::SimpleQueryMessage as Message;
        let messages =
            self.client.simple_query(sql).await.map_err(|e| self.failed(code, what, e))?;
        let texts = messages.into_iter().filter_map(|message| match message {
            Message::Row(row) => {
                Some((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(texts.collect())
    }

    /// Begins a transaction of a kind, with our settings.
    ///
    /// A pooled session may have statements of somebody who was killed, under the names that the driver gives its own:
    /// these go first.
    pub async fn begin(&self, code: Code, what: &str, kind: &str) -> Result<()> {
        let left = r"SELECT name FROM pg_catalog.pg_prepared_statements WHERE name ~ '^s[0-9]+$'";
        let sql = format!("BEGIN ISOLATION LEVEL {kind}; {} {left}", self.settings());
        for name in self.rows(code, what, &sql).await?.into_iter().flatten().flatten() {
            self.run(code, what, &format!("DEALLOCATE {name}")).await?;
        }
        Ok(())
    }

    /// The settings of every transaction of ours: nothing is set for longer than that, so that
    /// nothing is left behind in a pooled session.
    fn settings(&self) -> String {
        let mut sql = String::from(
            "SET LOCAL statement_timeout = 0; \
             SET LOCAL lock_timeout = '10s'; \
             SET LOCAL idle_in_transaction_session_timeout = 0; \
             SET LOCAL TimeZone = 'UTC'; \
             SET LOCAL DateStyle = 'ISO, YMD'; \
             SET LOCAL IntervalStyle = 'iso_8601'; \
             SET LOCAL bytea_output = 'hex'; \
             SET LOCAL extra_float_digits = 1; \
             SET LOCAL lc_monetary = 'C'; \
             SET LOCAL search_path = pg_catalog; \
             SET LOCAL row_security = off;",
        );
        if self.version >= 170_000 {
            sql.push_str(" SET LOCAL transaction_timeout = 0;");
        }
        if let Some(role) = &self.info.role {
            sql.push_str(&format!(" SET LOCAL ROLE {};", quoted(role)));
        }
        sql
    }

    /// Stops what the server is doing for us and takes the transaction back, and ends the session.
    pub async fn abort(self) {
        self.roll_back().await;
    }

    /// Stops what the server is doing for us and takes the transaction back.
    pub async fn roll_back(&self) {
        // if this fails the session ends with the connection, and the transaction with it
        let rollback = self.client.batch_execute("ROLLBACK");
        pin_mut!(rollback);
        if tokio::time::timeout(BUSY_AFTER, &mut rollback).await.is_ok() {
            return;
        }
        // a busy server answers a rollback only after its statement: ask it to stop that
        let cancel = cancel(&self.client, &self.info, &self.tls);
        let _ = tokio::time::timeout(CANCEL_TIMEOUT, cancel).await;
        let _ = tokio::time::timeout(CANCEL_TIMEOUT, rollback).await;
    }

    /// An error of the server in our words.
    pub fn failed(&self, code: Code, what: impl Into<String>, e: tokio_postgres::Error) -> Error {
        failed(&self.info, code, what.into(), &e)
    }
}

/// What an error of the server says, without the rows that it likes to quote.
pub fn failed(info: &ConnInfo, code: Code, what: String, e: &tokio_postgres::Error) -> Error {
    let Some(server) = e.as_db_error() else {
        let reason = info.scrub(&chain(e));
        return Error::new(code, format!("{what}: {reason}"))
            .hint("the connection to the server was lost; nothing was changed");
    };
    // details of unique and foreign keys name keys; all others may quote whole rows
    let detail = match *server.code() {
        SqlState::UNIQUE_VIOLATION | SqlState::FOREIGN_KEY_VIOLATION => server.detail(),
        _ => None,
    };
    let reason = info.scrub(&show_server_text(server.message()));
    let detail =
        detail.map_or_else(String::new, |d| format!(" ({})", info.scrub(&show_server_text(d))));
    let error =
        Error::new(code, format!("{what}: {reason}{detail} [SQLSTATE {}]", server.code().code()));
    let error = advised(info, error, server.code().code(), server.message());
    match *server.code() {
        SqlState::DISK_FULL => error.because(std::io::Error::new(
            std::io::ErrorKind::StorageFull,
            "No space left on device",
        )),
        _ => error,
    }
}

/// The server's own words about a value.
pub fn server_words(info: &ConnInfo, words: &str) -> String {
    info.scrub(&show_server_text(words))
}

/// What the server says, longer than a key: the names of constraints are at the end.
fn show_server_text(text: &str) -> String {
    const MOST: usize = 400;
    let more = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    show_path(text.chars().take(MOST).chain(more.chars()).collect::<String>())
}

fn login_failed(info: &ConnInfo, failure: Failure) -> Error {
    let place = info.redacted();
    let e = match failure {
        Failure::Said(e) => e,
        Failure::Unknown(e) => return cannot_connect(info, &chain(&e)),
        Failure::Silent => return silent(info),
    };
    if let Some(server) = e.as_db_error() {
        let reason = info.scrub(&show_server_text(server.message()));
        let error = Error::new(
            Code::Connect,
            format!("{place}: the server says: {reason} [SQLSTATE {}]", server.code().code()),
        );
        return advised(info, error, server.code().code(), server.message());
    }
    let reason = info.scrub(&chain(&e));
    if reason.contains("bytes remaining on stream") {
        let message = format!("{place}: the server closed the connection, or it is not PostgreSQL");
        return Error::new(Code::Connect, message).hint("check host and port");
    }
    let error = cannot_connect(info, &reason);
    if login::lacks_password(&e) {
        return error.hint(
            "the server asks for a password: give it by PGPASSWORD, --password-file or ~/.pgpass",
        );
    }
    if reason.contains("TLS") {
        return error.hint("the server and sslmode= in the connection string disagree: try disable, prefer or require");
    }
    error
}

/// The error of a server that was not reached.
fn cannot_connect(info: &ConnInfo, reason: &str) -> Error {
    let message = format!("{}: cannot connect: {reason}", info.redacted());
    let error = Error::new(Code::Connect, message)
        .hint("check host and port, and whether the server accepts connections from here");
    advised(info, error, "", reason)
}

/// The error of a server that says nothing.
fn silent(info: &ConnInfo) -> Error {
    let limit = login::limit(info).as_secs();
    let hosts = if info.hosts.len() > 1 { " of each host" } else { "" };
    cannot_connect(info, &format!("no answer within {limit} s{hosts}"))
}

/// An error with what to do about it, if anything is known.
fn advised(info: &ConnInfo, error: Error, state: &str, words: &str) -> Error {
    match advice::about(info, state, words) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// An error with all its causes: the driver's own text names only the outermost.
fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        text.push_str(": ");
        text.push_str(&c.to_string());
        cause = c.source();
    }
    show_text(&text)
}

/// Everything about a login but the host.
fn config(info: &ConnInfo) -> Result<Config> {
    let mut config = Config::new();
    config.user(&info.user).dbname(&info.database);
    if let Some(password) = info.password() {
        config.password(password);
    }
    config.application_name(info.application_name.as_deref().unwrap_or("chronicle-dump"));
    if let Some(options) = &info.options {
        config.options(options);
    }
    config.ssl_mode(tls_mode(info)?);
    if let Some(mode) = &info.channel_binding {
        config.channel_binding(match mode.as_str() {
            "disable" => ChannelBinding::Disable,
            "require" => ChannelBinding::Require,
            _ => ChannelBinding::Prefer,
        });
    }
    if info.target_session_attrs.as_deref() == Some("read-write") {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    // a dead network must not hang an import for hours
    config.keepalives(info.keepalives.on.unwrap_or(true));
    config.keepalives_idle(info.keepalives.idle.unwrap_or(Duration::from_secs(30)));
    config.keepalives_interval(info.keepalives.interval.unwrap_or(Duration::from_secs(10)));
    config.keepalives_retries(info.keepalives.count.unwrap_or(3));
    if let Some(timeout) = info.tcp_user_timeout {
        config.tcp_user_timeout(timeout);
    }
    Ok(config)
}

/// Which encryption is asked for. Verified certificates need a verifier that knows the root.
fn tls_mode(info: &ConnInfo) -> Result<Tls> {
    let supabase = info.hosts.iter().any(Host::is_supabase);
    match info.sslmode {
        _ if !info.sslmode_given && supabase => Ok(Tls::Require),
        SslMode::Disable => Ok(Tls::Disable),
        SslMode::Allow | SslMode::Prefer => Ok(Tls::Prefer),
        SslMode::Require => Ok(Tls::Require),
        SslMode::VerifyCa | SslMode::VerifyFull => Err(Error::new(
            Code::Usage,
            format!(
                "sslmode={} is not in this version: it encrypts but does not check certificates",
                info.sslmode.word()
            ),
        )
        .hint("use sslmode=require on a network that you trust")),
    }
}

fn tls_config() -> Result<ClientConfig> {
    // named explicitly: with two providers in one build rustls could not choose
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Code::Internal, "cannot set up TLS").because(e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(config)
}

/// libpq's `require`: the connection is encrypted, whichever server answers.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
