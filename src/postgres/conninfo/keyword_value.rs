//! libpq's `key = value` strings.

use super::given::Given;
use super::near_miss::{FORMS, usage};
use super::text::is_space;
use crate::error::Result;

const QUOTING: &str = "put a value with spaces into single quotes, with \\' for a quote and \\\\ \
                       for a backslash: host=localhost password='it\\'s me'; or put the password \
                       into PGPASSWORD or a --password-file FILE";

/// Reads libpq's `key = value` pairs.
pub(super) fn parse(text: &str, given: &mut Given) -> Result<()> {
    if !text.contains('=') {
        return Err(usage("this is neither a postgres:// URL nor a key=value string").hint(FORMS));
    }
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = rest.find(|c| c == '=' || is_space(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(after) = after.trim_start_matches(is_space).strip_prefix('=') else {
            return Err(usage("key=value string: a word has no '=' after it").hint(QUOTING));
        };
        let Some((value, left)) = take_value(after.trim_start_matches(is_space)) else {
            return Err(
                usage("key=value string: a quoted value has no closing quote").hint(QUOTING)
            );
        };
        given.set(name, value)?;
        rest = left.trim_start_matches(is_space);
    }
    Ok(())
}

/// A value and the text after it; `None` if its quote is not closed.
fn take_value(text: &str) -> Option<(String, &str)> {
    let unquoted = text.strip_prefix('\'');
    let quoted = unquoted.is_some();
    let text = unquoted.unwrap_or(text);
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Some((value, chars.as_str())),
            c if !quoted && is_space(c) => return Some((value, text.get(at..)?)),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, ""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::postgres::conninfo::testing::{assert_refused, good, refusal};

    #[test]
    fn key_value_strings_are_quoted_as_in_libpq() {
        let info = good("host = h  user='o\\'k  me' dbname = d\\ b password='a\\\\b c'port=1");
        assert_eq!(info.user, "o'k  me");
        assert_eq!(info.database, "d b");
        assert_eq!(info.password(), Some("a\\b c"));
        assert_eq!(info.hosts[0].port, 1);
        assert_eq!(good("host=a host=b user=u").hosts[0].name, "b");
        assert!(refusal("host=h password='zq xw").contains("no closing quote"));
        let message = refusal("host=h password=first SECOND-HALF");
        assert!(message.contains("no '='") && !message.contains("SECOND"), "{message}");
        let message = refusal("host=h password=first SECOND-HALF=x");
        assert!(message.contains("unknown") && !message.contains("SECOND"), "{message}");
    }

    #[test]
    fn text_without_an_equals_sign_is_refused() {
        assert_refused("Zq7", "neither");
    }
}
