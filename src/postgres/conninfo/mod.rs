//! How a PostgreSQL server is named: connection strings, libpq's variables, and the password.
//!
//! The parser is our own because the strings that people really have (dashboards, Prisma, JDBC,
//! Vercel) hold parameters, modes and raw passwords that the driver's parser refuses or misreads.
//! Nothing here connects. No message, note, `Debug` or `Display` ever shows the password. That is
//! why errors about a URL say where it is wrong without quoting it: with a forgotten `@` or an
//! unencoded `/`, a "host" or a "port" may be part of the password.
//!
//! `url` or `keyword_value` reads a string into `given`; `settings` and `hosts` fill the gaps
//! through `lookup`; `pgpass` reads passwords from files and `secret` guards them. `near_miss`
//! refuses what is not a connection string, and `text` encodes and decodes.

mod given;
mod hosts;
mod keyword_value;
mod lookup;
mod near_miss;
mod pgpass;
mod secret;
mod service;
mod settings;
mod text;
mod tls;
mod unmet;
mod url;

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error::Result;
use crate::notice::{Notice, NoticeKind};
use given::Given;
use lookup::variable;
use near_miss::usage;

pub use hosts::{DEFAULT_PORT, Host};
pub use lookup::Env;
pub use pgpass::read_password_file;
pub use secret::Secret;
pub use settings::{Keepalives, NO_LIMIT};
pub use tls::{NamedFile, Proof, Roots, SYSTEM, SslMode, TlsSettings, TlsVersion, Wire};

/// Longer than any string with a token as its password; bounds the search for readings.
const LONGEST_STRING: usize = 64 * 1024;

/// Asks a person for the password of what it is given; None if nobody is there or nothing is typed.
pub type Prompt = fn(String) -> Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// A server, a database and a user, and how to log in. `Debug` and `Display` never show the
/// password.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    /// Where the server is: at least one host, to be tried in order.
    pub hosts: Vec<Host>,
    /// The role to log in as.
    pub user: String,
    /// The database.
    pub database: String,
    /// The role to act as in every transaction, if not the one that logs in.
    pub role: Option<String>,
    password: Option<Secret>,
    prompt: Option<Prompt>,
    /// What was typed at the prompt, for all connections of the command.
    asked: Arc<OnceLock<Secret>>,
    /// Whether the connection string held the password.
    pub password_is_typed: bool,
    passfile: Option<String>,
    variable: Option<String>,
    /// What is asked of the encryption.
    pub tls: TlsSettings,
    /// How long to wait for one host; [`NO_LIMIT`] if the user asked for no limit.
    pub connect_timeout: Option<Duration>,
    /// The name that the server shows for the connection.
    pub application_name: Option<String>,
    /// libpq's `options`, for the startup packet.
    pub options: Option<String>,
    /// The schema that Prisma's `schema` or JDBC's `currentSchema` names.
    pub schema: Option<String>,
    /// `any`, `read-write`, `read-only`, `primary`, `standby` or `prefer-standby`.
    pub target_session_attrs: Option<String>,
    /// `disable` or `random`.
    pub load_balance_hosts: Option<String>,
    /// TCP keepalive.
    pub keepalives: Keepalives,
    /// How long the server may owe an answer in silence before it is asked about; `None` is for ever.
    pub patience: Option<Duration>,
    /// How long sent data may stay unacknowledged.
    pub tcp_user_timeout: Option<Duration>,
    /// What the user should know about how the string was read.
    pub notes: Vec<Notice>,
}

impl ConnInfo {
    /// True if the text looks like a PostgreSQL URL or key=value string, and not like a path.
    ///
    /// Also true for near misses (a Supabase API address, JDBC, SQLAlchemy, MySQL), so that
    /// [`ConnInfo::parse`] can say what is wrong with them.
    pub fn looks_like(text: &str) -> bool {
        let string = text.trim_start();
        let lower = string.to_ascii_lowercase();
        if let Some((scheme, rest)) = lower.split_once("://") {
            match scheme {
                "postgres" | "postgresql" | "mysql" | "mariadb" => return true,
                "http" | "https" => return rest.contains("supabase"),
                _ if near_miss::is_driver_scheme(scheme) => return true,
                _ => {}
            }
        }
        if lower.starts_with("jdbc:postgres") {
            return true;
        }
        let Some((name, _)) = string.split_once('=') else { return false };
        let name = name.trim_end_matches(text::is_space);
        // Prisma's names alone do not make a key=value string of libpq.
        let ours = given::USED.iter().any(|k| *k == name && *k != "schema");
        ours || given::UNUSED.contains(&name)
    }

    /// Reads a connection string and fills what it leaves open from libpq's variables.
    ///
    /// Only the password in the string is read; [`ConnInfo::find_password`] looks everywhere else.
    pub fn parse(text: &str, env: Env<'_>) -> Result<ConnInfo> {
        if text.len() > LONGEST_STRING {
            return Err(usage("the connection string is longer than 64 KiB").hint(near_miss::FORMS));
        }
        let mut given = Given::default();
        let trimmed = text.trim();
        match trimmed.split_once("://") {
            Some((scheme, rest)) if near_miss::is_scheme(scheme) => {
                let scheme = scheme.to_ascii_lowercase();
                if !matches!(scheme.as_str(), "postgres" | "postgresql") {
                    return Err(near_miss::other_scheme(&scheme, rest));
                }
                url::parse(rest, &mut given)?;
            }
            _ if near_miss::is_jdbc(trimmed) => return Err(near_miss::jdbc()),
            _ => keyword_value::parse(text, &mut given)?,
        }
        settings::build(given, env)
    }

    /// Finds the password: `given` (from `--password-file`), else the one in the string, else
    /// PGPASSWORD, else SUPABASE_DB_PASSWORD (if every host is Supabase's), else the pass file
    /// (`passfile=`, PGPASSFILE or `.pgpass` in `home`). Finding none is not an error.
    pub fn find_password(
        &mut self,
        given: Option<String>,
        env: Env<'_>,
        home: Option<&Path>,
    ) -> Result<()> {
        if let Some(given) = given.filter(|given| !given.is_empty()) {
            if self.password.is_some() {
                self.note(
                    NoticeKind::PasswordChosen,
                    "the password from --password-file was used, not the one in the connection \
                     string",
                );
            }
            self.password = Some(Secret::checked(given, "--password-file")?);
        }
        if self.password.is_some() {
            return Ok(());
        }
        let supabase = self.hosts.iter().all(Host::is_supabase);
        for name in ["PGPASSWORD", "SUPABASE_DB_PASSWORD"] {
            // No other server may see the password of the Supabase project.
            if name == "SUPABASE_DB_PASSWORD" && !supabase {
                continue;
            }
            if let Some(value) = variable(env, name) {
                self.password = Some(Secret::checked(value, name)?);
                return Ok(());
            }
        }
        self.search_pass_file(env, home)
    }

    /// The password, for the connector only.
    pub fn password(&self) -> Option<&str> {
        self.secret().map(Secret::reveal)
    }

    fn secret(&self) -> Option<&Secret> {
        self.password.as_ref().or_else(|| self.asked.get())
    }

    /// Lets the password be asked for, if the server wants one and none was found.
    pub fn ask_by(&mut self, prompt: Prompt) {
        self.prompt = Some(prompt);
    }

    /// Asks for the password that was not found, once for all connections.
    ///
    /// # Errors
    /// If what was typed cannot be a password.
    pub async fn ask(&self) -> Result<Option<&str>> {
        let Some(prompt) = self.prompt.filter(|_| self.password().is_none()) else {
            return Ok(None);
        };
        if let Some(typed) = prompt(self.redacted()).await {
            let secret = Secret::checked(typed, "the prompt")?;
            let _ = self.asked.set(secret);
        }
        Ok(self.password())
    }

    /// Notes that the string was not typed: it is the value of this variable.
    pub fn come_from_variable(&mut self, name: &str) {
        self.variable = Some(name.to_owned());
        self.password_is_typed = false;
    }

    /// The variable that holds the string, if that is not what was typed.
    pub fn variable(&self) -> Option<&str> {
        self.variable.as_deref()
    }

    /// The Supabase project of the database, as its host or, behind a pooler, its user names it.
    pub fn project(&self) -> Option<&str> {
        let names = self.hosts.iter().map(|host| host.name.as_str());
        let mut direct = names.filter_map(|n| n.strip_prefix("db.")?.strip_suffix(".supabase.co"));
        let of_user = self.user.split_once('.').map(|(_, project)| project);
        direct.next().or(of_user.filter(|_| self.hosts.iter().any(Host::is_supabase)))
    }

    /// `postgresql://user@host:port/database` without any secret, as `Display` prints it.
    ///
    /// Everything but letters, digits and `-._~` is percent-encoded, so that no control character
    /// reaches a terminal and the text can be parsed again.
    pub fn redacted(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(Host::to_string).collect();
        format!(
            "postgresql://{}@{}/{}",
            text::encode(&self.user),
            hosts.join(","),
            text::encode(&self.database)
        )
    }

    /// [`redacted`](ConnInfo::redacted) with the settings that change what it leads to, or the variable that holds it.
    pub fn to_type(&self) -> String {
        if let Some(name) = &self.variable {
            return format!("env:{name}");
        }
        let schema = self.schema.as_ref().map(|name| format!("schema={}", text::encode(name)));
        let sslmode = self.tls.mode.map(|mode| format!("sslmode={}", mode.word()));
        let settings: Vec<String> = schema.into_iter().chain(sslmode).collect();
        let mark = if settings.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", self.redacted(), settings.join("&"))
    }

    /// Replaces the password by `***` in messages of the server and the driver. Each character may
    /// be raw, percent-encoded or escaped by a backslash.
    ///
    /// A password that is also the name of the user, a host or the database (`postgres:postgres` in
    /// local stacks) stays: those names are shown anyway, and stars in their place would give away
    /// that the password is one of them.
    pub fn scrub(&self, text: &str) -> String {
        match self.secret() {
            Some(password) if !self.is_public_name(password.reveal()) => password.scrub(text),
            _ => text.to_owned(),
        }
    }

    fn is_public_name(&self, text: &str) -> bool {
        text == self.user || text == self.database || self.hosts.iter().any(|h| h.name == text)
    }

    fn note(&mut self, kind: NoticeKind, text: impl Into<String>) {
        self.notes.push(Notice::new(kind, text));
    }
}

impl fmt::Display for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod testing;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::near_miss::is_placeholder;
    use super::testing::{
        HARD, encode_all, env, good, marked, parse, quoted, refusal, visible, words,
    };
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn connection_strings_are_distinguished_from_paths() {
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
    fn passwords_are_looked_up_in_a_fixed_order() {
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
    fn an_overlong_string_is_refused() {
        let long = format!("postgres://u:{}@h/d", "x".repeat(LONGEST_STRING));
        assert!(refusal(&long).contains("64 KiB"));
    }

    #[test]
    fn scrubbing_leaves_public_names_alone() {
        let info = good("postgres://postgres:postgres@h/d");
        let text = "role \"postgres\" does not exist";
        assert_eq!(info.scrub(text), text);
        assert_eq!(good("postgres://u@h/d").scrub(text), text);
    }

    #[test]
    fn control_characters_never_reach_a_terminal() {
        let info = good("postgres://u%1b%5B31m@h/d%0A%E2%80%AE");
        assert_eq!(info.to_string(), "postgresql://u%1B%5B31m@h:5432/d%0A%E2%80%AE");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn a_password_in_any_form_is_read_exactly_and_never_shown(
            password in prop_oneof!["[^\0]{4,20}", HARD],
        ) {
            prop_assume!(!is_placeholder(&password));
            let forms = |p: &str| [
                format!("postgres://u:{}@h/d?max=1", encode_all(p)),
                format!("postgres://u:{}@h/d", text::encode(p)),
                format!("postgres://u@h/d?password={}", text::encode(p)),
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
        fn a_password_in_a_variable_is_read_exactly_and_never_shown(
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
        fn a_redacted_string_can_be_parsed_again(
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
        fn the_parser_never_panics(text in ".{0,80}", tail in HARD) {
            let _ = parse(&text);
            let _ = parse(&format!("postgres://{text}{tail}"));
            let _ = parse(&format!("host={text} {tail}"));
            let _ = ConnInfo::looks_like(&text);
        }
    }
}
