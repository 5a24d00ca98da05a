//! A value of the archive to a value that the target's column holds, or the reason why not.

use crate::catalog::{Affinity, CheckConstraint, ColumnType};
use crate::decimal::Decimal;
use crate::plan::ColumnPlan;
use chronicle_archive::codec::real_text;
use chronicle_archive::json::{JsonIssues, Scanner};
use chronicle_archive::time::{NotInstant, ZoneRule, read_text};
use chronicle_archive::{Kind, Value, show};

/// Why a target's column cannot hold a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, in words.
    pub reason: String,
    /// What more there is to say of this one value.
    pub detail: Option<String>,
    /// Whether a time zone would remedy it.
    pub zone: bool,
}

/// A refusal for a reason.
pub fn refuse<T>(reason: impl Into<String>) -> std::result::Result<T, Refusal> {
    Err(Refusal { reason: reason.into(), detail: None, zone: false })
}

/// The value in the target's type, if the column holds the same one, perhaps in another spelling: 7 is
/// 7.0, and minus zero is zero. A time without a zone is read as `zone_rule` says.
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
pub(super) fn obeys(column: &ColumnPlan, value: Value<'_>) -> std::result::Result<(), Refusal> {
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
        ColumnType::Sqlite(affinity) => {
            let held = to_sqlite(*affinity, column.kind, value, scratch)?;
            match column.strict && !is_of(*affinity, held.borrow(scratch)) {
                true => refuse(format!("{} is not of the column's own class", class(value))),
                false => Ok(held),
            }
        }
        ColumnType::Uuid => to_uuid(value),
        ColumnType::Text(most) => to_text(column.kind, value, *most, scratch),
        ColumnType::Int(bytes) => to_int(column.kind, value, *bytes),
        ColumnType::Float(bytes) => to_float(column.kind, value, *bytes),
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
        // the server reads every text, and says what it makes of it
        ColumnType::Cast(_) => match value {
            Value::Int(_) | Value::Real(_) => Ok(write(value, scratch)),
            other => to_text(column.kind, other, None, scratch),
        },
    }
}

/// The name of a value's class, for messages.
pub(super) fn class(value: Value<'_>) -> &'static str {
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
pub(super) const TWO_TO_THE_63: f64 = 9_223_372_036_854_775_808.0;

/// Up to here every integer is a double.
const TWO_TO_THE_53: u64 = 1 << 53;

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
        Value::Text(text) if kind == Kind::Numeric && is_numeric(affinity) => {
            Held::Value(number_of(text, affinity).unwrap_or(value))
        }
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
            Ok(Held::Value(Value::Int(v as i64)))
        }
        (Affinity::Real, Value::Int(v)) if v.unsigned_abs() <= TWO_TO_THE_53 => {
            Ok(Held::Value(Value::Real(v as f64)))
        }
        (Affinity::Real, Value::Int(_)) => refuse("an integer beyond 2^53 is no real number"),
        // SQLite knows only one zero there
        (Affinity::Real, Value::Real(0.0)) => Ok(Held::Value(Value::Real(0.0))),
        (Affinity::Numeric | Affinity::Integer | Affinity::Real, Value::Text(text))
            if looks_numeric(text) =>
        {
            match kind {
                Kind::Numeric => refuse("a real number would round it"),
                _ => refuse("a text that looks like a number would become one"),
            }
        }
        _ => Ok(held),
    }
}

fn is_numeric(affinity: Affinity) -> bool {
    matches!(affinity, Affinity::Integer | Affinity::Numeric | Affinity::Real)
}

/// Whether a STRICT table takes a value into a column of this affinity.
fn is_of(affinity: Affinity, value: Value<'_>) -> bool {
    match affinity {
        Affinity::Text => matches!(value, Value::Text(_)),
        Affinity::Integer | Affinity::Numeric => matches!(value, Value::Int(_)),
        Affinity::Real => matches!(value, Value::Real(_)),
        Affinity::Blob => matches!(value, Value::Blob(_)),
    }
}

/// The number of SQLite that a decimal number is, if one is exactly that.
fn number_of(text: &[u8], affinity: Affinity) -> Option<Value<'static>> {
    let exact = Decimal::read(text)?;
    match exact.integer() {
        Some(v) if affinity != Affinity::Real => Some(Value::Int(v)),
        _ => real_of(&exact, text).map(Value::Real),
    }
}

/// The double whose shortest text is a decimal number.
fn real_of(exact: &Decimal, text: &[u8]) -> Option<f64> {
    let v: f64 = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    let same = |v: &f64| Decimal::read(real_text(*v).as_bytes()).as_ref() == Some(exact);
    // one spelled in full has more digits than its shortest text
    let in_full = |v: &f64| v.trunc() == *v && exact.integer() == Some(*v as i64);
    Some(v).filter(|v| v.is_finite()).filter(|v| same(v) || in_full(v))
}

/// Whether SQLite would take a text for a number when it stores it in a numeric column; rather
/// too often than too rarely.
pub(super) fn looks_numeric(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    trimmed.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
        && trimmed.parse::<f64>().is_ok()
}

/// A value without bytes as text in the scratch buffer.
pub(super) fn write<'v>(value: Value<'v>, scratch: &mut Vec<u8>) -> Held<'v> {
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

fn to_int(kind: Kind, value: Value<'_>, bytes: u8) -> Fit<'_> {
    let v = match value {
        Value::Int(v) => v,
        Value::Real(v) if v.trunc() == v && v.abs() < TWO_TO_THE_63 => v as i64,
        Value::Text(text) if kind == Kind::Numeric => {
            match Decimal::read(text).and_then(|d| d.integer()) {
                Some(v) => v,
                None => return refuse("the number is not an integer of 8 bytes"),
            }
        }
        other => return refuse(format!("{} is not an integer", class(other))),
    };
    let holds = match bytes {
        2 => i16::try_from(v).is_ok(),
        4 => i32::try_from(v).is_ok(),
        _ => true,
    };
    if holds {
        Ok(Held::Value(Value::Int(v)))
    } else {
        refuse(format!("{v} is too large for {bytes} bytes"))
    }
}

fn to_float(kind: Kind, value: Value<'_>, bytes: u8) -> Fit<'_> {
    let v = match value {
        Value::Real(v) => v,
        Value::Int(v) if v.unsigned_abs() <= TWO_TO_THE_53 => v as f64,
        Value::Int(_) => return refuse("an integer beyond 2^53 has no exact float"),
        Value::Text(text) if kind == Kind::Numeric => match special_or_exact(text) {
            Some(v) => v,
            None => return refuse("a float would round it"),
        },
        other => return refuse(format!("{} is not a number", class(other))),
    };
    if bytes == 8 || v.is_nan() || v.is_infinite() {
        return Ok(Held::Value(Value::Real(v)));
    }
    let held = narrowed(v);
    match held == v || f64::from(v as f32) == v {
        true => Ok(Held::Value(Value::Real(held))),
        false => refuse("a 4-byte float would round it"),
    }
}

/// The double that a `numeric` is.
fn special_or_exact(text: &[u8]) -> Option<f64> {
    match text {
        b"NaN" => Some(f64::NAN),
        b"Infinity" => Some(f64::INFINITY),
        b"-Infinity" => Some(f64::NEG_INFINITY),
        _ => real_of(&Decimal::read(text)?, text),
    }
}

/// What a float of 4 bytes makes of a number: such a float travels as the shortest text that reads
/// back as it.
pub(super) fn narrowed(v: f64) -> f64 {
    let narrow = v as f32;
    narrow.to_string().parse().unwrap_or(f64::from(narrow))
}

fn to_bool(value: Value<'_>) -> Fit<'_> {
    match value {
        Value::Bool(_) => Ok(Held::Value(value)),
        Value::Int(v @ 0..=1) => Ok(Held::Value(Value::Bool(v == 1))),
        Value::Real(v) if v == 0.0 || v == 1.0 => Ok(Held::Value(Value::Bool(v == 1.0))),
        other => refuse(format!("{} is neither true nor false", class(other))),
    }
}

fn to_instant(zone_rule: ZoneRule, value: Value<'_>) -> Fit<'_> {
    match value {
        Value::Time(_) => Ok(Held::Value(value)),
        Value::Text(text) => match read_text(text, zone_rule) {
            Ok(instant) => Ok(Held::Value(Value::Time(instant))),
            Err(why) => {
                let zone = why == NotInstant::NoZone;
                Err(Refusal { reason: why.to_string(), detail: None, zone })
            }
        },
        other => refuse(format!("{} is not an instant", class(other))),
    }
}
