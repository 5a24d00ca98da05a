//! Nothing that an archive or a database holds reaches a terminal raw: every command shows it and none obeys it.

use std::fs;
use std::path::Path;

use chronicle_archive::control::Base;
use chronicle_archive::escape::is_unprintable;
use chronicle_archive::{
    ArchiveWriter, Header, NumberRange, Origin, WriterOptions, escaped, escaped_json,
};
use chronicle_archive::{Batch, Column, Kind, Stream, Value};
use proptest::prelude::*;
use rusqlite::Connection;

use crate::cli_output::in_a_terminal;
use crate::support::cluster::Cluster;
use crate::support::files::{fixture, sqlite_from, workdir};
use crate::support::program::{Output, Program};

/// A colour, a bell, a window's title, C1, an override of direction, characters without width, a tag, every line end,
/// and a line that could be the program's own.
const HOSTILE: &str = "\u{1b}[31m\u{7}\u{1b}]0;t\u{9b}31m\u{202e}\u{200b}\u{feff}\u{e0041}\u{2028}\u{85}\r\n\
                       imported 9 rows";

/// Panics if anything that was printed would act on a terminal, or is a line that the program did not begin.
#[track_caller]
fn is_harmless(output: &Output, lines_of_rows: bool) {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    for (name, text) in [("stderr", output.stderr.as_str()), ("stdout", stdout.as_str())] {
        if name == "stdout" && lines_of_rows {
            continue;
        }
        let raw = text.chars().find(|c| is_unprintable(*c) && *c != '\n');
        assert!(raw.is_none(), "{name} has {raw:?}: {output:?}");
        assert!(!text.lines().any(|line| line.starts_with("imported 9")), "{name}: {output:?}");
    }
    for line in output.stderr.lines() {
        let known = ["error: ", "warning: ", "note: ", "hint: ", "{"];
        assert!(known.iter().any(|start| line.starts_with(start)), "a forged line: {line:?}");
    }
}

/// An archive in which everything that may be is hostile.
fn hostile_archive(path: &Path, unknown_kind: bool) {
    let hostile = || HOSTILE.to_owned();
    let mut events: Vec<Column> = ["id", "session_id", "event_type", "timestamp"]
        .map(|n| Column::new(n, Kind::Text))
        .to_vec();
    events.push(Column::new("data", Kind::Json));
    events.push(Column { physical: format!("x{HOSTILE}"), ..Column::new(HOSTILE, Kind::Text) });
    let sessions = ["id", "claude_session_id", "start_time"].map(|n| Column::new(n, Kind::Text));
    let mut streams =
        vec![Stream::new("sessions", sessions.to_vec()), Stream::new("events", events)];
    streams.push(Stream::new("strange", vec![Column::new(HOSTILE, Kind::Text)]));
    streams.iter_mut().for_each(|stream| stream.table = hostile());
    let origin = Origin {
        backend: hostile(),
        layout: Some(hostile()),
        schema: Some(hostile()),
        server: Some(hostile()),
        instance: Some(hostile()),
        label: Some(hostile()),
        time_zone: Some(hostile()),
        numbers: [(hostile(), vec![NumberRange { last: 1, instance: hostile() }])].into(),
    };
    let mut header = Header::new(origin, &streams, 1 << 20);
    header.archive_id = hostile();
    header.created_at = Some(hostile());
    header.writer = hostile();
    header.filters = Some([(hostile(), hostile())].into());
    header.base = Some(Base { digest: hostile(), archive_id: hostile() });
    header.consistency = hostile();
    let mut writer =
        ArchiveWriter::create(Vec::new(), &header, streams, WriterOptions::default()).unwrap();
    let text = |text: &'static str| Value::Text(text.as_bytes());
    let mut batch = Batch::default();
    batch.start(0, 3, 1);
    [text(HOSTILE), text(HOSTILE), text(HOSTILE)].into_iter().for_each(|v| batch.push(v));
    writer.write(&batch).unwrap();
    batch.start(1, 6, 1);
    // a payload that no database takes, and the key of a row that is refused
    let data = text("{\"a\": \"\\u0000\u{202e}\u{9b}\"}");
    [text(HOSTILE), text("nobody"), text(HOSTILE), text(HOSTILE), data, text(HOSTILE)]
        .into_iter()
        .for_each(|v| batch.push(v));
    writer.write(&batch).unwrap();
    batch.start(2, 1, 1);
    batch.push(text(HOSTILE));
    writer.write(&batch).unwrap();
    let bytes = writer.finish().unwrap().0;
    if unknown_kind {
        // as bare lines whose head is sealed anew
        let lines = String::from_utf8(crate::archive::decompress(&bytes)).unwrap();
        let head: Vec<&str> = lines.split_inclusive('\n').take(4).collect();
        let kind = serde_json::to_string(HOSTILE).unwrap();
        let kind = kind.trim_matches('"');
        let head = head.concat().replacen(
            "\"start_time\":\"text\"",
            &format!("\"start_time\":\"{kind}\""),
            1,
        );
        let digest = crate::archive::sha256(head.as_bytes());
        let end = chronicle_archive::control::Checkpoint::new(0, None, 0, head.len(), digest, None);
        fs::write(path, head + &end.to_line("{}").unwrap()).unwrap();
    } else {
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_hostile_archive_is_harmless_to_every_command() {
    let folder = workdir("hostile-archive");
    let path = |name: &str| folder.path().join(name);
    hostile_archive(&path("a.zst"), false);
    hostile_archive(&path("kind.zst"), true);
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &path("s.db"), "delete");
    let server = Cluster::get().database("hostile_archive");
    server.apply_file(fixture("postgres-upstream.sql"));
    let url = server.url();
    let fold = ["--on-missing-column", "fold"];
    let preserve = ["--on-unrepresentable", "preserve", "--on-missing-column", "fold"];
    let both = ["--assume-tz", "UTC", "--orphans", "skip"];
    let reject =
        ["--on-unrepresentable", "reject", "--rejects", "r.zst", "--on-missing-column", "drop"];
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["inspect", "a.zst"],
        vec!["inspect", "a.zst", "--stats"],
        vec!["inspect", "kind.zst", "--stats"],
        vec!["verify", "a.zst", "--row-digests"],
        vec!["verify", "kind.zst"],
        vec!["cat", "kind.zst"],
        vec!["check", "kind.zst"],
        vec!["check", "a.zst"],
        vec!["check", "a.zst", "--to", "s.db"],
        vec!["check", "a.zst", "--to", &url],
        vec!["diff", "a.zst", "s.db"],
        vec!["diff", "a.zst", &url],
        vec!["diff", "a.zst", "s.db", "--assume-tz", "archive"],
        vec!["verify", "a.zst", "--against", "s.db"],
        vec!["import", "a.zst", "--to", "s.db", "--dry-run"],
        vec!["import", "a.zst", "--to", "s.db", "--assume-tz", "archive"],
        vec!["import", "a.zst", "--to", &url],
        vec!["cat", "a.zst", "--since", "2025-01-01"],
        vec!["cat", "a.zst", "--stream", "nothing"],
    ];
    for policies in [&fold[..], &preserve, &reject] {
        for to in ["s.db", "new.db", &url] {
            let create = if to == "new.db" { &["--create"][..] } else { &[] };
            commands.push([&["import", "a.zst", "--to", to], policies, &both, create].concat());
        }
    }
    commands.push(vec!["export", "new.db", "-o", "again.zst"]);
    commands.push(vec!["inspect", "r.zst"]);
    for args in commands {
        for json in [false, true] {
            let json: &[&str] = if json { &["--json"] } else { &[] };
            let run =
                Program::new(args.iter().chain(json).copied()).current_dir(folder.path()).run();
            assert!(run.code.is_some_and(|code| (0..=15).contains(&code) && code != 1), "{run:?}");
            is_harmless(&run, args[0] == "cat");
        }
    }
}

#[test]
fn a_hostile_database_is_harmless_to_every_command() {
    let folder = workdir("hostile-database");
    let path = |name: &str| folder.path().join(name);
    let hostile = path("h.db");
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &hostile, "delete");
    let sql = format!(
        "ALTER TABLE events ADD COLUMN \"{HOSTILE}\" TEXT CHECK (\"{HOSTILE}\" <> '{HOSTILE}'); \
         CREATE TABLE \"t{HOSTILE}\" (id); UPDATE sessions SET project_path = '{HOSTILE}'; \
         CREATE TRIGGER \"r{HOSTILE}\" AFTER INSERT ON events BEGIN SELECT 1; END;"
    );
    Connection::open(&hostile).unwrap().execute_batch(&sql).unwrap();
    let strange = path("strange.db");
    let sql = format!("CREATE TABLE \"sessions{HOSTILE}\" (id, \"{HOSTILE}\")");
    Connection::open(&strange).unwrap().execute_batch(&sql).unwrap();
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &path("s.db"), "delete");
    Program::new(["export", "s.db", "-o", "s.zst"]).current_dir(folder.path()).run().success();
    let server = Cluster::get().database("hostile_database");
    server.apply_file(fixture("postgres-upstream.sql"));
    let name = HOSTILE.replace('\u{1b}', "e");
    server.psql(&format!(
        "ALTER TABLE chronicle_events ADD COLUMN \"{name}\" text NOT NULL DEFAULT 'x'; \
         CREATE TABLE \"events{name}\" (id int); \
         ALTER TABLE chronicle_sessions ADD CONSTRAINT \"c{name}\" CHECK (length(project_path) > 1000)"
    ));
    let url = server.url();
    for args in [
        &["export", "h.db", "-o", "h{time}.zst", "--force"][..],
        &["export", "strange.db"],
        &["check", "h.db"],
        &["check", "s.zst", "--to", "h.db"],
        &["check", "h.db", "--to", "s.db"],
        &["check", "h.db", "--to", &url, "--assume-tz", "UTC"],
        &["diff", "h.db", "s.db"],
        &["verify", "s.zst", "--against", "h.db"],
        &["import", "s.zst", "--to", "h.db"],
        &["import", "s.zst", "--to", "strange.db"],
        &["import", "s.zst", "--to", &url, "--assume-tz", "UTC", "--on-unrepresentable", "adapt"],
        &["diff", "s.zst", &url, "--assume-tz", "UTC"],
        &["export", &url, "-o", "p{time}.zst", "--force"],
    ] {
        for json in [false, true] {
            let json: &[&str] = if json { &["--json"] } else { &[] };
            let run =
                Program::new(args.iter().chain(json).copied()).current_dir(folder.path()).run();
            assert!(run.code.is_some_and(|code| (0..=15).contains(&code) && code != 1), "{run:?}");
            is_harmless(&run, false);
        }
    }
}

#[test]
fn cat_escapes_for_a_terminal_and_for_nothing_else() {
    let folder = workdir("hostile-cat");
    let archive = folder.path().join("a.zst");
    hostile_archive(&archive, false);
    let archive = archive.to_str().unwrap();
    let plain = Program::new(["cat", archive]).run().success();
    assert!(plain.text().contains('\u{202e}'), "a pipe gets the bytes as they are");
    let (code, shown) = in_a_terminal(&["cat", archive]);
    assert_eq!(code, Some(0), "{shown}");
    let shown = shown.replace("\r\n", "\n");
    assert!(!shown.chars().any(|c| is_unprintable(c) && c != '\n'), "{shown:?}");
    let values = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(values(&shown), values(plain.text()), "and means the same");
}

proptest! {
    #[test]
    fn escaped_text_is_one_line_that_can_be_read_back(text in "[\\PC\\p{C}]{0,40}") {
        let shown = escaped(&text);
        prop_assert!(!shown.contains(is_unprintable), "{shown:?}");
        if !text.contains(is_unprintable) {
            prop_assert_eq!(&*shown, &text, "plain text stays as it is");
        }
        let json = serde_json::to_string(&text).unwrap();
        let escaped = escaped_json(&json);
        prop_assert!(!escaped.contains(is_unprintable), "{escaped:?}");
        prop_assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }
}
