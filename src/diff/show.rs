//! Two differing values as people see them: bounded, and around the place where they differ.

use chronicle_archive::{Value, show};
use chronicle_archive::{escaped, hex};

/// The characters shown of a long value.
const SHOWN: usize = 60;
/// How many of them come before the first difference.
const BEFORE: usize = 20;

/// Both values, given with their canonical forms, which texts are shown in: these differ only where
/// the values do.
pub(super) fn both(a: (Value<'_>, &[u8]), b: (Value<'_>, &[u8])) -> [String; 2] {
    let [text_a, text_b] = [a, b].map(|(value, form)| match value {
        Value::Text(_) => String::from_utf8_lossy(form).into_owned(),
        Value::Blob(bytes) => format!("x'{}'", hex(bytes)),
        _ => show(value),
    });
    let same = text_a.chars().zip(text_b.chars()).take_while(|(a, b)| a == b).count();
    [excerpt(&text_a, same), excerpt(&text_b, same)]
}

/// At most `SHOWN` characters around the one at `place`, escaped for a terminal.
fn excerpt(text: &str, place: usize) -> String {
    let length = text.chars().count();
    // a short text is shown as a whole
    let from = if length <= SHOWN { 0 } else { place.min(length).saturating_sub(BEFORE) };
    let mut shown = String::from(if from > 0 { "…" } else { "" });
    let part: String = text.chars().skip(from).take(SHOWN).collect();
    shown.push_str(&escaped(&part));
    if from + SHOWN < length {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_shown_around_their_first_difference() {
        let [one, other] = ["old", "new"]
            .map(|word| format!("\"{}{word}{}\"", "ä".repeat(5_000), "z".repeat(5_000)));
        let value = Value::Text(b"");
        let [a, b] = both((value, one.as_bytes()), (value, other.as_bytes()));
        assert!(a.starts_with("…ää") && a.contains("äoldz") && a.ends_with("z…"), "{a}");
        assert!(b.contains("änewz") && b.chars().count() <= SHOWN + 2, "{b}");
    }

    #[test]
    fn a_text_that_ends_early_shows_its_end() {
        let (short, long) = ("x".repeat(200), "x".repeat(300));
        let value = Value::Text(b"");
        let [a, b] = both((value, short.as_bytes()), (value, long.as_bytes()));
        assert_eq!(a, format!("…{}", "x".repeat(BEFORE)));
        assert_eq!(b, format!("…{}…", "x".repeat(SHOWN)));
    }

    #[test]
    fn shown_values_are_escaped_for_a_terminal() {
        let [a, b] = both((Value::Int(1500), b"15e2"), (Value::Blob(b"\x1b["), b"!blob G1s="));
        assert_eq!((a.as_str(), b.as_str()), ("1500", "x'1b5b'"));
        let [a, b] = both((Value::Null, b"null"), (Value::Text(b""), "\"\u{9b}31m\"".as_bytes()));
        assert_eq!((a.as_str(), b.as_str()), ("NULL", "\"\\u{9b}31m\""));
    }
}
