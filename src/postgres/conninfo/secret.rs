//! A password: how it is kept out of sight, and how it is found again in other programs' messages.

use std::fmt;

use super::near_miss::{is_placeholder, placeholder, usage};
use crate::error::Result;

/// A string that must not be shown: `Debug` reveals neither its characters nor its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// Wraps a password, unless it cannot be one.
    ///
    /// A placeholder is refused before it is sent: after two wrong passwords Supabase locks the
    /// address out for half an hour. `place` says where the password was found.
    pub(super) fn checked(password: String, place: &str) -> Result<Secret> {
        if password.contains('\0') {
            return Err(usage(format!("{place}: the password contains a NUL character")));
        }
        if is_placeholder(&password) {
            return Err(placeholder(place));
        }
        Ok(Secret::new(password))
    }

    /// The secret itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The text with every spelling of the secret replaced by `***`.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut clean = Vec::with_capacity(text.len());
        let mut at = 0;
        while let Some(byte) = text.as_bytes().get(at) {
            match spelled_at(text.as_bytes(), at, self.0.as_bytes()) {
                Some(end) => {
                    clean.extend_from_slice(b"***");
                    at = end;
                }
                None => {
                    clean.push(*byte);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&clean).into_owned()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The end of the longest spelling of the password that begins at `start`.
///
/// Each byte may be raw, `%XX` or escaped by a backslash, independently of the others, because
/// programs disagree on what to encode.
fn spelled_at(text: &[u8], start: usize, password: &[u8]) -> Option<usize> {
    let mut ends = vec![start];
    for byte in password {
        let mut next = Vec::new();
        for at in ends {
            match text.get(at..).unwrap_or_default() {
                [b'\\', c, ..] if c == byte => next.push(at + 2),
                [b'%', high, low, ..] if hex(*high, *low) == Some(*byte) => next.push(at + 3),
                _ => {}
            }
            if text.get(at) == Some(byte) {
                next.push(at + 1);
            }
        }
        next.sort_unstable();
        next.dedup();
        ends = next;
    }
    ends.into_iter().max().filter(|end| *end > start)
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? * 16 + digit(low)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::postgres::conninfo::testing::good;

    #[test]
    fn every_spelling_of_a_password_is_scrubbed() {
        let info = good("postgres://u:a%2Fb%C3%A9@h/d");
        assert_eq!(
            info.scrub("1 a/bé 2 a%2fb%c3%a9 3 a\\/bé 4 a%2Fbé."),
            "1 *** 2 *** 3 *** 4 ***."
        );
    }
}
