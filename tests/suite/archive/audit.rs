//! Archives checked without the code under test: the container frame by frame, the text line by line.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chronicle_archive::{Column, Kind, Stream};
use serde_json::{Value as Json, json};

use super::{Row, decompress, sha256};

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
pub(super) fn audit_container(archive: &[u8], seek: bool) -> Vec<u8> {
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
    audit_frames(&frames.iter().map(|f| decompress(&archive[f.start..f.end])).collect::<Vec<_>>());
    let rest = &archive[frames.last().map_or(0, |frame| frame.end)..];
    if seek {
        assert_eq!(seek_table(rest), entries, "the seek table");
    } else {
        assert!(rest.is_empty(), "something follows the manifest");
    }
    text
}

/// Checks that every frame of records holds nothing else, and that a frame with their checkpoint follows it.
fn audit_frames(contents: &[Vec<u8>]) {
    let (_, chunks) = contents.split_first().unwrap();
    let (_, chunks) = chunks.split_last().unwrap();
    let (pairs, rest) = chunks.as_chunks::<2>();
    assert!(rest.is_empty(), "a frame of records without one of its checkpoint");
    for [records, checkpoint] in pairs {
        let mut lines = records.split_inclusive(|byte| *byte == b'\n');
        assert!(
            lines.all(|line| line.starts_with(b"{\"type\":\"RECORD\",") && line.ends_with(b"\n"))
        );
        let kind = b"{\"type\":\"STATE\",\"value\":{\"chronicle\":{\"kind\":\"checkpoint\",";
        assert!(
            checkpoint.starts_with(kind) && checkpoint.split(|byte| *byte == b'\n').count() == 2
        );
    }
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

/// Whether digits are where the pattern has zeros and everything else is equal.
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
pub(super) fn audit_text(text: &[u8], streams: &[Stream], rows: &[Vec<Row>], chunk_target: u64) {
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
                // a checkpoint names its own stream, the manifest all
                let own = ours["stream"].as_str();
                let marks: BTreeMap<&String, Json> = (self.counts.iter())
                    .filter(|(s, _)| own.is_none_or(|own| own == s.as_str()))
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
            // a chunk of less than half the size is closed only before a line that would not fit
            let with_this = count.last_chunk + lines[0].len();
            let is_full = count.last_chunk as u64 >= self.chunk_target / 2;
            assert!(count.chunks == 0 || is_full || with_this as u64 > self.chunk_target);
            count.chunks += 1;
            count.last_chunk = bytes.len();
        }
        self.prev = Some(sha256(line.as_bytes()));
        self.checkpoints += 1;
    }

    fn manifest(&mut self, ours: &Json) {
        assert!(self.open.is_empty(), "the manifest shares its frame with other lines");
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

/// The column whose range an extent gives: the first instant of the order, else of all columns.
fn time_column(stream: &Stream) -> Option<usize> {
    let is_time =
        |n: &usize| stream.columns[*n].time_text.is_time() || stream.columns[*n].kind == Kind::Time;
    let first = stream.order.iter().copied().find(is_time);
    first.or_else(|| (0..stream.columns.len()).find(is_time))
}
