//! A value of the archive to a value that the target's column holds, or the reason why not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::catalog::{Affinity, CheckConstraint, ColumnType};
use crate::plan::ColumnPlan;
use chronicle_archive::codec::{portable, real_text};
use chronicle_archive::json::{JsonIssues, Scanner};
use chronicle_archive::time::{Instant, NotInstant, ZoneRule, read_text, read_text_nearest};
use chronicle_archive::{Kind, Value, show};

/// Why a target's column cannot hold a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, in words.
    pub reason: String,
    /// Whether a time zone would remedy it.
    pub zone: bool,
}

/// A refusal for a reason.
pub fn refuse<T>(reason: impl Into<String>) -> std::result::Result<T, Refusal> {
    Err(Refusal { reason: reason.into(), zone: false })
}

/// The value in the target's type, if the column holds it without change; a time without a zone is
/// read as `zone_rule` says.
///
/// # Errors
/// Why the column does not.
pub fn convert<'v>(
    scanner: &mut Scanner,
    column: &ColumnPlan,
    zone_rule: ZoneRule,
    value: Value<'v>,
    scratch: &mut Vec<u8>,
) -> Fit<'v> {
    fits(scanner, column, value)?;
    let held = exact(column, zone_rule, value, scratch)?;
    match held.borrow(scratch) {
        Value::Null if column.not_null => refuse("NULL where the target requires a value"),
        loaded => obeys(column, loaded).map(|()| held),
    }
}

/// Checks a value against the rule that the target has for its column.
fn obeys(column: &ColumnPlan, value: Value<'_>) -> std::result::Result<(), Refusal> {
    match (&column.check, value) {
        (Some(CheckConstraint::OneOf(texts)), Value::Text(text))
            if !texts.iter().any(|t| t.as_bytes() == text) =>
        {
            let shown = show(value);
            refuse(format!(
                "\"{shown}\" is not allowed by the target's CHECK (allowed: {})",
                texts.join(", ")
            ))
        }
        (Some(CheckConstraint::OneOf(texts)), Value::Int(_) | Value::Real(_) | Value::Blob(_)) => {
            let texts = texts.join(", ");
            refuse(format!(
                "{} is not allowed by the target's CHECK (allowed: {texts})",
                class(value)
            ))
        }
        (Some(CheckConstraint::AtLeast(least)), Value::Int(v)) if v < *least => {
            refuse(format!("{v} is below {least}, the minimum of the target's CHECK"))
        }
        (Some(CheckConstraint::AtLeast(least)), Value::Real(v)) if v < *least as f64 => {
            refuse(format!("{v} is below {least}, the minimum of the target's CHECK"))
        }
        _ => Ok(()),
    }
}

/// Checks that need the scanner: whether JSON can go into a JSON column unchanged.
fn fits(
    scanner: &mut Scanner,
    column: &ColumnPlan,
    value: Value<'_>,
) -> std::result::Result<(), Refusal> {
    match (&column.ty, value) {
        (ColumnType::Jsonb, Value::Text(_)) if column.kind == Kind::Jsonb => Ok(()),
        (ColumnType::Json | ColumnType::Jsonb, Value::Text(text)) => {
            let findings = scanner.scan(text);
            let cannot: &[JsonIssues] = match column.ty {
                ColumnType::Json => &[JsonIssues::INVALID, JsonIssues::VERY_DEEP],
                _ => &[
                    JsonIssues::INVALID,
                    JsonIssues::NUL,
                    JsonIssues::SURROGATE,
                    JsonIssues::DUPLICATE,
                    JsonIssues::HUGE_NUMBER,
                    JsonIssues::VERY_DEEP,
                ],
            };
            match cannot.iter().find(|f| findings.contains(**f)) {
                Some(&JsonIssues::INVALID) => refuse("it is not valid JSON"),
                Some(finding) => {
                    refuse(format!("it holds {}", finding.names().next().unwrap_or("odd JSON")))
                }
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// A converted value: itself, another one without bytes, or the text in the scratch buffer.
pub enum Held<'v> {
    /// A value, perhaps the one that was given.
    Value(Value<'v>),
    /// The text in the scratch buffer.
    Scratch,
}

impl<'v> Held<'v> {
    /// The value, wherever its bytes are.
    pub fn borrow<'a>(&self, scratch: &'a [u8]) -> Value<'a>
    where
        'v: 'a,
    {
        match self {
            Held::Value(value) => *value,
            Held::Scratch => Value::Text(scratch),
        }
    }
}

/// A converted value, or why there is none.
pub type Fit<'v> = std::result::Result<Held<'v>, Refusal>;

/// The value itself in the target's type, if the type holds it without change.
fn exact<'v>(
    column: &ColumnPlan,
    zone_rule: ZoneRule,
    value: Value<'v>,
    scratch: &mut Vec<u8>,
) -> Fit<'v> {
    if value == Value::Null {
        return Ok(Held::Value(Value::Null));
    }
    match &column.ty {
        ColumnType::Sqlite(affinity) => to_sqlite(*affinity, column.kind, value, scratch),
        ColumnType::Uuid => to_uuid(value),
        ColumnType::Text(most) => to_text(column.kind, value, *most, scratch),
        ColumnType::Int(bytes) => to_int(value, *bytes),
        ColumnType::Float(bytes) => to_float(value, *bytes),
        ColumnType::Bool => to_bool(value),
        ColumnType::Timestamptz => to_instant(zone_rule, value),
        ColumnType::Json | ColumnType::Jsonb => match value {
            Value::Text(_) => Ok(Held::Value(value)),
            other => refuse(format!("{} is not JSON text", class(other))),
        },
        ColumnType::Bytea => match value {
            Value::Blob(_) => Ok(Held::Value(value)),
            other => refuse(format!("{} is not a blob", class(other))),
        },
        ColumnType::Cast(_) => to_text(column.kind, value, None, scratch),
    }
}

fn class(value: Value<'_>) -> &'static str {
    match value {
        Value::Null => "NULL",
        Value::Int(_) => "an integer",
        Value::Real(_) => "a real number",
        Value::Bool(_) => "a boolean",
        Value::Time(_) => "an instant",
        Value::Uuid(_) => "a UUID",
        Value::Text(_) => "a text",
        Value::Blob(_) => "a blob",
    }
}

/// From here on SQLite keeps a real number without a fraction unchanged, on either side of zero.
const TWO_TO_THE_63: f64 = 9_223_372_036_854_775_808.0;

fn to_sqlite<'v>(
    affinity: Affinity,
    kind: Kind,
    value: Value<'v>,
    scratch: &mut Vec<u8>,
) -> Fit<'v> {
    let held = match value {
        Value::Bool(v) => Held::Value(Value::Int(i64::from(v))),
        // integers of another database become text in a text key: 7 becomes '7'
        Value::Int(_) if kind == Kind::Int && affinity == Affinity::Text => write(value, scratch),
        Value::Time(_) | Value::Uuid(_) => write(value, scratch),
        other => Held::Value(other),
    };
    match (affinity, held.borrow(scratch)) {
        (_, Value::Real(v)) if v.is_nan() => refuse("NaN would become NULL"),
        (Affinity::Text, foreign @ (Value::Int(_) | Value::Real(_))) => {
            refuse(format!("{} would become text", class(foreign)))
        }
        (Affinity::Numeric | Affinity::Integer, Value::Real(v))
            if v.trunc() == v && v.abs() < TWO_TO_THE_63 =>
        {
            refuse("a real number without a fraction would become an integer")
        }
        (Affinity::Real, Value::Int(_)) => refuse("an integer would become a real number"),
        (Affinity::Numeric | Affinity::Integer | Affinity::Real, Value::Text(text))
            if looks_numeric(text) =>
        {
            refuse("a text that looks like a number would become one")
        }
        _ => Ok(held),
    }
}

/// Whether SQLite would take a text for a number when it stores it in a numeric column; rather
/// too often than too rarely.
fn looks_numeric(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    trimmed.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
        && trimmed.parse::<f64>().is_ok()
}

/// A value without bytes as text in the scratch buffer.
fn write<'v>(value: Value<'v>, scratch: &mut Vec<u8>) -> Held<'v> {
    scratch.clear();
    match value {
        Value::Time(instant) => {
            if !instant.write_portable(scratch) {
                instant.write_postgres(scratch);
            }
        }
        Value::Uuid(bytes) => {
            scratch.extend_from_slice(uuid::Uuid::from_bytes(bytes).to_string().as_bytes());
        }
        Value::Int(v) => scratch.extend_from_slice(v.to_string().as_bytes()),
        Value::Real(v) => scratch.extend_from_slice(real_text(v).as_bytes()),
        Value::Bool(v) => scratch.extend_from_slice(v.to_string().as_bytes()),
        Value::Null | Value::Text(_) | Value::Blob(_) => return Held::Value(value),
    }
    Held::Scratch
}

fn to_uuid(value: Value<'_>) -> Fit<'_> {
    match value {
        Value::Uuid(_) => Ok(Held::Value(value)),
        Value::Text(text) => match uuid::Uuid::try_parse_ascii(text) {
            Ok(uuid) => Ok(Held::Value(Value::Uuid(uuid.into_bytes()))),
            Err(_) => refuse("the text is not a UUID"),
        },
        other => refuse(format!("{} is not a UUID", class(other))),
    }
}

fn to_text<'v>(kind: Kind, value: Value<'v>, most: Option<u32>, scratch: &mut Vec<u8>) -> Fit<'v> {
    let held = match (kind, value) {
        (_, Value::Time(_) | Value::Uuid(_) | Value::Bool(_))
        | (Kind::Int, Value::Int(_))
        | (Kind::Real, Value::Real(_)) => write(value, scratch),
        (_, other) => Held::Value(other),
    };
    let Value::Text(bytes) = held.borrow(scratch) else {
        return refuse(format!("{} is not text", class(value)));
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return refuse("the text is not UTF-8");
    };
    if memchr::memchr(0, bytes).is_some() {
        return refuse("the text holds a NUL character");
    }
    match most {
        Some(most) if text.chars().count() > most as usize => {
            refuse(format!("the text is longer than {most} characters"))
        }
        _ => Ok(held),
    }
}

fn to_int(value: Value<'_>, bytes: u8) -> Fit<'_> {
    let Value::Int(v) = value else {
        return refuse(format!("{} is not an integer", class(value)));
    };
    let holds = match bytes {
        2 => i16::try_from(v).is_ok(),
        4 => i32::try_from(v).is_ok(),
        _ => true,
    };
    if holds {
        Ok(Held::Value(value))
    } else {
        refuse(format!("{v} is too large for {bytes} bytes"))
    }
}

fn to_float(value: Value<'_>, bytes: u8) -> Fit<'_> {
    let v = match value {
        Value::Real(v) => v,
        // 2^53: up to there every integer is a double
        Value::Int(v) if v.unsigned_abs() <= 1 << 53 => v as f64,
        Value::Int(_) => return refuse("an integer beyond 2^53 has no exact float"),
        other => return refuse(format!("{} is not a number", class(other))),
    };
    // a 4-byte float travels as the shortest text that reads back as it
    let exact4 = || {
        let narrow = v as f32;
        narrow.to_string().parse::<f64>().is_ok_and(|wide| wide == v || f64::from(narrow) == v)
    };
    if bytes == 8 || v.is_nan() || v.is_infinite() || exact4() {
        Ok(Held::Value(Value::Real(v)))
    } else {
        refuse("a 4-byte float would round it")
    }
}

fn to_bool(value: Value<'_>) -> Fit<'_> {
    match value {
        Value::Bool(_) => Ok(Held::Value(value)),
        Value::Int(v @ 0..=1) => Ok(Held::Value(Value::Bool(v == 1))),
        other => refuse(format!("{} is neither true nor false", class(other))),
    }
}

fn to_instant(zone_rule: ZoneRule, value: Value<'_>) -> Fit<'_> {
    match value {
        Value::Time(_) => Ok(Held::Value(value)),
        Value::Text(text) => match read_text(text, zone_rule) {
            Ok(instant) => Ok(Held::Value(Value::Time(instant))),
            Err(why) => Err(Refusal { reason: why.to_string(), zone: why == NotInstant::NoZone }),
        },
        other => refuse(format!("{} is not an instant", class(other))),
    }
}

/// The value that is loaded in the place of one that the target cannot hold.
pub enum Nearest {
    /// Nothing.
    Null,
    /// An instant.
    Time(Instant),
    /// An integer.
    Int(i64),
    /// A text.
    Text(Vec<u8>),
}

impl Nearest {
    /// The value.
    pub fn borrow(&self) -> Value<'_> {
        match self {
            Nearest::Null => Value::Null,
            Nearest::Time(instant) => Value::Time(*instant),
            Nearest::Int(v) => Value::Int(*v),
            Nearest::Text(text) => Value::Text(text),
        }
    }
}

/// The nearest value that the target holds: the one that the archive's record shows, an instant
/// rounded to the microsecond or read from a count of units since 1970, and where the column allows
/// no NULL a payload that is no JSON as one JSON string (of a blob in Base64). None if there is no such value.
pub fn adapt(
    scanner: &mut Scanner,
    column: &ColumnPlan,
    zone_rule: ZoneRule,
    value: Value<'_>,
) -> Option<Nearest> {
    // a row without its key would be another row, or none
    let nullable = !column.not_null && !column.key;
    let null = || nullable.then_some(Nearest::Null);
    if column.ty == ColumnType::Timestamptz {
        return nearest_instant(zone_rule, value).map(Nearest::Time).or_else(null);
    }
    if let (ColumnType::Int(_), Value::Real(v)) = (&column.ty, value) {
        let whole = v.round();
        let held = (whole.abs() < TWO_TO_THE_63).then_some(Value::Int(whole as i64));
        let fits = |v: &Value<'_>| {
            exact(column, zone_rule, *v, &mut Vec::new()).is_ok() && obeys(column, *v).is_ok()
        };
        return match held.filter(fits) {
            Some(Value::Int(v)) => Some(Nearest::Int(v)),
            _ => null(),
        };
    }
    if let Some(text) = portable(column.kind, column.key, value) {
        let mut unused = Vec::new();
        let holds = fits(scanner, column, Value::Text(&text)).is_ok()
            && matches!(
                exact(column, zone_rule, Value::Text(&text), &mut unused),
                Ok(Held::Value(Value::Text(_)))
            )
            && obeys(column, Value::Text(&text)).is_ok();
        if holds {
            return Some(Nearest::Text(text));
        }
    }
    if nullable {
        return Some(Nearest::Null);
    }
    match (&column.ty, value) {
        (ColumnType::Json | ColumnType::Jsonb, value) => {
            let clean = match value {
                Value::Text(text) => String::from_utf8_lossy(text).replace('\0', "\u{fffd}"),
                Value::Blob(bytes) => BASE64.encode(bytes),
                other => show(other),
            };
            let mut string = Vec::new();
            chronicle_archive::json::write_string(&mut string, &clean);
            Some(Nearest::Text(string))
        }
        _ => None,
    }
}

/// The instant that a text or a number most likely means.
fn nearest_instant(zone_rule: ZoneRule, value: Value<'_>) -> Option<Instant> {
    let number = match value {
        Value::Text(text) => {
            if let Ok(read) = read_text_nearest(text, zone_rule) {
                return Some(read);
            }
            let text = std::str::from_utf8(text).ok()?;
            let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            text.parse().ok().filter(|_| plain)?
        }
        Value::Int(v) => v as f64,
        Value::Real(v) => v,
        _ => return None,
    };
    instant_of_number(number)
}

/// The instant of a count of seconds, milliseconds, microseconds or nanoseconds since 1970, whichever
/// puts it between 1973 and 5138: no number is within that range in two units.
fn instant_of_number(number: f64) -> Option<Instant> {
    const EPOCH_2000: f64 = 946_684_800e6;
    let micros = match number {
        n if (1e8..1e11).contains(&n) => n * 1e6,
        n if (1e11..1e14).contains(&n) => n * 1e3,
        n if (1e14..1e17).contains(&n) => n,
        n if (1e17..1e20).contains(&n) => n / 1e3,
        _ => return None,
    };
    Some(Instant((micros - EPOCH_2000).round() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_unix_time_is_decided_by_its_size() {
        let shown = |number: f64| {
            let mut text = Vec::new();
            instant_of_number(number).map(|i| i.write_portable(&mut text));
            String::from_utf8(text).unwrap()
        };
        let expected = "2025-08-19T12:00:00.000000Z";
        for number in [1_755_604_800.0, 1_755_604_800e3, 1_755_604_800e6, 1_755_604_800e9] {
            assert_eq!(shown(number), expected, "{number}");
        }
        assert_eq!(shown(1_755_604_800.25), "2025-08-19T12:00:00.250000Z");
        for no in [0.0, 2025.0, 20_250_102.0, -1.0, f64::NAN, 1e30] {
            assert_eq!(instant_of_number(no), None, "{no}");
        }
    }
}
