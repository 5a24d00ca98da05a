//! What people type or paste where a database is expected: what is understood although it is no
//! plain name, what it looks like if it is not, and what must not be repeated in a message.

use crate::error::{Code, Error};

/// How a server is named, without its password.
const FORMS: &str = "write postgresql://USER@HOST:5432/DATABASE, with the password in PGPASSWORD or \
                     in a --password-file FILE";

/// Where the string of a Supabase project is.
const CONNECT: &str = "in the dashboard press Connect, choose \"Session pooler\" and give that string: \
                       postgresql://postgres.PROJECT@aws-0-REGION.pooler.supabase.com:5432/postgres, with the database \
                       password in PGPASSWORD or in a --password-file FILE; the service_role or secret key is not the \
                       database password";

/// Words that stand in front of passwords.
const SECRET_WORDS: [&str; 6] = ["passw", "pwd", "pgpass", "secret", "token", "apikey"];

/// Characters that stand beside passwords in connection strings, or stand for such characters.
const SECRET_SIGNS: [&str; 5] = ["@", ":", "=", "%3a", "%40"];

/// What stands in a pasted `NAME=value`, `export NAME="value"` or within quotes; None if nothing is
/// around the text.
pub fn unwrapped(text: &str) -> Option<&str> {
    let mut inner = text.trim();
    if let Some((name, value)) = assignment(inner)
        && (is_variable(name) || is_url(unquoted(value.trim())))
    {
        inner = value.trim();
    }
    inner = unquoted(inner);
    (inner != text.trim()).then_some(inner)
}

/// The name and the value of `NAME=value`, also behind `export`.
fn assignment(text: &str) -> Option<(&str, &str)> {
    let commands = ["export ", "set ", "setx ", "$env:"];
    let text = commands.iter().find_map(|word| text.strip_prefix(word)).unwrap_or(text);
    let (name, value) = text.split_once('=')?;
    is_name(name.trim()).then_some((name.trim(), value))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether a name is written as variables of the environment are: `DATABASE_URL`, `PGPASSWORD`.
fn is_variable(name: &str) -> bool {
    is_name(name) && name.len() > 1 && !name.contains(|c: char| c.is_ascii_lowercase())
}

fn is_url(text: &str) -> bool {
    let start = text.get(..13).unwrap_or(text).to_ascii_lowercase();
    start.starts_with("postgres://") || start.starts_with("postgresql://")
}

/// The text within a pair of quotes.
fn unquoted(text: &str) -> &str {
    let within = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    ['"', '\'', '`'].into_iter().find_map(within).unwrap_or(text)
}

/// What stands behind `env:`: the name of a variable that holds the database.
pub fn variable(text: &str) -> Option<&str> {
    text.trim().strip_prefix("env:")
}

/// A variable as a message names it; what is not written like one may be anything.
pub fn shown_variable(name: &str) -> String {
    if is_variable(name) { format!("the variable {name}") } else { "this variable".to_owned() }
}

/// The value of a variable that holds a database; no message repeats it.
///
/// # Errors
/// If there is no such variable, or nothing in it, or what cannot lead to a database.
pub fn value(name: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, Error> {
    const NAMED: &str = "write env:NAME with the name of a variable that holds a connection string or the path of a .db \
                         file: env:DATABASE_URL";
    let usage = |what: String| Error::new(Code::Usage, what);
    if !is_name(name) {
        return Err(usage("behind env: there is no name of a variable".to_owned()).hint(NAMED));
    }
    let shown = shown_variable(name);
    let Some(value) = variable(name) else {
        return Err(usage(format!("{shown} is not set")).hint(
            "set it and export it (export NAME=…) in the shell or unit that runs this command, or name the database",
        ));
    };
    let start = value.trim().get(..8).unwrap_or(value.trim()).to_ascii_lowercase();
    if start.is_empty() {
        return Err(usage(format!("{shown} is empty")).hint(
            "a variable that was set from another one is empty if that is not set; give it a connection string",
        ));
    }
    // a project's own domain does not tell that it is Supabase's; the variable does
    let is_address = start.starts_with("http") && name.contains("SUPABASE");
    if start.starts_with("eyj") || start.starts_with("sb_") || start.starts_with("sbp_") {
        return Err(usage(format!("{shown} holds a key, not a connection string")).hint(CONNECT));
    }
    if is_address && !value.contains("supabase") {
        let what = format!("{shown} holds the address of a project's API, not of its database");
        return Err(usage(what).hint(CONNECT));
    }
    Ok(value)
}

/// The error of a variable whose value leads nowhere.
pub fn leads_nowhere(name: &str) -> Error {
    let what = "holds neither a connection string nor the path of a file that exists";
    Error::new(Code::NotFound, format!("{} {what}", shown_variable(name))).hint(FORMS)
}

/// Whether a name may hold a secret, so that a message does not repeat it unless a file is called so.
pub fn may_be_secret(name: &str) -> bool {
    // a bare env: would hide itself in the message about it
    if variable(name).is_some_and(|name| name.is_empty() || is_variable(name)) {
        return false;
    }
    let lower = name.to_ascii_lowercase();
    let has_sign = SECRET_SIGNS.iter().any(|sign| lower.contains(sign));
    // a word of that kind says something only if something follows that it may name
    let names_one =
        |word: &str| lower.find(word).is_some_and(|at| lower[at..].contains(['=', ':', ' ', '\t']));
    let has_sign = has_sign || SECRET_WORDS.into_iter().any(names_one);
    name.len() > 2 && (has_sign || look(name).is_some())
}

/// Refuses a text that names no file and looks like a mangled connection string; the error says what
/// it looks like and how to write it, and repeats nothing of it.
///
/// # Errors
/// If it looks like one.
pub fn refuse_mangled(text: &str) -> Result<(), Error> {
    match look(text.trim()) {
        Some((what, "")) => Err(Error::new(Code::Usage, what).hint(FORMS)),
        Some((what, how)) => Err(Error::new(Code::Usage, what).hint(format!("{how}: {FORMS}"))),
        None => Ok(()),
    }
}

/// What a text looks like, if it is not a name, and what to do about it.
fn look(text: &str) -> Option<(&'static str, &'static str)> {
    const COMMANDS: [&str; 4] = ["psql", "pg_dump", "pg_restore", "pgcli"];
    let lower = text.to_ascii_lowercase();
    let has = |sign: &str| lower.contains(sign);
    let is_command =
        |word: &&str| lower.strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', '\t']));
    let is_path = text.starts_with("./") || text.starts_with("../");
    let behind_at = text.rsplit_once('@').map(|(login, _)| login);
    let secret_word = SECRET_WORDS.iter().filter_map(|word| lower.find(word)).min();
    Some(match () {
        () if COMMANDS.iter().any(is_command) => (
            "this looks like a command, not like the name of a database",
            "give the connection string alone",
        ),
        () if lower.starts_with("sqlite:") && has("://") => (
            "this looks like the URL of a server behind sqlite:, which is for files",
            "leave sqlite: out",
        ),
        () if has("postgres://") || has("postgresql://") => {
            ("this looks like a PostgreSQL URL with something in front of it", "give the URL alone")
        }
        () if has("://") => {
            ("this looks like a URL, but not like that of a PostgreSQL database", "")
        }
        () if has("%3a") || has("%40") => (
            "this looks like a connection string that is percent-encoded as a whole",
            "encode only special characters within its parts",
        ),
        () if behind_at.is_some_and(|login| login.contains(':')) => {
            ("this looks like a URL without its beginning", "")
        }
        () if assignment(text).is_some_and(|(name, _)| is_variable(name)) => (
            "this looks like a variable and its value, and the value names no database",
            "set the variable before the command, and name the database",
        ),
        () if !is_path
            && (text.matches('=').count() > 1 || has("=") && text.contains([';', '"'])) =>
        {
            ("this looks like a connection string of another program", "")
        }
        () if !is_path && text.matches(':').count() >= 4 => (
            "this looks like a line of a pass file",
            "leave it in ~/.pgpass, where it is found, and name the database",
        ),
        () if secret_word.is_some_and(|at| text[at..].contains(['=', ':'])) => {
            ("this looks like a password, not like the name of a database", "")
        }
        () if unquoted(text) != text => ("this name is within quotes", "leave them out"),
        () => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_value_is_taken_out_of_what_is_around_it() {
        for (text, inner) in [
            ("DATABASE_URL=postgres://u@h/d", Some("postgres://u@h/d")),
            ("  export DATABASE_URL='postgres://u@h/d' ", Some("postgres://u@h/d")),
            ("db_url = \"PostgreSQL://u@h\"", Some("PostgreSQL://u@h")),
            ("\"postgres://u@h/d\"", Some("postgres://u@h/d")),
            ("'host=h user=u'", Some("host=h user=u")),
            ("PGPASSWORD=x", Some("x")),
            ("postgres://u@h/d", None),
            ("host=h", None),
            ("a b.db", None),
            ("run=5.db", None),
        ] {
            assert_eq!(unwrapped(text), inner, "{text}");
        }
    }

    #[test]
    fn names_of_files_are_no_connection_strings() {
        for name in [
            "chronicle.db",
            "./a/b.db",
            "/data/2025-08-19 12:30.db",
            "run=5.db",
            "me@home.db",
            "x:y",
            "../o'brien.db",
            "passwords.db",
            "~/über.db",
            "C:\\a.db",
            "",
        ] {
            assert!(refuse_mangled(name).is_ok(), "{name}");
        }
    }
}
