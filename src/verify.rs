//! Verify and inspect: what an archive is, from all of its bytes or only from its ends.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::sync::atomic::Ordering;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::progress::Progress;
pub use chronicle_archive::Sealed;
use chronicle_archive::control::Control;
use chronicle_archive::limits::CONTROL_LINE;
use chronicle_archive::read::frames::Container;
use chronicle_archive::{ArchiveReader, Header, Limits, Manifest, seek_table, sha256};
use chronicle_archive::{Batch, Stream};

/// An archive that passed every check.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The header.
    pub header: Header,
    /// The streams.
    pub streams: Vec<Stream>,
    /// The manifest.
    pub sealed: Sealed,
    /// The row digest of each stream, if it was asked for.
    pub row_digests: Vec<(String, String)>,
    /// Streams whose rows could not be decoded, with the unknown kind; their checksums are right.
    pub undecoded: Vec<(String, String)>,
}

/// Reads an archive from its first to its last byte and checks everything; `row_digests` also
/// computes those and compares them with the manifest's.
///
/// # Errors
/// The first thing that is wrong, or a stop.
pub fn verify(
    input: impl Read + Send + 'static,
    limits: Limits,
    row_digests: bool,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Verified> {
    let nothing = (|_: &[Stream], _: &[bool]| (), |(): &mut (), _: &Batch| ());
    verify_with(input, limits, row_digests, progress, cancel, nothing.0, nothing.1)
        .map(|(verified, ())| verified)
}

/// The same, and hands every batch of rows on once it is verified. `start` makes what `each` changes: it
/// is given the streams, and of each whether its rows are of an unknown kind and do not come.
///
/// # Errors
/// As [`verify`].
pub fn verify_with<T>(
    input: impl Read + Send + 'static,
    limits: Limits,
    row_digests: bool,
    progress: &Progress,
    cancel: &Cancel,
    start: impl FnOnce(&[Stream], &[bool]) -> T,
    each: impl Fn(&mut T, &Batch),
) -> Result<(Verified, T)> {
    let mut reader = ArchiveReader::open(input, limits)?;
    if row_digests {
        reader.digest_rows();
    }
    let unknown = |n| reader.unknown_kind(n).is_some();
    let unknown: Vec<bool> = (0..reader.streams().len()).map(unknown).collect();
    let mut seen = start(reader.streams(), &unknown);
    reader.prefetch()?;
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch)? {
        each(&mut seen, &batch);
        progress.add_rows(batch.rows());
        progress.bytes.store(reader.consumed(), Ordering::Relaxed);
        cancel.check()?;
    }
    let undecoded = (reader.streams().iter().enumerate())
        .filter_map(|(n, s)| Some((s.name.clone(), reader.unknown_kind(n)?.to_owned())))
        .collect();
    let sealed = reader.sealed().cloned().ok_or_else(|| {
        crate::error::Error::new(crate::error::Code::Internal, "the archive has no end")
    })?;
    let verified = Verified {
        header: reader.header().clone(),
        streams: reader.streams().to_vec(),
        sealed,
        row_digests: reader.row_digests(),
        undecoded,
    };
    Ok((verified, seen))
}

/// What the ends of an archive say. Nothing between them was looked at.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// The header.
    pub header: Header,
    /// The streams.
    pub streams: Vec<Stream>,
    /// The manifest.
    pub manifest: Manifest,
    /// The archive digest that the manifest gives.
    pub digest: String,
    /// The bytes of the file.
    pub file_bytes: u64,
}

impl From<Verified> for Inspected {
    fn from(verified: Verified) -> Inspected {
        Inspected {
            header: verified.header,
            streams: verified.streams,
            digest: verified.sealed.digest,
            file_bytes: verified.sealed.file_bytes,
            manifest: verified.sealed.manifest,
        }
    }
}

/// Reads only the head, the tail and the seek table of a file; None if it has no usable table.
///
/// # Errors
/// If the head is that of no archive, or the file cannot be read.
pub fn inspect(file: &mut File, limits: Limits) -> Result<Option<Inspected>> {
    let Some((tail, file_bytes)) = read_tail(file) else { return Ok(None) };
    // the file's first bytes, whatever was read before
    if file.seek(SeekFrom::Start(0)).is_err() {
        return Ok(None);
    }
    let head = ArchiveReader::open(&mut *file, limits.clone())?;
    let line = Container::open(Cursor::new(tail), limits).and_then(|mut container| {
        let tail = container.next_chunk(Vec::new())?;
        tail.map(|tail| container.unpack(tail)).transpose()
    });
    let Ok(Some(line)) = line else { return Ok(None) };
    let Ok(Control::Manifest(manifest)) = Control::parse(&line) else { return Ok(None) };
    let digest = sha256(&line);
    Ok(Some(Inspected {
        header: head.header().clone(),
        streams: head.streams().to_vec(),
        manifest,
        digest,
        file_bytes,
    }))
}

/// The frames in the seek table at the end of a file, and the bytes of the file; None if there is no table
/// that agrees with the file's length.
pub(crate) fn read_entries(file: &mut File) -> Option<(Vec<seek_table::Entry>, u64)> {
    let file_bytes = file.seek(SeekFrom::End(0)).ok()?;
    let footer = read_at(
        file,
        file_bytes.checked_sub(seek_table::FOOTER_BYTES as u64)?,
        seek_table::FOOTER_BYTES,
    )?;
    let frames = seek_table::frames(&footer)?;
    let size = seek_table::HEADER_BYTES
        + frames.checked_mul(seek_table::ENTRY_BYTES)?
        + seek_table::FOOTER_BYTES;
    // a table is bounded by its file, whatever it claims
    let start = file_bytes.checked_sub(u64::try_from(size).ok()?)?;
    let entries = seek_table::read(&read_at(file, start, size)?)?;
    let all: u64 = entries.iter().map(|e| u64::from(e.compressed)).sum();
    (all == start).then_some((entries, file_bytes))
}

/// The compressed bytes of the last frame, as the seek table places it.
fn read_tail(file: &mut File) -> Option<(Vec<u8>, u64)> {
    let (entries, file_bytes) = read_entries(file)?;
    let (last, before) = entries.split_last()?;
    let from = before.iter().map(|e| u64::from(e.compressed)).sum();
    let length = usize::try_from(last.compressed).ok()?;
    let plausible = last.decompressed as usize <= CONTROL_LINE;
    Some((read_at(file, from, length).filter(|_| plausible)?, file_bytes))
}

fn read_at(file: &mut File, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(at)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}
