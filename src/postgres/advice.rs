//! What the errors of servers, poolers and the network before them mean, and what to do next: one table.
//!
//! An error is recognised by its SQLSTATE and its words, as Supavisor, PgBouncer and PostgreSQL send them.
//! PostgreSQL may speak another language, so that its own errors are recognised by the SQLSTATE wherever it says
//! enough. No advice ever leads to a connection without encryption, or to another try with the same password.

use super::conninfo::{ConnInfo, DEFAULT_PORT, Host};

/// Whose host the string names; the same words mean different things there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Any server.
    Any,
    /// Supabase's platform.
    Supabase,
    /// The project's own host there, which most networks cannot reach.
    Direct,
    /// The pooler that projects share there.
    Pooler,
}

/// An error and what helps against it. `{session}` stands for the string of the session pooler.
struct Advice {
    at: At,
    /// SQLSTATEs, of which the error has one; none if it may have any.
    states: &'static [&'static str],
    /// Words in small letters, of which the error has one; none if it may have any.
    words: &'static [&'static str],
    text: &'static str,
}

const fn advice(
    at: At,
    states: &'static [&'static str],
    words: &'static [&'static str],
    text: &'static str,
) -> Advice {
    Advice { at, states, words, text }
}

/// Every error that is known, the special ones before the general ones: the first that fits is taken.
const TABLE: &[&[Advice]] = &[SUPAVISOR, POOLS, LOGIN, WORK, NETWORK];

/// What only Supavisor says, Supabase's pooler: its own code in brackets, or the words that it had before those codes.
const SUPAVISOR: &[Advice] = &[
    advice(
        At::Any,
        &[],
        &["too many authentication failures"],
        "the pooler refuses all logins after too many wrong passwords: do not try again for a few minutes, and check the \
         user (postgres.PROJECT) and the password first",
    ),
    advice(
        At::Any,
        &[],
        &[
            "failed to retrieve database credentials",
            "too many failed attempts to connect to the database",
        ],
        "the pooler cannot reach the project's database, and refuses logins for a while: look in the dashboard whether the \
         project is paused, restarting or overloaded, and try again in a few minutes",
    ),
    advice(
        At::Any,
        &[],
        &["(ecircuitbreaker)", "circuit breaker open"],
        "the pooler refuses all logins after several that failed, by wrong passwords or because the database did not answer: \
         do not try again for a few minutes, and check the password and the project's state in the dashboard first",
    ),
    advice(
        At::Any,
        &[],
        &["(ebanned)", "tenant is banned"],
        "the pooler has banned the project for the reason in the message: settle it in the dashboard or with Supabase's support",
    ),
    advice(
        At::Any,
        &[],
        &["(eaddrnotallowed)", "address not in tenant allow_list"],
        "the project's network restrictions leave this machine's address out: add it in the dashboard (Database Settings, \
         Network Restrictions)",
    ),
    advice(
        At::Any,
        &[],
        &["(enoidentifier)", "no tenant identifier"],
        "the pooler cannot tell which project is meant: behind it the user is postgres.PROJECT, not postgres; copy the string \
         from the dashboard (Connect, Session pooler): {session}",
    ),
    advice(
        At::Any,
        &[],
        &["(einvaliduserinfo)", "invalid format for user or db_name"],
        "the user or the database has a character that the pooler does not take: copy the string from the dashboard (Connect, \
         Session pooler): {session}",
    ),
    advice(
        At::Any,
        &[],
        &["(enotfound)", "tenant or user not found", "(eauthquery) user not found"],
        "the pooler knows no such project or user: the user is postgres.PROJECT, and region and prefix (aws-0, aws-1) are the \
         project's own, so copy the string from the dashboard (Connect, Session pooler); a paused project has to be restored \
         there first, and the pooler knows it 10 to 15 minutes later",
    ),
    advice(
        At::Any,
        &[],
        &["(emaxconnsession)", "max clients reached in session mode", "maxclientsinsessionmode"],
        "every client of the session pooler holds a connection, and all are taken: close other clients or wait for one to end, \
         use the direct connection, or raise the pool size in the dashboard (Database Settings)",
    ),
    advice(
        At::Any,
        &[],
        &["(eauthquery)", "(eauthsecrets)"],
        "the pooler cannot look up the login in the project's database: look in the dashboard whether the project is paused, \
         restarting or out of connections, and try again in a few minutes",
    ),
    advice(
        At::Any,
        &[],
        &[
            "(epoolterminating)",
            "(edbhandlerexited)",
            "connection to database closed",
            "dbhandler exited",
        ],
        "the pooler has lost the database, which may be restarting: look at the project in the dashboard, and run the command \
         again when it is up",
    ),
];

/// What poolers and servers say that have no connection left, or whose mode does not fit.
const POOLS: &[Advice] = &[
    advice(
        At::Any,
        &[],
        &[
            "(echeckouttimeout)",
            "unable to check out connection from the pool",
            "query_wait_timeout",
        ],
        "the pool is exhausted: no connection to the database became free in time; close other clients or try again later, or \
         use the direct connection",
    ),
    advice(
        At::Any,
        &["42P05", "26000"],
        &["prepared statement"],
        "a transaction pooler is in between and mixes the statements of its clients: use the direct connection or the session \
         pooler: {session}",
    ),
    advice(
        At::Any,
        &[],
        &["(epssimplequery)"],
        "a transaction pooler is in between: use the direct connection or the session pooler: {session}",
    ),
    advice(
        At::Any,
        &[],
        &["(emaxconn)", "max client connections reached", "no more connections allowed"],
        "the pooler takes no more clients: close others, or try again later",
    ),
    advice(
        At::Any,
        &["53300"],
        &[],
        "the server has no connection left: close other clients, or try again later; a pooler in front of it needs fewer",
    ),
    advice(
        At::Any,
        &[],
        &[
            "server login failed",
            "server_login_retry",
            "pgbouncer cannot connect to server",
            "server conn crashed",
        ],
        "the pooler does not get into the database behind it: look whether that is running, and whether the pooler has its \
         user and password",
    ),
    advice(
        At::Any,
        &[],
        &["unsupported startup parameter"],
        "the pooler does not take this setting at the login: leave options= out of the connection string, and PGOPTIONS unset",
    ),
    advice(
        At::Any,
        &[],
        &["client_login_timeout", "(eauthtimeout)"],
        "the pooler did not wait for the end of the login: try again on a faster network, or use the direct connection",
    ),
];

/// What a login is refused with.
const LOGIN: &[Advice] = &[
    advice(
        At::Any,
        &[],
        &["ssl connection is required", "ssl required", "(esslrequired)"],
        "this server takes encrypted connections only: write sslmode=require in the connection string, or set PGSSLMODE=require",
    ),
    advice(
        At::Any,
        &["28000"],
        &["valid client certificate"],
        "the server wants a certificate of this client: name it and its key: sslcert=FILE sslkey=FILE in the connection string, \
         or PGSSLCERT and PGSSLKEY",
    ),
    advice(
        At::Any,
        &["28000"],
        &["certificate authentication failed"],
        "the client certificate is for another user: its common name has to be the user, unless the server's pg_ident.conf says \
         otherwise",
    ),
    advice(
        At::Any,
        &[],
        &["channel binding"],
        "the login cannot be tied to the encryption: a pooler in between cannot do that, and neither can a password that the \
         server keeps as MD5; use the direct connection, or channel_binding=prefer",
    ),
    advice(
        At::Any,
        &["28000"],
        &["no encryption", "ssl off"],
        "this server takes no connection without encryption from here: write sslmode=require in the connection string, or set \
         PGSSLMODE=require; if that is refused, too, its pg_hba.conf needs a line for this user, database and address",
    ),
    advice(
        At::Any,
        &["28000"],
        &["pg_hba.conf"],
        "the server lets this user into this database from other addresses only: its pg_hba.conf needs a line for it",
    ),
    advice(
        At::Pooler,
        &["28P01", "08P01"],
        &["authentication failed", "auth failed"],
        "check before you try again: after two wrong passwords Supabase locks the address out for 30 minutes; behind the pooler \
         the user is postgres.PROJECT; a password that was just reset takes a minute to arrive, and a paused project refuses \
         the right one, too; PGPASSWORD and --password-file need no percent-encoding",
    ),
    advice(
        At::Supabase,
        &["28P01", "08P01"],
        &["authentication failed", "auth failed"],
        "check before you try again: after two wrong passwords Supabase locks the address out for 30 minutes; the user is \
         postgres, without the project, and a service_role or secret key is not the database password, which is reset in the \
         dashboard (Database Settings); PGPASSWORD and --password-file need no percent-encoding",
    ),
    advice(
        At::Any,
        &["28P01", "28000"],
        &[],
        "check the user and the password (PGPASSWORD or --password-file need no percent-encoding); repeated wrong passwords may \
         lock you out for a while",
    ),
    advice(
        At::Any,
        &["08P01"],
        &["authentication failed", "auth failed", "no such user"],
        "the pooler refuses the user or the password (PGPASSWORD or --password-file need no percent-encoding): check both before \
         you try again; behind Supabase's pooler the user is postgres.PROJECT",
    ),
    advice(
        At::Supabase,
        &["3D000"],
        &[],
        "check the name behind the last slash: the database of a Supabase project is called postgres",
    ),
    advice(At::Any, &["3D000"], &[], "check the name behind the last slash"),
    advice(
        At::Any,
        &["08P01"],
        &["no such database"],
        "the pooler has no database of this name: check the name behind the last slash",
    ),
    advice(
        At::Supabase,
        &["57P03"],
        &[],
        "the project's database is starting, stopping or being restored: look at the project in the dashboard, and try again in \
         a few minutes",
    ),
    advice(
        At::Any,
        &["57P03"],
        &[],
        "the server is starting, stopping or recovering: try again in a minute",
    ),
];

/// What stops work that was begun.
const WORK: &[Advice] = &[
    advice(
        At::Any,
        &["57P01", "57P02"],
        &[],
        "the server ended the connection, by a restart or an administrator; nothing was changed: run the command again",
    ),
    advice(
        At::Any,
        &["42501"],
        &["row-level security"],
        "row-level security would hide rows from this role: connect as the tables' owner or as a role with BYPASSRLS (Supabase's \
         postgres has it)",
    ),
    advice(
        At::Any,
        &["42501"],
        &["permission denied to set role"],
        "the user that logs in is no member of that role: GRANT it to the user, or leave --role out",
    ),
    advice(At::Any, &["22023"], &["role "], "check the name of the role behind --role"),
    advice(At::Any, &["42501"], &[], "connect as the owner of Chronicle's tables"),
    advice(
        At::Supabase,
        &["25006"],
        &[],
        "nothing was changed; the project is read-only, since its database is over its size or its disk is nearly full: see \
         Database Settings in the dashboard, and delete rows or enlarge the disk",
    ),
    advice(
        At::Any,
        &["25006"],
        &[],
        "nothing was changed; the database is read-only: connect to the primary if this is a replica, or see who has set \
         default_transaction_read_only; a Supabase project is read-only while it is over its size",
    ),
    advice(
        At::Any,
        &["0A000"],
        &["returning"],
        "a rule of the table changes what is loaded; import into a table without it",
    ),
    advice(
        At::Supabase,
        &["53100"],
        &[],
        "nothing was changed; the project's disk is full: enlarge it in the dashboard (Database Settings), or delete rows and \
         run VACUUM",
    ),
    advice(
        At::Any,
        &["53100"],
        &[],
        "nothing was changed; the server's disk is full: free space on it",
    ),
    advice(
        At::Any,
        &["55P03"],
        &[],
        "another session holds a lock on Chronicle's tables; try again when it is released",
    ),
    advice(At::Any, &["57014"], &[], "the server stopped the statement; nothing was changed"),
];

/// What the network says, or nobody.
const NETWORK: &[Advice] = &[
    advice(
        At::Supabase,
        &[],
        &["connection refused"],
        "if the port is right (5432 or 6543), this machine's address is banned: Supabase refuses an address for 30 minutes after \
         two wrong passwords; see Network Bans in the \
         dashboard (Database Settings) or `supabase network-bans get`, lift the ban there or wait, and check the password \
         before you try again",
    ),
    advice(
        At::Direct,
        &[],
        UNREACHABLE,
        "the direct host of a Supabase project has an IPv6 address only, and none at all while the project is paused: look at \
         the project in the dashboard, and on a network without IPv6 use the session pooler (Connect, Session pooler): \
         {session}",
    ),
    advice(
        At::Pooler,
        &[],
        &["no answer within"],
        "the pool may be exhausted, or a firewall drops what is sent: close other clients or try again later; connect_timeout= in \
         the connection string or PGCONNECT_TIMEOUT sets how long to wait",
    ),
    advice(
        At::Pooler,
        &[],
        &["failed to lookup"],
        "there is no such pooler: region and prefix (aws-0, aws-1) are the project's own, so copy the string from the dashboard \
         (Connect, Session pooler)",
    ),
    advice(
        At::Any,
        &[],
        &["failed to lookup"],
        "the name of the host leads nowhere: check how it is spelled, and whether this machine is online",
    ),
    advice(
        At::Any,
        &[],
        &["no answer within"],
        "check host and port; a firewall may drop what is sent, or a pooler may have no connection left; connect_timeout= in the \
         connection string or PGCONNECT_TIMEOUT sets how long to wait",
    ),
];

/// The errors of a network that has no way to a host.
const UNREACHABLE: &[&str] = &[
    "failed to lookup",
    "could not resolve",
    "network is unreachable",
    "network unreachable",
    "no route to host",
    "cannot assign requested address",
    "no answer within",
];

/// What to do about an error of this server, by its SQLSTATE (empty if it has none) and its words.
pub fn about(info: &ConnInfo, state: &str, words: &str) -> Option<String> {
    let words = words.to_lowercase();
    let has = |word: &&str| words.contains(*word);
    let fits = |advice: &&Advice| {
        (advice.states.is_empty() || advice.states.contains(&state))
            && (advice.words.is_empty() || advice.words.iter().any(has))
            && advice.at.is_at(info)
    };
    let found = TABLE.iter().copied().flatten().find(fits)?;
    Some(found.text.replace("{session}", &session_pooler(info)))
}

/// Every advice that may be given, as the table has it.
pub fn texts() -> impl Iterator<Item = &'static str> {
    TABLE.iter().copied().flatten().map(|advice| advice.text)
}

impl At {
    fn is_at(self, info: &ConnInfo) -> bool {
        match self {
            At::Any => true,
            At::Supabase => info.hosts.iter().any(Host::is_supabase),
            At::Direct => info.hosts.iter().any(|h| h.is_supabase() && h.name.starts_with("db.")),
            At::Pooler => info.hosts.iter().any(is_shared_pooler),
        }
    }
}

fn is_shared_pooler(host: &Host) -> bool {
    host.is_supabase() && host.name.contains(".pooler.")
}

/// The string of the session pooler, as far as it is known: its host holds a prefix that only the dashboard tells.
fn session_pooler(info: &ConnInfo) -> String {
    let project = info.project().unwrap_or("PROJECT");
    let known = info.hosts.iter().find(|host| is_shared_pooler(host));
    let host = known.map_or("aws-0-REGION.pooler.supabase.com", |host| &host.name);
    format!("postgresql://postgres.{project}@{host}:{DEFAULT_PORT}/postgres")
}
