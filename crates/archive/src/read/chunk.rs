//! One chunk of an archive by itself: everything that can be checked without the chunks
//! before it, so that several chunks can be decoded at the same time.

use std::collections::HashMap;
use std::sync::Arc;

use crate::batch::Batch;
use crate::codec::Decoder;
use crate::control::Control;
use crate::digest::{RowDigest, RowSum};
use crate::error::{ArchiveError, ErrorKind, Result};
use crate::hex::sha256;
use crate::limits::CONTROL_LINE;
use crate::model::Stream;
use crate::read::frames::Limits;

/// The head's description of the rows, shared by all threads that read them.
#[derive(Debug)]
pub(crate) struct Schema {
    /// The streams, in the order they follow each other.
    pub(crate) streams: Vec<Stream>,
    /// The kind of each stream that this program does not know, if any.
    pub(crate) unknown_kinds: Vec<Option<String>>,
    /// The number of each stream: there may be thousands, and every chunk names its own.
    numbers: HashMap<String, usize>,
}

impl Schema {
    pub(crate) fn new(streams: Vec<Stream>, unknown_kinds: Vec<Option<String>>) -> Schema {
        let numbers = streams.iter().enumerate().map(|(n, s)| (s.name.clone(), n)).collect();
        Schema { streams, unknown_kinds, numbers }
    }

    /// The number of a stream.
    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }
}

/// Decodes chunks, one after the other; keeps its buffers.
pub(crate) struct ChunkDecoder {
    schema: Arc<Schema>,
    limits: Limits,
    decoders: Vec<Decoder>,
    digests: Option<Vec<RowDigest>>,
    skips_rows: bool,
}

/// A chunk and its checkpoint. The reader checks whether it follows the chunks before it.
pub(crate) struct DecodedChunk {
    /// Holds the bytes of the chunk, and its rows as far as they could be read.
    pub(crate) batch: Batch,
    /// The line that ends it.
    pub(crate) control: Result<ControlLine>,
    /// The bytes before that line.
    pub(crate) lines: usize,
    /// The SHA-256 of these bytes.
    pub(crate) sha256: String,
    /// The number of its record lines, or the first thing that is wrong with its text. Not looked
    /// for if the checkpoint is not that of these bytes.
    pub(crate) rows: std::result::Result<u64, Fault>,
    /// The row digest of its rows, if it was asked for.
    pub(crate) sum: RowSum,
}

/// What is wrong with the text of a chunk.
pub(crate) struct Fault {
    /// The record line, counted from 1; none if it is the chunk as a whole.
    pub(crate) row: Option<u64>,
    /// What is wrong.
    pub(crate) error: ArchiveError,
}

/// A control line with the digest of its bytes.
pub(crate) struct ControlLine {
    pub(crate) parsed: Control,
    pub(crate) digest: String,
}

impl ChunkDecoder {
    /// A decoder for the chunks behind the head; `digests` asks for the row digests too.
    pub(crate) fn new(schema: &Arc<Schema>, limits: Limits, digests: bool) -> ChunkDecoder {
        let streams = &schema.streams;
        ChunkDecoder {
            schema: Arc::clone(schema),
            limits,
            decoders: streams.iter().map(Decoder::new).collect(),
            digests: digests.then(|| streams.iter().map(RowDigest::new).collect()),
            skips_rows: false,
        }
    }

    /// Has it count rows from here on, and decode none.
    pub(crate) fn skip_rows(&mut self) {
        (self.skips_rows, self.digests) = (true, None);
    }

    /// Decodes a chunk; `batch` takes it over with all its rows.
    pub(crate) fn decode(&mut self, chunk: Vec<u8>, mut batch: Batch) -> DecodedChunk {
        let (lines, control) = match split_control(&chunk) {
            Ok((lines, control)) => (lines.len(), Ok(control)),
            Err(error) => (0, Err(error)),
        };
        let sha256 = sha256(&chunk[..lines]);
        // the rows are not looked at before the bytes are known to be those that were written
        let stream = match &control {
            Ok(ControlLine { parsed: Control::Checkpoint(checkpoint), .. })
                if checkpoint.sha256 == sha256 =>
            {
                let name = checkpoint.stream.as_deref().unwrap_or("");
                self.schema.number(name)
            }
            _ => None,
        };
        let width = stream.map_or(1, |n| self.schema.streams[n].columns.len());
        batch.start(stream.unwrap_or(0), width, 1);
        batch.adopt(chunk);
        let rows = match (check_text(batch.adopted()), stream) {
            (Err(error), _) => Err(Fault { row: None, error }),
            (Ok(()), Some(stream)) => self.read_rows(&mut batch, lines, stream),
            (Ok(()), None) => Ok(0),
        };
        let digest = stream.and_then(|n| self.digests.as_mut()?.get_mut(n));
        let sum = digest.map(RowDigest::take).unwrap_or_default();
        DecodedChunk { batch, control, lines, sha256, rows, sum }
    }

    /// Reads the record lines, which end at `lines`; returns how many they are.
    fn read_rows(
        &mut self,
        batch: &mut Batch,
        lines: usize,
        stream: usize,
    ) -> std::result::Result<u64, Fault> {
        let whole = |error| Fault { row: None, error };
        let known = self.schema.unknown_kinds[stream].is_none() && !self.skips_rows;
        let (mut start, mut count) = (0, 0);
        while start < lines {
            let end = match memchr::memchr(b'\n', &batch.adopted()[start..lines]) {
                Some(n) => start + n,
                None => return Err(whole(damaged("its last record has no line end"))),
            };
            if end + 1 - start > self.limits.record_line {
                return Err(whole(damaged("a record line is over the limit")));
            }
            count += 1;
            let read = if known {
                self.decoders[stream].read(batch, start, end)
            } else {
                self.decoders[stream].recognise(&batch.adopted()[start..end])
            };
            read.map_err(|error| Fault { row: Some(count), error })?;
            if let (true, Some(digests)) = (known, &mut self.digests) {
                digests[stream].add(self.decoders[stream].values(batch.adopted()));
            }
            start = end + 1;
        }
        Ok(count)
    }
}

/// Splits a chunk into its lines and the control line that ends it.
pub(crate) fn split_control(chunk: &[u8]) -> Result<(&[u8], ControlLine)> {
    let Some(body) = chunk.strip_suffix(b"\n") else {
        return Err(damaged("it does not end with a line end"));
    };
    let start = memchr::memrchr(b'\n', body).map_or(0, |n| n + 1);
    let line = &chunk[start..];
    if line.len() > CONTROL_LINE {
        return Err(damaged("its last line is over the limit of a control line"));
    }
    let parsed = Control::parse(line)?;
    Ok((&chunk[..start], ControlLine { parsed, digest: sha256(line) }))
}

/// Checks what holds for the bytes of every line.
pub(crate) fn check_text(chunk: &[u8]) -> Result<()> {
    if memchr::memchr(b'\r', chunk).is_some() || std::str::from_utf8(chunk).is_err() {
        return Err(damaged("it holds a carriage return or is not UTF-8"));
    }
    Ok(())
}

pub(crate) fn damaged(message: impl Into<String>) -> ArchiveError {
    ArchiveError::new(ErrorKind::Damaged, message)
}
