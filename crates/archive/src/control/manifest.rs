//! The manifest line: the totals of an archive, which seal it.

use serde::{Deserialize, Serialize};

use crate::control::{read_map, state_line, to_json, write_map};
use crate::error::Result;
use crate::limits::VERSION;

/// A summary of a stream, at the end, so that nobody needs to read all of it.
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
            version: VERSION,
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

    /// The manifest line with its LF; `bookmarks` as
    /// [`Bookmarks::to_json`](crate::control::Bookmarks::to_json) writes them.
    pub fn to_line(&self, bookmarks: &str) -> Result<String> {
        state_line(&to_json(self)?, bookmarks)
    }
}
