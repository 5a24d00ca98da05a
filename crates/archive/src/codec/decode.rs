//! Reads RECORD lines into rows, and checks every value against its kind.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::portable::{is_decimal, write_portable};
use super::record_prefix;
use crate::batch::Batch;
use crate::error::{ArchiveError, ErrorKind, Result};
use crate::json::{self, JsonIssues, Scanner};
use crate::model::{Kind, Stream, TimeText, Value};
use crate::show::show_text;
use crate::time::{Instant, NotInstant, ZoneRule, is_date, read_offset, read_text};

/// Reads RECORD lines of one stream into a batch, checking every value against its kind.
pub struct Decoder {
    prefix: Vec<u8>,
    columns: Vec<DecodedColumn>,
    scanner: Scanner,
    scratch: Vec<u8>,
    /// Where each record value starts and ends in the buffer.
    spans: Vec<(usize, usize)>,
}

struct DecodedColumn {
    /// The name as JSON, with a colon, and a comma before all but the first.
    name: Vec<u8>,
    logical: String,
    kind: Kind,
    key: bool,
    nullable: bool,
    time_text: TimeText,
}

/// A record value as written, before its kind is considered.
enum Token {
    Null,
    /// A string without escapes: where its content starts in the value, and its length.
    Plain(usize, usize),
    /// A string with escapes, decoded into the scratch buffer.
    Decoded,
    /// Anything else: a number, true, false or an object.
    Bare,
}

impl Decoder {
    /// A decoder for lines of `stream`.
    pub fn new(stream: &Stream) -> Decoder {
        let columns = (stream.columns.iter().enumerate())
            .map(|(n, column)| {
                let mut name = if n == 0 { Vec::new() } else { b",".to_vec() };
                json::write_string(&mut name, &column.name);
                name.push(b':');
                DecodedColumn {
                    name,
                    logical: column.name.clone(),
                    kind: column.kind,
                    key: stream.key.contains(&n),
                    nullable: column.nullable,
                    time_text: column.time_text,
                }
            })
            .collect();
        Decoder {
            prefix: record_prefix(&stream.name),
            columns,
            scanner: Scanner::default(),
            scratch: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// Appends the row of the line at `start..end` (without its LF) of the buffer that `batch`
    /// adopted.
    pub fn read(&mut self, batch: &mut Batch, start: usize, end: usize) -> Result<()> {
        let chunk = batch.adopt(Vec::new());
        let read = self.read_line(batch, &chunk, start, end);
        batch.adopt(chunk);
        read
    }

    /// Checks that a line starts as a RECORD of this stream does, and nothing else of it.
    pub fn recognise(&self, line: &[u8]) -> Result<()> {
        expect(line, 0, &self.prefix, "a RECORD of this stream").map(|_| ())
    }

    /// The record values of the line read last, as JSON text; `chunk` is the buffer of the line.
    pub fn values<'a>(&'a self, chunk: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.spans.iter().map(|(from, to)| chunk.get(*from..*to).unwrap_or(b"null"))
    }

    fn read_line(
        &mut self,
        batch: &mut Batch,
        chunk: &[u8],
        start: usize,
        end: usize,
    ) -> Result<()> {
        let line = chunk.get(..end).unwrap_or(&[]);
        let mut at = expect(line, start, &self.prefix, "a RECORD of this stream")?;
        self.spans.clear();
        let first_cell = batch.cells();
        for n in 0..self.columns.len() {
            at = expect(line, at, &self.columns[n].name, "the next column of the SCHEMA line")
                .map_err(|e| e.at(format_args!("column {}", self.columns[n].logical)))?;
            let value = at;
            at = self
                .read_value(batch, line, at, n)
                .map_err(|e| e.at(format_args!("column {}", self.columns[n].logical)))?;
            self.spans.push((value, at));
        }
        at = expect(line, at, b"}", "the end of the record")?;
        if line.get(at..) == Some(b"}") {
            return Ok(());
        }
        let at = expect(line, at, b",\"chronicle\":", "the end of the line")?;
        let side = line.get(at..).and_then(|rest| rest.strip_suffix(b"}"));
        self.read_side(batch, line, first_cell, side.unwrap_or(&[]))
    }

    /// Reads one record value and appends it to the batch; returns where it ends.
    fn read_value(&mut self, batch: &mut Batch, line: &[u8], at: usize, n: usize) -> Result<usize> {
        let column = &self.columns[n];
        let rest = line.get(at..).unwrap_or(&[]);
        let (token, len) = read_token(rest, &mut self.scratch)?;
        let text = match token {
            Token::Null if column.nullable => {
                batch.push(Value::Null);
                return Ok(at + len);
            }
            Token::Null => return Err(wrong("null", "a value: the SCHEMA line allows no null")),
            Token::Plain(start, len) => Some(&rest[start..start + len]),
            Token::Decoded => Some(&self.scratch[..]),
            Token::Bare => None,
        };
        match (column.kind, text) {
            (Kind::Text | Kind::Other, Some(text)) => match token {
                // Only an escape can be a NUL.
                Token::Plain(start, len) => batch.push_adopted(at + start, len),
                _ if memchr::memchr(0, text).is_some() => {
                    return Err(wrong("a NUL character", "portable text"));
                }
                _ => batch.push(Value::Text(text)),
            },
            (Kind::Json | Kind::Jsonb, None) => {
                let (len, issues) = self.scanner.scan_prefix(rest);
                if !issues.is_portable() {
                    return Err(wrong("JSON that is not portable", "a portable JSON object"));
                }
                batch.push_adopted(at, len);
                return Ok(at + len);
            }
            (kind, Some(text)) => batch.push(from_string(kind, text)?.value()),
            (kind, None) => {
                let len = rest.iter().position(|b| matches!(b, b',' | b'}')).unwrap_or(rest.len());
                batch.push(from_bare(kind, &rest[..len])?);
                return Ok(at + len);
            }
        }
        Ok(at + len)
    }

    /// Reads the object `chronicle` behind the record: notes the offsets of local times, and replaces
    /// shown values by their exact ones. Each shown value must be the portable form of its exact one,
    /// or the file would show one thing and import another.
    fn read_side(
        &mut self,
        batch: &mut Batch,
        line: &[u8],
        first_cell: usize,
        side: &[u8],
    ) -> Result<()> {
        let refused = JsonIssues::INVALID
            .union(JsonIssues::DUPLICATE)
            .union(JsonIssues::NOT_OBJECT)
            .union(JsonIssues::DEEP);
        if self.scanner.scan(side).intersects(refused) {
            return Err(wrong(
                "something else",
                "one `chronicle` object with distinct names, not nested deeper than 100",
            ));
        }
        let parsed: Side = serde_json::from_slice(side).map_err(|e| {
            wrong("something else", "objects of texts, or true, in the `chronicle` object")
                .because(e)
        })?;
        for (name, tagged) in &parsed.exact {
            let n = self.column_named(name, "an exact value for an unknown column")?;
            let (1, Some((tag, text))) = (tagged.len(), tagged.iter().next()) else {
                return Err(wrong("several exact values", "one").at(column_at(name)));
            };
            let column = &self.columns[n];
            let owned = from_exact(column.kind, tag, text).map_err(|e| e.at(column_at(name)))?;
            self.scratch.clear();
            write_portable(
                &mut self.scanner,
                column.kind,
                column.key,
                owned.value(),
                &mut self.scratch,
            );
            let (start, end) = self.spans[n];
            if self.scratch != line[start..end] {
                return Err(wrong("a record value", "the portable form of its exact value")
                    .at(column_at(name)));
            }
            batch.replace(first_cell + n, owned.value());
        }
        for (name, text) in &parsed.offsets {
            let n = self.column_named(name, "an offset for an unknown column")?;
            let offset = self.offset(line, n, text).map_err(|e| e.at(column_at(name)))?;
            batch.set_offset(first_cell + n, offset);
        }
        if parsed.keyless {
            batch.set_keyless(batch.rows().saturating_sub(1));
        }
        Ok(())
    }

    /// The offset of a record value, which must be a local time.
    fn offset(&self, line: &[u8], n: usize, text: &str) -> Result<i32> {
        let offset = read_offset(text)
            .ok_or_else(|| wrong("another text", "an offset as +HH:MM or +HH:MM:SS"))?;
        let (start, end) = self.spans[n];
        // A time has nothing to escape.
        let time = line[start..end].strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\""));
        let local = time.map(|time| read_text(time, ZoneRule::Refuse));
        match self.columns[n].time_text.is_time() && local == Some(Err(NotInstant::NoZone)) {
            true => Ok(offset),
            false => Err(wrong(
                "an offset for another kind of value",
                "an offset for a time without a zone",
            )),
        }
    }

    /// The number of a column that the object `chronicle` names.
    fn column_named(&self, name: &str, found: &str) -> Result<usize> {
        let position = self.columns.iter().position(|c| c.logical == name);
        position.ok_or_else(|| wrong(found, "a column of the SCHEMA line"))
    }
}

/// The object `chronicle` behind a record, as far as this version knows it. Other members may be ignored.
#[derive(Deserialize)]
struct Side {
    #[serde(default)]
    exact: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    offsets: BTreeMap<String, String>,
    #[serde(default)]
    keyless: bool,
}

fn column_at(name: &str) -> String {
    format!("column {}", show_text(name))
}

/// A value that owns its bytes.
enum Owned {
    Int(i64),
    Real(f64),
    Time(Instant),
    Uuid([u8; 16]),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Owned::Int(v) => Value::Int(*v),
            Owned::Real(v) => Value::Real(*v),
            Owned::Time(v) => Value::Time(*v),
            Owned::Uuid(v) => Value::Uuid(*v),
            Owned::Text(bytes) => Value::Text(bytes),
            Owned::Blob(bytes) => Value::Blob(bytes),
        }
    }
}

fn expect(line: &[u8], at: usize, wanted: &[u8], what: &str) -> Result<usize> {
    if line.get(at..).is_some_and(|rest| rest.starts_with(wanted)) {
        return Ok(at + wanted.len());
    }
    Err(wrong("something else", what))
}

fn wrong(found: &str, expected: &str) -> ArchiveError {
    ArchiveError::new(ErrorKind::Damaged, format!("found {found}, expected {expected}"))
}

/// Reads a null or a string; any other token depends on the kind of its column.
fn read_token(rest: &[u8], scratch: &mut Vec<u8>) -> Result<(Token, usize)> {
    match rest.first() {
        Some(b'n') if rest.starts_with(b"null") => Ok((Token::Null, 4)),
        Some(b'"') => match json::plain_string(rest) {
            Some(len) => Ok((Token::Plain(1, len), len + 2)),
            None => {
                scratch.clear();
                let len = json::read_string(rest, scratch)
                    .ok_or_else(|| wrong("a broken string", "a JSON string of valid UTF-8"))?;
                Ok((Token::Decoded, len))
            }
        },
        _ => Ok((Token::Bare, 0)),
    }
}

fn from_string(kind: Kind, text: &[u8]) -> Result<Owned> {
    match kind {
        Kind::Time => Instant::read_portable(text)
            .map(Owned::Time)
            .ok_or_else(|| wrong("another text", "an instant as YYYY-MM-DDTHH:MM:SS.ffffffZ")),
        Kind::Uuid => lower_uuid(text)
            .map(Owned::Uuid)
            .ok_or_else(|| wrong("another text", "a lower-case UUID")),
        Kind::Bytes => BASE64
            .decode(text)
            .map(Owned::Blob)
            .map_err(|_| wrong("another text", "base64 with padding")),
        Kind::Numeric if is_decimal(text) => Ok(Owned::Text(text.to_vec())),
        Kind::Date if is_date(text) => Ok(Owned::Text(text.to_vec())),
        kind => Err(wrong("a string", &format!("a value of kind {}", kind.word()))),
    }
}

/// Reads a UUID only in the one spelling that records use.
fn lower_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let uuid = uuid::Uuid::try_parse_ascii(text).ok()?;
    let mut buffer = uuid::Uuid::encode_buffer();
    (uuid.hyphenated().encode_lower(&mut buffer).as_bytes() == text).then(|| uuid.into_bytes())
}

fn from_bare(kind: Kind, token: &[u8]) -> Result<Value<'static>> {
    let text = std::str::from_utf8(token).unwrap_or("");
    let number = text.strip_prefix('-').unwrap_or(text);
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    // The rules of JSON: no leading zero, no sign but minus. And -0 is not an integer.
    let proper = digits > 0 && (digits == 1 || !number.starts_with('0'));
    match kind {
        Kind::Bool if text == "true" => Some(Value::Bool(true)),
        Kind::Bool if text == "false" => Some(Value::Bool(false)),
        Kind::Int if proper && digits == number.len() && text != "-0" => {
            text.parse().ok().map(Value::Int)
        }
        Kind::Real if proper && is_json_number(token) => {
            let real = text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E'));
            text.parse::<f64>().ok().filter(|v| real && v.is_finite()).map(Value::Real)
        }
        _ => None,
    }
    .ok_or_else(|| wrong("something else", &format!("a value of kind {}", kind.word())))
}

/// Whether the whole token is a JSON number, which `5.` is not.
fn is_json_number(token: &[u8]) -> bool {
    let (len, issues) = Scanner::default().scan_prefix(token);
    len == token.len() && !issues.contains(JsonIssues::INVALID)
}

/// Reads an exact value, if its tag is allowed in a column of this kind.
fn from_exact(kind: Kind, tag: &str, text: &str) -> Result<Owned> {
    let bad = || wrong("an exact value that does not parse", &format!("a value of tag {tag}"));
    let bytes = || text.as_bytes().to_vec();
    match (tag, kind) {
        ("int", _) => text.parse().map(Owned::Int).map_err(|_| bad()),
        ("real", _) => match text {
            "NaN" => Ok(Owned::Real(f64::NAN)),
            "Infinity" => Ok(Owned::Real(f64::INFINITY)),
            "-Infinity" => Ok(Owned::Real(f64::NEG_INFINITY)),
            _ => match text.parse::<f64>() {
                Ok(v) if v.is_finite() => Ok(Owned::Real(v)),
                _ => Err(bad()),
            },
        },
        ("text", _) => Ok(Owned::Text(bytes())),
        ("text64", _) => BASE64.decode(text).map(Owned::Text).map_err(|_| bad()),
        ("blob", _) => BASE64.decode(text).map(Owned::Blob).map_err(|_| bad()),
        ("json", Kind::Json) | ("jsonb", Kind::Jsonb) | ("numeric", Kind::Numeric) => {
            Ok(Owned::Text(bytes()))
        }
        ("time", Kind::Time) => {
            Instant::read_postgres(text.as_bytes()).map(Owned::Time).ok_or_else(bad)
        }
        _ => Err(ArchiveError::new(
            ErrorKind::Unsupported,
            format!(
                "the exact tag \"{}\" is not known in a column of kind {}",
                show_text(tag),
                kind.word()
            ),
        )),
    }
}
