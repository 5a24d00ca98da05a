//! The bytes of a dump: decompressed where that is known how, and refused with a hint where they are of another format.

use std::io::{BufRead, BufReader, Cursor, Read};

use flate2::read::MultiGzDecoder;

use crate::error::{Code, Error, Result};

/// How many bytes show of what format a file is: as many as a tar archive needs for its mark.
const HEAD: usize = 512;
/// How much is read at once.
const BUFFER: usize = 1 << 18;

/// Any input.
pub type Bytes = Box<dyn Read + Send>;

/// A format that is not plain SQL: where its mark is, the mark, what it is called, and what helps.
const OTHERS: [(usize, &[u8], &str, &str); 9] = [
    (0, b"PGDMP", "in pg_dump's custom format", RESTORE),
    (
        257,
        b"ustar",
        "a tar archive",
        "if pg_dump -Ft wrote it: pg_restore -f dump.sql FILE; else unpack it first",
    ),
    (
        0,
        b"SQLite format 3\0",
        "a SQLite database",
        "export it without --from-dump: chronicle-dump export FILE",
    ),
    (
        0,
        b"{\"",
        "not SQL",
        "an archive is imported, not exported: chronicle-dump import FILE --to DB",
    ),
    (0, b"BZh", "compressed with bzip2", "bzip2 -dc FILE | chronicle-dump export --from-dump -"),
    (0, b"\xfd7zXZ\0", "compressed with xz", "xz -dc FILE | chronicle-dump export --from-dump -"),
    (
        0,
        b"\x04\x22\x4d\x18",
        "compressed with lz4",
        "lz4 -dc FILE | chronicle-dump export --from-dump -",
    ),
    (0, b"PK\x03\x04", "a zip file", "unzip -p FILE | chronicle-dump export --from-dump -"),
    (0, b"\xff\xfe", "text in UTF-16", "write it with pg_dump -f FILE, not with the shell's >"),
];

/// What turns pg_dump's own formats into SQL.
pub const RESTORE: &str = "pg_restore turns it into plain SQL: pg_restore -f dump.sql FILE";

/// The text of a dump, decompressed if it is in gzip or zstd.
///
/// # Errors
/// If it is of another format, or cannot be read.
pub(super) fn open(input: Bytes) -> Result<Box<dyn BufRead + Send>> {
    let (head, input) = peek(input)?;
    let input: Bytes = match head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, input))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(zstd::stream::read::Decoder::new(input).map_err(unreadable)?)
        }
        _ => input,
    };
    let (head, input) = peek(input)?;
    if head.is_empty() {
        let error = Error::new(Code::Source, "the dump is empty");
        return Err(error.hint("if it comes through a pipe, see the error of the sending command"));
    }
    let has = |at: usize, mark: &[u8]| head.get(at..at + mark.len()) == Some(mark);
    if let Some((.., what, hint)) = OTHERS.into_iter().find(|(at, mark, ..)| has(*at, mark)) {
        return Err(Error::new(Code::Source, format!("not a plain dump: it is {what}")).hint(hint));
    }
    Ok(Box::new(BufReader::with_capacity(BUFFER, input)))
}

/// The first bytes, which are still to be read.
fn peek(mut input: Bytes) -> Result<(Vec<u8>, Bytes)> {
    let mut head = Vec::with_capacity(HEAD);
    input.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(unreadable)?;
    Ok((head.clone(), Box::new(Cursor::new(head).chain(input))))
}

/// The error of bytes that cannot be read, or not be decompressed.
pub(super) fn unreadable(cause: std::io::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    let error = match cause.kind() {
        UnexpectedEof => {
            Error::new(Code::Source, "the dump is not complete: its compressed data end too early")
                .hint(super::CUT)
        }
        InvalidData | InvalidInput | Other => {
            Error::new(Code::Source, "the compressed data of the dump are damaged").hint(super::CUT)
        }
        _ => Error::new(Code::Source, "the dump cannot be read"),
    };
    error.because(cause)
}
