//! A second reader, in Python and without a line of this program, agrees with the program on every archive.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chronicle_archive::{
    ArchiveReader, ArchiveWriter, Batch, CHUNK_TARGETS, Limits, WriterOptions,
};
use serde_json::Value as Json;

use crate::archive::sha256;
use crate::damage::refused_archives;
use crate::support::files::workdir;
use crate::support::generate::{Random, hooks_database, hostile_hooks_database, server_database};
use crate::support::migrate::{import, postgres, words};
use crate::support::program::Program;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The first Python that has the module for zstd; `tests/run` installs one where it can.
fn python() -> PathBuf {
    let here = Path::new(ROOT).join("target/python/bin/python");
    let has_zstd = |python: &PathBuf| {
        let tried = Command::new(python).args(["-c", "import zstandard"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    ([here, "python3".into(), "/usr/bin/python3".into()].into_iter()).find(has_zstd).expect(
        "the second reader needs Python with the module zstandard: run tests/run, which installs it, \
         or `pip install zstandard`",
    )
}

/// What the second reader says of each archive, by its path: its line, or what is wrong.
fn second_reader(archives: &[PathBuf]) -> BTreeMap<PathBuf, Json> {
    let output = Command::new(python())
        .arg("-B")
        .arg(Path::new(ROOT).join("tests/reader.py"))
        .args(archives)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Json> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(lines.len(), archives.len(), "{complaint}");
    let refused = lines.iter().any(|line| line["error"].is_string());
    assert_eq!(output.status.code(), Some(i32::from(refused)), "{complaint}");
    let path = |line: &Json| PathBuf::from(line["archive"].as_str().unwrap());
    lines.into_iter().map(|line| (path(&line), line)).collect()
}

/// What the program says of an archive, as far as the second reader says the same.
fn first_reader(archive: &Path) -> Json {
    let verify = Program::new(["verify", "--json", "--row-digests"]).arg(archive).run().success();
    serde_json::from_str(verify.text()).unwrap()
}

fn assert_both_agree(archives: &[PathBuf]) {
    for (path, second) in second_reader(archives) {
        let first = first_reader(&path);
        for key in ["digest", "rows", "row_digests", "seek_table"] {
            assert_eq!(second[key], first[key], "{key} of {}: {second}", path.display());
        }
    }
}

/// The archives that are kept for ever.
fn kept() -> Vec<PathBuf> {
    let folder = Path::new(ROOT).join("fixtures/archives");
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut archives: Vec<PathBuf> =
        all.filter(|path| path.extension().is_some_and(|e| e == "zst")).collect();
    archives.sort();
    archives
}

#[test]
fn both_readers_agree_on_the_archives_that_are_kept() {
    let archives = kept();
    assert!(archives.len() >= 8, "{archives:?}");
    assert_both_agree(&archives);
}

#[test]
fn both_readers_agree_on_hostile_and_ordinary_archives() {
    let folder = workdir("second-reader");
    let file = |name: &str| folder.path().join(name);
    hostile_hooks_database(&file("hostile.db"), 2600, 7).unwrap();
    hooks_database(&file("hooks.db"), 40, 3000, 8).unwrap();
    server_database(&file("server.db"), 20, 500, 9).unwrap();
    let mut archives = Vec::new();
    for (database, options) in [
        ("hostile.db", &["--row-digests"][..]),
        ("hostile.db", &["--unsorted", "--level", "1"]),
        ("hostile.db", &["--reproducible", "--level", "22", "--threads", "1", "--row-digests"]),
        ("hooks.db", &["--level", "19"]),
        ("hooks.db", &["--row-digests", "--threads", "3"]),
        ("server.db", &["--row-digests"]),
    ] {
        let archive = file(&format!("{}.zst", archives.len()));
        let export = Program::new(["export".into(), file(database).into_os_string()]);
        options
            .iter()
            .fold(export, |export, option| export.arg(*option))
            .arg("-o")
            .arg(&archive)
            .run()
            .success();
        archives.push(archive);
    }
    // with members outside the records: the second reader knows nothing of offsets
    let server = postgres("postgres-upstream.sql", "second_reader", "");
    let options = ["--assume-tz=Europe/Berlin", "--on-unrepresentable=preserve"];
    import(&archives[3], &server.url(), &options).success();
    let preserved = file("preserved.zst");
    Program::new(["export", &server.url(), "-o", words(&preserved)]).run().success();
    archives.push(preserved);
    for archive in archives.clone() {
        let bare = archive.with_extension("ndjson");
        fs::write(&bare, zstd::decode_all(fs::File::open(&archive).unwrap()).unwrap()).unwrap();
        archives.push(bare);
    }
    assert_both_agree(&archives);
}

#[test]
fn the_second_reader_refuses_every_damaged_archive() {
    let folder = workdir("refused");
    let refused = refused_archives();
    assert!(refused.len() > 300, "{} archives", refused.len());
    let write = |(number, (_, bytes)): (usize, &(String, Vec<u8>))| {
        let path = folder.path().join(format!("{number:04}"));
        fs::write(&path, bytes).unwrap();
        path
    };
    let paths: Vec<PathBuf> = refused.iter().enumerate().map(write).collect();
    let said = second_reader(&paths);
    let accepted: Vec<&str> = (paths.iter().zip(&refused))
        .filter(|(path, _)| !said[*path]["error"].is_string())
        .map(|(_, (what, _))| what.as_str())
        .collect();
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
}

/// The text of an archive with these lines in the place of its own: every checkpoint and the manifest agree with them,
/// so that nothing but a row can be wrong.
fn chained(lines: &[String]) -> String {
    let (mut text, mut piece, mut prev) = (String::new(), String::new(), "null".to_owned());
    for (number, line) in lines.iter().enumerate() {
        if number == 0 || !line.starts_with("{\"type\":\"STATE\"") {
            piece.push_str(line);
            piece.push('\n');
            continue;
        }
        let bytes = if number + 1 == lines.len() { text.len() } else { piece.len() };
        let end = [",\"digests\":", ",\"extents\":", "},\"bookmarks\":"].map(|key| line.find(key));
        let chronicle = &line[..end.into_iter().flatten().min().unwrap()];
        let control = with(chronicle, "bytes", &bytes.to_string());
        let control = with(&control, "sha256", &format!("\"{}\"", sha256(piece.as_bytes())));
        let control = with(&control, "prev", &prev) + "},\"bookmarks\":{}}}\n";
        prev = format!("\"{}\"", sha256(control.as_bytes()));
        text.push_str(&std::mem::take(&mut piece));
        text.push_str(&control);
    }
    text
}

/// The text of an object, still open, with another value of a key, if it has that key.
fn with(object: &str, key: &str, value: &str) -> String {
    let Some((before, rest)) = object.split_once(&format!("\"{key}\":")) else {
        return object.to_owned();
    };
    let after = rest.find(',').map_or("", |end| &rest[end..]);
    format!("{before}\"{key}\":{value}{after}")
}

#[test]
fn both_readers_agree_on_every_row() {
    const PARTS: [&str; 36] = [
        "",
        "\"",
        "0",
        "1",
        "-",
        "e",
        "E9",
        ".5",
        "null",
        "{}",
        "[]",
        "\\u0000",
        "\\ud800",
        "\\udc00",
        " ",
        "\t",
        "true",
        ",\"a\":1",
        "é",
        "\u{fffd}",
        "1e400",
        "+",
        "Z",
        "a",
        "=",
        "\u{7f}",
        "\"real\"",
        "\"int\"",
        "\"text\"",
        "\"text64\"",
        "\"blob\"",
        "\"json\"",
        "\\\\",
        "-0",
        "1.0",
        "00",
    ];
    let folder = workdir("changed-rows");
    let mut random = Random::new(11);
    let mut archives = Vec::new();
    for number in 0..300 {
        let kept = random.pick(&kept());
        let text = zstd::decode_all(fs::File::open(&kept).unwrap()).unwrap();
        let mut lines: Vec<String> =
            String::from_utf8(text).unwrap().lines().map(str::to_owned).collect();
        let is_row = |n: &usize| lines[*n].starts_with("{\"type\":\"RECORD\"");
        let rows: Vec<usize> = (0..lines.len()).filter(is_row).collect();
        if rows.is_empty() {
            continue;
        }
        let line = &mut lines[random.pick(&rows)];
        let places: Vec<usize> = line.char_indices().map(|(at, _)| at).skip(40).collect();
        let at = random.below(places.len() as u64 - 5) as usize;
        let end = places[at + random.below(4) as usize];
        line.replace_range(places[at]..end, random.pick(&PARTS));
        let archive = folder.path().join(format!("{number}"));
        fs::write(&archive, chained(&lines)).unwrap();
        archives.push(archive);
    }
    let verify = Program::new(["verify", "--json", "--row-digests"]);
    let verify = archives.iter().fold(verify, |verify, archive| verify.arg(archive)).run();
    let first: Vec<Json> =
        verify.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let second = second_reader(&archives);
    let mut good = 0;
    for (archive, first) in archives.iter().zip(&first) {
        let second = &second[archive];
        assert_eq!(first["error"].is_null(), second["error"].is_null(), "{first}\n{second}");
        assert_eq!(first["row_digests"], second["row_digests"], "{first}\n{second}");
        good += usize::from(first["error"].is_null());
    }
    assert!(good > 20 && archives.len() - good > 20, "{good} of {}", archives.len());
}

/// Archives whose chunks are one frame each, as they were written at first, and the same rows in frames as they are
/// written today: the borders of chunks, and so the digests, stay what they are.
#[test]
fn rows_of_golden_archives_are_written_in_equal_frames() {
    let folder = Path::new(ROOT).join("fixtures/archives");
    for name in ["empty", "hooks", "hostile", "postgres"] {
        let joined = folder.join(format!("{name}.ndjson.zst"));
        let mut reader =
            ArchiveReader::open(fs::File::open(&joined).unwrap(), Limits::default()).unwrap();
        let (mut header, streams) = (reader.header().clone(), reader.streams().to_vec());
        header.chunk_target = *CHUNK_TARGETS.start() as u64;
        let options = WriterOptions { row_digests: true, ..WriterOptions::default() };
        let mut writer = ArchiveWriter::create(Vec::new(), &header, streams, options).unwrap();
        let mut batch = Batch::default();
        while reader.next_batch(&mut batch).unwrap() {
            writer.write(&batch).unwrap();
        }
        let (written, _) = writer.finish().unwrap();
        let kept = folder.join(format!("frames-{name}.ndjson.zst"));
        if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
            fs::write(&kept, &written).unwrap();
        }
        let lines = |bytes: &[u8]| zstd::decode_all(bytes).unwrap();
        assert!(lines(&written) == lines(&fs::read(&kept).unwrap()), "{name} is written otherwise");
    }
}

#[test]
fn the_second_reader_is_short() {
    let text = fs::read_to_string(Path::new(ROOT).join("tests/reader.py")).unwrap();
    assert!(text.lines().count() <= 150, "it has {} lines", text.lines().count());
    assert!(text.lines().all(|line| line.chars().count() <= 120), "it has a long line");
    let modules = fs::read_dir(Path::new(ROOT).join("tests")).unwrap();
    let python = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|e| e == "py");
    assert_eq!(modules.map(Result::unwrap).filter(python).count(), 1, "it is not alone");
}

#[test]
fn golden_archives_keep_their_digests_and_load() {
    let recorded =
        fs::read_to_string(Path::new(ROOT).join("fixtures/archives/digests.txt")).unwrap();
    let folder = workdir("kept");
    let mut found = String::new();
    for archive in kept() {
        let name = archive.file_name().unwrap().to_str().unwrap();
        let first = first_reader(&archive);
        found.push_str(&format!("{name} {}\n", first["digest"].as_str().unwrap()));
        let copy = folder.path().join(name).with_extension("db");
        let import =
            Program::new(["import", "--strict", "--create", "--json", "--orphans", "keep", "--to"]);
        let import = import.arg(&copy).arg(&archive).run().success();
        let import: Json = serde_json::from_str(import.text()).unwrap();
        for loaded in import["streams"].as_array().unwrap() {
            let rows = &first["rows"][loaded["stream"].as_str().unwrap()];
            assert_eq!(&loaded["inserted_rows"], rows, "{name}: {loaded}");
        }
        if name.ends_with("postgres.ndjson.zst") {
            continue; // times are spelled otherwise in SQLite
        }
        let again = folder.path().join(name);
        Program::new(["export", "--reproducible", "-o"]).arg(&again).arg(&copy).run().success();
        assert_eq!(first_reader(&again)["row_digests"], first["row_digests"], "{name}");
    }
    let update = std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1");
    if update && recorded.lines().all(|line| found.contains(line)) {
        fs::write(Path::new(ROOT).join("fixtures/archives/digests.txt"), &found).unwrap();
        return;
    }
    assert_eq!(found, recorded);
}
