//! Passwords in files: libpq's pass file and `--password-file`.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::ConnInfo;
use super::hosts::SOCKET_DIRECTORY;
use super::lookup::{Env, variable};
use super::near_miss::usage;
use super::secret::Secret;
use crate::error::{Code, Error, Result};
use crate::notice::NoticeKind;
use chronicle_archive::show_path;

/// Longer than the first line of any password file, and than any pass file.
const LONGEST_FILE: u64 = 1024 * 1024;

impl ConnInfo {
    /// Searches the pass file. Like libpq it skips a file that cannot be used: the server may not
    /// ask for a password at all.
    pub(super) fn search_pass_file(&mut self, env: Env<'_>, home: Option<&Path>) -> Result<()> {
        let named = self.passfile.clone().or_else(|| variable(env, "PGPASSFILE"));
        let explicit = named.is_some();
        let Some(path) = named.map(PathBuf::from).or_else(|| home.map(|h| h.join(".pgpass")))
        else {
            return Ok(());
        };
        let place = format!("pass file {}", show_path(path.display()));
        match read_pass_file(&path) {
            Ok(bytes) => self.take_from_pass_file(&bytes, &place)?,
            // Without PGPASSFILE, a missing ~/.pgpass is normal.
            Err(_) if !explicit && !path.exists() => {}
            Err(why) => self.note(NoticeKind::Ignored, format!("{place} ignored: {why}")),
        }
        Ok(())
    }

    /// Takes the first line that matches. There is one password for all hosts, so the first host
    /// with a matching line decides.
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
            self.password = Some(Secret::checked(password, place)?);
        }
        Ok(())
    }
}

/// Reads `--password-file`: its first line, without the line ending.
///
/// Refuses a file that other users can read, and one whose first line is empty. A pipe
/// (`<(pass db)`) has no other readers, so its mode does not matter.
pub fn read_password_file(path: &Path) -> Result<String> {
    let shown = format!("password file {}", show_path(path.display()));
    let unreadable = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let code = if missing { Code::NotFound } else { Code::Connect };
        Error::new(code, format!("{shown}: cannot be read: {}", error.kind()))
            .hint("give a file whose first line is the password, or set PGPASSWORD")
    };
    let file = File::open(path).map_err(unreadable)?;
    // Checks the open file, not the path: it cannot be swapped in between.
    let meta = file.metadata().map_err(unreadable)?;
    if meta.is_file() && others_may_read(&meta) {
        return Err(usage(format!("{shown}: other users of this machine can read it"))
            .hint(format!("type: {}", chmod(path))));
    }
    let bytes = read_limited(&file).map_err(unreadable)?;
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // Some editors write a byte order mark, and no password begins with one.
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    let line = std::str::from_utf8(line)
        .map_err(|_| usage(format!("{shown}: its first line is not UTF-8")))?;
    if line.is_empty() {
        return Err(usage(format!("{shown}: its first line is empty, expected the password"))
            .hint("write the password, and nothing else, on the first line"));
    }
    Ok(line.to_owned())
}

/// The bytes of a pass file, or why libpq would not read it.
fn read_pass_file(path: &Path) -> std::result::Result<Vec<u8>, String> {
    let kind = |error: std::io::Error| error.kind().to_string();
    // Checked before opening it, because opening a pipe would wait for its writer.
    let meta = path.metadata().map_err(kind)?;
    if !meta.is_file() {
        return Err("it is not a plain file".to_owned());
    }
    if others_may_read(&meta) {
        return Err(format!("other users can read it; type: {}", chmod(path)));
    }
    File::open(path).and_then(|file| read_limited(&file)).map_err(kind)
}

/// The password of a line `host:port:database:user:password` if its first four fields match.
fn match_pass_line(line: &str, key: &[&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let rest = key.iter().try_fold(line, |rest, token| match_pass_field(rest, token))?;
    let mut password = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            // An unescaped colon ends the password; libpq reserves the rest for later versions.
            ':' => break,
            '\\' => password.push(chars.next().unwrap_or('\\')),
            c => password.push(c),
        }
    }
    Some(password)
}

/// The text after a field that is `*` or, once unescaped, equals the token.
fn match_pass_field<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    if let Some(rest) = text.strip_prefix("*:") {
        return Some(rest);
    }
    let mut chars = text.chars();
    let mut expected = token.chars();
    loop {
        let c = chars.next()?;
        if c == ':' && expected.as_str().is_empty() {
            return Some(chars.as_str());
        }
        let c = if c == '\\' { chars.next()? } else { c };
        if expected.next()? != c {
            return None;
        }
    }
}

/// The command that makes a file private, quoted for a shell.
fn chmod(path: &Path) -> String {
    format!("chmod 600 '{}'", show_path(path.display()).replace('\'', "'\\''"))
}

/// Reads at most [`LONGEST_FILE`] bytes, because a device may never end.
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
    use crate::postgres::conninfo::near_miss::is_placeholder;
    use crate::postgres::conninfo::testing::{HARD, good, visible};
    #[cfg(unix)]
    use crate::postgres::conninfo::testing::{env, private_file, words};
    use proptest::prelude::*;

    #[test]
    #[cfg(unix)]
    fn the_first_matching_line_of_the_pass_file_counts() {
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
    fn an_unusable_pass_file_is_skipped_with_a_note() {
        let open = private_file("*:*:*:*:Zq7Zq7\n", 0o644);
        let home = tempfile::tempdir().unwrap();
        let notes = |text: String, home: Option<&Path>| {
            let mut info = good(&text);
            info.find_password(None, &env(&[]), home).unwrap();
            assert_eq!(info.password(), None);
            info.notes
        };
        let message = notes(format!("host=h passfile={}", open.path().display()), None);
        let text = &message[0].text;
        assert!(text.contains("chmod 600") && !text.contains("Zq7"), "{message:?}");
        assert!(notes("host=h passfile=/".to_owned(), None)[0].text.contains("plain file"));
        assert!(notes("host=h passfile=/no/such".to_owned(), None)[0].text.contains("ignored"));
        assert!(notes("host=h".to_owned(), Some(home.path())).is_empty());
    }

    #[test]
    #[cfg(unix)]
    fn a_password_file_gives_its_first_line_only() {
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

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn a_pass_file_line_gives_its_password_exactly(
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
            // A user "#..." cannot start a comment: the host comes first.
            info.take_from_pass_file(line.as_bytes(), "pass file").unwrap();
            prop_assert_eq!(info.password(), Some(password.as_str()));
            let after = visible(&info);
            prop_assert!(after.contains("Secret(..)"));
            prop_assert!(before.contains(&password) || !after.contains(&password));
        }
    }
}
