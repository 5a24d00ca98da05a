//! The settings that a connection string gives, under libpq's names.

use std::collections::BTreeMap;

use super::near_miss::{KEEP_PASSWORD_OUT, usage};
use super::text::distance;
use super::unmet;
use crate::error::{Error, Result};
use crate::notice::{Notice, NoticeKind};

/// Settings that are kept or acted upon: libpq's, and Prisma's `schema`.
#[rustfmt::skip] // one word per line would hide the rest of the file
pub(super) const USED: &[&str] = &[
    "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service",
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcertmode", "sslsni",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "sslnegotiation", "connect_timeout", "application_name",
    "fallback_application_name", "options", "channel_binding", "target_session_attrs",
    "load_balance_hosts", "keepalives", "keepalives_idle", "keepalives_interval",
    "keepalives_count", "tcp_user_timeout", "schema",
];

/// Settings that libpq knows and that have no effect here.
#[rustfmt::skip] // one word per line would hide the rest of the file
pub(super) const UNUSED: &[&str] = &[
    "authtype", "client_encoding", "gssdelegation", "gsslib", "krbsrvname", "sslcompression",
];

/// Settings of other clients (Prisma, JDBC, pgx, node, SQLAlchemy, Vercel), meaningless here.
#[rustfmt::skip] // one word per line would hide the rest of the file
const FOREIGN: &[&str] = &[
    "autosave", "binary_parameters", "charset", "connection_limit", "connectTimeout",
    "default_query_exec_mode", "encoding", "endpoint", "idle_in_transaction_session_timeout",
    "idle_timeout", "lock_timeout", "loginTimeout", "max", "max_idle_connection_lifetime",
    "max_lifetime", "max_overflow", "min", "pgbouncer", "pool", "pool_max_conn_idle_time",
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

/// The settings of a connection string before the environment fills the gaps.
#[derive(Default)]
pub(super) struct Given {
    /// Under libpq's names; the last one wins, as with libpq.
    pub(super) values: BTreeMap<&'static str, String>,
    /// What the user should know about how the string was read.
    pub(super) notes: Vec<Notice>,
    /// Set once `password=` was read: an unknown name after it may be part of the password.
    hide_names: bool,
}

impl Given {
    /// Takes one setting, by any client's name for it.
    pub(super) fn set(&mut self, name: &str, value: String) -> Result<()> {
        if value.contains('\0') {
            return Err(usage("the connection string contains a NUL character"));
        }
        let alias = ALIASES.iter().find(|(foreign, _)| *foreign == name).map(|(_, key)| *key);
        let known = USED.iter().copied().chain(unmet::keys());
        match known.into_iter().find(|key| *key == alias.unwrap_or(name)) {
            Some(key) => {
                self.hide_names |= key == "password";
                let value = if name == "ssl" { ssl_word(value) } else { value };
                self.values.insert(key, value);
            }
            None if FOREIGN.contains(&name) => {
                let text = format!("ignored {name} (a setting of another client)");
                self.notes.push(Notice::new(NoticeKind::Ignored, text));
            }
            None if UNUSED.contains(&name) => {
                let text = format!("ignored {name} (it has no effect here)");
                self.notes.push(Notice::new(NoticeKind::Ignored, text));
            }
            None => return Err(self.unknown(name)),
        }
        Ok(())
    }

    /// The refusal of an unknown name, with the nearest known one unless the name may be secret.
    fn unknown(&self, name: &str) -> Error {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if self.hide_names || name.len() > 40 || !name.chars().all(is_plain) {
            return usage("connection string: a parameter is unknown; its name is not shown")
                .hint(format!("if it is part of the password, {KEEP_PASSWORD_OUT}"));
        }
        let known = USED.iter().chain(UNUSED).chain(FOREIGN).copied().chain(unmet::keys());
        let near = known.min_by_key(|key| distance(key, name)).unwrap_or_default();
        usage(format!(
            "connection string: unknown parameter {name:?}; the nearest known one is {near:?}"
        ))
        .hint(format!("write {near}=... or leave {name}=... out"))
    }
}

/// The `sslmode` for JDBC's and node's `ssl=true` and asyncpg's `ssl=require`.
fn ssl_word(value: String) -> String {
    match value.as_str() {
        "true" | "1" | "on" => "require".to_owned(),
        "false" | "0" | "off" => "disable".to_owned(),
        _ => value,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::postgres::conninfo::SslMode;
    use crate::postgres::conninfo::testing::{good, refusal};

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
            let expected = format!("ignored {name} (a setting of another client)");
            assert_eq!(info.notes[0].text, expected, "the note names the setting, not its value");
        }
        let info = good("postgres://u@h/d?sslmode=no-verify&gssencmode=disable");
        assert_eq!(info.tls.mode, Some(SslMode::Require));
        assert!(info.notes.iter().any(|n| n.text == "sslmode=no-verify read as require"));
        assert_eq!(good("postgres://u@h/d?ssl=true").tls.mode, Some(SslMode::Require));
    }

    #[test]
    fn an_unknown_parameter_is_named_with_the_nearest_known_one() {
        let message = refusal("postgres://u:pw12@h/d?ssl_mode=Zq7");
        assert!(message.contains("\"ssl_mode\"") && message.contains("\"sslmode\""), "{message}");
        assert!(!message.contains("Zq7"), "{message}");
        assert!(refusal("hots=localhost user=u").contains("\"host\""));
        assert!(!refusal("postgres://u@h/d?password=Zq7&Xk9=1").contains("Xk9"));
        assert!(refusal("postgres://u@h/d?flag").contains("no '='"));
    }

    #[test]
    fn no_setting_is_listed_twice() {
        let listed = USED.iter().chain(UNUSED).chain(FOREIGN).copied();
        let mut all: Vec<_> = listed.chain(unmet::keys()).collect();
        let len = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), len);
    }
}
