//! The laws of writing and reading archives: what is written reads back, and what is said of it is true.

mod audit;
mod hostile;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chronicle_archive::error::ErrorKind;
use chronicle_archive::limits::{CONTROL_LINE, RECORD_LINE};
use chronicle_archive::time::Instant;
use chronicle_archive::{
    ArchiveReader, ArchiveWriter, CHUNK_TARGET, Header, Index, Limits, Origin, Sealed,
    WriterOptions, Written,
};
use chronicle_archive::{Batch, Column, Kind, Stream, TimeText, Value};
use chronicle_dump::error::{Code, Result};
use proptest::prelude::*;
use sha2::Digest as _;

pub(crate) use audit::{Frame, frames};
use audit::{audit_container, audit_text};
use hostile::{chunk_target, content, way};

// ---- rows that own their bytes --------------------------------------------------------------

/// A value that owns its bytes. Every NaN is the same one; zero and minus zero are not.
#[derive(Debug, Clone)]
pub(crate) enum Owned {
    Null,
    Int(i64),
    Real(f64),
    Bool(bool),
    Time(Instant),
    Uuid([u8; 16]),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Owned {
    pub(crate) fn of(value: Value<'_>) -> Owned {
        match value {
            Value::Null => Owned::Null,
            Value::Int(v) => Owned::Int(v),
            Value::Real(v) => Owned::Real(v),
            Value::Bool(v) => Owned::Bool(v),
            Value::Time(v) => Owned::Time(v),
            Value::Uuid(v) => Owned::Uuid(v),
            Value::Text(v) => Owned::Text(v.to_vec()),
            Value::Blob(v) => Owned::Blob(v.to_vec()),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Owned::Null => Value::Null,
            Owned::Int(v) => Value::Int(*v),
            Owned::Real(v) => Value::Real(*v),
            Owned::Bool(v) => Value::Bool(*v),
            Owned::Time(v) => Value::Time(*v),
            Owned::Uuid(v) => Value::Uuid(*v),
            Owned::Text(v) => Value::Text(v),
            Owned::Blob(v) => Value::Blob(v),
        }
    }
}

impl PartialEq for Owned {
    fn eq(&self, other: &Owned) -> bool {
        match (self, other) {
            (Owned::Real(a), Owned::Real(b)) => {
                a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
            }
            _ => self.value() == other.value(),
        }
    }
}

pub(crate) type Row = Vec<Owned>;

// ---- writing and reading whole archives -----------------------------------------------------

/// Everything that a reader returns of an archive.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) header: Header,
    pub(crate) streams: Vec<Stream>,
    /// The rows of every stream.
    pub(crate) rows: Vec<Vec<Row>>,
    pub(crate) sealed: Sealed,
}

/// Reads an archive to its end.
pub(crate) fn read(input: impl Read) -> Result<Found> {
    let mut reader = ArchiveReader::open(input, Limits::default())?;
    reader.digest_rows();
    let mut rows = vec![Vec::new(); reader.streams().len()];
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch)? {
        let into: &mut Vec<Row> = &mut rows[batch.stream()];
        assert_eq!(batch.first_row(), into.len() as u64 + 1, "the number of a batch's first row");
        let width = reader.streams()[batch.stream()].columns.len();
        into.extend(
            (0..batch.rows()).map(|r| (0..width).map(|c| Owned::of(batch.value(r, c))).collect()),
        );
    }
    assert!(!reader.next_batch(&mut batch)?, "the end stays the end");
    assert_eq!(batch.rows(), 0, "no rows come with the end");
    let sealed = reader.sealed().expect("an archive that ended is sealed").clone();
    let counted: Vec<u64> = rows.iter().map(|rows| rows.len() as u64).collect();
    if (0..rows.len()).all(|n| reader.unknown_kind(n).is_none()) {
        assert_eq!(reader.rows(), counted, "the rows that the reader counted");
    }
    Ok(Found { header: reader.header().clone(), streams: reader.streams().to_vec(), rows, sealed })
}

/// How the bytes of a test's archive are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) level: i32,
    pub(crate) threads: usize,
    pub(crate) seek_table: bool,
    /// The rows of a batch.
    pub(crate) batch: usize,
}

pub(crate) const PLAIN: Way = Way { level: 3, threads: 1, seek_table: true, batch: 16 };

fn header(streams: &[Stream], chunk_target: u64) -> Header {
    let origin = Origin { backend: "sqlite".into(), ..Origin::default() };
    let mut header = Header::new(origin, streams, CHUNK_TARGET);
    header.chunk_target = chunk_target;
    header
}

fn write_to<W: Write + Send + 'static>(
    out: W,
    chunk_target: u64,
    streams: &[Stream],
    rows: &[Vec<Row>],
    way: Way,
) -> Result<(W, Written)> {
    let options = WriterOptions {
        level: way.level,
        threads: way.threads,
        seek_table: way.seek_table,
        row_digests: true,
    };
    let counter = Arc::new(AtomicU64::new(0));
    let header = header(streams, chunk_target);
    let mut writer = ArchiveWriter::create_counted(
        out,
        &header,
        streams.to_vec(),
        options,
        Arc::clone(&counter),
    )?;
    let mut batch = Batch::default();
    for (number, (stream, rows)) in streams.iter().zip(rows).enumerate() {
        for (n, rows) in rows.chunks(way.batch).enumerate() {
            batch.start(number, stream.columns.len(), (n * way.batch) as u64 + 1);
            rows.iter().flatten().for_each(|value| batch.push(value.value()));
            if let Err(error) = writer.write(&batch) {
                // that the writer has stopped is said here, why it has is said at the end
                return Err(writer.finish().err().unwrap_or(error).into());
            }
        }
    }
    let (out, written) = writer.finish()?;
    assert_eq!(written.compressed_bytes, counter.load(Ordering::Relaxed));
    Ok((out, written))
}

pub(crate) fn write(
    chunk_target: u64,
    streams: &[Stream],
    rows: &[Vec<Row>],
    way: Way,
) -> (Vec<u8>, Written) {
    let (bytes, written) = write_to(Vec::new(), chunk_target, streams, rows, way).unwrap();
    assert_eq!(bytes.len() as u64, written.compressed_bytes);
    (bytes, written)
}

/// The decompressed text of all frames.
pub(crate) fn decompress(archive: &[u8]) -> Vec<u8> {
    zstd::decode_all(archive).unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A reader that gives a few bytes at a time, a number that changes, and is interrupted often.
struct Dribble<'a> {
    bytes: &'a [u8],
    most: usize,
    seed: u64,
}

impl Read for Dribble<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let random = (self.seed >> 33) as usize;
        if random.is_multiple_of(5) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = (1 + random % self.most).min(out.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(len);
        out[..len].copy_from_slice(now);
        self.bytes = later;
        Ok(len)
    }
}

// ---- whatever is written ---------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whatever_is_written_reads_back(
        (streams, rows) in content(),
        target in chunk_target(),
        way in way(),
        seed: u64,
    ) {
        let (archive, written) = write(target, &streams, &rows, way);
        let text = audit_container(&archive, way.seek_table);
        audit_text(&text, &streams, &rows, target);
        let last_line = text.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
        prop_assert_eq!(&written.digest, &sha256(last_line));

        let index = if way.seek_table { Index::Good } else { Index::None };
        let dribble = Dribble { bytes: &archive, most: 997, seed };
        let bare_dribble = Dribble { bytes: &text, most: 997, seed };
        for (found, index, size) in [
            (read(&archive[..]), index, archive.len()),
            (read(dribble), index, archive.len()),
            (read(&text[..]), Index::None, text.len()),
            (read(bare_dribble), Index::None, text.len()),
        ] {
            let found = found.unwrap();
            prop_assert_eq!(&found.header, &header(&streams, target));
            prop_assert_eq!(&found.streams, &streams);
            prop_assert_eq!(&found.rows, &rows);
            prop_assert_eq!(&found.sealed.digest, &written.digest);
            prop_assert_eq!(&found.sealed.manifest, &written.manifest);
            prop_assert_eq!((found.sealed.index, found.sealed.file_bytes), (index, size as u64));
        }
    }

    #[test]
    fn the_digest_depends_on_rows_alone(
        (streams, rows) in content(),
        target in chunk_target(),
        one in way(),
        other in way(),
    ) {
        let (archive, written) = write(target, &streams, &rows, one);
        let seek_table = one.seek_table;
        let (text, digest) = (decompress(&archive), written.digest);
        let (again, written) = write(target, &streams, &rows, Way { seek_table, ..other });
        prop_assert_eq!(decompress(&again), text);
        prop_assert_eq!(written.digest, digest);
        let (again, _) = write(target, &streams, &rows, Way { level: one.level, seek_table, ..other });
        prop_assert!(again == archive, "other bytes at the same level");
    }
}

// ---- laws with examples ---------------------------------------------------------------------

pub(crate) fn column(name: &str, kind: Kind, nullable: bool) -> Column {
    Column { name: name.into(), physical: name.into(), kind, nullable, time_text: TimeText::None }
}

/// A stream `name` with a text key `id` and a text column `body`, sorted by its key.
pub(crate) fn letters(name: &str) -> Stream {
    Stream {
        name: name.into(),
        table: name.into(),
        columns: vec![column("id", Kind::Text, false), column("body", Kind::Text, true)],
        key: vec![0],
        order: vec![0],
    }
}

pub(crate) fn letter(id: &str, body: Vec<u8>) -> Row {
    vec![Owned::Text(id.as_bytes().to_vec()), Owned::Text(body)]
}

/// Bytes that look like nothing and hardly compress, as text.
fn noise(len: usize) -> Vec<u8> {
    let mut seed = 1_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'0' + (seed >> 58) as u8 % 64
    };
    (0..len).map(|_| next()).filter(|byte| *byte != b'\\').collect()
}

#[test]
fn a_row_of_10_mib_has_its_own_chunk_and_a_small_window() {
    let streams = [letters("letters")];
    let long = noise(1 << 20).repeat(10);
    let rows = [vec![letter("a", b"x".to_vec()), letter("b", long), letter("c", b"y".to_vec())]];
    for level in [1, 22] {
        let (archive, _) = write(65_536, &streams, &rows, Way { level, ..PLAIN });
        let text = audit_container(&archive, true);
        audit_text(&text, &streams, &rows, 65_536);
        assert_eq!(frames(&archive).len(), 8);
        let found = read(&archive[..]).unwrap();
        assert!(found.rows == rows);
        assert_eq!(found.sealed.manifest.extents[0].1.chunks, 3);
    }
}

#[test]
fn a_row_of_64_mib_travels_and_a_larger_one_is_refused() {
    let streams = [letters("letters")];
    let frame =
        r#"{"type":"RECORD","stream":"letters","record":{"id":"k\n1","body":""}}"#.len() + 1;
    let body = vec![b'x'; RECORD_LINE - frame + 1];
    let one = Way { level: 1, ..PLAIN };
    let rows = |body: &[u8]| [vec![letter("a", vec![]), letter("k\n1", body.to_vec())]];
    let error = write_to(io::sink(), 65_536, &streams, &rows(&body), one).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), Code::Source);
    assert!(error.full().contains("letters with key k\\n1"), "{error}");
    assert!(error.full().contains("64 MiB"), "{error}");
    let (archive, _) = write(65_536, &streams, &rows(&body[1..]), one);
    let mut reader = ArchiveReader::open(&archive[..], Limits::default()).unwrap();
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch).unwrap() {
        assert!(batch.rows() == 1);
    }
    let limits = Limits { record_line: RECORD_LINE - 1, ..Limits::default() };
    let mut reader = ArchiveReader::open(&archive[..], limits).unwrap();
    assert!(reader.next_batch(&mut batch).unwrap());
    let error = reader.next_batch(&mut batch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("over the limit"), "{error}");
}

#[test]
fn a_key_that_is_too_long_for_a_bookmark_is_exported() {
    let mut streams = [letters("letters")];
    streams[0].order = vec![1, 0];
    streams[0].columns[1].time_text = TimeText::Local;
    for length in [CONTROL_LINE / 2, CONTROL_LINE, 2 * CONTROL_LINE] {
        let rows = [vec![letter("a", vec![b'x'; length]), letter("b", vec![b'y'; length])]];
        let (archive, _) = write_to(Vec::new(), 65_536, &streams, &rows, PLAIN).unwrap();
        assert!(read(&archive[..]).unwrap().rows == rows, "{length}");
    }
}

#[test]
fn a_forbidden_null_is_refused_by_the_writer_alone() {
    for (kind, value) in [
        (Kind::Text, Owned::Null),
        (Kind::Int, Owned::Null),
        (Kind::Int, Owned::Text(b"seven".to_vec())),
        (Kind::Int, Owned::Real(f64::INFINITY)),
    ] {
        let streams = [Stream {
            columns: vec![column("id", kind, false), column("body", Kind::Text, true)],
            ..letters("letters")
        }];
        let rows = [vec![vec![value.clone(), Owned::Null]]];
        if let Ok((archive, _)) = write_to(Vec::new(), 65_536, &streams, &rows, PLAIN) {
            let found = read(&archive[..]).map(|found| found.rows);
            panic!("{value:?} in a key that is never null was written; it reads as {found:?}");
        }
    }
}

#[test]
fn the_extent_of_a_stream_has_the_times_of_its_records() {
    let mut stream = letters("letters");
    stream.columns[1].time_text = TimeText::Local;
    let streams = [stream];
    let times: [&[u8]; 4] = [b"2025\"", b"2025!", b"\t", b"2026\\"];
    let rows = [times.map(|time| letter("a", time.to_vec())).to_vec()];
    let (archive, written) = write(100, &streams, &rows, PLAIN);
    let extent = &written.manifest.extents[0].1;
    assert_eq!((extent.first.as_deref(), extent.last.as_deref()), (Some("\t"), Some("2026\\")));
    audit_text(&decompress(&archive), &streams, &rows, 100);
}

#[test]
fn streams_without_rows_have_a_schema_and_no_chunk() {
    let streams = [letters("a"), letters("b"), letters("c")];
    let rows = [vec![], vec![letter("1", b"x".to_vec())], vec![]];
    let (archive, written) = write(65_536, &streams, &rows, PLAIN);
    assert_eq!(frames(&archive).len(), 4);
    audit_text(&audit_container(&archive, true), &streams, &rows, 65_536);
    let counted = ["a", "b", "c"].map(str::to_owned).into_iter().zip([0, 1, 0]).collect::<Vec<_>>();
    assert_eq!((written.manifest.chunks, &written.manifest.rows), (2, &counted));
    let (archive, written) = write(65_536, &streams, &[vec![], vec![], vec![]], PLAIN);
    assert_eq!((frames(&archive).len(), written.manifest.chunks), (2, 1));
    assert_eq!(read(&archive[..]).unwrap().rows, [[], [], []] as [[Row; 0]; 3]);
}

#[test]
fn rows_appended_at_the_end_leave_every_full_frame_as_it_was() {
    let streams = [letters("letters")];
    let rows: Vec<Row> = (0..400).map(|n| letter(&format!("{n:04}"), noise(100))).collect();
    let (short, _) = write(4096, &streams, &[rows[..300].to_vec()], PLAIN);
    let (long, _) = write(4096, &streams, &[rows], PLAIN);
    let (frames, longer) = (frames(&short), frames(&long));
    // all but the last chunk, its checkpoint and the manifest
    let same = frames[frames.len() - 4].end;
    assert!(frames.len() > 8 && longer.len() > frames.len());
    assert!(short[..same] == long[..same]);
}

#[test]
fn row_digests_that_are_asked_for_too_late_are_not_computed() {
    let archive = include_bytes!("../../fixtures/archives/hooks.ndjson.zst");
    let open = || ArchiveReader::open(&archive[..], Limits::default()).unwrap();
    let finish = |mut reader: ArchiveReader<&'static [u8]>| {
        reader.digest_rows();
        while reader.next_batch(&mut Batch::default()).unwrap() {}
        reader.row_digests().len()
    };
    assert_eq!(finish(open()), 2);
    let mut prefetching = open();
    prefetching.prefetch().unwrap();
    assert_eq!(finish(prefetching), 0);
    let mut begun = open();
    begun.next_batch(&mut Batch::default()).unwrap();
    assert_eq!(finish(begun), 0);
}

#[test]
fn a_stream_after_a_later_one_is_refused() {
    let streams = vec![letters("a"), letters("b")];
    let header = header(&streams, 65_536);
    let out = Vec::new();
    let options = WriterOptions { threads: 1, ..WriterOptions::default() };
    let mut writer = ArchiveWriter::create(out, &header, streams, options).unwrap();
    let mut batch = Batch::default();
    for (stream, fails) in [(1, false), (0, true), (2, true)] {
        batch.start(stream, 2, 1);
        batch.push(Value::Text(b"x"));
        batch.push(Value::Null);
        assert_eq!(writer.write(&batch).is_err(), fails, "stream {stream}");
    }
}

#[test]
fn streams_over_the_limits_of_the_format_are_refused() {
    let named = |name: &str| Stream { name: name.into(), ..letters("a") };
    let wide = |width: usize| {
        let mut stream = letters("a");
        stream.columns = (0..width).map(|n| column(&format!("c{n}"), Kind::Int, true)).collect();
        stream
    };
    let long = |len: usize| {
        let mut stream = letters("a");
        stream.columns[1].name = "n".repeat(len);
        stream
    };
    for (stream, fits) in [
        (named(&"a".repeat(63)), true),
        (named("a_1"), true),
        (named(&"a".repeat(64)), false),
        (named(""), false),
        (named("1a"), false),
        (named("_a"), false),
        (named("A"), false),
        (named("a-b"), false),
        (named("a\"b"), false),
        (wide(1600), true),
        (wide(1601), false),
        (long(255), true),
        (long(256), false),
    ] {
        let rows = [vec![]];
        let streams = [stream];
        match write_to(Vec::new(), 65_536, &streams, &rows, PLAIN) {
            Ok((archive, _)) => {
                assert!(fits, "{}", streams[0].name);
                assert_eq!(read(&archive[..]).unwrap().streams, streams);
            }
            Err(error) => assert!(!fits && error.code() == Code::Source, "{error}"),
        }
    }
}

/// An output that takes so many bytes and then fails.
struct Full {
    left: usize,
    kind: io::ErrorKind,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(self.kind.into());
        }
        let len = bytes.len().min(self.left);
        self.left -= len;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_fails_anywhere_is_an_error_that_says_why() {
    let streams = [letters("letters")];
    let rows = [(0..40).map(|n| letter(&n.to_string(), noise(50))).collect::<Vec<_>>()];
    let (archive, _) = write(300, &streams, &rows, PLAIN);
    for left in (0..=archive.len()).step_by(37).chain([archive.len() - 1, archive.len()]) {
        for (kind, code, says) in [
            (io::ErrorKind::BrokenPipe, Code::BrokenPipe, "the reader closed the pipe"),
            (io::ErrorKind::StorageFull, Code::Output, "the disk is full"),
        ] {
            let threads = 1 + left % 3;
            let full = Full { left, kind };
            match write_to(full, 300, &streams, &rows, Way { threads, ..PLAIN }) {
                Ok(_) => assert_eq!(left, archive.len()),
                Err(error) => {
                    assert_eq!(error.code(), code, "{error}");
                    assert!(error.full().contains(says), "{error}");
                }
            }
        }
    }
}

/// An input that fails after its bytes.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out) {
            Ok(0) => Err(io::Error::other("the cable was pulled")),
            other => other,
        }
    }
}

#[test]
fn an_input_that_fails_is_no_truncated_archive() {
    let streams = [letters("letters")];
    let rows = [vec![letter("a", noise(500))]];
    let (archive, _) = write(65_536, &streams, &rows, PLAIN);
    let text = decompress(&archive);
    for whole in [&archive, &text] {
        for cut in (0..=whole.len()).step_by(7) {
            let error = read(Broken(&whole[..cut])).unwrap_err();
            assert_eq!(error.code(), Code::Source, "{cut}: {error}");
            assert!(error.full().contains("the cable was pulled"), "{}", error.full());
        }
    }
}
