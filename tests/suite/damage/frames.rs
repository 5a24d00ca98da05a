//! Frames that are not of the format or not where they were written, and files that are no archives.

use std::io::{Cursor, Read};

use chronicle_archive::error::ErrorKind;
use chronicle_archive::{ArchiveReader, Batch, Limits};
use chronicle_dump::error::{Code, Result};

use super::hand::{
    EVENT_ROWS, HEADER, Hand, SESSION_ROWS, assert_both_refused, compress, split, with_table, zip,
};
use super::{DAMAGED, assert_refused, attempt, refusal};

#[test]
pub(super) fn frames_that_are_not_where_they_were_written_are_refused() {
    let good = split(&Hand::new().pieces());
    let all = attempt(&zip(&good)).0;
    let assert_no_archive = |what: &str, frames: &[Vec<u8>]| {
        let bytes = zip(frames);
        refusal(&bytes);
        let rows = attempt(&bytes).0;
        let is_start = rows.iter().zip(&all).all(|(some, all)| all.starts_with(some));
        assert!(is_start, "{what}: rows that were not verified");
    };
    assert_eq!(good.len(), 8);
    for at in 0..good.len() {
        let mut frames = good.clone();
        let frame = frames.remove(at);
        assert_no_archive(&format!("without frame {at}"), &frames);
        for to in (0..good.len()).filter(|to| *to != at) {
            let mut moved = frames.clone();
            moved.insert(to, frame.clone());
            assert_no_archive(&format!("frame {at} moved to {to}"), &moved);
        }
        for to in 0..=good.len() {
            let mut repeated = good.clone();
            repeated.insert(to, frame.clone());
            assert_no_archive(&format!("frame {at} again at {to}"), &repeated);
        }
        for to in at + 1..good.len() {
            let mut swapped = good.clone();
            swapped.swap(at, to);
            assert_no_archive(&format!("frames {at} and {to} swapped"), &swapped);
        }
    }
}

#[test]
pub(super) fn records_and_their_checkpoint_fit_together_or_are_refused() {
    let good = split(&Hand::new().pieces());
    let with = |at: usize, contents: &[&[u8]]| {
        let mut frames = good.clone();
        frames.splice(at..=at, contents.iter().map(|content| content.to_vec()));
        zip(&frames)
    };
    let (records, checkpoint) = (&good[3][..], &good[4][..]);
    let border = records.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for (what, bytes, says) in [
        (
            "records in two frames",
            with(3, &[&records[..border], &records[border..]]),
            "not a STATE line",
        ),
        ("records cut in a line", with(3, &[&records[..9], &records[9..]]), "line end"),
        ("a checkpoint cut", with(4, &[&checkpoint[..40], &checkpoint[40..]]), "line end"),
        ("half a checkpoint", with(4, &[&checkpoint[..40]]), "line end"),
        (
            "a record behind the checkpoint",
            with(4, &[&[checkpoint, records].concat()]),
            "not a STATE line",
        ),
        ("an empty checkpoint", with(4, &[b""]), "not a STATE line"),
        ("empty records", with(3, &[b""]), "does not end with a line end"),
        (
            "records without a line end",
            with(3, &[&records[..records.len() - 1]]),
            "does not end with a line end",
        ),
        ("two checkpoints in a frame", with(4, &[&checkpoint.repeat(2)]), "its checkpoint counts"),
        (
            "a checkpoint in both frames",
            with(3, &[&[records, checkpoint].concat()]),
            "its checkpoint counts",
        ),
    ] {
        assert_refused(what, &bytes, DAMAGED, says);
    }
    // the head is one frame, its checkpoint too
    let head = &good[0];
    let last = head[..head.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    assert_refused(
        "a head in two frames",
        &with(0, &[&head[..last], &head[last..]]),
        DAMAGED,
        "not a STATE line",
    );
    // both in one frame is how archives were framed at first
    let mut mixed = good.clone();
    let later = mixed.remove(4);
    mixed[3].extend(later);
    assert_eq!(attempt(&zip(&mixed)).1.unwrap().digest, attempt(&zip(&good)).1.unwrap().digest);
}

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
pub(super) fn a_frame_of_empty_blocks_without_an_end_is_refused() {
    let header = Odd { size: Some(1), ..EVEN }.header();
    let endless = Cursor::new(header).chain(std::io::repeat(0));
    let error = ArchiveReader::open(endless, Limits::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(format!("{error:?}").contains("far longer than its content"), "{error:?}");
}

#[test]
pub(super) fn frames_that_are_not_of_the_format_are_refused() {
    let joined = Hand::new().pieces();
    let split = split(&joined);
    // in the place of the head, of records, of a checkpoint, of a chunk in one frame, of the manifest
    for (pieces, piece) in [(&split, 0), (&split, 3), (&split, 4), (&joined, 2), (&joined, 4)] {
        let whole = |piece: usize| Odd { size: Some(pieces[piece].len() as u64), ..EVEN };
        let content = &pieces[piece];
        // a frame without a control line does not count as a checkpoint
        let is_checkpoint = pieces.len() == split.len() && piece == 4;
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
                if is_checkpoint { "not a STATE line" } else { "a frame does not decompress" },
            ),
            (
                "an empty frame",
                compress(b""),
                match first {
                    true => "not a header",
                    false if is_checkpoint => "not a STATE line",
                    false => "does not end with a line end",
                },
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
            _ => (DAMAGED, "no zstd frame where the next one should start"),
        };
        assert_refused("a skippable frame", &with(skippable), code, says);
    }
}

#[test]
pub(super) fn a_frame_is_a_chunk_and_nothing_else() {
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
        (3, 4, "the manifest shares its frame with other lines"),
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
        "the manifest shares its frame with other lines",
    );
    last[4] = [b"\n", &Hand::new().pieces()[4][..]].concat();
    assert_both_refused(
        "a blank line before the manifest",
        &last,
        DAMAGED,
        "shares its frame with other lines",
    );
}

#[test]
pub(super) fn limits_can_be_lowered_and_raised() {
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

#[test]
pub(super) fn other_files_are_no_archives() {
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
