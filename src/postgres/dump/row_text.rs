//! A row as one text, as the server makes it of a row: by it is seen whether a row that an import created was edited.

use super::schema::{DumpedColumn, DumpedType, FullName, Schema};
use super::values::{Form, form};
use crate::postgres::catalog::PgTable;
use chronicle_archive::{Kind, Value, show};

/// How deep JSON is looked into.
const MOST_DEPTH: usize = 500;

/// How the rows of a table become texts: the same as [`row_text`](crate::postgres::row_text) is on a server.
pub(super) struct RowText {
    /// Names and places of the columns, in the order that jsonb has.
    columns: Vec<(String, usize, Shown)>,
}

/// How jsonb shows the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Number,
    Bool,
    /// A text, or the server's text of a value.
    Text,
    /// A time, a day or a moment.
    Time,
    Json,
    /// Only the server knows.
    Unknown,
}

impl RowText {
    /// How the rows of a table do.
    pub(super) fn new(schema: &Schema, name: &FullName, table: &PgTable) -> RowText {
        let dumped = schema.table(name).map_or(&[][..], |table| &table.columns);
        let shown = |name: &str| {
            let column = dumped.iter().find(|c| c.column.name == name);
            column.map_or(Shown::Unknown, |column| shown(schema, column))
        };
        let columns = table.columns.iter().enumerate();
        let mut columns: Vec<_> =
            columns.map(|(n, column)| (column.name.clone(), n, shown(&column.name))).collect();
        // their values are not in a dump
        let computed = table.computed.iter();
        columns.extend(computed.map(|name| (name.clone(), usize::MAX, Shown::Unknown)));
        columns.sort_by(|(a, ..), (b, ..)| (a.len(), a).cmp(&(b.len(), b)));
        RowText { columns }
    }

    /// The text of a row; None if only the server knows it.
    pub(super) fn of(&self, values: &[Value<'_>]) -> Option<String> {
        let mut text = String::from("{");
        for (name, n, shown) in &self.columns {
            let value = *values.get(*n)?;
            if value == Value::Null {
                continue;
            }
            let shown = show_as(*shown, value)?;
            // NULL as JSON is stripped, too
            if shown == "null" {
                continue;
            }
            if text.len() > 1 {
                text.push_str(", ");
            }
            push_quoted(&mut text, name);
            text.push_str(": ");
            text.push_str(&shown);
        }
        text.push('}');
        Some(text)
    }
}

fn shown(schema: &Schema, column: &DumpedColumn) -> Shown {
    match (column.column.kind(), form(schema, column)) {
        (Kind::Int | Kind::Real | Kind::Numeric, _) => Shown::Number,
        (Kind::Bool, _) => Shown::Bool,
        (Kind::Time | Kind::Date, _) => Shown::Time,
        (Kind::Text | Kind::Uuid, _) => Shown::Text,
        (Kind::Jsonb, _) => Shown::Json,
        (Kind::Other, _) if column.ty.array => Shown::Unknown,
        (Kind::Other, _) if column.column.type_name == "timestamp" => Shown::Time,
        (Kind::Other, Some(Form::Text | Form::Interval | Form::Money)) => {
            let is_known = match schema.type_of(&column.ty) {
                Some(ty) => matches!(ty, DumpedType::Enum(_)),
                // a type of an extension may have a way to JSON of its own
                None => column.ty.schema.is_none(),
            };
            if is_known { Shown::Text } else { Shown::Unknown }
        }
        (Kind::Other | Kind::Bytes | Kind::Json, _) => Shown::Unknown,
    }
}

fn show_as(shown: Shown, value: Value<'_>) -> Option<String> {
    let text = match value {
        Value::Text(text) => std::str::from_utf8(text).ok()?.to_owned(),
        Value::Real(v) if v.is_infinite() => if v > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        // the server makes a numeric of it, which has one zero
        Value::Real(0.0) => "0".into(),
        other => show(other),
    };
    let quoted = |text: &str| {
        let mut shown = String::new();
        push_quoted(&mut shown, text);
        shown
    };
    Some(match shown {
        Shown::Bool => text,
        Shown::Number if text.ends_with(|c: char| c.is_ascii_digit()) => text,
        Shown::Number | Shown::Text => quoted(&text),
        Shown::Time => {
            let (time, era) = match text.strip_suffix(" BC") {
                Some(time) => (time, " BC"),
                None => (text.as_str(), ""),
            };
            let offset = if time.ends_with("+00") { ":00" } else { "" };
            quoted(&format!("{}{offset}{era}", time.replacen(' ', "T", 1)))
        }
        Shown::Json => {
            let (mut rest, mut stripped) = (text.as_str(), String::new());
            strip_nulls(&mut rest, &mut stripped, 0)?;
            stripped
        }
        Shown::Unknown => return None,
    })
}

/// Appends a text as jsonb prints it.
fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Appends a value as jsonb prints it, without the members of objects that are null.
fn strip_nulls(rest: &mut &str, out: &mut String, depth: usize) -> Option<()> {
    let open = rest.chars().next()?;
    let close = match open {
        '{' => '}',
        '[' => ']',
        _ => {
            let end = scalar_end(rest)?;
            out.push_str(&rest[..end]);
            *rest = &rest[end..];
            return Some(());
        }
    };
    if depth > MOST_DEPTH {
        return None;
    }
    *rest = &rest[1..];
    out.push(open);
    let mut is_first = true;
    while !rest.starts_with(close) {
        let mut member = String::new();
        if open == '{' {
            let end = scalar_end(rest)?;
            member.push_str(&rest[..end]);
            *rest = rest[end..].strip_prefix(": ")?;
            member.push_str(": ");
        }
        let is_null = open == '{' && rest.starts_with("null");
        strip_nulls(rest, &mut member, depth + 1)?;
        *rest = rest.strip_prefix(", ").unwrap_or(rest);
        if !is_null {
            if !is_first {
                out.push_str(", ");
            }
            out.push_str(&member);
            is_first = false;
        }
    }
    *rest = &rest[1..];
    out.push(close);
    Some(())
}

/// Where a text, number or word ends.
fn scalar_end(text: &str) -> Option<usize> {
    let Some(inside) = text.strip_prefix('"') else {
        let end = text.find([',', ']', '}']).unwrap_or(text.len());
        return Some(end).filter(|end| *end > 0);
    };
    let mut is_escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + 2),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use chronicle_archive::time::{ZoneRule, read_text};

    fn row() -> RowText {
        let columns = [
            ("b", Shown::Text),
            ("n", Shown::Number),
            ("t", Shown::Bool),
            ("aa", Shown::Time),
            ("json", Shown::Json),
            ("other", Shown::Unknown),
        ];
        let columns = columns.into_iter().enumerate();
        RowText { columns: columns.map(|(n, (name, shown))| (name.into(), n, shown)).collect() }
    }

    #[test]
    fn a_row_is_the_text_that_the_server_makes() {
        let time = read_text(b"0044-03-15 12:00:00.5+00 BC", ZoneRule::Refuse).unwrap();
        let json =
            r#"{"a": null, "b": [null, {"c": null}, {"d": "x\", null", "e": 1.50}], "é": true}"#;
        let values = [
            Value::Text("a\"\u{1}\té".as_bytes()),
            Value::Real(1e22),
            Value::Bool(true),
            Value::Time(time),
            Value::Text(json.as_bytes()),
            Value::Null,
        ];
        let expected = r#"{"b": "a\"\u0001\té", "n": 10000000000000000000000, "t": true, "aa": "0044-03-15T12:00:00.5+00:00 BC", "json": {"b": [null, {}, {"d": "x\", null", "e": 1.50}], "é": true}}"#;
        assert_eq!(row().of(&values).as_deref(), Some(expected));
        let nothing = [Value::Null; 6];
        assert_eq!(row().of(&nothing).as_deref(), Some("{}"));
        let unknown = [&nothing[..5], &[Value::Text(b"x")]].concat();
        assert_eq!(row().of(&unknown), None);
    }
}
