//! Values, texts and paths for messages: escaped, and short where their length has no limit.

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
        Value::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
    }
}

/// A path for a message: in full, with control characters escaped.
pub fn show_path(path: impl std::fmt::Display) -> String {
    let escape = |c: char| if c.is_control() { c.escape_debug().collect() } else { c.to_string() };
    path.to_string().chars().map(escape).collect()
}

/// Text for a message: at most 80 characters of it, with control characters escaped.
pub fn show_text(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_text_is_short_and_has_no_control_characters() {
        assert_eq!(show_text("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
        assert!(show_text(&"x".repeat(500)).chars().count() <= 81);
    }
}
