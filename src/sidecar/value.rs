//! Values of any class as JSON: how the sidecar stores them, and how they come back.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{ALSO_WHOLE, RESERVED_KEY};
use crate::decimal::Decimal;
use chronicle_archive::codec::real_text;
use chronicle_archive::json::{JsonIssues, Scanner, member};
use chronicle_archive::time::Instant;
use chronicle_archive::{Batch, Kind, Value};

/// The tag of a value that exists only because the table requires one, or by its default.
pub const DEFAULT: &str = "default";
/// The tag of the fingerprint of what was loaded in place of an original.
pub(super) const LOADED: &str = "loaded";

/// A value as a tag and a text, with its attributes.
pub(super) type Tagged = BTreeMap<String, String>;

/// What is to be stored of a row, while it is collected.
#[derive(Debug, Default)]
pub struct SidecarValues(BTreeMap<String, Tagged>);

impl SidecarValues {
    /// The values of a stored object.
    pub(super) fn of(values: BTreeMap<String, Tagged>) -> SidecarValues {
        SidecarValues(values)
    }

    /// What an entry says.
    pub fn read(entry: &str) -> SidecarValues {
        SidecarValues(parse(entry.as_bytes()))
    }

    /// Notes that a column holds another value than was said before: `loaded` is its fingerprint.
    pub fn loaded_as(&mut self, column: &str, loaded: &str) {
        let whole = self.0.get_mut(ALSO_WHOLE).and_then(|columns| columns.get_mut(column));
        if let Some(was) = whole {
            loaded.clone_into(was);
        }
        if let Some(was) = self.0.get_mut(column).and_then(|tagged| tagged.get_mut(LOADED)) {
            loaded.clone_into(was);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something of a column is stored.
    pub fn has(&self, column: &str) -> bool {
        self.0.contains_key(column)
    }

    /// Stores the original of a column; `loaded` is the fingerprint of what was loaded in its place.
    pub fn original(&mut self, column: &str, value: Value<'_>, loaded: String) {
        let mut tagged = tag(value);
        tagged.insert(LOADED.into(), loaded);
        self.0.insert(column.to_owned(), tagged);
    }

    /// Stores the value of a column that the table lacks.
    pub fn missing(&mut self, column: &str, value: Value<'_>) {
        self.0.insert(column.to_owned(), tag(value));
    }

    /// Notes that the row is stored whole, too, and the fingerprints of its columns.
    pub fn also_whole(&mut self, columns: BTreeMap<String, String>) {
        self.0.insert(ALSO_WHOLE.to_owned(), columns);
    }

    /// Notes that a column has a value only because the table requires one.
    pub fn defaulted(&mut self, column: &str, value: &str) {
        self.0.insert(column.to_owned(), Tagged::from([(DEFAULT.into(), value.into())]));
    }

    /// Takes everything over that another one holds.
    pub fn append(&mut self, other: &mut SidecarValues) {
        self.0.append(&mut other.0);
    }

    /// The JSON object.
    pub fn text(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// The text of a JSON object with everything of this under the reserved key, or None if the
    /// text is no object, or has such a key already.
    pub fn fold_into(&self, scanner: &mut Scanner, text: &[u8]) -> Option<Vec<u8>> {
        let found = scanner.scan(text);
        if found.contains(JsonIssues::INVALID)
            || found.contains(JsonIssues::NOT_OBJECT)
            || member(scanner, text, RESERVED_KEY).is_some()
        {
            return None;
        }
        let end = text.iter().rposition(|b| *b == b'}')?;
        let head = &text[..end];
        let empty = head.iter().rev().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
        let mut folded = head.to_vec();
        if !empty {
            folded.push(b',');
        }
        folded.extend_from_slice(format!("\"{RESERVED_KEY}\":{}", self.text()).as_bytes());
        folded.extend_from_slice(&text[end..]);
        Some(folded)
    }
}

fn tag(value: Value<'_>) -> Tagged {
    let (tag, text) = match value {
        Value::Null => ("null", String::new()),
        Value::Int(v) => ("int", v.to_string()),
        Value::Real(v) => ("real", real_text(v)),
        Value::Bool(v) => ("bool", v.to_string()),
        Value::Uuid(v) => ("uuid", uuid::Uuid::from_bytes(v).to_string()),
        Value::Time(v) => {
            let mut text = Vec::new();
            v.write_postgres(&mut text);
            ("time", String::from_utf8_lossy(&text).into_owned())
        }
        Value::Blob(bytes) => ("blob", BASE64.encode(bytes)),
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            // jsonb and PostgreSQL's text hold no NUL, and neither does our table there
            Ok(text) if !text.contains('\0') => ("text", text.to_owned()),
            _ => ("text64", BASE64.encode(bytes)),
        },
    };
    Tagged::from([(tag.into(), text)])
}

/// The tag and the text of a value, without the fingerprint of what was loaded in its place.
pub(super) fn value_of(tagged: &Tagged) -> Option<(&str, &str)> {
    let found = tagged.iter().find(|(tag, _)| *tag != LOADED);
    found.map(|(tag, text)| (tag.as_str(), text.as_str()))
}

/// Appends the value that a tag and a text say to a column; false if they say none.
pub(super) fn push_tagged(kind: Kind, tagged: &Tagged, batch: &mut Batch) -> bool {
    let text = value_of(tagged).map_or("", |(_, text)| text);
    let bytes = BASE64.decode(text).ok();
    let Some(value) = tagged_value(tagged, bytes.as_deref()) else { return false };
    match value {
        // classes that only columns of their own kind hold
        Value::Uuid(_) | Value::Time(_) => {
            let own = matches!(kind, Kind::Uuid | Kind::Time);
            push_as(if own { kind } else { Kind::Text }, value, batch);
        }
        Value::Bool(v) if kind != Kind::Bool => batch.push(Value::Int(i64::from(v))),
        value => batch.push(value),
    }
    true
}

/// The value that a tag and a text say; `bytes` are those of the text in Base64.
pub(super) fn tagged_value<'a>(tagged: &'a Tagged, bytes: Option<&'a [u8]>) -> Option<Value<'a>> {
    let (tag, text) = value_of(tagged)?;
    match (tag, bytes) {
        ("null", _) => Some(Value::Null),
        ("int", _) => text.parse().ok().map(Value::Int),
        ("real", _) => match text {
            "NaN" => Some(Value::Real(f64::NAN)),
            "Infinity" => Some(Value::Real(f64::INFINITY)),
            "-Infinity" => Some(Value::Real(f64::NEG_INFINITY)),
            number => number.parse().ok().map(Value::Real),
        },
        ("bool", _) => text.parse().ok().map(Value::Bool),
        ("uuid", _) => uuid::Uuid::parse_str(text).ok().map(|v| Value::Uuid(v.into_bytes())),
        ("time", _) => Instant::read_postgres(text.as_bytes()).map(Value::Time),
        ("text", _) => Some(Value::Text(text.as_bytes())),
        ("text64", Some(bytes)) => Some(Value::Text(bytes)),
        ("blob", Some(bytes)) => Some(Value::Blob(bytes)),
        _ => None,
    }
}

/// Appends a value of the target as the column's former kind spells it, where it can.
pub(super) fn push_as(kind: Kind, value: Value<'_>, out: &mut Batch) {
    let mut text = Vec::new();
    let given = match (kind, value) {
        (Kind::Text, Value::Time(v)) => {
            if !v.write_portable(&mut text) {
                v.write_postgres(&mut text);
            }
            Value::Text(&text)
        }
        (Kind::Text, Value::Uuid(v)) => {
            text.extend_from_slice(uuid::Uuid::from_bytes(v).to_string().as_bytes());
            Value::Text(&text)
        }
        (Kind::Time, Value::Text(t)) => Instant::read_portable(t)
            .or_else(|| Instant::read_postgres(t))
            .map_or(value, Value::Time),
        (Kind::Uuid, Value::Text(t)) => {
            uuid::Uuid::try_parse_ascii(t).map_or(value, |v| Value::Uuid(v.into_bytes()))
        }
        (Kind::Bool, Value::Int(v @ 0..=1)) => Value::Bool(v == 1),
        (Kind::Int, Value::Bool(v)) => Value::Int(i64::from(v)),
        (Kind::Real, Value::Text(t)) => std::str::from_utf8(t)
            .ok()
            .and_then(|t| t.parse().ok().filter(|v: &f64| v.is_finite()))
            .map_or(value, Value::Real),
        (Kind::Int, Value::Text(t)) => std::str::from_utf8(t)
            .ok()
            .filter(|t| t.parse().is_ok_and(|v: i64| v.to_string() == *t) || t.contains('.'))
            .and_then(|t| Decimal::read(t.as_bytes())?.integer())
            .map_or(value, Value::Int),
        _ => value,
    };
    out.push(given);
}

/// Whether an export that finds `held` in the place of a value gives that value back without its
/// original.
pub fn comes_back(kind: Kind, value: Value<'_>, held: Value<'_>) -> bool {
    let mut out = Batch::default();
    out.start(0, 1, 1);
    push_as(kind, held, &mut out);
    is_same(out.value(0, 0), value)
}

/// Whether two values are the same in class and bytes; of reals also in sign and NaN.
pub fn is_same(a: Value<'_>, b: Value<'_>) -> bool {
    match (a, b) {
        (Value::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

/// An entry whose texts are in Base64 where they are not ASCII: for a database that cannot hold every
/// character.
pub fn in_ascii(entry: &str) -> String {
    if entry.is_ascii() {
        return entry.to_owned();
    }
    let mut values = parse(entry.as_bytes());
    for tagged in values.values_mut() {
        if let Some(text) = tagged.remove("text") {
            let (tag, text) = match text.is_ascii() {
                true => ("text", text),
                false => ("text64", BASE64.encode(text)),
            };
            tagged.insert(tag.into(), text);
        }
    }
    SidecarValues::of(values).text()
}

/// The values of a stored object; none if it is not ours.
pub(super) fn parse(text: &[u8]) -> BTreeMap<String, Tagged> {
    serde_json::from_slice(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_value_is_kept_whole() {
        let values = [
            Value::Null,
            Value::Int(i64::MIN),
            Value::Real(f64::NEG_INFINITY),
            Value::Real(-0.0),
            Value::Bool(true),
            Value::Uuid([9; 16]),
            Value::Time(Instant::INFINITY),
            Value::Text(b"a\0b"),
            Value::Text(b"\xff"),
            Value::Blob(b""),
        ];
        for value in values {
            let mut out = Batch::default();
            out.start(0, 1, 1);
            let kind = match value {
                Value::Bool(_) => Kind::Bool,
                Value::Uuid(_) => Kind::Uuid,
                Value::Time(_) => Kind::Time,
                _ => Kind::Text,
            };
            assert!(push_tagged(kind, &tag(value), &mut out), "{value:?}");
            assert_eq!(out.value(0, 0), value);
        }
    }

    #[test]
    fn only_an_object_without_the_key_carries_anything() {
        let mut stored = SidecarValues::default();
        stored.missing("n", Value::Int(7));
        for none in ["", "[]", "null", "x", r#"{"chronicle_dump":1}"#] {
            assert_eq!(stored.fold_into(&mut Scanner::default(), none.as_bytes()), None, "{none}");
        }
        let into = |text: &str| {
            let folded = stored.fold_into(&mut Scanner::default(), text.as_bytes());
            String::from_utf8(folded.unwrap()).unwrap()
        };
        assert_eq!(into("{ }"), r#"{ "chronicle_dump":{"n":{"int":"7"}}}"#);
        assert_eq!(into(r#"{"a":1} "#), r#"{"a":1,"chronicle_dump":{"n":{"int":"7"}}} "#);
    }
}
