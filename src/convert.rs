//! A value of the archive to a value that the target's column holds, or the reason why not.

use std::collections::BTreeMap;

use crate::archive::json::{Findings, Scanner};
use crate::archive::value::{portable, real_text};
use crate::error::{Code, Error, Result};
use crate::plan::{ColumnPlan, OnUnrepresentable, Plan, StreamPlan};
use crate::record::{Batch, Kind, Value, show};
use crate::target::{Affinity, TargetType};
use crate::time::{NotInstant, read_text, read_text_nearest};

/// Values that were changed because the target cannot hold them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Adapted {
    /// The stream.
    pub stream: String,
    /// The column.
    pub column: String,
    /// Why.
    pub reason: String,
    /// How many values.
    pub values: u64,
    /// The key of the first row.
    pub first: String,
}

/// Why a target's column cannot hold a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    reason: String,
    zone: bool,
}

fn refuse<T>(reason: impl Into<String>) -> std::result::Result<T, Refusal> {
    Err(Refusal { reason: reason.into(), zone: false })
}

/// Converts the rows of an import and counts the values it had to change.
#[derive(Default)]
pub struct Converter {
    scanner: Scanner,
    scratch: Vec<u8>,
    changed: Vec<(usize, String)>,
    adapted: BTreeMap<(String, String, String), (u64, String)>,
}

impl Converter {
    /// Appends the row to `out` in the order of the plan's columns and the types of the target.
    ///
    /// # Errors
    /// A value that the target cannot hold, with table, key, column and reason.
    pub fn row(
        &mut self,
        plan: &Plan,
        stream: &StreamPlan,
        batch: &Batch,
        row: usize,
        out: &mut Batch,
    ) -> Result<()> {
        self.changed.clear();
        for (n, column) in stream.columns.iter().enumerate() {
            let value = batch.value(row, column.source);
            match convert(&mut self.scanner, column, value, &mut self.scratch) {
                Ok(held) => out.push(held.borrow(&self.scratch)),
                Err(refusal) => {
                    let may = plan.options.on_unrepresentable == OnUnrepresentable::Adapt;
                    let nearest = if may && !refusal.zone {
                        adapt(&mut self.scanner, column, value)
                    } else {
                        None
                    };
                    match nearest {
                        Some(nearest) => out.push(nearest.borrow()),
                        None => return Err(refused(plan, stream, column, batch, row, &refusal)),
                    }
                    self.changed.push((n, refusal.reason));
                }
            }
        }
        Ok(())
    }

    /// Counts what the last [`Converter::row`] changed: the row was loaded.
    pub fn count(&mut self, stream: &StreamPlan, batch: &Batch, row: usize) {
        for (column, reason) in self.changed.drain(..) {
            let place = (stream.stream.clone(), stream.columns[column].name.clone(), reason);
            self.adapted.entry(place).or_insert_with(|| (0, key_of(stream, batch, row))).0 += 1;
        }
    }

    /// What was changed so far.
    pub fn adapted(&self) -> Vec<Adapted> {
        (self.adapted.iter())
            .map(|((stream, column, reason), (values, first))| Adapted {
                stream: stream.clone(),
                column: column.clone(),
                reason: reason.clone(),
                values: *values,
                first: first.clone(),
            })
            .collect()
    }
}

/// The key of a row, for messages.
pub fn key_of(stream: &StreamPlan, batch: &Batch, row: usize) -> String {
    let parts = stream.key.iter().filter_map(|k| stream.columns.get(*k));
    parts.map(|c| show(batch.value(row, c.source))).collect::<Vec<_>>().join(", ")
}

fn refused(
    plan: &Plan,
    stream: &StreamPlan,
    column: &ColumnPlan,
    batch: &Batch,
    row: usize,
    refusal: &Refusal,
) -> Error {
    let hint = match (&plan.zone_hint, refusal.zone) {
        (Some(zone), true) => format!(
            "say in which time zone these times were written: --assume-tz ZONE; the archive was \
             made on a machine in {zone}: --assume-tz archive"
        ),
        (None, true) => "say in which time zone these times were written: --assume-tz ZONE, for \
                         example --assume-tz Europe/Berlin"
            .into(),
        (_, false) if plan.options.on_unrepresentable == OnUnrepresentable::Adapt => {
            "this value has no form that the column holds; mend it in the source and export again"
                .into()
        }
        (_, false) => "--on-unrepresentable=adapt loads the nearest value that the target holds \
                       and counts it; the archive keeps the original"
            .into(),
    };
    Error::new(
        Code::Value,
        format!(
            "{}: row {} (key {}), column \"{}\" ({} in the target): {}",
            stream.table_name,
            batch.first_row() + row as u64,
            key_of(stream, batch, row),
            column.name,
            column.ty.name(),
            refusal.reason
        ),
    )
    .hint(hint)
}

/// The value in the target's type, if the column holds it without change.
fn convert<'v>(
    scanner: &mut Scanner,
    column: &ColumnPlan,
    value: Value<'v>,
    scratch: &mut Vec<u8>,
) -> Fit<'v> {
    fits(scanner, column, value)?;
    match exact(column, value, scratch)? {
        Held::Value(Value::Null) if column.not_null => {
            refuse("NULL where the target requires a value")
        }
        held => Ok(held),
    }
}

/// Checks that need the scanner: whether JSON can go into a JSON column as it is.
fn fits(
    scanner: &mut Scanner,
    column: &ColumnPlan,
    value: Value<'_>,
) -> std::result::Result<(), Refusal> {
    match (&column.ty, value) {
        (TargetType::Jsonb, Value::Text(_)) if column.kind == Kind::Jsonb => Ok(()),
        (TargetType::Json | TargetType::Jsonb, Value::Text(text)) => {
            let findings = scanner.scan(text);
            let cannot: &[Findings] = match column.ty {
                TargetType::Json => &[Findings::INVALID, Findings::VERY_DEEP],
                _ => &[
                    Findings::INVALID,
                    Findings::NUL,
                    Findings::SURROGATE,
                    Findings::DUPLICATE,
                    Findings::HUGE_NUMBER,
                    Findings::VERY_DEEP,
                ],
            };
            match cannot.iter().find(|f| findings.contains(**f)) {
                Some(&Findings::INVALID) => refuse("it is not valid JSON"),
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
enum Held<'v> {
    Value(Value<'v>),
    Scratch,
}

impl<'v> Held<'v> {
    fn borrow<'a>(&self, scratch: &'a [u8]) -> Value<'a>
    where
        'v: 'a,
    {
        match self {
            Held::Value(value) => *value,
            Held::Scratch => Value::Text(scratch),
        }
    }
}

type Fit<'v> = std::result::Result<Held<'v>, Refusal>;

/// The value itself in the target's type, if the type holds it without change.
fn exact<'v>(column: &ColumnPlan, value: Value<'v>, scratch: &mut Vec<u8>) -> Fit<'v> {
    if value == Value::Null {
        return Ok(Held::Value(Value::Null));
    }
    match &column.ty {
        TargetType::Sqlite(affinity) => to_sqlite(*affinity, column.kind, value, scratch),
        TargetType::Uuid => to_uuid(value),
        TargetType::Text(most) => to_text(column.kind, value, *most, scratch),
        TargetType::Int(bytes) => to_int(value, *bytes),
        TargetType::Float(bytes) => to_float(value, *bytes),
        TargetType::Bool => to_bool(value),
        TargetType::Timestamptz => to_instant(column, value),
        TargetType::Json | TargetType::Jsonb => match value {
            Value::Text(_) => Ok(Held::Value(value)),
            other => refuse(format!("{} is not JSON text", class(other))),
        },
        TargetType::Bytea => match value {
            Value::Blob(_) => Ok(Held::Value(value)),
            other => refuse(format!("{} is not a blob", class(other))),
        },
        TargetType::Cast(_) => to_text(column.kind, value, None, scratch),
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

/// From here on SQLite keeps a real number without a fraction as it is, on either side of zero.
const TWO_TO_THE_63: f64 = 9_223_372_036_854_775_808.0;

fn to_sqlite<'v>(
    affinity: Affinity,
    kind: Kind,
    value: Value<'v>,
    scratch: &mut Vec<u8>,
) -> Fit<'v> {
    let held = match value {
        Value::Bool(v) => Held::Value(Value::Int(i64::from(v))),
        // integers of another database stand for themselves in a text key: 7 becomes '7'
        Value::Int(_) if kind == Kind::Int && affinity == Affinity::Text => write(value, scratch),
        Value::Time(_) | Value::Uuid(_) => write(value, scratch),
        other => Held::Value(other),
    };
    match (affinity, held.borrow(scratch)) {
        (_, Value::Real(v)) if v.is_nan() => refuse("NaN would become NULL"),
        (Affinity::Text, foreign @ (Value::Int(_) | Value::Real(_))) => {
            refuse(format!("{} would become text", class(foreign)))
        }
        (Affinity::Numeric, Value::Real(v)) if v.trunc() == v && v.abs() < TWO_TO_THE_63 => {
            refuse("a real number without a fraction would become an integer")
        }
        (Affinity::Real, Value::Int(_)) => refuse("an integer would become a real number"),
        (Affinity::Numeric | Affinity::Real, Value::Text(text)) if looks_numeric(text) => {
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

fn to_instant<'v>(column: &ColumnPlan, value: Value<'v>) -> Fit<'v> {
    match value {
        Value::Time(_) => Ok(Held::Value(value)),
        Value::Text(text) => match read_text(text, column.naive) {
            Ok(instant) => Ok(Held::Value(Value::Time(instant))),
            Err(why) => Err(Refusal { reason: why.to_string(), zone: why == NotInstant::NoZone }),
        },
        other => refuse(format!("{} is not an instant", class(other))),
    }
}

/// The value that is loaded in the place of one that the target cannot hold.
enum Nearest {
    Null,
    Time(crate::time::Instant),
    Text(Vec<u8>),
}

impl Nearest {
    fn borrow(&self) -> Value<'_> {
        match self {
            Nearest::Null => Value::Null,
            Nearest::Time(instant) => Value::Time(*instant),
            Nearest::Text(text) => Value::Text(text),
        }
    }
}

/// The nearest value that the target holds: the one that the archive's record shows, an instant
/// rounded to the microsecond, and where the column allows no NULL a payload that is no JSON as
/// one JSON string.
fn adapt(scanner: &mut Scanner, column: &ColumnPlan, value: Value<'_>) -> Option<Nearest> {
    if let (TargetType::Timestamptz, Value::Text(text)) = (&column.ty, value) {
        let nearest = read_text_nearest(text, column.naive).ok().map(Nearest::Time);
        return nearest.or((!column.not_null).then_some(Nearest::Null));
    }
    if let Some(text) = portable(column.kind, column.key, value) {
        let plan = ColumnPlan { kind: column.kind, ..column.clone() };
        let mut unused = Vec::new();
        let holds = fits(scanner, &plan, Value::Text(&text)).is_ok()
            && matches!(
                exact(&plan, Value::Text(&text), &mut unused),
                Ok(Held::Value(Value::Text(_)))
            );
        if holds {
            return Some(Nearest::Text(text));
        }
    }
    if !column.not_null {
        return Some(Nearest::Null);
    }
    match (&column.ty, value) {
        (TargetType::Json | TargetType::Jsonb, Value::Text(text)) => {
            let clean = String::from_utf8_lossy(text).replace('\0', "\u{fffd}");
            let mut string = Vec::new();
            crate::archive::json::write_string(&mut string, &clean);
            Some(Nearest::Text(string))
        }
        _ => None,
    }
}
