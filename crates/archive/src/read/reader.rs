//! Reading an archive: every chunk is verified before a row of it is handed on, and the end is
//! reported only after the manifest agreed.

use std::io::Read;
use std::sync::Arc;

use crate::batch::Batch;
use crate::control::{Checkpoint, Control, HEADER_PREFIX, Header, Manifest, SchemaLine};
use crate::digest::RowSum;
use crate::error::{ArchiveError, ErrorKind, Result};
use crate::hex::sha256;
use crate::limits::{CONTROL_LINE, VERSION};
use crate::model::Stream;
use crate::read::chunk::{
    ChunkDecoder, ControlLine, DecodedChunk, Fault, Schema, check_text, damaged, split_control,
};
pub use crate::read::frames::Limits;
use crate::read::frames::{Container, Framing, foreign, truncated};
use crate::read::prefetch::{DECODERS, Prefetch};
use crate::seek_table;
use crate::show::show_count;
use crate::write::processors;

/// The state of the seek table, which is a cache: wrong or missing, the data are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// It equals what was read.
    Good,
    /// The archive was written without one, or was read without its frames.
    None,
    /// The manifest promises one, but the file ends before it.
    Missing,
    /// It exists and differs from the frames.
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

/// How many streams a message lists.
const STREAMS_COUNTED: usize = 20;

/// Reads one archive from a stream of bytes, front to back.
pub struct ArchiveReader<R> {
    chunks: Chunks<R>,
    limits: Limits,
    header: Header,
    schema: Arc<Schema>,
    sums: Option<Vec<RowSum>>,
    current: Option<usize>,
    rows: Vec<u64>,
    extents: Vec<(u64, u64)>,
    chunk: u64,
    prev: String,
    bytes: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
    jump: Jump,
    sealed: Option<Sealed>,
}

/// Where the next chunk comes from.
enum Chunks<R> {
    /// It is read when it is asked for.
    Here(Box<(Container<R>, ChunkDecoder)>),
    /// It is read ahead.
    Prefetch(Prefetch<R>),
    /// There is none any more; what follows the last one is still in the container.
    End(Option<Container<R>>),
}

impl<R: Read> Chunks<R> {
    /// The next chunk, or None at a clean end between two chunks; `batch` is used again.
    fn next(&mut self, mut batch: Batch) -> Result<Option<DecodedChunk>> {
        match self {
            Chunks::Here(here) => {
                let (container, decoder) = here.as_mut();
                let packed = container.next_chunk(batch.adopt(Vec::new()))?;
                let lines = packed.map(|packed| container.unpack(packed)).transpose()?;
                Ok(lines.map(|lines| decoder.decode(lines, batch)))
            }
            Chunks::Prefetch(prefetch) => prefetch.next(batch),
            Chunks::End(_) => Ok(None),
        }
    }

    /// What the chunks were read from. After this there is no further one if it was read ahead.
    fn container(&mut self) -> Result<&mut Container<R>> {
        *self = match std::mem::replace(self, Chunks::End(None)) {
            Chunks::Prefetch(prefetch) => Chunks::End(Some(prefetch.into_container()?)),
            other => other,
        };
        match self {
            Chunks::Here(here) => Ok(&mut here.0),
            Chunks::End(Some(container)) => Ok(container),
            _ => Err(ArchiveError::new(
                ErrorKind::Internal,
                "the archive cannot be read any further",
            )),
        }
    }
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

impl<R: Read + Send + 'static> ArchiveReader<R> {
    /// Reads ahead from here on, by threads: one that decompresses and some that check and decode.
    /// Results and errors stay the same.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn prefetch(&mut self) -> Result<()> {
        let Chunks::Here(here) = std::mem::replace(&mut self.chunks, Chunks::End(None)) else {
            return Ok(());
        };
        let decoder = || ChunkDecoder::new(&self.schema, self.limits.clone(), self.sums.is_some());
        let decoders = (0..processors().min(DECODERS)).map(|_| decoder()).collect();
        self.chunks = Chunks::Prefetch(Prefetch::start(here.0, decoders)?);
        Ok(())
    }
}

impl<R: Read> ArchiveReader<R> {
    /// Reads and verifies the head.
    ///
    /// # Errors
    /// If the bytes are no archive, one of another version, or damaged.
    pub fn open(input: R, limits: Limits) -> Result<ArchiveReader<R>> {
        let mut container = Container::open(input, limits.clone())?;
        let head = container.next_chunk(Vec::new())?.map(|head| container.unpack(head));
        let head = head.transpose()?.unwrap_or_default();
        let (header_line, _) = split_line(&head)
            .filter(|(line, _)| line.starts_with(HEADER_PREFIX.as_bytes()))
            .ok_or_else(|| foreign(container.framing()))?;
        let header = Header::parse(header_line)?;
        let (lines, control) = split_control(&head)?;
        let Control::Checkpoint(checkpoint) = control.parsed else {
            return Err(damaged("the head does not end with a checkpoint"));
        };
        check(&checkpoint, lines.len(), &sha256(lines), 0, None)?;
        check_text(&head)?;
        if checkpoint.rows != 0 || checkpoint.stream.is_some() {
            return Err(damaged("the head's checkpoint claims rows"));
        }
        let schemas = read_schemas(&header, lines)?;
        let unknown_kinds = schemas.iter().map(|s| s.unknown_kind.clone()).collect();
        let streams = schemas.into_iter().map(|s| s.stream).collect();
        let schema = Arc::new(Schema::new(streams, unknown_kinds));
        let decoder = ChunkDecoder::new(&schema, limits.clone(), false);
        Ok(ArchiveReader {
            chunks: Chunks::Here(Box::new((container, decoder))),
            limits,
            rows: vec![0; schema.streams.len()],
            extents: vec![(0, 0); schema.streams.len()],
            schema,
            header,
            sums: None,
            current: None,
            chunk: 1,
            prev: control.digest,
            bytes: head.len() as u64,
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
        &self.schema.streams
    }

    /// The number of a stream, as [`Batch::stream`] gives it.
    pub fn stream(&self, name: &str) -> Option<usize> {
        self.schema.number(name)
    }

    /// The kind of a stream that this program does not know, if any: its rows cannot be read.
    pub fn unknown_kind(&self, stream: usize) -> Option<&str> {
        self.schema.unknown_kinds.get(stream)?.as_deref()
    }

    /// The head's lines, unchanged: the header, the SCHEMA lines, the first checkpoint.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The manifest's line, unchanged, once it was read.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Goes on with chunk number `chunk`, where `input` is positioned. Every chunk is still checked
    /// by itself and linked to the one before it, but the totals no longer are: at the manifest
    /// there is no [`ArchiveReader::sealed`].
    pub fn jump(&mut self, input: R, chunk: u64) {
        let Chunks::Here(here) = &mut self.chunks else { return };
        here.0.go_on_with(input);
        self.chunk = chunk;
        self.jump = Jump::Pending;
    }

    /// Asks for the row digests, to be compared with those of the manifest if it has any. It costs
    /// about as much again as reading does. Has no effect once rows were read or
    /// [`ArchiveReader::prefetch`] was called: they would be digests of a part.
    pub fn digest_rows(&mut self) {
        if let (Chunks::Here(here), 1) = (&mut self.chunks, self.chunk) {
            here.1 = ChunkDecoder::new(&self.schema, self.limits.clone(), true);
            self.sums = Some(vec![RowSum::default(); self.schema.streams.len()]);
        }
    }

    /// Reads no values from here on: chunks are verified as ever, byte for byte and line for line, but their batches are
    /// empty. For bytes that are only compared with what was written. Has no effect once [`ArchiveReader::prefetch`] was
    /// called.
    pub fn skip_rows(&mut self) {
        if let Chunks::Here(here) = &mut self.chunks {
            here.1.skip_rows();
            self.sums = None;
        }
    }

    /// The row digest of each stream read so far, if they were asked for.
    pub fn row_digests(&self) -> Vec<(String, String)> {
        let digests = self.sums.iter().flatten().map(RowSum::hex);
        self.schema.streams.iter().map(|s| s.name.clone()).zip(digests).collect()
    }

    /// The bytes of the file read so far.
    pub fn consumed(&self) -> u64 {
        match &self.chunks {
            Chunks::Here(here) => here.0.consumed(),
            Chunks::Prefetch(prefetch) => prefetch.consumed(),
            Chunks::End(container) => container.as_ref().map_or(0, Container::consumed),
        }
    }

    /// The rows of each stream read so far.
    pub fn rows(&self) -> &[u64] {
        &self.rows
    }

    /// The digest of the last checkpoint, 64 hexadecimal digits: by their chain it stands for everything before.
    pub fn checkpoint(&self) -> &str {
        &self.prev
    }

    /// What is known after the last row, when [`ArchiveReader::next_batch`] has returned false.
    pub fn sealed(&self) -> Option<&Sealed> {
        self.sealed.as_ref()
    }

    /// Reads the rows of the next chunk into `batch`; false only after the manifest agreed.
    ///
    /// The rows of a stream with an unknown kind are verified but not decoded: their batch is
    /// empty.
    ///
    /// # Errors
    /// Any byte that does not agree with the chain of checkpoints, any line that is not of the
    /// format, or an end without a manifest.
    pub fn next_batch(&mut self, batch: &mut Batch) -> Result<bool> {
        if self.sealed.is_some() {
            return Ok(false);
        }
        let decoded = match self.chunks.next(std::mem::take(batch)) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => {
                return Err(self.with_progress(truncated("the space between two chunks")));
            }
            Err(error) => return Err(self.with_progress(error)),
        };
        let DecodedChunk { batch: read, control, lines, sha256, rows, sum } = decoded;
        *batch = read;
        let ControlLine { parsed, digest } = control.map_err(|e| e.at(self.place()))?;
        match parsed {
            Control::Checkpoint(checkpoint) => {
                if self.jump == Jump::Pending {
                    self.prev = checkpoint.prev.clone().unwrap_or_default();
                    self.jump = Jump::Done;
                }
                check(&checkpoint, lines, &sha256, self.chunk, Some(&self.prev))?;
                let stream = self.enter(&checkpoint)?;
                self.prev = digest;
                self.bytes += batch.adopted().len() as u64;
                batch.number_from(self.rows[stream] + 1);
                self.count(&checkpoint, stream, rows)?;
                if let Some(sums) = &mut self.sums {
                    sums[stream].add(sum);
                }
                self.chunk += 1;
                Ok(true)
            }
            Control::Manifest(manifest) => {
                if lines != 0 {
                    return Err(
                        damaged("the manifest shares its frame with other lines").at(self.place())
                    );
                }
                rows.map_err(|fault| fault.error)?;
                self.tail = batch.adopt(Vec::new());
                batch.start(0, 0, 1);
                self.check_manifest(&manifest)?;
                if self.jump == Jump::None {
                    self.sealed = Some(self.seal(manifest, digest)?);
                }
                Ok(false)
            }
        }
    }

    /// Moves on to the stream of a chunk: in the header's order and never back.
    fn enter(&mut self, checkpoint: &Checkpoint) -> Result<usize> {
        let name = checkpoint.stream.as_deref().unwrap_or("");
        let stream = self.schema.number(name);
        match stream {
            Some(stream) if self.current.is_none_or(|current| current <= stream) => {
                self.current = Some(stream);
                Ok(stream)
            }
            _ => Err(damaged("its stream is unknown or out of order").at(self.place())),
        }
    }

    /// Counts the rows of a chunk, if they agree with its checkpoint.
    fn count(
        &mut self,
        checkpoint: &Checkpoint,
        stream: usize,
        rows: std::result::Result<u64, Fault>,
    ) -> Result<()> {
        let before = self.rows[stream];
        let rows = rows.map_err(|Fault { row, error }| match row {
            Some(row) => error.at(format_args!(
                "chunk {}, row {} of {}",
                self.chunk,
                before + row,
                self.schema.streams[stream].name
            )),
            None => error.at(self.place()),
        })?;
        if rows != checkpoint.rows || rows == 0 {
            return Err(damaged(format!(
                "it holds {}, but its checkpoint counts {}",
                show_count(rows, "rows"),
                checkpoint.rows
            ))
            .at(self.place()));
        }
        self.rows[stream] += rows;
        self.extents[stream].0 += 1;
        self.extents[stream].1 += checkpoint.bytes;
        Ok(())
    }

    fn check_manifest(&self, manifest: &Manifest) -> Result<()> {
        let rows_agree = manifest.rows.len() == self.rows.len()
            && (manifest.rows.iter().zip(self.schema.streams.iter().zip(&self.rows)))
                .all(|((name, rows), (stream, read))| *name == stream.name && rows == read);
        let wrong = if manifest.version != VERSION {
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

    /// Whether the row digests agree, if they were computed and the manifest has any.
    fn digests_agree(&self, manifest: &Manifest) -> bool {
        let claimed = manifest.digests.as_ref().map_or(&[][..], |d| &d.lrd1);
        let known = self.schema.unknown_kinds.iter().all(Option::is_none);
        claimed.is_empty() || self.sums.is_none() || !known || claimed == self.row_digests()
    }

    /// Whether the manifest's chunks and bytes of each stream agree, if it has any.
    fn extents_agree(&self, manifest: &Manifest) -> bool {
        let claimed = &manifest.extents;
        claimed.is_empty()
            || (claimed.len() == self.schema.streams.len()
                && claimed.iter().zip(self.schema.streams.iter().zip(&self.extents)).all(
                    |((name, claimed), (stream, read))| {
                        *name == stream.name && (claimed.chunks, claimed.bytes) == *read
                    },
                ))
    }

    /// Looks at what follows the manifest: the seek table or nothing.
    fn seal(&mut self, manifest: Manifest, digest: String) -> Result<Sealed> {
        let container = self.chunks.container()?;
        let table = match container.framing() {
            Framing::Zstd => seek_table::write(container.entries()),
            Framing::Bare => Vec::new(),
        };
        let rest = container.rest(table.len() + 1)?;
        // a table may be cut or damaged; anything else behind the manifest is not this archive's
        let start = &rest[..rest.len().min(4)];
        let table_like = seek_table::SKIPPABLE.to_le_bytes().starts_with(start)
            || (rest.len() == table.len() && !start.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]));
        if rest.len() > table.len() || !table_like {
            return Err(ArchiveError::new(ErrorKind::TrailingData, "data after the manifest"));
        }
        let index = match (rest.is_empty(), manifest.seek_table && !table.is_empty()) {
            (false, _) if rest == table => Index::Good,
            (false, _) => Index::Damaged,
            (true, true) => Index::Missing,
            (true, false) => Index::None,
        };
        let file_bytes = container.consumed();
        Ok(Sealed { digest, manifest, index, file_bytes })
    }

    fn place(&self) -> String {
        format!("chunk {}", self.chunk)
    }

    /// Adds to an error how much of the archive was complete before it.
    fn with_progress(&self, error: ArchiveError) -> ArchiveError {
        let read = self.schema.streams.iter().zip(&self.rows).take(STREAMS_COUNTED);
        let mut rows: Vec<String> =
            read.map(|(stream, rows)| show_count(*rows, &stream.name)).collect();
        if self.rows.len() > STREAMS_COUNTED {
            rows.push("…".into());
        }
        let chunks = show_count(self.chunk, "complete chunks");
        error.at(format_args!("after {chunks} ({})", rows.join(", ")))
    }
}

/// Checks a checkpoint against the bytes before it, their number and their digest, and the chain.
fn check(
    checkpoint: &Checkpoint,
    bytes: usize,
    sha256: &str,
    chunk: u64,
    prev: Option<&str>,
) -> Result<()> {
    let wrong = if checkpoint.chunk != chunk {
        format!("its checkpoint is number {}", checkpoint.chunk)
    } else if checkpoint.prev.as_deref() != prev {
        "the chain of checkpoints is broken".into()
    } else if checkpoint.bytes != bytes as u64 {
        format!(
            "it holds {}, but its checkpoint counts {}",
            show_count(bytes as u64, "bytes"),
            checkpoint.bytes
        )
    } else if checkpoint.sha256 != sha256 {
        "its bytes do not have the SHA-256 of its checkpoint".into()
    } else {
        return Ok(());
    };
    Err(damaged(wrong).at(format_args!("chunk {chunk}")))
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
