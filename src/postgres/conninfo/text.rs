//! Percent-encoding, spaces and the distance between two words.

use std::fmt::Write as _;

use percent_encoding::percent_decode_str;

use super::near_miss::{KEEP_PASSWORD_OUT, usage};
use crate::error::Result;

/// Percent-encodes everything but letters, digits and `-._~`, so that the text can be shown and
/// parsed again.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || "-._~".contains(c) {
            encoded.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Decodes one part of a URL; `what` names the part in errors.
pub(super) fn decode(text: &str, what: &str) -> Result<String> {
    if !escapes_are_whole(text) {
        return Err(usage(format!(
            "connection URL: the {what} contains a '%' that is not followed by two hexadecimal digits"
        ))
        .hint(format!("write %25 for a percent sign; if this is a password, {KEEP_PASSWORD_OUT}")));
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| {
        usage(format!("connection URL: the {what} decodes to bytes that are not UTF-8"))
    })?;
    if decoded.contains('\0') {
        return Err(usage(format!("connection URL: the {what} contains %00, a NUL character")));
    }
    Ok(decoded.into_owned())
}

/// True if each percent sign is followed by two hexadecimal digits.
fn escapes_are_whole(text: &str) -> bool {
    let is_hex = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
    text.split('%').skip(1).all(|after| {
        let mut bytes = after.bytes();
        is_hex(bytes.next()) && is_hex(bytes.next())
    })
}

/// A space as C defines it; a no-break space is part of a value.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// The edit distance between two words, ignoring case.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let replaced = corner + usize::from(!x.eq_ignore_ascii_case(&y));
            corner = *cell;
            *cell = replaced.min(corner + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_distance_counts_edits_and_ignores_case() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "host", 4),
            ("host", "HOST", 0),
            ("hots", "host", 2),
            ("ssl_mode", "sslmode", 1),
            ("port", "sport", 1),
            ("user", "use", 1),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
        }
    }

    #[test]
    fn a_no_break_space_is_not_a_space() {
        assert!([' ', '\t', '\n', '\u{b}', '\u{c}', '\r'].into_iter().all(is_space));
        assert!(!['\u{a0}', '\u{2003}', 'x', '\0'].into_iter().any(is_space));
    }

    proptest! {
        #[test]
        fn encoded_text_decodes_to_itself(text in "[^\0]{0,20}") {
            let encoded = encode(&text);
            prop_assert!(!encoded.contains(['@', '/', '?', '#', ':', ' ']));
            prop_assert_eq!(decode(&encoded, "text").unwrap(), text);
        }
    }
}
