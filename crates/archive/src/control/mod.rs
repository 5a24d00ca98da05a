//! Control lines and SCHEMA lines: the archive's own description and that of its rows, to text and back.

mod checkpoint;
mod header;
mod manifest;
mod schema;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

pub use checkpoint::{Bookmarks, Checkpoint};
pub use header::{Base, HEADER_PREFIX, Header, NumberRange, Origin};
pub use manifest::{Digests, Extent, Manifest};
pub use schema::{SchemaLine, schema_line};

use crate::error::{ArchiveError, ErrorKind, Result};
use crate::json;

/// How every control line starts.
pub const STATE_PREFIX: &str = r#"{"type":"STATE","#;
/// How every SCHEMA line starts.
pub const SCHEMA_PREFIX: &str = r#"{"type":"SCHEMA","#;

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

pub(super) fn state_line(chronicle: &str, bookmarks: &str) -> Result<String> {
    Ok(format!(
        "{STATE_PREFIX}\"value\":{{\"chronicle\":{chronicle},\"bookmarks\":{bookmarks}}}}}\n"
    ))
}

pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| {
        ArchiveError::new(ErrorKind::Internal, "cannot write a control line").because(e)
    })
}

/// Reads the `chronicle` object of a STATE line.
pub(super) fn parse_control<'a, T: Deserialize<'a>>(line: &'a [u8], what: &str) -> Result<T> {
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
/// file would be possible without this.
pub(super) fn parse_object<'a, T: Deserialize<'a>>(line: &'a [u8], what: &str) -> Result<T> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let findings = json::Scanner::default().scan(text);
    if findings.contains(json::JsonIssues::DUPLICATE) {
        return Err(damaged(format!("the {what} line names a key twice")));
    }
    // deeper down, names are not compared; a key in a bookmark may be nested 100 deep
    if findings.contains(json::JsonIssues::VERY_DEEP) {
        return Err(damaged(format!("the {what} line is nested deeper than 1000")));
    }
    serde_json::from_slice(text)
        .map_err(|e| damaged(format!("the {what} line does not follow the format")).because(e))
}

pub(super) fn damaged(message: String) -> ArchiveError {
    ArchiveError::new(ErrorKind::Damaged, message)
}

pub(super) fn write_map<S: serde::Serializer, V: Serialize>(
    entries: &[(String, V)],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(name, value)| (name, value)))
}

/// Reads an object as pairs in their order.
pub(super) fn read_map<'de, D, V>(
    deserializer: D,
) -> std::result::Result<Vec<(String, V)>, D::Error>
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
