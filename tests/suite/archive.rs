//! The laws of writing and reading archives: what is written reads back, and what is said of it is true.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chronicle_archive::error::ErrorKind;
use chronicle_archive::limits::{CONTROL_LINE, RECORD_LINE};
use chronicle_archive::time::Instant;
use chronicle_archive::{
    ArchiveReader, ArchiveWriter, CHUNK_TARGET, Header, Index, Limits, Origin, Sealed,
    WriterOptions, Written,
};
use chronicle_archive::{Batch, Column, Kind, Stream, TimeText, Value};
use chronicle_dump::error::{Code, Result};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index as Pick, select};
use serde_json::{Value as Json, json};
use sha2::Digest as _;

// ---- rows that own their bytes --------------------------------------------------------------

/// A value that owns its bytes. Every NaN is the same one; zero and minus zero are not.
#[derive(Debug, Clone)]
pub(crate) enum Owned {
    Null,
    Int(i64),
    Real(f64),
    Bool(bool),
    Time(Instant),
    Uuid([u8; 16]),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Owned {
    pub(crate) fn of(value: Value<'_>) -> Owned {
        match value {
            Value::Null => Owned::Null,
            Value::Int(v) => Owned::Int(v),
            Value::Real(v) => Owned::Real(v),
            Value::Bool(v) => Owned::Bool(v),
            Value::Time(v) => Owned::Time(v),
            Value::Uuid(v) => Owned::Uuid(v),
            Value::Text(v) => Owned::Text(v.to_vec()),
            Value::Blob(v) => Owned::Blob(v.to_vec()),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Owned::Null => Value::Null,
            Owned::Int(v) => Value::Int(*v),
            Owned::Real(v) => Value::Real(*v),
            Owned::Bool(v) => Value::Bool(*v),
            Owned::Time(v) => Value::Time(*v),
            Owned::Uuid(v) => Value::Uuid(*v),
            Owned::Text(v) => Value::Text(v),
            Owned::Blob(v) => Value::Blob(v),
        }
    }
}

impl PartialEq for Owned {
    fn eq(&self, other: &Owned) -> bool {
        match (self, other) {
            (Owned::Real(a), Owned::Real(b)) => {
                a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
            }
            _ => self.value() == other.value(),
        }
    }
}

pub(crate) type Row = Vec<Owned>;

// ---- writing and reading whole archives -----------------------------------------------------

/// Everything that a reader tells of an archive.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) header: Header,
    pub(crate) streams: Vec<Stream>,
    /// The rows of every stream.
    pub(crate) rows: Vec<Vec<Row>>,
    pub(crate) sealed: Sealed,
}

/// Reads an archive to its end.
pub(crate) fn read(input: impl Read) -> Result<Found> {
    let mut reader = ArchiveReader::open(input, Limits::default())?;
    reader.digest_rows();
    let mut rows = vec![Vec::new(); reader.streams().len()];
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch)? {
        let into: &mut Vec<Row> = &mut rows[batch.stream()];
        assert_eq!(batch.first_row(), into.len() as u64 + 1, "the number of a batch's first row");
        let width = reader.streams()[batch.stream()].columns.len();
        into.extend(
            (0..batch.rows()).map(|r| (0..width).map(|c| Owned::of(batch.value(r, c))).collect()),
        );
    }
    assert!(!reader.next_batch(&mut batch)?, "the end stays the end");
    assert_eq!(batch.rows(), 0, "no rows come with the end");
    let sealed = reader.sealed().expect("an archive that ended is sealed").clone();
    let counted: Vec<u64> = rows.iter().map(|rows| rows.len() as u64).collect();
    if (0..rows.len()).all(|n| reader.unknown_kind(n).is_none()) {
        assert_eq!(reader.rows(), counted, "the rows that the reader counted");
    }
    Ok(Found { header: reader.header().clone(), streams: reader.streams().to_vec(), rows, sealed })
}

/// How the bytes of a test's archive are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) level: i32,
    pub(crate) threads: usize,
    pub(crate) seek_table: bool,
    /// The rows of a batch.
    pub(crate) batch: usize,
}

pub(crate) const PLAIN: Way = Way { level: 3, threads: 1, seek_table: true, batch: 16 };

fn header(streams: &[Stream], chunk_target: u64) -> Header {
    let origin = Origin { backend: "sqlite".into(), ..Origin::default() };
    let mut header = Header::new(origin, streams, CHUNK_TARGET);
    header.chunk_target = chunk_target;
    header
}

fn write_to<W: Write + Send + 'static>(
    out: W,
    chunk_target: u64,
    streams: &[Stream],
    rows: &[Vec<Row>],
    way: Way,
) -> Result<(W, Written)> {
    let options = WriterOptions {
        level: way.level,
        threads: way.threads,
        seek_table: way.seek_table,
        row_digests: true,
    };
    let counter = Arc::new(AtomicU64::new(0));
    let header = header(streams, chunk_target);
    let mut writer =
        ArchiveWriter::create(out, &header, streams.to_vec(), options, Arc::clone(&counter))?;
    let mut batch = Batch::default();
    for (number, (stream, rows)) in streams.iter().zip(rows).enumerate() {
        for (n, rows) in rows.chunks(way.batch).enumerate() {
            batch.start(number, stream.columns.len(), (n * way.batch) as u64 + 1);
            rows.iter().flatten().for_each(|value| batch.push(value.value()));
            if let Err(error) = writer.write(&batch) {
                // that the writer has stopped is said here, why it has is said at the end
                return Err(writer.finish().err().unwrap_or(error).into());
            }
        }
    }
    let (out, written) = writer.finish()?;
    assert_eq!(written.compressed_bytes, counter.load(Ordering::Relaxed));
    Ok((out, written))
}

pub(crate) fn write(
    chunk_target: u64,
    streams: &[Stream],
    rows: &[Vec<Row>],
    way: Way,
) -> (Vec<u8>, Written) {
    let (bytes, written) = write_to(Vec::new(), chunk_target, streams, rows, way).unwrap();
    assert_eq!(bytes.len() as u64, written.compressed_bytes);
    (bytes, written)
}

/// The decompressed text of all frames.
pub(crate) fn decompress(archive: &[u8]) -> Vec<u8> {
    zstd::decode_all(archive).unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A reader that gives a few bytes at a time, a number that changes, and is interrupted often.
struct Dribble<'a> {
    bytes: &'a [u8],
    most: usize,
    seed: u64,
}

impl Read for Dribble<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let random = (self.seed >> 33) as usize;
        if random.is_multiple_of(5) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = (1 + random % self.most).min(out.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(len);
        out[..len].copy_from_slice(now);
        self.bytes = later;
        Ok(len)
    }
}

// ---- frames and seek table, parsed without the code under test ------------------------------

/// A zstd frame as its header and its block headers describe it.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) content_size: Option<u64>,
    pub(crate) window: u64,
    pub(crate) dictionary: u64,
    /// The content checksum, if there is one.
    pub(crate) checksum: Option<u32>,
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Walks over all zstd frames from the start; what is left after them follows the last one's end.
pub(crate) fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut start = 0;
    while bytes[start..].starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        let descriptor = bytes[start + 4];
        let mut at = start + 5;
        let single_segment = descriptor & 0x20 != 0;
        let mut window = 0;
        if !single_segment {
            let (exponent, mantissa) = (bytes[at] >> 3, u64::from(bytes[at] & 7));
            window = (1 << (10 + exponent)) + ((1 << (10 + exponent)) / 8) * mantissa;
            at += 1;
        }
        let id = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let dictionary = little_endian(&bytes[at..at + id]);
        at += id;
        let size = match (descriptor >> 6, single_segment) {
            (0, false) => 0,
            (0, true) => 1,
            (1, _) => 2,
            (2, _) => 4,
            (_, _) => 8,
        };
        let content_size = little_endian(&bytes[at..at + size]) + if size == 2 { 256 } else { 0 };
        at += size;
        loop {
            let block = little_endian(&bytes[at..at + 3]);
            let len = if block >> 1 & 3 == 1 { 1 } else { (block >> 3) as usize };
            at += 3 + len;
            if block & 1 == 1 {
                break;
            }
        }
        let checksum = (descriptor & 4 != 0).then(|| little_endian(&bytes[at..at + 4]) as u32);
        at += if checksum.is_some() { 4 } else { 0 };
        frames.push(Frame {
            start,
            end: at,
            content_size: (size > 0).then_some(content_size),
            window: if single_segment { content_size } else { window },
            dictionary,
            checksum,
        });
        start = at;
    }
    frames
}

/// The entries of a seek table: compressed bytes, decompressed bytes, checksum.
fn seek_table(table: &[u8]) -> Vec<(u64, u64, u64)> {
    let number = |at: usize| little_endian(&table[at..at + 4]);
    assert_eq!((number(0), number(4)), (0x184D_2A5E, table.len() as u64 - 8));
    let footer = table.len() - 9;
    assert_eq!((table[footer + 4], number(footer + 5)), (0x80, 0x8F92_EAB1));
    assert_eq!(number(footer) as usize * 12, footer - 8);
    (8..footer).step_by(12).map(|at| (number(at), number(at + 4), number(at + 8))).collect()
}

/// Checks the container with parsers of this file and another decoder; returns the text.
fn audit_container(archive: &[u8], seek: bool) -> Vec<u8> {
    let frames = frames(archive);
    let mut text = Vec::new();
    let mut entries = Vec::new();
    for frame in &frames {
        let bytes = &archive[frame.start..frame.end];
        let content = zstd::decode_all(bytes).unwrap();
        assert_eq!(frame.content_size, Some(content.len() as u64), "the size of the content");
        assert_eq!(frame.dictionary, 0);
        assert!(frame.window <= 8 << 20, "a window of {} bytes", frame.window);
        let checksum = frame.checksum.expect("every frame carries a checksum");
        entries.push((bytes.len() as u64, content.len() as u64, u64::from(checksum)));
        let mut theirs = vec![0; content.len()];
        let mut decoder = ruzstd::decoding::FrameDecoder::new();
        decoder.set_max_window_size(8 << 20);
        assert_eq!(decoder.decode_all(bytes, &mut theirs).unwrap(), content.len());
        assert!(theirs == content, "another decoder reads other bytes");
        assert_eq!(decoder.get_checksum_from_data(), Some(checksum));
        text.extend(content);
    }
    let rest = &archive[frames.last().map_or(0, |frame| frame.end)..];
    if seek {
        assert_eq!(seek_table(rest), entries, "the seek table");
    } else {
        assert!(rest.is_empty(), "something follows the manifest");
    }
    text
}

// ---- the text, checked line by line without the code under test -----------------------------

/// What a SCHEMA line claims of every record.
struct Claims {
    properties: serde_json::Map<String, Json>,
    validator: jsonschema::Validator,
}

impl Claims {
    /// Reads the claims and checks the rest of the line against the stream it was made of.
    fn of(schema: &Json, stream: &Stream) -> Claims {
        let name = |n: &usize| stream.columns[*n].name.as_str();
        let those = |wanted: fn(&Column) -> bool| -> Vec<&str> {
            stream.columns.iter().filter(|c| wanted(c)).map(|c| c.name.as_str()).collect()
        };
        let key: Vec<&str> = stream.key.iter().map(name).collect();
        let order: Vec<&str> = stream.order.iter().map(name).collect();
        assert!(!key.is_empty(), "a stream without a key");
        assert_eq!(schema["key_properties"], json!(key));
        let ours = &schema["chronicle"];
        assert_eq!((&ours["order"], &ours["table"]), (&json!(order), &json!(stream.table)));
        assert_eq!(ours["instants"], json!(those(|column| column.time_text.is_time())));
        let kinds: BTreeMap<&str, &str> =
            stream.columns.iter().map(|c| (c.name.as_str(), c.kind.word())).collect();
        assert_eq!(ours["columns"], json!(kinds));
        let properties = schema["schema"]["properties"].as_object().unwrap().clone();
        assert!(properties.keys().eq(kinds.keys()), "the columns of the schema");
        let validator = jsonschema::validator_for(&schema["schema"]).unwrap();
        Claims { properties, validator }
    }

    fn check(&self, record: &Json) {
        assert!(self.validator.is_valid(record), "{record} is not of {:?}", self.properties);
        assert!(record.as_object().unwrap().keys().eq(self.properties.keys()), "{record}");
        for (name, schema) in &self.properties {
            let value = &record[name];
            let Some(text) = value.as_str() else {
                let integer = schema["type"].to_string().contains("integer");
                assert!(!integer || value.is_null() || value.is_i64(), "{value} is no integer");
                continue;
            };
            let holds = match (schema["format"].as_str(), schema["contentEncoding"].as_str()) {
                (Some("date-time"), None) => is_like(text, "0000-00-00T00:00:00.000000Z"),
                (Some("date"), None) => is_like(text, "0000-00-00"),
                (Some("uuid"), None) => {
                    text.len() == 36 && uuid::Uuid::parse_str(text).unwrap().to_string() == text
                }
                (Some("singer.decimal"), None) => text.parse::<f64>().is_ok_and(f64::is_finite),
                (None, Some("base64")) => BASE64.decode(text).is_ok(),
                (None, None) => !text.contains('\0'),
                other => panic!("a claim that nobody knows: {other:?}"),
            };
            assert!(holds, "{text:?} is not what {schema} claims");
        }
    }
}

/// Whether digits stand where the pattern has zeros and everything else is equal.
fn is_like(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(byte, like)| match like {
            b'0' => byte.is_ascii_digit(),
            _ => byte == like,
        })
}

/// What was counted of a stream.
#[derive(Debug, Default)]
struct Count {
    rows: u64,
    chunks: u64,
    bytes: u64,
    times: Vec<String>,
    last_key: Json,
    last_chunk: usize,
}

/// Reads an archive's text line by line, as strictly as the strictest Singer target.
struct Audit<'a> {
    streams: &'a [Stream],
    chunk_target: u64,
    claims: BTreeMap<String, Claims>,
    counts: BTreeMap<String, Count>,
    /// The lines since the last control line that ended something.
    open: Vec<&'a str>,
    checkpoints: u64,
    before: usize,
    prev: Option<String>,
}

/// Checks every line of an archive's text, and what checkpoints and manifest say of them.
fn audit_text(text: &[u8], streams: &[Stream], rows: &[Vec<Row>], chunk_target: u64) {
    let text = std::str::from_utf8(text).unwrap();
    assert!(text.ends_with('\n') && !text.contains('\r') && !text.contains("\n\n"));
    let mut audit = Audit {
        streams,
        chunk_target,
        claims: BTreeMap::new(),
        counts: BTreeMap::new(),
        open: Vec::new(),
        checkpoints: 0,
        before: 0,
        prev: None,
    };
    for line in text.split_inclusive('\n') {
        audit.line(line);
        audit.before += line.len();
    }
    assert!(audit.open.is_empty() && text.lines().last().unwrap().contains(r#""manifest""#));
    for (stream, rows) in streams.iter().zip(rows) {
        let counted = audit.counts.get(&stream.name).map_or(0, |count| count.rows);
        assert_eq!(counted, rows.len() as u64, "the RECORD lines of {}", stream.name);
    }
}

impl<'a> Audit<'a> {
    fn line(&mut self, line: &'a str) {
        let json: Json = serde_json::from_str(line).unwrap();
        let name = json["stream"].as_str().unwrap_or_default();
        match json["type"].as_str().unwrap() {
            "SCHEMA" => {
                assert_eq!(self.checkpoints, 0, "a SCHEMA line outside the head");
                assert!(line.starts_with(r#"{"type":"SCHEMA","stream":""#));
                let stream = self.streams.iter().find(|s| s.name == name).unwrap();
                let again = self.claims.insert(name.to_owned(), Claims::of(&json, stream));
                assert!(again.is_none(), "two SCHEMA lines of a stream");
                self.open.push(line);
            }
            "RECORD" => {
                let prefix = format!(r#"{{"type":"RECORD","stream":"{name}","record":{{"#);
                assert!(line.starts_with(&prefix), "{line}");
                self.claims.get(name).expect("a SCHEMA line before").check(&json["record"]);
                self.count(name, line, &json["record"]);
                self.open.push(line);
            }
            "STATE" => {
                assert!(line.starts_with(r#"{"type":"STATE","value":{"chronicle":{"kind":""#));
                let ours = &json["value"]["chronicle"];
                match ours["kind"].as_str().unwrap() {
                    "header" => {
                        assert_eq!(self.before, 0, "the header is not the first line");
                        self.open.push(line);
                    }
                    "checkpoint" => self.checkpoint(ours, line),
                    "manifest" => self.manifest(ours),
                    other => panic!("a control line of kind {other}"),
                }
                let marks: BTreeMap<&String, Json> = (self.counts.iter())
                    .map(|(s, c)| (s, json!({"rows": c.rows, "last_key": c.last_key})))
                    .collect();
                assert_eq!(json["value"]["bookmarks"], json!(marks));
            }
            other => panic!("a line of type {other}"),
        }
    }

    fn count(&mut self, name: &str, line: &str, record: &Json) {
        let stream = self.streams.iter().find(|s| s.name == name).unwrap();
        let of = |n: &usize| record[&stream.columns[*n].name].clone();
        let count = self.counts.entry(name.to_owned()).or_default();
        count.rows += 1;
        count.bytes += line.len() as u64;
        count.last_key = match stream.order.len() {
            0 => Json::Null,
            _ => stream.order.iter().map(of).collect(),
        };
        let time = time_column(stream).map(|n| of(&n));
        // a text of more than 64 bytes is no time
        let time = time.as_ref().and_then(Json::as_str).filter(|text| text.len() <= 64);
        count.times.extend(time.map(str::to_owned));
    }

    fn checkpoint(&mut self, ours: &Json, line: &str) {
        let lines = std::mem::take(&mut self.open);
        let bytes = lines.concat();
        assert_eq!(ours["chunk"], self.checkpoints);
        assert_eq!(ours["bytes"], bytes.len());
        assert_eq!(ours["sha256"], sha256(bytes.as_bytes()));
        assert_eq!(ours["prev"], json!(self.prev));
        if self.checkpoints == 0 {
            assert_eq!((&ours["rows"], &ours["stream"]), (&json!(0), &Json::Null));
            assert_eq!(self.claims.len(), self.streams.len(), "a SCHEMA line of every stream");
        } else {
            let stream = ours["stream"].as_str().unwrap();
            let prefix = format!(r#"{{"type":"RECORD","stream":"{stream}","#);
            assert!(lines.iter().all(|line| line.starts_with(&prefix)), "streams are mixed");
            assert_eq!(ours["rows"], lines.len());
            assert!(bytes.len() as u64 <= self.chunk_target || lines.len() == 1);
            let count = self.counts.get_mut(stream).unwrap();
            // a chunk is closed only before a line that would not fit
            let with_this = count.last_chunk + lines[0].len();
            assert!(count.chunks == 0 || with_this as u64 > self.chunk_target);
            count.chunks += 1;
            count.last_chunk = bytes.len();
        }
        self.prev = Some(sha256(line.as_bytes()));
        self.checkpoints += 1;
    }

    fn manifest(&mut self, ours: &Json) {
        assert!(self.open.is_empty(), "the manifest does not stand alone");
        assert_eq!((&ours["version"], &ours["chunks"]), (&json!(1), &json!(self.checkpoints)));
        assert_eq!((&ours["bytes"], &ours["prev"]), (&json!(self.before), &json!(self.prev)));
        let none = Count::default();
        for stream in self.streams {
            let count = self.counts.get(&stream.name).unwrap_or(&none);
            assert_eq!(ours["rows"][&stream.name], count.rows);
            let mut extent = json!({"chunks": count.chunks, "bytes": count.bytes});
            if let (Some(first), Some(last)) = (count.times.iter().min(), count.times.iter().max())
            {
                extent["first"] = json!(first);
                extent["last"] = json!(last);
            }
            assert_eq!(ours["extents"][&stream.name], extent, "the extent of {}", stream.name);
        }
    }
}

/// The column whose range an extent tells: the first instant of the order, else of all columns.
fn time_column(stream: &Stream) -> Option<usize> {
    let is_time =
        |n: &usize| stream.columns[*n].time_text.is_time() || stream.columns[*n].kind == Kind::Time;
    let first = stream.order.iter().copied().find(is_time);
    first.or_else(|| (0..stream.columns.len()).find(is_time))
}

// ---- streams and rows as hostile as databases allow -----------------------------------------

const INTS: [i64; 7] = [0, 1, -1, i64::MIN, i64::MAX, 1 << 53, -(1 << 53) - 1];

const TEXTS: [&[u8]; 24] = [
    b"",
    b"plain",
    b" \t padded \r\n",
    b"\"quoted\\ / \x08\x0c\x1f\x7f",
    b"a\0b",
    b"\0",
    b"\xff\xfe",
    b"half \xe2\x82",
    b"\xed\xa0\x80 a surrogate in UTF-8",
    b"nul and \xff\0 both",
    "é漢\u{1f600}\u{2028}\u{2029}\u{85}\u{feff}\u{fffd}".as_bytes(),
    b"\\ud800\\u0000",
    b"2025-08-19 12:00:00",
    b"2025-08-19T12:00:00.123456+02:00",
    b"infinity",
    b"null",
    b"NULL",
    b"NaN",
    b"12",
    b"true",
    b"\",\"id\":\"2\"},\"chronicle\":{\"exact\":{}}}",
    b"{\"type\":\"STATE\",\"value\":{}}\n{\"type\":\"STATE\",",
    b"AAEC",
    b"0b6f9b1e-7c3d-4f0e-9a55-3f6a1f3f7b10",
];

const JSONS: [&[u8]; 40] = [
    b"{}",
    b"{\"a\": 1, \"b\": [1.10, 1E2, 9007199254740993, -0, -0.0, 5e-324]}",
    "{\"caf\\u00e9\": \"\u{1f600}\u{2028}\", \"\\ud83d\\ude00\": null}".as_bytes(),
    b"{ \"spaced\" :\t[ true , false ] }",
    b"{\"a\":{\"a\":{\"a\":{}}},\"b\":[[[[]]]]}",
    b"{\"n\":1e308,\"m\":-1.7976931348623157e308}",
    b"",
    b" ",
    b"null",
    b"true",
    b"\"text\"",
    b"\"\\u0000\"",
    b"12.50",
    b"[]",
    b"[{\"a\":1},{\"a\":2}]",
    b" {\"a\":1}",
    b"{\"a\":1}\n",
    b"{\n  \"a\": 1\r\n}",
    b"{\"a\":\"x\\u0000y\"}",
    b"{\"\\u0000\":0}",
    b"{\"a\":\"\\ud800\",\"b\":\"\\udc00\\ud83d\"}",
    b"{\"\\ud800\":1,\"\\ud801\":2,\"\\ufffd\":3}",
    b"{\"a\":1,\"b\":2,\"a\":3}",
    b"{\"a\":1,\"\\u0061\":{\"b\":1,\"b\":2}}",
    b"{\"n\":1e400}",
    b"{\"n\":-1e999999999999,\"m\":1e-309}",
    b"{\"a\":NaN}",
    b"{\"a\":1,}",
    b"{'a':1}",
    b"{\"a\":01}",
    b"{\"a\":1",
    b"{\"a\":1}}",
    b"{\"a\":\"\t\"}",
    b"{\"a\":\"\xff\"}",
    b"\xef\xbb\xbf{\"a\":1}",
    b"{\"a\":1}\0",
    b"{\"a\":Infinity}",
    b"not JSON",
    b"{\"a\":\"}},{\\\"chronicle\\\":{\"}",
    b"{\"__proto__\":1,\"\":2,\" \":3}",
];

const NUMERICS: [&str; 11] = [
    "1.10",
    "0",
    "-0.5",
    "0.00000000000000000000000000000000000001",
    "12345678901234567890123456789012345678901234567890.98765",
    "100",
    "-1",
    "NaN",
    "Infinity",
    "-Infinity",
    "9999999999999999999",
];

const DATES: [&str; 9] = [
    "2025-02-28",
    "2024-02-29",
    "0001-01-01",
    "9999-12-31",
    "10000-01-01",
    "5874897-12-31",
    "0044-03-15 BC",
    "infinity",
    "-infinity",
];

const JSONBS: [&str; 10] = [
    "{}",
    "{\"a\": 1.10, \"bb\": [1, 2, {\"c\": null}]}",
    "{\"\u{1f600}\": \"\u{2028}\\n\\\"\"}",
    "null",
    "true",
    "-12.50",
    "\"text\"",
    "\"\"",
    "[]",
    "[1, {\"a\": 2}]",
];

const OTHERS: [&str; 8] = [
    "",
    "{1,NULL,\"a b\"}",
    "P1Y2M3DT4H5M6.789S",
    "12:00:00+02",
    "::1/128",
    "$1.00",
    "é",
    "a\tb\\",
];

/// Text as SQLite may hold it: any bytes.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => select(&TEXTS[..]).prop_map(<[u8]>::to_vec),
        2 => any::<String>().prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..40),
        1 => (select(&TEXTS[..]), 1..600_usize).prop_map(|(text, times)| text.repeat(times)),
    ]
}

/// JSON text as tools write it, portable and not.
fn json_text() -> impl Strategy<Value = Vec<u8>> {
    let nested = |depth: usize| ["{\"a\":".repeat(depth), "{}".into(), "}".repeat(depth)].concat();
    let arrays = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    prop_oneof![
        8 => select(&JSONS[..]).prop_map(<[u8]>::to_vec),
        2 => generated_json().prop_map(String::into_bytes),
        1 => select(vec![1_usize, 98, 99, 100, 101, 1000, 2000])
            .prop_map(move |depth| nested(depth).into_bytes()),
        1 => select(vec![98_usize, 99, 100, 101]).prop_map(move |d| arrays(d).into_bytes()),
        1 => select(vec![307_usize, 308, 309, 399, 400, 401])
            .prop_map(|digits| format!("{{\"n\":{}}}", "9".repeat(digits)).into_bytes()),
        1 => text(),
    ]
}

/// Objects with few different names, so that some are equal, and strings that need escapes.
fn generated_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<f64>().prop_map(|v| v.to_string()),
        any::<i64>().prop_map(|v| v.to_string()),
        any::<String>().prop_map(|v| Json::String(v).to_string()),
        select(vec!["null", "true", "1E+2", "1e999", "-0", "\"\\u0000\"", "\"\\udfff\""])
            .prop_map(str::to_owned),
    ];
    let value = leaf.prop_recursive(3, 24, 5, |inner| {
        let name = select(vec!["a", "b", "\\u0061", "", "a\\u0000", "c d", "\\n"]);
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
            vec((name, inner), 0..5).prop_map(|members| {
                let members: Vec<String> = members
                    .into_iter()
                    .map(|(name, value)| format!("\"{name}\":{value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    vec(value, 0..3).prop_map(|values| {
        let members = values.iter().enumerate().map(|(n, value)| format!("\"{n}\": {value}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
    })
}

fn real() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("NaN stands in real columns only", |v| !v.is_nan()),
        select(vec![0.0, -0.0, 1.0, 0.1, 1e16, 1e-7, 5e-324, f64::MAX, f64::MIN, 1e22]),
        select(vec![f64::INFINITY, f64::NEG_INFINITY]),
    ]
}

/// Any value that SQLite may hold in a column of any declared kind.
fn free() -> BoxedStrategy<Owned> {
    prop_oneof![
        1 => Just(Owned::Null),
        2 => prop_oneof![any::<i64>(), select(&INTS[..])].prop_map(Owned::Int),
        2 => real().prop_map(Owned::Real),
        3 => text().prop_map(Owned::Text),
        2 => json_text().prop_map(Owned::Text),
        2 => vec(any::<u8>(), 0..40).prop_map(Owned::Blob),
    ]
    .boxed()
}

fn instant() -> impl Strategy<Value = Instant> {
    prop_oneof![
        3 => (Instant::MIN.0..=Instant::MAX.0).prop_map(Instant),
        3 => (-63_082_281_600_000_000..=252_455_615_999_999_999_i64).prop_map(Instant),
        2 => select(vec![
            Instant::MIN,
            Instant::MAX,
            Instant::INFINITY,
            Instant::NEG_INFINITY,
            Instant(-63_082_281_600_000_000),
            Instant(-63_082_281_600_000_001),
            Instant(252_455_615_999_999_999),
            Instant(252_455_616_000_000_000),
            Instant(0),
        ]),
    ]
}

/// A value of a column: of its kind more often, but of any class where SQLite could have put it.
fn value(kind: Kind, nullable: bool) -> BoxedStrategy<Owned> {
    let texts = |list: &'static [&'static str]| {
        select(list).prop_map(|text| Owned::Text(text.as_bytes().to_vec())).boxed()
    };
    let own = match kind {
        Kind::Int => prop_oneof![any::<i64>(), select(&INTS[..])].prop_map(Owned::Int).boxed(),
        Kind::Real => prop_oneof![4 => real(), 1 => Just(f64::NAN)].prop_map(Owned::Real).boxed(),
        Kind::Text => text().prop_map(Owned::Text).boxed(),
        Kind::Json => json_text().prop_map(Owned::Text).boxed(),
        Kind::Bytes => vec(any::<u8>(), 0..60).prop_map(Owned::Blob).boxed(),
        Kind::Bool => any::<bool>().prop_map(Owned::Bool).boxed(),
        Kind::Numeric => texts(&NUMERICS),
        Kind::Time => instant().prop_map(Owned::Time).boxed(),
        Kind::Date => texts(&DATES),
        Kind::Uuid => any::<[u8; 16]>().prop_map(Owned::Uuid).boxed(),
        Kind::Jsonb => prop_oneof![
            texts(&JSONBS),
            Just(Owned::Text(format!("{{\"n\": 1{}}}", "0".repeat(400)).into_bytes())),
        ]
        .boxed(),
        Kind::Other => texts(&OTHERS),
    };
    let typed_freely =
        matches!(kind, Kind::Int | Kind::Real | Kind::Text | Kind::Json | Kind::Bytes);
    match (nullable, kind) {
        (true, _) if typed_freely => prop_oneof![3 => own, 1 => free()].boxed(),
        (true, _) => prop_oneof![6 => own, 1 => Just(Owned::Null)].boxed(),
        // a key of text is shown as text whatever it is, but there must be one
        (false, Kind::Text) => prop_oneof![3 => own, 1 => free()]
            .prop_filter("a key that is not null", |value| *value != Owned::Null)
            .boxed(),
        (false, _) => own,
    }
}

/// A stream with one or two key columns and up to seven others.
fn stream(number: usize) -> impl Strategy<Value = Stream> {
    let key = vec((select(vec![Kind::Text, Kind::Int, Kind::Uuid]), any::<bool>()), 1..3);
    let kinds = Kind::WORDS.map(|(kind, _)| kind).to_vec();
    let other = vec((select(kinds), any::<[bool; 3]>()), 0..8);
    let suffixes = select(vec!["", " é\u{1f600}", "\"\\\n\u{1}", "_null", "{,:}", "chronicle"]);
    (key, other, suffixes, any::<bool>(), vec(any::<Pick>(), 0..3)).prop_map(
        move |(key, others, suffix, sorted, order)| {
            let width = key.len();
            let mut columns = Vec::new();
            for (kind, strict) in key {
                columns.push((kind, !strict, TimeText::None));
            }
            for (kind, [instant, utc, _]) in others {
                let instant = instant && kind == Kind::Text;
                columns.push((kind, true, TimeText::new(instant, utc)));
            }
            let columns: Vec<Column> = (columns.into_iter().enumerate())
                .map(|(n, (kind, nullable, time_text))| Column {
                    name: format!("c{n}{suffix}"),
                    physical: if n % 2 == 0 { format!("c{n}{suffix}") } else { format!("P {n}") },
                    kind,
                    nullable,
                    time_text,
                })
                .collect();
            let mut order: Vec<usize> = order.iter().map(|p| p.index(columns.len())).collect();
            order.extend(0..width);
            order.dedup();
            let mut seen = std::collections::BTreeSet::new();
            order.retain(|n| seen.insert(*n) && sorted);
            Stream {
                name: format!("stream_{number}"),
                table: format!("public.\"T{suffix}\""),
                columns,
                key: (0..width).collect(),
                order,
            }
        },
    )
}

fn rows_of(stream: &Stream) -> BoxedStrategy<Vec<Row>> {
    let row: Vec<_> = stream.columns.iter().map(|c| value(c.kind, c.nullable)).collect();
    prop_oneof![1 => Just(Vec::new()).boxed(), 6 => vec(row, 0..40).boxed()].boxed()
}

type Content = (Vec<Stream>, Vec<Vec<Row>>);

/// One to three streams with their rows.
fn content() -> impl Strategy<Value = Content> {
    (1..4_usize).prop_flat_map(|count| (0..count).map(stream).collect::<Vec<_>>()).prop_flat_map(
        |streams| {
            let rows: Vec<_> = streams.iter().map(rows_of).collect();
            (Just(streams), rows)
        },
    )
}

fn way() -> impl Strategy<Value = Way> {
    (select(vec![1, 3, 7]), 1..4_usize, any::<bool>(), 1..40_usize)
        .prop_map(|(level, threads, seek_table, batch)| Way { level, threads, seek_table, batch })
}

/// Chunk targets that hold everything, some rows, one row, or less than one.
fn chunk_target() -> impl Strategy<Value = u64> {
    prop_oneof![Just(65_536), 1..3000_u64, Just(1)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whatever_is_written_reads_back_and_everything_said_of_it_is_true(
        (streams, rows) in content(),
        target in chunk_target(),
        way in way(),
        seed: u64,
    ) {
        let (archive, written) = write(target, &streams, &rows, way);
        let text = audit_container(&archive, way.seek_table);
        audit_text(&text, &streams, &rows, target);
        let last_line = text.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
        prop_assert_eq!(&written.digest, &sha256(last_line));

        let index = if way.seek_table { Index::Good } else { Index::None };
        let dribble = Dribble { bytes: &archive, most: 997, seed };
        let bare_dribble = Dribble { bytes: &text, most: 997, seed };
        for (found, index, size) in [
            (read(&archive[..]), index, archive.len()),
            (read(dribble), index, archive.len()),
            (read(&text[..]), Index::None, text.len()),
            (read(bare_dribble), Index::None, text.len()),
        ] {
            let found = found.unwrap();
            prop_assert_eq!(&found.header, &header(&streams, target));
            prop_assert_eq!(&found.streams, &streams);
            prop_assert_eq!(&found.rows, &rows);
            prop_assert_eq!(&found.sealed.digest, &written.digest);
            prop_assert_eq!(&found.sealed.manifest, &written.manifest);
            prop_assert_eq!((found.sealed.index, found.sealed.file_bytes), (index, size as u64));
        }
    }

    #[test]
    fn the_digest_knows_rows_and_nothing_of_levels_threads_and_batches(
        (streams, rows) in content(),
        target in chunk_target(),
        one in way(),
        other in way(),
    ) {
        let (archive, written) = write(target, &streams, &rows, one);
        let seek_table = one.seek_table;
        let (text, digest) = (decompress(&archive), written.digest);
        let (again, written) = write(target, &streams, &rows, Way { seek_table, ..other });
        prop_assert_eq!(decompress(&again), text);
        prop_assert_eq!(written.digest, digest);
        let (again, _) = write(target, &streams, &rows, Way { level: one.level, seek_table, ..other });
        prop_assert!(again == archive, "other bytes at the same level");
    }
}

// ---- laws with examples ---------------------------------------------------------------------

pub(crate) fn column(name: &str, kind: Kind, nullable: bool) -> Column {
    Column { name: name.into(), physical: name.into(), kind, nullable, time_text: TimeText::None }
}

/// A stream `name` with a text key `id` and a text column `body`, sorted by its key.
pub(crate) fn letters(name: &str) -> Stream {
    Stream {
        name: name.into(),
        table: name.into(),
        columns: vec![column("id", Kind::Text, false), column("body", Kind::Text, true)],
        key: vec![0],
        order: vec![0],
    }
}

pub(crate) fn letter(id: &str, body: Vec<u8>) -> Row {
    vec![Owned::Text(id.as_bytes().to_vec()), Owned::Text(body)]
}

/// Bytes that look like nothing and hardly compress, as text.
fn noise(len: usize) -> Vec<u8> {
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'0' + (seed >> 58) as u8 % 64
    };
    (0..len).map(|_| next()).filter(|byte| *byte != b'\\').collect()
}

#[test]
fn a_row_of_10_mib_travels_alone_in_its_chunk_and_needs_no_large_window_at_any_level() {
    let streams = [letters("letters")];
    let long = noise(1 << 20).repeat(10);
    let rows = [vec![letter("a", b"x".to_vec()), letter("b", long), letter("c", b"y".to_vec())]];
    for level in [1, 22] {
        let (archive, _) = write(65_536, &streams, &rows, Way { level, ..PLAIN });
        let text = audit_container(&archive, true);
        audit_text(&text, &streams, &rows, 65_536);
        assert_eq!(frames(&archive).len(), 5);
        let found = read(&archive[..]).unwrap();
        assert!(found.rows == rows);
        assert_eq!(found.sealed.manifest.extents[0].1.chunks, 3);
    }
}

#[test]
fn a_row_of_64_mib_travels_and_one_byte_more_is_refused_naming_its_key() {
    let streams = [letters("letters")];
    let frame =
        r#"{"type":"RECORD","stream":"letters","record":{"id":"k\n1","body":""}}"#.len() + 1;
    let body = vec![b'x'; RECORD_LINE - frame + 1];
    let one = Way { level: 1, ..PLAIN };
    let rows = |body: &[u8]| [vec![letter("a", vec![]), letter("k\n1", body.to_vec())]];
    let error = write_to(io::sink(), 65_536, &streams, &rows(&body), one).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), Code::Source);
    assert!(error.full().contains("letters with key k\\n1"), "{error}");
    assert!(error.full().contains("64 MiB"), "{error}");
    let (archive, _) = write(65_536, &streams, &rows(&body[1..]), one);
    let mut reader = ArchiveReader::open(&archive[..], Limits::default()).unwrap();
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch).unwrap() {
        assert!(batch.rows() == 1);
    }
    let limits = Limits { record_line: RECORD_LINE - 1, ..Limits::default() };
    let mut reader = ArchiveReader::open(&archive[..], limits).unwrap();
    assert!(reader.next_batch(&mut batch).unwrap());
    let error = reader.next_batch(&mut batch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("over the limit"), "{error}");
}

#[test]
fn a_key_that_is_too_long_for_a_bookmark_travels_all_the_same() {
    let mut streams = [letters("letters")];
    streams[0].order = vec![1, 0];
    streams[0].columns[1].time_text = TimeText::Local;
    for length in [CONTROL_LINE / 2, CONTROL_LINE, 2 * CONTROL_LINE] {
        let rows = [vec![letter("a", vec![b'x'; length]), letter("b", vec![b'y'; length])]];
        let (archive, _) = write_to(Vec::new(), 65_536, &streams, &rows, PLAIN).unwrap();
        assert!(read(&archive[..]).unwrap().rows == rows, "{length}");
    }
}

#[test]
fn a_null_where_the_schema_allows_none_is_refused_by_the_writer_and_not_by_the_reader() {
    for (kind, value) in [
        (Kind::Text, Owned::Null),
        (Kind::Int, Owned::Null),
        (Kind::Int, Owned::Text(b"seven".to_vec())),
        (Kind::Int, Owned::Real(f64::INFINITY)),
    ] {
        let streams = [Stream {
            columns: vec![column("id", kind, false), column("body", Kind::Text, true)],
            ..letters("letters")
        }];
        let rows = [vec![vec![value.clone(), Owned::Null]]];
        if let Ok((archive, _)) = write_to(Vec::new(), 65_536, &streams, &rows, PLAIN) {
            let found = read(&archive[..]).map(|found| found.rows);
            panic!("{value:?} in a key that is never null was written; it reads as {found:?}");
        }
    }
}

#[test]
fn the_extent_of_a_stream_tells_its_times_as_the_records_hold_them() {
    let mut stream = letters("letters");
    stream.columns[1].time_text = TimeText::Local;
    let streams = [stream];
    let times: [&[u8]; 4] = [b"2025\"", b"2025!", b"\t", b"2026\\"];
    let rows = [times.map(|time| letter("a", time.to_vec())).to_vec()];
    let (archive, written) = write(100, &streams, &rows, PLAIN);
    let extent = &written.manifest.extents[0].1;
    assert_eq!((extent.first.as_deref(), extent.last.as_deref()), (Some("\t"), Some("2026\\")));
    audit_text(&decompress(&archive), &streams, &rows, 100);
}

#[test]
fn streams_without_rows_have_a_schema_and_no_chunk() {
    let streams = [letters("a"), letters("b"), letters("c")];
    let rows = [vec![], vec![letter("1", b"x".to_vec())], vec![]];
    let (archive, written) = write(65_536, &streams, &rows, PLAIN);
    assert_eq!(frames(&archive).len(), 3);
    audit_text(&audit_container(&archive, true), &streams, &rows, 65_536);
    let counted = ["a", "b", "c"].map(str::to_owned).into_iter().zip([0, 1, 0]).collect::<Vec<_>>();
    assert_eq!((written.manifest.chunks, &written.manifest.rows), (2, &counted));
    let (archive, written) = write(65_536, &streams, &[vec![], vec![], vec![]], PLAIN);
    assert_eq!((frames(&archive).len(), written.manifest.chunks), (2, 1));
    assert_eq!(read(&archive[..]).unwrap().rows, [[], [], []] as [[Row; 0]; 3]);
}

#[test]
fn rows_appended_at_the_end_leave_every_full_frame_as_it_was() {
    let streams = [letters("letters")];
    let rows: Vec<Row> = (0..400).map(|n| letter(&format!("{n:04}"), noise(100))).collect();
    let (short, _) = write(4096, &streams, &[rows[..300].to_vec()], PLAIN);
    let (long, _) = write(4096, &streams, &[rows], PLAIN);
    let (frames, longer) = (frames(&short), frames(&long));
    // all but the last chunk and the manifest
    let same = frames[frames.len() - 3].end;
    assert!(frames.len() > 8 && longer.len() > frames.len());
    assert!(short[..same] == long[..same]);
}

#[test]
fn row_digests_that_are_asked_for_too_late_are_not_computed() {
    let archive = include_bytes!("../../fixtures/archives/hooks.ndjson.zst");
    let open = || ArchiveReader::open(&archive[..], Limits::default()).unwrap();
    let finish = |mut reader: ArchiveReader<&'static [u8]>| {
        reader.digest_rows();
        while reader.next_batch(&mut Batch::default()).unwrap() {}
        reader.row_digests().len()
    };
    assert_eq!(finish(open()), 2);
    let mut prefetching = open();
    prefetching.prefetch().unwrap();
    assert_eq!(finish(prefetching), 0);
    let mut begun = open();
    begun.next_batch(&mut Batch::default()).unwrap();
    assert_eq!(finish(begun), 0);
}

#[test]
fn a_stream_after_a_later_one_is_refused() {
    let streams = vec![letters("a"), letters("b")];
    let header = header(&streams, 65_536);
    let out = Vec::new();
    let options = WriterOptions { threads: 1, ..WriterOptions::default() };
    let mut writer = ArchiveWriter::create(out, &header, streams, options, Arc::default()).unwrap();
    let mut batch = Batch::default();
    for (stream, fails) in [(1, false), (0, true), (2, true)] {
        batch.start(stream, 2, 1);
        batch.push(Value::Text(b"x"));
        batch.push(Value::Null);
        assert_eq!(writer.write(&batch).is_err(), fails, "stream {stream}");
    }
}

#[test]
fn streams_over_the_limits_of_the_format_are_refused() {
    let named = |name: &str| Stream { name: name.into(), ..letters("a") };
    let wide = |width: usize| {
        let mut stream = letters("a");
        stream.columns = (0..width).map(|n| column(&format!("c{n}"), Kind::Int, true)).collect();
        stream
    };
    let long = |len: usize| {
        let mut stream = letters("a");
        stream.columns[1].name = "n".repeat(len);
        stream
    };
    for (stream, fits) in [
        (named(&"a".repeat(63)), true),
        (named("a_1"), true),
        (named(&"a".repeat(64)), false),
        (named(""), false),
        (named("1a"), false),
        (named("_a"), false),
        (named("A"), false),
        (named("a-b"), false),
        (named("a\"b"), false),
        (wide(1600), true),
        (wide(1601), false),
        (long(255), true),
        (long(256), false),
    ] {
        let rows = [vec![]];
        let streams = [stream];
        match write_to(Vec::new(), 65_536, &streams, &rows, PLAIN) {
            Ok((archive, _)) => {
                assert!(fits, "{}", streams[0].name);
                assert_eq!(read(&archive[..]).unwrap().streams, streams);
            }
            Err(error) => assert!(!fits && error.code() == Code::Source, "{error}"),
        }
    }
}

/// An output that takes so many bytes and then fails.
struct Full {
    left: usize,
    kind: io::ErrorKind,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(self.kind.into());
        }
        let len = bytes.len().min(self.left);
        self.left -= len;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_fails_anywhere_is_an_error_that_says_why() {
    let streams = [letters("letters")];
    let rows = [(0..40).map(|n| letter(&n.to_string(), noise(50))).collect::<Vec<_>>()];
    let (archive, _) = write(300, &streams, &rows, PLAIN);
    for left in (0..=archive.len()).step_by(37).chain([archive.len() - 1, archive.len()]) {
        for (kind, code, says) in [
            (io::ErrorKind::BrokenPipe, Code::BrokenPipe, "the reader has gone"),
            (io::ErrorKind::StorageFull, Code::Output, "the disk is full"),
        ] {
            let threads = 1 + left % 3;
            let full = Full { left, kind };
            match write_to(full, 300, &streams, &rows, Way { threads, ..PLAIN }) {
                Ok(_) => assert_eq!(left, archive.len()),
                Err(error) => {
                    assert_eq!(error.code(), code, "{error}");
                    assert!(error.full().contains(says), "{error}");
                }
            }
        }
    }
}

/// An input that fails after its bytes.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out) {
            Ok(0) => Err(io::Error::other("the cable was pulled")),
            other => other,
        }
    }
}

#[test]
fn an_input_that_fails_is_no_truncated_archive() {
    let streams = [letters("letters")];
    let rows = [vec![letter("a", noise(500))]];
    let (archive, _) = write(65_536, &streams, &rows, PLAIN);
    let text = decompress(&archive);
    for whole in [&archive, &text] {
        for cut in (0..=whole.len()).step_by(7) {
            let error = read(Broken(&whole[..cut])).unwrap_err();
            assert_eq!(error.code(), Code::Source, "{cut}: {error}");
            assert!(error.full().contains("the cable was pulled"), "{}", error.full());
        }
    }
}
