//! The control and schema lines: header, SCHEMA, checkpoint and manifest, to text and back.

use std::fmt::Write as _;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::error::{ArchiveError, ErrorKind, Result};
use crate::json;
use crate::limits::{COLUMN_NAME, COLUMNS, is_stream_name};
use crate::model::{Column, Kind, Stream, TimeText};

/// The fixed bytes that every archive's first line starts with; the version follows.
pub const HEADER_PREFIX: &str =
    r#"{"type":"STATE","value":{"chronicle":{"kind":"header","version":"#;
/// How every control line starts.
pub const STATE_PREFIX: &str = r#"{"type":"STATE","#;
/// How every SCHEMA line starts.
pub const SCHEMA_PREFIX: &str = r#"{"type":"SCHEMA","#;

/// Where an archive's rows came from. Never a password, a URL or a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// `sqlite` or `postgres`.
    pub backend: String,
    /// The layout that the tables were recognised as. Since the first version; a reader may ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// The schema of the tables, in Postgres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The version of the server or library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// A UUID that names the database among all, so that ids which are unique only in it can be told
    /// apart. Since the first version; a reader may ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// A name that the user gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The time zone of the machine that exported: a hint for texts without a zone, never applied
    /// unasked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// The archive that an incremental archive continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its digest.
    pub digest: String,
    /// Its id.
    pub archive_id: String,
}

/// The first line of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    kind: String,
    /// The version of the format.
    pub version: u32,
    /// Features without which a reader would go wrong.
    pub requires: Vec<String>,
    /// The name of this archive, new for every export; all zeros if reproducible.
    pub archive_id: String,
    /// When it was made, RFC 3339 in UTC; null if reproducible.
    pub created_at: Option<String>,
    /// The program and its version.
    pub writer: String,
    /// Where the rows came from.
    pub source: Origin,
    /// The streams in the order they follow each other.
    pub streams: Vec<String>,
    /// The most record bytes of a chunk that holds more than one row.
    pub chunk_target: u64,
    /// `snapshot` if all rows are of one moment, else `none` or `resumed`.
    pub consistency: String,
    /// What was asked for, if only a part was exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<std::collections::BTreeMap<String, String>>,
    /// The archive that this one continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
}

impl Header {
    /// A header of this program for `streams`, with a snapshot's consistency.
    pub fn new(source: Origin, streams: &[Stream], chunk_target: usize) -> Header {
        Header {
            kind: "header".into(),
            version: super::VERSION,
            requires: Vec::new(),
            archive_id: uuid::Uuid::nil().to_string(),
            created_at: None,
            writer: concat!("chronicle-dump ", env!("CARGO_PKG_VERSION")).into(),
            source,
            streams: streams.iter().map(|s| s.name.clone()).collect(),
            chunk_target: chunk_target as u64,
            consistency: "snapshot".into(),
            filters: None,
            base: None,
        }
    }

    /// The header line with its LF.
    pub fn to_line(&self) -> Result<String> {
        state_line(&to_json(self)?, "{}")
    }

    /// Reads a header line whose prefix, version and required features were looked at first, so
    /// that an archive of another version is refused before anything else of it is understood.
    pub fn parse(line: &[u8]) -> Result<Header> {
        let foreign = || {
            ArchiveError::new(ErrorKind::NotAnArchive, "the first line is not an archive header")
        };
        let rest = line.strip_prefix(HEADER_PREFIX.as_bytes()).ok_or_else(foreign)?;
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let version = std::str::from_utf8(&rest[..digits]).unwrap_or("");
        if version.is_empty() {
            return Err(damaged("the header's version is no number".into()));
        }
        if version != super::VERSION.to_string() {
            return Err(unsupported(format!(
                "the archive is of version {version}; this program reads version {}",
                super::VERSION
            )));
        }
        // first and alone: what a feature changes may be the rest of the header
        #[derive(Deserialize)]
        struct Requires {
            requires: Vec<String>,
        }
        let Requires { requires } = parse_control(line, "header")?;
        if let Some(feature) = requires.first() {
            return Err(unsupported(format!(
                "the archive requires the feature \"{}\", which this program does not know",
                crate::show::show_text(feature)
            )));
        }
        parse_control(line, "header")
    }
}

fn unsupported(message: String) -> ArchiveError {
    ArchiveError::new(ErrorKind::Unsupported, message)
}

/// The last line of the head and of every chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    kind: String,
    /// 0 for the head, then 1, 2, … without gaps.
    pub chunk: u64,
    /// The stream of the chunk; null for the head.
    pub stream: Option<String>,
    /// The record lines of the chunk.
    pub rows: u64,
    /// The bytes of the chunk before this line.
    pub bytes: u64,
    /// The SHA-256 of exactly those bytes.
    pub sha256: String,
    /// The SHA-256 of the previous checkpoint line with its LF; null in chunk 0.
    pub prev: Option<String>,
}

impl Checkpoint {
    /// The checkpoint of a piece whose `bytes` bytes of lines have the SHA-256 `sha256`.
    pub fn new(
        chunk: u64,
        stream: Option<String>,
        rows: u64,
        bytes: usize,
        sha256: String,
        prev: Option<String>,
    ) -> Self {
        let (kind, bytes) = ("checkpoint".into(), bytes as u64);
        Checkpoint { kind, chunk, stream, rows, bytes, sha256, prev }
    }

    /// The checkpoint line with its LF; `bookmarks` as [`Bookmarks::to_json`] writes them.
    pub fn to_line(&self, bookmarks: &str) -> Result<String> {
        state_line(&to_json(self)?, bookmarks)
    }
}

/// What a stream amounts to, told at the end so that nobody needs to read it all to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Its chunks.
    pub chunks: u64,
    /// The bytes of its record lines.
    pub bytes: u64,
    /// The least value of its time column, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// The greatest value of its time column, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// Digests of the rows of each stream, by algorithm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// [`crate::digest`]: the stream and 64 hexadecimal digits.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "write_map",
        deserialize_with = "read_map"
    )]
    pub lrd1: Vec<(String, String)>,
}

/// The last line of an archive: without it, it is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    kind: String,
    /// The version of the format.
    pub version: u32,
    /// The number of checkpoints.
    pub chunks: u64,
    /// The decompressed bytes before this line.
    pub bytes: u64,
    /// The rows of every stream, in the order of the header.
    #[serde(serialize_with = "write_map", deserialize_with = "read_map")]
    pub rows: Vec<(String, u64)>,
    /// The SHA-256 of the last checkpoint line.
    pub prev: String,
    /// Whether a seek table follows.
    pub seek_table: bool,
    /// Overrides the header's, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
    /// Digests of the rows, by algorithm and stream; an algorithm that is not known is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<Digests>,
    /// What each stream amounts to. Since the first version; a reader may ignore it.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "write_map",
        deserialize_with = "read_map"
    )]
    pub extents: Vec<(String, Extent)>,
}

impl Manifest {
    /// A manifest of this version.
    pub fn new(chunks: u64, bytes: u64, rows: Vec<(String, u64)>, prev: String) -> Manifest {
        Manifest {
            kind: "manifest".into(),
            version: super::VERSION,
            chunks,
            bytes,
            rows,
            prev,
            seek_table: true,
            consistency: None,
            digests: None,
            extents: Vec::new(),
        }
    }

    /// The manifest line with its LF; `bookmarks` as [`Bookmarks::to_json`] writes them.
    pub fn to_line(&self, bookmarks: &str) -> Result<String> {
        state_line(&to_json(self)?, bookmarks)
    }
}

/// Per stream begun so far: the rows written and the key of the last one, as JSON text.
#[derive(Debug, Clone, Default)]
pub struct Bookmarks(Vec<(String, u64, Option<String>)>);

impl Bookmarks {
    /// Notes that `stream` has `rows` rows so far and ends with `last_key`.
    pub fn set(&mut self, stream: &str, rows: u64, last_key: Option<String>) {
        match self.0.iter_mut().find(|(name, ..)| name == stream) {
            Some(mark) => (mark.1, mark.2) = (rows, last_key),
            None => self.0.push((stream.to_owned(), rows, last_key)),
        }
    }

    /// The object that stands in a control line.
    pub fn to_json(&self) -> String {
        let mut text = String::from("{");
        for (n, (stream, rows, key)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let key = key.as_deref().unwrap_or("null");
            let _ = write!(text, "{comma}\"{stream}\":{{\"rows\":{rows},\"last_key\":{key}}}");
        }
        text.push('}');
        text
    }
}

/// A control line that ends a chunk or the archive.
#[derive(Debug)]
pub enum Control {
    /// The end of the head or of a chunk.
    Checkpoint(Checkpoint),
    /// The end of the archive.
    Manifest(Manifest),
}

impl Control {
    /// Reads a checkpoint or manifest line, with or without its LF.
    pub fn parse(line: &[u8]) -> Result<Control> {
        #[derive(Deserialize)]
        struct KindOnly {
            kind: String,
        }
        if !line.starts_with(STATE_PREFIX.as_bytes()) {
            return Err(damaged("its last line is not a STATE line".into()));
        }
        let KindOnly { kind } = parse_control(line, "control")?;
        match kind.as_str() {
            "checkpoint" => Ok(Control::Checkpoint(parse_control(line, "checkpoint")?)),
            "manifest" => Ok(Control::Manifest(parse_control(line, "manifest")?)),
            other => Err(damaged(format!(
                "a control line of kind \"{}\" where a checkpoint or the manifest was expected",
                crate::show::show_text(other)
            ))),
        }
    }
}

/// The SCHEMA line of a stream, with its LF.
pub fn schema_line(stream: &Stream) -> Result<String> {
    let columns = &stream.columns;
    let names = |indices: &[usize]| -> Result<String> {
        to_json(
            &indices.iter().filter_map(|i| columns.get(*i)).map(|c| &c.name).collect::<Vec<_>>(),
        )
    };
    let those = |wanted: fn(&Column) -> bool| -> Result<String> {
        to_json(&columns.iter().filter(|c| wanted(c)).map(|c| &c.name).collect::<Vec<_>>())
    };
    let mut properties = Vec::new();
    let mut kinds = Vec::new();
    let mut physical = Vec::new();
    for column in columns {
        let name = to_json(&column.name)?;
        properties.push(format!("{name}:{}", json_schema(column)));
        kinds.push(format!("{name}:\"{}\"", column.kind.word()));
        if column.physical != column.name {
            physical.push(format!("{name}:{}", to_json(&column.physical)?));
        }
    }
    let mut extra = String::new();
    if columns.iter().any(|c| c.time_text == TimeText::Utc) {
        let _ = write!(extra, ",\"utc\":{}", those(|c| c.time_text == TimeText::Utc)?);
    }
    if !physical.is_empty() {
        let _ = write!(extra, ",\"names\":{{{}}}", physical.join(","));
    }
    Ok(format!(
        "{{\"type\":\"SCHEMA\",\"stream\":{},\"schema\":{{\"type\":\"object\",\"properties\":{{{}}}}},\
         \"key_properties\":{},\"chronicle\":{{\"table\":{},\"columns\":{{{}}},\"instants\":{},\
         \"order\":{}{extra}}}}}\n",
        to_json(&stream.name)?,
        properties.join(","),
        names(&stream.key)?,
        to_json(&stream.table)?,
        kinds.join(","),
        those(|c| c.time_text.is_time())?,
        names(&stream.order)?,
    ))
}

/// What JSON Schema says of a column's record values.
fn json_schema(column: &Column) -> String {
    let (kind, more) = match column.kind {
        Kind::Int => {
            ("integer", r#","minimum":-9223372036854775808,"maximum":9223372036854775807"#)
        }
        Kind::Real => ("number", ""),
        Kind::Bool => ("boolean", ""),
        Kind::Numeric => ("string", r#","format":"singer.decimal""#),
        Kind::Text | Kind::Other => ("string", ""),
        Kind::Time => ("string", r#","format":"date-time""#),
        Kind::Date => ("string", r#","format":"date""#),
        Kind::Uuid => ("string", r#","format":"uuid""#),
        Kind::Bytes => ("string", r#","contentEncoding":"base64""#),
        Kind::Json | Kind::Jsonb => ("object", ""),
    };
    if column.nullable {
        format!(r#"{{"type":["{kind}","null"]{more}}}"#)
    } else {
        format!(r#"{{"type":"{kind}"{more}}}"#)
    }
}

/// A SCHEMA line as it was read.
#[derive(Debug)]
pub struct SchemaLine {
    /// The stream.
    pub stream: Stream,
    /// The first kind that this program does not know, if any: its records cannot be read.
    pub unknown_kind: Option<String>,
}

impl SchemaLine {
    /// Reads a SCHEMA line, with or without its LF, and checks its limits.
    pub fn parse(line: &[u8]) -> Result<SchemaLine> {
        #[derive(Deserialize)]
        struct Raw<'a> {
            r#type: String,
            stream: String,
            #[serde(borrow)]
            schema: Properties<'a>,
            key_properties: Vec<String>,
            chronicle: Ours,
        }
        #[derive(Deserialize)]
        struct Properties<'a> {
            #[serde(borrow, deserialize_with = "read_map")]
            properties: Vec<(String, &'a RawValue)>,
        }
        #[derive(Deserialize)]
        struct Ours {
            table: String,
            #[serde(deserialize_with = "read_map")]
            columns: Vec<(String, String)>,
            instants: Vec<String>,
            order: Vec<String>,
            #[serde(default)]
            utc: Vec<String>,
            #[serde(default, deserialize_with = "read_map")]
            names: Vec<(String, String)>,
        }
        if !line.starts_with(SCHEMA_PREFIX.as_bytes()) {
            return Err(damaged("a line of the head is not a SCHEMA line".into()));
        }
        let raw: Raw<'_> = parse_object(line, "SCHEMA")?;
        if raw.r#type != "SCHEMA" || !is_stream_name(&raw.stream) {
            return Err(damaged("a SCHEMA line without a proper stream name".into()));
        }
        let at = format!("stream {}", raw.stream);
        let ours = raw.chronicle;
        let same_order = ours.columns.len() == raw.schema.properties.len()
            && ours.columns.iter().zip(&raw.schema.properties).all(|(c, p)| c.0 == p.0);
        let sized = (1..=COLUMNS).contains(&ours.columns.len())
            && ours.columns.iter().all(|(name, _)| name.len() <= COLUMN_NAME);
        if !same_order || !sized {
            return Err(
                damaged("the columns of the SCHEMA line disagree or break a limit".into()).at(at)
            );
        }
        let mut unknown_kind = None;
        let columns: Vec<Column> = (ours.columns.iter().zip(&raw.schema.properties))
            .map(|((name, word), (_, schema))| Column {
                name: name.clone(),
                physical: (ours.names.iter().find(|(n, _)| n == name))
                    .map_or_else(|| name.clone(), |(_, p)| p.clone()),
                kind: Kind::from_word(word).unwrap_or_else(|| {
                    unknown_kind.get_or_insert_with(|| word.clone());
                    Kind::Other
                }),
                nullable: schema.get().contains("\"null\""),
                time_text: TimeText::new(ours.instants.contains(name), ours.utc.contains(name)),
            })
            .collect();
        let find = |names: &[String]| -> Result<Vec<usize>> {
            (names.iter())
                .map(|name| {
                    columns.iter().position(|c| &c.name == name).ok_or_else(|| {
                        damaged("the SCHEMA line names a column that it lacks".into()).at(&at)
                    })
                })
                .collect()
        };
        let (key, order) = (find(&raw.key_properties)?, find(&ours.order)?);
        if key.is_empty() {
            return Err(damaged("the SCHEMA line names no key".into()).at(at));
        }
        let stream = Stream { name: raw.stream, table: ours.table, columns, key, order };
        Ok(SchemaLine { stream, unknown_kind })
    }
}

fn state_line(chronicle: &str, bookmarks: &str) -> Result<String> {
    Ok(format!(
        "{STATE_PREFIX}\"value\":{{\"chronicle\":{chronicle},\"bookmarks\":{bookmarks}}}}}\n"
    ))
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| {
        ArchiveError::new(ErrorKind::Internal, "cannot write a control line").because(e)
    })
}

/// Reads the `chronicle` object of a STATE line.
fn parse_control<'a, T: Deserialize<'a>>(line: &'a [u8], what: &str) -> Result<T> {
    #[derive(Deserialize)]
    struct State<'a> {
        r#type: String,
        #[serde(borrow)]
        value: Inner<'a>,
    }
    #[derive(Deserialize)]
    struct Inner<'a> {
        #[serde(borrow)]
        chronicle: &'a RawValue,
    }
    let state: State<'a> = parse_object(line, what)?;
    if state.r#type != "STATE" {
        return Err(damaged(format!("a line of another type where a {what} line was expected")));
    }
    serde_json::from_str(state.value.chronicle.get()).map_err(|e| {
        damaged(format!("the {what} line lacks a field or has a wrong one")).because(e)
    })
}

/// Reads a line that is one JSON object without two equal names anywhere: two readings of one
/// file would be possible otherwise.
fn parse_object<'a, T: Deserialize<'a>>(line: &'a [u8], what: &str) -> Result<T> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let findings = json::Scanner::default().scan(text);
    if findings.contains(json::JsonIssues::DUPLICATE) {
        return Err(damaged(format!("the {what} line names a key twice")));
    }
    serde_json::from_slice(text)
        .map_err(|e| damaged(format!("the {what} line is not of the format")).because(e))
}

fn damaged(message: String) -> ArchiveError {
    ArchiveError::new(ErrorKind::Damaged, message)
}

fn write_map<S: serde::Serializer, V: Serialize>(
    entries: &[(String, V)],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(name, value)| (name, value)))
}

/// Reads an object as pairs in the order they stand.
fn read_map<'de, D, V>(deserializer: D) -> std::result::Result<Vec<(String, V)>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct Pairs<V>(std::marker::PhantomData<V>);
    impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
        type Value = Vec<(String, V)>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(
            self,
            mut map: A,
        ) -> std::result::Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }
    deserializer.deserialize_map(Pairs(std::marker::PhantomData))
}
