//! Getting into a Postgres server, and what its errors mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use futures::pin_mut;
use tokio_postgres::config::ChannelBinding;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, Config};

use super::advice;
use super::cancel::cancel;
use super::conninfo::{ConnInfo, Proof, Wire};
use super::inquiry::Inquirer;
use super::link::{self, Guard, Watch};
use super::login::{self, Failure, LoggedIn, Place};
use super::quoted;
use super::tls::{self, Encryption};
use crate::error::{Code, Error, Result};
use crate::notice::{Notice, NoticeKind};
use chronicle_archive::{show_path, show_text};

/// A transaction that sees what others commit meanwhile.
pub const READ_COMMITTED: &str = "READ COMMITTED";
/// A transaction that sees one moment, and writes nothing.
pub const SNAPSHOT: &str = "REPEATABLE READ READ ONLY";
/// How long a server without work takes to answer.
const BUSY_AFTER: Duration = Duration::from_millis(100);
/// How long all of that may take: whoever has pressed Ctrl-C does not wait longer, and a session whose connection is
/// dropped ends by itself.
const ABORT_TIMEOUT: Duration = Duration::from_millis(900);

/// An open connection. Dropping it ends the session, and with it an open transaction.
pub struct Connection {
    /// The connection's front end.
    pub client: Arc<Client>,
    /// The server's version as a number, for example 150004.
    pub version: u32,
    encryption: Encryption,
    place: Place,
    watch: Arc<Watch>,
    /// The process of the session at the server.
    process: Arc<AtomicI32>,
    info: ConnInfo,
}

impl Connection {
    /// Logs in.
    ///
    /// # Errors
    /// With the message of the server or the network, what it most likely means and what helps.
    pub async fn open(info: &ConnInfo) -> Result<Connection> {
        let encryption = Encryption::prepare(info)?;
        let mut config = config(info);
        let mut logged_in = login::log_in(info, &config, &encryption).await;
        if logged_in.as_ref().is_err_and(Failure::lacks_password)
            && let Some(password) = info.ask().await?
        {
            config.password(password);
            logged_in = login::log_in(info, &config, &encryption).await;
        }
        let LoggedIn { client, place, watch } =
            logged_in.map_err(|failure| login_failed(info, failure))?;
        let process = Arc::new(AtomicI32::new(0));
        // of several hosts only the one that was met knows of the session
        let mut met = info.clone();
        (met.hosts, met.target_session_attrs) = (vec![place.host.clone()], None);
        let inquirer = Inquirer {
            info: met,
            config,
            encryption: encryption.clone(),
            process: Arc::clone(&process),
        };
        tokio::spawn(link::guard(Guard {
            watch: Arc::clone(&watch),
            client: Arc::downgrade(&client),
            limit: info.patience,
            inquiry: Box::new(move |limit| Box::pin(inquirer.clone().ask(limit))),
        }));
        let info = info.clone();
        let mut connection =
            Connection { client, version: 0, encryption, place, watch, process, info };
        let info = &connection.info;
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

    /// What the user should know about the connection string and the connection.
    pub fn notices(&self) -> Vec<Notice> {
        let Place { host, is_this_machine, wire, proof } = &self.place;
        let about_wire = match (wire, proof) {
            _ if *is_this_machine => None,
            (Wire::Plain, _) => Some(Notice::new(
                NoticeKind::Unencrypted,
                format!("the connection to {} is not encrypted", show_text(&host.name)),
            )),
            (Wire::Tls, Proof::Nothing) => Some(tls::unverified(host)),
            (Wire::Tls, Proof::Root | Proof::RootAndName) => None,
        };
        self.info.notes.iter().cloned().chain(about_wire).collect()
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
        let asked = r"SELECT 'process', pg_catalog.pg_backend_pid()::text UNION ALL
                      SELECT 'left', name FROM pg_catalog.pg_prepared_statements WHERE name ~ '^s[0-9]+$'";
        let sql = format!("BEGIN ISOLATION LEVEL {kind}; {} {asked}", self.settings(kind));
        for row in self.rows(code, what, &sql).await? {
            match &row[..] {
                [Some(key), Some(process)] if key == "process" => {
                    self.process.store(process.parse().unwrap_or(0), Ordering::Relaxed);
                }
                [Some(_), Some(name)] => {
                    self.run(code, what, &format!("DEALLOCATE {name}")).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The settings of every transaction of ours: nothing is set for longer than that, so that
    /// nothing is left behind in a pooled session.
    ///
    /// Work may take as long as it takes, but a session whose client has vanished ends, and with it its locks: the guard of
    /// the connection keeps one alive that has only nothing to do.
    fn settings(&self, kind: &str) -> String {
        let mut sql = String::from(
            "SET LOCAL statement_timeout = 0; \
             SET LOCAL lock_timeout = '10s'; \
             SET LOCAL idle_in_transaction_session_timeout = '15min'; \
             SET LOCAL tcp_keepalives_idle = 30; \
             SET LOCAL tcp_keepalives_interval = 10; \
             SET LOCAL tcp_keepalives_count = 3; \
             SET LOCAL TimeZone = 'UTC'; \
             SET LOCAL DateStyle = 'ISO, YMD'; \
             SET LOCAL IntervalStyle = 'iso_8601'; \
             SET LOCAL bytea_output = 'hex'; \
             SET LOCAL extra_float_digits = 1; \
             SET LOCAL lc_monetary = 'C'; \
             SET LOCAL search_path = pg_catalog; \
             SET LOCAL row_security = off;",
        );
        if kind != SNAPSHOT {
            // not for readers: one whose own reader waits takes nothing for a long time
            sql.push_str(" SET LOCAL tcp_user_timeout = '2min';");
        }
        if self.version >= 140_000 {
            // other systems refuse any value but 0
            sql.push_str(
                " SELECT set_config('client_connection_check_interval', '10s', true) WHERE version() ~ 'linux';",
            );
        }
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
        let _ = tokio::time::timeout(ABORT_TIMEOUT, async {
            let rollback = self.client.batch_execute("ROLLBACK");
            pin_mut!(rollback);
            if tokio::time::timeout(BUSY_AFTER, &mut rollback).await.is_ok() {
                return;
            }
            // a busy server answers a rollback only after its statement: ask it to stop that
            let _ = cancel(&self.client, &self.info, &self.place, &self.encryption).await;
            let _ = rollback.await;
        })
        .await;
    }

    /// An error of the server in our words.
    pub fn failed(&self, code: Code, what: impl Into<String>, e: tokio_postgres::Error) -> Error {
        self.said(code, what.into(), &e)
    }

    /// What an error of the server says, without the rows that it likes to quote.
    pub fn said(&self, code: Code, what: String, e: &tokio_postgres::Error) -> Error {
        match e.as_db_error() {
            Some(server) => said_by_server(&self.info, code, what, server),
            None => self.lost(code, &what, e),
        }
    }

    /// The error of a connection that has ended. Who waits for an answer is told no more than that by the driver.
    fn lost(&self, code: Code, what: &str, e: &tokio_postgres::Error) -> Error {
        let why = self.watch.lost().unwrap_or_else(|| chain(e));
        let error = Error::new(
            code,
            format!("{what}: the connection to the server was lost: {}", self.info.scrub(&why)),
        );
        error.hint(
            "nothing was changed; run the command again when the network and the server are well",
        )
    }
}

/// What an error of the server says, without the rows that it likes to quote.
fn said_by_server(info: &ConnInfo, code: Code, what: String, server: &DbError) -> Error {
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
    let (host, e) = match failure {
        Failure::Said(host, e) => (host, e),
        Failure::Unreached(e) => return cannot_connect(info, &chain(&e)),
        Failure::HasNoTls => return has_no_tls(info),
        Failure::Silent => return silent(info),
        Failure::Unsuited => return unsuited(info),
        Failure::Untried(e) => return e,
    };
    if let Some(reason) = tls::reason(&e) {
        return tls::explained(info, &host, reason);
    }
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
    error
}

/// The error of a server that was not reached.
fn cannot_connect(info: &ConnInfo, reason: &str) -> Error {
    let message = format!("{}: cannot connect: {reason}", info.redacted());
    let error = Error::new(Code::Connect, message)
        .hint("check host and port, and whether the server accepts connections from here");
    advised(info, error, "", reason)
}

/// The error of a server that cannot encrypt, where nothing may be said in the clear.
fn has_no_tls(info: &ConnInfo) -> Error {
    let message = format!(
        "{}: the server has no TLS, and what is sent would be readable on the way",
        info.redacted()
    );
    Error::new(Code::Connect, message).hint(
        "turn it on at the server (ssl = on, with a certificate), or connect through a tunnel: ssh -L 5432:localhost:5432 HOST, \
         and then to localhost",
    )
}

/// The error of servers that are all of another kind.
fn unsuited(info: &ConnInfo) -> Error {
    let wanted = info.target_session_attrs.as_deref().unwrap_or("any");
    let message = format!("{}: no server there is {wanted}", info.redacted());
    Error::new(Code::Connect, message).hint(
        "target_session_attrs= in the connection string or PGTARGETSESSIONATTRS asks for that",
    )
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
fn config(info: &ConnInfo) -> Config {
    let mut config = Config::new();
    config.user(&info.user).dbname(&info.database);
    if let Some(password) = info.password() {
        config.password(password);
    }
    config.application_name(info.application_name.as_deref().unwrap_or("chronicle-dump"));
    if let Some(options) = &info.options {
        config.options(options);
    }
    if let Some(mode) = &info.tls.channel_binding {
        config.channel_binding(match mode.as_str() {
            "disable" => ChannelBinding::Disable,
            "require" => ChannelBinding::Require,
            _ => ChannelBinding::Prefer,
        });
    }
    config
}
