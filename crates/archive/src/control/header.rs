//! The header line: the version, required features and streams of an archive, and where its rows came from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::control::{damaged, parse_control, state_line, to_json};
use crate::error::{ArchiveError, ErrorKind, Result};
use crate::limits::{CHUNK_TARGETS, VERSION};
use crate::model::Stream;

/// The fixed bytes that every archive's first line starts with; the version follows.
pub const HEADER_PREFIX: &str =
    r#"{"type":"STATE","value":{"chronicle":{"kind":"header","version":"#;
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
    /// A UUID that identifies the database, so that ids which are unique only in it can be distinguished. Since the
    /// first version; a reader may ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// A name that the user gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The time zone of the machine that exported: a hint for texts without a zone, never applied
    /// unasked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// By stream, the integer ids that another database gave out: the ranges in ascending order, each up to its last
    /// number. Ids behind the last range are of `instance`. A reader may ignore it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, Vec<NumberRange>>,
}

/// Integer ids that one database gave out, behind those of the range before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberRange {
    /// The last one.
    pub last: i64,
    /// The database, as in [`Origin::instance`].
    pub instance: String,
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
    /// When it was created, RFC 3339 in UTC; null if reproducible.
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
    pub filters: Option<BTreeMap<String, String>>,
    /// The archive that this one continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
}

impl Header {
    /// A header of this program for `streams`, with a snapshot's consistency.
    pub fn new(source: Origin, streams: &[Stream], chunk_target: usize) -> Header {
        Header {
            kind: "header".into(),
            version: VERSION,
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
            return Err(damaged("the header's version is not a number".into()));
        }
        if version != VERSION.to_string() {
            return Err(unsupported(format!(
                "the archive is of version {version}; this program reads version {}",
                VERSION
            )));
        }
        // first and alone: what a feature changes may be the rest of the header
        #[derive(Deserialize)]
        struct Requires {
            requires: Vec<String>,
        }
        let Requires { requires } = parse_control(line, "header")?;
        if let Some(feature) = requires.first() {
            return Err(unread(feature));
        }
        let header: Header = parse_control(line, "header")?;
        match usize::try_from(header.chunk_target) {
            Ok(target) if target <= *CHUNK_TARGETS.end() => Ok(header),
            _ => Err(damaged(format!(
                "the header's chunk_target is {}, the limit is {}",
                header.chunk_target,
                CHUNK_TARGETS.end()
            ))),
        }
    }
}

/// The features that later versions of this crate will read, and what each is for.
const RESERVED: [(&str, &str); 3] = [
    ("delta", "incremental archives"),
    ("tombstone", "rows deleted since the base archive"),
    ("redacted", "values removed after the export"),
];

/// The error of an archive that needs a feature.
fn unread(feature: &str) -> ArchiveError {
    match RESERVED.iter().find(|(name, _)| *name == feature) {
        Some((name, what)) => unsupported(format!(
            "the archive needs feature `{name}` ({what}), which this version does not read"
        )),
        None => unsupported(format!(
            "the archive requires the feature \"{}\", which this program does not know",
            crate::show::show_text(feature)
        )),
    }
}

fn unsupported(message: String) -> ArchiveError {
    ArchiveError::new(ErrorKind::Unsupported, message)
}
