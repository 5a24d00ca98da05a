//! Writing an archive: lines into chunks, chunks into frames, and the manifest that seals it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::batch::Batch;
use crate::codec::Encoder;
use crate::control::{Bookmarks, Digests, Extent, Header, Manifest, schema_line};
use crate::digest::RowDigest;
use crate::error::{ArchiveError, ErrorKind, Result};
use crate::hex::sha256;
use crate::json;
use crate::limits::{CHUNK_TARGETS, check_line, is_stream_name, limit};
use crate::limits::{COLUMNS, CONTROL_LINE, HEAD_FRAME, RECORD_LINE};
use crate::model::Stream;
use crate::show::{show, show_text};
use crate::write::borders::{Border, Borders, hash};
use crate::write::frames::{Chunk, DEFAULT_LEVEL, Frames};
use crate::write::processors;

/// The bytes of a control line that the order columns of all streams' last rows may take.
const KEYS: usize = CONTROL_LINE - (256 << 10);
/// Room for the line with which a chunk ends or that no longer fits into it, as they mostly are.
const LAST_LINE: usize = 64 << 10;
/// The longest text that an extent notes as a time; a longer one is none.
const TIME: usize = 64;

/// How an archive is compressed.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// The zstd level, 1 to 22.
    pub level: i32,
    /// The compressing threads.
    pub threads: usize,
    /// Whether a seek table is appended.
    pub seek_table: bool,
    /// Whether the manifest carries a digest of the rows that does not depend on their order.
    pub row_digests: bool,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            level: DEFAULT_LEVEL,
            threads: processors(),
            seek_table: true,
            row_digests: false,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The SHA-256 of the manifest line: through the chain it fixes every decompressed byte.
    pub digest: String,
    /// The manifest.
    pub manifest: Manifest,
    /// The bytes of the file.
    pub compressed_bytes: u64,
}

/// What is kept of one stream while its rows are written.
struct StreamWriter {
    stream: Stream,
    encoder: Encoder,
    rows: u64,
    extent: Extent,
    /// The column whose range is in the manifest.
    time: Option<usize>,
    scratch: Vec<u8>,
    digest: Option<RowDigest>,
}

impl StreamWriter {
    fn new(stream: Stream, row_digests: bool) -> StreamWriter {
        StreamWriter {
            encoder: Encoder::new(&stream),
            rows: 0,
            extent: Extent::default(),
            time: time_column(&stream),
            scratch: Vec::new(),
            digest: row_digests.then(|| RowDigest::new(&stream)),
            stream,
        }
    }

    /// The record value of a column in the line written last.
    fn value<'a>(&self, line: &'a [u8], column: usize) -> &'a [u8] {
        let (from, to) = self.encoder.span(column);
        line.get(from..to).unwrap_or(b"null")
    }

    /// Widens the time range and the digest by the row of `line`.
    fn note(&mut self, line: &[u8]) {
        if let Some(column) = self.time {
            self.note_time(self.value(line, column));
        }
        if let Some(mut digest) = self.digest.take() {
            digest.add((0..self.stream.columns.len()).map(|n| self.value(line, n)));
            self.digest = Some(digest);
        }
    }

    fn note_time(&mut self, token: &[u8]) {
        self.scratch.clear();
        let text = match json::plain_string(token) {
            Some(len) => token.get(1..=len),
            None => json::read_string(token, &mut self.scratch).map(|_| &self.scratch[..]),
        };
        let Some(Ok(text)) = text.map(std::str::from_utf8) else { return };
        if text.len() > TIME {
            return;
        }
        let extent = &mut self.extent;
        if extent.first.as_deref().is_none_or(|first| text < first) {
            text.clone_into(extent.first.get_or_insert_default());
        }
        if extent.last.as_deref().is_none_or(|last| text > last) {
            text.clone_into(extent.last.get_or_insert_default());
        }
    }

    /// The hash that decides whether a chunk ends behind a row: that of its key, or of its line if it has none.
    fn hash(&self, line: &[u8]) -> u64 {
        let key = self.stream.key.iter().map(|column| self.value(line, *column));
        if key.clone().next().is_none() || key.clone().any(|value| value == b"null") {
            return hash(std::iter::once(line));
        }
        hash(key)
    }

    /// Refuses a row that shows null where the SCHEMA line allows none: no reader would take it.
    fn check(&self, line: &[u8], batch: &Batch, row: usize) -> Result<()> {
        for (n, column) in self.stream.columns.iter().enumerate().filter(|(_, c)| !c.nullable) {
            if self.value(line, n) == b"null" {
                return Err(ArchiveError::new(
                    ErrorKind::Unwritable,
                    format!(
                        "{}: column {} is not {} although it is declared not null",
                        self.name(batch, row),
                        show_text(&column.name),
                        column.kind.word()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// A row by its key.
    fn name(&self, batch: &Batch, row: usize) -> String {
        let key: Vec<String> = self.stream.key.iter().map(|k| show(batch.value(row, *k))).collect();
        format!("{} with key {}", self.stream.name, key.join(", "))
    }
}

/// Writes one archive. Streams follow each other whole, in the order of the header.
pub struct ArchiveWriter<W> {
    frames: Frames<W>,
    options: WriterOptions,
    chunk_target: usize,
    streams: Vec<StreamWriter>,
    current: usize,
    /// The lines of the chunk that is being filled, and where it may end.
    chunk: Vec<u8>,
    chunk_rows: u64,
    borders: Borders,
    checkpoints: u64,
    bookmarks: Bookmarks,
}

impl<W: Write + Send + 'static> ArchiveWriter<W> {
    /// Starts an archive: writes the header, the SCHEMA lines and the first checkpoint.
    ///
    /// # Errors
    /// A stream that breaks a limit of the format, or an output that cannot be written.
    pub fn create(
        out: W,
        header: &Header,
        streams: Vec<Stream>,
        options: WriterOptions,
    ) -> Result<ArchiveWriter<W>> {
        ArchiveWriter::create_counted(out, header, streams, options, Arc::default())
    }

    /// The same; `written` counts the compressed bytes as they leave, for a display of progress.
    ///
    /// # Errors
    /// As [`ArchiveWriter::create`].
    pub fn create_counted(
        out: W,
        header: &Header,
        streams: Vec<Stream>,
        options: WriterOptions,
        written: Arc<AtomicU64>,
    ) -> Result<ArchiveWriter<W>> {
        if streams.is_empty() {
            return Err(ArchiveError::new(ErrorKind::Internal, "an archive needs a stream"));
        }
        let mut head = header.to_line()?;
        check_line(head.len(), "the header")?;
        for stream in &streams {
            check_stream(stream)?;
            let line = schema_line(stream)?;
            check_line(line.len(), &stream.name)?;
            head.push_str(&line);
        }
        if head.len() > HEAD_FRAME - CONTROL_LINE {
            return Err(limit("the schema of all streams", HEAD_FRAME));
        }
        let frames = Frames::start(out, options.level, options.threads, written)?;
        let row_digests = options.row_digests;
        let chunk_target = usize::try_from(header.chunk_target)
            .ok()
            .filter(|target| target <= CHUNK_TARGETS.end())
            .ok_or_else(|| {
                let most = CHUNK_TARGETS.end() >> 20;
                let what =
                    format!("a chunk_target of more than {most} MiB, the limit of the format");
                ArchiveError::new(ErrorKind::Unwritable, what)
            })?;
        let mut writer = ArchiveWriter {
            frames,
            options,
            chunk_target,
            streams: streams.into_iter().map(|s| StreamWriter::new(s, row_digests)).collect(),
            current: 0,
            chunk: head.into_bytes(),
            chunk_rows: 0,
            borders: Borders::new(chunk_target),
            checkpoints: 0,
            bookmarks: Bookmarks::default(),
        };
        let head = Border { bytes: writer.chunk.len(), rows: 0 };
        writer.seal(None, head, "{}".into())?;
        Ok(writer)
    }

    /// Writes the rows of a batch.
    ///
    /// # Errors
    /// A row whose line is over the limit of the format, named by its key; a stream that comes
    /// after a later one; an output that cannot be written.
    pub fn write(&mut self, batch: &Batch) -> Result<()> {
        (0..batch.rows()).try_for_each(|row| self.write_row(batch, row, ""))
    }

    /// Writes one row of a batch; `members` are more members of the object `chronicle`, as JSON.
    ///
    /// # Errors
    /// As [`ArchiveWriter::write`].
    pub fn write_row(&mut self, batch: &Batch, row: usize, members: &str) -> Result<()> {
        if batch.stream() != self.current {
            self.begin(batch.stream())?;
        }
        let start = self.chunk.len();
        let stream = &mut self.streams[self.current];
        stream.encoder.write(batch, row, members, &mut self.chunk);
        let line = &self.chunk[start..];
        let taken = if line.len() > RECORD_LINE {
            Err(limit(&stream.name(batch, row), RECORD_LINE))
        } else {
            stream.check(line, batch, row)
        };
        if taken.is_err() {
            self.chunk.truncate(start);
            return taken;
        }
        stream.note(line);
        let (length, hash) = (line.len(), stream.hash(line));
        while self.chunk.len() > self.chunk_target
            && let Some(best) = self.borders.best()
        {
            self.close_chunk(best)?;
        }
        self.chunk_rows += 1;
        let end = Border { bytes: self.chunk.len(), rows: self.chunk_rows };
        let stream = &self.streams[self.current];
        let order = stream.stream.order.iter().map(|column| {
            let (from, to) = stream.encoder.span(*column);
            (end.bytes - length + from, end.bytes - length + to)
        });
        if self.borders.add(hash, length, end, order) {
            self.close_chunk(end)?;
        }
        Ok(())
    }

    /// Writes the last chunk, the manifest and the seek table.
    ///
    /// # Errors
    /// An output that cannot be written.
    pub fn finish(mut self) -> Result<(W, Written)> {
        let sealed = self.seal_all();
        let seek_table = self.options.seek_table;
        // the writer's own error has the reason
        let (out, compressed_bytes) = self.frames.finish(seek_table && sealed.is_ok())?;
        let (digest, manifest) = sealed?;
        Ok((out, Written { digest, manifest, compressed_bytes }))
    }

    /// Gives the archive up: what was written has no manifest and so is not an archive.
    ///
    /// # Errors
    /// Why the output could not be written, if that was the reason.
    pub fn abandon(self) -> Result<()> {
        self.frames.finish(false).map(|_| ())
    }

    fn seal_all(&mut self) -> Result<(String, Manifest)> {
        self.close_stream()?;
        let link = self.frames.last_link()?;
        let name = |s: &StreamWriter| s.stream.name.clone();
        let mut manifest = Manifest::new(
            self.checkpoints,
            link.bytes,
            self.streams.iter().map(|s| (name(s), s.rows)).collect(),
            link.prev.unwrap_or_default(),
        );
        manifest.seek_table = self.options.seek_table;
        manifest.extents = self.streams.iter().map(|s| (name(s), s.extent.clone())).collect();
        let digests: Option<Vec<_>> =
            self.streams.iter().map(|s| Some((name(s), s.digest.as_ref()?.hex()))).collect();
        manifest.digests = digests.map(|lrd1| Digests { lrd1 });
        let line = manifest.to_line(&self.bookmarks.to_json())?;
        check_line(line.len(), "the manifest")?;
        let digest = sha256(line.as_bytes());
        self.frames.compress(line.into_bytes())?;
        Ok((digest, manifest))
    }

    fn begin(&mut self, stream: usize) -> Result<()> {
        self.close_stream()?;
        if stream < self.current || stream >= self.streams.len() {
            return Err(ArchiveError::new(
                ErrorKind::Internal,
                "a stream out of the header's order",
            ));
        }
        self.current = stream;
        Ok(())
    }

    /// Closes the chunk behind its last row, as the end of a stream does.
    fn close_stream(&mut self) -> Result<()> {
        self.borders.last().map_or(Ok(()), |last| self.close_chunk(last))
    }

    /// Closes the chunk at a border; the rows behind it are the first ones of the next chunk.
    fn close_chunk(&mut self, end: Border) -> Result<()> {
        let last_key = self.last_key(end);
        self.borders.cut(end);
        let stream = &mut self.streams[self.current];
        stream.rows += end.rows;
        stream.extent.chunks += 1;
        stream.extent.bytes += end.bytes as u64;
        let name = stream.stream.name.clone();
        let bookmark = self.bookmarks.set(&name, stream.rows, last_key);
        self.seal(Some(name), end, bookmark)
    }

    /// The order columns of the row before a border as a JSON array; none if unsorted, or if it is too long for the
    /// bookmarks of the manifest: they are a hint, the row is written anyway.
    fn last_key(&self, end: Border) -> Option<String> {
        let spans = self.borders.spans(end);
        let length: usize = spans.iter().map(|(from, to)| to - from).sum();
        if spans.is_empty() || length > KEYS / self.streams.len() {
            return None;
        }
        let values = spans.iter().map(|(from, to)| {
            String::from_utf8_lossy(self.chunk.get(*from..*to).unwrap_or(b"null"))
        });
        Some(format!("[{}]", values.collect::<Vec<_>>().join(",")))
    }

    /// Hands the lines before a border over to be sealed with their checkpoint.
    fn seal(&mut self, stream: Option<String>, end: Border, bookmarks: String) -> Result<()> {
        let mut next = self.frames.buffer()?;
        // at once, and not by doubling: what is left behind in between would stay with the process
        next.reserve(self.chunk_target + LAST_LINE);
        next.extend_from_slice(&self.chunk[end.bytes..]);
        self.chunk.truncate(end.bytes);
        self.chunk_rows -= end.rows;
        self.frames.seal(Chunk {
            lines: std::mem::replace(&mut self.chunk, next),
            number: self.checkpoints,
            stream,
            rows: end.rows,
            bookmarks,
        })?;
        self.checkpoints += 1;
        Ok(())
    }
}

/// The column whose range is in the manifest: the first instant among the order, else of all.
pub fn time_column(stream: &Stream) -> Option<usize> {
    let is_time = |n: &usize| {
        stream
            .columns
            .get(*n)
            .is_some_and(|c| c.time_text.is_time() || c.kind == crate::model::Kind::Time)
    };
    let mut all = 0..stream.columns.len();
    stream.order.iter().copied().find(is_time).or_else(|| all.find(is_time))
}

fn check_stream(stream: &Stream) -> Result<()> {
    let named = is_stream_name(&stream.name) && stream.columns.len() <= COLUMNS;
    if named && stream.columns.iter().all(|c| c.name.len() <= crate::limits::COLUMN_NAME) {
        return Ok(());
    }
    Err(ArchiveError::new(
        ErrorKind::Unwritable,
        format!("{}: more columns or longer names than an archive holds", stream.table),
    ))
}
