//! Reading an archive: every chunk is verified before a row of it is handed on, and the end is
//! reported only after the manifest agreed.

use std::io::Read;

pub use super::container::Limits;
use super::container::{Container, Framing, foreign, truncated};
use super::digest::RowDigest;
use super::line::{Checkpoint, Control, HEADER_PREFIX, Header, Manifest, SchemaLine};
use super::seek;
use super::value::Decoder;
use super::{CONTROL_LINE, sha256};
use crate::error::{Code, Error, Result};
use crate::record::{Batch, Stream};

/// The state of the seek table, which is a cache: wrong or missing, the data are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// It equals what was read.
    Good,
    /// The archive was written without one, or was read without its frames.
    None,
    /// The manifest promises one, but the file ends before it.
    Missing,
    /// It is there and says something else.
    Damaged,
}

/// What is known once the manifest agreed.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The archive digest: 64 hexadecimal digits.
    pub digest: String,
    /// The manifest.
    pub manifest: Manifest,
    /// The state of the seek table.
    pub index: Index,
    /// The bytes of the file.
    pub file_bytes: u64,
}

/// Reads one archive from a stream of bytes, front to back.
pub struct ArchiveReader<R> {
    container: Container<R>,
    limits: Limits,
    header: Header,
    streams: Vec<Stream>,
    unknown_kinds: Vec<Option<String>>,
    decoders: Vec<Decoder>,
    digests: Option<Vec<RowDigest>>,
    current: Option<usize>,
    rows: Vec<u64>,
    extents: Vec<(u64, u64)>,
    chunk: u64,
    prev: String,
    bytes: u64,
    spare: Vec<u8>,
    head: Vec<u8>,
    tail: Vec<u8>,
    jump: Jump,
    sealed: Option<Sealed>,
}

/// Whether chunks were left out, and so what can be checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Jump {
    /// None were: everything is checked.
    None,
    /// The next chunk is the first behind the gap: it cannot be linked to one before.
    Pending,
    /// Chunks are linked to each other again, but there are no totals.
    Done,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads and verifies the head.
    ///
    /// # Errors
    /// If the bytes are no archive, one of another version, or damaged.
    pub fn open(input: R, limits: Limits) -> Result<ArchiveReader<R>> {
        let mut container = Container::open(input, limits.clone())?;
        let mut head = Vec::new();
        container.next_piece(&mut head)?;
        let (header_line, _) = split_line(&head)
            .filter(|(line, _)| line.starts_with(HEADER_PREFIX.as_bytes()))
            .ok_or_else(|| foreign(container.framing()))?;
        let header = Header::parse(header_line)?;
        let (lines, control) = split_control(&head)?;
        let Control::Checkpoint(checkpoint) = control.parsed else {
            return Err(damaged("the head does not end with a checkpoint"));
        };
        check(&checkpoint, lines, 0, None)?;
        check_text(&head)?;
        if checkpoint.rows != 0 || checkpoint.stream.is_some() {
            return Err(damaged("the head's checkpoint claims rows"));
        }
        let schemas = read_schemas(&header, lines)?;
        let decoders = schemas.iter().map(|s| Decoder::new(&s.stream)).collect();
        Ok(ArchiveReader {
            container,
            limits,
            rows: vec![0; schemas.len()],
            extents: vec![(0, 0); schemas.len()],
            unknown_kinds: schemas.iter().map(|s| s.unknown_kind.clone()).collect(),
            streams: schemas.into_iter().map(|s| s.stream).collect(),
            header,
            decoders,
            digests: None,
            current: None,
            chunk: 1,
            prev: control.digest,
            bytes: head.len() as u64,
            spare: Vec::new(),
            head,
            tail: Vec::new(),
            jump: Jump::None,
            sealed: None,
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The streams, in the order they follow each other.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// The kind of a stream that this program does not know, if any: its rows cannot be read.
    pub fn unknown_kind(&self, stream: usize) -> Option<&str> {
        self.unknown_kinds.get(stream)?.as_deref()
    }

    /// The head's lines as they stand: the header, the SCHEMA lines, the first checkpoint.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The manifest's line as it stands, once it was read.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Goes on with chunk number `chunk`, at which `input` stands. Every chunk is still checked by
    /// itself and linked to the one before it, but the totals no longer are: at the manifest there
    /// is no [`ArchiveReader::sealed`].
    pub fn jump(&mut self, input: R, chunk: u64) {
        self.container = Container::within(input, self.container.framing(), self.limits.clone());
        self.chunk = chunk;
        self.jump = Jump::Pending;
    }

    /// Asks for the row digests: they are computed from here on, and compared with those of the
    /// manifest if it has any. It costs about as much again as reading does.
    pub fn digest_rows(&mut self) {
        self.digests = Some(self.streams.iter().map(RowDigest::new).collect());
    }

    /// The row digest of each stream read so far, if they were asked for.
    pub fn row_digests(&self) -> Vec<(String, String)> {
        let digests = self.digests.iter().flatten().map(RowDigest::hex);
        self.streams.iter().map(|s| s.name.clone()).zip(digests).collect()
    }

    /// The bytes of the file read so far.
    pub fn consumed(&self) -> u64 {
        self.container.consumed()
    }

    /// The rows of each stream read so far.
    pub fn rows(&self) -> &[u64] {
        &self.rows
    }

    /// What is known after [`ArchiveReader::next_batch`] has said that there is no more.
    pub fn sealed(&self) -> Option<&Sealed> {
        self.sealed.as_ref()
    }

    /// Reads the rows of the next chunk into `batch`; false only after the manifest agreed.
    ///
    /// The rows of a stream with an unknown kind are verified but not decoded: their batch is
    /// empty.
    ///
    /// # Errors
    /// Any byte that is not what the chain of checkpoints says, any line that is not of the
    /// format, or an end without a manifest.
    pub fn next_batch(&mut self, batch: &mut Batch) -> Result<bool> {
        if self.sealed.is_some() {
            return Ok(false);
        }
        let mut piece = std::mem::take(&mut self.spare);
        if piece.capacity() == 0 {
            piece = batch.adopt(Vec::new());
        }
        if !self.container.next_piece(&mut piece).map_err(|e| self.tell_progress(e))? {
            return Err(self.tell_progress(truncated("the space between two chunks")));
        }
        let (lines, control) = split_control(&piece).map_err(|e| e.at(self.place()))?;
        let records = lines.len();
        match control.parsed {
            Control::Checkpoint(checkpoint) => {
                if self.jump == Jump::Pending {
                    self.prev = checkpoint.prev.clone().unwrap_or_default();
                    self.jump = Jump::Done;
                }
                check(&checkpoint, lines, self.chunk, Some(&self.prev))?;
                let stream = self.enter(&checkpoint)?;
                self.prev = control.digest;
                self.bytes += piece.len() as u64;
                self.decode(batch, piece, records, stream, checkpoint.rows)?;
                self.chunk += 1;
                Ok(true)
            }
            Control::Manifest(manifest) => {
                if records != 0 {
                    return Err(damaged("the manifest does not stand alone").at(self.place()));
                }
                check_text(&piece)?;
                self.tail = piece;
                batch.start(0, 0, 1);
                self.check_manifest(&manifest)?;
                if self.jump == Jump::None {
                    self.sealed = Some(self.seal(manifest, control.digest)?);
                }
                Ok(false)
            }
        }
    }

    /// Moves on to the stream of a chunk: in the header's order and never back.
    fn enter(&mut self, checkpoint: &Checkpoint) -> Result<usize> {
        let name = checkpoint.stream.as_deref().unwrap_or("");
        let stream = self.streams.iter().position(|s| s.name == name);
        match stream {
            Some(stream) if self.current.is_none_or(|current| current <= stream) => {
                self.current = Some(stream);
                Ok(stream)
            }
            _ => Err(damaged("its stream is unknown or out of order").at(self.place())),
        }
    }

    fn decode(
        &mut self,
        batch: &mut Batch,
        piece: Vec<u8>,
        records: usize,
        stream: usize,
        rows: u64,
    ) -> Result<()> {
        check_text(&piece).map_err(|e| e.at(self.place()))?;
        let known = self.unknown_kinds[stream].is_none();
        batch.start(stream, self.streams[stream].columns.len(), self.rows[stream] + 1);
        self.spare = batch.adopt(piece);
        let (mut start, mut count) = (0, 0);
        while start < records {
            let end = match memchr::memchr(b'\n', &batch.adopted()[start..records]) {
                Some(n) => start + n,
                None => return Err(damaged("its last record has no line end").at(self.place())),
            };
            if end + 1 - start > self.limits.record_line {
                return Err(damaged("a record line is over the limit").at(self.place()));
            }
            count += 1;
            let read = if known {
                self.decoders[stream].read(batch, start, end)
            } else {
                self.decoders[stream].recognise(&batch.adopted()[start..end])
            };
            let row = self.rows[stream] + count;
            read.map_err(|e| {
                e.at(format_args!(
                    "chunk {}, row {row} of {}",
                    self.chunk, self.streams[stream].name
                ))
            })?;
            if let (true, Some(digests)) = (known, &mut self.digests) {
                digests[stream].add(self.decoders[stream].values(batch.adopted()));
            }
            start = end + 1;
        }
        if count != rows || rows == 0 {
            return Err(damaged(format!("it holds {count} rows and its checkpoint counts {rows}"))
                .at(self.place()));
        }
        self.rows[stream] += rows;
        self.extents[stream].0 += 1;
        self.extents[stream].1 += records as u64;
        Ok(())
    }

    fn check_manifest(&self, manifest: &Manifest) -> Result<()> {
        let rows_agree = manifest.rows.len() == self.streams.len()
            && (manifest.rows.iter().zip(self.streams.iter().zip(&self.rows)))
                .all(|((name, rows), (stream, read))| *name == stream.name && rows == read);
        let wrong = if manifest.version != super::VERSION {
            "version"
        } else if manifest.prev != self.prev {
            "chain"
        } else if manifest.chunks != self.chunk {
            "number of chunks"
        } else if self.jump != Jump::None {
            return Ok(());
        } else if manifest.bytes != self.bytes {
            "number of bytes"
        } else if !rows_agree {
            "number of rows"
        } else if !self.extents_agree(manifest) {
            "extent of a stream"
        } else if !self.digests_agree(manifest) {
            "digest of the rows"
        } else {
            return Ok(());
        };
        Err(damaged(format!("the manifest disagrees with what was read: its {wrong}")))
    }

    /// The row digests, if they were asked for and the manifest tells any.
    fn digests_agree(&self, manifest: &Manifest) -> bool {
        let told = manifest.digests.as_ref().map_or(&[][..], |d| &d.lrd1);
        let known = self.unknown_kinds.iter().all(Option::is_none);
        told.is_empty() || self.digests.is_none() || !known || told == self.row_digests()
    }

    /// The chunks and bytes that the manifest tells of each stream, if it does.
    fn extents_agree(&self, manifest: &Manifest) -> bool {
        let told = &manifest.extents;
        told.is_empty()
            || (told.len() == self.streams.len()
                && told.iter().zip(self.streams.iter().zip(&self.extents)).all(
                    |((name, told), (stream, read))| {
                        *name == stream.name && (told.chunks, told.bytes) == *read
                    },
                ))
    }

    /// Looks at what follows the manifest: the seek table or nothing.
    fn seal(&mut self, manifest: Manifest, digest: String) -> Result<Sealed> {
        let table = match self.container.framing() {
            Framing::Zstd => seek::write(self.container.entries()),
            Framing::Bare => Vec::new(),
        };
        let rest = self.container.rest(table.len() + 1)?;
        // a table may be cut or damaged; anything else behind the manifest is not this archive's
        let start = &rest[..rest.len().min(4)];
        let table_like = seek::SKIPPABLE.to_le_bytes().starts_with(start)
            || (rest.len() == table.len() && !start.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]));
        if rest.len() > table.len() || !table_like {
            return Err(damaged("data follow the manifest").hint(
                "two archives in one file are not one archive: import them one after the other",
            ));
        }
        let index = match (rest.is_empty(), manifest.seek_table && !table.is_empty()) {
            (false, _) if rest == table => Index::Good,
            (false, _) => Index::Damaged,
            (true, true) => Index::Missing,
            (true, false) => Index::None,
        };
        let file_bytes = self.container.consumed();
        Ok(Sealed { digest, manifest, index, file_bytes })
    }

    fn place(&self) -> String {
        format!("chunk {}", self.chunk)
    }

    /// Adds to an error how much of the archive was whole before it.
    fn tell_progress(&self, error: Error) -> Error {
        let rows: Vec<String> = (self.streams.iter().zip(&self.rows))
            .map(|(stream, rows)| format!("{rows} {}", stream.name))
            .collect();
        error.at(format_args!("after {} whole chunks ({})", self.chunk, rows.join(", ")))
    }
}

/// A control line with the digest of its bytes.
struct ControlLine {
    parsed: Control,
    digest: String,
}

/// Splits a piece into its lines and the control line that ends it.
fn split_control(piece: &[u8]) -> Result<(&[u8], ControlLine)> {
    let Some(body) = piece.strip_suffix(b"\n") else {
        return Err(damaged("it does not end with a line end"));
    };
    let start = memchr::memrchr(b'\n', body).map_or(0, |n| n + 1);
    let line = &piece[start..];
    if line.len() > CONTROL_LINE {
        return Err(damaged("its last line is over the limit of a control line"));
    }
    let parsed = Control::parse(line)?;
    Ok((&piece[..start], ControlLine { parsed, digest: sha256(line) }))
}

/// Checks a checkpoint against the bytes before it and the chain.
fn check(checkpoint: &Checkpoint, lines: &[u8], chunk: u64, prev: Option<&str>) -> Result<()> {
    let wrong = if checkpoint.chunk != chunk {
        format!("its checkpoint is number {}", checkpoint.chunk)
    } else if checkpoint.prev.as_deref() != prev {
        "the chain of checkpoints is broken".into()
    } else if checkpoint.bytes != lines.len() as u64 {
        format!("it holds {} bytes and its checkpoint counts {}", lines.len(), checkpoint.bytes)
    } else if checkpoint.sha256 != sha256(lines) {
        "its bytes do not have the SHA-256 of its checkpoint".into()
    } else {
        return Ok(());
    };
    Err(damaged(wrong).at(format_args!("chunk {chunk}")))
}

/// Checks what holds for the bytes of every line.
fn check_text(piece: &[u8]) -> Result<()> {
    if memchr::memchr(b'\r', piece).is_some() || std::str::from_utf8(piece).is_err() {
        return Err(damaged("it holds a carriage return or is not UTF-8"));
    }
    Ok(())
}

/// Reads the SCHEMA lines of the head: one for each stream of the header, in its order.
fn read_schemas(header: &Header, lines: &[u8]) -> Result<Vec<SchemaLine>> {
    let mut schemas = Vec::new();
    let mut rest = split_line(lines).map_or(&[][..], |(_, rest)| rest);
    while let Some((line, after)) = split_line(rest) {
        if line.len() > CONTROL_LINE {
            return Err(damaged("a SCHEMA line is over its limit"));
        }
        schemas.push(SchemaLine::parse(line)?);
        rest = after;
    }
    let same = schemas.len() == header.streams.len()
        && schemas.iter().zip(&header.streams).all(|(s, name)| s.stream.name == *name);
    let distinct: std::collections::HashSet<_> = header.streams.iter().collect();
    if !same || distinct.len() != schemas.len() || schemas.is_empty() {
        return Err(damaged("the SCHEMA lines are not those of the header's streams"));
    }
    Ok(schemas)
}

/// The first line with its LF, and what follows.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', bytes)?;
    Some(bytes.split_at(end + 1))
}

fn damaged(message: impl Into<String>) -> Error {
    Error::new(Code::ArchiveDamaged, message)
        .hint("the archive is not what its export wrote; fetch it again or use another copy")
}

/// The digest as people compare it: `sha256:` and 64 digits.
pub fn shown_digest(digest: &str) -> String {
    format!("sha256:{digest}")
}

/// The bytes of a digest as hexadecimal digits, if the text is one: `sha256:` may be left out.
pub fn parse_digest(text: &str) -> Option<String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let proper = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    proper.then(|| digits.to_ascii_lowercase())
}
