//! What `cat` prints: every row that was asked for, none that was not verified, and what of it was not checked.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::archive::{decompress, frames};
use crate::support::files::{fixture, sqlite_from, workdir};
use crate::support::generate::hooks_database;
use crate::support::program::{Output, Program};

/// An archive of some chunks, in a folder of its own.
struct Archive {
    folder: TempDir,
    path: PathBuf,
}

impl Archive {
    fn new(name: &str) -> Archive {
        let folder = workdir(name);
        let database = folder.path().join("hooks.db");
        hooks_database(&database, 60, 9000, 3).unwrap();
        let path = folder.path().join("hooks.ndjson.zst");
        Program::new(["export", "-o"]).arg(&path).arg(&database).run().success();
        assert!(frames(&fs::read(&path).unwrap()).len() > 5, "some chunks");
        Archive { folder, path }
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    fn lines(&self) -> String {
        String::from_utf8(decompress(&self.bytes())).unwrap()
    }

    /// The same archive with other bytes.
    fn with(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn cat(archive: &Path, options: &[&str]) -> Output {
    options.iter().fold(Program::new(["cat"]).arg(archive), |cat, option| cat.arg(*option)).run()
}

/// The records of a stream, from the lines of an archive without exact values.
fn records(lines: &str, stream: &str) -> Vec<String> {
    let start = format!("{{\"type\":\"RECORD\",\"stream\":\"{stream}\",\"record\":");
    let record = |line: &str| Some(line.strip_prefix(&start)?.strip_suffix('}')?.to_owned());
    lines.lines().filter_map(record).collect()
}

#[test]
fn every_row_is_printed_once_and_byte_for_byte() {
    let archive = Archive::new("cat-rows");
    let lines = archive.lines();
    let mut all = Vec::new();
    for stream in ["sessions", "events"] {
        let expected = records(&lines, stream);
        let printed = cat(&archive.path, &["--stream", stream]).success();
        assert_eq!(printed.text().lines().collect::<Vec<_>>(), expected, "{stream}");
        let wrap = |record: &String| format!("{{\"stream\":\"{stream}\",\"record\":{record}}}");
        all.extend(expected.iter().map(wrap));
    }
    assert_eq!(cat(&archive.path, &[]).success().text().lines().collect::<Vec<_>>(), all);
    let singer = cat(&archive.path, &["--singer"]).success();
    assert!(singer.text() == lines, "a Singer stream of everything is the archive itself");
}

#[test]
fn records_of_rows_with_exact_values_are_printed_alone() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/archives/hostile.ndjson.zst");
    let printed = cat(&kept, &[]).success();
    let lines = decompress(&fs::read(&kept).unwrap());
    let rows = String::from_utf8(lines).unwrap();
    let rows = rows.lines().filter(|line| line.starts_with("{\"type\":\"RECORD\""));
    let mut exact = 0;
    for (row, printed) in rows.clone().zip(printed.text().lines()) {
        let row: Json = serde_json::from_str(row).unwrap();
        let printed: Json = serde_json::from_str(printed).unwrap();
        assert_eq!(printed.as_object().unwrap().len(), 2, "{printed}");
        assert_eq!((&printed["stream"], &printed["record"]), (&row["stream"], &row["record"]));
        exact += usize::from(row["chronicle"]["exact"].is_object());
    }
    assert!(exact > 50, "{exact} rows have exact values");
    assert_eq!(printed.text().lines().count(), rows.count());
}

#[test]
fn json_as_string_says_the_same_in_schema_and_rows() {
    let archive = Archive::new("cat-strings");
    let plain = archive.lines();
    let strings = cat(&archive.path, &["--singer", "--json-as-string"]).success();
    assert_eq!(plain.lines().count(), strings.text().lines().count());
    let mut seen = 0;
    for (plain, line) in plain.lines().zip(strings.text().lines()) {
        let [before, mut after]: [Json; 2] =
            [plain, line].map(|line| serde_json::from_str(line).unwrap());
        if before["type"] == "SCHEMA" && before["stream"] == "events" {
            assert_eq!(
                after["schema"]["properties"]["data"]["type"],
                serde_json::json!(["string", "null"])
            );
        } else if before["type"] == "RECORD" && before["record"]["data"].is_object() {
            let text = after["record"]["data"].as_str().unwrap().to_owned();
            assert!(plain.contains(&text), "the text is the archive's own");
            after["record"]["data"] = serde_json::from_str(&text).unwrap();
            assert_eq!(before, after);
            seen += 1;
        }
    }
    assert!(seen > 1000, "{seen}");
}

/// Turns the strings that JSON columns were printed as back into the objects that they are.
fn parse_strings(record: &mut Json, json_columns: &[&str]) -> usize {
    let mut strings = 0;
    for column in json_columns {
        if let Some(text) = record[*column].as_str() {
            record[*column] = serde_json::from_str(text).unwrap();
            assert!(record[*column].is_object(), "{column}");
            strings += 1;
        }
    }
    strings
}

#[test]
fn records_without_singer_hold_json_columns_as_strings() {
    let mut strings = 0;
    for name in ["hooks", "postgres", "hostile", "empty"] {
        let archive = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("fixtures/archives/{name}.ndjson.zst"));
        for options in [&[][..], &["--stream", "sessions"], &["--stream", "events"]] {
            let plain = cat(&archive, options).success();
            let flat = cat(&archive, &[options, &["--json-as-string"]].concat()).success();
            assert_eq!(plain.text().lines().count(), flat.text().lines().count(), "{name}");
            for (plain, flat) in plain.text().lines().zip(flat.text().lines()) {
                let [plain, mut flat]: [Json; 2] =
                    [plain, flat].map(|line| serde_json::from_str(line).unwrap());
                let record = if options.is_empty() { &mut flat["record"] } else { &mut flat };
                let mut values = record.as_object().unwrap().values();
                assert!(values.all(|value| !value.is_object() && !value.is_array()), "{record}");
                strings += parse_strings(record, &["metadata", "data"]);
                assert_eq!(flat, plain, "{name} {options:?}");
            }
        }
    }
    assert!(strings > 500, "{strings} objects were printed as strings");
}

#[test]
fn json_as_string_keeps_the_bytes_of_an_object() {
    let folder = workdir("cat-string-bytes");
    let database = folder.path().join("hooks.db");
    sqlite_from(&["sqlite-hooks.sql"], &database, "delete");
    let data = r#"{"n": 9007199254740993, "t": "a\"b\\\u00e9\n",  "l": [1, {"x": null}]}"#;
    let connection = Connection::open(&database).unwrap();
    connection
        .execute("INSERT INTO sessions (id, claude_session_id) VALUES ('s', 'c')", [])
        .unwrap();
    let sql = "INSERT INTO events (id, session_id, event_type, timestamp, data) VALUES ('e', 's', 'stop', '2025', ?1)";
    connection.execute(sql, [data]).unwrap();
    drop(connection);
    let archive = folder.path().join("a");
    Program::new(["export", "-o"]).arg(&archive).arg(&database).run().success();
    let printed = cat(&archive, &["--stream", "events", "--json-as-string"]).success();
    let record: Json = serde_json::from_str(printed.text()).unwrap();
    assert_eq!(record["data"].as_str().unwrap(), data);
}

#[test]
fn times_choose_rows_from_since_on_and_before_until() {
    let folder = workdir("cat-times");
    let database = folder.path().join("times.db");
    sqlite_from(&["sqlite-hooks.sql"], &database, "delete");
    let connection = Connection::open(&database).unwrap();
    connection
        .execute("INSERT INTO sessions (id, claude_session_id) VALUES ('s', 'c')", [])
        .unwrap();
    for (id, time) in [
        ("a", "2025-08-18 23:59:59.999"),
        ("b", "2025-08-19 00:00:00"),
        ("c", "2025-08-19T01:30:00+02:00"),
        ("d", "2025-08-19T12:00:00Z"),
        ("e", "2025-08-20T00:00:00"),
        ("f", "yesterday"),
        ("g", "2025-08-17T23:59:59.9999999"),
        ("h", "2025-08-18"),
    ] {
        let sql = "INSERT INTO events (id, session_id, event_type, timestamp, data) VALUES (?1, 's', 'stop', ?2, '{}')";
        connection.execute(sql, [id, time]).unwrap();
    }
    drop(connection);
    let archive = folder.path().join("a");
    Program::new(["export", "-o"]).arg(&archive).arg(&database).run().success();
    for (options, expected) in [
        (&["--since", "2025-08-19"][..], "bde"),
        (&["--until", "2025-08-19"], "acgh"),
        (&["--until", "2025-08-18"], "g"),
        (&["--since", "2025-08-18", "--until", "2025-08-18T00:00:00.000001"], "h"),
        (&["--since", "2025-08-19", "--until", "2025-08-20"], "bd"),
        (&["--since", "2025-08-19T01:30+02:00", "--until", "2025-08-19T00:00:00.001"], "abc"),
        (&[], "abcdefgh"),
    ] {
        let printed = cat(&archive, &[&["--stream", "events"], options].concat()).success();
        let id = |line: &str| {
            serde_json::from_str::<Json>(line).unwrap()["id"].as_str().unwrap().to_owned()
        };
        let mut ids: Vec<String> = printed.text().lines().map(id).collect();
        ids.sort();
        assert_eq!(ids.concat(), expected, "{options:?}");
        if !options.is_empty() {
            printed.stderr_has("1 event without a readable time left out");
        }
    }
    cat(&archive, &["--since", "tomorrow"]).fails_with(2).stderr_has("not a time");
    cat(&archive, &["--stream", "none"]).fails_with(2).stderr_has("its streams: sessions, events");
}

#[test]
fn one_stream_of_a_file_is_found_and_nothing_of_it_is_missing() {
    let archive = Archive::new("cat-one-stream");
    let bytes = archive.bytes();
    let all = frames(&bytes);
    let expected: Vec<Vec<String>> =
        ["sessions", "events"].iter().map(|stream| records(&archive.lines(), stream)).collect();
    let message = "only the chunks of sessions were read";
    cat(&archive.path, &["--stream", "sessions"]).success().stderr_has(message);
    cat(&archive.path, &[]).success().stderr_lacks("only the chunks");
    // sessions do not need the events: a damaged last chunk of those is not even looked at
    let mut far = bytes.clone();
    far[all[all.len() - 2].start + 100] ^= 1;
    let far = archive.with("far", &far);
    let printed = cat(&far, &["--stream", "sessions"]).success();
    assert_eq!(printed.text().lines().collect::<Vec<_>>(), expected[0]);
    cat(&far, &["--stream", "events"]).fails_with(3);
    // a table that sends a reader into the middle of the stream, or anywhere, is not believed
    let table = all.last().unwrap().end;
    for (what, from, to) in [("swapped", 1, 3), ("repeated", 2, 4), ("first", 0, 2)] {
        let mut lying = bytes.clone();
        let entry = |n: usize| table + 8 + 12 * n..table + 8 + 12 * n + 4;
        let (a, b) = (bytes[entry(from)].to_vec(), bytes[entry(to)].to_vec());
        lying[entry(from)].copy_from_slice(&b);
        lying[entry(to)].copy_from_slice(&a);
        let lying = archive.with(what, &lying);
        for (stream, expected) in ["sessions", "events"].iter().zip(&expected) {
            let printed = cat(&lying, &["--stream", stream]).success();
            assert!(printed.text().lines().eq(expected), "{what}, {stream}");
        }
    }
}

#[test]
fn a_damaged_archive_shows_whole_chunks_then_the_error() {
    let archive = Archive::new("cat-cut");
    let (bytes, lines) = (archive.bytes(), archive.lines());
    let all: String = cat(&archive.path, &[]).success().text().to_owned();
    assert_eq!(all.lines().count(), lines.matches("{\"type\":\"RECORD\"").count());
    let frames = frames(&bytes);
    for n in [1, 2, 3, 4, frames.len() - 1] {
        let (start, end) = (frames[n].start, frames[n].end);
        // without its checkpoint, which is in the frame behind its records, nothing of a chunk is shown
        let is_checkpoint = n % 2 == 0 && n != frames.len() - 1;
        let before = decompress(&bytes[..frames[n - usize::from(is_checkpoint)].start]);
        let rows = String::from_utf8_lossy(&before).matches("{\"type\":\"RECORD\"").count();
        let mut flipped = bytes.clone();
        flipped[(start + end) / 2] ^= 4;
        for (bytes, code) in
            [(&bytes[..(start + end) / 2], 4), (&bytes[..start], 4), (&flipped[..], 3)]
        {
            for program in [
                Program::new(["cat", "-"]).stdin(bytes),
                Program::new(["cat"]).arg(archive.with("damaged", bytes)),
            ] {
                let printed = program.run().fails_with(code);
                assert_eq!(printed.text().lines().count(), rows, "frame {n}, code {code}");
                assert!(all.starts_with(printed.text()));
            }
        }
    }
}

#[test]
fn cat_ends_silently_when_its_reader_leaves() {
    let archive = Archive::new("cat-head");
    let mut running = Program::new(["cat"]).arg(&archive.path).stdout_by_hand().spawn();
    let mut stdout = running.take_stdout();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let output = running.wait();
    assert_eq!((output.code, output.stderr.as_str()), (Some(141), ""));
}

#[test]
fn every_command_reads_an_archive_from_a_named_pipe() {
    let folder = workdir("named-pipe");
    let archive = folder.path().join("archive");
    Program::new(["export", "-o"]).arg(&archive).arg(fixture("sample-hooks.db")).run().success();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let target = folder.path().join("new.db");
    let import = ["import", "--create", "--to", target.to_str().unwrap()];
    for command in
        [&["inspect"][..], &["verify"], &["cat"], &["cat", "--stream", "events"], &import]
    {
        let (bytes, to) = (fs::read(&archive).unwrap(), pipe.clone());
        let writer = std::thread::spawn(move || fs::write(to, bytes));
        let program = Program::new(command.iter().copied()).arg(&pipe);
        let output = program.patience(Duration::from_secs(60)).run().success();
        writer.join().unwrap().unwrap();
        assert!(!output.stdout.is_empty());
    }
}
