//! The nearest value that a column of the target holds, in the place of one that it cannot hold.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::convert::{convert, looks_numeric, narrowed, write};
use super::likely_time::nearest_instant;
use crate::catalog::{Affinity, CheckConstraint, ColumnType};
use crate::decimal::Decimal;
use crate::plan::ColumnPlan;
use chronicle_archive::codec::{portable, real_text};
use chronicle_archive::json::Scanner;
use chronicle_archive::time::{Instant, ZoneRule};
use chronicle_archive::{Value, show};

/// The value that is loaded in the place of one that the target cannot hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Nearest {
    /// Nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A real number.
    Real(f64),
    /// An instant.
    Time(Instant),
    /// A UUID.
    Uuid([u8; 16]),
    /// A text.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Nearest {
    /// The value.
    pub(super) fn borrow(&self) -> Value<'_> {
        match self {
            Nearest::Null => Value::Null,
            Nearest::Bool(v) => Value::Bool(*v),
            Nearest::Int(v) => Value::Int(*v),
            Nearest::Real(v) => Value::Real(*v),
            Nearest::Time(instant) => Value::Time(*instant),
            Nearest::Uuid(v) => Value::Uuid(*v),
            Nearest::Text(text) => Value::Text(text),
            Nearest::Blob(bytes) => Value::Blob(bytes),
        }
    }

    /// A value of its own.
    pub(super) fn of(value: Value<'_>) -> Nearest {
        match value {
            Value::Null => Nearest::Null,
            Value::Bool(v) => Nearest::Bool(v),
            Value::Int(v) => Nearest::Int(v),
            Value::Real(v) => Nearest::Real(v),
            Value::Time(v) => Nearest::Time(v),
            Value::Uuid(v) => Nearest::Uuid(v),
            Value::Text(text) => Nearest::Text(text.to_vec()),
            Value::Blob(bytes) => Nearest::Blob(bytes.to_vec()),
        }
    }
}

/// The nearest value that the target holds, NULL only where nothing else fits. None if there is none.
pub(super) fn adapt(
    scanner: &mut Scanner,
    column: &ColumnPlan,
    zone_rule: ZoneRule,
    value: Value<'_>,
) -> Option<Nearest> {
    let mut scratch = Vec::new();
    for candidate in candidates(column, zone_rule, value) {
        let held = convert(scanner, column, zone_rule, candidate.borrow(), &mut scratch);
        if let Ok(held) = held {
            return Some(Nearest::of(held.borrow(&scratch)));
        }
    }
    // a row without its key would be another row, or none
    (!column.not_null && !column.key).then_some(Nearest::Null)
}

/// The values that may stand for another one, the nearest first.
fn candidates(column: &ColumnPlan, zone_rule: ZoneRule, value: Value<'_>) -> Vec<Nearest> {
    let portable = portable(column.kind, column.key, value).map(Nearest::Text);
    // what is rounded or shortened may be the key of another row
    if column.key || column.ids.is_some() {
        return portable.into_iter().collect();
    }
    let found = match &column.ty {
        ColumnType::Timestamptz => {
            nearest_instant(zone_rule, value).map(Nearest::Time).into_iter().collect()
        }
        ColumnType::Bool => truth(value).map(Nearest::Bool).into_iter().collect(),
        ColumnType::Int(bytes) => integers(column, value, *bytes),
        ColumnType::Float(bytes) => float(value, *bytes).map(Nearest::Real).into_iter().collect(),
        ColumnType::Uuid => uuid(value).into_iter().collect(),
        ColumnType::Json | ColumnType::Jsonb => vec![Nearest::Text(json(value))],
        ColumnType::Bytea => vec![Nearest::Blob(bytes(value))],
        ColumnType::Text(_) | ColumnType::Cast(_) => texts(column, value),
        ColumnType::Sqlite(affinity) => of_sqlite(column, *affinity, value),
    };
    portable.into_iter().chain(found).collect()
}

/// What a text or a number says of true and false.
fn truth(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Int(v) => Some(v != 0),
        Value::Real(v) => (!v.is_nan()).then_some(v != 0.0),
        Value::Text(text) => match text.trim_ascii().to_ascii_lowercase().as_slice() {
            b"true" | b"t" | b"yes" | b"y" | b"on" => Some(true),
            b"false" | b"f" | b"no" | b"n" | b"off" => Some(false),
            other => Decimal::read(other).map(|d| !d.is_zero()),
        },
        _ => None,
    }
}

/// The number that a value is, in full.
fn number(value: Value<'_>) -> Option<String> {
    match value {
        Value::Int(v) => Some(v.to_string()),
        Value::Bool(v) => Some(i64::from(v).to_string()),
        Value::Real(v) if v.is_finite() => Some(real_text(v)),
        Value::Text(text) => {
            Decimal::read(text)?;
            Some(std::str::from_utf8(text).ok()?.trim().to_owned())
        }
        _ => None,
    }
}

/// The integers next to a number: within the type, and within what a CHECK of the column allows.
fn integers(column: &ColumnPlan, value: Value<'_>, bytes: u8) -> Vec<Nearest> {
    let rounded = match value {
        Value::Real(v) if v.is_infinite() => Some(if v > 0.0 { i64::MAX } else { i64::MIN }),
        other => number(other).and_then(|n| Some(Decimal::read(n.as_bytes())?.rounded())),
    };
    let Some(rounded) = rounded else { return Vec::new() };
    let (least, most) = match bytes {
        2 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        4 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    let least = match column.check {
        Some(CheckConstraint::AtLeast(n)) => least.max(n),
        _ => least,
    };
    vec![Nearest::Int(rounded.clamp(least.min(most), most))]
}

/// The float next to a number.
fn float(value: Value<'_>, bytes: u8) -> Option<f64> {
    let v: f64 = match value {
        Value::Real(v) => v,
        other => number(other)?.parse().ok()?,
    };
    Some(match bytes {
        4 if v.is_finite() => narrowed(v.clamp(f64::from(f32::MIN), f64::from(f32::MAX))),
        _ if v.is_infinite() && !matches!(value, Value::Real(_)) => f64::MAX.copysign(v),
        _ => v,
    })
}

fn uuid(value: Value<'_>) -> Option<Nearest> {
    match value {
        Value::Blob(bytes) => bytes.try_into().ok().map(Nearest::Uuid),
        Value::Text(text) => {
            let found = uuid::Uuid::try_parse_ascii(text.trim_ascii()).ok()?;
            Some(Nearest::Uuid(found.into_bytes()))
        }
        _ => None,
    }
}

/// A value as JSON: a number or a truth as itself, anything else as a string, bytes in Base64.
fn json(value: Value<'_>) -> Vec<u8> {
    let clean = match value {
        Value::Int(_) | Value::Bool(_) => return show(value).into_bytes(),
        Value::Real(v) if v.is_finite() => return real_text(v).into_bytes(),
        Value::Text(text) => String::from_utf8_lossy(text).replace('\0', "\u{fffd}"),
        Value::Blob(bytes) => BASE64.encode(bytes),
        other => show(other),
    };
    let mut string = Vec::new();
    chronicle_archive::json::write_string(&mut string, &clean);
    string
}

fn bytes(value: Value<'_>) -> Vec<u8> {
    match value {
        Value::Uuid(bytes) => bytes.to_vec(),
        other => in_full(other),
    }
}

/// A value as the bytes of its text.
fn in_full(value: Value<'_>) -> Vec<u8> {
    let mut scratch = Vec::new();
    match write(value, &mut scratch).borrow(&scratch) {
        Value::Text(text) | Value::Blob(text) => text.to_vec(),
        _ => Vec::new(),
    }
}

/// Texts that stand for a value: its own, that of bytes or Base64, and what is left of them where the
/// column is shorter or allows only some.
fn texts(column: &ColumnPlan, value: Value<'_>) -> Vec<Nearest> {
    let text = match value {
        Value::Null => return Vec::new(),
        Value::Blob(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => text.to_owned(),
            _ => BASE64.encode(bytes),
        },
        other => String::from_utf8_lossy(&in_full(other)).replace('\0', "\u{fffd}"),
    };
    let mut found = Vec::new();
    if let Some(CheckConstraint::OneOf(allowed)) = &column.check {
        let same = |a: &&String| a.eq_ignore_ascii_case(text.trim());
        found.extend(allowed.iter().find(same).map(|a| Nearest::Text(a.clone().into_bytes())));
    }
    if let ColumnType::Text(Some(most)) = column.ty {
        let short: String = text.chars().take(most as usize).collect();
        found.push(Nearest::Text(short.into_bytes()));
    }
    found.push(Nearest::Text(text.into_bytes()));
    found
}

/// What stands for a value in a column of SQLite: a number where it would become one, a text where it
/// would become a text, and in a STRICT table whatever is of its own class.
fn of_sqlite(column: &ColumnPlan, affinity: Affinity, value: Value<'_>) -> Vec<Nearest> {
    let is_number = match value {
        Value::Text(text) => looks_numeric(text) || column.strict,
        _ => true,
    };
    let real = || float(value, 8).filter(|v| !v.is_nan());
    let mut found = Vec::new();
    match affinity {
        Affinity::Text | Affinity::Blob => {}
        _ if !is_number => {}
        Affinity::Real => found.extend(real().map(Nearest::Real)),
        Affinity::Integer | Affinity::Numeric => {
            let v = number(value).and_then(|n| Decimal::read(n.as_bytes()));
            match v {
                Some(d) if column.strict || d.integer().is_some() => {
                    found.push(Nearest::Int(d.rounded()));
                }
                _ => found.extend(real().map(Nearest::Real)),
            }
        }
    }
    if column.strict && affinity == Affinity::Integer {
        found.extend(integers(column, value, 8));
    }
    match affinity {
        Affinity::Blob if column.strict => found.push(Nearest::Blob(bytes(value))),
        Affinity::Text => found.extend(texts(column, value)),
        _ => {}
    }
    if let (Some(CheckConstraint::AtLeast(least)), Value::Int(_) | Value::Real(_)) =
        (&column.check, value)
    {
        found.push(Nearest::Int(*least));
    }
    found
}

/// The values that may stand for one whose type only the server knows, and which it does not take: a JSON
/// list as an array, a number at the end of the type's range, an instant, other blanks and capitals.
pub(super) fn for_server(column: &ColumnPlan, value: Value<'_>) -> Vec<Nearest> {
    let text = in_full(value);
    let (ColumnType::Cast(_) | ColumnType::Text(_), Ok(text)) =
        (&column.ty, std::str::from_utf8(&text))
    else {
        return Vec::new();
    };
    let ty = column.ty.name();
    let mut found = Vec::new();
    found.extend(array_of(text));
    found.extend(end_of_range(&ty, text));
    if ty.starts_with("timestamp") || ty == "date" {
        let instant = nearest_instant(ZoneRule::Utc, value);
        let mut written = Vec::new();
        if instant.is_some_and(|instant| instant.write_portable(&mut written)) {
            // a date, or a time without a zone
            let length = if ty == "date" { 10 } else { written.len() - 1 };
            found.push(String::from_utf8_lossy(&written[..length]).into_owned());
        }
    }
    let trimmed = text.trim();
    found.extend([trimmed.to_owned(), trimmed.to_lowercase(), trimmed.to_uppercase()]);
    let mut title = trimmed.to_lowercase();
    title.get_mut(..1).map(str::make_ascii_uppercase);
    found.push(title);
    found.retain(|other| other != text);
    found.dedup();
    found.into_iter().map(|text| Nearest::Text(text.into_bytes())).collect()
}

/// A JSON list as Postgres spells an array.
fn array_of(text: &str) -> Option<String> {
    let list: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    let element = |value: serde_json::Value| match value {
        serde_json::Value::Null => "NULL".to_owned(),
        serde_json::Value::Array(_) => {
            array_of(&value.to_string()).unwrap_or_else(|| "NULL".to_owned())
        }
        other => {
            let text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }
    };
    let elements: Vec<String> = list.into_iter().map(element).collect();
    Some(format!("{{{}}}", elements.join(",")))
}

/// The last number on its side that a `numeric` of so many digits holds.
fn end_of_range(ty: &str, text: &str) -> Option<String> {
    let number = Decimal::read(text.as_bytes())?;
    let (digits, scale) = ty.strip_prefix("numeric(")?.strip_suffix(')')?.split_once(',')?;
    let (digits, scale): (usize, i64) = (digits.parse().ok()?, scale.parse().ok()?);
    let sign = if number.is_negative() { "-" } else { "" };
    Some(format!("{sign}{}e{}", "9".repeat(digits), -scale))
}
