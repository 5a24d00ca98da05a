//! Damaged, cut and contrived archives: each is refused with a telling message or says the same.

mod frames;
mod hand;
mod lines;
mod rows;

use std::cell::RefCell;
use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use chronicle_archive::Batch;
use chronicle_archive::{ArchiveReader, Index, Limits, Sealed};
use chronicle_dump::error::{Code, Error, Result};

use crate::archive::{
    Frame, Owned, PLAIN, Row, Way, decompress, frames, letter, letters, sha256, write,
};
use hand::{Hand, Line, assert_both_refused, compress, split, table, with_table, zip};

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
    if ended.is_ok() {
        assert_same_without_rows(bytes, &ended);
    }
    (rows, ended)
}

/// Reading no rows ends as reading them does: what is not of the format is only seen in rows, but not a damaged byte.
fn assert_same_without_rows(bytes: &[u8], ended: &Result<Sealed>) {
    let mut rows = Vec::new();
    let without = ArchiveReader::open(bytes, Limits::default()).map_err(Error::from);
    let without = without.and_then(|mut reader| {
        reader.skip_rows();
        rows.resize(reader.streams().len(), 0);
        let mut batch = Batch::default();
        while reader.next_batch(&mut batch)? {
            assert_eq!(batch.rows(), 0, "a row was read");
        }
        rows.copy_from_slice(reader.rows());
        Ok(reader.sealed().unwrap().clone())
    });
    assert_eq!(told(&without), told(ended));
    if let Ok(sealed) = without {
        let counted: Vec<u64> = sealed.manifest.rows.iter().map(|(_, rows)| *rows).collect();
        assert_eq!(rows, counted);
    }
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

/// How reading ended.
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
    frames::frames_that_are_not_where_they_were_written_are_refused();
    an_edited_chunk_with_a_new_checkpoint_breaks_the_chain();
    lines::control_lines_that_say_something_else_are_refused();
    lines::heads_that_say_something_else_are_refused();
    rows::rows_that_are_not_of_the_format_are_refused();
    rows::an_exact_value_that_is_not_what_the_record_shows_is_refused();
    rows::streams_come_in_the_order_of_the_header_and_never_resume();
    rows::a_stream_of_an_unknown_kind_is_verified_and_not_decoded();
    frames::frames_that_are_not_of_the_format_are_refused();
    frames::a_frame_is_a_chunk_and_nothing_else();
    nothing_may_follow_the_manifest_but_a_seek_table();
    frames::other_files_are_no_archives();
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

    /// The same lines as archives were framed at first: a chunk and its checkpoint in one frame.
    fn joined() -> Small {
        let mut small = Small::new();
        let content = |frame: &Frame| decompress(&small.archive[frame.start..frame.end]);
        let contents: Vec<Vec<u8>> = small.frames.iter().map(content).collect();
        let (head, chunks) = contents.split_first().unwrap();
        let mut pieces = vec![head.clone()];
        pieces.extend(chunks.chunks(2).map(<[Vec<u8>]>::concat));
        let archive = with_table(&pieces);
        small.frames = frames(&archive);
        small.archive = archive;
        small
    }

    /// Where the seek table starts.
    fn table(&self) -> usize {
        self.frames.last().unwrap().end
    }

    /// Where the manifest starts in the text.
    fn manifest(&self) -> usize {
        self.text[..self.text.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1
    }

    /// Whether everything that was handed on is the start of its stream.
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
fn an_archive_cut_anywhere_is_reported_as_truncated() {
    assert_refused("nothing", b"", Code::NotAnArchive, "the input is empty");
    assert_cuts_are_truncated(&Small::new());
    assert_cuts_are_truncated(&Small::joined());
}

fn assert_cuts_are_truncated(small: &Small) {
    each_case(small.archive.len(), |cut| {
        let (rows, ended) = attempt(&small.archive[..cut]);
        assert_same_without_rows(&small.archive[..cut], &ended);
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
    for (n, frame) in small.frames.iter().enumerate().skip(1) {
        let (rows, ended) = attempt(&small.archive[..frame.start]);
        // a chunk is whole with its checkpoint, which is in a frame of its own
        let chunks = n.div_ceil(2);
        let counted = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
        let whole = format!(
            "after {} ({}, {}, 0 none)",
            counted(chunks, "complete chunk"),
            counted(rows[0].len(), "session"),
            counted(rows[1].len(), "event")
        );
        let full = ended.unwrap_err().full();
        assert!(full.contains(&whole), "{full}, expected {whole}");
        let place = if n % 2 == 0 { "a chunk and its checkpoint" } else { "two chunks" };
        assert!(full.contains(&format!("the space between {place}")), "{full}");
    }
}

#[test]
fn a_text_cut_at_a_line_border_is_no_archive() {
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
    assert_same_without_rows(damaged, &ended);
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
fn no_flipped_bit_produces_other_rows() {
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
fn chain_and_digest_detect_every_bit_without_zstd() {
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

const DAMAGED: Code = Code::ArchiveDamaged;

#[test]
fn an_archive_written_by_hand_is_accepted() {
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
        (with_table(&split(&pieces)), Index::Good),
        (zip(&split(&pieces)), Index::Missing),
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
        ("a repeated manifest", &[0, 1, 2, 3, 4, 4], DAMAGED, "data after the manifest"),
        ("a chunk behind the manifest", &[0, 1, 2, 4, 3], DAMAGED, "disagrees"),
        ("no manifest", &[0, 1, 2, 3], Code::ArchiveTruncated, "before its manifest"),
        (
            "only a head",
            &[0],
            Code::ArchiveTruncated,
            "after 1 complete chunk (0 sessions, 0 events)",
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
fn an_edited_chunk_with_a_new_checkpoint_breaks_the_chain() {
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
    assert_both_refused("a shorter row", &pieces, DAMAGED, "but its checkpoint counts");
}

// ---- behind the manifest --------------------------------------------------------------------

#[test]
fn a_wrong_seek_table_is_reported_and_costs_no_row() {
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
        assert_refused(what, &bytes, DAMAGED, "data after the manifest");
    }
}
