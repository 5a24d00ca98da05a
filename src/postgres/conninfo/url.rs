//! `postgresql://` URLs, also those whose password was pasted without encoding it.

use super::given::Given;
use super::hosts::{is_host_char, is_ipv6};
use super::near_miss::{KEEP_PASSWORD_OUT, usage};
use super::text::{decode, encode};
use crate::error::{Error, Result};
use crate::notice::{Notice, NoticeKind};

/// Characters that end a part of a URL, so a password must encode them.
const STRUCTURE: [char; 4] = ['@', '/', '?', '#'];

/// One way to read what follows `postgresql://`; every part is still encoded.
struct Reading<'a> {
    user: &'a str,
    password: Option<&'a str>,
    hosts: Vec<(&'a str, &'a str)>,
    database: &'a str,
    query: &'a str,
}

/// Reads a URL; its password may be unencoded as long as the URL can be read in only one way.
///
/// Any `@` may end the password, or there is none at all. A reading is possible if the text after
/// the password looks like hosts, a database and parameters. Two possible readings are refused: a
/// wrong guess would send the password, or part of it, to another host.
pub(super) fn parse(rest: &str, given: &mut Given) -> Result<()> {
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
        return Err("the user name contains one of the characters @ / ? # unencoded");
    }
    if user.contains(['[', '<']) {
        return Err("the user name still contains a placeholder in brackets");
    }
    let end = tail.find(['/', '?']).unwrap_or(tail.len());
    let (hosts, tail) = tail.split_at(end);
    let hosts = read_hosts(hosts)?;
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let database = path.strip_prefix('/').unwrap_or(path);
    // libpq would accept "word@host:5432/db" as a name. Nobody has such a database; it is what an
    // unencoded '/' in a password looks like.
    if database.split_once('@').is_some_and(|(_, host)| host.contains([':', '/'])) {
        return Err("the database name contains '@' followed by ':' or '/' unencoded");
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.%".contains(c);
    let mut names = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(n, _)| n));
    if !names.all(|name| name.chars().all(is_name)) {
        return Err("a parameter name after '?' contains a character that no parameter name has");
    }
    Ok(Reading { user, password, hosts, database, query })
}

/// Splits `host1:1,[::1]:2` into hosts and ports, both possibly empty.
fn read_hosts(text: &str) -> std::result::Result<Vec<(&str, &str)>, &'static str> {
    let mut hosts = Vec::new();
    for item in text.split(',') {
        let (host, port) = match item.strip_prefix('[') {
            Some(inner) => {
                let (host, port) = inner.split_once(']').ok_or("a '[' has no matching ']'")?;
                // A zone is written "%25eth0".
                if !is_ipv6(&host.replace("%25", "%")) {
                    return Err(match host.contains(':') {
                        true => "a host in brackets is not an IPv6 address",
                        false => "a host still contains a placeholder in brackets",
                    });
                }
                (host, port)
            }
            None => item.split_at(item.find(':').unwrap_or(item.len())),
        };
        let digits = port.strip_prefix(':').or(port.is_empty().then_some(""));
        let Some(port) = digits.filter(|text| text.bytes().all(|b| b.is_ascii_digit())) else {
            return Err("the text after the ':' of a host is not a port number");
        };
        if host.contains(['[', '<']) {
            return Err("a host still contains a placeholder in brackets");
        }
        if !host.contains(':') && !host.chars().all(|c| is_host_char(c) || c == '%') {
            return Err("a host contains a character that no host name has");
        }
        hosts.push((host, port));
    }
    match hosts.len() > 1 && hosts.iter().any(|(host, _)| host.is_empty()) {
        true => Err("the list of hosts has an empty element"),
        false => Ok(hosts),
    }
}

/// Decodes the only possible reading.
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
        // An empty element means the default port, not PGPORT, as with libpq.
        let ports: Vec<_> = reading.hosts.iter().map(|(_, port)| *port).collect();
        given.set("port", ports.join(","))?;
    }
    for pair in reading.query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(usage("connection URL: a parameter after '?' has no '='").hint(url_hint()));
        };
        let name = decode(name, "parameter name")?;
        let what = if name == "password" { "password" } else { "parameter value" };
        let value = decode(value, what)?;
        given.set(&name, value)?;
    }
    Ok(())
}

/// The password before the `@`: decoded, or verbatim if it clearly was not encoded.
fn decode_password(text: &str, notes: &mut Vec<Notice>) -> Result<String> {
    let raw: Vec<_> = STRUCTURE.into_iter().filter(|c| text.contains(*c)).collect();
    if raw.is_empty() {
        return decode(text, "password");
    }
    if text.contains('%') {
        return Err(usage(
            "connection URL: the password contains both '%' and unencoded special characters, so \
             it is unclear whether '%' starts an escape",
        )
        .hint(format!("{}, % as %25; or {KEEP_PASSWORD_OUT}", encoding_of(&raw))));
    }
    let note = format!(
        "the password in the URL is not encoded; it was read up to the last possible '@'; to be \
         safe, {}",
        encoding_of(&raw)
    );
    notes.push(Notice::new(NoticeKind::UnencodedPassword, note));
    Ok(text.to_owned())
}

/// "write @ as %40, / as %2F": each character once, so the order in the password stays secret.
fn encoding_of(raw: &[char]) -> String {
    let each: Vec<_> = raw.iter().map(|c| format!("{c} as {}", encode(&c.to_string()))).collect();
    format!("write {}", each.join(", "))
}

fn two_readings() -> Error {
    usage("connection URL: it can be read in more than one way, because of an unencoded '@'").hint(
        format!(
            "write @ as %40, / as %2F, ? as %3F, # as %23 wherever they are part of a name, a \
             password or a value; or {KEEP_PASSWORD_OUT}"
        ),
    )
}

fn stray_hash() -> Error {
    usage("connection URL: it contains a '#' where none is allowed")
        .hint(format!("if it is part of the password, write it as %23; or {KEEP_PASSWORD_OUT}"))
}

fn url_hint() -> String {
    format!(
        "the form is postgresql://USER:PASSWORD@HOST:5432/DATABASE, with special characters of \
         user and password percent-encoded (@ as %40, / as %2F, : as %3A); or {KEEP_PASSWORD_OUT}"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::postgres::conninfo::testing::{
        assert_refused, good, marked, parse as parse_string, refusal, visible, words,
    };
    use crate::postgres::conninfo::{Roots, SslMode};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn a_url_gives_host_port_user_database_and_settings() {
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
        assert_eq!(info.tls.mode, Some(SslMode::VerifyFull));
        assert_eq!(info.tls.roots(), Some(&Roots::File("/ca.pem".into())));
        assert_eq!(info.connect_timeout, Some(Duration::from_secs(7)));
        assert_eq!(info.options.as_deref(), Some("reference=abc"));
        assert_eq!(info.schema.as_deref(), Some("app"));
        assert_eq!(info.keepalives.on, Some(false));
        assert_eq!(info.keepalives.idle, Some(Duration::from_secs(30)));
        assert_eq!(info.tcp_user_timeout, Some(Duration::from_millis(1500)));
        assert!(info.notes.is_empty(), "{:?}", info.notes);
        assert_eq!(
            info.to_string(),
            "postgresql://postgres.abc@aws-0-eu.pooler.supabase.com:5432/post%20gres"
        );
    }

    #[test]
    fn an_unencoded_password_is_read_if_only_one_reading_exists() {
        for password in ["p@ss:w/rd#1", "a@@b", "x?y", "#", "@", "/z/", "50/x", "a:b/c", "w rd/"] {
            let info =
                good(&format!("postgres://u:{password}@host.example:5432/db?sslmode=require"));
            assert_eq!(info.password(), Some(password));
            assert_eq!(info.redacted(), "postgresql://u@host.example:5432/db");
            assert!(info.notes[0].text.contains("not encoded"), "{:?}", info.notes);
        }
        assert!(good("postgres://u:a:b@h/d").notes.is_empty(), "a colon needs no encoding");
    }

    #[test]
    fn a_url_with_two_readings_is_refused_with_a_way_out() {
        for text in [
            "postgres://u:Zq7@Xk9/Wv3@host",
            "postgres://u:1234/Wv3@host",
            "postgres://u:Zq7@host/db?application_name=me@work",
            "postgres://u:5432?password=Zq7@host",
            "postgres://u:Zq7@host:99999/db?options=a@b",
        ] {
            let message = refusal(text);
            assert!(message.contains("more than one way") && message.contains("%40"), "{message}");
            assert!(!message.contains("Zq7") && !message.contains("Wv3"), "{message}");
        }
    }

    #[test]
    fn a_broken_url_is_explained_but_not_repeated() {
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
        ] {
            assert_refused(text, reason);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn an_unencoded_password_is_read_exactly_or_refused_unseen(
            password in marked(),
            host in prop_oneof!["h", "h:6000", "[::1]:6000", "h1:1,h2:2"],
            tail in prop_oneof!["", "/db", "/db\\?sslmode=require", "\\?max=1"],
        ) {
            match parse_string(&format!("postgres://u:{password}@{host}{tail}")) {
                Ok(info) => {
                    // It looks like an encoded one, so it is decoded.
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
    }
}
