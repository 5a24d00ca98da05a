//! Builds and checks a [`ConnInfo`] from the string's settings and the environment.

use std::sync::Arc;
use std::time::Duration;

use super::ConnInfo;
use super::given::Given;
use super::hosts;
use super::lookup::{Env, Lookup, variable};
use super::near_miss::usage;
use super::secret::Secret;
use super::service;
use super::tls::TlsSettings;
use super::unmet;
use crate::error::Result;

/// What `connect_timeout=0` ("no limit") becomes: long enough, and safe to add to a clock.
pub const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long a server may owe an answer in silence, unless an option says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// TCP keepalive, as in libpq's four settings; `None` leaves the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keepalives {
    /// Whether to send keepalives.
    pub on: Option<bool>,
    /// The idle time before the first one.
    pub idle: Option<Duration>,
    /// The time between two.
    pub interval: Option<Duration>,
    /// How many may be lost before the connection counts as dead.
    pub count: Option<u32>,
}

/// Fills the gaps in `given` from the environment and checks every setting.
pub(super) fn build(mut given: Given, env: Env<'_>) -> Result<ConnInfo> {
    let password_is_typed = given.values.get("password").is_some_and(|typed| !typed.is_empty());
    service::fill(&mut given, env)?;
    let Given { values, mut notes, .. } = given;
    let lookup = Lookup { values, env };
    let hosts = hosts::find(&lookup)?;
    let user = find_user(&lookup)?;
    let database = find_database(&lookup, &user)?;
    unmet::refuse(&lookup)?;
    let tls = TlsSettings::find(&lookup, &mut notes)?;
    let password = lookup.text("password", "");
    let password = password.map(|p| Secret::checked(p, "connection string")).transpose()?;
    let application_name = lookup.text("application_name", "PGAPPNAME");
    Ok(ConnInfo {
        user,
        database,
        password_is_typed,
        password,
        passfile: lookup.text("passfile", ""),
        variable: None,
        prompt: None,
        asked: Arc::default(),
        role: None,
        tls,
        connect_timeout: find_timeout(&lookup)?,
        application_name: application_name.or_else(|| lookup.text("fallback_application_name", "")),
        options: lookup.text("options", "PGOPTIONS"),
        schema: lookup.text("schema", ""),
        target_session_attrs: lookup.word(
            "target_session_attrs",
            "PGTARGETSESSIONATTRS",
            &["any", "read-write", "read-only", "primary", "standby", "prefer-standby"],
        )?,
        load_balance_hosts: lookup.word(
            "load_balance_hosts",
            "PGLOADBALANCEHOSTS",
            &["disable", "random"],
        )?,
        patience: Some(PATIENCE),
        keepalives: find_keepalives(&lookup)?,
        tcp_user_timeout: lookup
            .get("tcp_user_timeout", "")
            .map(|found| found.span(Duration::from_millis))
            .transpose()?
            .flatten(),
        hosts,
        notes,
    })
}

fn find_user(lookup: &Lookup<'_>) -> Result<String> {
    let system = || ["USER", "LOGNAME", "USERNAME"].iter().find_map(|n| variable(lookup.env, n));
    lookup.text("user", "PGUSER").or_else(system).ok_or_else(|| {
        usage("connection string: it names no user, and neither PGUSER nor USER is set")
            .hint("write postgresql://USER@HOST:5432/DATABASE or set PGUSER")
    })
}

fn find_database(lookup: &Lookup<'_>, user: &str) -> Result<String> {
    let database = lookup.get("dbname", "PGDATABASE");
    match database {
        Some(found) if ConnInfo::looks_like(&found.value) => Err(usage(format!(
            "{}: this is a whole connection string, expected a database name",
            found.place
        ))
        .hint("give that connection string on its own")),
        Some(found) => Ok(found.value),
        // its name is that of the user
        None if ConnInfo::looks_like(user) => Err(usage(
            "connection string: the user is a whole connection string, expected a user name",
        )
        .hint("give that connection string on its own")),
        None => Ok(user.to_owned()),
    }
}

fn find_timeout(lookup: &Lookup<'_>) -> Result<Option<Duration>> {
    let Some(found) = lookup.get("connect_timeout", "PGCONNECT_TIMEOUT") else { return Ok(None) };
    let limit = found.span(Duration::from_secs)?;
    Ok(Some(limit.unwrap_or(NO_LIMIT).min(NO_LIMIT)))
}

fn find_keepalives(lookup: &Lookup<'_>) -> Result<Keepalives> {
    let number = |key| lookup.get(key, "").map(|found| found.number()).transpose();
    Ok(Keepalives {
        on: number("keepalives")?.map(|n| n != 0),
        idle: lookup.seconds("keepalives_idle")?,
        interval: lookup.seconds("keepalives_interval")?,
        count: number("keepalives_count")?.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::postgres::conninfo::SslMode;
    use crate::postgres::conninfo::testing::{assert_refused, env, good};

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
        assert_eq!(info.tls.mode, Some(SslMode::VerifyCa));
        assert_eq!(info.connect_timeout, Some(NO_LIMIT));
        assert_eq!(info.application_name.as_deref(), Some("app"));
        let info = ConnInfo::parse("postgres://me@h:1/d?sslmode=disable&application_name=z", &vars)
            .unwrap();
        assert_eq!(info.redacted(), "postgresql://me@h:1/d");
        assert_eq!(info.tls.mode, Some(SslMode::Disable));
        assert_eq!(info.application_name.as_deref(), Some("z"));
    }

    #[test]
    fn the_default_is_the_local_server_and_the_system_user() {
        let info = good("postgresql://");
        assert_eq!((info.user.as_str(), info.database.as_str()), ("system", "system"));
        assert!([hosts::SOCKET_DIRECTORY, "localhost"].contains(&info.hosts[0].name.as_str()));
        assert_eq!(info.tls.mode, None);
        let nobody = ConnInfo::parse("postgres://h", &|_| None).map(|_| ()).unwrap_err();
        assert!(nobody.to_string().contains("no user"));
    }

    #[test]
    fn nested_strings_are_refused() {
        assert_refused("dbname=postgres://u:Zq7@h/d", "whole connection string");
        assert_refused("host=h user='host=h password=Zq7'", "whole connection string");
    }
}
