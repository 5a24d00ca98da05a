//! The checkpoint line: how many rows and bytes a chunk holds, their SHA-256, and the link to the chunk before; and
//! the bookmarks that it shares with the manifest.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::control::{state_line, to_json};
use crate::error::Result;

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
    /// The checkpoint of a chunk whose `bytes` bytes of lines have the SHA-256 `sha256`.
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

/// Per stream begun so far: the rows written and the key of the last one.
#[derive(Debug, Clone, Default)]
pub struct Bookmarks(Vec<Bookmark>);

#[derive(Debug, Clone)]
struct Bookmark {
    stream: String,
    rows: u64,
    /// As JSON.
    last_key: Option<String>,
}

impl Bookmarks {
    /// Notes that `stream` has `rows` rows so far and ends with `last_key`; returns the object that is in the
    /// checkpoint of this chunk: the bookmark of its own stream alone.
    pub fn set(&mut self, stream: &str, rows: u64, last_key: Option<String>) -> String {
        let bookmark = Bookmark { stream: stream.to_owned(), rows, last_key };
        let text = object(std::slice::from_ref(&bookmark));
        match self.0.last_mut() {
            Some(last) if last.stream == stream => *last = bookmark,
            _ => self.0.push(bookmark),
        }
        text
    }

    /// The object that is in the manifest: the bookmarks of all streams.
    pub fn to_json(&self) -> String {
        object(&self.0)
    }
}

fn object(bookmarks: &[Bookmark]) -> String {
    let mut text = String::from("{");
    for (n, Bookmark { stream, rows, last_key }) in bookmarks.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let key = last_key.as_deref().unwrap_or("null");
        // writing to a String cannot fail
        let _ = write!(text, "{comma}\"{stream}\":{{\"rows\":{rows},\"last_key\":{key}}}");
    }
    text.push('}');
    text
}
