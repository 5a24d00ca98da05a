//! How fast the archive's parts are, each compared with the least that the same bytes need: `cargo bench`.
//!
//! A part and its limit run in turn on the same bytes of generated rows. Each reports what it found; what is wrong or
//! changes from run to run fails, so that no wrong answer is ever called fast.

#![allow(clippy::unwrap_used, clippy::panic, reason = "whatever fails here ends the bench")]
#![allow(clippy::print_stdout, reason = "the table is the result")]

use std::fmt::Debug;
use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Instant;

use chronicle_archive::codec::{Decoder, Encoder};
use chronicle_archive::digest::RowDigest;
use chronicle_archive::json::{JsonHash, Scanner, sanitize};
use chronicle_archive::{
    ArchiveReader, ArchiveWriter, CHUNK_TARGET, Header, Limits, Origin, WriterOptions,
};
use chronicle_archive::{Batch, Column, Kind, Stream, TimeText, Value};
use rusqlite::Connection;
use sha2::{Digest, Sha256};

#[path = "../tests/suite/support/generate/mod.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod generate;

/// The rows: about 40 MB of lines, more than any cache holds.
const ROWS: u32 = 20_000;
/// How often everything is run.
const RUNS: usize = 7;
/// The level of an export by default.
const LEVEL: i32 = 3;

fn main() {
    let rows = Rows::generate();
    let lines = rows.lines();
    let archive: Arc<[u8]> = rows.write(LEVEL).into();
    rows.assert_same_in(&archive);
    let payloads: Vec<&[u8]> = (0..rows.batch.rows()).map(|n| rows.payload(n)).collect();
    let payload_bytes = payloads.iter().map(|p| p.len()).sum();
    let odd: Vec<Vec<u8>> = payloads.iter().map(|p| with_nul(p)).collect();
    let frames = compress(&lines);
    let spaced: Vec<Vec<u8>> = payloads.iter().map(|p| [b"\t", *p, b"\n "].concat()).collect();
    let spaced: Vec<&[u8]> = spaced.iter().map(Vec::as_slice).collect();
    assert_eq!(meanings(&payloads), meanings(&spaced), "they mean the same in another spelling");
    print(&["part : the least that the same bytes need", "part", "limit", "time of part / limit"]);
    print(&["---", "---:", "---:", "---:"]);
    pair(
        "write an archive, 1 thread to compress : zstd alone",
        lines.len(),
        || rows.write(LEVEL).len(),
        || compress(&lines).iter().map(Vec::len).sum::<usize>(),
    );
    pair(
        "read and check an archive : zstd alone",
        lines.len(),
        || read(&archive, false),
        || frames.iter().map(|f| decompress(f)).sum::<usize>(),
    );
    pair(
        "the same, ahead on several threads : zstd alone",
        lines.len(),
        || read(&archive, true),
        || frames.iter().map(|f| decompress(f)).sum::<usize>(),
    );
    pair("write lines : memchr", lines.len(), || rows.lines().len(), || count_lines(&lines));
    pair("read lines : memchr", lines.len(), || rows.decode(&lines), || count_lines(&lines));
    pair("row digest : SHA-256", lines.len(), || rows.digest(&lines), || sha256(&lines));
    pair(
        "scan for portability : UTF-8 check",
        payload_bytes,
        || scan(&payloads),
        || payloads.iter().filter(|p| std::str::from_utf8(p).is_ok()).count(),
    );
    pair(
        "hash what a payload means : UTF-8 check",
        payload_bytes,
        || meanings(&payloads),
        || payloads.iter().filter(|p| std::str::from_utf8(p).is_ok()).count(),
    );
    pair(
        "project what is not portable : copy",
        payload_bytes,
        || odd.iter().map(|p| sanitize(p).unwrap().len()).sum::<usize>(),
        || odd.iter().map(|p| black_box(p.clone()).len()).sum::<usize>(),
    );
}

/// Runs a part and its limit in turn, and prints the medians.
fn pair<A: PartialEq + Debug, B: PartialEq + Debug>(
    name: &str,
    bytes: usize,
    mut part: impl FnMut() -> A,
    mut limit: impl FnMut() -> B,
) {
    let expected = (part(), limit());
    let (mut ours, mut least, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let a = timed(&mut part, &expected.0);
        let b = timed(&mut limit, &expected.1);
        ours.push(a);
        least.push(b);
        ratios.push(a / b);
    }
    let rate = |seconds: &mut Vec<f64>| {
        let [low, middle, high] = spread(seconds).map(|s| bytes as f64 / s / 1e6);
        format!("{middle:.0} MB/s ({high:.0}–{low:.0})")
    };
    let [low, middle, high] = spread(&mut ratios);
    let ratio = format!("{middle:.2} ({low:.2}–{high:.2})");
    print(&[name, &rate(&mut ours), &rate(&mut least), &ratio]);
}

/// The seconds of one run, whose result must be the expected one.
fn timed<T: PartialEq + Debug>(work: &mut impl FnMut() -> T, expected: &T) -> f64 {
    let start = Instant::now();
    let result = black_box(work());
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(&result, expected, "another result than before");
    seconds
}

/// The least, the median and the most.
fn spread(values: &mut [f64]) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// A row of a Markdown table.
fn print(cells: &[&str]) {
    println!("| {} |", cells.join(" | "));
}

/// Generated events, as a source hands them over.
struct Rows {
    stream: Stream,
    batch: Batch,
}

impl Rows {
    fn generate() -> Rows {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("generated.db");
        generate::hooks_database(&file, ROWS / 100, ROWS, 1).unwrap();
        let database = Connection::open(file).unwrap();
        let sql = "SELECT id, session_id, event_type, timestamp, tool_name, data FROM events";
        let mut statement = database.prepare(sql).unwrap();
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut batch = Batch::default();
        batch.start(0, names.len(), 1);
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            for n in 0..names.len() {
                let text = row.get_ref(n).unwrap().as_str_or_null().unwrap();
                batch.push(text.map_or(Value::Null, |text| Value::Text(text.as_bytes())));
            }
        }
        let columns = names.iter().map(|name| column(name)).collect();
        let stream = Stream {
            name: "events".into(),
            table: "events".into(),
            columns,
            key: vec![0],
            order: vec![3, 0],
        };
        Rows { stream, batch }
    }

    fn payload(&self, row: usize) -> &[u8] {
        match self.batch.value(row, self.stream.columns.len() - 1) {
            Value::Text(bytes) => bytes,
            other => panic!("{other:?} is no payload"),
        }
    }

    /// The rows as lines of an archive.
    fn lines(&self) -> Vec<u8> {
        let (mut encoder, mut lines) = (Encoder::new(&self.stream), Vec::new());
        (0..self.batch.rows()).for_each(|row| encoder.write(&self.batch, row, "", &mut lines));
        lines
    }

    /// The rows as an archive.
    fn write(&self, level: i32) -> Vec<u8> {
        let streams = vec![self.stream.clone()];
        let header = Header::new(Origin::default(), &streams, CHUNK_TARGET);
        let options = WriterOptions { level, threads: 1, ..WriterOptions::default() };
        let mut writer = ArchiveWriter::create(Vec::new(), &header, streams, options).unwrap();
        writer.write(&self.batch).unwrap();
        let (archive, written) = writer.finish().unwrap();
        assert_eq!(written.compressed_bytes, archive.len() as u64);
        archive
    }

    /// Every value of every row comes back out of the archive.
    fn assert_same_in(&self, archive: &Arc<[u8]>) {
        let mut reader =
            ArchiveReader::open(Cursor::new(Arc::clone(archive)), Limits::default()).unwrap();
        let (mut batch, mut row) = (Batch::default(), 0);
        while reader.next_batch(&mut batch).unwrap() {
            for found in 0..batch.rows() {
                for n in 0..self.stream.columns.len() {
                    assert_eq!(batch.value(found, n), self.batch.value(row, n), "row {row}");
                }
                row += 1;
            }
        }
        assert_eq!(row, self.batch.rows());
    }

    /// Reads lines back, chunk by chunk; returns the rows.
    fn decode(&self, lines: &[u8]) -> usize {
        let (mut decoder, mut batch) = (Decoder::new(&self.stream), Batch::default());
        self.each_chunk(lines, |chunk, ends| {
            batch.start(0, self.stream.columns.len(), 1);
            batch.adopt(chunk.to_vec());
            let mut start = 0;
            for end in ends {
                decoder.read(&mut batch, start, *end).unwrap();
                start = end + 1;
            }
            assert_eq!(batch.rows(), ends.len());
        })
    }

    /// The digest of the rows, out of their lines.
    fn digest(&self, lines: &[u8]) -> String {
        let (mut decoder, mut batch) = (Decoder::new(&self.stream), Batch::default());
        let mut digest = RowDigest::new(&self.stream);
        self.each_chunk(lines, |chunk, ends| {
            batch.start(0, self.stream.columns.len(), 1);
            batch.adopt(chunk.to_vec());
            let mut start = 0;
            for end in ends {
                decoder.read(&mut batch, start, *end).unwrap();
                digest.add(decoder.values(batch.adopted()));
                start = end + 1;
            }
        });
        digest.hex()
    }

    /// Hands over pieces of the usual size with the ends of their lines; returns how many lines there were.
    fn each_chunk(&self, lines: &[u8], mut each: impl FnMut(&[u8], &[usize])) -> usize {
        let (mut start, mut count) = (0, 0);
        while start < lines.len() {
            let most = (start + CHUNK_TARGET).min(lines.len());
            let end = start + memchr::memrchr(b'\n', &lines[start..most]).unwrap() + 1;
            let ends: Vec<usize> = memchr::memchr_iter(b'\n', &lines[start..end]).collect();
            each(&lines[start..end], &ends);
            count += ends.len();
            start = end;
        }
        assert_eq!(count, self.batch.rows(), "every row is a line");
        count
    }
}

fn column(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        physical: name.to_owned(),
        kind: if name == "data" { Kind::Json } else { Kind::Text },
        nullable: name == "tool_name",
        time_text: TimeText::new(name == "timestamp", false),
    }
}

/// Reads and checks an archive to its end; returns its digest and rows.
fn read(archive: &Arc<[u8]>, ahead: bool) -> (String, u64) {
    let mut reader =
        ArchiveReader::open(Cursor::new(Arc::clone(archive)), Limits::default()).unwrap();
    if ahead {
        reader.prefetch().unwrap();
    }
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch).unwrap() {}
    let rows = reader.rows()[0];
    assert_eq!(rows, u64::from(ROWS));
    (reader.sealed().unwrap().digest.clone(), rows)
}

/// The lines as independent frames of the usual size.
fn compress(lines: &[u8]) -> Vec<Vec<u8>> {
    lines.chunks(CHUNK_TARGET).map(|chunk| zstd::bulk::compress(chunk, LEVEL).unwrap()).collect()
}

fn decompress(frame: &[u8]) -> usize {
    zstd::bulk::decompress(frame, CHUNK_TARGET).unwrap().len()
}

fn count_lines(lines: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', lines).count()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// The sum of the hashes of what payloads mean; written again by another program they mean the same.
fn meanings(payloads: &[&[u8]]) -> u64 {
    let mut meaning = JsonHash::default();
    payloads.iter().fold(0, |sum, payload| sum.wrapping_add(meaning.hash(payload)))
}

/// Scans every payload; all of them are portable.
fn scan(payloads: &[&[u8]]) -> usize {
    let mut scanner = Scanner::default();
    let portable = payloads.iter().filter(|p| scanner.scan(p).is_portable()).count();
    assert_eq!(portable, payloads.len(), "a payload is not portable");
    portable
}

/// The payload with one more member, which no portable JSON has.
fn with_nul(payload: &[u8]) -> Vec<u8> {
    let body = payload.strip_suffix(b"}").unwrap();
    let odd = [body, b",\"n\":\"\\u0000\"}"].concat();
    assert!(!Scanner::default().scan(&odd).is_portable());
    odd
}
