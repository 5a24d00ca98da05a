//! Helpers that the tests of these files share.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::ConnInfo;
use crate::error::{Code, Error, Result};

/// An environment with these variables and a user, and nothing else.
pub(super) fn env(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let mut map: BTreeMap<String, String> =
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    map.entry("USER".to_owned()).or_insert_with(|| "system".to_owned());
    move |name| map.get(name).cloned()
}

/// Parses a string in an environment that only names a user.
pub(super) fn parse(text: &str) -> Result<ConnInfo> {
    ConnInfo::parse(text, &env(&[]))
}

/// Parses a string that must be accepted.
pub(super) fn good(text: &str) -> ConnInfo {
    parse(text).unwrap_or_else(|e| panic!("{text}: {e}; {:?}", e.next_step()))
}

/// The message and hint for a string that must be refused.
pub(super) fn refusal(text: &str) -> String {
    words(&parse(text).map(|i| i.redacted()).expect_err(text))
}

/// Fails unless the string is refused for that reason and no secret (`Zq7`, `Xk9`) is repeated.
pub(super) fn assert_refused(text: &str, reason: &str) {
    let error = parse(text).map(|info| info.redacted()).expect_err(text);
    let message = words(&error);
    assert!(message.contains(reason), "{text}: {message}");
    assert!(!message.contains("Zq7") && !message.contains("Xk9"), "{message}");
    assert_eq!(error.code(), Code::Usage);
}

/// All that an error can show.
pub(super) fn words(error: &Error) -> String {
    format!("{} | {} | {error:?}", error.full(), error.next_step().unwrap_or(""))
}

/// All that a connection can show.
pub(super) fn visible(info: &ConnInfo) -> String {
    format!("{info:?} {info:#?} {info} {} {:?}", info.redacted(), info.notes)
}

/// The text with every byte percent-encoded.
pub(super) fn encode_all(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02x}")).collect()
}

/// A value quoted for a key=value string.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A file with this text and mode.
#[cfg(unix)]
pub(super) fn private_file(text: &str, mode: u32) -> tempfile::NamedTempFile {
    use std::os::unix::fs::PermissionsExt as _;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    file
}

/// Characters of [`HARD`] that our messages hardly use, so that a hit is no accident.
const RARE: [char; 4] = ['Z', 'Q', '☃', 'é'];

/// Passwords of characters that our messages never string together and that are special somewhere.
pub(super) const HARD: &str = "[ZQX79é@/?#:%&='\\\\\"\\[\\]<>,+~$ \t;.{}\u{1b}☃-]{4,24}";

/// A hard password with a rare character in its middle.
pub(super) fn marked() -> impl Strategy<Value = String> {
    (HARD, prop::sample::select(RARE.to_vec())).prop_map(|(password, rare)| {
        let half = password.chars().count() / 2;
        let start: String = password.chars().take(half).collect();
        let end: String = password.chars().skip(half).collect();
        format!("{start}{rare}{end}")
    })
}
