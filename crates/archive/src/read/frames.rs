//! Reading the outermost layer: zstd frames one by one, or bare lines, as pieces that end with a
//! control line; nothing of a frame is allocated before its header was checked. A frame may be
//! decompressed elsewhere than it is read.

use std::io::Read;
use std::sync::mpsc::{Receiver, Sender, channel};

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

use crate::control::{HEADER_PREFIX, STATE_PREFIX};
use crate::error::{ArchiveError, ErrorKind, Result};
use crate::limits::{
    CHUNK_TARGET, CONTROL_LINE, FRAME_CONTENT, HEAD_FRAME, RECORD_LINE, WINDOW_LOG,
};
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

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
const BUFFER: usize = 256 << 10;
/// By how much chunks of one archive mostly differ.
const SLACK: usize = 64 << 10;
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
    fn peek(&mut self, wanted: usize) -> Result<&[u8]> {
        while self.left().len() < wanted && self.fill()? {}
        let end = self.left().len().min(wanted);
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

/// A piece as it was read.
pub enum Packed {
    /// Its lines.
    Lines(Vec<u8>),
    /// A frame that holds them.
    Frame(Frame),
}

impl Packed {
    /// The bytes of its lines; of a frame as it promises them.
    pub fn size(&self) -> usize {
        match self {
            Packed::Lines(lines) => lines.len(),
            Packed::Frame(frame) => frame.content,
        }
    }
}

/// A frame as it stands in the file, up to its end or to what is wrong with it.
pub struct Frame {
    bytes: Vec<u8>,
    /// The bytes of its content.
    content: usize,
    /// A buffer for them.
    room: Vec<u8>,
}

/// Decompresses the frames of pieces.
pub struct Unpacker {
    decoder: Decoder<'static>,
    /// Where the buffers of frames go back to.
    used: Sender<Vec<u8>>,
}

impl Unpacker {
    /// The lines of a piece.
    ///
    /// # Errors
    /// A content that is not what its frame says, or the end of the input within the frame.
    pub fn unpack(&mut self, packed: Packed) -> Result<Vec<u8>> {
        match packed {
            Packed::Lines(lines) => Ok(lines),
            Packed::Frame(frame) => self.decompress(frame),
        }
    }

    fn decompress(&mut self, frame: Frame) -> Result<Vec<u8>> {
        let Frame { bytes, content, room } = frame;
        let lines = self.content(&bytes, content, room)?;
        // the container may have come to its end: it needs no more
        let _ = self.used.send(bytes);
        Ok(lines)
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
            out = Vec::with_capacity(room.max(CHUNK_TARGET) + SLACK);
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

/// The pieces of an archive's file: the head, each chunk, the manifest.
pub struct Container<R> {
    input: Input<R>,
    framing: Framing,
    limits: Limits,
    entries: Vec<Entry>,
    pieces: u64,
    /// Where the buffers of frames come back, and the other end of it for unpackers.
    used: Receiver<Vec<u8>>,
    to_us: Sender<Vec<u8>>,
}

impl<R: Read> Container<R> {
    /// Looks at the first bytes.
    ///
    /// # Errors
    /// If they start neither a zstd frame nor an NDJSON line.
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
        Ok(Container::new(input, framing, limits, 0))
    }

    /// Goes on in the middle of an archive, where `reader` stands before a chunk.
    pub fn within(reader: R, framing: Framing, limits: Limits) -> Container<R> {
        let input = Input { reader, buffer: Vec::new(), at: 0, consumed: 0 };
        Container::new(input, framing, limits, 1)
    }

    fn new(input: Input<R>, framing: Framing, limits: Limits, pieces: u64) -> Container<R> {
        let (to_us, used) = channel();
        Container { input, framing, limits, entries: Vec::new(), pieces, used, to_us }
    }

    /// An unpacker for pieces of this container, with the windows that the format allows.
    ///
    /// # Errors
    /// If zstd cannot be set up.
    pub fn unpacker(&self) -> Result<Unpacker> {
        let made = || -> std::io::Result<Decoder<'static>> {
            let mut decoder = Decoder::new()?;
            decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
            Ok(decoder)
        };
        made()
            .map(|decoder| Unpacker { decoder, used: self.to_us.clone() })
            .map_err(|e| ArchiveError::new(ErrorKind::Internal, "cannot set up zstd").because(e))
    }

    /// What the first bytes said.
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

    /// Reads the next piece, perhaps into `room`; None at a clean end between two pieces.
    ///
    /// # Errors
    /// An end within a piece, or a frame over a limit.
    pub fn next_piece(&mut self, mut room: Vec<u8>) -> Result<Option<Packed>> {
        if self.input.peek(1)?.is_empty() {
            return Ok(None);
        }
        let limit =
            if self.pieces == 0 { HEAD_FRAME } else { self.limits.frame_content + CONTROL_LINE };
        let piece = match self.framing {
            Framing::Zstd => {
                Packed::Frame(self.read_frame(room, limit.min(self.limits.frame_content))?)
            }
            Framing::Bare => {
                self.read_lines(&mut room, limit)?;
                Packed::Lines(room)
            }
        };
        self.pieces += 1;
        Ok(Some(piece))
    }

    /// Everything behind the manifest, as far as `limit` bytes.
    pub fn rest(&mut self, limit: usize) -> Result<&[u8]> {
        let len = self.input.peek(limit)?.len();
        let start = self.input.at;
        self.input.consume(len);
        Ok(&self.input.buffer[start..start + len])
    }

    /// Reads a frame block by block (RFC 8878, 3.1.1.2), up to its end or to the first block that
    /// is none: whoever decompresses it finds that too, or something that is wrong before.
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
            let header = self.pieces == 0 && lines == 0;
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

/// What a zstd frame says of itself before its content (RFC 8878, 3.1.1.1).
struct FrameHeader {
    /// Its own bytes.
    length: usize,
    content: usize,
    window: u64,
    checksum: bool,
}

impl FrameHeader {
    fn parse(bytes: &[u8]) -> Result<FrameHeader> {
        let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
            return Err(truncated("the middle of a frame"));
        };
        if *magic != ZSTD_MAGIC {
            return Err(ArchiveError::new(
                ErrorKind::Damaged,
                "something else stands where the next zstd frame should start",
            ));
        }
        Self::parse_descriptor(rest)
            .unwrap_or_else(|| Err(truncated("the middle of a frame header")))
    }

    /// None if there are too few bytes.
    fn parse_descriptor(bytes: &[u8]) -> Option<Result<FrameHeader>> {
        let (descriptor, mut rest) = bytes.split_first()?;
        let single_segment = descriptor & 0x20 != 0;
        let mut window = 0;
        if !single_segment {
            let (byte, after) = rest.split_first()?;
            let base = 1_u64 << (10 + (byte >> 3));
            window = base + base / 8 * u64::from(byte & 7);
            rest = after;
        }
        let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let dictionary = little_endian(rest.get(..dictionary_bytes)?);
        let size_bytes = match descriptor >> 6 {
            0 if single_segment => 1,
            0 => 0,
            flag => 1 << flag,
        };
        let size = little_endian(rest.get(dictionary_bytes..dictionary_bytes + size_bytes)?);
        // a two-byte size starts at 256 (RFC 8878, 3.1.1.1.4)
        let content = if size_bytes == 2 { size + 256 } else { size };
        let refuse = |what: &str| Some(Err(ArchiveError::new(ErrorKind::Recompressed, what)));
        if size_bytes == 0 {
            return refuse("a frame does not say the size of its content");
        }
        if dictionary != 0 {
            return refuse("a frame asks for a dictionary");
        }
        Some(Ok(FrameHeader {
            length: 5 + usize::from(!single_segment) + dictionary_bytes + size_bytes,
            content: usize::try_from(content).unwrap_or(usize::MAX),
            window: if single_segment { content } else { window },
            checksum: descriptor & 4 != 0,
        }))
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
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
        Framing::Zstd => "this zstd file is not an archive of chronicle-dump",
        Framing::Bare => "these JSON lines are not an archive of chronicle-dump",
    };
    ArchiveError::new(ErrorKind::NotAnArchive, format!("{what}: its first line is not a header"))
}

fn not_an_archive() -> ArchiveError {
    ArchiveError::new(
        ErrorKind::NotAnArchive,
        "this is not an archive: it starts neither with a zstd frame nor with a JSON line",
    )
}
