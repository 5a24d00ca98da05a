//! The canonical form of a value: the same bytes for the same content, whatever database holds it,
//! however its JSON is spelled, and whatever the zone of its time.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::codec::real_text;
use crate::json::{JsonIssues, Scanner, Token, Tokens, plain_string, write_string};
use crate::model::{Kind, Value};
use crate::time::{ZoneRule, read_text};

/// Writes canonical values; keeps its buffers.
///
/// The row digest `lrd1` hashes this form of portable values. A value that has no portable form gets a
/// prefix that starts with `!`, as no JSON text does.
#[derive(Debug, Default)]
pub struct Canonical {
    scanner: Scanner,
    scratch: Scratch,
}

impl Canonical {
    /// Appends the canonical form of `value`. In a column of `instant`s, texts that are times are compared
    /// as times; `zone_rule` says how to read those without a zone.
    pub fn write(
        &mut self,
        kind: Kind,
        instant: bool,
        zone_rule: ZoneRule,
        value: Value<'_>,
        out: &mut Vec<u8>,
    ) {
        match value {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Int(v) => write_number(v.to_string().as_bytes(), out),
            Value::Real(v) if v.is_finite() => write_number(real_text(v).as_bytes(), out),
            Value::Real(v) => tagged(out, "real", real_text(v).as_bytes()),
            Value::Bool(v) => out.extend_from_slice(if v { b"true" } else { b"false" }),
            Value::Uuid(v) => write_string(out, &uuid::Uuid::from_bytes(v).to_string()),
            Value::Time(v) => {
                let start = out.len();
                out.push(b'"');
                if v.write_portable(out) {
                    out.push(b'"');
                    return;
                }
                out.truncate(start);
                out.extend_from_slice(b"!time ");
                v.write_postgres(out);
            }
            Value::Blob(bytes) if kind == Kind::Bytes => write_string(out, &BASE64.encode(bytes)),
            Value::Blob(bytes) => tagged(out, "blob", BASE64.encode(bytes).as_bytes()),
            Value::Text(text) => self.write_text(kind, instant, zone_rule, text, out),
        }
    }

    fn write_text(
        &mut self,
        kind: Kind,
        instant: bool,
        zone_rule: ZoneRule,
        text: &[u8],
        out: &mut Vec<u8>,
    ) {
        if matches!(kind, Kind::Json | Kind::Jsonb) && self.is_comparable(text) {
            write_canonical(text, out, &mut self.scratch);
            return;
        }
        if instant && let Ok(read) = read_text(text, zone_rule) {
            // Also `infinity` and years that have no portable form.
            self.write(Kind::Time, false, zone_rule, Value::Time(read), out);
            return;
        }
        match std::str::from_utf8(text) {
            Ok(clean) => write_string(out, clean),
            Err(_) => tagged(out, "text64", BASE64.encode(text).as_bytes()),
        }
    }

    /// Whether a text can be compared as JSON; any other is compared as text.
    fn is_comparable(&mut self, text: &[u8]) -> bool {
        !self.scanner.scan(text).intersects(JsonIssues::NOT_COMPARABLE)
    }
}

fn tagged(out: &mut Vec<u8>, tag: &str, text: &[u8]) {
    out.push(b'!');
    out.extend_from_slice(tag.as_bytes());
    out.push(b' ');
    out.extend_from_slice(text);
}

/// A buffer that every value reuses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    text: Vec<u8>,
}

/// Writes a JSON string that holds a time as an instant in UTC with six digits; false if it holds none.
pub(crate) fn write_instant(value: &[u8], out: &mut Vec<u8>) -> bool {
    // The text of an instant has nothing to escape.
    let Some(len) = plain_string(value) else { return false };
    let Ok(instant) = read_text(&value[1..=len], ZoneRule::Utc) else { return false };
    out.push(b'"');
    if instant.write_portable(out) {
        out.push(b'"');
        return true;
    }
    out.pop();
    false
}

/// Appends the canonical form of a JSON text that is [comparable](JsonIssues::NOT_COMPARABLE): names
/// sorted, numbers as exact decimals, no white space.
pub(crate) fn write_canonical(text: &[u8], out: &mut Vec<u8>, scratch: &mut Scratch) {
    let mut tokens = Tokens::new(text);
    if let Some(first) = tokens.next() {
        write_value(first, &mut tokens, out, scratch);
    }
}

/// Writes the value that starts with `first`. What is comparable is so shallow that recursion is safe.
fn write_value(
    first: Token<'_>,
    tokens: &mut Tokens<'_>,
    out: &mut Vec<u8>,
    scratch: &mut Scratch,
) {
    match first {
        Token::ObjectStart => write_object(tokens, out, scratch),
        Token::ArrayStart => write_array(tokens, out, scratch),
        Token::String => match tokens.plain() {
            Some(_) => out.extend_from_slice(tokens.written()),
            None => write_string(out, &String::from_utf8_lossy(tokens.decode(&mut scratch.text))),
        },
        Token::Number(number) => write_number(number, out),
        Token::Literal(word) => out.extend_from_slice(word),
        Token::ObjectEnd | Token::ArrayEnd | Token::Colon => {}
    }
}

fn write_array(tokens: &mut Tokens<'_>, out: &mut Vec<u8>, scratch: &mut Scratch) {
    out.push(b'[');
    let mut first = true;
    while let Some(token) = tokens.next().filter(|token| *token != Token::ArrayEnd) {
        if !first {
            out.push(b',');
        }
        first = false;
        write_value(token, tokens, out, scratch);
    }
    out.push(b']');
}

fn write_object(tokens: &mut Tokens<'_>, out: &mut Vec<u8>, scratch: &mut Scratch) {
    // millions of members cost what they weigh: one buffer, and three offsets for each
    let (mut parts, mut members) = (Vec::new(), Vec::new());
    while let Some(Token::String) = tokens.next() {
        let start = offset(&parts);
        parts.extend_from_slice(tokens.decode(&mut scratch.text));
        let value = offset(&parts);
        tokens.next(); // the colon
        if let Some(first) = tokens.next() {
            write_value(first, tokens, &mut parts, scratch);
        }
        members.push([start, value, offset(&parts)]);
    }
    let part = |from: u32, to: u32| parts.get(from as usize..to as usize).unwrap_or_default();
    let name = |member: &[u32; 3]| part(member[0], member[1]);
    // of equal names the last one stays last, and wins
    members.sort_unstable_by(|a, b| name(a).cmp(name(b)).then(a[0].cmp(&b[0])));
    out.push(b'{');
    let mut first = true;
    for (n, member) in members.iter().enumerate() {
        if members.get(n + 1).is_some_and(|next| name(next) == name(member)) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        write_string(out, &String::from_utf8_lossy(name(member)));
        out.push(b':');
        out.extend_from_slice(part(member[1], member[2]));
    }
    out.push(b'}');
}

/// Where the next part of a buffer starts; the limit of a row is far below what 32 bits count.
fn offset(parts: &[u8]) -> u32 {
    u32::try_from(parts.len()).unwrap_or(u32::MAX)
}

/// A number as digits and a power of ten, without zeros at either end: 1.10 is 11e-1.
fn write_number(token: &[u8], out: &mut Vec<u8>) {
    let text = std::str::from_utf8(token).unwrap_or("0");
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    if trimmed.is_empty() {
        out.push(b'0');
        return;
    }
    let zeros = significant.len() - trimmed.len();
    let power = exponent.parse::<i64>().unwrap_or(0) - fraction.len() as i64 + zeros as i64;
    let sign = if negative { "-" } else { "" };
    // Writing to a Vec cannot fail.
    let _ = match power {
        0 => write!(out, "{sign}{trimmed}"),
        _ => write!(out, "{sign}{trimmed}e{power}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    fn canonical(text: &str) -> String {
        let mut out = Vec::new();
        write_canonical(text.as_bytes(), &mut out, &mut Scratch::default());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_exact_decimals_without_zeros_at_the_ends() {
        for (text, expected) in [
            ("1.10", "11e-1"),
            ("11e-1", "11e-1"),
            ("100", "1e2"),
            ("1E2", "1e2"),
            ("-0", "0"),
            ("0.000", "0"),
            ("-12.50e+3", "-125e2"),
            ("9007199254740993", "9007199254740993"),
            ("0.001", "1e-3"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn spelling_and_order_do_not_matter() {
        let one = r#"{ "b": [1, 2.0, {"y": "caf\u00e9", "x": null}], "a":true }"#;
        let other = r#"{"a":true,"b":[1.0,2,{"x":null,"y":"café"}]}"#;
        assert_eq!(canonical(one), canonical(other));
        assert_eq!(canonical(one), r#"{"a":true,"b":[1,2,{"x":null,"y":"café"}]}"#);
        assert_ne!(canonical("[1,2]"), canonical("[2,1]"));
        assert_eq!(canonical(r#"{"a":1,"a":2}"#), r#"{"a":2}"#);
    }

    #[test]
    fn equal_content_of_two_databases_has_one_form() {
        let form = |kind, instant, zone_rule, value: Value<'_>| {
            let mut out = Vec::new();
            Canonical::default().write(kind, instant, zone_rule, value, &mut out);
            String::from_utf8(out).unwrap()
        };
        let text = |t: &'static str| Value::Text(t.as_bytes());
        assert_eq!(
            form(Kind::Text, true, ZoneRule::Fixed(3600), text("2000-01-01 01:00:00")),
            form(Kind::Time, false, ZoneRule::Refuse, Value::Time(Instant(0)))
        );
        assert_eq!(
            form(Kind::Text, true, ZoneRule::Refuse, text("infinity")),
            form(Kind::Time, false, ZoneRule::Refuse, Value::Time(Instant::INFINITY))
        );
        assert_eq!(
            form(Kind::Json, false, ZoneRule::Refuse, text("{ \"b\":1E5,\"a\":[]}")),
            form(Kind::Jsonb, false, ZoneRule::Refuse, text("{\"a\": [], \"b\": 100000}"))
        );
        // Exponents that do not fit into 64 bits.
        for huge in ["1e99999999999999999999", "10e9223372036854775807"] {
            assert_ne!(
                form(Kind::Json, false, ZoneRule::Refuse, text(huge)),
                form(Kind::Json, false, ZoneRule::Refuse, text("1"))
            );
        }
        assert_ne!(
            form(Kind::Json, false, ZoneRule::Refuse, text("not json")),
            form(Kind::Json, false, ZoneRule::Refuse, Value::Null)
        );
        assert_ne!(
            form(Kind::Text, false, ZoneRule::Refuse, Value::Text(b"\xff")),
            form(Kind::Text, false, ZoneRule::Refuse, text("\u{fffd}"))
        );
    }
}
