//! Archives made by hand: their lines may say anything, and their checkpoints agree with them.

use chronicle_dump::error::Code;
use zstd::bulk::Compressor;

use super::assert_refused;
use crate::archive::{frames, sha256};

pub(super) const HEADER: &str = r#"{"type":"STATE","value":{"chronicle":{"kind":"header","version":1,"requires":[],"archive_id":"00000000-0000-0000-0000-000000000000","created_at":null,"writer":"by hand","source":{"backend":"sqlite"},"streams":["sessions","events"],"chunk_target":65536,"consistency":"snapshot"},"bookmarks":{}}}
"#;
pub(super) const SESSIONS: &str = r#"{"type":"SCHEMA","stream":"sessions","schema":{"type":"object","properties":{"id":{"type":"string"},"note":{"type":["string","null"]}}},"key_properties":["id"],"chronicle":{"table":"sessions","columns":{"id":"text","note":"text"},"instants":[],"order":["id"]}}
"#;
pub(super) const EVENTS: &str = r#"{"type":"SCHEMA","stream":"events","schema":{"type":"object","properties":{"id":{"type":"string"},"n":{"type":["integer","null"]},"x":{"type":["number","null"]},"data":{"type":["object","null"]}}},"key_properties":["id"],"chronicle":{"table":"events","columns":{"id":"text","n":"int","x":"real","data":"json"},"instants":[],"order":["id"]}}
"#;
pub(super) const SESSION_ROWS: &str = r#"{"type":"RECORD","stream":"sessions","record":{"id":"s1","note":null}}
{"type":"RECORD","stream":"sessions","record":{"id":"s2","note":"two"}}
"#;
pub(super) const EVENT_ROWS: &str = r#"{"type":"RECORD","stream":"events","record":{"id":"e1","n":1,"x":0.5,"data":{"a": 1}}}
{"type":"RECORD","stream":"events","record":{"id":"e2","n":null,"x":null,"data":{"a":"\ufffd"}},"chronicle":{"exact":{"data":{"json":"{\"a\":\"\\u0000\"}"}}}}
"#;
pub(super) const LATE_ROWS: &str = r#"{"type":"RECORD","stream":"events","record":{"id":"e3","n":-9223372036854775808,"x":1e300,"data":null}}
"#;

/// The control lines of an archive made by hand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Checkpoint(usize),
    Manifest,
}

/// An archive made by hand: its lines may say anything, its checkpoints agree with them.
#[derive(Clone)]
pub(super) struct Hand {
    pub(super) head: String,
    pub(super) chunks: Vec<(&'static str, String)>,
}

impl Hand {
    pub(super) fn new() -> Hand {
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
    pub(super) fn head(from: &str, to: &str) -> Hand {
        let mut hand = Hand::new();
        assert_eq!(hand.head.matches(from).count(), 1, "{from} in the head");
        hand.head = hand.head.replace(from, to);
        hand
    }

    /// With something else in the first rows of `events`.
    pub(super) fn rows(from: &str, to: &str) -> Hand {
        let mut hand = Hand::new();
        let rows = &mut hand.chunks[1].1;
        assert!(rows.contains(from), "{from} in the rows");
        *rows = rows.replacen(from, to, 1);
        hand
    }

    pub(super) fn pieces(&self) -> Vec<Vec<u8>> {
        self.altered(|_, line| line)
    }

    /// The pieces, each control line as `alter` returns it; the chain goes on from there.
    pub(super) fn altered(&self, alter: impl Fn(Line, String) -> String) -> Vec<Vec<u8>> {
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
    pub(super) fn control(line: Line, from: &str, to: &str) -> Vec<Vec<u8>> {
        Hand::new().altered(|which, text| {
            assert!(which != line || text.contains(from), "{from} in {text}");
            if which == line { text.replace(from, to) } else { text }
        })
    }
}

/// One frame as the format wants it.
pub(super) fn compress(content: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(3).unwrap();
    compressor.include_contentsize(true).unwrap();
    compressor.include_checksum(true).unwrap();
    compressor.compress(content).unwrap()
}

/// Frames without a seek table.
pub(super) fn zip(pieces: &[Vec<u8>]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| compress(piece)).collect()
}

/// The seek table of an archive that has none yet.
pub(super) fn table(archive: &[u8]) -> Vec<u8> {
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

/// What frames hold: the head, the records and the checkpoint of each chunk, the manifest.
pub(super) fn split(pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (head, rest) = pieces.split_first().unwrap();
    let (tail, chunks) = rest.split_last().unwrap();
    let halves = chunks.iter().flat_map(|chunk| {
        let body = &chunk[..chunk.len().saturating_sub(1)];
        let last = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (records, checkpoint) = chunk.split_at(last);
        [records.to_vec(), checkpoint.to_vec()]
    });
    let all = std::iter::once(head.clone()).chain(halves).chain([tail.clone()]);
    all.filter(|content| !content.is_empty()).collect()
}

pub(super) fn with_table(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = zip(pieces);
    archive.extend(table(&archive));
    archive
}

/// Refused in the same way as frames of records and of checkpoints, as frames of both, and as bare lines.
pub(super) fn assert_both_refused(what: &str, pieces: &[Vec<u8>], code: Code, says: &str) {
    assert_refused(what, &with_table(&split(pieces)), code, says);
    assert_joined_refused(what, pieces, code, says);
}

/// Refused in the same way as frames of a chunk each, and as bare lines.
pub(super) fn assert_joined_refused(what: &str, pieces: &[Vec<u8>], code: Code, says: &str) {
    assert_refused(&format!("{what}, joined"), &with_table(pieces), code, says);
    assert_refused(&format!("{what}, bare"), &pieces.concat(), code, says);
}
