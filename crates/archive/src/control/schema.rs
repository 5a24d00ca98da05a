//! SCHEMA lines: a stream's columns, kinds, key and order, to text and back.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::control::{SCHEMA_PREFIX, damaged, parse_object, read_map, to_json};
use crate::error::Result;
use crate::limits::{COLUMN_NAME, COLUMNS, is_stream_name};
use crate::model::{Column, Kind, Stream, TimeText};

/// The SCHEMA line of a stream, with its LF.
pub fn schema_line(stream: &Stream) -> Result<String> {
    let columns = &stream.columns;
    let names = |indices: &[usize]| -> Result<String> {
        to_json(
            &indices.iter().filter_map(|i| columns.get(*i)).map(|c| &c.name).collect::<Vec<_>>(),
        )
    };
    let names_of = |wanted: fn(&Column) -> bool| -> Result<String> {
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
        let _ = write!(extra, ",\"utc\":{}", names_of(|c| c.time_text == TimeText::Utc)?);
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
        names_of(|c| c.time_text.is_time())?,
        names(&stream.order)?,
    ))
}

/// The JSON Schema of a column's record values.
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
