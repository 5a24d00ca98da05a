//! The archive: zstd frames of NDJSON, checksummed and chained, sealed by a manifest.
//!
//! This room works over `Read` and `Write`; it knows no database and no runtime. The format is
//! described in `schemas/archive.md`; names and numbers here are from there.
//!
//! A record's way out: [`writer`] collects lines of [`value`] into a chunk, seals it with a
//! checkpoint of [`line`](mod@line), and [`frame`] compresses and writes it. Its way in:
//! [`container`] reads frames, `piece` verifies each chunk by itself before [`value`] decodes it,
//! and [`reader`] links it to the chunks before; `ahead` lets all that happen on several threads.

mod ahead;
pub mod canonical;
pub mod container;
pub mod digest;
pub mod frame;
pub mod json;
pub mod line;
pub mod meaning;
mod piece;
pub mod reader;
pub mod seek;
pub mod value;
pub mod writer;

pub use line::{Extent, Header, Manifest, Origin};
pub use reader::{ArchiveReader, Index, Limits, Sealed};
pub use writer::{ArchiveWriter, WriterOptions, Written};

use crate::error::{Code, Error, Result};

/// The version of the format that this program writes, and the only one it reads.
pub const VERSION: u32 = 1;
/// The record bytes of a chunk when nothing else is asked for: 4 MiB.
pub const CHUNK_TARGET: usize = 4 << 20;
/// The smallest and the largest chunk target that may be asked for.
pub const CHUNK_TARGETS: std::ops::RangeInclusive<usize> = (64 << 10)..=(64 << 20);
/// The longest record line with its LF.
pub const RECORD_LINE: usize = 64 << 20;
/// The longest control or schema line with its LF.
pub const CONTROL_LINE: usize = 1 << 20;
/// The largest content of the first frame.
pub const HEAD_FRAME: usize = 8 << 20;
/// The largest content of any other frame.
pub const FRAME_CONTENT: usize = 128 << 20;
/// The largest window a frame may ask a reader for (8 MiB), as its power of two.
pub const WINDOW_LOG: u32 = 23;
/// The most columns of a stream.
pub const COLUMNS: usize = 1600;
/// The longest column name in bytes.
pub const COLUMN_NAME: usize = 255;

/// The processors of this machine: how many threads do what can be done side by side.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Whether a text may name a stream: `[a-z][a-z0-9_]{0,62}`.
pub fn is_stream_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_')
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

/// The SHA-256 of some bytes as 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex(&sha2::Sha256::digest(bytes))
}

/// Refuses a control or SCHEMA line that is over the limit.
fn check_line(len: usize, what: &str) -> Result<()> {
    if len <= CONTROL_LINE { Ok(()) } else { Err(limit(what, CONTROL_LINE)) }
}

/// The error of something that no archive can hold.
fn limit(what: &str, bytes: usize) -> Error {
    Error::new(
        Code::Source,
        format!("{what} needs a line of more than {} MiB, the limit of the format", bytes >> 20),
    )
}
