//! Damaged, cut and contrived archives: each is refused with a telling message or says the same.

use std::cell::RefCell;
use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use chronicle_archive::error::ErrorKind;
use chronicle_archive::{ArchiveReader, Index, Limits, Sealed};
use chronicle_archive::{Batch, Value};
use chronicle_dump::error::{Code, Error, Result};
use zstd::bulk::Compressor;

use crate::archive::{
    Frame, Owned, PLAIN, Row, Way, decompress, frames, letter, letters, sha256, write,
};

/// Reads as far as it goes: the rows that were handed on, and how it ended. Whether it is read piece by piece or
/// ahead by several threads, both are the same to the last word.
fn attempt(bytes: &[u8]) -> (Vec<Vec<Row>>, Result<Sealed>) {
    let (mut rows, mut ahead) = (Vec::new(), Vec::new());
    let ended = ArchiveReader::open(bytes, Limits::default())
        .map_err(Error::from)
        .and_then(|reader| attempt_into(reader, &mut rows));
    let ended_ahead = ArchiveReader::open(Cursor::new(bytes.to_vec()), Limits::default())
        .and_then(|mut reader| reader.prefetch().map(|()| reader))
        .map_err(Error::from)
        .and_then(|reader| attempt_into(reader, &mut ahead));
    assert_eq!(told(&ended), told(&ended_ahead));
    assert!(rows == ahead, "other rows were read ahead");
    (rows, ended)
}

fn attempt_into<R: Read>(mut reader: ArchiveReader<R>, rows: &mut Vec<Vec<Row>>) -> Result<Sealed> {
    rows.resize(reader.streams().len(), Vec::new());
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch)? {
        let into = &mut rows[batch.stream()];
        assert_eq!(batch.first_row(), into.len() as u64 + 1, "the number of a batch's first row");
        let width = reader.streams()[batch.stream()].columns.len();
        into.extend((0..batch.rows()).map(|row| {
            (0..width).map(|column| Owned::of(batch.value(row, column))).collect::<Row>()
        }));
    }
    let sealed = reader.sealed().unwrap().clone();
    assert_eq!(sealed.file_bytes, reader.consumed(), "the bytes that were read");
    Ok(sealed)
}

/// All that is told of how reading ended.
fn told(ended: &Result<Sealed>) -> String {
    match ended {
        Ok(sealed) => format!("{sealed:?}"),
        Err(error) => format!("{:?} {}", error.code(), error.full()),
    }
}

fn refusal(bytes: &[u8]) -> (Code, String) {
    REFUSED.with_borrow_mut(|all| all.push((format!("refused {}", all.len()), bytes.to_vec())));
    let error = attempt(bytes).1.unwrap_err();
    (error.code(), error.full())
}

thread_local! {
    /// What this thread has seen refused.
    static REFUSED: RefCell<Vec<(String, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

/// Every archive of this file that is refused as a whole, with what is wrong with it: for another reader.
pub(crate) fn refused_archives() -> Vec<(String, Vec<u8>)> {
    a_cut_at_a_frame_border_tells_how_much_was_whole();
    chunks_that_are_not_where_they_were_written_are_refused();
    an_edited_chunk_breaks_the_chain_even_if_its_own_checkpoint_is_made_anew();
    control_lines_that_say_something_else_are_refused();
    heads_that_say_something_else_are_refused();
    rows_that_are_not_of_the_format_are_refused();
    an_exact_value_that_is_not_what_the_record_shows_is_refused();
    streams_follow_each_other_in_the_order_of_the_header_and_never_resume();
    a_stream_of_an_unknown_kind_is_verified_and_not_decoded();
    frames_that_are_not_of_the_format_are_refused();
    a_frame_is_a_chunk_and_nothing_else();
    nothing_may_follow_the_manifest_but_a_seek_table();
    other_files_are_no_archives();
    let small = Small::new();
    let flipped = (0..small.text.len()).step_by(13).map(|at| {
        let mut damaged = small.text.clone();
        damaged[at] ^= 1;
        (format!("bit 0 of byte {at}"), damaged)
    });
    let cuts = (0..small.table())
        .step_by(97)
        .map(|at| (format!("cut at {at}"), small.archive[..at].to_vec()));
    let manifest = small.manifest();
    let mut all = REFUSED.take();
    all.extend(flipped.filter(|(_, bytes)| bytes[manifest..] == small.text[manifest..]));
    all.extend(cuts);
    all
}

fn assert_refused(what: &str, bytes: &[u8], code: Code, says: &str) {
    REFUSED.with_borrow_mut(|all| all.push((what.to_owned(), bytes.to_vec())));
    match attempt(bytes).1 {
        Ok(sealed) => panic!("{what}: accepted, {:?}", sealed.index),
        Err(error) => {
            let full = error.full();
            assert!(error.code() == code && full.contains(says), "{what}: {code:?}, {full}");
        }
    }
}

// ---- every byte and bit of a small archive --------------------------------------------------

/// An archive of three streams and some chunks, with the text of its frames.
struct Small {
    archive: Vec<u8>,
    text: Vec<u8>,
    frames: Vec<Frame>,
    rows: Vec<Vec<Row>>,
    digest: String,
}

impl Small {
    fn new() -> Small {
        let streams = [letters("sessions"), letters("events"), letters("none")];
        let rows = vec![
            (0..3).map(|n| letter(&format!("s{n}"), b"a\0b \xff".to_vec())).collect(),
            (0..6).map(|n| letter(&format!("e{n}"), vec![b'a' + n; 30])).collect(),
            Vec::new(),
        ];
        let (archive, written) = write(300, &streams, &rows, Way { level: 1, ..PLAIN });
        let (text, frames) = (decompress(&archive), frames(&archive));
        assert!((2000..4000).contains(&archive.len()), "{} bytes", archive.len());
        Small { archive, text, frames, rows, digest: written.digest }
    }

    /// Where the seek table starts.
    fn table(&self) -> usize {
        self.frames.last().unwrap().end
    }

    /// Where the manifest starts in the text.
    fn manifest(&self) -> usize {
        self.text[..self.text.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1
    }

    /// Whether everything that was handed on stands so at the start of its stream.
    fn has_nothing_else(&self, rows: &[Vec<Row>]) -> bool {
        rows.len() <= self.rows.len()
            && rows.iter().zip(&self.rows).all(|(some, all)| all.starts_with(some))
    }
}

/// Runs all cases on a few threads.
fn each_case(cases: usize, check: impl Fn(usize) + Sync) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    std::thread::scope(|scope| {
        for first in 0..threads {
            let check = &check;
            scope.spawn(move || (first..cases).step_by(threads).for_each(check));
        }
    });
}

#[test]
fn an_archive_cut_anywhere_before_its_end_is_truncated_and_says_so() {
    let small = Small::new();
    assert_refused("nothing", b"", Code::NotAnArchive, "the input is empty");
    each_case(small.archive.len(), |cut| {
        let (rows, ended) = attempt(&small.archive[..cut]);
        assert!(small.has_nothing_else(&rows), "cut at {cut}");
        match ended {
            Ok(sealed) => {
                assert!(cut >= small.table() && rows == small.rows, "cut at {cut}");
                assert_eq!(sealed.digest, small.digest);
                let index = if cut == small.table() { Index::Missing } else { Index::Damaged };
                assert_eq!(sealed.index, index, "cut at {cut}");
            }
            Err(error) if cut == 0 => assert_eq!(error.code(), Code::NotAnArchive),
            Err(error) => {
                assert!(cut < small.table(), "cut at {cut}: {}", error.full());
                assert_eq!(error.code(), Code::ArchiveTruncated, "cut at {cut}");
                assert!(error.full().contains("before its manifest"), "cut at {cut}");
            }
        }
    });
    each_case(small.text.len(), |cut| {
        let (rows, ended) = attempt(&small.text[..cut]);
        assert!(small.has_nothing_else(&rows), "bare, cut at {cut}");
        let code = if cut == 0 { Code::NotAnArchive } else { Code::ArchiveTruncated };
        assert_eq!(ended.unwrap_err().code(), code, "bare, cut at {cut}");
    });
}

#[test]
fn a_cut_at_a_frame_border_tells_how_much_was_whole() {
    let small = Small::new();
    for (chunks, frame) in small.frames.iter().enumerate().skip(1) {
        let (rows, ended) = attempt(&small.archive[..frame.start]);
        let whole = format!(
            "after {chunks} whole chunks ({} sessions, {} events, 0 none)",
            rows[0].len(),
            rows[1].len()
        );
        let full = ended.unwrap_err().full();
        assert!(full.contains(&whole), "{full}, expected {whole}");
        assert!(full.contains("the space between two chunks"), "{full}");
    }
}

#[test]
fn a_text_cut_at_a_line_border_and_compressed_again_is_no_archive() {
    let small = Small::new();
    let borders = (1..small.text.len()).filter(|at| small.text[at - 1] == b'\n');
    for cut in borders {
        let mut text = &small.text[..cut];
        let mut bytes = Vec::new();
        for frame in &small.frames {
            let (now, later) = text.split_at(text.len().min(frame.content_size.unwrap() as usize));
            bytes.extend(if now.is_empty() { Vec::new() } else { compress(now) });
            text = later;
        }
        let (rows, ended) = attempt(&bytes);
        assert!(small.has_nothing_else(&rows), "cut at {cut}");
        let code = ended.unwrap_err().code();
        assert!(matches!(code, Code::ArchiveTruncated | Code::ArchiveDamaged), "cut at {cut}");
    }
}

/// Checks one damage at `at`: an error, or the very same rows and digest, which only bits can bring
/// about that carry nothing, in the paddings of zstd's tables. Returns whether that was so.
fn is_harmless(small: &Small, damaged: &[u8], at: usize, what: &str) -> bool {
    let (rows, ended) = attempt(damaged);
    assert!(small.has_nothing_else(&rows), "{what} at {at} made other rows");
    let in_table = at >= small.table();
    match ended {
        Err(error) => assert!(!in_table, "{what} at {at}: {}", error.full()),
        Ok(sealed) => {
            assert!(rows == small.rows && sealed.digest == small.digest, "{what} at {at}");
            let index = if in_table { Index::Damaged } else { Index::Good };
            assert_eq!(sealed.index, index, "{what} at {at}");
            return !in_table;
        }
    }
    false
}

#[test]
fn no_flipped_bit_makes_other_rows_and_hardly_any_goes_unnoticed() {
    let small = Small::new();
    let unnoticed = AtomicUsize::new(0);
    each_case(small.archive.len() * 8, |case| {
        let (at, bit) = (case / 8, case % 8);
        let mut damaged = small.archive.clone();
        damaged[at] ^= 1 << bit;
        let harmless = is_harmless(&small, &damaged, at, "a flipped bit");
        unnoticed.fetch_add(usize::from(harmless), Ordering::Relaxed);
    });
    let unnoticed = unnoticed.into_inner();
    assert!(unnoticed * 100 < small.archive.len() * 8, "{unnoticed} bits carry nothing");
}

#[test]
fn no_replaced_missing_or_added_byte_makes_other_rows() {
    let small = Small::new();
    each_case(small.archive.len(), |at| {
        let mut damaged = small.archive.clone();
        for byte in [0, 0xFF, !small.archive[at], b'\n', small.archive[at].wrapping_add(1)] {
            if byte != small.archive[at] {
                damaged[at] = byte;
                is_harmless(&small, &damaged, at, "a replaced byte");
            }
        }
        // a shifted table may be longer than the table and is then refused like any other data
        if at < small.table() {
            damaged.clone_from(&small.archive);
            damaged.remove(at);
            is_harmless(&small, &damaged, at, "a missing byte");
            damaged.clone_from(&small.archive);
            damaged.insert(at, b'0');
            is_harmless(&small, &damaged, at, "an added byte");
        }
    });
}

#[test]
fn without_zstd_the_chain_alone_notices_every_bit_and_the_digest_those_of_the_manifest() {
    let small = Small::new();
    let manifest = small.manifest();
    each_case(small.text.len() * 8, |case| {
        let (at, bit) = (case / 8, case % 8);
        let mut damaged = small.text.clone();
        damaged[at] ^= 1 << bit;
        let (rows, ended) = attempt(&damaged);
        assert!(small.has_nothing_else(&rows), "bit {bit} of byte {at} made other rows");
        if let Ok(sealed) = ended {
            // nothing but the digest is over the manifest itself
            assert!(at >= manifest, "bit {bit} of byte {at} was not noticed");
            assert!(rows == small.rows && sealed.digest != small.digest, "{at}");
        }
    });
}

// ---- archives made by hand ------------------------------------------------------------------

const HEADER: &str = r#"{"type":"STATE","value":{"chronicle":{"kind":"header","version":1,"requires":[],"archive_id":"00000000-0000-0000-0000-000000000000","created_at":null,"writer":"by hand","source":{"backend":"sqlite"},"streams":["sessions","events"],"chunk_target":65536,"consistency":"snapshot"},"bookmarks":{}}}
"#;
const SESSIONS: &str = r#"{"type":"SCHEMA","stream":"sessions","schema":{"type":"object","properties":{"id":{"type":"string"},"note":{"type":["string","null"]}}},"key_properties":["id"],"chronicle":{"table":"sessions","columns":{"id":"text","note":"text"},"instants":[],"order":["id"]}}
"#;
const EVENTS: &str = r#"{"type":"SCHEMA","stream":"events","schema":{"type":"object","properties":{"id":{"type":"string"},"n":{"type":["integer","null"]},"x":{"type":["number","null"]},"data":{"type":["object","null"]}}},"key_properties":["id"],"chronicle":{"table":"events","columns":{"id":"text","n":"int","x":"real","data":"json"},"instants":[],"order":["id"]}}
"#;
const SESSION_ROWS: &str = r#"{"type":"RECORD","stream":"sessions","record":{"id":"s1","note":null}}
{"type":"RECORD","stream":"sessions","record":{"id":"s2","note":"two"}}
"#;
const EVENT_ROWS: &str = r#"{"type":"RECORD","stream":"events","record":{"id":"e1","n":1,"x":0.5,"data":{"a": 1}}}
{"type":"RECORD","stream":"events","record":{"id":"e2","n":null,"x":null,"data":{"a":"\ufffd"}},"chronicle":{"exact":{"data":{"json":"{\"a\":\"\\u0000\"}"}}}}
"#;
const LATE_ROWS: &str = r#"{"type":"RECORD","stream":"events","record":{"id":"e3","n":-9223372036854775808,"x":1e300,"data":null}}
"#;

/// The control lines of an archive made by hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Checkpoint(usize),
    Manifest,
}

/// An archive made by hand: its lines may say anything, its checkpoints agree with them.
#[derive(Clone)]
struct Hand {
    head: String,
    chunks: Vec<(&'static str, String)>,
}

impl Hand {
    fn new() -> Hand {
        Hand {
            head: [HEADER, SESSIONS, EVENTS].concat(),
            chunks: vec![
                ("sessions", SESSION_ROWS.into()),
                ("events", EVENT_ROWS.replace("\\ufffd", "\u{fffd}")),
                ("events", LATE_ROWS.into()),
            ],
        }
    }

    /// With something else in the head.
    fn head(from: &str, to: &str) -> Hand {
        let mut hand = Hand::new();
        assert_eq!(hand.head.matches(from).count(), 1, "{from} in the head");
        hand.head = hand.head.replace(from, to);
        hand
    }

    /// With something else in the first rows of `events`.
    fn rows(from: &str, to: &str) -> Hand {
        let mut hand = Hand::new();
        let rows = &mut hand.chunks[1].1;
        assert!(rows.contains(from), "{from} in the rows");
        *rows = rows.replacen(from, to, 1);
        hand
    }

    fn pieces(&self) -> Vec<Vec<u8>> {
        self.altered(|_, line| line)
    }

    /// The pieces, each control line as `alter` returns it; the chain goes on from there.
    fn altered(&self, alter: impl Fn(Line, String) -> String) -> Vec<Vec<u8>> {
        let state = |chronicle: String| {
            format!(
                "{{\"type\":\"STATE\",\"value\":{{\"chronicle\":{chronicle},\"bookmarks\":{{}}}}}}\n"
            )
        };
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut prev = "null".to_owned();
        let head = (None, &self.head);
        let chunks = self.chunks.iter().map(|(stream, lines)| (Some(*stream), lines));
        for (chunk, (stream, lines)) in std::iter::once(head).chain(chunks).enumerate() {
            let rows = if chunk == 0 { 0 } else { lines.matches('\n').count() };
            let stream = stream.map_or("null".into(), |name| format!("\"{name}\""));
            let checkpoint = alter(
                Line::Checkpoint(chunk),
                state(format!(
                    "{{\"kind\":\"checkpoint\",\"chunk\":{chunk},\"stream\":{stream},\
                     \"rows\":{rows},\"bytes\":{},\"sha256\":\"{}\",\"prev\":{prev}}}",
                    lines.len(),
                    sha256(lines.as_bytes()),
                )),
            );
            prev = format!("\"{}\"", sha256(checkpoint.as_bytes()));
            pieces.push([lines.as_bytes(), checkpoint.as_bytes()].concat());
        }
        let rows = |name: &str| -> usize {
            let of = self.chunks.iter().filter(|(stream, _)| *stream == name);
            of.map(|(_, lines)| lines.matches('\n').count()).sum()
        };
        let manifest = state(format!(
            "{{\"kind\":\"manifest\",\"version\":1,\"chunks\":{},\"bytes\":{},\"rows\":\
             {{\"sessions\":{},\"events\":{}}},\"prev\":{prev},\"seek_table\":true}}",
            pieces.len(),
            pieces.iter().map(Vec::len).sum::<usize>(),
            rows("sessions"),
            rows("events"),
        ));
        pieces.push(alter(Line::Manifest, manifest).into_bytes());
        pieces
    }

    /// With something else in one control line.
    fn control(line: Line, from: &str, to: &str) -> Vec<Vec<u8>> {
        Hand::new().altered(|which, text| {
            assert!(which != line || text.contains(from), "{from} in {text}");
            if which == line { text.replace(from, to) } else { text }
        })
    }
}

/// One frame as the format wants it.
fn compress(content: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(3).unwrap();
    compressor.include_contentsize(true).unwrap();
    compressor.include_checksum(true).unwrap();
    compressor.compress(content).unwrap()
}

/// Frames without a seek table.
fn zip(pieces: &[Vec<u8>]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| compress(piece)).collect()
}

/// The seek table of an archive that has none yet.
fn table(archive: &[u8]) -> Vec<u8> {
    let frames = frames(archive);
    let mut table = 0x184D_2A5E_u32.to_le_bytes().to_vec();
    table.extend((frames.len() as u32 * 12 + 9).to_le_bytes());
    for frame in &frames {
        table.extend(((frame.end - frame.start) as u32).to_le_bytes());
        table.extend((frame.content_size.unwrap() as u32).to_le_bytes());
        table.extend(frame.checksum.unwrap().to_le_bytes());
    }
    table.extend((frames.len() as u32).to_le_bytes());
    table.push(0x80);
    table.extend(0x8F92_EAB1_u32.to_le_bytes());
    table
}

fn with_table(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = zip(pieces);
    archive.extend(table(&archive));
    archive
}

/// Refused in the same way as zstd frames and as bare lines.
fn assert_both_refused(what: &str, pieces: &[Vec<u8>], code: Code, says: &str) {
    assert_refused(what, &with_table(pieces), code, says);
    assert_refused(&format!("{what}, bare"), &pieces.concat(), code, says);
}

const DAMAGED: Code = Code::ArchiveDamaged;

#[test]
fn an_archive_made_by_hand_is_as_good_as_any() {
    let pieces = Hand::new().pieces();
    let digest = sha256(pieces.last().unwrap());
    let text = |text: &str| Owned::Text(text.as_bytes().to_vec());
    let expected = vec![
        vec![vec![text("s1"), Owned::Null], vec![text("s2"), text("two")]],
        vec![
            vec![text("e1"), Owned::Int(1), Owned::Real(0.5), text("{\"a\": 1}")],
            vec![text("e2"), Owned::Null, Owned::Null, text("{\"a\":\"\\u0000\"}")],
            vec![text("e3"), Owned::Int(i64::MIN), Owned::Real(1e300), Owned::Null],
        ],
    ];
    for (bytes, index) in [
        (with_table(&pieces), Index::Good),
        (zip(&pieces), Index::Missing),
        (pieces.concat(), Index::None),
    ] {
        let (rows, sealed) = attempt(&bytes);
        let sealed = sealed.unwrap();
        assert_eq!((rows == expected, sealed.index, &sealed.digest), (true, index, &digest));
    }
}

#[test]
fn what_a_later_version_may_add_is_ignored() {
    let good = attempt(&with_table(&Hand::new().pieces())).0;
    let more = |text: &str| text.replace("\"kind\":\"", "\"more\":[{\"a\":1}],\"kind\":\"");
    let mut hand =
        Hand::rows("\"data\":{\"a\": 1}}", "\"data\":{\"a\": 1}},\"chronicle\":{\"b\":1}");
    hand.head = hand.head.replace("\"instants\"", "\"more\":null,\"instants\"");
    hand.head = hand.head.replace("\"requires\"", "\"more\":{},\"requires\"");
    let pieces = hand.altered(|_, line| more(&line));
    for bytes in [with_table(&pieces), pieces.concat()] {
        let (rows, ended) = attempt(&bytes);
        ended.unwrap();
        assert!(rows == good);
    }
}

#[test]
fn chunks_that_are_not_where_they_were_written_are_refused() {
    let good = Hand::new().pieces();
    for (what, order, code, says) in [
        ("a dropped chunk", &[0, 1, 3, 4][..], DAMAGED, "chunk 2: its checkpoint is number 3"),
        (
            "the last chunk dropped",
            &[0, 1, 2, 4],
            DAMAGED,
            "disagrees with what was read: its chain",
        ),
        ("all chunks dropped", &[0, 4], DAMAGED, "disagrees with what was read"),
        ("swapped chunks", &[0, 1, 3, 2, 4], DAMAGED, "chunk 2: its checkpoint is number 3"),
        ("a repeated chunk", &[0, 1, 2, 2, 3, 4], DAMAGED, "chunk 3: its checkpoint is number 2"),
        ("a repeated head", &[0, 0, 1, 2, 3, 4], DAMAGED, "chunk 1"),
        ("a repeated manifest", &[0, 1, 2, 3, 4, 4], DAMAGED, "data follow the manifest"),
        ("a chunk behind the manifest", &[0, 1, 2, 4, 3], DAMAGED, "disagrees"),
        ("no manifest", &[0, 1, 2, 3], Code::ArchiveTruncated, "before its manifest"),
        (
            "only a head",
            &[0],
            Code::ArchiveTruncated,
            "after 1 whole chunks (0 sessions, 0 events)",
        ),
        ("no head", &[1, 2, 3, 4], Code::NotAnArchive, "not a header"),
        ("only a manifest", &[4], Code::NotAnArchive, "not a header"),
    ] {
        let pieces: Vec<_> = order.iter().map(|n| good[*n].clone()).collect();
        assert_refused(what, &zip(&pieces), code, says);
        assert_refused(&format!("{what}, bare"), &pieces.concat(), code, says);
    }
}

#[test]
fn an_edited_chunk_breaks_the_chain_even_if_its_own_checkpoint_is_made_anew() {
    let good = Hand::new().pieces();
    for chunk in 0..good.len() - 1 {
        let mut edited = Hand::new();
        match chunk {
            0 => edited.head = edited.head.replace("by hand", "by foot"),
            n => edited.chunks[n - 1].1 = edited.chunks[n - 1].1.replace("\"id\":\"", "\"id\":\"+"),
        }
        // the chunk's own checkpoint is right, those after it are the old ones
        let mut pieces = good.clone();
        pieces[chunk] = edited.pieces()[chunk].clone();
        let says = match chunk {
            3 => "disagrees with what was read: its chain".to_owned(),
            n => format!("chunk {}: the chain of checkpoints is broken", n + 1),
        };
        assert_both_refused(&format!("edited chunk {chunk}"), &pieces, DAMAGED, &says);
    }
    // and with the old checkpoint it is refused at once
    let mut pieces = good;
    let at = pieces[2].windows(6).position(|bytes| bytes == b"\"n\":1,").unwrap();
    pieces[2][at + 4] = b'2';
    assert_both_refused("an edited row", &pieces, DAMAGED, "do not have the SHA-256");
    pieces[2].remove(at + 4);
    assert_both_refused("a shorter row", &pieces, DAMAGED, "and its checkpoint counts");
}

#[test]
fn control_lines_that_say_something_else_are_refused() {
    use Line::{Checkpoint, Manifest};
    let zeros = "0".repeat(64);
    let prev =
        sha256(Hand::new().pieces()[2].split_inclusive(|byte| *byte == b'\n').next_back().unwrap());
    for (what, line, from, to, says) in [
        (
            "rows too many",
            Checkpoint(1),
            "\"rows\":2",
            "\"rows\":3",
            "it holds 2 rows and its checkpoint counts 3",
        ),
        (
            "no rows",
            Checkpoint(1),
            "\"rows\":2",
            "\"rows\":0",
            "it holds 2 rows and its checkpoint counts 0",
        ),
        (
            "rows below zero",
            Checkpoint(1),
            "\"rows\":2",
            "\"rows\":-2",
            "lacks a field or has a wrong one",
        ),
        (
            "rows in the head",
            Checkpoint(0),
            "\"rows\":0",
            "\"rows\":1",
            "the head's checkpoint claims rows",
        ),
        (
            "a stream of the head",
            Checkpoint(0),
            "\"stream\":null",
            "\"stream\":\"events\"",
            "the head's checkpoint claims rows",
        ),
        (
            "another number",
            Checkpoint(2),
            "\"chunk\":2",
            "\"chunk\":3",
            "its checkpoint is number 3",
        ),
        (
            "another stream",
            Checkpoint(1),
            "\"sessions\"",
            "\"events\"",
            "expected a RECORD of this stream",
        ),
        ("an unknown stream", Checkpoint(1), "\"sessions\"", "\"others\"", "its stream is unknown"),
        (
            "no stream",
            Checkpoint(1),
            "\"stream\":\"sessions\"",
            "\"stream\":null",
            "its stream is unknown",
        ),
        ("another chain", Checkpoint(3), &prev, &zeros, "the chain of checkpoints is broken"),
        (
            "no chain",
            Checkpoint(3),
            &format!("\"{prev}\""),
            "null",
            "the chain of checkpoints is broken",
        ),
        (
            "a chain in the head",
            Checkpoint(0),
            "\"prev\":null",
            "\"prev\":\"\"",
            "the chain of checkpoints is broken",
        ),
        ("other bytes", Checkpoint(3), "\"bytes\":", "\"bytes\":1", "and its checkpoint counts"),
        ("a field missing", Checkpoint(1), "\"rows\":2,", "", "the checkpoint line lacks a field"),
        (
            "a field twice",
            Checkpoint(1),
            "\"rows\":2",
            "\"rows\":2,\"rows\":2",
            "the control line names a key twice",
        ),
        (
            "a field twice, escaped",
            Checkpoint(1),
            "\"rows\":2",
            "\"rows\":2,\"row\\u0073\":2",
            "names a key twice",
        ),
        (
            "bookmarks twice",
            Checkpoint(1),
            "\"bookmarks\":{}",
            "\"bookmarks\":{},\"bookmarks\":{}",
            "names a key twice",
        ),
        (
            "a mark twice",
            Manifest,
            "\"bookmarks\":{}",
            "\"bookmarks\":{\"a\":1,\"a\":2}",
            "names a key twice",
        ),
        (
            "a kind twice",
            Checkpoint(1),
            "\"kind\":\"checkpoint\"",
            "\"kind\":\"checkpoint\",\"kind\":\"manifest\"",
            "names a key twice",
        ),
        (
            "an unknown kind",
            Checkpoint(1),
            "\"kind\":\"checkpoint\"",
            "\"kind\":\"wonder\"",
            "a control line of kind \"wonder\"",
        ),
        (
            "a second header",
            Checkpoint(1),
            "\"kind\":\"checkpoint\"",
            "\"kind\":\"header\"",
            "a control line of kind \"header\"",
        ),
        (
            "a manifest as head",
            Checkpoint(0),
            "\"kind\":\"checkpoint\"",
            "\"kind\":\"manifest\"",
            "lacks a field",
        ),
        ("a carriage return", Checkpoint(0), "\"rows\":0", "\"rows\":\r0", "carriage return"),
        ("a carriage return", Checkpoint(2), "\n", "\r\n", "carriage return"),
        ("a carriage return", Manifest, "\n", "\r\n", "carriage return"),
        ("another version", Manifest, "\"version\":1", "\"version\":2", "its version"),
        ("chunks", Manifest, "\"chunks\":4", "\"chunks\":3", "its number of chunks"),
        ("bytes", Manifest, "\"bytes\":", "\"bytes\":1", "its number of bytes"),
        ("rows of a stream", Manifest, "\"events\":3", "\"events\":2", "its number of rows"),
        ("a stream missing", Manifest, ",\"events\":3", "", "its number of rows"),
        (
            "a stream more",
            Manifest,
            "\"events\":3",
            "\"events\":3,\"others\":0",
            "its number of rows",
        ),
        (
            "another order",
            Manifest,
            "\"sessions\":2,\"events\":3",
            "\"events\":3,\"sessions\":2",
            "its number of rows",
        ),
        ("rows twice", Manifest, "\"events\":3", "\"events\":3,\"events\":3", "names a key twice"),
        (
            "no rows",
            Manifest,
            "\"rows\":{\"sessions\":2,\"events\":3},",
            "",
            "the manifest line lacks a field",
        ),
    ] {
        let pieces = Hand::control(line, from, to);
        assert_both_refused(what, &pieces, DAMAGED, says);
    }
    // what only looks like a control line to a JSON parser is none: bare lines would read otherwise
    for (from, to) in [
        ("{\"type\":\"STATE\",", "{ \"type\":\"STATE\","),
        ("{\"type\":\"STATE\",", "{\"more\":1,\"type\":\"STATE\","),
        ("{\"type\":\"STATE\",", "{\"type\":\"state\","),
        ("{\"type\":\"STATE\",", "{\"type\":\"CHECKPOINT\","),
    ] {
        for line in [Checkpoint(0), Checkpoint(2), Manifest] {
            let archive = with_table(&Hand::control(line, from, to));
            assert_refused(to, &archive, DAMAGED, "its last line is not a STATE line");
            attempt(&Hand::control(line, from, to).concat()).1.unwrap_err();
        }
    }
    let array = Hand::new().altered(|line, text| match line {
        Manifest => {
            text.replace("{\"type\":\"STATE\",\"value\":", "[\"STATE\",").replace("}}\n", "}]\n")
        }
        Checkpoint(_) => text,
    });
    assert_refused("an array", &with_table(&array), DAMAGED, "not a STATE line");
    let long = format!("\"bookmarks\":{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    let pieces = Hand::control(Checkpoint(1), "\"bookmarks\":{}", &long);
    assert_both_refused("a long line", &pieces, DAMAGED, "over the limit of a control line");
    for line in [Checkpoint(0), Checkpoint(1), Manifest] {
        let mut pieces =
            Hand::control(line, "\"bookmarks\":{}", "\"bookmarks\":{\"a\":\"\u{7f}\"}");
        let place = match line {
            Checkpoint(n) => n,
            Manifest => pieces.len() - 1,
        };
        let at = pieces[place].iter().rposition(|byte| *byte == 0x7F).unwrap();
        pieces[place][at] = 0xFF;
        assert_both_refused("no UTF-8", &pieces, DAMAGED, "not UTF-8");
    }
}

#[test]
fn heads_that_say_something_else_are_refused() {
    let unsupported = Code::ArchiveUnsupported;
    let not_ours = "the SCHEMA lines are not those of the header's streams";
    for (what, from, to, code, says) in [
        ("version 2", "\"version\":1", "\"version\":2", unsupported, "the archive is of version 2"),
        (
            "version 10",
            "\"version\":1",
            "\"version\":10",
            unsupported,
            "the archive is of version 10",
        ),
        (
            "version 2 of all",
            HEADER,
            "{\"type\":\"STATE\",\"value\":{\"chronicle\":{\"kind\":\"header\",\"version\":2}}}\n",
            unsupported,
            "version 2",
        ),
        (
            "a feature",
            "\"requires\":[]",
            "\"requires\":[\"multi-archive\"]",
            unsupported,
            "the feature \"multi-archive\"",
        ),
        ("no features", "\"requires\":[],", "", DAMAGED, "the header line lacks a field"),
        (
            "a key twice",
            "\"writer\":",
            "\"writer\":\"x\",\"writer\":",
            DAMAGED,
            "the header line names a key twice",
        ),
        (
            "a version twice",
            "\"requires\"",
            "\"version\":1,\"requires\"",
            DAMAGED,
            "names a key twice",
        ),
        (
            "a stream without SCHEMA",
            "[\"sessions\",\"events\"]",
            "[\"sessions\",\"events\",\"more\"]",
            DAMAGED,
            not_ours,
        ),
        ("a SCHEMA too many", "[\"sessions\",\"events\"]", "[\"sessions\"]", DAMAGED, not_ours),
        (
            "another order",
            "[\"sessions\",\"events\"]",
            "[\"events\",\"sessions\"]",
            DAMAGED,
            not_ours,
        ),
        ("a SCHEMA twice", SESSIONS, &SESSIONS.repeat(2), DAMAGED, not_ours),
        ("no SCHEMA", EVENTS, "", DAMAGED, not_ours),
        ("a blank line", EVENTS, &format!("\n{EVENTS}"), DAMAGED, "not a SCHEMA line"),
        ("a record", EVENTS, SESSION_ROWS, DAMAGED, "not a SCHEMA line"),
        (
            "lower case",
            "{\"type\":\"SCHEMA\",\"stream\":\"events\"",
            "{\"type\":\"schema\",\"stream\":\"events\"",
            DAMAGED,
            "not a SCHEMA line",
        ),
        (
            "a stream's name",
            "{\"type\":\"SCHEMA\",\"stream\":\"events\"",
            "{\"type\":\"SCHEMA\",\"stream\":\"Events\"",
            DAMAGED,
            "without a proper stream name",
        ),
        (
            "a carriage return",
            "\"table\":\"events\"",
            "\r\"table\":\"events\"",
            DAMAGED,
            "carriage return",
        ),
        (
            "a key twice",
            "\"table\":\"events\"",
            "\"table\":\"events\",\"table\":\"e\"",
            DAMAGED,
            "names a key twice",
        ),
        (
            "a column twice",
            "\"n\":\"int\"",
            "\"n\":\"int\",\"n\":\"int\"",
            DAMAGED,
            "names a key twice",
        ),
        (
            "columns that differ",
            "\"n\":\"int\",",
            "",
            DAMAGED,
            "stream events: the columns of the SCHEMA line disagree",
        ),
        (
            "columns in another order",
            "\"n\":\"int\",\"x\":\"real\"",
            "\"x\":\"real\",\"n\":\"int\"",
            DAMAGED,
            "disagree",
        ),
        (
            "a long name",
            "\"n\":\"int\"",
            &format!("\"{}\":\"int\"", "n".repeat(256)),
            DAMAGED,
            "disagree or break a limit",
        ),
        (
            "no key",
            "\"key_properties\":[\"id\"],\"chronicle\":{\"table\":\"events\"",
            "\"key_properties\":[],\"chronicle\":{\"table\":\"events\"",
            DAMAGED,
            "names no key",
        ),
        (
            "a key of no column",
            "\"key_properties\":[\"id\"],\"chronicle\":{\"table\":\"events\"",
            "\"key_properties\":[\"no\"],\"chronicle\":{\"table\":\"events\"",
            DAMAGED,
            "a column that it lacks",
        ),
    ] {
        assert_both_refused(what, &Hand::head(from, to).pieces(), code, says);
    }
    let spaced = Hand::head(
        "{\"type\":\"STATE\",\"value\":{\"chronicle\":{\"kind\":\"header\"",
        "{\"type\":\"STATE\",\"value\":{\"chronicle\":{ \"kind\":\"header\"",
    )
    .pieces();
    assert_both_refused("a space", &spaced, Code::NotAnArchive, "its first line is not a header");
    let long = format!("\"table\":\"{}\"", "x".repeat(1 << 20));
    let pieces = Hand::head("\"table\":\"events\"", &long).pieces();
    assert_both_refused("a long line", &pieces, DAMAGED, "a SCHEMA line is over its limit");
}

#[test]
fn rows_that_are_not_of_the_format_are_refused() {
    let place = "chunk 2, row 1 of events";
    let record = "expected a RECORD of this stream";
    let next = "expected the next column of the SCHEMA line";
    let (int, real) = ("expected a value of kind int", "expected a value of kind real");
    let portable = "expected a portable JSON object";
    let deep = format!("\"data\":{}{{}}{}", "{\"a\":".repeat(100), "}".repeat(100));
    for (what, from, to, says) in [
        ("a column twice", "\"id\":\"e1\"", "\"id\":\"e1\",\"id\":\"e1\"", next),
        ("a column missing", "\"n\":1,", "", next),
        ("columns in another order", "\"n\":1,\"x\":0.5", "\"x\":0.5,\"n\":1", next),
        (
            "a column more",
            "\"data\":{\"a\": 1}",
            "\"data\":{\"a\": 1},\"more\":1",
            "expected the end of the record",
        ),
        ("a space", "\"n\":1", "\"n\": 1", int),
        ("a space", "{\"type\"", " {\"type\"", record),
        ("a blank line", "{\"type\"", "\n{\"type\"", record),
        ("a mark of byte order", "{\"type\"", "\u{feff}{\"type\"", record),
        ("lower case", "\"RECORD\"", "\"record\"", record),
        ("another stream", "\"events\"", "\"sessions\"", record),
        ("another type", "\"RECORD\"", "\"SCHEMA\"", record),
        ("a carriage return", "{\"a\": 1}}}\n", "{\"a\": 1}}}\r\n", "carriage return"),
        (
            "a member behind",
            "{\"a\": 1}}}\n",
            "{\"a\": 1}},\"more\":1}\n",
            "expected the end of the line",
        ),
        ("something behind", "{\"a\": 1}}}\n", "{\"a\": 1}}}{}\n", "expected the end of the line"),
        ("a line in two", "\"n\":1", "\"n\":\n1", int),
        ("text", "\"n\":1", "\"n\":\"1\"", int),
        ("a fraction", "\"n\":1", "\"n\":1.0", int),
        ("an exponent", "\"n\":1", "\"n\":1e2", int),
        ("a leading zero", "\"n\":1", "\"n\":01", int),
        ("a plus", "\"n\":1", "\"n\":+1", int),
        ("minus zero", "\"n\":1", "\"n\":-0", int),
        ("a large integer", "\"n\":1", "\"n\":9223372036854775808", int),
        ("nothing", "\"n\":1", "\"n\":", int),
        ("NaN", "\"x\":0.5", "\"x\":NaN", real),
        ("a large real", "\"x\":0.5", "\"x\":1e400", real),
        ("an integer for a real", "\"x\":0.5", "\"x\":1", real),
        ("half a real", "\"x\":0.5", "\"x\":.5", real),
        ("half a real", "\"x\":0.5", "\"x\":5.", real),
        ("true", "\"x\":0.5", "\"x\":true", real),
        ("null in a key", "\"id\":\"e1\"", "\"id\":null", "the SCHEMA line allows no null"),
        ("a number as text", "\"id\":\"e1\"", "\"id\":1", "expected a value of kind text"),
        ("a NUL", "\"id\":\"e1\"", "\"id\":\"\\u0000\"", "found a NUL character"),
        ("half a pair", "\"id\":\"e1\"", "\"id\":\"\\ud800\"", "found a broken string"),
        ("a raw tab", "\"id\":\"e1\"", "\"id\":\"\t\"", "found a broken string"),
        ("a bad escape", "\"id\":\"e1\"", "\"id\":\"\\x\"", "found a broken string"),
        ("an open string", "\"id\":\"e1\"", "\"id\":\"e1", next),
        ("a list", "{\"a\": 1}", "[1]", portable),
        ("a string for JSON", "{\"a\": 1}", "\"a\"", "expected a value of kind json"),
        ("a name twice", "{\"a\": 1}", "{\"a\":1,\"a\":1}", portable),
        ("a NUL in JSON", "{\"a\": 1}", "{\"a\":\"\\u0000\"}", portable),
        ("half a pair in JSON", "{\"a\": 1}", "{\"\\udfff\":1}", portable),
        ("a large number in JSON", "{\"a\": 1}", "{\"a\":1e400}", portable),
        ("no JSON", "{\"a\": 1}", "{\"a\":}", portable),
        ("deep JSON", "\"data\":{\"a\": 1}", &deep, portable),
    ] {
        let pieces = Hand::rows(from, to).pieces();
        assert_both_refused(what, &pieces, DAMAGED, says);
        let full = refusal(&with_table(&pieces)).1;
        assert!(full.contains(place) || says == "carriage return", "{what}: {full}");
    }
    let mut pieces = Hand::new().pieces();
    let at = pieces[2].windows(2).position(|bytes| bytes == b"e1").unwrap();
    pieces[2][at] = 0xFF;
    assert_both_refused("no UTF-8 with an old checkpoint", &pieces, DAMAGED, "SHA-256");
}

#[test]
fn an_exact_value_that_is_not_what_the_record_shows_is_refused() {
    let whole = "\"data\":{\"a\": 1}}";
    let beside = |record: &str, side: &str| format!("\"data\":{record}}},\"chronicle\":{side}");
    let exact = |record: &str, exact: &str| beside(record, &format!("{{\"exact\":{exact}}}"));
    let portable_form = "expected the portable form of the exact value beside it";
    for (to, code, says) in [
        (exact("{\"a\":1}", r#"{"data":{"json":"{\"a\":1,\"a\":2}"}}"#), DAMAGED, portable_form),
        (
            exact("{\"a\":2}", r#"{"data":{"json":"{\"a\":2}"} }"#)
                .replace("{\"a\":2}", "{\"a\": 2}"),
            DAMAGED,
            portable_form,
        ),
        (exact("null", r#"{"data":{"json":"{\"a\":1,\"a\":2}"}}"#), DAMAGED, portable_form),
        (exact("{\"a\":1}", r#"{"data":{"json":"[1]"}}"#), DAMAGED, portable_form),
        (exact("{}", r#"{"n":{"int":"2"}}"#), DAMAGED, portable_form),
        (exact("{}", r#"{"x":{"real":"NaN"}}"#), DAMAGED, portable_form),
        (exact("{}", r#"{"id":{"text":"e1\u0000"}}"#), DAMAGED, portable_form),
        (exact("{}", r#"{"id":{"blob":"AAEC"}}"#), DAMAGED, portable_form),
        (exact("{}", r#"{"n":{"int":"1 "}}"#), DAMAGED, "does not parse"),
        (exact("{}", r#"{"n":{"int":"9223372036854775808"}}"#), DAMAGED, "does not parse"),
        (exact("{}", r#"{"x":{"real":"inf"}}"#), DAMAGED, "does not parse"),
        (exact("{}", r#"{"n":{"blob":"AAE"}}"#), DAMAGED, "does not parse"),
        (
            exact("{}", r#"{"n":{"wonder":"1"}}"#),
            Code::ArchiveUnsupported,
            "column n: the exact tag \"wonder\" is not known",
        ),
        (
            exact("{}", r#"{"n":{"jsonb":"1"}}"#),
            Code::ArchiveUnsupported,
            "the exact tag \"jsonb\" is not known in a column of kind int",
        ),
        (
            exact("{}", r#"{"n":{"time":"infinity"}}"#),
            Code::ArchiveUnsupported,
            "the exact tag \"time\"",
        ),
        (exact("{}", r#"{"more":{"int":"1"}}"#), DAMAGED, "found an exact value of no column"),
        (exact("{}", r#"{"n":{"int":"1","text":"1"}}"#), DAMAGED, "found several exact values"),
        (exact("{}", r#"{"n":{}}"#), DAMAGED, "found several exact values, expected one"),
        (exact("{}", r#"{"n":{"int":"1"},"n":{"int":"1"}}"#), DAMAGED, "distinct names"),
        (exact("{}", r#"{"n":{"int":1}}"#), DAMAGED, "expected objects of texts"),
        (exact("{}", "[]"), DAMAGED, "expected objects of texts"),
        (beside("{}", "[]"), DAMAGED, "beside the record"),
        (beside("{}", "null"), DAMAGED, "beside the record"),
        (beside("{}", ""), DAMAGED, "beside the record"),
        (beside("{}", "{},\"more\":1"), DAMAGED, "beside the record"),
        (beside("{}", "{\"exact\":{},\"exact\":{}}"), DAMAGED, "beside the record"),
    ] {
        assert_both_refused(&to, &Hand::rows(whole, &to).pieces(), code, says);
    }
}

#[test]
fn an_offset_that_is_none_of_a_local_time_is_refused() {
    let with = |note: &str, offsets: &str| {
        let mut hand = Hand::new();
        hand.head = hand.head.replacen("\"instants\":[]", "\"instants\":[\"note\"]", 1);
        let side = format!("{{\"note\":{note}}},\"chronicle\":{{\"offsets\":{offsets}}}}}");
        let rows = SESSION_ROWS.replacen("{\"id\":\"s1\",\"note\":null}}", "{\"id\":\"s1\",", 1);
        hand.chunks[0].1 =
            rows.replacen("{\"id\":\"s1\",", &format!("{{\"id\":\"s1\",{}", &side[1..]), 1);
        attempt(&hand.pieces().concat()).1
    };
    let local = "\"2025-08-19 10:00:00.1234567\"";
    for good in ["+02:00", "-15:59:59", "+00:00", "+00:53:28"] {
        with(local, &format!("{{\"note\":\"{good}\"}}")).unwrap();
    }
    for (note, offset, says) in [
        (local, "\"+2\"", "expected an offset"),
        (local, "\"-00:00\"", "expected an offset"),
        (local, "\"+16:00\"", "expected an offset"),
        (local, "\"+02:00:00\"", "expected an offset"),
        (local, "\"Europe/Berlin\"", "expected an offset"),
        (local, "2", "beside the record"),
        ("\"2025-08-19 10:00:00Z\"", "\"+02:00\"", "expected one of a time without a zone"),
        ("\"soon\"", "\"+02:00\"", "expected one of a time without a zone"),
        ("null", "\"+02:00\"", "expected one of a time without a zone"),
    ] {
        let error = with(note, &format!("{{\"note\":{offset}}}")).unwrap_err();
        assert!(error.code() == DAMAGED && error.full().contains(says), "{}", error.full());
    }
    for (column, says) in [("id", "of a time without a zone"), ("more", "an offset of no column")] {
        let error = with(local, &format!("{{\"{column}\":\"+02:00\"}}")).unwrap_err();
        assert!(error.code() == DAMAGED && error.full().contains(says), "{}", error.full());
    }
}

#[test]
fn streams_follow_each_other_in_the_order_of_the_header_and_never_resume() {
    let good = Hand::new();
    for order in [&[1, 0][..], &[0, 1, 0], &[1, 2, 0], &[1, 0, 2]] {
        let chunks = order.iter().map(|n| good.chunks[*n].clone()).collect();
        let pieces = Hand { chunks, ..good.clone() }.pieces();
        assert_both_refused("the order", &pieces, DAMAGED, "its stream is unknown or out of order");
    }
    for order in [&[][..], &[0], &[1], &[2, 1]] {
        let chunks = order.iter().map(|n| good.chunks[*n].clone()).collect();
        let pieces = Hand { chunks, ..good.clone() }.pieces();
        attempt(&with_table(&pieces)).1.unwrap();
        attempt(&pieces.concat()).1.unwrap();
    }
    let mut mixed = Hand::new();
    mixed.chunks[1].1.push_str(SESSION_ROWS);
    assert_both_refused("mixed", &mixed.pieces(), DAMAGED, "expected a RECORD of this stream");
    let mut empty = Hand::new();
    empty.chunks[1].1.clear();
    assert_both_refused(
        "no rows",
        &empty.pieces(),
        DAMAGED,
        "it holds 0 rows and its checkpoint counts 0",
    );
}

#[test]
fn a_stream_of_an_unknown_kind_is_verified_and_not_decoded() {
    let kind = ("\"data\":\"json\"", "\"data\":\"vector\"");
    let hand = Hand::head(kind.0, kind.1);
    let pieces = hand.pieces();
    for bytes in [with_table(&pieces), pieces.concat()] {
        let mut reader = ArchiveReader::open(&bytes[..], Limits::default()).unwrap();
        assert_eq!((reader.unknown_kind(0), reader.unknown_kind(1)), (None, Some("vector")));
        assert_eq!(reader.unknown_kind(2), None);
        let mut batch = Batch::default();
        let mut read = Vec::new();
        while reader.next_batch(&mut batch).unwrap() {
            read.push((batch.stream(), batch.rows()));
        }
        assert_eq!(read, [(0, 2), (1, 0), (1, 0)]);
        assert_eq!((reader.rows(), reader.sealed().is_some()), (&[2, 3][..], true));
        assert_eq!(batch.value(0, 0), Value::Null);
    }
    for (from, to, says) in [
        ("{\"type\"", "\n{\"type\"", "chunk 2, row 1 of events: found something else"),
        ("\"RECORD\"", "\"SCHEMA\"", "expected a RECORD of this stream"),
        ("\"events\"", "\"sessions\"", "expected a RECORD of this stream"),
        ("\"n\":1", "\"n\":\n1", "row 2 of events"),
        ("\"n\":1", "\"n\":\r1", "carriage return"),
    ] {
        let mut hand = Hand::rows(from, to);
        hand.head = hand.head.replace(kind.0, kind.1);
        assert_both_refused(to, &hand.pieces(), DAMAGED, says);
    }
    let pieces = hand.altered(|line, text| match line {
        Line::Checkpoint(2) => text.replace("\"rows\":2", "\"rows\":1"),
        _ => text,
    });
    assert_both_refused("rows", &pieces, DAMAGED, "it holds 2 rows and its checkpoint counts 1");
}

// ---- frames ---------------------------------------------------------------------------------

/// A frame made by hand: what its header says, its blocks, its checksum.
struct Odd {
    size: Option<u64>,
    checksum: bool,
    dictionary: Option<u8>,
    /// The window as its power of two.
    window: u8,
}

const EVEN: Odd = Odd { size: None, checksum: true, dictionary: None, window: 20 };

impl Odd {
    /// The bytes before the blocks.
    fn header(&self) -> Vec<u8> {
        let mut descriptor = if self.size.is_some() { 3 << 6 } else { 0 };
        descriptor |= u8::from(self.checksum) << 2 | u8::from(self.dictionary.is_some());
        let mut bytes = vec![0x28, 0xB5, 0x2F, 0xFD, descriptor, (self.window - 10) << 3];
        bytes.extend(self.dictionary);
        bytes.extend(self.size.iter().flat_map(|size| size.to_le_bytes()));
        bytes
    }

    /// A frame of one block that is not compressed.
    fn frame(&self, content: &[u8]) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.extend(&((content.len() as u32) << 3 | 1).to_le_bytes()[..3]);
        bytes.extend(content);
        if self.checksum {
            let proper = compress(content);
            bytes.extend(&proper[proper.len() - 4..]);
        }
        bytes
    }

    /// A frame of zeros in blocks of 128 KiB, with a wrong checksum.
    fn bomb(&self, zeros: u64) -> Vec<u8> {
        let mut bytes = self.header();
        let blocks = zeros >> 17;
        for n in 1..=blocks {
            bytes.extend(
                &((128_u32 << 10) << 3 | 1 << 1 | u32::from(n == blocks)).to_le_bytes()[..3],
            );
            bytes.push(0);
        }
        bytes.extend([0; 4]);
        bytes
    }
}

#[test]
fn a_frame_of_empty_blocks_without_an_end_is_refused() {
    let header = Odd { size: Some(1), ..EVEN }.header();
    let endless = Cursor::new(header).chain(std::io::repeat(0));
    let error = ArchiveReader::open(endless, Limits::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(format!("{error:?}").contains("far longer than its content"), "{error:?}");
}

#[test]
fn frames_that_are_not_of_the_format_are_refused() {
    let pieces = Hand::new().pieces();
    let whole = |piece: usize| Odd { size: Some(pieces[piece].len() as u64), ..EVEN };
    // in the place of the head, of a chunk, of the manifest
    for piece in [0, 2, 4] {
        let content = &pieces[piece];
        let with = |odd: Vec<u8>| {
            let frames = pieces.iter().enumerate();
            let frames = frames.map(|(n, p)| if n == piece { odd.clone() } else { compress(p) });
            frames.collect::<Vec<_>>().concat()
        };
        for good in [
            whole(piece),
            Odd { window: 23, ..whole(piece) },
            Odd { dictionary: Some(0), ..whole(piece) },
        ] {
            attempt(&with(good.frame(content))).1.unwrap();
        }
        let size = content.len() as u64;
        let off = |by: i64| Some(size.checked_add_signed(by).unwrap());
        let mib = 1 << 20;
        let skippable =
            [&[0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, 1, 2, 3, 4], &whole(piece).frame(content)[..]]
                .concat();
        let first = piece == 0;
        let limit = if first { 8 * mib } else { 128 * mib };
        for (what, odd, says) in [
            (
                "no size",
                Odd { size: None, ..whole(piece) }.frame(content),
                "does not say the size of its content",
            ),
            (
                "no checksum",
                Odd { checksum: false, ..whole(piece) }.frame(content),
                "a frame carries no checksum",
            ),
            (
                "a dictionary",
                Odd { dictionary: Some(7), ..whole(piece) }.frame(content),
                "a frame asks for a dictionary",
            ),
            (
                "a window of 16 MiB",
                Odd { window: 24, ..whole(piece) }.frame(content),
                "a window of more than 8 MiB",
            ),
            (
                "the largest window",
                Odd { window: 41, ..whole(piece) }.frame(content),
                "a window of more than 8 MiB",
            ),
            (
                "a size too large",
                Odd { size: off(1), ..whole(piece) }.frame(content),
                "a frame does not decompress",
            ),
            (
                "a size too small",
                Odd { size: off(-1), ..whole(piece) }.frame(content),
                "a frame does not decompress",
            ),
            (
                "a size of nothing",
                Odd { size: Some(0), ..whole(piece) }.frame(content),
                "a frame does not decompress",
            ),
            (
                "a frame over the limit",
                Odd { size: Some(limit + 1), ..EVEN }.header(),
                "the limit is ",
            ),
            (
                "a frame beyond all limits",
                Odd { size: Some(u64::MAX), ..EVEN }.header(),
                "the limit is ",
            ),
            (
                "a bomb",
                Odd { size: Some(200 * mib), ..EVEN }.bomb(200 * mib),
                "a frame holds 209715200 bytes, the limit is ",
            ),
            ("a bomb that lies", whole(piece).bomb(200 * mib), "a frame does not decompress"),
            (
                "a bomb within the limit",
                Odd { size: Some(limit), ..EVEN }.bomb(limit),
                "a frame does not decompress",
            ),
            (
                "an empty frame",
                compress(b""),
                if first { "not a header" } else { "does not end with a line end" },
            ),
            (
                "no line end",
                compress(&content[..content.len() - 1]),
                "does not end with a line end",
            ),
            (
                "two frames",
                [compress(&content[..20]), compress(&content[20..])].concat(),
                if first { "not a header" } else { "line end" },
            ),
        ] {
            let (code, full) = refusal(&with(odd));
            let expected = if says == "not a header" { Code::NotAnArchive } else { DAMAGED };
            assert!(code == expected && full.contains(says), "{what} at {piece}: {code:?}, {full}");
        }
        let (code, says) = match piece {
            0 => (Code::NotAnArchive, "this is not an archive"),
            _ => (DAMAGED, "something else stands where the next zstd frame should start"),
        };
        assert_refused("a skippable frame", &with(skippable), code, says);
    }
}

#[test]
fn a_frame_is_a_chunk_and_nothing_else() {
    let pieces = Hand::new().pieces();
    let joined = |from: usize, to: usize| {
        let mut joined = pieces.clone();
        let tail: Vec<Vec<u8>> = joined.drain(from..=to).collect();
        joined.insert(from, tail.concat());
        joined
    };
    for (from, to, says) in [
        (0, 1, "chunk 0: its checkpoint is number 1"),
        (0, 4, "the head does not end with a checkpoint"),
        (1, 2, "chunk 1: its checkpoint is number 2"),
        (3, 4, "the manifest does not stand alone"),
    ] {
        assert_refused("two in one frame", &zip(&joined(from, to)), DAMAGED, says);
        attempt(&joined(from, to).concat()).1.unwrap();
    }
    let mut halves = pieces.clone();
    let border = halves[2].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let later = halves[2].split_off(border);
    halves.insert(3, later);
    assert_refused("a chunk in two frames", &zip(&halves), DAMAGED, "not a STATE line");
    attempt(&halves.concat()).1.unwrap();
    let mut last = pieces;
    last[4] = [SESSION_ROWS.as_bytes(), &last[4]].concat();
    assert_both_refused(
        "rows before the manifest",
        &last,
        DAMAGED,
        "the manifest does not stand alone",
    );
    last[4] = [b"\n", &Hand::new().pieces()[4][..]].concat();
    assert_both_refused("a blank line before the manifest", &last, DAMAGED, "does not stand alone");
}

#[test]
fn limits_can_be_lowered_and_raised() {
    let pieces = Hand::new().pieces();
    let read = |bytes: &[u8], limits: Limits| -> Result<()> {
        let mut reader = ArchiveReader::open(bytes, limits)?;
        let mut batch = Batch::default();
        while reader.next_batch(&mut batch)? {}
        Ok(())
    };
    let archive = with_table(&pieces);
    let content = pieces.iter().map(Vec::len).max().unwrap();
    read(&archive, Limits { frame_content: content, ..Limits::default() }).unwrap();
    let error =
        read(&archive, Limits { frame_content: content - 1, ..Limits::default() }).unwrap_err();
    assert!(error.full().contains("the limit is"), "{}", error.full());
    let record = EVENT_ROWS.lines().map(|line| line.len() + 1).max().unwrap();
    let error =
        read(&archive, Limits { record_line: record / 2, ..Limits::default() }).unwrap_err();
    assert!(error.full().contains("a record line is over the limit"), "{}", error.full());
    let large = Odd { size: Some((128 << 20) + 1), ..EVEN }.header();
    let raised = Limits { frame_content: 256 << 20, ..Limits::default() };
    let error = read(&[compress(&pieces[0]), large].concat(), raised).unwrap_err();
    assert_eq!(error.code(), Code::ArchiveTruncated, "{}", error.full());
}

// ---- behind the manifest --------------------------------------------------------------------

#[test]
fn a_wrong_seek_table_is_told_and_costs_no_row() {
    let good = Hand::new().pieces();
    let archive = zip(&good);
    let own = table(&archive);
    let other = |from: &str, to: &str| table(&zip(&Hand::head(from, to).pieces()));
    let mut other_kind = own.clone();
    other_kind[0] = 0x50;
    let (rows, _) = attempt(&archive);
    for (what, behind, index) in [
        ("its own", own.clone(), Index::Good),
        ("none", Vec::new(), Index::Missing),
        ("that of another archive", other("by hand", "by other hands"), Index::Damaged),
        ("a part", own[..20].to_vec(), Index::Damaged),
        ("zeros", vec![0; own.len()], Index::Damaged),
        ("another skippable frame", other_kind, Index::Damaged),
        ("a skippable frame that claims 4 GiB", [&own[..4], &[0xFF; 4]].concat(), Index::Damaged),
    ] {
        let (found, ended) = attempt(&[&archive[..], &behind].concat());
        assert_eq!((ended.unwrap().index, found == rows), (index, true), "{what}");
    }
    let without = Hand::control(Line::Manifest, "\"seek_table\":true", "\"seek_table\":false");
    assert_eq!(attempt(&zip(&without)).1.unwrap().index, Index::None);
    assert_eq!(attempt(&with_table(&without)).1.unwrap().index, Index::Good);
}

#[test]
fn nothing_may_follow_the_manifest_but_a_seek_table() {
    let pieces = Hand::new().pieces();
    let archive = with_table(&pieces);
    let cut = zip(&pieces);
    let own = archive[cut.len()..].to_vec();
    for (what, bytes) in [
        ("garbage", [&archive[..], b"garbage"].concat()),
        ("one byte", [&archive[..], b"\n"].concat()),
        ("a second archive", [&archive[..], &archive].concat()),
        ("a second archive without the table between", [&cut[..], &archive].concat()),
        ("half a second archive", [&cut[..], &archive[..9]].concat()),
        ("an empty frame", [&cut[..], &compress(b"")].concat()),
        ("an empty frame behind the table", [&archive[..], &compress(b"")].concat()),
        ("a second table", [&archive[..], &own].concat()),
        ("long garbage", [&cut[..], &[b'x'; 4096]].concat()),
        ("4 GiB to skip", [&cut[..], &own[..4], &[0xFF; 4], &[0; 4096]].concat()),
        ("a bare line", [&pieces.concat()[..], b"{}\n"].concat()),
        ("a bare blank line", [&pieces.concat()[..], b"\n"].concat()),
        ("a bare NUL", [&pieces.concat()[..], b"\0"].concat()),
        ("a bare archive", pieces.concat().repeat(2)),
        ("a table behind bare lines", [&pieces.concat()[..], &own].concat()),
    ] {
        assert_refused(what, &bytes, DAMAGED, "data follow the manifest");
    }
}

// ---- other files ----------------------------------------------------------------------------

#[test]
fn other_files_are_no_archives() {
    let singer = [
        "{\"type\":\"SCHEMA\",\"stream\":\"a\",\"schema\":{},\"key_properties\":[\"id\"]}\n",
        "{\"type\":\"RECORD\",\"stream\":\"a\",\"record\":{\"id\":1}}\n",
        "{\"type\":\"STATE\",\"value\":{}}\n",
    ];
    let header = HEADER.as_bytes();
    let other = "its first line is not a header";
    let neither = "neither with a zstd frame nor with a JSON line";
    for (what, bytes, says) in [
        ("nothing", vec![], "the input is empty"),
        ("one byte", b"a".to_vec(), neither),
        ("two bytes", b"\n\n".to_vec(), neither),
        ("three bytes", vec![0x28, 0xB5, 0x00], neither),
        ("gzip", vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0], neither),
        ("xz", b"\xfd7zXZ\0\0\x04".to_vec(), neither),
        ("SQLite", b"SQLite format 3\0\x10\0\x01\x01\0\x40\x20\x20".to_vec(), neither),
        ("a skippable frame", vec![0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0], neither),
        ("a mark of byte order", [b"\xef\xbb\xbf", header].concat(), neither),
        ("a blank line", [b"\n", header].concat(), neither),
        ("a JSON list", b"[{\"type\":\"STATE\"}]".to_vec(), neither),
        ("text", b"id,body\n1,x\n".to_vec(), neither),
        ("zstd of text", compress(b"some text\nand more\n"), other),
        ("zstd of text without a line end", compress(b"some text"), other),
        ("zstd of nothing", compress(b""), other),
        ("zstd with a mark of byte order", compress(&[b"\xef\xbb\xbf", header].concat()), other),
        ("Singer", singer.concat().into_bytes(), other),
        ("Singer without STATE", singer[..2].concat().into_bytes(), other),
        ("zstd of Singer", compress(singer.concat().as_bytes()), other),
        ("much NDJSON", singer[1].repeat(200_000).into_bytes(), other),
        ("JSON", b"{\"a\":1}".to_vec(), other),
        ("printed JSON", b"{\n  \"a\": 1\n}\n".to_vec(), other),
    ] {
        assert_refused(what, &bytes, Code::NotAnArchive, says);
    }
    for start in [&header[..1], &header[..2], &header[..50], &header[..200], &compress(header)[..3]]
    {
        assert_refused("a start", start, Code::ArchiveTruncated, "before its manifest");
    }
}
