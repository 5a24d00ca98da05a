//! A row to a RECORD line and back: the portable value that everyone can read, and the exact one
//! beside it where the portable value is not the whole truth.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::batch::Batch;
use crate::error::{ArchiveError, ErrorKind, Result};
use crate::json::{self, JsonIssues, Scanner};
use crate::model::{Kind, Stream, Value};
use crate::show::show_text;
use crate::time::{Instant, NotInstant, ZoneRule, offset_text, read_offset, read_text};

/// The truth of a value whose portable form is not all of it: a tag and a text.
struct Exact<'a> {
    tag: &'static str,
    text: Cow<'a, str>,
}

/// Appends the portable form of `value` in a column of `kind` and returns the exact one if needed.
fn write_portable<'a>(
    scanner: &mut Scanner,
    kind: Kind,
    key: bool,
    value: Value<'a>,
    out: &mut Vec<u8>,
) -> Option<Exact<'a>> {
    match (kind, value) {
        (_, Value::Null) => null(out),
        (Kind::Int, Value::Int(v)) => {
            // writing to a Vec cannot fail
            let _ = write!(out, "{v}");
            None
        }
        (Kind::Real, Value::Real(v)) if v.is_finite() => {
            plain(out, ryu::Buffer::new().format_finite(v).as_bytes())
        }
        (Kind::Bool, Value::Bool(v)) => plain(out, if v { b"true" } else { b"false" }),
        (Kind::Text | Kind::Other, Value::Text(text)) => write_text(out, text),
        (Kind::Uuid, Value::Uuid(v)) => {
            let mut text = uuid::Uuid::encode_buffer();
            json::write_string(out, uuid::Uuid::from_bytes(v).hyphenated().encode_lower(&mut text));
            None
        }
        (Kind::Bytes, Value::Blob(bytes)) => {
            json::write_string(out, &BASE64.encode(bytes));
            None
        }
        (Kind::Json | Kind::Jsonb, Value::Text(text)) => write_json(scanner, kind, out, text),
        (Kind::Numeric, Value::Text(text)) => write_if(is_decimal(text), "numeric", out, text),
        (Kind::Date, Value::Text(text)) => write_if(crate::time::is_date(text), "text", out, text),
        (Kind::Time, Value::Time(instant)) => write_time(out, instant),
        (Kind::Text, other) if key => write_foreign_key(out, other),
        (_, other) => {
            null(out);
            Some(exact(other))
        }
    }
}

fn null<'a>(out: &mut Vec<u8>) -> Option<Exact<'a>> {
    plain(out, b"null")
}

fn plain<'a>(out: &mut Vec<u8>, token: &[u8]) -> Option<Exact<'a>> {
    out.extend_from_slice(token);
    None
}

/// Text as it is, or with U+FFFD where it holds a NUL or is not UTF-8.
fn write_text<'a>(out: &mut Vec<u8>, text: &'a [u8]) -> Option<Exact<'a>> {
    match std::str::from_utf8(text) {
        Ok(clean) if memchr::memchr(0, text).is_none() => {
            json::write_string(out, clean);
            None
        }
        _ => {
            json::write_string(out, &String::from_utf8_lossy(text).replace('\0', "\u{fffd}"));
            Some(exact(Value::Text(text)))
        }
    }
}

fn write_json<'a>(
    scanner: &mut Scanner,
    kind: Kind,
    out: &mut Vec<u8>,
    text: &'a [u8],
) -> Option<Exact<'a>> {
    if scanner.scan(text).is_portable() {
        return plain(out, text);
    }
    match json::sanitize(text) {
        Some(projection) => out.extend_from_slice(&projection),
        None => out.extend_from_slice(b"null"),
    }
    match std::str::from_utf8(text) {
        Ok(source) => Some(Exact { tag: kind.word(), text: Cow::Borrowed(source) }),
        Err(_) => Some(exact(Value::Text(text))),
    }
}

fn write_if<'a>(
    portable: bool,
    tag: &'static str,
    out: &mut Vec<u8>,
    text: &'a [u8],
) -> Option<Exact<'a>> {
    match std::str::from_utf8(text) {
        Ok(text) if portable => {
            json::write_string(out, text);
            None
        }
        Ok(text) => {
            null(out);
            Some(Exact { tag, text: text.into() })
        }
        Err(_) => {
            null(out);
            Some(exact(Value::Text(text)))
        }
    }
}

fn write_time<'a>(out: &mut Vec<u8>, instant: Instant) -> Option<Exact<'a>> {
    let start = out.len();
    out.push(b'"');
    if instant.write_portable(out) {
        return plain(out, b"\"");
    }
    out.truncate(start);
    null(out);
    let mut text = Vec::new();
    instant.write_postgres(&mut text);
    Some(Exact { tag: "time", text: Cow::Owned(String::from_utf8_lossy(&text).into_owned()) })
}

/// A key in a text column that is no text is shown as text: a key is never null.
fn write_foreign_key<'a>(out: &mut Vec<u8>, value: Value<'a>) -> Option<Exact<'a>> {
    let exact = exact(value);
    json::write_string(out, &exact.text);
    Some(exact)
}

/// The exact form by storage class alone.
fn exact(value: Value<'_>) -> Exact<'_> {
    match value {
        Value::Int(v) => Exact { tag: "int", text: v.to_string().into() },
        Value::Real(v) => Exact { tag: "real", text: real_text(v).into() },
        Value::Blob(bytes) => Exact { tag: "blob", text: BASE64.encode(bytes).into() },
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Exact { tag: "text", text: text.into() },
            Err(_) => Exact { tag: "text64", text: BASE64.encode(bytes).into() },
        },
        // these four never stand in a column of another kind: only SQLite types values freely,
        // and it has none of them
        Value::Null => Exact { tag: "text", text: "".into() },
        Value::Bool(v) => Exact { tag: "text", text: v.to_string().into() },
        Value::Time(v) => {
            let mut text = Vec::new();
            v.write_postgres(&mut text);
            Exact { tag: "time", text: String::from_utf8_lossy(&text).into_owned().into() }
        }
        Value::Uuid(v) => Exact { tag: "text", text: uuid::Uuid::from_bytes(v).to_string().into() },
    }
}

/// The shortest text that reads back as the same double and contains `.` or `e`.
pub fn real_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        ryu::Buffer::new().format_finite(value).to_owned()
    }
}

fn is_decimal(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(dot) => (&digits[..dot], Some(&digits[dot + 1..])),
        None => (digits, None),
    };
    let all = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    all(whole) && fraction.is_none_or(all)
}

/// The portable form of a value, for a target that cannot hold the exact one; None is NULL.
///
/// Text and JSON become what a record shows of them; everything else that is not of the column's
/// kind becomes NULL, as a record shows null.
pub fn portable(kind: Kind, key: bool, value: Value<'_>) -> Option<Vec<u8>> {
    match (kind, value) {
        (Kind::Text | Kind::Other, Value::Text(text)) => {
            Some(String::from_utf8_lossy(text).replace('\0', "\u{fffd}").into_bytes())
        }
        (Kind::Json | Kind::Jsonb, Value::Text(text)) => json::sanitize(text),
        (_, Value::Null) => None,
        (Kind::Text, other) if key => Some(exact(other).text.into_owned().into_bytes()),
        _ => None,
    }
}

/// What a value is that no record shows as it is: the tag of its exact form.
pub fn odd(scanner: &mut Scanner, kind: Kind, key: bool, value: Value<'_>) -> Option<&'static str> {
    write_portable(scanner, kind, key, value, &mut Vec::new()).map(|exact| exact.tag)
}

/// Writes the rows of one stream as RECORD lines.
pub struct Encoder {
    prefix: Vec<u8>,
    columns: Vec<EncodedColumn>,
    scanner: Scanner,
    exact: Vec<u8>,
    offsets: Vec<u8>,
    spans: Vec<(usize, usize)>,
    written: usize,
}

struct EncodedColumn {
    name: Vec<u8>,
    kind: Kind,
    key: bool,
}

impl Encoder {
    /// An encoder for rows of `stream`.
    pub fn new(stream: &Stream) -> Encoder {
        let columns = (stream.columns.iter().enumerate())
            .map(|(n, column)| {
                let mut name = Vec::new();
                json::write_string(&mut name, &column.name);
                name.push(b':');
                EncodedColumn { name, kind: column.kind, key: stream.key.contains(&n) }
            })
            .collect();
        Encoder {
            prefix: record_prefix(&stream.name),
            columns,
            scanner: Scanner::default(),
            exact: Vec::new(),
            offsets: Vec::new(),
            spans: Vec::new(),
            written: 0,
        }
    }

    /// Appends the RECORD line of a row, with its LF; `beside` are members that stand beside the
    /// record, as JSON.
    pub fn write(&mut self, batch: &Batch, row: usize, beside: &str, out: &mut Vec<u8>) {
        self.exact.clear();
        self.offsets.clear();
        self.spans.clear();
        let line = out.len();
        out.extend_from_slice(&self.prefix);
        for (n, column) in self.columns.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&column.name);
            let start = out.len();
            let value = batch.value(row, n);
            if let Some(exact) =
                write_portable(&mut self.scanner, column.kind, column.key, value, out)
            {
                self.exact.push(if self.exact.is_empty() { b'{' } else { b',' });
                self.exact.extend_from_slice(&column.name);
                self.exact.extend_from_slice(b"{\"");
                self.exact.extend_from_slice(exact.tag.as_bytes());
                self.exact.extend_from_slice(b"\":");
                json::write_string(&mut self.exact, &exact.text);
                self.exact.push(b'}');
            }
            if let Some(offset) = batch.offset(row, n) {
                self.offsets.push(if self.offsets.is_empty() { b'{' } else { b',' });
                self.offsets.extend_from_slice(&column.name);
                json::write_string(&mut self.offsets, &offset_text(offset));
            }
            self.spans.push((start - line, out.len() - line));
        }
        out.push(b'}');
        self.write_side(batch.keyless(row), beside, out);
        out.extend_from_slice(b"}\n");
        self.written = out.len() - line;
    }

    /// Appends the object that stands beside the record, if anything does.
    fn write_side(&self, keyless: bool, beside: &str, out: &mut Vec<u8>) {
        let mut before: &[u8] = b",\"chronicle\":{";
        let objects = [(&b"\"exact\":"[..], &self.exact), (b"\"offsets\":", &self.offsets)];
        for (name, object) in objects.into_iter().filter(|(_, object)| !object.is_empty()) {
            [before, name, object, b"}"].into_iter().for_each(|part| out.extend_from_slice(part));
            before = b",";
        }
        let keyless: &[u8] = if keyless { b"\"keyless\":true" } else { b"" };
        for member in [keyless, beside.as_bytes()].into_iter().filter(|m| !m.is_empty()) {
            [before, member].into_iter().for_each(|part| out.extend_from_slice(part));
            before = b",";
        }
        if before == b"," {
            out.push(b'}');
        }
    }

    /// The bytes of the line written last.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Where the record value of `column` stands in the line written last.
    pub fn span(&self, column: usize) -> (usize, usize) {
        self.spans.get(column).copied().unwrap_or((0, 0))
    }
}

/// How every RECORD line of a stream starts.
pub fn record_prefix(stream: &str) -> Vec<u8> {
    format!("{{\"type\":\"RECORD\",\"stream\":\"{stream}\",\"record\":{{").into_bytes()
}

/// Reads RECORD lines of one stream into a batch, checking every value against its kind.
pub struct Decoder {
    prefix: Vec<u8>,
    columns: Vec<DecodedColumn>,
    scanner: Scanner,
    scratch: Vec<u8>,
    spans: Vec<(usize, usize)>,
}

struct DecodedColumn {
    name: Vec<u8>,
    logical: String,
    kind: Kind,
    key: bool,
    nullable: bool,
    instant: bool,
}

/// What the text of a record value is, before its kind is asked.
enum Token {
    Null,
    /// A string without escapes: its bytes stand in the line.
    Plain(usize, usize),
    /// A string with escapes: decoded into the scratch buffer.
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
                    instant: column.instant,
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

    /// Appends the row of the line that stands at `start..end` (without its LF) of the buffer
    /// that `batch` adopted.
    pub fn read(&mut self, batch: &mut Batch, start: usize, end: usize) -> Result<()> {
        let chunk = batch.adopt(Vec::new());
        let read = self.read_line(batch, &chunk, start, end);
        batch.adopt(chunk);
        read
    }

    /// Checks that a line (without its LF) is a RECORD of this stream, and nothing more of it.
    pub fn recognise(&self, line: &[u8]) -> Result<()> {
        expect(line, 0, &self.prefix, "a RECORD of this stream").map(|_| ())
    }

    /// The record values of the line read last, as JSON text; `chunk` is the buffer it stood in.
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

    /// Reads one record value and pushes what it means; returns where it ends.
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
                // only an escape can make a NUL
                Token::Plain(start, len) => batch.push_adopted(at + start, len),
                _ if memchr::memchr(0, text).is_some() => {
                    return Err(wrong("a NUL character", "portable text"));
                }
                _ => batch.push(Value::Text(text)),
            },
            (Kind::Json | Kind::Jsonb, None) => {
                let (len, findings) = self.scanner.scan_prefix(rest);
                if !findings.is_portable() {
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

    /// Reads what stands beside the record: notes the offsets of local times, and puts the exact
    /// values in the place of the shown ones, after checking that each shown value is the projection
    /// of its exact one: else the file would show one thing and import another.
    fn read_side(
        &mut self,
        batch: &mut Batch,
        line: &[u8],
        first_cell: usize,
        side: &[u8],
    ) -> Result<()> {
        let findings = self.scanner.scan(side);
        let refused = [JsonIssues::INVALID, JsonIssues::DUPLICATE, JsonIssues::NOT_OBJECT];
        if refused.into_iter().any(|finding| findings.contains(finding)) {
            return Err(wrong(
                "something else",
                "one object with distinct names beside the record",
            ));
        }
        let parsed: Side = serde_json::from_slice(side).map_err(|e| {
            wrong("something else", "objects of texts, or true, beside the record").because(e)
        })?;
        for (name, tagged) in &parsed.exact {
            let n = self.named(name, "an exact value of no column")?;
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
                return Err(wrong("a record value", "the projection of the exact value beside it")
                    .at(column_at(name)));
            }
            batch.replace(first_cell + n, owned.value());
        }
        for (name, text) in &parsed.offsets {
            let n = self.named(name, "an offset of no column")?;
            let offset = self.offset(line, n, text).map_err(|e| e.at(column_at(name)))?;
            batch.set_offset(first_cell + n, offset);
        }
        if parsed.keyless {
            batch.set_keyless(batch.rows().saturating_sub(1));
        }
        Ok(())
    }

    /// The offset that is said of a record value, which must be a local time.
    fn offset(&self, line: &[u8], n: usize, text: &str) -> Result<i32> {
        let offset = read_offset(text)
            .ok_or_else(|| wrong("another text", "an offset as +HH:MM or +HH:MM:SS"))?;
        let (start, end) = self.spans[n];
        // a time has nothing to escape
        let time = line[start..end].strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\""));
        let local = time.map(|time| read_text(time, ZoneRule::Refuse));
        match self.columns[n].instant && local == Some(Err(NotInstant::NoZone)) {
            true => Ok(offset),
            false => Err(wrong("an offset of another value", "one of a time without a zone")),
        }
    }

    /// The number of a column that something is said of beside the record.
    fn named(&self, name: &str, found: &str) -> Result<usize> {
        let position = self.columns.iter().position(|c| c.logical == name);
        position.ok_or_else(|| wrong(found, "a column of the SCHEMA line"))
    }
}

/// What stands beside a record. Everything else there may be ignored.
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

/// Reads a null or a string; leaves everything else to its kind.
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
        Kind::Date if crate::time::is_date(text) => Ok(Owned::Text(text.to_vec())),
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
    // JSON's own rule: no leading zero, no sign but minus; and never -0 as an integer
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

/// Whether the whole token is a number as JSON writes it: `5.` is none.
fn is_json_number(token: &[u8]) -> bool {
    let (len, findings) = Scanner::default().scan_prefix(token);
    len == token.len() && !findings.contains(JsonIssues::INVALID)
}

/// What an exact value says, if its tag is one that may stand in a column of this kind.
fn from_exact(kind: Kind, tag: &str, text: &str) -> Result<Owned> {
    let bad = || wrong("an exact value that does not parse", &format!("a value of tag {tag}"));
    let own = || text.as_bytes().to_vec();
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
        ("text", _) => Ok(Owned::Text(own())),
        ("text64", _) => BASE64.decode(text).map(Owned::Text).map_err(|_| bad()),
        ("blob", _) => BASE64.decode(text).map(Owned::Blob).map_err(|_| bad()),
        ("json", Kind::Json) | ("jsonb", Kind::Jsonb) | ("numeric", Kind::Numeric) => {
            Ok(Owned::Text(own()))
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
