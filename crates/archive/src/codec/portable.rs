//! Portable values: what every reader of a record sees, and the exact value where that differs.

use std::borrow::Cow;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::json::{self, Scanner};
use crate::model::{Kind, Value};
use crate::time::Instant;

/// The exact value where the portable one differs: a tag, which says how to read it, and its text.
pub(super) struct Exact<'a> {
    pub(super) tag: &'static str,
    pub(super) text: Cow<'a, str>,
}

/// Appends the portable form of `value` in a column of `kind` and returns the exact one if needed.
pub(super) fn write_portable<'a>(
    scanner: &mut Scanner,
    kind: Kind,
    key: bool,
    value: Value<'a>,
    out: &mut Vec<u8>,
) -> Option<Exact<'a>> {
    match (kind, value) {
        (_, Value::Null) => null(out),
        (Kind::Int, Value::Int(v)) => {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{v}");
            None
        }
        (Kind::Real, Value::Real(v)) if v.is_finite() => {
            plain(out, ryu::Buffer::new().format_finite(v).as_bytes())
        }
        (Kind::Bool, Value::Bool(v)) => plain(out, if v { b"true" } else { b"false" }),
        (Kind::Text | Kind::Other, Value::Text(text)) => write_text(out, text),
        (Kind::Uuid, Value::Uuid(v)) => {
            let mut text = uuid::Uuid::encode_buffer();
            json::write_string(out, uuid::Uuid::from_bytes(v).hyphenated().encode_lower(&mut text));
            None
        }
        (Kind::Bytes, Value::Blob(bytes)) => {
            json::write_string(out, &BASE64.encode(bytes));
            None
        }
        (Kind::Json | Kind::Jsonb, Value::Text(text)) => write_json(scanner, kind, out, text),
        (Kind::Numeric, Value::Text(text)) => write_if(is_decimal(text), "numeric", out, text),
        (Kind::Date, Value::Text(text)) => write_if(crate::time::is_date(text), "text", out, text),
        (Kind::Time, Value::Time(instant)) => write_time(out, instant),
        (Kind::Text, other) if key => write_key_as_text(out, other),
        (_, other) => {
            null(out);
            Some(exact(other))
        }
    }
}

fn null<'a>(out: &mut Vec<u8>) -> Option<Exact<'a>> {
    plain(out, b"null")
}

fn plain<'a>(out: &mut Vec<u8>, token: &[u8]) -> Option<Exact<'a>> {
    out.extend_from_slice(token);
    None
}

/// Text, with U+FFFD in place of NUL characters and of bytes that are not UTF-8.
fn write_text<'a>(out: &mut Vec<u8>, text: &'a [u8]) -> Option<Exact<'a>> {
    match std::str::from_utf8(text) {
        Ok(clean) if memchr::memchr(0, text).is_none() => {
            json::write_string(out, clean);
            None
        }
        _ => {
            json::write_string(out, &String::from_utf8_lossy(text).replace('\0', "\u{fffd}"));
            Some(exact(Value::Text(text)))
        }
    }
}

/// JSON unchanged if it is portable, else sanitized.
fn write_json<'a>(
    scanner: &mut Scanner,
    kind: Kind,
    out: &mut Vec<u8>,
    text: &'a [u8],
) -> Option<Exact<'a>> {
    if scanner.scan(text).is_portable() {
        return plain(out, text);
    }
    match json::sanitize(text) {
        Some(sanitized) => out.extend_from_slice(&sanitized),
        None => out.extend_from_slice(b"null"),
    }
    match std::str::from_utf8(text) {
        Ok(source) => Some(Exact { tag: kind.word(), text: Cow::Borrowed(source) }),
        Err(_) => Some(exact(Value::Text(text))),
    }
}

/// The text as a string if it is portable, else null.
fn write_if<'a>(
    portable: bool,
    tag: &'static str,
    out: &mut Vec<u8>,
    text: &'a [u8],
) -> Option<Exact<'a>> {
    match std::str::from_utf8(text) {
        Ok(text) if portable => {
            json::write_string(out, text);
            None
        }
        Ok(text) => {
            null(out);
            Some(Exact { tag, text: text.into() })
        }
        Err(_) => {
            null(out);
            Some(exact(Value::Text(text)))
        }
    }
}

fn write_time<'a>(out: &mut Vec<u8>, instant: Instant) -> Option<Exact<'a>> {
    let start = out.len();
    out.push(b'"');
    if instant.write_portable(out) {
        return plain(out, b"\"");
    }
    out.truncate(start);
    null(out);
    let mut text = Vec::new();
    instant.write_postgres(&mut text);
    Some(Exact { tag: "time", text: Cow::Owned(String::from_utf8_lossy(&text).into_owned()) })
}

/// A key of another type in a text column becomes text: a key is never null.
fn write_key_as_text<'a>(out: &mut Vec<u8>, value: Value<'a>) -> Option<Exact<'a>> {
    let exact = exact(value);
    json::write_string(out, &exact.text);
    Some(exact)
}

/// The exact form of a value, whatever the kind of its column.
fn exact(value: Value<'_>) -> Exact<'_> {
    match value {
        Value::Int(v) => Exact { tag: "int", text: v.to_string().into() },
        Value::Real(v) => Exact { tag: "real", text: real_text(v).into() },
        Value::Blob(bytes) => Exact { tag: "blob", text: BASE64.encode(bytes).into() },
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Exact { tag: "text", text: text.into() },
            Err(_) => Exact { tag: "text64", text: BASE64.encode(bytes).into() },
        },
        // These four never occur in a column of another kind: only SQLite types values freely, and
        // it has none of them.
        Value::Null => Exact { tag: "text", text: "".into() },
        Value::Bool(v) => Exact { tag: "text", text: v.to_string().into() },
        Value::Time(v) => {
            let mut text = Vec::new();
            v.write_postgres(&mut text);
            Exact { tag: "time", text: String::from_utf8_lossy(&text).into_owned().into() }
        }
        Value::Uuid(v) => Exact { tag: "text", text: uuid::Uuid::from_bytes(v).to_string().into() },
    }
}

/// The shortest text that is read as the same double, with a `.` or `e`; or `NaN`, `Infinity`, `-Infinity`.
pub fn real_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        ryu::Buffer::new().format_finite(value).to_owned()
    }
}

/// Whether a text is digits, perhaps with a sign and a point between them.
pub(super) fn is_decimal(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(dot) => (&digits[..dot], Some(&digits[dot + 1..])),
        None => (digits, None),
    };
    let all = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    all(whole) && fraction.is_none_or(all)
}

/// The portable form of a value, for a database that cannot hold the exact one; None is NULL.
///
/// Text and JSON become what a record shows of them; any other value that does not fit the kind of its
/// column becomes NULL, as a record shows null.
pub fn portable(kind: Kind, key: bool, value: Value<'_>) -> Option<Vec<u8>> {
    match (kind, value) {
        (Kind::Text | Kind::Other, Value::Text(text)) => {
            Some(String::from_utf8_lossy(text).replace('\0', "\u{fffd}").into_bytes())
        }
        (Kind::Json | Kind::Jsonb, Value::Text(text)) => json::sanitize(text),
        (_, Value::Null) => None,
        (Kind::Text, other) if key => Some(exact(other).text.into_owned().into_bytes()),
        _ => None,
    }
}

/// The tag of the exact form of a value that a record cannot express; None if the value is portable.
pub fn nonportable(
    scanner: &mut Scanner,
    kind: Kind,
    key: bool,
    value: Value<'_>,
) -> Option<&'static str> {
    write_portable(scanner, kind, key, value, &mut Vec::new()).map(|exact| exact.tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The portable value, and tag and text of the exact one.
    fn written(
        kind: Kind,
        key: bool,
        value: Value<'_>,
    ) -> (String, Option<(&'static str, String)>) {
        let mut out = Vec::new();
        let exact = write_portable(&mut Scanner::default(), kind, key, value, &mut out);
        let exact = exact.map(|exact| (exact.tag, exact.text.into_owned()));
        (String::from_utf8(out).unwrap(), exact)
    }

    #[test]
    fn portable_values_need_no_exact_one() {
        for (kind, value, expected) in [
            (Kind::Int, Value::Int(i64::MIN), "-9223372036854775808"),
            (Kind::Real, Value::Real(0.1), "0.1"),
            (Kind::Real, Value::Real(-0.0), "-0.0"),
            (Kind::Bool, Value::Bool(true), "true"),
            (Kind::Text, Value::Text("é\n".as_bytes()), "\"é\\n\""),
            (Kind::Numeric, Value::Text(b"-1.50"), "\"-1.50\""),
            (Kind::Date, Value::Text(b"2024-02-29"), "\"2024-02-29\""),
            (Kind::Time, Value::Time(Instant(0)), "\"2000-01-01T00:00:00.000000Z\""),
            (Kind::Bytes, Value::Blob(b"\0\xff"), "\"AP8=\""),
            (Kind::Json, Value::Text(b"{ }"), "{ }"),
            (Kind::Text, Value::Null, "null"),
        ] {
            assert_eq!(written(kind, false, value), (expected.to_owned(), None), "{value:?}");
        }
    }

    #[test]
    fn other_values_keep_their_exact_text() {
        let text = |text: &'static str| Value::Text(text.as_bytes());
        for (kind, key, value, expected, tag, exact) in [
            (Kind::Text, false, text("a\0"), "\"a\u{fffd}\"", "text", "a\0"),
            (Kind::Text, false, Value::Text(b"\xff"), "\"\u{fffd}\"", "text64", "/w=="),
            (Kind::Text, false, Value::Int(7), "null", "int", "7"),
            (Kind::Text, true, Value::Int(7), "\"7\"", "int", "7"),
            (Kind::Int, false, text("x"), "null", "text", "x"),
            (Kind::Real, false, Value::Real(f64::NAN), "null", "real", "NaN"),
            (Kind::Numeric, false, text("1e5"), "null", "numeric", "1e5"),
            (Kind::Date, false, text("2025-02-29"), "null", "text", "2025-02-29"),
            (Kind::Time, false, Value::Time(Instant::INFINITY), "null", "time", "infinity"),
            (
                Kind::Jsonb,
                false,
                text("{\"a\":1e999}"),
                "{\"a\":\"1e999\"}",
                "jsonb",
                "{\"a\":1e999}",
            ),
            (Kind::Json, false, text("[]"), "null", "json", "[]"),
            (Kind::Json, false, Value::Blob(b"{}"), "null", "blob", "e30="),
        ] {
            let found = written(kind, key, value);
            assert_eq!(found, (expected.to_owned(), Some((tag, exact.to_owned()))), "{value:?}");
            assert_eq!(nonportable(&mut Scanner::default(), kind, key, value), Some(tag));
        }
    }

    #[test]
    fn the_portable_value_is_what_a_record_shows() {
        let text = |text: &'static str| Value::Text(text.as_bytes());
        for (kind, key, value, expected) in [
            (Kind::Text, false, text("a\0b"), Some("a\u{fffd}b")),
            (Kind::Text, true, Value::Real(1.0), Some("1.0")),
            (Kind::Text, false, Value::Real(1.0), None),
            (Kind::Json, false, text("{\"a\":1,\"a\":2}"), Some("{\"a\":2}")),
            (Kind::Json, false, text("[]"), None),
            (Kind::Int, false, text("1"), None),
            (Kind::Text, true, Value::Null, None),
        ] {
            let found = portable(kind, key, value).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(found.as_deref(), expected, "{value:?}");
        }
    }
}
