//! What servers, poolers and the network before them say, and what the program makes of it, in full words.

use chronicle_dump::location::{Environment, Location, LoginOptions};
use chronicle_dump::postgres::advice;

use super::same_as_file;
use crate::support::program::Program;
use crate::support::speaker::{Says, Speaker};

/// The project of the strings here.
const PROJECT: &str = "abcdefghijklmnopqrst";
const DIRECT: &str = "db.abcdefghijklmnopqrst.supabase.co";
const POOLER: &str = "aws-1-eu-central-1.pooler.supabase.com";
const OTHER: &str = "pg.example";

/// Errors as they are sent at a login: the host and the user that were asked for, the SQLSTATE, the words.
const SAID: &[(&str, &str, &str, &str)] = &[
    // Supavisor, with the codes of today and with the words of before
    (
        POOLER,
        "postgres.P",
        "XX000",
        "(ECIRCUITBREAKER) too many authentication failures, new connections are temporarily blocked",
    ),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "(ECIRCUITBREAKER) failed to retrieve database credentials after multiple attempts, new connections are temporarily blocked",
    ),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "(ECIRCUITBREAKER) too many failed attempts to connect to the database, new connections are temporarily blocked",
    ),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "Circuit breaker open: Unable to establish connection to upstream database",
    ),
    (POOLER, "postgres.P", "XX000", "(EBANNED) tenant is banned: abuse"),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "(EADDRNOTALLOWED) address not in tenant allow_list: {192, 0, 2, 1}",
    ),
    (
        POOLER,
        "postgres",
        "XX000",
        "(ENOIDENTIFIER) no tenant identifier provided (external_id or sni_hostname required)",
    ),
    (
        POOLER,
        "po=stgres",
        "XX000",
        "(EINVALIDUSERINFO) Authentication error, reason: \"Invalid format for user or db_name\"",
    ),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "(ENOTFOUND) tenant/user postgres.abcdefghijklmnopqrst not found",
    ),
    (POOLER, "postgres", "XX000", "Tenant or user not found"),
    (POOLER, "who.P", "XX000", "(EAUTHQUERY) user not found in the database"),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "(EAUTHQUERY) auth_query connection failed: tcp connect: timeout",
    ),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "(EAUTHSECRETS) failed to retrieve authentication secrets: :timeout",
    ),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "(EMAXCONNSESSION) max clients reached in session mode - max clients are limited to pool_size: 15",
    ),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size",
    ),
    (POOLER, "postgres.P", "XX000", "(EMAXCONN) max client connections reached, limit: 200"),
    (POOLER, "postgres.P", "XX000", "Max client connections reached"),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "(ECHECKOUTTIMEOUT) unable to check out connection from the pool after 60000ms in transaction mode",
    ),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "(EPOOLTERMINATING) pool terminating: the database system is shutting down",
    ),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "(EDBHANDLEREXITED) DbHandler exited. Check logs for more information",
    ),
    (POOLER, "postgres.P", "XX000", "(ESSLREQUIRED) SSL connection is required for user: postgres"),
    (
        POOLER,
        "postgres.P",
        "XX000",
        "(EPSSIMPLEQUERY) transaction mode only supports prepared statements using the Extended Query Protocol",
    ),
    (POOLER, "postgres.P", "08006", "(EAUTHTIMEOUT) timeout while waiting for message"),
    (POOLER, "postgres.P", "28P01", "password authentication failed for user \"postgres\""),
    (POOLER, "postgres.P", "42P05", "(EPREPAREDDUP) prepared statement \"s0\" already exists"),
    // PgBouncer
    (OTHER, "me", "08P01", "SASL authentication failed"),
    (OTHER, "me", "08P01", "no such user"),
    (OTHER, "me", "08P01", "no such database: d"),
    (OTHER, "me", "08P01", "SSL required"),
    (OTHER, "me", "08P01", "query_wait_timeout"),
    (OTHER, "me", "08P01", "client_login_timeout"),
    (OTHER, "me", "08P01", "no more connections allowed (max_client_conn)"),
    (
        OTHER,
        "me",
        "08P01",
        "server login failed: FATAL password authentication failed for user \"me\"",
    ),
    (OTHER, "me", "08P01", "server login has been failing, try again later (server_login_retry)"),
    (OTHER, "me", "08P01", "unsupported startup parameter: options"),
    (DIRECT, "postgres", "08P01", "SASL authentication failed"),
    // PostgreSQL
    (DIRECT, "postgres", "28P01", "password authentication failed for user \"postgres\""),
    (DIRECT, "postgres", "3D000", "database \"d\" does not exist"),
    (DIRECT, "postgres", "57P03", "the database system is not accepting connections"),
    (DIRECT, "postgres", "25006", "cannot execute INSERT in a read-only transaction"),
    (DIRECT, "postgres", "53100", "could not extend file \"base/5/1\": No space left on device"),
    (
        DIRECT,
        "postgres",
        "53300",
        "remaining connection slots are reserved for roles with the SUPERUSER attribute",
    ),
    (OTHER, "me", "28P01", "password authentication failed for user \"me\""),
    (
        OTHER,
        "me",
        "28000",
        "no pg_hba.conf entry for host \"192.0.2.1\", user \"me\", database \"d\", no encryption",
    ),
    (
        OTHER,
        "me",
        "28000",
        "no pg_hba.conf entry for host \"192.0.2.1\", user \"me\", database \"d\", SSL encryption",
    ),
    (OTHER, "me", "28000", "role \"me\" is not permitted to log in"),
    (OTHER, "me", "28000", "connection requires a valid client certificate"),
    (OTHER, "me", "28000", "certificate authentication failed for user \"me\""),
    (OTHER, "me", "3D000", "database \"d\" does not exist"),
    (OTHER, "me", "53300", "sorry, too many clients already"),
    (OTHER, "me", "57P03", "the database system is starting up"),
    (OTHER, "me", "57P01", "terminating connection due to administrator command"),
    (OTHER, "me", "42501", "permission denied to set role \"owner\""),
    (OTHER, "me", "22023", "role \"owner\" does not exist"),
    (OTHER, "me", "42501", "permission denied for table sessions"),
    (
        OTHER,
        "me",
        "42501",
        "query would be affected by row-level security policy for table \"sessions\"",
    ),
    (OTHER, "me", "25006", "cannot execute INSERT in a read-only transaction"),
    (OTHER, "me", "0A000", "cannot perform INSERT RETURNING on relation \"sessions\""),
    (OTHER, "me", "53100", "could not write to file: No space left on device"),
    (OTHER, "me", "55P03", "canceling statement due to lock timeout"),
    (OTHER, "me", "57014", "canceling statement due to user request"),
];

/// Errors of the network that no test can bring about without a network.
const MET: &[(&str, &str)] = &[
    (DIRECT, "failed to lookup address information: No address associated with hostname"),
    (DIRECT, "Network is unreachable (os error 101)"),
    (DIRECT, "Cannot assign requested address (os error 99)"),
    (DIRECT, "No route to host (os error 113)"),
    (POOLER, "failed to lookup address information: Name or service not known"),
    (OTHER, "failed to lookup address information: Name or service not known"),
    (OTHER, "authentication error: server did not use channel binding"),
];

/// The string that leads to a host which is here.
fn string(host: &str, user: &str, port: u16) -> String {
    let user = user.replace(".P", &format!(".{PROJECT}"));
    format!("host={host} hostaddr=127.0.0.1 port={port} user='{user}' dbname=d sslmode=disable")
}

/// The words of an export from there, without its port.
fn words(string: &str, port: u16) -> String {
    let run =
        Program::new(["export"]).arg(string).env("PGCONNECT_TIMEOUT", "1").run().fails_with(7);
    run.stderr.replace("error: export: ", "error: ").replace(&format!(":{port}"), ":PORT")
}

fn captured() -> String {
    let mut all = String::new();
    for (host, user, state, words) in SAID {
        let (state, words) = ((*state).to_owned(), (*words).to_owned());
        all.push_str(&format!("[{host}: {state} {words}]\n"));
        let port = Speaker::new(Says::Fatal { state, words }).port();
        all.push_str(&self::words(&string(host, user, port), port));
        all.push('\n');
    }
    for host in [DIRECT, POOLER, OTHER] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = listener.local_addr().unwrap().port();
        drop(listener);
        all.push_str(&format!(
            "[{host}: nobody listens]\n{}\n",
            words(&string(host, "u", closed), closed)
        ));
        let silent = Speaker::new(Says::Nothing).port();
        all.push_str(&format!(
            "[{host}: says nothing]\n{}\n",
            words(&string(host, "u", silent), silent)
        ));
    }
    for (host, reason) in MET {
        let info = match Location::parse(
            &string(host, "postgres", 5432),
            &Environment { variable: &|_| None, home: None, login: LoginOptions::default() },
        ) {
            Ok(Location::Postgres(info)) => info,
            other => panic!("{other:?}"),
        };
        let hint = advice::about(&info, "", reason).unwrap_or_default();
        all.push_str(&format!("[{host}: {reason}]\nhint: {hint}\n\n"));
    }
    all
}

#[test]
fn every_error_of_a_server_comes_with_a_next_step() {
    let all = captured();
    for part in all.split("\n\n").filter(|part| !part.trim().is_empty()) {
        assert!(part.contains("hint: ") || part.contains("hint: export: "), "{part}");
    }
    for text in advice::texts() {
        let start = text.split('{').next().unwrap_or_default();
        assert!(all.contains(start), "no case brings it: {text}");
    }
    same_as_file("servers.txt", &all);
}

#[test]
fn no_advice_leads_away_from_encryption() {
    for text in advice::texts() {
        for word in ["disable", "allow", "sslmode=prefer", "no-verify", "plaintext"] {
            let network = text.contains("network restrictions");
            assert!(network || !text.contains(word), "{text}");
        }
    }
}
