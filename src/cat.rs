//! Cat: the rows of an archive as lines of JSON, each printed only after its chunk was verified.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::atomic::Ordering;

use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::notice::Notice;
use crate::part::{Need, Selector, resolve};
use crate::progress::Progress;
use crate::selection::Selection;
use crate::verify::{inspect, read_entries};
use chronicle_archive::control::schema_line;
use chronicle_archive::json::{Scanner, write_string};
use chronicle_archive::{ArchiveReader, Limits};
use chronicle_archive::{Batch, Kind, Stream, show_text};

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The record alone, or in an object with its stream if all streams are printed.
    Json,
    /// The lines of the archive: a Singer stream.
    Singer,
}

/// What is printed, and how.
#[derive(Debug, Clone)]
pub struct CatOptions {
    /// The only stream wanted, if not all are.
    pub stream: Option<String>,
    /// How rows are printed.
    pub form: Form,
    /// Whether JSON columns are printed as strings, in either form.
    pub json_as_string: bool,
}

/// What was printed.
#[derive(Debug, Clone)]
pub struct Printed {
    /// The rows printed of each stream wanted.
    pub rows: Vec<(String, u64)>,
    /// The rows left out because their time cannot be read.
    pub unreadable_times: u64,
    /// What people should know of rows that were left out.
    pub left_out: Vec<Notice>,
    /// The archive digest, if the archive was read and checked as a whole.
    pub digest: Option<String>,
}

/// Opens an archive in a file right before the chunks of `stream`, if its seek table has their position, and returns
/// whether it does. The table is not trusted: the chunk before them is read too and must be of an earlier stream.
///
/// # Errors
/// If the head is that of no archive, or the file cannot be read.
pub fn open_at(mut file: File, stream: &str) -> Result<(ArchiveReader<File>, bool)> {
    let place = find(&mut file, stream)?;
    rewind(&mut file, 0)?;
    let mut reader = ArchiveReader::open(share(&file)?, Limits::default())?;
    let Some((chunk, offset)) = place else { return Ok((reader, false)) };
    if chunk == 0 {
        return Ok((reader, true));
    }
    rewind(&mut file, offset)?;
    reader.jump(share(&file)?, chunk);
    let mut batch = Batch::default();
    let position = reader.streams().iter().position(|s| s.name == stream);
    let read = reader.next_batch(&mut batch);
    if matches!(read, Ok(true)) && position.is_some_and(|position| batch.stream() < position) {
        return Ok((reader, true));
    }
    rewind(&mut file, 0)?;
    Ok((ArchiveReader::open(file, Limits::default())?, false))
}

/// The number and the place of the chunk before the first one of a stream, from the manifest and the seek table.
fn find(file: &mut File, stream: &str) -> Result<Option<(u64, u64)>> {
    let Some(inspected) = inspect(file, Limits::default())? else { return Ok(None) };
    let Some((entries, _)) = read_entries(file) else { return Ok(None) };
    let extents = &inspected.manifest.extents;
    if !extents.iter().any(|(name, _)| name == stream) {
        return Ok(None);
    }
    let before = extents.iter().take_while(|(name, _)| name != stream);
    let chunk: u64 = before.map(|(_, extent)| extent.chunks).fold(0, u64::saturating_add);
    // a chunk is a frame of records and one of its checkpoint; in archives of the first versions both are one frame
    let chunks = inspected.manifest.chunks;
    let frame = match u64::try_from(entries.len()).unwrap_or(u64::MAX) {
        frames if Some(frames) == chunks.checked_mul(2) => {
            chunk.saturating_mul(2).saturating_sub(1)
        }
        frames if Some(frames) == chunks.checked_add(1) => chunk,
        _ => return Ok(None),
    };
    let frames = usize::try_from(frame).ok().and_then(|frame| entries.get(..frame));
    Ok(frames.map(|f| (chunk, f.iter().map(|e| u64::from(e.compressed)).sum())))
}

fn rewind(file: &mut File, to: u64) -> Result<()> {
    file.seek(SeekFrom::Start(to)).map(drop).map_err(unreadable)
}

fn share(file: &File) -> Result<File> {
    file.try_clone().map_err(unreadable)
}

fn unreadable(cause: std::io::Error) -> Error {
    Error::new(Code::Source, "the archive cannot be read").because(cause)
}

/// Prints what is wanted of a file, of which no more is read than that takes.
///
/// # Errors
/// As [`cat`].
pub fn cat_file(
    file: File,
    options: &CatOptions,
    selection: &Selection,
    out: &mut dyn Write,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Printed> {
    let selector = match selection.is_everything() {
        true => None,
        false => informed(share(&file)?, options, selection, cancel)?,
    };
    let alone =
        |stream: &String| selector.as_ref().is_none_or(|selector| selector.decides_alone(stream));
    let (reader, partial) = match options.stream.as_ref().filter(|stream| alone(stream)) {
        Some(stream) => open_at(file, stream)?,
        None => {
            let mut file = file;
            rewind(&mut file, 0)?;
            (ArchiveReader::open(file, Limits::default())?, false)
        }
    };
    cat(reader, options, (selector, partial), out, progress, cancel)
}

/// The selector of an archive, which knows what it has to know before rows come.
fn informed(
    mut file: File,
    options: &CatOptions,
    selection: &Selection,
    cancel: &Cancel,
) -> Result<Option<Selector>> {
    rewind(&mut file, 0)?;
    let mut reader = ArchiveReader::open(file, Limits::default())?;
    let Some(mut selector) = selector(&reader, selection)? else { return Ok(None) };
    let is_wanted = wanted(reader.streams(), options);
    let Some(needs) = selector.first_pass(|n| is_wanted[n]) else { return Ok(Some(selector)) };
    let last = needs.iter().rposition(|need| *need != Need::Nothing);
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch)? && Some(batch.stream()) <= last {
        if needs[batch.stream()] != Need::Nothing {
            selector.learn(&batch)?;
        }
        cancel.check()?;
    }
    Ok(Some(selector))
}

/// The selector of an archive that is read; None if it has what is wanted and nothing else.
///
/// # Errors
/// If the selection asks for what the archive does not have.
pub fn selector<R: std::io::Read>(
    reader: &ArchiveReader<R>,
    selection: &Selection,
) -> Result<Option<Selector>> {
    let header = reader.header();
    if selection.is_all_of(header) {
        return Ok(None);
    }
    resolve(selection, reader.streams(), header.source.time_zone.as_deref()).map(Some)
}

/// Which streams are wanted.
fn wanted(streams: &[Stream], options: &CatOptions) -> Vec<bool> {
    let is_wanted = |s: &Stream| options.stream.as_ref().is_none_or(|name| *name == s.name);
    streams.iter().map(is_wanted).collect()
}

/// Prints the rows that the selector keeps, or all. With `partial` it ends after the stream that is wanted; else it reads
/// and checks the archive to its end.
///
/// # Errors
/// Anything wrong with the archive: what was printed before is of whole, verified chunks. A stream that the archive
/// lacks, or an output that cannot be written.
pub fn cat<R: std::io::Read>(
    mut reader: ArchiveReader<R>,
    options: &CatOptions,
    (mut selector, partial): (Option<Selector>, bool),
    out: &mut dyn Write,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Printed> {
    let mut streams = selected(&reader, options)?;
    let mut buffer = Vec::new();
    if options.form == Form::Singer {
        head(&reader, &streams, options.json_as_string, &mut buffer)?;
    }
    flush(&mut buffer, out)?;
    let last = streams.iter().rposition(Option::is_some).unwrap_or(0);
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch)? {
        if partial && batch.stream() > last {
            break;
        }
        let kept = selector.as_mut().map(|selector| selector.keep(&batch)).transpose()?;
        if let Some(printer) = &mut streams[batch.stream()] {
            printer.print(&batch, kept, options, &mut buffer);
            flush(&mut buffer, out)?;
        }
        progress.add_rows(batch.rows());
        progress.bytes.store(reader.consumed(), Ordering::Relaxed);
        cancel.check()?;
    }
    if options.form == Form::Singer && reader.sealed().is_some() {
        buffer.extend_from_slice(reader.tail());
        flush(&mut buffer, out)?;
    }
    let rows = streams.into_iter().flatten().map(|p| (p.stream.name, p.rows)).collect();
    Ok(Printed {
        rows,
        unreadable_times: selector.as_ref().map_or(0, Selector::unreadable_times),
        left_out: selector.as_ref().map_or_else(Vec::new, Selector::left_out),
        digest: reader.sealed().map(|sealed| sealed.digest.clone()),
    })
}

fn flush(buffer: &mut Vec<u8>, out: &mut dyn Write) -> Result<()> {
    out.write_all(buffer).and_then(|()| out.flush()).map_err(|e| Error::writing("stdout", e))?;
    buffer.clear();
    Ok(())
}

/// A printer for each stream that is wanted.
fn selected<R: std::io::Read>(
    reader: &ArchiveReader<R>,
    options: &CatOptions,
) -> Result<Vec<Option<Printer>>> {
    let streams = reader.streams();
    if let Some(name) = &options.stream
        && !streams.iter().any(|s| s.name == *name)
    {
        let names: Vec<&str> = streams.iter().map(|s| s.name.as_str()).collect();
        let message = format!("the archive has no stream {}", show_text(name));
        return Err(
            Error::new(Code::Usage, message).hint(format!("its streams: {}", names.join(", ")))
        );
    }
    let is_wanted = wanted(streams, options);
    (streams.iter().enumerate())
        .map(|(n, stream)| {
            if !is_wanted[n] {
                return Ok(None);
            }
            if let Some(kind) = reader.unknown_kind(n) {
                return Err(Error::new(
                    Code::ArchiveUnsupported,
                    format!("{} holds the unknown kind \"{}\"", stream.name, show_text(kind)),
                )
                .hint("install a newer chronicle-dump"));
            }
            Ok(Some(Printer::new(stream.clone())))
        })
        .collect()
}

/// The lines of the head that belong to the wanted streams.
fn head<R: std::io::Read>(
    reader: &ArchiveReader<R>,
    streams: &[Option<Printer>],
    json_as_string: bool,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut lines = reader.head().split_inclusive(|byte| *byte == b'\n');
    out.extend_from_slice(lines.next().unwrap_or_default());
    for (printer, line) in streams.iter().zip(lines.by_ref()) {
        match printer {
            Some(printer) if json_as_string => {
                out.extend_from_slice(schema_line(&printer.as_strings())?.as_bytes());
            }
            Some(_) => out.extend_from_slice(line),
            None => {}
        }
    }
    lines.for_each(|line| out.extend_from_slice(line));
    Ok(())
}

/// Prints the rows of one stream.
struct Printer {
    stream: Stream,
    /// The bytes before a record.
    start: usize,
    rows: u64,
    scanner: Scanner,
}

impl Printer {
    fn new(stream: Stream) -> Printer {
        let start = format!("{{\"type\":\"RECORD\",\"stream\":\"{}\",\"record\":", stream.name);
        Printer { start: start.len(), stream, rows: 0, scanner: Scanner::default() }
    }

    /// The stream, its JSON columns being texts.
    fn as_strings(&self) -> Stream {
        let mut stream = self.stream.clone();
        for column in stream.columns.iter_mut().filter(|c| is_json(c.kind)) {
            column.kind = Kind::Text;
        }
        stream
    }

    /// Prints those rows of a chunk that are kept, or all.
    fn print(
        &mut self,
        batch: &Batch,
        kept: Option<&[bool]>,
        options: &CatOptions,
        out: &mut Vec<u8>,
    ) {
        let mut strings = Vec::new();
        let mut lines = batch.adopted().split_inclusive(|byte| *byte == b'\n');
        for (row, line) in lines.by_ref().take(batch.rows()).enumerate() {
            if kept.is_some_and(|kept| kept.get(row) != Some(&true)) {
                continue;
            }
            self.rows += 1;
            if options.json_as_string {
                strings.clear();
                self.write_as_strings(line, &mut strings);
                self.print_line(&strings, options, out);
            } else {
                self.print_line(line, options, out);
            }
        }
        if options.form == Form::Singer {
            lines.for_each(|checkpoint| out.extend_from_slice(checkpoint));
        }
    }

    /// Prints a RECORD line in the form that was asked for.
    fn print_line(&mut self, line: &[u8], options: &CatOptions, out: &mut Vec<u8>) {
        match options.form {
            Form::Json if options.stream.is_some() => {
                out.extend_from_slice(self.record(line));
                out.push(b'\n');
            }
            Form::Json => {
                out.extend_from_slice(b"{\"stream\":\"");
                out.extend_from_slice(self.stream.name.as_bytes());
                out.extend_from_slice(b"\",\"record\":");
                out.extend_from_slice(self.record(line));
                out.extend_from_slice(b"}\n");
            }
            Form::Singer => out.extend_from_slice(line),
        }
    }

    /// The record of a RECORD line.
    fn record<'a>(&mut self, line: &'a [u8]) -> &'a [u8] {
        let rest = line.get(self.start..).unwrap_or_default();
        let (length, _) = self.scanner.scan_prefix(rest);
        &rest[..length]
    }

    /// The line with the values of JSON columns as strings. It was verified: names and values are where the format
    /// wants them.
    fn write_as_strings(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let mut at = self.start;
        let (mut printed, mut name) = (0, Vec::new());
        for column in &self.stream.columns {
            name.clear();
            write_string(&mut name, &column.name);
            at += name.len() + 2;
            let rest = line.get(at..).unwrap_or_default();
            let (length, _) = self.scanner.scan_prefix(rest);
            if is_json(column.kind) && rest.starts_with(b"{") {
                out.extend_from_slice(&line[printed..at]);
                write_string(out, &String::from_utf8_lossy(&rest[..length]));
                printed = at + length;
            }
            at += length;
        }
        out.extend_from_slice(line.get(printed..).unwrap_or_default());
    }
}

fn is_json(kind: Kind) -> bool {
    matches!(kind, Kind::Json | Kind::Jsonb)
}
