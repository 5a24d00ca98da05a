//! Values, texts and paths as messages show them: short, and without control characters.

use crate::model::Value;

/// A key as messages show it: readable, bounded, without control characters.
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

/// A path as messages show it: whole, control characters escaped.
pub fn show_path(path: impl std::fmt::Display) -> String {
    let escape = |c: char| if c.is_control() { c.escape_debug().collect() } else { c.to_string() };
    path.to_string().chars().map(escape).collect()
}

/// Text as messages show it: at most 80 characters, control characters escaped.
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
