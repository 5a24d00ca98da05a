//! The numbers of the format: its version, and the longest lines, largest frames and widest streams that
//! a writer obeys and a reader accepts.

use crate::error::{ArchiveError, ErrorKind, Result};

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

/// Whether a text may name a stream: `[a-z][a-z0-9_]{0,62}`.
pub fn is_stream_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_')
}

/// Refuses a control or SCHEMA line that is over the limit.
pub(crate) fn check_line(len: usize, what: &str) -> Result<()> {
    if len <= CONTROL_LINE { Ok(()) } else { Err(limit(what, CONTROL_LINE)) }
}

/// The error of something that no archive can hold.
pub(crate) fn limit(what: &str, bytes: usize) -> ArchiveError {
    ArchiveError::new(
        ErrorKind::Unwritable,
        format!("{what} needs a line of more than {} MiB, the limit of the format", bytes >> 20),
    )
}
