//! Conditions: what a value must be for its row to be selected.

use glob::{MatchOptions, Pattern};

use super::bound::{Clock, Span};
use crate::decimal::Decimal;
use crate::error::{Code, Error, Result};
use chronicle_archive::json::JsonHash;
use chronicle_archive::time::{ZoneRule, read_text};
use chronicle_archive::{Batch, Kind, Value, show_text};

/// What one value must be.
#[derive(Debug, Clone)]
pub enum Test {
    /// A text of this pattern: `*`, `?`, `[a-z]`, `[!a-z]`.
    Like(Pattern),
    /// This value.
    Is(String),
    /// No value.
    Null,
    /// A time in this span.
    Within(Span, Clock),
}

/// Every character of a path is one like any other.
const PLAIN: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: false,
    require_literal_leading_dot: false,
};

impl Test {
    /// A pattern.
    ///
    /// # Errors
    /// If it is none.
    pub fn like(option: &str, text: &str) -> Result<Test> {
        Pattern::new(text).map(Test::Like).map_err(|e| {
            let what = format!("{option} {}: not a pattern: {}", show_text(text), e.msg);
            Error::new(Code::Usage, what).hint(
                "* is any text, ? one character, [a-z] one of these; [*] is the character itself",
            )
        })
    }

    /// A value of a column of this kind as `cat` prints it, where a text may lack its quotes; any of the tests. `null` is no
    /// value, and of JSON also its null, which `cat` prints likewise.
    pub fn printed(kind: Kind, text: &str) -> Vec<Test> {
        let is_json = matches!(kind, Kind::Json | Kind::Jsonb);
        let is = || Test::Is(text.to_owned());
        match text {
            "null" if is_json => vec![Test::Null, is()],
            "null" => vec![Test::Null],
            _ if is_json => vec![is()],
            _ => vec![serde_json::from_str(text).map_or_else(|_| is(), Test::Is)],
        }
    }

    /// Whether a value of a column of this kind passes; None if it should be a time and cannot be read as one.
    pub fn accepts(&self, kind: Kind, value: Value<'_>, offset: Option<i32>) -> Option<bool> {
        match self {
            Test::Like(pattern) => Some(match value {
                Value::Text(text) => pattern.matches_with(&String::from_utf8_lossy(text), PLAIN),
                _ => false,
            }),
            Test::Is(wanted) => Some(is(kind, value, wanted)),
            Test::Null => Some(value == Value::Null),
            Test::Within(span, clock) => span.contains(*clock, value, offset),
        }
    }
}

/// Whether a value is what a text says.
fn is(kind: Kind, value: Value<'_>, wanted: &str) -> bool {
    match value {
        Value::Null | Value::Blob(_) => false,
        Value::Text(text) => {
            text == wanted.as_bytes()
                || match kind {
                    Kind::Numeric => {
                        let number = Decimal::read(wanted.as_bytes());
                        number.is_some() && number == Decimal::read(text)
                    }
                    Kind::Json | Kind::Jsonb => same_json(text, wanted.as_bytes()),
                    _ => false,
                }
        }
        Value::Int(number) => Decimal::read(wanted.as_bytes()).is_some_and(|wanted| {
            Decimal::read(number.to_string().as_bytes()).as_ref() == Some(&wanted)
        }),
        Value::Real(number) => wanted.parse() == Ok(number),
        Value::Bool(truth) => wanted.parse() == Ok(truth),
        Value::Time(at) => read_text(wanted.as_bytes(), ZoneRule::Utc) == Ok(at),
        Value::Uuid(bytes) => {
            uuid::Uuid::parse_str(wanted).is_ok_and(|wanted| *wanted.as_bytes() == bytes)
        }
    }
}

fn same_json(a: &[u8], b: &[u8]) -> bool {
    let mut hash = JsonHash::default();
    hash.hash(a) == hash.hash(b)
}

/// What a row must be: any of these columns passes its test.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The columns, by their places in the stream, with their kinds and tests.
    pub any: Vec<(usize, Kind, Test)>,
}

impl Condition {
    /// A condition of which any test has to pass.
    pub fn any(column: usize, kind: Kind, tests: impl IntoIterator<Item = Test>) -> Condition {
        Condition { any: tests.into_iter().map(|test| (column, kind, test)).collect() }
    }

    /// Whether a row passes; None if the answer is in a time that cannot be read.
    pub fn accepts(&self, batch: &Batch, row: usize) -> Option<bool> {
        let mut readable = Some(false);
        for (column, kind, test) in &self.any {
            match test.accepts(*kind, batch.value(row, *column), batch.offset(row, *column)) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => readable = None,
            }
        }
        readable
    }
}

/// What a database may leave out itself, since no selector would keep it or count it.
#[derive(Debug, Clone)]
pub struct Narrowing {
    /// What the row's own values must be.
    pub conditions: Vec<Condition>,
    /// A stream, the column that refers to it, and what its row must be, if there is one.
    pub parent: Option<(usize, usize, Vec<Condition>)>,
    /// The zone of times without one.
    pub zone: ZoneRule,
}

/// Whether a row passes all conditions; None if it would if its time could be read.
pub fn all_accept(conditions: &[Condition], batch: &Batch, row: usize) -> Option<bool> {
    let mut readable = Some(true);
    for condition in conditions {
        match condition.accepts(batch, row) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => readable = None,
        }
    }
    readable
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronicle_archive::time::Instant;

    #[test]
    fn a_value_is_what_its_kind_says() {
        let uuid = uuid::uuid!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
        for (kind, value, wanted, expected) in [
            (Kind::Text, Value::Text(b"Bash"), "Bash", true),
            (Kind::Text, Value::Text(b"bash"), "Bash", false),
            (Kind::Text, Value::Text(b"\xff"), "\u{fffd}", false),
            (Kind::Text, Value::Null, "", false),
            (Kind::Text, Value::Int(5), "5", true),
            (Kind::Int, Value::Int(-5), "-5", true),
            (Kind::Int, Value::Int(5), "5.0", true),
            (Kind::Int, Value::Int(5), "five", false),
            (Kind::Real, Value::Real(0.1), "1e-1", true),
            (Kind::Real, Value::Real(f64::NAN), "NaN", false),
            (Kind::Bool, Value::Bool(true), "true", true),
            (Kind::Bool, Value::Bool(false), "true", false),
            (Kind::Numeric, Value::Text(b"1.50"), "1.5", true),
            (Kind::Text, Value::Text(b"1.50"), "1.5", false),
            (Kind::Jsonb, Value::Text(b"{\"a\": 1, \"b\": 2}"), "{\"b\":2,\"a\":1}", true),
            (Kind::Json, Value::Text(b"{\"a\":1}"), "{\"a\":2}", false),
            (Kind::Json, Value::Text(b"no json"), "no json", true),
            (
                Kind::Uuid,
                Value::Uuid(*uuid.as_bytes()),
                "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}",
                true,
            ),
            (Kind::Uuid, Value::Uuid([0; 16]), "x", false),
            (Kind::Time, Value::Time(Instant(0)), "2000-01-01T01:00:00+01:00", true),
            (Kind::Bytes, Value::Blob(b"x"), "x", false),
        ] {
            assert_eq!(is(kind, value, wanted), expected, "{value:?} {wanted}");
        }
    }

    #[test]
    fn a_printed_value_has_quotes_or_not() {
        let (null, text) = (Value::Null, |text| Value::Text(text));
        for (kind, value, printed, expected) in [
            (Kind::Text, null, "null", true),
            (Kind::Text, null, "\"null\"", false),
            (Kind::Text, null, "", false),
            (Kind::Text, text(b"null"), "null", false),
            (Kind::Text, text(b"null"), "\"null\"", true),
            (Kind::Text, text(b"Bash"), "Bash", true),
            (Kind::Text, text(b"Bash"), "\"Bash\"", true),
            (Kind::Text, text(b"a\"b\n"), "\"a\\\"b\\n\"", true),
            (Kind::Text, text(b"\"a"), "\"a", true),
            (Kind::Text, text(b"\"a\""), "\"\\\"a\\\"\"", true),
            (Kind::Text, text(b""), "", true),
            (Kind::Text, text(b""), "\"\"", true),
            (Kind::Int, null, "null", true),
            (Kind::Int, Value::Int(0), "null", false),
            (Kind::Uuid, Value::Uuid([0; 16]), "\"00000000-0000-0000-0000-000000000000\"", true),
            (Kind::Jsonb, null, "null", true),
            (Kind::Jsonb, text(b"null"), "null", true),
            (Kind::Jsonb, text(b"null"), "\"null\"", false),
            (Kind::Jsonb, text(b"\"null\""), "\"null\"", true),
            (Kind::Jsonb, text(b"{}"), "null", false),
            (Kind::Bytes, null, "null", true),
            (Kind::Bytes, Value::Blob(b""), "null", false),
        ] {
            let tests = Test::printed(kind, printed);
            let passes = tests.iter().any(|test| test.accepts(kind, value, None) == Some(true));
            assert_eq!(passes, expected, "{kind:?} {value:?} {printed}");
        }
    }

    #[test]
    fn a_pattern_is_of_the_whole_text() {
        let like = |pattern: &str, text: &str| {
            let test = Test::like("--project", pattern).unwrap();
            test.accepts(Kind::Text, Value::Text(text.as_bytes()), None) == Some(true)
        };
        assert!(like("/home/*/app", "/home/ada/x/app"));
        assert!(like("/home/ada", "/home/ada"));
        assert!(like("*.[jt]s", ".x.js") && like("[!a]b?", "bbé") && like("a[*]", "a*"));
        assert!(!like("/home/ada", "/home/ada/app") && !like("/Home/*", "/home/ada"));
        let error = Test::like("--project", "[a").unwrap_err();
        assert!(error.full().starts_with("--project [a: not a pattern"), "{}", error.full());
    }
}
