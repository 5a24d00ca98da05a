//! Values, texts and paths for messages: escaped, and short where their length has no limit.

use crate::escape::escaped;
use crate::model::Value;

/// A value for a message: readable, short, without control characters.
///
/// ```
/// use chronicle_archive::{Value, show};
///
/// assert_eq!(show(Value::Text(b"line\n")), "line\\n");
/// assert_eq!(show(Value::Blob(b"\x00\x01")), "a blob of 2 bytes");
/// ```
pub fn show(value: Value<'_>) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Int(v) => v.to_string(),
        Value::Real(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::Uuid(v) => uuid::Uuid::from_bytes(v).to_string(),
        Value::Time(v) => {
            let mut text = Vec::new();
            v.write_postgres(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        }
        Value::Text(bytes) => show_text(&String::from_utf8_lossy(bytes)),
        Value::Blob(bytes) => format!("a blob of {}", show_count(bytes.len() as u64, "bytes")),
    }
}

/// A path for a message: in full, with characters escaped that a terminal would not show.
pub fn show_path(path: impl std::fmt::Display) -> String {
    escaped(&path.to_string()).into_owned()
}

/// Text for a message: at most 80 characters of it, with control characters escaped.
pub fn show_text(text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    // quotes and backslashes too: where a text ends is to be seen
    let mut shown = escaped(&start.escape_debug().to_string()).into_owned();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

/// A count with its noun for a message; `plural` is the noun's plural, such as the name of a stream.
///
/// ```
/// use chronicle_archive::show_count;
///
/// assert_eq!(show_count(1, "rows"), "1 row");
/// assert_eq!(show_count(1225, "rows"), "1,225 rows");
/// ```
pub fn show_count(count: u64, plural: &str) -> String {
    let mut text = show_number(count);
    text.push(' ');
    match count {
        1 => text.push_str(&singular(plural)),
        _ => text.push_str(plural),
    }
    text
}

/// A number for a message, its digits in groups of three.
pub fn show_number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The singular of an English noun in the plural; a word that is none stays the same.
pub fn singular(plural: &str) -> String {
    let ends = |endings: &[&str]| endings.iter().any(|ending| plural.ends_with(ending));
    if let Some(stem) = plural.strip_suffix("ies") {
        return format!("{stem}y");
    }
    let cut = match () {
        () if ends(&["sses", "xes", "ches", "shes"]) => 2,
        () if ends(&["ss", "us", "is"]) => 0,
        () => usize::from(ends(&["s"])),
    };
    plural[..plural.len() - cut].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_is_spelled_as_english_does() {
        for (plural, one) in
            [("batches", "batch"), ("classes", "class"), ("entries", "entry"), ("rows", "row")]
        {
            assert_eq!(singular(plural), one);
        }
    }

    #[test]
    fn counts_are_grouped_and_agree_with_their_noun() {
        let shown = [
            (0, "rows", "0 rows"),
            (1, "rows", "1 row"),
            (999, "rows", "999 rows"),
            (1_000, "rows", "1,000 rows"),
            (1_234_567, "side_rows", "1,234,567 side_rows"),
            (1, "entries", "1 entry"),
            (1, "addresses", "1 address"),
            (1, "indexes", "1 index"),
            (1, "project_context", "1 project_context"),
            (1, "status", "1 status"),
        ];
        for (count, plural, expected) in shown {
            assert_eq!(show_count(count, plural), expected);
        }
    }

    #[test]
    fn shown_text_is_short_and_has_no_control_characters() {
        assert_eq!(show_text("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
        assert!(show_text(&"x".repeat(500)).chars().count() <= 81);
    }
}
