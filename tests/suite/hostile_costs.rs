//! What a hostile archive costs is bounded: time by its bytes and streams, memory by its largest row.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chronicle_archive::control::{Checkpoint, Manifest, schema_line};
use chronicle_archive::{
    ArchiveReader, Batch, CHUNK_TARGETS, Column, ErrorKind, Kind, Stream, sha256,
};
use chronicle_archive::{ArchiveWriter, Header, Limits, Origin, WriterOptions};

use crate::support::cluster::Cluster;
use crate::support::files::{fixture, workdir};
use crate::support::program::Program;

/// What a command may hold beside five times the largest row, with SQLite's page cache of 40 MiB.
const BUDGET: u64 = 112 << 20;
/// Nobody waits longer for an archive of a few megabytes.
const PATIENCE: Duration = Duration::from_secs(60);

fn origin() -> Origin {
    Origin { backend: "sqlite".into(), ..Origin::default() }
}

/// Streams that no layout knows.
fn strangers(count: usize) -> Vec<Stream> {
    let stream = |n| Stream::new(&format!("s{n}"), vec![Column::new("id", Kind::Text)]);
    (0..count).map(stream).collect()
}

/// An archive of many streams, each with this many rows.
fn many_streams(path: &Path, count: usize, rows: usize) {
    let streams = strangers(count);
    let header = Header::new(origin(), &streams, *CHUNK_TARGETS.start());
    let out = fs::File::create(path).unwrap();
    let mut writer =
        ArchiveWriter::create(out, &header, streams, WriterOptions::default()).unwrap();
    let mut batch = Batch::default();
    for stream in 0..count {
        for row in 0..rows {
            batch.start(stream, 1, row as u64 + 1);
            batch.push(chronicle_archive::Value::Text(row.to_string().as_bytes()));
            writer.write(&batch).unwrap();
        }
    }
    writer.finish().unwrap();
}

#[test]
fn thousands_of_streams_cost_time_and_memory_by_their_number() {
    let folder = workdir("many-streams");
    let path = |name: &str| folder.path().join(name);
    many_streams(&path("empty.zst"), 20_000, 0);
    many_streams(&path("full.zst"), 8_000, 1);
    assert!(fs::metadata(path("empty.zst")).unwrap().len() < 100_000, "it is a small file");
    let run = |args: &[&str], codes: &[i32]| {
        let run = Program::new(args.iter().copied()).current_dir(folder.path()).patience(PATIENCE);
        let run = run.run();
        assert!(run.code.is_some_and(|code| codes.contains(&code)), "{args:?}: {run:?}");
        let peak = run.peak_memory.unwrap_or_default();
        assert!(peak < 2 * BUDGET, "{args:?}: {} MiB", peak >> 20);
    };
    for archive in ["empty.zst", "full.zst"] {
        let target = format!("{archive}.db");
        run(&["verify", archive, "--row-digests"], &[0]);
        run(&["inspect", archive], &[0]);
        run(&["cat", archive], &[0]);
        run(&["diff", archive, archive], &[0]);
        run(&["check", archive], &[0]);
        run(&["import", archive, "--to", &target, "--create", "--on-missing-column", "fold"], &[0]);
        run(&["diff", archive, &target, "--summary"], &[0, 15]);
    }
    let server = Cluster::get().database("many_streams");
    server.apply_file(fixture("postgres-upstream.sql"));
    let url = server.url();
    run(&["import", "empty.zst", "--to", &url, "--on-missing-column", "fold"], &[0]);
}

/// An archive by hand, as bare lines: one row of `events` in the hooks' columns.
fn one_row(path: &Path, record: &str, beside: &str) -> u64 {
    let text = |name: &str| Column::new(name, Kind::Text);
    let sessions = ["id", "claude_session_id", "start_time"].map(text).to_vec();
    let mut events =
        ["id", "session_id", "event_type", "timestamp", "tool_name"].map(text).to_vec();
    events.push(Column::new("data", Kind::Json));
    let streams = [("sessions", sessions), ("events", events)]
        .map(|(name, columns)| Stream::new(name, columns));
    let header = Header::new(origin(), &streams, *CHUNK_TARGETS.start());
    let mut head = header.to_line().unwrap();
    streams.iter().for_each(|stream| head.push_str(&schema_line(stream).unwrap()));
    let start = Checkpoint::new(0, None, 0, head.len(), sha256(head.as_bytes()), None);
    let start = start.to_line("{}").unwrap();
    let row =
        format!("{{\"type\":\"RECORD\",\"stream\":\"events\",\"record\":{{{record}}}{beside}}}\n");
    let prev = Some(sha256(start.as_bytes()));
    let name = Some("events".to_owned());
    let end = Checkpoint::new(1, name, 1, row.len(), sha256(row.as_bytes()), prev);
    let end = end.to_line("{}").unwrap();
    let bytes = head.len() + start.len() + row.len() + end.len();
    let rows = vec![("sessions".to_owned(), 0), ("events".to_owned(), 1)];
    let mut manifest = Manifest::new(2, bytes as u64, rows, sha256(end.as_bytes()));
    manifest.seek_table = false;
    let manifest = manifest.to_line("{}").unwrap();
    fs::write(path, [head, start, row.clone(), end, manifest].concat()).unwrap();
    row.len() as u64
}

/// The record of a row of `events`.
fn record(tool_name: &str, data: &str) -> String {
    format!(
        "\"id\":\"1\",\"session_id\":\"x\",\"event_type\":\"stop\",\"timestamp\":\"2025-08-19\",\
         \"tool_name\":{tool_name},\"data\":{data}"
    )
}

/// The exact form of the column `data`.
fn exact_data(text: &str) -> String {
    format!(",\"chronicle\":{{\"exact\":{{\"data\":{{\"json\":\"{text}\"}}}}}}")
}

/// Rows that cost more than their bytes if they are read carelessly, by a name for each.
fn large_rows() -> Vec<(&'static str, String, String)> {
    const LARGE: usize = 40 << 20;
    const DEPTH: usize = 8 << 20;
    let (open, close) = ("[".repeat(DEPTH), "]".repeat(DEPTH));
    let members: Vec<String> = (0..2_000_000).map(|n| format!("\"{n:x}\":1")).collect();
    vec![
        ("brackets", record("null", "null"), exact_data(&format!("{open}{close}"))),
        (
            "objects",
            record("null", "null"),
            exact_data(&format!("{}1{}", "{\\\"\\\":".repeat(DEPTH / 4), "}".repeat(DEPTH / 4))),
        ),
        ("names", record("null", &format!("{{{}}}", members.join(","))), String::new()),
        ("text", record(&format!("\"{}\"", "x".repeat(LARGE)), "{}"), String::new()),
        ("escapes", record(&format!("\"{}\"", "\\n".repeat(LARGE / 2)), "{}"), String::new()),
        ("exact", record("null", "null"), exact_data(&"x".repeat(LARGE))),
    ]
}

#[test]
fn memory_is_at_most_five_times_the_largest_row() {
    let folder = workdir("large-rows");
    let server = Cluster::get().database("large_rows");
    server.apply_file(fixture("postgres-upstream.sql"));
    let url = server.url();
    for (name, record, beside) in large_rows() {
        let archive = format!("{name}.ndjson");
        let row = one_row(&folder.path().join(&archive), &record, &beside);
        drop((record, beside));
        let most = 5 * row + BUDGET;
        let run = |args: &[&str], codes: &[i32]| {
            let run = Program::new(args.iter().copied()).current_dir(folder.path()).run();
            assert!(run.code.is_some_and(|code| codes.contains(&code)), "{name} {args:?}: {run:?}");
            let peak = run.peak_memory.unwrap_or_default();
            assert!(peak < most, "{name} {args:?}: {} MiB of {}", peak >> 20, most >> 20);
        };
        let file = format!("{name}.db");
        run(&["verify", &archive], &[0]);
        run(&["cat", &archive], &[0]);
        run(&["import", &archive, "--to", &file, "--create", "--orphans", "keep"], &[0]);
        run(&["export", &file, "-o", &format!("{name}.zst")], &[0]);
        run(&["diff", &archive, &file, "--summary"], &[0, 15]);
        run(&["verify", &archive, "--against", &file], &[0, 15]);
        // what jsonb does not take is refused, in as little memory
        for policy in ["adapt", "preserve"] {
            let options =
                ["--on-unrepresentable", policy, "--orphans", "skip", "--assume-tz", "UTC"];
            let import = [&["import", &archive, "--to", &url, "--dry-run"], &options[..]].concat();
            run(&import, &[0, 8, 10]);
        }
        for path in [&archive, &file, &format!("{name}.zst")] {
            fs::remove_file(folder.path().join(path)).unwrap();
        }
    }
}

#[test]
fn nesting_beside_a_record_is_limited() {
    let folder = workdir("nesting");
    let path: PathBuf = folder.path().join("deep.ndjson");
    let beside = |depth: usize| {
        format!(",\"chronicle\":{{\"later\":{}{}}}", "[".repeat(depth), "]".repeat(depth))
    };
    one_row(&path, &record("null", "{}"), &beside(99));
    Program::new(["verify"]).arg(&path).run().success();
    for depth in [100, 1_000, 4_000_000] {
        one_row(&path, &record("null", "{}"), &beside(depth));
        let run = Program::new(["verify"]).arg(&path).run().fails_with(3);
        run.stderr_has("not nested deeper than 100");
    }
}

#[test]
fn a_chunk_target_over_the_limit_is_neither_read_nor_written() {
    let most = *CHUNK_TARGETS.end();
    let open = |target: usize| {
        let streams = strangers(1);
        let header = Header::new(origin(), &streams, target);
        let options = WriterOptions::default;
        let (bytes, _) =
            match ArchiveWriter::create(Vec::new(), &header, streams.clone(), options()) {
                Ok(writer) => writer.finish().unwrap(),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unwritable, "{error}");
                    let header = Header::new(origin(), &streams, most);
                    ArchiveWriter::create(Vec::new(), &header, streams, options())
                        .unwrap()
                        .finish()
                        .unwrap()
                }
            };
        // as bare lines, so that the number can be changed
        let mut text = String::from_utf8(crate::archive::decompress(&bytes)).unwrap();
        text = text.replacen(
            &format!("\"chunk_target\":{most}"),
            &format!("\"chunk_target\":{target}"),
            1,
        );
        ArchiveReader::open(std::io::Cursor::new(text.into_bytes()), Limits::default())
    };
    assert!(open(most).is_ok());
    for over in [most + 1, usize::MAX >> 1] {
        let error = open(over).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("chunk_target"), "{error}");
    }
}
