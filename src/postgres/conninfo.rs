//! How a PostgreSQL server is named: connection strings, the variables of libpq, and the password.
//!
//! The parser is our own because the strings people really have (dashboards, Prisma, JDBC, Vercel)
//! hold parameters, modes and raw passwords that the driver's parser refuses or misreads. Nothing
//! here connects. No message, note, `Debug` or `Display` ever holds the password; that is why
//! errors about a URL say where something is wrong and not what stands there: with a forgotten `@`
//! or an unencoded `/`, a "host" or a "port" may be a piece of the password.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::error::{Code, Error, Result};

/// Looks up an environment variable, so that tests need not touch the process'.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The port of PostgreSQL.
pub const DEFAULT_PORT: u16 = 5432;

/// The port at which Supabase's poolers lend a connection per transaction.
pub const TRANSACTION_POOLER_PORT: u16 = 6543;

/// What `connect_timeout=0` ("no limit") becomes: long enough, and safe to add to a clock.
pub const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Where Debian, Red Hat and Supabase's images put the server's socket.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// Longer than any string with a token as password; keeps the search for readings short.
const LONGEST_STRING: usize = 64 * 1024;

/// The longest first line of a password file, and more than any pass file needs.
const LONGEST_FILE: u64 = 1024 * 1024;

/// Characters that end a part of a URL, so that they must be encoded inside of a password.
const STRUCTURE: [char; 4] = ['@', '/', '?', '#'];

/// How to give a password without thinking about encoding.
const AVOID: &str = "leave the password out of the string and set PGPASSWORD or use \
                     --password-file FILE: there it stands as it is";

/// Settings that [`ConnInfo`] keeps or acts upon: libpq's, and Prisma's `schema` and `pgbouncer`.
#[rustfmt::skip] // one word per line would hide the rest of the file
const USED: &[&str] = &[
    "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service",
    "sslmode", "sslrootcert", "sslnegotiation", "connect_timeout", "application_name",
    "fallback_application_name", "options", "channel_binding", "target_session_attrs",
    "load_balance_hosts", "keepalives", "keepalives_idle", "keepalives_interval",
    "keepalives_count", "tcp_user_timeout", "schema", "pgbouncer",
];

/// Settings that libpq knows and that have no effect here.
#[rustfmt::skip] // one word per line would hide the rest of the file
const UNUSED: &[&str] = &[
    "authtype", "client_encoding", "gssdelegation", "gssencmode", "gsslib", "krbsrvname",
    "max_protocol_version", "min_protocol_version", "oauth_client_id", "oauth_client_secret",
    "oauth_issuer", "oauth_scope", "replication", "require_auth", "requirepeer",
    "scram_client_key", "scram_server_key", "sslcert", "sslcertmode", "sslcompression",
    "sslcrl", "sslcrldir", "sslkey", "sslkeylogfile", "sslpassword", "sslsni",
    "ssl_max_protocol_version", "ssl_min_protocol_version",
];

/// Settings of other clients (Prisma, JDBC, pgx, node, SQLAlchemy, Vercel) without meaning here.
#[rustfmt::skip] // one word per line would hide the rest of the file
const FOREIGN: &[&str] = &[
    "autosave", "binary_parameters", "charset", "connection_limit", "connectTimeout",
    "default_query_exec_mode", "encoding", "endpoint", "idle_in_transaction_session_timeout",
    "idle_timeout", "lock_timeout", "loginTimeout", "max", "max_idle_connection_lifetime",
    "max_lifetime", "max_overflow", "min", "pool", "pool_max_conn_idle_time",
    "pool_max_conn_lifetime", "pool_max_conns", "pool_min_conns", "pool_mode", "pool_recycle",
    "pool_size", "pool_timeout", "prepareThreshold", "prepare_threshold",
    "preparedStatementCacheQueries", "prepared_statement_cache_size", "prepared_statements",
    "query_timeout", "reWriteBatchedInserts", "search_path", "single_use_connections",
    "socketTimeout", "socket_timeout", "sslaccept", "sslfactory", "sslidentity",
    "statement_cache_capacity", "statement_cache_size", "statement_timeout", "supa",
    "tcpKeepAlive", "timezone", "TimeZone", "uselibpqcompat", "workaround",
];

/// Other clients' names for settings that we use.
const ALIASES: [(&str, &str); 3] =
    [("ssl", "sslmode"), ("currentSchema", "schema"), ("ApplicationName", "application_name")];

/// A string that must not be shown: its `Debug` prints no character of it, nor its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The secret itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How much TLS is asked for, in the order of strictness; the words are libpq's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS only if the server insists.
    Allow,
    /// TLS if the server offers it.
    Prefer,
    /// TLS; the certificate is checked only if a root certificate is known.
    Require,
    /// TLS with a certificate that chains to a known root.
    VerifyCa,
    /// The same, and the certificate names the host.
    VerifyFull,
}

impl SslMode {
    /// Every mode, in the order of strictness.
    pub const ALL: [SslMode; 6] = [
        SslMode::Disable,
        SslMode::Allow,
        SslMode::Prefer,
        SslMode::Require,
        SslMode::VerifyCa,
        SslMode::VerifyFull,
    ];

    /// The word of libpq.
    pub fn word(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

/// One place at which the server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// A DNS name, an IP address (without brackets) or the absolute path of a socket directory.
    pub name: String,
    /// The address to dial instead of resolving `name` (libpq's `hostaddr`).
    pub addr: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

impl Host {
    /// The socket to connect to, if the name is a socket directory and no address overrides it.
    pub fn socket(&self) -> Option<PathBuf> {
        let is_socket = self.addr.is_none() && self.name.starts_with('/');
        is_socket.then(|| Path::new(&self.name).join(format!(".s.PGSQL.{}", self.port)))
    }

    /// True if the host belongs to Supabase's platform (direct or pooled).
    pub fn is_supabase(&self) -> bool {
        let name = self.name.trim_end_matches('.').to_ascii_lowercase();
        name.ends_with(".supabase.co") || name.ends_with(".supabase.com")
    }

    /// True if the name or port is one at which a pooler lends connections per transaction.
    fn is_transaction_pooler(&self) -> bool {
        let neon = self.name.contains("-pooler.") && self.name.ends_with(".neon.tech");
        self.port == TRANSACTION_POOLER_PORT || neon
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') && !self.name.starts_with('/') {
            // A zone ("fe80::1%eth0") keeps its percent sign encoded, as URLs want it.
            write!(f, "[{}]:{}", self.name.replace('%', "%25"), self.port)
        } else {
            write!(f, "{}:{}", encode(&self.name), self.port)
        }
    }
}

/// TCP keepalive as libpq's four settings say it; what is `None` stays at the system's value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keepalives {
    /// Whether to send any.
    pub on: Option<bool>,
    /// The silence before the first one.
    pub idle: Option<Duration>,
    /// The time between two.
    pub interval: Option<Duration>,
    /// How many may be lost.
    pub count: Option<u32>,
}

/// A server, a database and a user, and how to get in. Its `Debug` and `Display` never show the
/// password.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    /// Where the server is; at least one, to be tried in order.
    pub hosts: Vec<Host>,
    /// The role to log in as.
    pub user: String,
    /// The database.
    pub database: String,
    password: Option<Secret>,
    passfile: Option<String>,
    /// How much TLS is asked for; [`SslMode::Prefer`] if nothing was said.
    pub sslmode: SslMode,
    /// Whether the string or PGSSLMODE named `sslmode`, so that the connector need not choose.
    pub sslmode_given: bool,
    /// A file of root certificates, or `system`.
    pub sslrootcert: Option<String>,
    /// `postgres` or `direct`.
    pub sslnegotiation: Option<String>,
    /// How long to wait for one host; [`NO_LIMIT`] if the user asked for no limit.
    pub connect_timeout: Option<Duration>,
    /// The name the server shows for the connection.
    pub application_name: Option<String>,
    /// libpq's `options`, for the startup packet.
    pub options: Option<String>,
    /// The schema that Prisma's `schema` or JDBC's `currentSchema` names.
    pub schema: Option<String>,
    /// `disable`, `prefer` or `require`.
    pub channel_binding: Option<String>,
    /// `any`, `read-write`, `read-only`, `primary`, `standby` or `prefer-standby`.
    pub target_session_attrs: Option<String>,
    /// `disable` or `random`.
    pub load_balance_hosts: Option<String>,
    /// TCP keepalive.
    pub keepalives: Keepalives,
    /// How long sent data may stay unacknowledged.
    pub tcp_user_timeout: Option<Duration>,
    /// Whether a pooler probably lends connections per transaction (`pgbouncer=true`, port 6543).
    pub pooled: bool,
    /// What the user should know about how the string was read.
    pub notes: Vec<String>,
}

impl ConnInfo {
    /// True if the text looks like a URL or key=value string of PostgreSQL, and not like a file.
    ///
    /// Also true for the near misses (a Supabase API address, JDBC, SQLAlchemy, MySQL), so that
    /// [`ConnInfo::parse`] can say what is wrong with them.
    pub fn looks_like(text: &str) -> bool {
        let text = text.trim_start();
        let lower = text.to_ascii_lowercase();
        if let Some((scheme, rest)) = lower.split_once("://") {
            match scheme {
                "postgres" | "postgresql" | "mysql" | "mariadb" => return true,
                "http" | "https" => return rest.contains("supabase"),
                _ if is_driver_scheme(scheme) => return true,
                _ => {}
            }
        }
        if lower.starts_with("jdbc:postgres") {
            return true;
        }
        let Some((name, _)) = text.split_once('=') else { return false };
        let name = name.trim_end_matches(is_space);
        // `schema` and `pgbouncer` are no words of libpq.
        let ours = USED.iter().any(|k| *k == name && !matches!(*k, "schema" | "pgbouncer"));
        ours || UNUSED.contains(&name)
    }

    /// Reads a connection string and fills what it leaves open from libpq's variables.
    ///
    /// The password is the one in the string; the other places are searched by
    /// [`ConnInfo::find_password`].
    pub fn parse(text: &str, env: Env<'_>) -> Result<ConnInfo> {
        if text.len() > LONGEST_STRING {
            return Err(usage("the connection string is longer than 64 KiB").hint(FORMS));
        }
        let mut given = Given::default();
        let url = text.trim();
        match url.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => {
                let scheme = scheme.to_ascii_lowercase();
                if !matches!(scheme.as_str(), "postgres" | "postgresql") {
                    return Err(other_scheme(&scheme, rest));
                }
                parse_url(rest, &mut given)?;
            }
            _ if starts_with_word(url, "jdbc:") => return Err(jdbc()),
            _ => parse_pairs(text, &mut given)?,
        }
        build(given, env)
    }

    /// Finds the password: `given` (from `--password-file`), else the one in the string, else
    /// PGPASSWORD, else SUPABASE_DB_PASSWORD (if every host is one of Supabase's), else the pass
    /// file (`passfile=`, PGPASSFILE or `.pgpass` in `home`). Finding none is no error.
    pub fn find_password(
        &mut self,
        given: Option<String>,
        env: Env<'_>,
        home: Option<&Path>,
    ) -> Result<()> {
        if let Some(given) = given.filter(|given| !given.is_empty()) {
            if self.password.is_some() {
                self.note("the password of --password-file was used, not the one in the string");
            }
            self.password = Some(accepted(given, "--password-file")?);
        }
        if self.password.is_some() {
            return Ok(());
        }
        let supabase = self.hosts.iter().all(Host::is_supabase);
        for name in ["PGPASSWORD", "SUPABASE_DB_PASSWORD"] {
            // Another server must not be told the password of the Supabase project.
            if name == "SUPABASE_DB_PASSWORD" && !supabase {
                continue;
            }
            if let Some(value) = variable(env, name) {
                self.password = Some(accepted(value, name)?);
                return Ok(());
            }
        }
        self.search_pass_file(env, home)
    }

    /// The password, for the connector only.
    pub fn password(&self) -> Option<&str> {
        self.password.as_ref().map(Secret::reveal)
    }

    /// What people should know of how the string was read.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = self.notes.clone();
        if self.pooled {
            notices.push(
                "this looks like a transaction pooler; if it fails, use the direct connection or \
                 the session pooler on port 5432"
                    .into(),
            );
        }
        notices
    }

    /// `postgresql://user@host:port/database` without any secret, as `Display` prints it.
    ///
    /// What is not a letter, a digit or one of `-._~` is percent-encoded, so no control character
    /// reaches a terminal, and the text can be parsed again.
    pub fn redacted(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(Host::to_string).collect();
        format!(
            "postgresql://{}@{}/{}",
            encode(&self.user),
            hosts.join(","),
            encode(&self.database)
        )
    }

    /// Replaces every occurrence of the password by `***`, in messages that others wrote: each of
    /// its characters may be raw, percent-encoded or behind a backslash.
    ///
    /// A password that is also the user's, a host's or the database's name (`postgres:postgres` of
    /// local stacks) stays: those names are shown anyway, and stars in their place would tell that
    /// the password is one of them.
    pub fn scrub(&self, text: &str) -> String {
        let Some(password) = self.password().filter(|p| !self.is_public_name(p)) else {
            return text.to_owned();
        };
        let mut clean = Vec::with_capacity(text.len());
        let mut at = 0;
        while let Some(byte) = text.as_bytes().get(at) {
            match spelled_at(text.as_bytes(), at, password.as_bytes()) {
                Some(end) => {
                    clean.extend_from_slice(b"***");
                    at = end;
                }
                None => {
                    clean.push(*byte);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&clean).into_owned()
    }

    fn is_public_name(&self, text: &str) -> bool {
        text == self.user || text == self.database || self.hosts.iter().any(|h| h.name == text)
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Looks into the pass file. As with libpq a file that cannot be used is passed over: the
    /// server may not want a password at all.
    fn search_pass_file(&mut self, env: Env<'_>, home: Option<&Path>) -> Result<()> {
        let named = self.passfile.clone().or_else(|| variable(env, "PGPASSFILE"));
        let explicit = named.is_some();
        let Some(path) = named.map(PathBuf::from).or_else(|| home.map(|h| h.join(".pgpass")))
        else {
            return Ok(());
        };
        let place = format!("pass file {}", escape(&path.to_string_lossy()));
        match read_pass_file(&path) {
            Ok(bytes) => self.take_from_pass_file(&bytes, &place)?,
            // Nobody has to have a ~/.pgpass.
            Err(_) if !explicit && !path.exists() => {}
            Err(why) => self.note(format!("{place} ignored: {why}")),
        }
        Ok(())
    }

    /// Takes the first line that fits; with several hosts the first host that has a line decides,
    /// since there is one password for all.
    fn take_from_pass_file(&mut self, bytes: &[u8], place: &str) -> Result<()> {
        let found = self.hosts.iter().find_map(|host| {
            let port = host.port.to_string();
            // libpq writes "localhost" for the default socket directory.
            let name = if host.name == SOCKET_DIRECTORY { "localhost" } else { &host.name };
            let key = [name, &port, &self.database, &self.user];
            bytes
                .split(|b| *b == b'\n')
                .filter_map(|line| std::str::from_utf8(line).ok())
                .find_map(|line| match_pass_line(line.trim_end_matches('\r'), &key))
        });
        if let Some(password) = found.filter(|p| !p.is_empty()) {
            self.password = Some(accepted(password, place)?);
        }
        Ok(())
    }
}

impl fmt::Display for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

/// Reads `--password-file`: the first line without its line end.
///
/// Refuses a file that others can read, and one whose first line is empty. Pipes (`<(pass db)`)
/// have no readers to fear and are taken as they are.
pub fn read_password_file(path: &Path) -> Result<String> {
    let shown = format!("password file {}", escape(&path.to_string_lossy()));
    let unreadable = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let code = if missing { Code::NotFound } else { Code::Connect };
        Error::new(code, format!("{shown}: cannot be read: {}", error.kind()))
            .hint("give a file whose first line is the password, or set PGPASSWORD")
    };
    let file = File::open(path).map_err(unreadable)?;
    // The open file is asked, not the path: nobody can swap it in between.
    let meta = file.metadata().map_err(unreadable)?;
    if meta.is_file() && others_may_read(&meta) {
        return Err(usage(format!("{shown}: other users of this machine can read it"))
            .hint(format!("type: {}", chmod(path))));
    }
    let bytes = read_limited(&file).map_err(unreadable)?;
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // Some editors write a byte order mark; no one types one into a password.
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    let line = std::str::from_utf8(line)
        .map_err(|_| usage(format!("{shown}: its first line is not UTF-8")))?;
    if line.is_empty() {
        return Err(usage(format!("{shown}: its first line is empty, expected the password"))
            .hint("write the password, and nothing else, into the first line"));
    }
    Ok(line.to_owned())
}

// ---- what the string says -------------------------------------------------------------------

/// The settings of a connection string before the environment fills the gaps.
#[derive(Default)]
struct Given {
    /// By libpq's names; the last one wins, as with libpq.
    values: BTreeMap<&'static str, String>,
    notes: Vec<String>,
    /// What `pgbouncer` or `pool_mode` say; stronger than a guess by host and port.
    pooled: Option<bool>,
    /// Once `password=` was read, a strange name behind it may be a piece of the password.
    hide_names: bool,
}

impl Given {
    fn set(&mut self, name: &str, value: String) -> Result<()> {
        if value.contains('\0') {
            return Err(usage("the connection string holds a NUL character"));
        }
        let alias = ALIASES.iter().find(|(foreign, _)| *foreign == name).map(|(_, key)| *key);
        match USED.iter().copied().find(|key| *key == alias.unwrap_or(name)) {
            Some("pgbouncer") => {
                let on = matches!(value.as_str(), "true" | "1" | "on" | "yes");
                self.pooled = Some(on);
                let lent = if on { "behind a pooler" } else { "not behind a pooler" };
                self.notes.push(format!(
                    "pgbouncer={on} read as: {lent} that lends connections per transaction"
                ));
            }
            Some(key) => {
                self.hide_names |= key == "password";
                let value = if name == "ssl" { ssl_word(value) } else { value };
                self.values.insert(key, value);
            }
            None if FOREIGN.contains(&name) => {
                if name == "pool_mode" {
                    self.pooled = Some(value != "session");
                }
                self.notes.push(format!("ignored {name} (a setting of another client)"));
            }
            None if UNUSED.contains(&name) => {
                self.notes.push(format!("ignored {name} (a setting without effect here)"));
            }
            None => return Err(self.unknown(name)),
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> Error {
        let tellable = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if self.hide_names || name.len() > 40 || !name.chars().all(tellable) {
            return usage("connection string: a parameter is unknown; its name is not shown")
                .hint(format!("if it is a piece of the password: {AVOID}"));
        }
        let known = || USED.iter().chain(UNUSED).chain(FOREIGN);
        let near = known().min_by_key(|key| distance(key, name)).copied().unwrap_or_default();
        usage(format!(
            "connection string: unknown parameter {name:?}; the nearest known one is {near:?}"
        ))
        .hint(format!("write {near}=... or leave {name}=... out"))
    }
}

/// `ssl=true` of JDBC and node, and `ssl=require` of asyncpg, in the words of `sslmode`.
fn ssl_word(value: String) -> String {
    match value.as_str() {
        "true" | "1" | "on" => "require".to_owned(),
        "false" | "0" | "off" => "disable".to_owned(),
        _ => value,
    }
}

/// The number of letters to change, ignoring case.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let replaced = corner + usize::from(!x.eq_ignore_ascii_case(&y));
            corner = *cell;
            *cell = replaced.min(corner + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

// ---- key=value ------------------------------------------------------------------------------

/// Reads libpq's `key = value` pairs.
fn parse_pairs(text: &str, given: &mut Given) -> Result<()> {
    if !text.contains('=') {
        return Err(usage("this is neither a postgres:// URL nor a key=value string").hint(FORMS));
    }
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = rest.find(|c| c == '=' || is_space(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(after) = after.trim_start_matches(is_space).strip_prefix('=') else {
            return Err(usage("key=value string: a word has no '=' behind it").hint(QUOTING));
        };
        let Some((value, left)) = take_value(after.trim_start_matches(is_space)) else {
            return Err(
                usage("key=value string: a quoted value has no closing quote").hint(QUOTING)
            );
        };
        given.set(name, value)?;
        rest = left.trim_start_matches(is_space);
    }
    Ok(())
}

const QUOTING: &str = "a value with spaces stands in single quotes, with \\' for a quote and \\\\ \
                       for a backslash: host=localhost password='it\\'s me'; or set PGPASSWORD or \
                       use --password-file FILE";

const FORMS: &str = "write postgresql://USER@HOST:5432/DATABASE or \
                     \"host=HOST port=5432 dbname=DATABASE user=USER\"";

/// A value and what follows it; `None` if its quote is not closed.
fn take_value(text: &str) -> Option<(String, &str)> {
    let unquoted = text.strip_prefix('\'');
    let quoted = unquoted.is_some();
    let text = unquoted.unwrap_or(text);
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Some((value, chars.as_str())),
            c if !quoted && is_space(c) => return Some((value, text.get(at..)?)),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, ""))
}

/// What C calls a space: a no-break space belongs to the value.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

// ---- URLs -----------------------------------------------------------------------------------

/// One way to read what follows `postgresql://`; every part is still encoded.
struct Reading<'a> {
    user: &'a str,
    password: Option<&'a str>,
    hosts: Vec<(&'a str, &'a str)>,
    database: &'a str,
    query: &'a str,
}

/// Reads a URL, also one whose password is not encoded, as long as there is only one way to.
///
/// Every `@` may end the password, and there may be none at all. Each of these readings is checked
/// for whether what follows looks like hosts, a database and parameters. If exactly one does, it is
/// taken; a string with two possible readings is refused, for a wrong guess would send the
/// password, or a piece of it, to another host.
fn parse_url(rest: &str, given: &mut Given) -> Result<()> {
    let splits = std::iter::once(None).chain(rest.match_indices('@').map(|(at, _)| Some(at)));
    let mut found = None;
    let mut reason = "";
    for split in splits {
        match read_at(rest, split) {
            Ok(_) if found.is_some() => return Err(two_readings()),
            Ok(reading) => found = Some(reading),
            Err(why) => reason = why,
        }
    }
    match found {
        Some(reading) if reading.database.contains('#') || reading.query.contains('#') => {
            Err(stray_hash())
        }
        Some(reading) => take_reading(&reading, given),
        None if rest.rsplit('@').next().is_some_and(|tail| tail.contains('#')) => Err(stray_hash()),
        None => Err(usage(format!("connection URL: {reason}")).hint(url_hint())),
    }
}

/// The reading in which the `@` at `split` ends user and password, or why that cannot be.
fn read_at(rest: &str, split: Option<usize>) -> std::result::Result<Reading<'_>, &'static str> {
    let (login, tail) = match split {
        Some(at) => (rest.get(..at).unwrap_or(""), rest.get(at + 1..).unwrap_or("")),
        None => ("", rest),
    };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    if user.contains(STRUCTURE) {
        return Err("the user name holds one of the characters @ / ? # unencoded");
    }
    if user.contains(['[', '<']) {
        return Err("the user name still holds a placeholder in brackets");
    }
    let end = tail.find(['/', '?']).unwrap_or(tail.len());
    let (hosts, tail) = tail.split_at(end);
    let hosts = read_hosts(hosts)?;
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let database = path.strip_prefix('/').unwrap_or(path);
    // libpq would take "word@host:5432/db" for a name; nobody has such a database, and it is what
    // an unencoded '/' in a password looks like.
    if database.split_once('@').is_some_and(|(_, host)| host.contains([':', '/'])) {
        return Err("the database name holds '@' followed by ':' or '/' unencoded");
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.%".contains(c);
    let mut names = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(n, _)| n));
    if !names.all(|name| name.chars().all(is_name)) {
        return Err("a parameter behind '?' has a name that no parameter has");
    }
    Ok(Reading { user, password, hosts, database, query })
}

/// Splits `host1:1,[::1]:2` into hosts and ports, both possibly empty.
fn read_hosts(text: &str) -> std::result::Result<Vec<(&str, &str)>, &'static str> {
    let mut hosts = Vec::new();
    for item in text.split(',') {
        let (host, port) = match item.strip_prefix('[') {
            Some(inner) => {
                let (host, port) = inner.split_once(']').ok_or("a '[' has no ']' behind it")?;
                // A zone is written "%25eth0".
                if !is_ipv6(&host.replace("%25", "%")) {
                    return Err(match host.contains(':') {
                        true => "what stands in brackets as a host is no IPv6 address",
                        false => "a host still holds a placeholder in brackets",
                    });
                }
                (host, port)
            }
            None => item.split_at(item.find(':').unwrap_or(item.len())),
        };
        let digits = port.strip_prefix(':').or(port.is_empty().then_some(""));
        let Some(port) = digits.filter(|text| text.bytes().all(|b| b.is_ascii_digit())) else {
            return Err("what follows the ':' of a host is not a port number");
        };
        if host.contains(['[', '<']) {
            return Err("a host still holds a placeholder in brackets");
        }
        if !host.contains(':') && !host.chars().all(|c| is_host_char(c) || c == '%') {
            return Err("a host holds a character that no host name has");
        }
        hosts.push((host, port));
    }
    match hosts.len() > 1 && hosts.iter().any(|(host, _)| host.is_empty()) {
        true => Err("the list of hosts has an empty element"),
        false => Ok(hosts),
    }
}

/// Decodes the one reading there is.
fn take_reading(reading: &Reading<'_>, given: &mut Given) -> Result<()> {
    if let Some(password) = reading.password.filter(|p| !p.is_empty()) {
        let password = decode_password(password, &mut given.notes)?;
        given.values.insert("password", password);
    }
    for (key, text) in [("user", reading.user), ("dbname", reading.database)] {
        if !text.is_empty() {
            given.set(key, decode(text, key)?)?;
        }
    }
    let mut hosts = Vec::new();
    for (host, _) in &reading.hosts {
        hosts.push(decode(host, "host")?);
    }
    given.set("host", hosts.join(","))?;
    if reading.hosts.iter().any(|(_, port)| !port.is_empty()) {
        // An element left empty means the default port, not PGPORT, as with libpq.
        let ports: Vec<_> = reading.hosts.iter().map(|(_, port)| *port).collect();
        given.set("port", ports.join(","))?;
    }
    for pair in reading.query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(usage("connection URL: a parameter behind '?' has no '='").hint(url_hint()));
        };
        let name = decode(name, "parameter name")?;
        let what = if name == "password" { "password" } else { "parameter value" };
        let value = decode(value, what)?;
        given.set(&name, value)?;
    }
    Ok(())
}

/// The password before the `@`: decoded, or taken as it is if it clearly was not encoded.
fn decode_password(text: &str, notes: &mut Vec<String>) -> Result<String> {
    let raw: Vec<_> = STRUCTURE.into_iter().filter(|c| text.contains(*c)).collect();
    if raw.is_empty() {
        return decode(text, "password");
    }
    if text.contains('%') {
        return Err(usage(
            "connection URL: the password holds '%' beside unencoded characters, so it cannot be \
             told whether '%' begins a code",
        )
        .hint(format!("{}, % as %25; or {AVOID}", encoding_of(&raw))));
    }
    notes.push(format!(
        "the password in the URL is not encoded; it was read up to the last possible '@'; better \
         {} there",
        encoding_of(&raw)
    ));
    Ok(text.to_owned())
}

/// "write @ as %40, / as %2F": each character once, never their order in the password.
fn encoding_of(raw: &[char]) -> String {
    let each: Vec<_> = raw.iter().map(|c| format!("{c} as {}", encode(&c.to_string()))).collect();
    format!("write {}", each.join(", "))
}

fn decode(text: &str, what: &str) -> Result<String> {
    if !escapes_are_whole(text) {
        return Err(usage(format!(
            "connection URL: the {what} holds a '%' that is not followed by two hexadecimal digits"
        ))
        .hint(format!("write %25 for a percent sign; for a password: or {AVOID}")));
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| {
        usage(format!("connection URL: the {what} decodes to bytes that are no UTF-8"))
    })?;
    if decoded.contains('\0') {
        return Err(usage(format!("connection URL: the {what} holds %00, a NUL character")));
    }
    Ok(decoded.into_owned())
}

/// True if each percent sign is followed by two hexadecimal digits.
fn escapes_are_whole(text: &str) -> bool {
    let is_hex = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
    text.split('%').skip(1).all(|after| {
        let mut bytes = after.bytes();
        is_hex(bytes.next()) && is_hex(bytes.next())
    })
}

/// Percent-encodes all but letters, digits and `-._~`, so that the text is safe to show and to
/// parse again.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || "-._~".contains(c) {
            encoded.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn two_readings() -> Error {
    usage("connection URL: it can be read in more than one way, because of an unencoded '@'").hint(
        format!(
            "write @ as %40, / as %2F, ? as %3F, # as %23 wherever they are part of a name, a \
             password or a value; or {AVOID}"
        ),
    )
}

fn stray_hash() -> Error {
    usage("connection URL: it holds a '#' where none can be")
        .hint(format!("if it is part of the password, write %23 for it; or {AVOID}"))
}

fn url_hint() -> String {
    format!(
        "the form is postgresql://USER:PASSWORD@HOST:5432/DATABASE, with special characters of \
         user and password percent-encoded (@ as %40, / as %2F, : as %3A); or {AVOID}"
    )
}

// ---- near misses ----------------------------------------------------------------------------

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.:".contains(c))
}

/// `postgresql+psycopg2` and the like.
fn is_driver_scheme(scheme: &str) -> bool {
    scheme.starts_with("postgres+") || scheme.starts_with("postgresql+")
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn jdbc() -> Error {
    usage("this is a JDBC URL, expected a PostgreSQL one").hint(
        "leave `jdbc:` out: postgresql://HOST:5432/DATABASE?user=USER, with PGPASSWORD or \
         --password-file FILE for the password",
    )
}

fn other_scheme(scheme: &str, rest: &str) -> Error {
    match scheme {
        "http" | "https" => web_address(rest),
        _ if scheme.starts_with("jdbc:postgres") => jdbc(),
        _ if is_driver_scheme(scheme) => {
            usage("this is an SQLAlchemy URL that names a driver, expected a PostgreSQL one")
                .hint("leave `+` and the driver out: postgresql://USER@HOST:5432/DATABASE")
        }
        "sqlite" | "sqlite3" | "file" => usage("this is the URL of a file, not of a server")
            .hint("give the path of the SQLite file itself"),
        "mysql" | "mariadb" => {
            usage("this is a MySQL URL; only PostgreSQL and SQLite can be read").hint(FORMS)
        }
        _ => usage("this is not a PostgreSQL URL").hint(FORMS),
    }
}

/// A Supabase project's API or dashboard address, or another web page.
fn web_address(rest: &str) -> Error {
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = host.rsplit('@').next().unwrap_or("").to_ascii_lowercase();
    if !host.contains("supabase") {
        return usage("this is the address of a web page, not of a database").hint(FORMS);
    }
    // A reference is public and has a form of its own; anything else is not repeated.
    let is_ref = |word: &&str| word.len() == 20 && word.bytes().all(|b| b.is_ascii_lowercase());
    let path = rest.split(['?', '#']).next().unwrap_or("");
    let reference = match host.split('.').find(is_ref) {
        Some(word) => word,
        None => path.split('/').skip(1).find(is_ref).unwrap_or("PROJECT"),
    };
    usage("this is the address of a Supabase project's API or dashboard, not of its database").hint(
        format!(
            "in the dashboard press Connect, choose \"Session pooler\" and paste that string: \
             postgresql://postgres.{reference}@aws-0-REGION.pooler.supabase.com:5432/postgres, \
             with the database password in PGPASSWORD or --password-file FILE; the service_role or \
             secret key is not the database password"
        ),
    )
}

// ---- filling the gaps -----------------------------------------------------------------------

/// A setting and where it came from, for messages.
struct Found {
    value: String,
    place: &'static str,
}

impl Found {
    fn refused(&self, expected: &str) -> Error {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
        let shown = match self.value.len() <= 40 && self.value.chars().all(plain) {
            true => format!("{:?}", self.value),
            false => "this value".to_owned(),
        };
        usage(format!("{}: {shown} is not understood, expected {expected}", self.place))
            .hint(format!("correct {} or leave it out", self.place))
    }

    /// The value if it is one of the words.
    fn one_of(self, words: &[&str]) -> Result<String> {
        match words.contains(&self.value.as_str()) {
            true => Ok(self.value),
            false => Err(self.refused(&words.join(", "))),
        }
    }

    fn number(&self) -> Result<i32> {
        self.value.trim().parse().map_err(|_| self.refused("a whole number"))
    }

    /// A number of units, of which zero or less means the default.
    fn span(&self, unit: fn(u64) -> Duration) -> Result<Option<Duration>> {
        let number = self.number()?;
        Ok(u64::try_from(number).ok().filter(|n| *n > 0).map(unit))
    }
}

/// A variable that is set and not empty.
fn variable(env: Env<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

/// The string's settings over those of the environment.
struct Source<'a> {
    values: BTreeMap<&'static str, String>,
    env: Env<'a>,
}

impl Source<'_> {
    /// The setting of that name, else the variable; the empty string is none, as with libpq.
    fn get(&self, key: &'static str, name: &'static str) -> Option<Found> {
        match self.values.get(key).filter(|value| !value.is_empty()) {
            Some(value) => Some(Found { value: value.clone(), place: key }),
            None if name.is_empty() => None,
            None => variable(self.env, name).map(|value| Found { value, place: name }),
        }
    }

    fn text(&self, key: &'static str, name: &'static str) -> Option<String> {
        self.get(key, name).map(|found| found.value)
    }

    fn word(&self, key: &'static str, name: &'static str, of: &[&str]) -> Result<Option<String>> {
        self.get(key, name).map(|found| found.one_of(of)).transpose()
    }

    fn seconds(&self, key: &'static str) -> Result<Option<Duration>> {
        Ok(self.get(key, "").map(|found| found.span(Duration::from_secs)).transpose()?.flatten())
    }
}

fn build(given: Given, env: Env<'_>) -> Result<ConnInfo> {
    let Given { values, mut notes, pooled, .. } = given;
    let source = Source { values, env };
    refuse_service(&source, &mut notes)?;
    let hosts = find_hosts(&source)?;
    let user = find_user(&source)?;
    let database = find_database(&source, &user)?;
    let sslmode = find_sslmode(&source, &mut notes)?;
    let password = source.text("password", "");
    let password = password.map(|p| accepted(p, "connection string")).transpose()?;
    let application_name = source.text("application_name", "PGAPPNAME");
    Ok(ConnInfo {
        user,
        database,
        password,
        passfile: source.text("passfile", ""),
        sslmode: sslmode.unwrap_or(SslMode::Prefer),
        sslmode_given: sslmode.is_some(),
        sslrootcert: source.text("sslrootcert", "PGSSLROOTCERT"),
        sslnegotiation: source.word(
            "sslnegotiation",
            "PGSSLNEGOTIATION",
            &["postgres", "direct"],
        )?,
        connect_timeout: find_timeout(&source)?,
        application_name: application_name.or_else(|| source.text("fallback_application_name", "")),
        options: source.text("options", "PGOPTIONS"),
        schema: source.text("schema", ""),
        channel_binding: source.word(
            "channel_binding",
            "PGCHANNELBINDING",
            &["disable", "prefer", "require"],
        )?,
        target_session_attrs: source.word(
            "target_session_attrs",
            "PGTARGETSESSIONATTRS",
            &["any", "read-write", "read-only", "primary", "standby", "prefer-standby"],
        )?,
        load_balance_hosts: source.word(
            "load_balance_hosts",
            "PGLOADBALANCEHOSTS",
            &["disable", "random"],
        )?,
        keepalives: find_keepalives(&source)?,
        tcp_user_timeout: source
            .get("tcp_user_timeout", "")
            .map(|found| found.span(Duration::from_millis))
            .transpose()?
            .flatten(),
        pooled: pooled.unwrap_or_else(|| hosts.iter().any(Host::is_transaction_pooler)),
        hosts,
        notes,
    })
}

/// Service files are not read: a silent half of the settings would be worse than none.
fn refuse_service(source: &Source<'_>, notes: &mut Vec<String>) -> Result<()> {
    if source.text("service", "").is_some() {
        return Err(usage("connection string: service= is not supported").hint(
            "write what the service file says: host=HOST port=5432 dbname=DATABASE user=USER",
        ));
    }
    if variable(source.env, "PGSERVICE").is_some() {
        notes.push("ignored PGSERVICE (service files are not read)".to_owned());
    }
    Ok(())
}

fn find_user(source: &Source<'_>) -> Result<String> {
    let system = || ["USER", "LOGNAME", "USERNAME"].iter().find_map(|n| variable(source.env, n));
    source.text("user", "PGUSER").or_else(system).ok_or_else(|| {
        usage("connection string: it names no user, and neither PGUSER nor USER is set")
            .hint("write postgresql://USER@HOST:5432/DATABASE or set PGUSER")
    })
}

fn find_database(source: &Source<'_>, user: &str) -> Result<String> {
    let database = source.get("dbname", "PGDATABASE");
    match database {
        Some(found) if ConnInfo::looks_like(&found.value) => Err(usage(format!(
            "{}: it holds a whole connection string, expected the name of a database",
            found.place
        ))
        .hint("give that connection string by itself")),
        Some(found) => Ok(found.value),
        None => Ok(user.to_owned()),
    }
}

fn find_sslmode(source: &Source<'_>, notes: &mut Vec<String>) -> Result<Option<SslMode>> {
    let Some(found) = source.get("sslmode", "PGSSLMODE") else { return Ok(None) };
    if found.value == "no-verify" {
        notes.push("sslmode=no-verify read as require".to_owned());
        return Ok(Some(SslMode::Require));
    }
    let mode = SslMode::ALL.into_iter().find(|mode| mode.word() == found.value);
    mode.map(Some).ok_or_else(|| found.refused(&SslMode::ALL.map(SslMode::word).join(", ")))
}

fn find_timeout(source: &Source<'_>) -> Result<Option<Duration>> {
    let Some(found) = source.get("connect_timeout", "PGCONNECT_TIMEOUT") else { return Ok(None) };
    let limit = found.span(Duration::from_secs)?;
    Ok(Some(limit.unwrap_or(NO_LIMIT).min(NO_LIMIT)))
}

fn find_keepalives(source: &Source<'_>) -> Result<Keepalives> {
    let number = |key| source.get(key, "").map(|found| found.number()).transpose();
    Ok(Keepalives {
        on: number("keepalives")?.map(|n| n != 0),
        idle: source.seconds("keepalives_idle")?,
        interval: source.seconds("keepalives_interval")?,
        count: number("keepalives_count")?.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
    })
}

/// The elements of a list; none if the setting is missing.
fn list(found: Option<&Found>) -> Vec<&str> {
    found.map(|found| found.value.split(',').map(str::trim).collect()).unwrap_or_default()
}

/// Joins the lists of hosts, addresses and ports: as many of each, or one port for all.
fn find_hosts(source: &Source<'_>) -> Result<Vec<Host>> {
    let host = source.get("host", "PGHOST");
    let hostaddr = source.get("hostaddr", "PGHOSTADDR");
    let port = source.get("port", "PGPORT");
    let (names, ports) = (list(host.as_ref()), list(port.as_ref()));
    let addrs: Vec<IpAddr> = match &hostaddr {
        Some(found) => list(Some(found))
            .into_iter()
            .map(|text| text.parse().map_err(|_| found.refused("an IP address")))
            .collect::<Result<_>>()?,
        None => Vec::new(),
    };
    let count = names.len().max(addrs.len()).max(1);
    let fits = |len: usize| len == 0 || len == count;
    if !fits(names.len()) || !fits(addrs.len()) || !(fits(ports.len()) || ports.len() == 1) {
        return Err(usage(format!(
            "connection string: {} hosts, {} addresses and {} ports do not belong together",
            names.len(),
            addrs.len(),
            ports.len()
        ))
        .hint(
            "give as many hostaddrs and ports as hosts, or one port for all; see also PGHOSTADDR",
        ));
    }
    let mut hosts = Vec::new();
    for at in 0..count {
        let place = port.as_ref().map_or("port", |found| found.place);
        let port = parse_port(ports.get(at).or(ports.first()).copied().unwrap_or(""), place)?;
        let addr = addrs.get(at).copied();
        let name = match (names.get(at), addr) {
            (Some(name), _) => checked_host(name)?,
            (None, Some(addr)) => addr.to_string(),
            (None, None) => default_host(port),
        };
        hosts.push(Host { name, addr, port });
    }
    Ok(hosts)
}

/// The value is not shown: it may be the password of a URL without a host.
fn parse_port(text: &str, place: &str) -> Result<u16> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| {
        usage(format!("{place}: the port is not a number from 1 to 65535"))
            .hint("the usual port is 5432: postgresql://USER@HOST:5432/DATABASE")
    })
}

/// A host name as it may be shown and resolved; a bracketed IPv6 address loses its brackets.
fn checked_host(name: &str) -> Result<String> {
    let bare = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(name);
    let valid = match bare {
        "" => return Err(usage("host: the list of hosts has an empty element").hint(FORMS)),
        _ if bare.starts_with('/') => !bare.contains('\0'),
        _ if bare.contains(':') => is_ipv6(bare),
        _ => bare.chars().all(is_host_char),
    };
    match valid {
        true => Ok(bare.to_owned()),
        false => Err(usage(
            "host: expected a DNS name, an IP address or the absolute path of a socket directory",
        )
        .hint(FORMS)),
    }
}

fn is_host_char(c: char) -> bool {
    c.is_alphanumeric() || "-._~".contains(c)
}

/// An IPv6 address, possibly with a zone (`fe80::1%eth0`).
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.chars().all(is_host_char)
}

/// The usual socket if a server listens there, else TCP: libpq without a host does the same.
fn default_host(port: u16) -> String {
    let socket = Path::new(SOCKET_DIRECTORY).join(format!(".s.PGSQL.{port}"));
    match cfg!(unix) && socket.exists() {
        true => SOCKET_DIRECTORY.to_owned(),
        false => "localhost".to_owned(),
    }
}

// ---- passwords ------------------------------------------------------------------------------

/// A password that can be one. A placeholder is refused before it is sent: two wrong passwords and
/// Supabase locks the address out for half an hour.
fn accepted(password: String, place: &str) -> Result<Secret> {
    if password.contains('\0') {
        return Err(usage(format!("{place}: the password holds a NUL character")));
    }
    if is_placeholder(&password) {
        return Err(usage(format!(
            "{place}: the password is still the placeholder of the example"
        ))
        .hint(
            "put the database password in its place (Supabase sets or resets it in the dashboard \
             under Project Settings, Database), or take the placeholder and its ':' out and set \
             PGPASSWORD or use --password-file FILE: there nothing needs percent-encoding",
        ));
    }
    Ok(Secret::new(password))
}

/// `[YOUR-PASSWORD]`, `<password>` and their kin.
fn is_placeholder(password: &str) -> bool {
    // Encoded twice, or encoded in a place that is not decoded: still the placeholder.
    let decoded = percent_decode_str(password).decode_utf8_lossy();
    let inner = [('[', ']'), ('<', '>'), ('{', '}')]
        .iter()
        .find_map(|(open, close)| decoded.strip_prefix(*open)?.strip_suffix(*close));
    let words = [
        "PASSWORD",
        "YOUR_PASSWORD",
        "DB_PASSWORD",
        "YOUR_DB_PASSWORD",
        "DATABASE_PASSWORD",
        "YOUR_DATABASE_PASSWORD",
    ];
    inner.is_some_and(|inner| {
        let word = inner.to_ascii_uppercase().replace(['-', ' '], "_");
        words.contains(&word.as_str())
    })
}

/// The bytes of a pass file, or why libpq would not read it.
fn read_pass_file(path: &Path) -> std::result::Result<Vec<u8>, String> {
    let told = |error: std::io::Error| error.kind().to_string();
    // The kind is looked at before opening: opening a pipe would wait for its writer.
    let meta = path.metadata().map_err(told)?;
    if !meta.is_file() {
        return Err("it is not a plain file".to_owned());
    }
    if others_may_read(&meta) {
        return Err(format!("others can read it; type: {}", chmod(path)));
    }
    File::open(path).and_then(|file| read_limited(&file)).map_err(told)
}

/// The password of a line `host:port:database:user:password` if its first four fields fit.
fn match_pass_line(line: &str, key: &[&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let rest = key.iter().try_fold(line, |rest, token| match_pass_field(rest, token))?;
    let mut password = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            // An unescaped colon ends the password; what follows is for later versions of libpq.
            ':' => break,
            '\\' => password.push(chars.next().unwrap_or('\\')),
            c => password.push(c),
        }
    }
    Some(password)
}

/// What follows the field if it is `*` or, without its backslashes, the token.
fn match_pass_field<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    if let Some(rest) = text.strip_prefix("*:") {
        return Some(rest);
    }
    let mut chars = text.chars();
    let mut wanted = token.chars();
    loop {
        let c = chars.next()?;
        if c == ':' && wanted.as_str().is_empty() {
            return Some(chars.as_str());
        }
        let c = if c == '\\' { chars.next()? } else { c };
        if wanted.next()? != c {
            return None;
        }
    }
}

/// Where a spelling of the password that begins at `start` ends, if one does; the longest.
///
/// Every byte may stand as itself, as `%XX`, or behind a backslash, independently of the others,
/// since programs do not agree on what to encode.
fn spelled_at(text: &[u8], start: usize, password: &[u8]) -> Option<usize> {
    let mut ends = vec![start];
    for byte in password {
        let mut next = Vec::new();
        for at in ends {
            match text.get(at..).unwrap_or_default() {
                [b'\\', c, ..] if c == byte => next.push(at + 2),
                [b'%', high, low, ..] if hex(*high, *low) == Some(*byte) => next.push(at + 3),
                _ => {}
            }
            if text.get(at) == Some(byte) {
                next.push(at + 1);
            }
        }
        next.sort_unstable();
        next.dedup();
        ends = next;
    }
    ends.into_iter().max().filter(|end| *end > start)
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? * 16 + digit(low)?)
}

// ---- small things ---------------------------------------------------------------------------

fn usage(message: impl Into<String>) -> Error {
    Error::new(Code::Usage, message)
}

/// The text with control characters escaped, for messages.
fn escape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
    }
    plain
}

/// The command that makes a file private, quoted for a shell.
fn chmod(path: &Path) -> String {
    format!("chmod 600 '{}'", escape(&path.to_string_lossy()).replace('\'', "'\\''"))
}

/// At most [`LONGEST_FILE`] bytes: a password file is no place for more, a device may never end.
fn read_limited(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(unix)]
fn others_may_read(meta: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    meta.mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn others_may_read(_: &Metadata) -> bool {
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An environment with only these variables, and a user.
    fn env(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
        let mut map: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        map.entry("USER".to_owned()).or_insert_with(|| "system".to_owned());
        move |name| map.get(name).cloned()
    }

    fn parse(text: &str) -> Result<ConnInfo> {
        ConnInfo::parse(text, &env(&[]))
    }

    fn good(text: &str) -> ConnInfo {
        parse(text).unwrap_or_else(|e| panic!("{text}: {e}; {:?}", e.next_step()))
    }

    /// Message and hint of the refusal.
    fn refusal(text: &str) -> String {
        words(&parse(text).map(|i| i.redacted()).expect_err(text))
    }

    fn words(error: &Error) -> String {
        format!("{} | {} | {error:?}", error.full(), error.next_step().unwrap_or(""))
    }

    /// All that a user could see of it.
    fn visible(info: &ConnInfo) -> String {
        format!("{info:?} {info:#?} {info} {} {:?}", info.redacted(), info.notes)
    }

    fn encode_all(text: &str) -> String {
        text.bytes().map(|b| format!("%{b:02x}")).collect()
    }

    fn quoted(text: &str) -> String {
        format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
    }

    #[cfg(unix)]
    fn private_file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_url_names_host_port_user_database_and_settings() {
        let info = good(
            "postgresql://postgres.abc:s3cret@aws-0-eu.pooler.supabase.com:5432/post%20gres\
             ?sslmode=verify-full&sslrootcert=%2Fca.pem&connect_timeout=7&application_name=x\
             &options=reference%3Dabc&channel_binding=require&target_session_attrs=read-write\
             &keepalives=0&keepalives_idle=30&tcp_user_timeout=1500&schema=app",
        );
        assert_eq!(info.hosts[0].name, "aws-0-eu.pooler.supabase.com");
        assert_eq!((info.hosts.len(), info.hosts[0].port), (1, 5432));
        assert_eq!((info.user.as_str(), info.database.as_str()), ("postgres.abc", "post gres"));
        assert_eq!(info.password(), Some("s3cret"));
        assert_eq!((info.sslmode, info.sslmode_given), (SslMode::VerifyFull, true));
        assert_eq!(info.sslrootcert.as_deref(), Some("/ca.pem"));
        assert_eq!(info.connect_timeout, Some(Duration::from_secs(7)));
        assert_eq!(info.options.as_deref(), Some("reference=abc"));
        assert_eq!(info.schema.as_deref(), Some("app"));
        assert_eq!(info.keepalives.on, Some(false));
        assert_eq!(info.keepalives.idle, Some(Duration::from_secs(30)));
        assert_eq!(info.tcp_user_timeout, Some(Duration::from_millis(1500)));
        assert!(!info.pooled && info.notes.is_empty(), "{:?}", info.notes);
        assert_eq!(
            info.to_string(),
            "postgresql://postgres.abc@aws-0-eu.pooler.supabase.com:5432/post%20gres"
        );
    }

    #[test]
    fn several_hosts_addresses_and_sockets_are_named_as_in_libpq() {
        let info = good("POSTGRES://u@h1:1111,[::1]:2222,h3/db");
        let named: Vec<_> = info.hosts.iter().map(|h| (h.name.as_str(), h.port)).collect();
        assert_eq!(named, [("h1", 1111), ("::1", 2222), ("h3", 5432)]);
        for text in [
            "postgres://u@%2Ftmp%2Fpg:5433/db",
            "postgres://u@:5433/db?host=/tmp/pg",
            "host=/tmp/pg port=5433 user=u dbname=db",
        ] {
            let info = good(text);
            assert_eq!(info.hosts[0].socket(), Some(PathBuf::from("/tmp/pg/.s.PGSQL.5433")));
            assert_eq!(info.redacted(), "postgresql://u@%2Ftmp%2Fpg:5433/db");
        }
        let info = good("host=db.example.com,db2 hostaddr=127.0.0.1,::1 port=5433 user=u");
        assert_eq!(info.hosts[1].addr, Some("::1".parse().unwrap()));
        assert_eq!(info.hosts[1].port, 5433);
        assert_eq!(good("hostaddr=10.0.0.1").hosts[0].name, "10.0.0.1");
        let info = good("postgres://u@[fe80::1%25eth0]/db");
        assert_eq!(info.hosts[0].name, "fe80::1%eth0");
        assert_eq!(info.redacted(), "postgresql://u@[fe80::1%25eth0]:5432/db");
    }

    #[test]
    fn the_environment_fills_only_the_gaps() {
        let vars = env(&[
            ("PGHOST", "pg.example"),
            ("PGPORT", "5555"),
            ("PGUSER", "pguser"),
            ("PGDATABASE", "pgdb"),
            ("PGSSLMODE", "verify-ca"),
            ("PGSSLROOTCERT", "/root.pem"),
            ("PGAPPNAME", "app"),
            ("PGCONNECT_TIMEOUT", "0"),
            ("PGOPTIONS", "-c a=b"),
        ]);
        let info = ConnInfo::parse("postgres://", &vars).unwrap();
        assert_eq!(info.redacted(), "postgresql://pguser@pg.example:5555/pgdb");
        assert_eq!((info.sslmode, info.sslmode_given), (SslMode::VerifyCa, true));
        assert_eq!(info.connect_timeout, Some(NO_LIMIT));
        assert_eq!(info.application_name.as_deref(), Some("app"));
        let info = ConnInfo::parse("postgres://me@h:1/d?sslmode=disable&application_name=z", &vars)
            .unwrap();
        assert_eq!(info.redacted(), "postgresql://me@h:1/d");
        assert_eq!(info.sslmode, SslMode::Disable);
        assert_eq!(info.application_name.as_deref(), Some("z"));
    }

    #[test]
    fn without_anything_it_is_the_local_server_and_the_system_user() {
        let info = good("postgresql://");
        assert_eq!((info.user.as_str(), info.database.as_str()), ("system", "system"));
        assert!([SOCKET_DIRECTORY, "localhost"].contains(&info.hosts[0].name.as_str()));
        assert_eq!((info.sslmode, info.sslmode_given), (SslMode::Prefer, false));
        let nobody = ConnInfo::parse("postgres://h", &|_| None).map(|_| ()).unwrap_err();
        assert!(nobody.to_string().contains("no user"));
    }

    #[test]
    fn key_value_strings_are_quoted_as_in_libpq() {
        let info = good("host = h  user='o\\'k  me' dbname = d\\ b password='a\\\\b c'port=1");
        assert_eq!(info.user, "o'k  me");
        assert_eq!(info.database, "d b");
        assert_eq!(info.password(), Some("a\\b c"));
        assert_eq!(info.hosts[0].port, 1);
        assert_eq!(good("host=a host=b user=u").hosts[0].name, "b");
        assert!(refusal("host=h password='zq xw").contains("no closing quote"));
        let said = refusal("host=h password=first SECOND-HALF");
        assert!(said.contains("no '='") && !said.contains("SECOND"), "{said}");
        let said = refusal("host=h password=first SECOND-HALF=x");
        assert!(said.contains("unknown") && !said.contains("SECOND"), "{said}");
    }

    #[test]
    fn settings_of_other_clients_are_ignored_with_a_note() {
        for name in [
            "connection_limit",
            "pool_timeout",
            "statement_cache_size",
            "workaround",
            "supa",
            "uselibpqcompat",
            "prepareThreshold",
            "prepared_statements",
            "sslaccept",
            "socket_timeout",
            "pool_mode",
            "max",
        ] {
            let info = good(&format!("postgres://u@h/d?{name}=Zq7"));
            assert_eq!(
                info.notes,
                [format!("ignored {name} (a setting of another client)")],
                "the note names the setting, not its value"
            );
        }
        let info = good("postgres://u@h/d?sslmode=no-verify&gssencmode=disable");
        assert_eq!(info.sslmode, SslMode::Require);
        assert!(info.notes.contains(&"sslmode=no-verify read as require".to_owned()));
        assert_eq!(good("postgres://u@h/d?ssl=true").sslmode, SslMode::Require);
    }

    #[test]
    fn an_unknown_parameter_is_named_with_its_nearest_neighbour_and_without_its_value() {
        let said = refusal("postgres://u:pw12@h/d?ssl_mode=Zq7");
        assert!(said.contains("\"ssl_mode\"") && said.contains("\"sslmode\""), "{said}");
        assert!(!said.contains("Zq7"), "{said}");
        assert!(refusal("hots=localhost user=u").contains("\"host\""));
        assert!(!refusal("postgres://u@h/d?password=Zq7&Xk9=1").contains("Xk9"));
        assert!(refusal("postgres://u@h/d?flag").contains("no '='"));
    }

    #[test]
    fn every_list_knows_each_setting_once() {
        let mut all: Vec<_> = USED.iter().chain(UNUSED).chain(FOREIGN).collect();
        let len = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), len);
    }

    #[test]
    fn a_pooler_is_known_by_parameter_port_or_name() {
        assert!(good("postgres://u@h:6543/d").pooled);
        assert!(good("postgres://u@h/d?pgbouncer=true").pooled);
        assert!(good("postgres://u@ep-x-pooler.eu.aws.neon.tech/d").pooled);
        assert!(!good("postgres://u@aws-0-eu.pooler.supabase.com:5432/d").pooled);
        assert!(!good("postgres://u@h:6543/d?pgbouncer=false").pooled);
        assert!(!good("postgres://u@h:6543/d?pool_mode=session").pooled);
    }

    #[test]
    fn a_placeholder_is_refused_wherever_a_password_can_stand() {
        for text in [
            "postgresql://postgres:[YOUR-PASSWORD]@db.abc.supabase.co:5432/postgres",
            "postgresql://postgres:%5BYOUR-PASSWORD%5D@db.abc.supabase.co:5432/postgres",
            "postgresql://postgres:<password>@h/d",
            "postgresql://postgres:[PASSWORD]@h/d",
            "postgresql://postgres@h/d?password=[YOUR_PASSWORD]",
            "host=h user=u password=[YOUR-PASSWORD]",
        ] {
            let said = refusal(text);
            assert!(said.contains("placeholder") && said.contains("PGPASSWORD"), "{said}");
            assert!(said.contains("Project Settings, Database"), "{said}");
        }
        let mut info = good("postgres://u@h/d");
        let vars = env(&[("PGPASSWORD", "[your-password]")]);
        assert_eq!(info.find_password(None, &vars, None).unwrap_err().code(), Code::Usage);
        assert!(info.find_password(Some("<PASSWORD>".into()), &vars, None).is_err());
        assert!(
            refusal("postgres://postgres:x@db.[YOUR-PROJECT-REF].supabase.co/d")
                .contains("placeholder")
        );
        assert_eq!(good("postgres://u:[real]@h/d").password(), Some("[real]"));
    }

    #[test]
    fn an_unencoded_password_is_read_if_there_is_only_one_way_to() {
        for password in ["p@ss:w/rd#1", "a@@b", "x?y", "#", "@", "/z/", "50/x", "a:b/c", "w rd/"] {
            let info =
                good(&format!("postgres://u:{password}@host.example:5432/db?sslmode=require"));
            assert_eq!(info.password(), Some(password));
            assert_eq!(info.redacted(), "postgresql://u@host.example:5432/db");
            assert!(info.notes[0].contains("not encoded"), "{:?}", info.notes);
        }
        assert!(good("postgres://u:a:b@h/d").notes.is_empty(), "a colon needs no encoding");
    }

    #[test]
    fn a_url_with_two_readings_is_refused_with_the_way_out() {
        for text in [
            "postgres://u:Zq7@Xk9/Wv3@host",
            "postgres://u:1234/Wv3@host",
            "postgres://u:Zq7@host/db?application_name=me@work",
            "postgres://u:5432?password=Zq7@host",
            "postgres://u:Zq7@host:99999/db?options=a@b",
        ] {
            let said = refusal(text);
            assert!(said.contains("more than one way") && said.contains("%40"), "{said}");
            assert!(!said.contains("Zq7") && !said.contains("Wv3"), "{said}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_explained_without_being_repeated() {
        for (text, reason) in [
            ("postgres://u:Zq7#Xk9", "'#'"),
            ("postgres://u:Zq7@host/db#Xk9", "'#'"),
            ("postgres://u:Zq7@host#Xk9", "'#'"),
            ("postgres://u:Zq7%zz@host/db", "two hexadecimal digits"),
            ("postgres://u:Zq7%@host/db", "two hexadecimal digits"),
            ("postgres://u:Zq7%00@host/db", "NUL"),
            ("postgres://u:Zq7%ff@host/db", "UTF-8"),
            ("postgres://u:Zq7@Xk%41@host/db", "'%'"),
            ("postgres://u:Zq7", "port number"),
            ("postgres://u:Zq7/db", "port number"),
            ("postgres://me@srv:Zq7@host/db", "user name"),
            ("postgres://u:Zq7@h1,,h2/db", "empty element"),
            ("postgres://u:Zq7@[::zz]/db", "IPv6"),
            ("postgres://u:Zq7@[::1]5432/db", "port number"),
            ("postgres://u:Zq7@a b/db", "no host name"),
            ("postgres://u:Zq7@h:0/db", "1 to 65535"),
            ("postgres://u:Zq7@h:65536/db", "1 to 65535"),
            ("host=a,b port=1,2,3 password=Zq7", "do not belong together"),
            ("host=h password=Zq7 sslmode=on-fire", "\"on-fire\""),
            ("host=h password=Zq7 connect_timeout=soon", "whole number"),
            ("host=h password=Zq7 hostaddr=h", "IP address"),
            ("host=h password=Zq7 channel_binding=maybe", "disable, prefer, require"),
            ("service=prod password=Zq7", "service="),
            ("dbname=postgres://u:Zq7@h/d", "whole connection string"),
            ("host=a@b user=u password=Zq7", "DNS name"),
            ("Zq7", "neither"),
        ] {
            let said = refusal(text);
            assert!(said.contains(reason), "{text}: {said}");
            assert!(!said.contains("Zq7") && !said.contains("Xk9"), "{said}");
            assert_eq!(parse(text).map(|_| ()).unwrap_err().code(), Code::Usage);
        }
        let long = format!("postgres://u:{}@h/d", "x".repeat(LONGEST_STRING));
        assert!(refusal(&long).contains("64 KiB"));
    }

    #[test]
    fn near_misses_are_recognised_and_told_the_right_form() {
        for (text, expected) in [
            ("https://abcdefghijklmnopqrst.supabase.co", "postgres.abcdefghijklmnopqrst@"),
            (
                "https://supabase.com/dashboard/project/abcdefghijklmnopqrst",
                "postgres.abcdefghijklmnopqrst@",
            ),
            ("HTTPS://x.supabase.co/rest/v1", "service_role"),
            ("jdbc:postgresql://h/d?user=u&password=Zq7", "leave `jdbc:` out"),
            ("postgresql+psycopg2://u:Zq7@h/d", "leave `+` and the driver out"),
            ("postgres+asyncpg://u:Zq7@h/d", "leave `+` and the driver out"),
            ("mysql://u:Zq7@h/d", "only PostgreSQL and SQLite"),
        ] {
            assert!(ConnInfo::looks_like(text), "{text}");
            let said = refusal(text);
            assert!(said.contains(expected) && !said.contains("Zq7"), "{said}");
        }
        assert!(refusal("https://example.com/x").contains("web page"));
        assert!(refusal("sqlite:///x.db").contains("path"));
        assert!(refusal("redis://x").contains("not a PostgreSQL URL"));
    }

    #[test]
    fn a_connection_string_is_told_from_a_file() {
        for text in ["postgres://", " PostgreSQL://h", "host=h", "dbname = d user=u", "service=x"] {
            assert!(ConnInfo::looks_like(text), "{text}");
        }
        for text in [
            "chronicle.db",
            "/a/b=c.db",
            "./host=x",
            "postgres",
            "x=1",
            "",
            "=",
            "http://localhost:8000",
            "postgres:db",
            "schema=x",
            "C:\\a.db",
        ] {
            assert!(!ConnInfo::looks_like(text), "{text}");
        }
    }

    #[test]
    fn the_password_is_sought_in_a_fixed_order() {
        let vars = env(&[("PGPASSWORD", "from-pg"), ("SUPABASE_DB_PASSWORD", "from-supabase")]);
        let found = |text: &str, given: Option<&str>, vars: Env<'_>| {
            let mut info = ConnInfo::parse(text, vars).unwrap();
            info.find_password(given.map(str::to_owned), vars, None).unwrap();
            info.password().map(str::to_owned)
        };
        assert_eq!(found("postgres://u:url@h", Some("file"), &vars).as_deref(), Some("file"));
        assert_eq!(found("postgres://u:url@h", None, &vars).as_deref(), Some("url"));
        assert_eq!(found("postgres://u:@h", None, &vars).as_deref(), Some("from-pg"));
        let supabase = env(&[("SUPABASE_DB_PASSWORD", "from-supabase"), ("PGPASSWORD", "")]);
        let ours = found("postgres://u@db.x.Supabase.co", None, &supabase);
        assert_eq!(ours.as_deref(), Some("from-supabase"));
        for other in ["h", "evilsupabase.co", "db.x.supabase.co,other", "supabase.co.evil.com"] {
            assert_eq!(found(&format!("postgres://u@{other}"), None, &supabase), None, "{other}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn the_pass_file_gives_its_first_fitting_line() {
        let file = private_file(
            "# h:5432:d:u:comment\n\nh:1:d:u:port\nh:*:other:u:db\n\
             h:5432:d:u\\:x\\\\:odd\\:p\\\\w:extra\r\n\
             *:*:*:u:star\nlocalhost:5432:d:v:local\n",
            0o600,
        );
        let path = file.path().to_str().unwrap();
        let found = |text: &str| {
            let vars = env(&[("PGPASSFILE", path)]);
            let mut info = ConnInfo::parse(text, &vars).unwrap();
            info.find_password(None, &vars, None).unwrap();
            info.password().map(str::to_owned)
        };
        assert_eq!(found("postgres://u@h:1/d").as_deref(), Some("port"));
        assert_eq!(found("postgres://u%3Ax%5C@h/d").as_deref(), Some("odd:p\\w"));
        assert_eq!(found("postgres://u@h/d").as_deref(), Some("star"));
        assert_eq!(found("postgres://v@h/d"), None);
        assert_eq!(found("postgres://v@%2Fvar%2Frun%2Fpostgresql/d").as_deref(), Some("local"));
    }

    #[test]
    #[cfg(unix)]
    fn a_pass_file_that_cannot_be_used_is_noted_and_passed_over() {
        let open = private_file("*:*:*:*:Zq7Zq7\n", 0o644);
        let home = tempfile::tempdir().unwrap();
        let notes = |text: String, home: Option<&Path>| {
            let mut info = good(&text);
            info.find_password(None, &env(&[]), home).unwrap();
            assert_eq!(info.password(), None);
            info.notes
        };
        let said = notes(format!("host=h passfile={}", open.path().display()), None);
        assert!(said[0].contains("chmod 600") && !said[0].contains("Zq7"), "{said:?}");
        assert!(notes("host=h passfile=/".to_owned(), None)[0].contains("plain file"));
        assert!(notes("host=h passfile=/no/such".to_owned(), None)[0].contains("ignored"));
        assert!(notes("host=h".to_owned(), Some(home.path())).is_empty());
    }

    #[test]
    #[cfg(unix)]
    fn a_password_file_gives_its_first_line_and_nothing_else() {
        for (text, expected) in
            [("pw", "pw"), ("  p w \n", "  p w "), ("pw\r\nrest\n", "pw"), ("\u{feff}pw\n", "pw")]
        {
            let file = private_file(text, 0o400);
            assert_eq!(read_password_file(file.path()).unwrap(), expected);
        }
        for (text, mode, reason) in [
            ("", 0o600, "empty"),
            ("\nZq7\n", 0o600, "empty"),
            ("Zq7\n", 0o640, "chmod 600 '"),
            ("Zq7\n", 0o604, "chmod 600 '"),
        ] {
            let file = private_file(text, mode);
            let error = read_password_file(file.path()).unwrap_err();
            assert_eq!(error.code(), Code::Usage);
            assert!(words(&error).contains(reason) && !words(&error).contains("Zq7"), "{error:?}");
        }
        let missing = read_password_file(Path::new("/no/such\u{1b}[31m/file")).unwrap_err();
        assert_eq!(missing.code(), Code::NotFound);
        assert!(!missing.to_string().contains('\u{1b}'));
    }

    #[test]
    fn scrubbing_leaves_public_names_alone() {
        let info = good("postgres://postgres:postgres@h/d");
        let text = "role \"postgres\" does not exist";
        assert_eq!(info.scrub(text), text);
        assert_eq!(good("postgres://u@h/d").scrub(text), text);
        let info = good("postgres://u:a%2Fb%C3%A9@h/d");
        assert_eq!(
            info.scrub("1 a/bé 2 a%2fb%c3%a9 3 a\\/bé 4 a%2Fbé."),
            "1 *** 2 *** 3 *** 4 ***."
        );
    }

    #[test]
    fn control_characters_never_reach_a_terminal() {
        let info = good("postgres://u%1b%5B31m@h/d%0A%E2%80%AE");
        assert_eq!(info.to_string(), "postgresql://u%1B%5B31m@h:5432/d%0A%E2%80%AE");
    }

    /// Letters of [`HARD`] that no message of ours holds, so that a hit is never an accident.
    const RARE: [char; 4] = ['Z', 'Q', '☃', 'é'];

    /// Letters that no message of ours strings together, and all that is special anywhere.
    const HARD: &str = "[ZQX79é@/?#:%&='\\\\\"\\[\\]<>,+~$ \t;.{}\u{1b}☃-]{4,24}";

    /// A hard password with a rare letter in its middle.
    fn marked() -> impl Strategy<Value = String> {
        (HARD, prop::sample::select(RARE.to_vec())).prop_map(|(password, rare)| {
            let half = password.chars().count() / 2;
            let start: String = password.chars().take(half).collect();
            let end: String = password.chars().skip(half).collect();
            format!("{start}{rare}{end}")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn a_password_in_any_form_comes_back_exactly_and_changes_nothing_that_is_shown(
            password in prop_oneof!["[^\0]{4,20}", HARD],
        ) {
            prop_assume!(!is_placeholder(&password));
            let forms = |p: &str| [
                format!("postgres://u:{}@h/d?max=1", encode_all(p)),
                format!("postgres://u:{}@h/d", encode(p)),
                format!("postgres://u@h/d?password={}", encode(p)),
                format!("host=h user=u dbname=d password={} max=1", quoted(p)),
            ];
            for (text, other) in forms(&password).iter().zip(forms("sentinel")) {
                let info = good(text);
                prop_assert_eq!(info.password(), Some(password.as_str()));
                prop_assert_eq!(visible(&info), visible(&good(&other)));
                prop_assert_eq!(info.scrub(&format!("«{}»", password)), "«***»");
                let encoded = encode_all(&password);
                prop_assert_eq!(info.scrub(&format!("«{}»", encoded)), "«***»");
            }
        }

        #[test]
        fn a_password_of_the_environment_comes_back_exactly_and_is_not_shown(
            password in prop_oneof!["[^\0]{4,20}", HARD],
        ) {
            prop_assume!(!is_placeholder(&password));
            let shown = |p: &str| {
                let vars = env(&[("PGPASSWORD", p)]);
                let mut info = ConnInfo::parse("postgres://u@h/d", &vars).unwrap();
                info.find_password(None, &vars, None).unwrap();
                assert_eq!(info.password(), Some(p));
                visible(&info)
            };
            prop_assert_eq!(shown(&password), shown("sentinel"));
        }

        #[test]
        fn a_line_of_the_pass_file_gives_its_password_exactly(
            password in prop_oneof!["[^\0\r\n]{4,20}", HARD],
            user in "[^\0\r\n]{1,8}",
            database in "[^\0\r\n]{1,8}",
        ) {
            prop_assume!(!is_placeholder(&password));
            let escaped = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
            let mut info = good("postgres://u@[::1]/d");
            info.user = user;
            info.database = database;
            let before = visible(&info).replace("None", "").replace("Some", "");
            let line = format!(
                "x:1:d:u:no\n{}:5432:{}:{}:{}\n",
                escaped("::1"), escaped(&info.database), escaped(&info.user), escaped(&password)
            );
            // A user "#..." cannot make a comment: the host comes first.
            info.take_from_pass_file(line.as_bytes(), "pass file").unwrap();
            prop_assert_eq!(info.password(), Some(password.as_str()));
            let after = visible(&info);
            prop_assert!(after.contains("Secret(..)"));
            prop_assert!(before.contains(&password) || !after.contains(&password));
        }

        #[test]
        fn an_unencoded_password_comes_back_exactly_or_is_refused_and_is_never_shown(
            password in marked(),
            host in prop_oneof!["h", "h:6000", "[::1]:6000", "h1:1,h2:2"],
            tail in prop_oneof!["", "/db", "/db\\?sslmode=require", "\\?max=1"],
        ) {
            match parse(&format!("postgres://u:{password}@{host}{tail}")) {
                Ok(info) => {
                    // Without anything to tell it from an encoded one it is taken as encoded.
                    if password.contains('%') {
                        let decoded = decode(&password, "").unwrap();
                        prop_assert_eq!(info.password(), Some(decoded.as_str()));
                    } else {
                        prop_assert_eq!(info.password(), Some(password.as_str()));
                    }
                    prop_assert_eq!(&info.user, "u");
                    prop_assert!(!visible(&info).contains(&password), "{}", visible(&info));
                }
                Err(error) => prop_assert!(!words(&error).contains(&password), "{}", words(&error)),
            }
        }

        #[test]
        fn a_password_in_a_broken_string_is_not_shown(password in marked(), cut in 0usize..60) {
            for text in [
                format!("postgres://u:{password}"),
                format!("postgres://{password}@h:x/d"),
                format!("postgres://u@h/d?password={password}&{password}={password}"),
                format!("postgresql+x://u:{password}@h/d"),
                format!("https://x.supabase.co/{password}"),
                format!("host=h password={password} {password}={password}"),
                format!("host=h password='{password}"),
                format!("postgres://u:{password}@h:5432/d?x=1"),
            ] {
                let text: String = text.chars().take(text.chars().count() - cut.min(9)).collect();
                if let Err(error) = parse(&text) {
                    prop_assert!(!words(&error).contains(&password), "{text}: {}", words(&error));
                }
            }
        }

        #[test]
        fn what_is_shown_can_be_parsed_again(
            user in "[^\0]{1,12}",
            database in "[^\0=]{1,12}",
            hosts in prop_oneof!["[a-z0-9.é_-]{1,12}", "::1", "/[^\0,\\s]{1,9}", "a,b"],
            port in 1u16..,
        ) {
            let text = format!(
                "user={} dbname={} host={} port={port}",
                quoted(&user), quoted(&database), quoted(&hosts)
            );
            prop_assume!(!ConnInfo::looks_like(&database));
            let info = good(&text);
            let again = good(&info.redacted());
            prop_assert_eq!((&again.user, &again.database), (&user, &database));
            prop_assert_eq!(&again.hosts, &info.hosts);
            prop_assert_eq!(again.redacted(), info.redacted());
            prop_assert!(!info.redacted().contains(char::is_control));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}", tail in HARD) {
            let _ = parse(&text);
            let _ = parse(&format!("postgres://{text}{tail}"));
            let _ = parse(&format!("host={text} {tail}"));
            let _ = ConnInfo::looks_like(&text);
        }
    }
}
