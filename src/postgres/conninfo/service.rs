//! Service files: settings under a name, as libpq reads them (chapter "The Connection Service File" of its manual).

use std::path::{Path, PathBuf};

use super::given::Given;
use super::lookup::{Env, variable};
use super::near_miss::usage;
use crate::error::{Code, Error, Result};
use chronicle_archive::{show_path, show_text};

/// Where distributions keep the file of all users, unless PGSYSCONFDIR names the folder.
const FOLDERS: &[&str] = &["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/etc"];

/// Adds the settings of the service that the string or PGSERVICE names, where the string does not have its own.
pub(super) fn fill(given: &mut Given, env: Env<'_>) -> Result<()> {
    let named = given.values.remove("service").filter(|name| !name.is_empty());
    let Some(name) = named.or_else(|| variable(env, "PGSERVICE")) else { return Ok(()) };
    let mut read = Vec::new();
    for path in places(env) {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => {
                let what = format!("service file {}: cannot be read", show_path(path.display()));
                return Err(Error::new(Code::NotFound, what).because(e));
            }
        };
        if let Some(service) = find(&text, &name, &path)? {
            given.notes.extend(service.notes);
            for (key, value) in service.values {
                // an empty one is none
                let own = given.values.entry(key).or_default();
                if own.is_empty() {
                    *own = value;
                }
            }
            return Ok(());
        }
        read.push(show_path(path.display()));
    }
    let place = match &read[..] {
        [] => "there is no service file".to_owned(),
        read => format!("it is not in {}", read.join(" or ")),
    };
    Err(usage(format!("there is no service {:?}: {place}", show_text(&name)))
        .hint("services are sections like [NAME] in ~/.pg_service.conf, or in the file that PGSERVICEFILE names"))
}

/// The files, in the order in which they are searched.
fn places(env: Env<'_>) -> Vec<PathBuf> {
    let of_user = variable(env, "PGSERVICEFILE").map(PathBuf::from);
    let home = || variable(env, "HOME").map(|home| Path::new(&home).join(".pg_service.conf"));
    let folders = match variable(env, "PGSYSCONFDIR") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => FOLDERS.iter().map(PathBuf::from).collect(),
    };
    let of_all = folders.into_iter().map(|folder| folder.join("pg_service.conf"));
    of_user.or_else(home).into_iter().chain(of_all).collect()
}

/// The settings of one section; `None` if the file does not have it.
fn find(text: &str, name: &str, path: &Path) -> Result<Option<Given>> {
    let (mut found, mut is_inside) = (None, false);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if is_inside {
                break;
            }
            is_inside = section == name;
            if is_inside {
                found = Some(Given::default());
            }
            continue;
        }
        let Some(given) = found.as_mut().filter(|_| is_inside) else { continue };
        let refused = |why: &str| usage(format!("{}:{number}: {why}", show_path(path.display())));
        if line.starts_with("ldap:") {
            return Err(refused("services from LDAP are not supported")
                .hint("write the settings themselves into the section"));
        }
        match line.split_once('=') {
            None => return Err(refused("expected NAME=VALUE").hint("one setting in each line")),
            Some((key, _)) if key.trim() == "service" => {
                return Err(refused("a service cannot name another one").hint("leave it out"));
            }
            Some((key, value)) => {
                let set = given.set(key.trim(), value.trim().to_owned());
                set.map_err(|e| e.at(format!("{}:{number}", show_path(path.display()))))?;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::postgres::conninfo::testing::{env, words};
    use crate::postgres::conninfo::{ConnInfo, SslMode};

    const FILE: &str = "# ours\n[other]\nhost=elsewhere\n\n[prod]\nhost = pg.example \nport=5433\nuser=me\n\
                        password=Zq7\nsslmode=require\n[more]\nhost=x\n";

    fn with_file(
        text: &str,
        string: &str,
        more: &[(&str, &str)],
    ) -> crate::error::Result<ConnInfo> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".pg_service.conf"), text).unwrap();
        let home = folder.path().display().to_string();
        let vars: Vec<_> = [("HOME", home.as_str()), ("PGSYSCONFDIR", home.as_str())]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        ConnInfo::parse(string, &env(&vars))
    }

    #[test]
    fn a_service_fills_what_the_string_leaves_open() {
        for (string, vars) in [
            ("service=prod dbname=d", &[][..]),
            ("postgres:///d?service=prod", &[]),
            ("postgres:///d", &[("PGSERVICE", "prod"), ("PGHOST", "not.this")]),
        ] {
            let info = with_file(FILE, string, vars).unwrap();
            assert_eq!(info.redacted(), "postgresql://me@pg.example:5433/d", "{string}");
            assert_eq!(info.tls.mode, Some(SslMode::Require));
            assert_eq!(info.password(), Some("Zq7"));
            assert!(!info.password_is_typed, "it is in a file");
        }
        let own = with_file(FILE, "service=prod dbname=d host=h user=u", &[]).unwrap();
        assert_eq!(own.redacted(), "postgresql://u@h:5433/d");
    }

    #[test]
    fn a_service_that_cannot_be_read_is_refused() {
        for (file, string, reason) in [
            (FILE, "service=none", "no service \"none\""),
            ("[prod]\nhost\n", "service=prod", ":2: expected NAME=VALUE"),
            ("[prod]\nhots=h\n", "service=prod", "\"host\""),
            ("[prod]\nservice=other\n", "service=prod", "cannot name another one"),
            ("[prod]\nldap://h/x\n", "service=prod", "LDAP"),
        ] {
            let refused = words(&with_file(file, string, &[]).unwrap_err());
            assert!(refused.contains(reason), "{reason}: {refused}");
        }
    }
}
