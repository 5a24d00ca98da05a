//! The values of a dump: how the text of COPY becomes the value that a live export reads from the server.

use std::ops::Range;

use super::interval;
use super::schema::{DumpedColumn, DumpedType, Schema};
use super::types::TypeName;
use crate::value_bytes;
use chronicle_archive::time::{ZoneRule, read_text};
use chronicle_archive::{Kind, Value};

/// How the text of a column becomes its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The text itself: the server prints it alike in every session.
    Text,
    Bool,
    Int,
    Float4,
    Float8,
    Uuid,
    Bytes,
    Time,
    /// Text without the blanks at its end, which the server drops when it turns the type into text.
    Trimmed,
    /// An address, whose mask is always written when it is turned into text.
    Address,
    /// An interval, which pg_dump does not write in the style of ISO 8601.
    Interval,
    /// Money in dollars; in any other currency it depends on the server's settings.
    Money,
}

/// Types whose text is the same in every session, also as elements of an array.
const PLAIN: [&str; 41] = [
    "text",
    "varchar",
    "name",
    "numeric",
    "json",
    "jsonb",
    "date",
    "time",
    "timetz",
    "timestamp",
    "bit",
    "varbit",
    "macaddr",
    "macaddr8",
    "cidr",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "tsvector",
    "tsquery",
    "\"char\"",
    "oid",
    "jsonpath",
    "pg_lsn",
    "int4range",
    "int8range",
    "numrange",
    "daterange",
    "tsrange",
    "int4multirange",
    "int8multirange",
    "nummultirange",
    "datemultirange",
    "tsmultirange",
    "uuid",
    "int2",
    "int4",
];

/// Types whose text is the same in every session as elements of an array.
const PLAIN_ELEMENTS: [&str; 6] = ["int8", "float4", "float8", "bool", "bpchar", "inet"];

/// How the values of a column are read; None if its text depends on the session that has written it.
pub(super) fn form(schema: &Schema, column: &DumpedColumn) -> Option<Form> {
    let form = match (column.column.kind(), column.column.type_name.as_str()) {
        (Kind::Bool, _) => Form::Bool,
        (Kind::Int, _) => Form::Int,
        (Kind::Real, "float4") => Form::Float4,
        (Kind::Real, _) => Form::Float8,
        (Kind::Uuid, _) => Form::Uuid,
        (Kind::Bytes, _) => Form::Bytes,
        (Kind::Time, _) => Form::Time,
        (Kind::Numeric | Kind::Text | Kind::Date | Kind::Json | Kind::Jsonb, _) => Form::Text,
        (Kind::Other, _) => return other(schema, innermost(schema, &column.ty)),
    };
    Some(form)
}

/// The type below all domains.
fn innermost<'a>(schema: &'a Schema, mut ty: &'a TypeName) -> &'a TypeName {
    // a dump cannot have a domain over itself
    for _ in 0..100 {
        let Some((base, _)) = schema.domain(ty) else { break };
        ty = base;
    }
    ty
}

fn other(schema: &Schema, ty: &TypeName) -> Option<Form> {
    if ty.schema.is_some() {
        // a type that the dump does not create is one of an extension
        return match schema.type_of(ty) {
            None | Some(DumpedType::Enum(_)) => Some(Form::Text),
            Some(DumpedType::Domain(..) | DumpedType::Composed) => None,
        };
    }
    let name = ty.element();
    if PLAIN.contains(&name) || (ty.array && PLAIN_ELEMENTS.contains(&name)) {
        return Some(Form::Text);
    }
    match name {
        _ if ty.array => None,
        "bpchar" => Some(Form::Trimmed),
        "inet" => Some(Form::Address),
        "interval" => Some(Form::Interval),
        "money" => Some(Form::Money),
        _ => None,
    }
}

/// One line of COPY.
#[derive(Default)]
pub(super) struct CopyLine {
    text: Vec<u8>,
    fields: Vec<Option<Range<usize>>>,
}

impl CopyLine {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(&mut self, line: &[u8]) -> Result<(), &'static str> {
        if std::str::from_utf8(line).is_err() || memchr::memchr(0, line).is_some() {
            return Err("not text in UTF-8");
        }
        self.text.clear();
        self.text.shrink_to(8 << 20);
        self.fields.clear();
        for field in line.split(|byte| *byte == b'\t') {
            if field == b"\\N" {
                self.fields.push(None);
                continue;
            }
            let start = self.text.len();
            unescape(field, &mut self.text).ok_or("an escape that COPY does not write")?;
            self.fields.push(Some(start..self.text.len()));
        }
        Ok(())
    }

    /// How many fields it has.
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// A field; None is NULL.
    pub(super) fn field(&self, n: usize) -> Option<&[u8]> {
        self.fields.get(n)?.clone().map(|range| &self.text[range])
    }

    /// A field as text.
    pub(super) fn text(&self, n: usize) -> Option<String> {
        self.field(n).map(|text| String::from_utf8_lossy(text).into_owned())
    }
}

fn unescape(mut field: &[u8], text: &mut Vec<u8>) -> Option<()> {
    while let Some(at) = memchr::memchr(b'\\', field) {
        text.extend_from_slice(&field[..at]);
        text.push(match field.get(at + 1)? {
            b'\\' => b'\\',
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            _ => return None,
        });
        field = &field[at + 2..];
    }
    text.extend_from_slice(field);
    Some(())
}

/// Appends the value of a field to a row; false if it is no value of its type.
pub(super) fn push(row: &mut Vec<u8>, form: Form, field: Option<&[u8]>) -> bool {
    let Some(field) = field else {
        value_bytes::push(row, Value::Null);
        return true;
    };
    let text = || std::str::from_utf8(field).ok();
    let mut put = |value: Option<Value<'_>>| match value {
        Some(value) => {
            value_bytes::push(row, value);
            true
        }
        None => false,
    };
    match form {
        Form::Text => put(Some(Value::Text(field))),
        Form::Bool => put(match field {
            b"t" => Some(Value::Bool(true)),
            b"f" => Some(Value::Bool(false)),
            _ => None,
        }),
        Form::Int => put(text().and_then(|t| t.parse().ok()).map(Value::Int)),
        Form::Float8 => put(text().and_then(|t| t.parse().ok()).map(Value::Real)),
        // as the double whose shortest text is the float's
        Form::Float4 => put(text().and_then(|t| {
            let value: f32 = t.parse().ok()?;
            let widened =
                if value.is_finite() { value.to_string().parse().ok()? } else { value.into() };
            Some(Value::Real(widened))
        })),
        Form::Uuid => {
            let uuid = text().and_then(|t| uuid::Uuid::parse_str(t).ok());
            put(uuid.map(|uuid| Value::Uuid(uuid.into_bytes())))
        }
        Form::Bytes => put(bytes(field).as_deref().map(Value::Blob)),
        Form::Time => put(read_text(field, ZoneRule::Refuse).ok().map(Value::Time)),
        Form::Trimmed => {
            let end = field.iter().rposition(|byte| *byte != b' ').map_or(0, |at| at + 1);
            put(Some(Value::Text(&field[..end])))
        }
        Form::Address => {
            let mask = match memchr::memchr2(b'/', b':', field).map(|at| field[at]) {
                Some(b':') if memchr::memchr(b'/', field).is_none() => "/128",
                None => "/32",
                _ => "",
            };
            put(Some(Value::Text(&[field, mask.as_bytes()].concat())))
        }
        Form::Interval => {
            let iso = text().and_then(interval::iso_8601);
            put(iso.as_ref().map(|iso| Value::Text(iso.as_bytes())))
        }
        Form::Money => put(Some(Value::Text(field)).filter(|_| is_in_dollars(field))),
    }
}

/// Bytes in either of the forms that servers write.
fn bytes(field: &[u8]) -> Option<Vec<u8>> {
    if let Some(digits) = field.strip_prefix(b"\\x") {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let (pairs, rest) = digits.as_chunks::<2>();
        let pair = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
        return pairs.iter().map(pair).collect::<Option<_>>().filter(|_| rest.is_empty());
    }
    let (mut bytes, mut rest) = (Vec::new(), field);
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match (*first, behind) {
            (b'\\', [b'\\', ..]) => {
                rest = &behind[1..];
                b'\\'
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                rest = &behind[3..];
                (a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')
            }
            (b'\\', _) => return None,
            (byte, _) => byte,
        });
    }
    Some(bytes)
}

/// Whether money is written as in the locale C: -$1,234.50.
fn is_in_dollars(field: &[u8]) -> bool {
    let amount = field.strip_prefix(b"-").unwrap_or(field).strip_prefix(b"$");
    let Some((whole, cents)) = amount.and_then(|amount| amount.split_last_chunk::<3>()) else {
        return false;
    };
    let groups: Vec<&[u8]> = whole.split(|byte| *byte == b',').collect();
    let are_digits = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
    let fits = |(n, group): (usize, &&[u8])| {
        are_digits(group) && if n == 0 { (1..4).contains(&group.len()) } else { group.len() == 3 }
    };
    groups.iter().enumerate().all(fits) && cents[0] == b'.' && are_digits(&cents[1..])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_copy_is_taken_apart() {
        let mut line = CopyLine::default();
        line.read(b"a\\tb\t\\N\t\t\\\\N\t\\\\.\\n\xc3\xa9").unwrap();
        let fields: Vec<_> = (0..line.len()).map(|n| line.text(n)).collect();
        let expected = [Some("a\tb"), None, Some(""), Some("\\N"), Some("\\.\né")];
        assert_eq!(fields, expected.map(|text| text.map(str::to_owned)));
        assert!(line.read(b"a\xff").is_err());
        assert!(line.read(b"a\0").is_err());
        assert!(line.read(b"a\\q").is_err());
        assert!(line.read(b"a\\").is_err());
    }

    fn read(form: Form, text: &str) -> Option<String> {
        let mut row = Vec::new();
        let is_value = push(&mut row, form, Some(text.as_bytes()));
        is_value.then(|| match value_bytes::read(&row)[..] {
            [Value::Text(text)] => String::from_utf8_lossy(text).into_owned(),
            [Value::Blob(bytes)] => format!("{bytes:?}"),
            [value] => chronicle_archive::show(value),
            _ => String::new(),
        })
    }

    #[test]
    fn texts_become_what_the_server_sends_a_live_export() {
        for (form, text, expected) in [
            (Form::Time, "2025-08-19 17:30:00.5+05:30", Some("2025-08-19 12:00:00.5+00")),
            (Form::Time, "0044-03-15 12:00:00+00 BC", Some("0044-03-15 12:00:00+00 BC")),
            (Form::Time, "-infinity", Some("-infinity")),
            (Form::Time, "2025-08-19 17:30:00", None),
            (Form::Float4, "0.1", Some("0.1")),
            (Form::Float4, "1e-45", Some(&1e-45_f64.to_string())),
            (Form::Float8, "-Infinity", Some("-inf")),
            (Form::Float8, "1,5", None),
            (Form::Int, "9223372036854775808", None),
            (Form::Bytes, "\\x00ff", Some("[0, 255]")),
            (Form::Bytes, "\\x00f", None),
            (Form::Bytes, "a\\000\\\\", Some("[97, 0, 92]")),
            (Form::Trimmed, " a  ", Some(" a")),
            (Form::Address, "10.0.0.1", Some("10.0.0.1/32")),
            (Form::Address, "10.0.0.1/24", Some("10.0.0.1/24")),
            (Form::Address, "::1", Some("::1/128")),
            (Form::Address, "fe80::/10", Some("fe80::/10")),
            (Form::Money, "-$1,234,567.80", Some("-$1,234,567.80")),
            (Form::Money, "1.234,50 €", None),
            (Form::Money, "$1234.50", None),
            (Form::Bool, "true", None),
        ] {
            assert_eq!(read(form, text).as_deref(), expected, "{form:?} {text}");
        }
    }
}
