//! Reading the outermost layer: zstd frames one by one, or bare lines, as pieces that end with a
//! control line; nothing of a frame is allocated before its header was checked.

use std::io::Read;

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

use super::line::{HEADER_PREFIX, STATE_PREFIX};
use super::seek::Entry;
use super::{CONTROL_LINE, FRAME_CONTENT, HEAD_FRAME, RECORD_LINE, WINDOW_LOG};
use crate::error::{Code, Error, Result};

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
        read.map_err(|e| Error::new(Code::Source, "the archive cannot be read").because(e))?;
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

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
        self.consumed += bytes as u64;
    }
}

/// The pieces of an archive's file: the head, each chunk, the manifest.
pub struct Container<R> {
    input: Input<R>,
    framing: Framing,
    decoder: Option<Decoder<'static>>,
    limits: Limits,
    entries: Vec<Entry>,
    pieces: u64,
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
                return Err(Error::new(Code::NotAnArchive, "the input is empty")
                    .hint("if it comes through a pipe, look at what the sending side says"));
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
        let decoder = match framing {
            Framing::Zstd => Some(decoder()?),
            Framing::Bare => None,
        };
        Ok(Container { input, framing, decoder, limits, entries: Vec::new(), pieces: 0 })
    }

    /// Goes on in the middle of an archive, where `reader` stands before a chunk.
    pub fn within(reader: R, framing: Framing, limits: Limits) -> Container<R> {
        let input = Input { reader, buffer: Vec::new(), at: 0, consumed: 0 };
        Container { input, framing, decoder: None, limits, entries: Vec::new(), pieces: 1 }
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

    /// Reads the next piece into `out`; false at a clean end between two pieces.
    ///
    /// # Errors
    /// An end within a piece, a frame over a limit, or a content that is not what its frame says.
    pub fn next_piece(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        if self.input.peek(1)?.is_empty() {
            out.clear();
            return Ok(false);
        }
        let limit =
            if self.pieces == 0 { HEAD_FRAME } else { self.limits.frame_content + CONTROL_LINE };
        match self.framing {
            Framing::Zstd => self.read_frame(out, limit.min(self.limits.frame_content))?,
            Framing::Bare => self.read_lines(out, limit)?,
        }
        self.pieces += 1;
        Ok(true)
    }

    /// Everything behind the manifest, as far as `limit` bytes.
    pub fn rest(&mut self, limit: usize) -> Result<&[u8]> {
        let len = self.input.peek(limit)?.len();
        let start = self.input.at;
        self.input.consume(len);
        Ok(&self.input.buffer[start..start + len])
    }

    fn read_frame(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<()> {
        let header = self.frame_header(limit)?;
        let start = self.input.consumed;
        let mut tail = [0; 4];
        let mut decoder = self.decoder.take().map_or_else(decoder, Ok)?;
        decoder.reinit().map_err(broken)?;
        // grown in steps, so that a header that promises much costs little; never larger, whatever
        // was in the buffer before, because zstd's words about damage depend on its room
        let mut room = header.content.min(16 << 20) + 1;
        let mut filled = 0;
        out.resize(room, 0);
        loop {
            if self.input.left().is_empty() && !self.input.fill()? {
                return Err(truncated("the middle of a frame"));
            }
            let mut source = InBuffer::around(self.input.left());
            let mut target = OutBuffer::around_pos(&mut out[..], filled);
            let hint = decoder.run(&mut source, &mut target).map_err(broken)?;
            filled = target.pos();
            let used = source.pos();
            keep_tail(&mut tail, &self.input.left()[..used]);
            self.input.consume(used);
            if filled > header.content {
                return Err(broken("the content is longer than the frame says"));
            }
            if hint == 0 {
                break;
            }
            if filled == out.len() {
                room = (room * 2).min(header.content + 1);
                out.resize(room, 0);
            }
        }
        out.truncate(filled);
        self.decoder = Some(decoder);
        if out.len() != header.content {
            return Err(broken("the content is shorter than the frame says"));
        }
        self.entries.push(Entry {
            compressed: u32::try_from(self.input.consumed - start).unwrap_or(u32::MAX),
            decompressed: u32::try_from(out.len()).unwrap_or(u32::MAX),
            checksum: u32::from_le_bytes(tail),
        });
        Ok(())
    }

    fn frame_header(&mut self, limit: usize) -> Result<FrameHeader> {
        let header = FrameHeader::parse(self.input.peek(18)?)?;
        let refuse = |what: String| {
            Err(Error::new(Code::ArchiveDamaged, what).hint(
                "if the archive was compressed anew by another program, decompress it on the way: \
                 zstd -dc FILE | chronicle-dump verify -",
            ))
        };
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
                return Err(Error::new(
                    Code::ArchiveDamaged,
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
                return Err(Error::new(
                    Code::ArchiveDamaged,
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
            return Err(Error::new(
                Code::ArchiveDamaged,
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
        let refuse = |what: &str| {
            Some(Err(Error::new(Code::ArchiveDamaged, what).hint(
                "if the archive was compressed anew by another program, decompress it on the way: \
             zstd -dc FILE | chronicle-dump verify -",
            )))
        };
        if size_bytes == 0 {
            return refuse("a frame does not say the size of its content");
        }
        if dictionary != 0 {
            return refuse("a frame asks for a dictionary");
        }
        Some(Ok(FrameHeader {
            content: usize::try_from(content).unwrap_or(usize::MAX),
            window: if single_segment { content } else { window },
            checksum: descriptor & 4 != 0,
        }))
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Keeps the last four bytes of everything seen.
fn keep_tail(tail: &mut [u8; 4], bytes: &[u8]) {
    for byte in &bytes[bytes.len().saturating_sub(4)..] {
        tail.rotate_left(1);
        tail[3] = *byte;
    }
}

fn decoder() -> Result<Decoder<'static>> {
    let made = || -> std::io::Result<Decoder<'static>> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(decoder)
    };
    made().map_err(|e| Error::new(Code::Internal, "cannot set up zstd").because(e))
}

fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Code::ArchiveDamaged, "a frame does not decompress").because(cause)
}

/// The error of an archive that ends in `place`.
pub fn truncated(place: &str) -> Error {
    Error::new(Code::ArchiveTruncated, format!("the archive ends in {place}, before its manifest"))
        .hint("it was cut on its way or is still being written; fetch or make it again")
}

/// The error of an input whose first line is not a header.
pub fn foreign(framing: Framing) -> Error {
    let what = match framing {
        Framing::Zstd => "this zstd file is not an archive of chronicle-dump",
        Framing::Bare => "these JSON lines are not an archive of chronicle-dump",
    };
    Error::new(Code::NotAnArchive, format!("{what}: its first line is not a header"))
}

fn not_an_archive() -> Error {
    Error::new(
        Code::NotAnArchive,
        "this is not an archive: it starts neither with a zstd frame nor with a JSON line",
    )
    .hint("give the file that `chronicle-dump export` wrote; a .db file is exported first")
}
