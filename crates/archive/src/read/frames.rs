//! Reading the outermost layer: zstd frames one by one, or bare lines, as chunks that end with a
//! control line; nothing of a frame is allocated before its header was checked. A frame may be
//! decompressed elsewhere than it is read.

use std::io::Read;
use std::sync::mpsc::{Receiver, Sender, channel};

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

use crate::control::{Control, HEADER_PREFIX, STATE_PREFIX};
use crate::error::{ArchiveError, ErrorKind, Result};
use crate::limits::{
    CHUNK_TARGET, CONTROL_LINE, FRAME_CONTENT, HEAD_FRAME, RECORD_LINE, WINDOW_LOG,
};
use crate::read::frame_header::{FrameHeader, ZSTD_MAGIC, little_endian};
use crate::seek_table::{self, Entry};

/// How much a reader accepts before it refuses. The defaults are the format's own limits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest record line in bytes.
    pub record_line: usize,
    /// The largest content of a frame in bytes.
    pub frame_content: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { record_line: RECORD_LINE, frame_content: FRAME_CONTENT }
    }
}

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// zstd frames.
    Zstd,
    /// NDJSON without compression, for example from `zstd -dc` or `xz -dc`.
    Bare,
}

const BUFFER: usize = 256 << 10;
/// By how much chunks of one archive mostly differ.
const SLACK: usize = 64 << 10;
/// What a checkpoint mostly needs at most.
const CONTROL_SLACK: usize = 4 << 10;
/// What the frame of a chunk mostly needs at most.
const FRAME: usize = 2 << 20;
/// What an unusually large frame needed above this is not kept.
const KEPT: usize = 8 << 20;
/// The largest block of a frame (RFC 8878, 3.1.1.2.4).
const BLOCK: usize = 128 << 10;

/// Bytes from a reader with some look-ahead.
struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    at: usize,
    consumed: u64,
}

impl<R: Read> Input<R> {
    /// Reads more behind what is left; false at the end of the input.
    fn fill(&mut self) -> Result<bool> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + BUFFER, 0);
        let read = loop {
            match self.reader.read(&mut self.buffer[filled..]) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let got = read.as_ref().map_or(0, |n| *n);
        self.buffer.truncate(filled + got);
        read.map_err(|e| {
            ArchiveError::new(ErrorKind::Unwritable, "the archive cannot be read").because(e)
        })?;
        Ok(got > 0)
    }

    fn left(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// The next bytes, `wanted` or as many as there are before the end.
    fn peek(&mut self, count: usize) -> Result<&[u8]> {
        while self.left().len() < count && self.fill()? {}
        let end = self.left().len().min(count);
        Ok(&self.buffer[self.at..self.at + end])
    }

    /// Moves `count` bytes behind `out`; false if the input ends before, behind what there was.
    fn take(&mut self, count: usize, out: &mut Vec<u8>) -> Result<bool> {
        let mut missing = count;
        while missing > 0 {
            if self.left().is_empty() && !self.fill()? {
                return Ok(false);
            }
            let taken = self.left().len().min(missing);
            out.extend_from_slice(&self.left()[..taken]);
            self.consume(taken);
            missing -= taken;
        }
        Ok(true)
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
        self.consumed += bytes as u64;
    }
}

/// A chunk as it was read, or the head or the manifest.
pub struct Packed {
    content: Content,
    /// Its checkpoint, if that was in a frame of its own.
    checkpoint: Vec<u8>,
}

/// The content of a frame.
enum Content {
    /// As it is.
    Lines(Vec<u8>),
    /// Still in its frame.
    Frame(Frame),
}

impl Content {
    /// Whether it is a control line, and no record is before it.
    fn is_control(&self) -> bool {
        matches!(self, Content::Lines(lines) if lines.starts_with(STATE_PREFIX.as_bytes()))
    }

    /// The same, to be unpacked into `room` if it has none of its own.
    fn with_room(self, mut room: Vec<u8>) -> Content {
        match self {
            Content::Frame(frame) if frame.room.capacity() == 0 => {
                Content::Frame(Frame { room, ..frame })
            }
            Content::Lines(lines) if room.capacity() > lines.capacity() => {
                room.clear();
                room.extend_from_slice(&lines);
                Content::Lines(room)
            }
            other => other,
        }
    }
}

/// Whether these lines can only be the checkpoint of the records before them, right or wrong.
fn is_checkpoint(lines: &[u8]) -> bool {
    lines.starts_with(STATE_PREFIX.as_bytes())
        && !matches!(Control::parse(lines), Ok(Control::Manifest(_)))
}

/// Whether the last line is a control line.
fn ends_with_control(lines: &[u8]) -> bool {
    let body = lines.strip_suffix(b"\n").unwrap_or(lines);
    let last = memchr::memrchr(b'\n', body).map_or(0, |n| n + 1);
    body[last..].starts_with(STATE_PREFIX.as_bytes())
}

impl Packed {
    /// The bytes of its lines; of a frame as it promises them.
    pub fn size(&self) -> usize {
        let content = match &self.content {
            Content::Lines(lines) => lines.len(),
            Content::Frame(frame) => frame.content,
        };
        content + self.checkpoint.len()
    }

    /// Whether it is a control line alone, as the manifest is.
    pub(crate) fn is_control(&self) -> bool {
        self.content.is_control()
    }
}

/// A frame of the file, up to its end or to what is wrong with it.
struct Frame {
    bytes: Vec<u8>,
    /// The bytes of its content.
    content: usize,
    /// A buffer for them.
    room: Vec<u8>,
}

/// Decompresses frames.
pub struct Unpacker {
    decoder: Decoder<'static>,
    /// Where the buffers of frames go back to.
    used: Sender<Vec<u8>>,
}

impl Unpacker {
    fn new(used: Sender<Vec<u8>>) -> Result<Unpacker> {
        let create = || -> std::io::Result<Decoder<'static>> {
            let mut decoder = Decoder::new()?;
            decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
            Ok(decoder)
        };
        create()
            .map(|decoder| Unpacker { decoder, used })
            .map_err(|e| ArchiveError::new(ErrorKind::Internal, "cannot set up zstd").because(e))
    }

    /// The lines of a chunk, its checkpoint behind its records.
    ///
    /// # Errors
    /// A content that is not what its frame says, or the end of the input within the frame.
    pub fn unpack(&mut self, packed: Packed) -> Result<Vec<u8>> {
        let mut lines = self.lines(packed.content)?;
        if !packed.checkpoint.is_empty() && !lines.ends_with(b"\n") {
            return Err(ArchiveError::new(
                ErrorKind::Damaged,
                "a frame of records does not end with a line end",
            ));
        }
        lines.extend_from_slice(&packed.checkpoint);
        Ok(lines)
    }

    fn lines(&mut self, content: Content) -> Result<Vec<u8>> {
        match content {
            Content::Lines(lines) => Ok(lines),
            Content::Frame(Frame { bytes, content, room }) => {
                let lines = self.content(&bytes, content, room)?;
                // the container may have come to its end: it needs no more
                let _ = self.used.send(bytes);
                Ok(lines)
            }
        }
    }

    /// Decompresses `bytes` into `out`.
    fn content(&mut self, bytes: &[u8], content: usize, mut out: Vec<u8>) -> Result<Vec<u8>> {
        self.decoder.reinit().map_err(broken)?;
        // grown in steps, so that a header that promises much costs little; never larger, whatever
        // was in the buffer before, because zstd's words about damage depend on its room
        let mut room = content.min(16 << 20) + 1;
        let (mut used, mut filled) = (0, 0);
        if out.capacity() < room {
            // with room for the next one: what is outgrown would stay with the process
            let usual = if content > CONTROL_LINE { CHUNK_TARGET + SLACK } else { 0 };
            out = Vec::with_capacity(usual.max(room + CONTROL_SLACK));
        }
        out.resize(room, 0);
        loop {
            let mut source = InBuffer::around(&bytes[used..]);
            let mut target = OutBuffer::around_pos(&mut out[..], filled);
            let hint = self.decoder.run(&mut source, &mut target).map_err(broken)?;
            filled = target.pos();
            used += source.pos();
            if filled > content {
                return Err(broken("the content is longer than the frame says"));
            }
            if hint == 0 {
                break;
            }
            if filled == out.len() {
                room = (room * 2).min(content + 1);
                out.resize(room, 0);
            } else if used == bytes.len() {
                return Err(truncated("the middle of a frame"));
            }
        }
        out.truncate(filled);
        if out.len() != content {
            return Err(broken("the content is shorter than the frame says"));
        }
        Ok(out)
    }
}

/// The head, the chunks and the manifest of an archive's file.
///
/// A chunk is one frame of records and one with their checkpoint. Archives of the first versions of this program have
/// both in one frame; so what follows a frame of records is looked at before the chunk is handed on.
pub struct Container<R> {
    input: Input<R>,
    framing: Framing,
    limits: Limits,
    entries: Vec<Entry>,
    /// How many were handed on, the head included.
    chunks: u64,
    /// What was read behind a chunk and does not belong to it.
    behind: Option<Result<Content>>,
    unpacker: Unpacker,
    /// Where the buffers of frames come back, and the other end of it for unpackers.
    used: Receiver<Vec<u8>>,
    to_us: Sender<Vec<u8>>,
}

impl<R: Read> Container<R> {
    /// Looks at the first bytes.
    ///
    /// # Errors
    /// If they start neither a zstd frame nor an NDJSON line, or zstd cannot be set up.
    pub fn open(reader: R, limits: Limits) -> Result<Container<R>> {
        let mut input = Input { reader, buffer: Vec::new(), at: 0, consumed: 0 };
        let framing = match input.peek(4)? {
            [] => {
                return Err(ArchiveError::new(ErrorKind::Empty, "the input is empty"));
            }
            magic if magic == ZSTD_MAGIC => Framing::Zstd,
            [b'{', ..] => Framing::Bare,
            part if ZSTD_MAGIC.starts_with(part) => return Err(truncated("its first bytes")),
            _ => return Err(not_an_archive()),
        };
        if framing == Framing::Bare {
            // looked at here, because the head of another file may never end
            let start = input.peek(HEADER_PREFIX.len())?;
            if !HEADER_PREFIX.as_bytes().starts_with(start) {
                return Err(foreign(framing));
            }
        }
        let (to_us, used) = channel();
        Ok(Container {
            input,
            framing,
            limits,
            entries: Vec::new(),
            chunks: 0,
            behind: None,
            unpacker: Unpacker::new(to_us.clone())?,
            used,
            to_us,
        })
    }

    /// Goes on in the middle of an archive, where `reader` is before a chunk.
    pub fn go_on_with(&mut self, reader: R) {
        self.input = Input { reader, buffer: Vec::new(), at: 0, consumed: 0 };
        self.entries.clear();
        self.chunks = 1;
        self.behind = None;
    }

    /// An unpacker for the chunks of this container, to be used by another thread.
    ///
    /// # Errors
    /// If zstd cannot be set up.
    pub fn unpacker(&self) -> Result<Unpacker> {
        Unpacker::new(self.to_us.clone())
    }

    /// The lines of a chunk, as [`Unpacker::unpack`] finds them.
    ///
    /// # Errors
    /// As there.
    pub fn unpack(&mut self, packed: Packed) -> Result<Vec<u8>> {
        self.unpacker.unpack(packed)
    }

    /// What the first bytes are.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The frames read so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes of the file read so far.
    pub fn consumed(&self) -> u64 {
        self.input.consumed
    }

    /// Reads the next chunk, perhaps into `room`; None at a clean end between two chunks.
    ///
    /// # Errors
    /// An end within a chunk, or a frame over a limit.
    pub fn next_chunk(&mut self, room: Vec<u8>) -> Result<Option<Packed>> {
        let content = match self.behind.take() {
            Some(behind) => Some(behind?.with_room(room)),
            None => self.next_content(room)?,
        };
        let Some(content) = content else { return Ok(None) };
        let is_head = self.chunks == 0;
        self.chunks += 1;
        if self.framing == Framing::Bare || is_head || content.is_control() {
            return Ok(Some(Packed { content, checkpoint: Vec::new() }));
        }
        self.with_checkpoint(content).map(Some)
    }

    /// A chunk of these records with what follows them, if that is their checkpoint.
    fn with_checkpoint(&mut self, content: Content) -> Result<Packed> {
        let alone = |content| Packed { content, checkpoint: Vec::new() };
        let end = match self.next_content(Vec::new()) {
            Ok(Some(Content::Lines(checkpoint))) if is_checkpoint(&checkpoint) => {
                return Ok(Packed { content, checkpoint });
            }
            Ok(Some(other)) => {
                self.behind = Some(Ok(other));
                return Ok(alone(content));
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        // an error in this place is the chunk's own, unless it ends with its checkpoint
        let lines = self.unpacker.lines(content)?;
        if lines.ends_with(b"\n") && !ends_with_control(&lines) {
            return Err(
                end.unwrap_or_else(|| truncated("the space between a chunk and its checkpoint"))
            );
        }
        self.behind = end.map(Err);
        Ok(alone(Content::Lines(lines)))
    }

    /// Reads the next frame, or the next lines up to a control line. A frame that is small enough for a control line is
    /// decompressed at once, to see whether it is one.
    fn next_content(&mut self, mut room: Vec<u8>) -> Result<Option<Content>> {
        if self.input.peek(1)?.is_empty() {
            return Ok(None);
        }
        let most = self.limits.frame_content;
        let is_head = self.chunks == 0;
        if self.framing == Framing::Bare {
            self.read_lines(&mut room, if is_head { HEAD_FRAME } else { most + CONTROL_LINE })?;
            return Ok(Some(Content::Lines(room)));
        }
        let frame = self.read_frame(room, if is_head { HEAD_FRAME.min(most) } else { most })?;
        let is_small = frame.content <= CONTROL_LINE;
        let content = Content::Frame(frame);
        let content =
            if is_small { Content::Lines(self.unpacker.lines(content)?) } else { content };
        Ok(Some(content))
    }

    /// Everything behind the manifest, as far as `limit` bytes.
    pub fn rest(&mut self, limit: usize) -> Result<&[u8]> {
        let len = self.input.peek(limit)?.len();
        let start = self.input.at;
        self.input.consume(len);
        Ok(&self.input.buffer[start..start + len])
    }

    /// Reads a frame block by block (RFC 8878, 3.1.1.2), up to its end or to the first block that
    /// is none: decompression finds that too, or an earlier error.
    fn read_frame(&mut self, room: Vec<u8>, limit: usize) -> Result<Frame> {
        let header = self.frame_header(limit)?;
        let start = self.input.consumed;
        let mut bytes = self.used.try_recv().unwrap_or_default();
        bytes.clear();
        bytes.shrink_to(KEPT);
        // at once, and not by doubling: what is left behind in between would stay with the process
        bytes.reserve((header.content / 2).min(FRAME));
        let mut whole = self.input.take(header.length, &mut bytes)?;
        while whole && self.input.take(3, &mut bytes)? {
            let block = little_endian(&bytes[bytes.len() - 3..]);
            let size = usize::try_from(block >> 3).unwrap_or(usize::MAX);
            let stored = match block >> 1 & 3 {
                0 | 2 if size <= BLOCK => size,
                1 => 1,
                _ => break,
            };
            let last = block & 1 == 1;
            // the checksum follows the last block
            whole = self.input.take(if last { stored + 4 } else { stored }, &mut bytes)?;
            if last {
                break;
            }
            // blocks may be empty, and without an end
            if bytes.len() > 2 * header.content + HEAD_FRAME {
                return Err(broken("the frame is far longer than its content"));
            }
        }
        self.entries.push(Entry {
            compressed: u32::try_from(self.input.consumed - start).unwrap_or(u32::MAX),
            decompressed: u32::try_from(header.content).unwrap_or(u32::MAX),
            checksum: seek_table::number(&bytes, bytes.len().saturating_sub(4)).unwrap_or(0),
        });
        Ok(Frame { bytes, content: header.content, room })
    }

    fn frame_header(&mut self, limit: usize) -> Result<FrameHeader> {
        let header = FrameHeader::parse(self.input.peek(18)?)?;
        let refuse = |what: String| Err(ArchiveError::new(ErrorKind::Recompressed, what));
        if header.window > 1 << WINDOW_LOG {
            return refuse("a frame asks for a window of more than 8 MiB".into());
        }
        if !header.checksum {
            return refuse("a frame carries no checksum".into());
        }
        if header.content > limit {
            return refuse(format!("a frame holds {} bytes, the limit is {limit}", header.content));
        }
        Ok(header)
    }

    /// Reads lines up to the next control line, or for the head up to the one after the header.
    fn read_lines(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<()> {
        out.clear();
        let mut lines = 0;
        loop {
            let start = out.len();
            self.read_line(out)?;
            if out.len() > limit {
                return Err(ArchiveError::new(
                    ErrorKind::Damaged,
                    format!("more than {limit} bytes without a checkpoint"),
                ));
            }
            let header = self.chunks == 0 && lines == 0;
            if !header && out[start..].starts_with(STATE_PREFIX.as_bytes()) {
                return Ok(());
            }
            lines += 1;
        }
    }

    fn read_line(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        loop {
            if self.input.left().is_empty() && !self.input.fill()? {
                return Err(truncated("the middle of a chunk"));
            }
            let left = self.input.left();
            let end = memchr::memchr(b'\n', left);
            let taken = end.map_or(left.len(), |n| n + 1);
            out.extend_from_slice(&left[..taken]);
            self.input.consume(taken);
            if out.len() - start > self.limits.record_line {
                return Err(ArchiveError::new(
                    ErrorKind::Damaged,
                    format!("a line is longer than {} bytes", self.limits.record_line),
                ));
            }
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ArchiveError {
    ArchiveError::new(ErrorKind::Damaged, "a frame does not decompress").because(cause)
}

/// The error of an archive that ends in `place`.
pub fn truncated(place: &str) -> ArchiveError {
    ArchiveError::new(
        ErrorKind::Truncated,
        format!("the archive ends in {place}, before its manifest"),
    )
}

/// The error of an input whose first line is not a header.
pub fn foreign(framing: Framing) -> ArchiveError {
    let what = match framing {
        Framing::Zstd => "this zstd file is not a chronicle-dump archive",
        Framing::Bare => "these JSON lines are not a chronicle-dump archive",
    };
    ArchiveError::new(ErrorKind::NotAnArchive, format!("{what}: its first line is not a header"))
}

fn not_an_archive() -> ArchiveError {
    ArchiveError::new(
        ErrorKind::NotAnArchive,
        "this is not an archive: it starts neither with a zstd frame nor with a JSON line",
    )
}
