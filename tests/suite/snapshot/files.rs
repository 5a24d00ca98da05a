//! Files in any state: names, links, rights, damage.

use super::*;

#[test]
fn an_export_in_delete_mode_changes_no_byte_and_adds_no_file() {
    for journal_mode in ["delete", "truncate", "persist"] {
        let folder = workdir("untouched");
        let path = folder.path().join("chronicle.db");
        sqlite_from(&SAMPLE, &path, journal_mode);
        let before = contents(folder.path());
        let output = export([&path]).run().success();
        assert_eq!(rows_of(&output), sample_and(0), "{journal_mode}");
        assert_untouched(folder.path(), &before);
    }
}

// ---- a directory that cannot be written -------------------------------------------------------

#[test]
fn a_wal_database_in_a_read_only_directory_is_exported() {
    let folder = workdir("read-only");
    let program = program_for_anybody(folder.path());
    let origin = folder.path().join("origin.db");
    let open = pending_wal(&origin);
    let clean = folder.path().join("clean.db");
    sqlite_from(&SAMPLE, &clean, "wal");
    for (name, from, ends, more) in [
        ("without-wal", &clean, &[""][..], 0),
        ("with-wal", &origin, &["", "-wal"], 7),
        ("with-wal-and-shm", &origin, &["", "-wal", "-shm"], 7),
    ] {
        let closed = folder.path().join(name);
        fs::create_dir(&closed).unwrap();
        let path = closed.join("chronicle.db");
        for end in ends {
            fs::copy(beside(from, end), beside(&path, end)).unwrap();
            mode(&beside(&path, end), 0o444);
        }
        mode(&closed, 0o555);
        let before = contents(&closed);
        let output = as_anybody(&program, folder.path()).arg("export").arg(&path).output().unwrap();
        let after = contents(&closed);
        mode(&closed, 0o755);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {:?}\n{said}", output.status);
        let found = read(output.stdout.as_slice()).unwrap();
        let rows: Vec<usize> = found.rows.iter().map(Vec::len).collect();
        assert_eq!(rows, [8, 120 + more], "{name}");
        assert!(before == after, "{name}: something beside it was changed");
    }
    drop(open);
}

// ---- names ------------------------------------------------------------------------------------

#[test]
fn a_file_may_have_any_name() {
    let folder = workdir("names");
    fs::create_dir(folder.path().join("~")).unwrap();
    let names = [
        ":memory:",
        "file:x",
        "file:x?mode=memory",
        "a b#?.db",
        "100%25.db",
        "~/chronicle.db",
        "it's \"quoted\".db",
        "größe 数.db",
    ];
    let sample = folder.path().join("sample");
    sqlite_from(&SAMPLE, &sample, "delete");
    for name in names {
        fs::copy(&sample, folder.path().join(name)).unwrap();
        for spelling in [name.to_owned(), format!("./{name}"), format!("sqlite:{name}")] {
            let output = export([&spelling]).current_dir(folder.path()).run().success();
            assert_eq!(rows_of(&output), sample_and(0), "{spelling}");
        }
    }
    let there: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(there.len(), names.len() + 1, "no other file was made: {there:?}");
}

#[test]
fn a_symlink_is_followed_also_to_its_wal() {
    let folder = workdir("symlink");
    let (real, links) = (folder.path().join("real"), folder.path().join("links"));
    fs::create_dir(&real).unwrap();
    fs::create_dir(&links).unwrap();
    let path = real.join("chronicle.db");
    let open = pending_wal(&path);
    let link = links.join("link.db");
    symlink(&path, &link).unwrap();
    assert_eq!(rows_of(&export([&link]).run().success()), sample_and(7));
    assert_eq!(fs::read_dir(&links).unwrap().count(), 1, "nothing is made beside the link");
    drop(open);
    let lost = links.join("lost.db");
    symlink(real.join("gone.db"), &lost).unwrap();
    export([&lost]).run().fails_with(7).stderr_has("lost.db: no such file");
}

// ---- what is no database of Chronicle's -------------------------------------------------------

/// Refuses the file with an exit code, naming it and saying why, and writes nothing.
#[track_caller]
fn assert_refused(path: &Path, code: i32, says: &[&str]) {
    let before = contents(path.parent().unwrap());
    let mut output = export([path]).run().fails_with(code);
    output = output.stderr_has("error: export: ").stderr_has(&path.display().to_string());
    for words in says {
        output = output.stderr_has(words);
    }
    assert!(output.stdout.is_empty(), "nothing is written for {}", path.display());
    assert_untouched(path.parent().unwrap(), &before);
}

#[test]
fn what_is_no_database_is_refused_by_its_name() {
    let folder = workdir("no-database");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let sample = folder.path().join("sample.db");
    sqlite_from(&SAMPLE, &sample, "delete");
    let archive = export([&sample]).run().success().stdout;
    let plain = crate::archive::decompress(&archive);
    assert_refused(&file("empty.db", b""), 9, &["the file is empty"]);
    assert_refused(&file("text.db", b"Dear diary,\n"), 7, &["not a SQLite database", "hint: "]);
    for (name, bytes) in [("backup.ndjson.zst", &archive), ("backup.ndjson", &plain)] {
        assert_refused(&file(name, bytes), 7, &["this is an archive", "hint: ", "import"]);
    }
    assert_refused(&folder.path().join("gone.db"), 7, &["no such file"]);
    let directory = folder.path().join("directory.db");
    fs::create_dir(&directory).unwrap();
    assert_refused(&directory, 7, &["is a directory"]);
}

#[test]
fn a_damaged_database_is_refused_and_leaves_no_whole_archive() {
    let folder = workdir("damaged");
    let sample = folder.path().join("sample.db");
    sqlite_from(&SAMPLE, &sample, "delete");
    let bytes = fs::read(&sample).unwrap();
    let damaged = |name: &str, damage: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        damage(&mut bytes);
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let schema = damaged("schema.db", &|bytes| bytes[100..4096].fill(0xee));
    assert_refused(&schema, 7, &["damaged", "hint: ", ".recover"]);
    let cut = damaged("cut.db", &|bytes| bytes.truncate(bytes.len() / 2));
    let output = export([&cut]).run();
    assert!(matches!(output.code, Some(7 | 8)), "{output:?}");
    let output = output.stderr_has("cut.db").stderr_has("damaged").stderr_has(".recover");
    assert!(read(output.stdout.as_slice()).is_err(), "an archive of a part is not whole");
    let pages = damaged("pages.db", &|bytes| {
        let end = bytes.len();
        bytes[8192..end].fill(0xee);
    });
    let output = export([&pages]).run().fails_with(8);
    let output = output.stderr_has("pages.db").stderr_has("damaged").stderr_has(".recover");
    assert!(read(output.stdout.as_slice()).is_err(), "an archive of a part is not whole");
}

#[test]
fn a_foreign_database_is_refused_and_its_tables_are_shown() {
    let folder = workdir("foreign");
    let make = |name: &str, sql: &str| {
        let path = folder.path().join(name);
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        path
    };
    let near = make(
        "near.db",
        "CREATE TABLE sessions (token TEXT, expires INTEGER); CREATE TABLE users (id)",
    );
    assert_refused(&near, 9, &["sessions (token, expires)", "nearest: ", "hint: "]);
    let far = make("far.db", "CREATE TABLE albums (id); CREATE TABLE artists (id)");
    assert_refused(&far, 9, &["none of its 2 tables", "albums", "artists", "hint: "]);
    let bare = make("bare.db", "PRAGMA user_version = 3");
    assert_refused(&bare, 9, &["it has no tables", "hint: "]);
}

#[test]
fn rows_without_their_parent_are_exported_and_counted() {
    let folder = workdir("orphans");
    let path = folder.path().join("chronicle.db");
    sqlite_from(&["sqlite-hooks.sql"], &path, "delete");
    let database = Connection::open(&path).unwrap();
    database
        .execute_batch(
            "PRAGMA foreign_keys = off;
             INSERT INTO sessions (id) VALUES ('there');
             INSERT INTO events (id, session_id, event_type, timestamp) VALUES
             ('a', 'there', 'stop', 't'), ('b', 'gone', 'stop', 't'), ('c', 'gone too', 'stop', 't')",
        )
        .unwrap();
    drop(database);
    let output = export([&path]).run().success().stderr_has("2 events have no session (orphans: ");
    assert_eq!(rows_of(&output), BTreeMap::from([("sessions".into(), 1), ("events".into(), 3)]));
    let output = export([path.as_os_str(), "--json".as_ref(), "--quiet".as_ref()]).run().success();
    let result: Json = serde_json::from_str(&output.stderr).unwrap();
    assert_eq!(result["orphans"][0]["stream"], "events");
    assert_eq!(result["orphans"][0]["rows"], 2);
    assert_eq!(result["rows"]["events"], 3);
}

/// The keys of the events of an archive, in its order.
fn event_keys(source: &Path) -> Vec<String> {
    let archive = source.with_extension("ndjson.zst");
    let export = ["export".as_ref(), source.as_os_str(), "-o".as_ref(), archive.as_os_str()];
    Program::new(export).run().success();
    let rows =
        Program::new(["cat".as_ref(), archive.as_os_str(), "--stream=events".as_ref()]).run();
    let id = |line: &str| {
        let row: Json = serde_json::from_str(line).unwrap();
        row["id"].to_string()
    };
    rows.success().text().lines().map(id).collect()
}

#[test]
fn rows_with_equal_times_are_ordered_by_key() {
    let folder = workdir("ties");
    let cases = [
        ("plain", "UTF-8", ""),
        ("utf16", "UTF-16", ""),
        ("null", "UTF-8", "UPDATE events SET timestamp = NULL WHERE rowid % 7 = 0;"),
        (
            "numbers",
            "UTF-8",
            "UPDATE events SET timestamp = 1.0 * (rowid % 3) WHERE rowid % 5 = 0;",
        ),
        (
            "bytes",
            "UTF-8",
            "UPDATE events SET timestamp = CAST(timestamp AS BLOB) WHERE rowid % 2 = 0;",
        ),
        (
            "broken",
            "UTF-8",
            "UPDATE events SET timestamp = CAST(x'ff41' AS TEXT) WHERE rowid % 3 = 0;",
        ),
        ("cases", "UTF-8", "UPDATE events SET timestamp = lower(timestamp) WHERE rowid % 2 = 0;"),
        ("without", "UTF-8", "DROP INDEX by_time;"),
        (
            "nocase",
            "UTF-8",
            "DROP INDEX by_time; CREATE INDEX by_time ON events (timestamp COLLATE NOCASE);",
        ),
    ];
    for (name, encoding, change) in cases {
        let path = folder.path().join(name);
        let database = Connection::open(&path).unwrap();
        let tie = |n: u32| format!("2025-08-19T10:00:{:02}Z", n * n % 60);
        database
            .execute_batch(&format!(
                "PRAGMA encoding = '{encoding}'; \
                 CREATE TABLE sessions (id TEXT PRIMARY KEY, claude_session_id TEXT, start_time TIMESTAMP, project_path TEXT); \
                 CREATE TABLE events (id TEXT, session_id TEXT, event_type TEXT, timestamp, data TEXT, \
                     tool_name TEXT, duration_ms INTEGER, created_at TIMESTAMP); \
                 CREATE INDEX by_time ON events (timestamp);"
            ))
            .unwrap();
        // larger together than a batch, and ids that are equal, too
        for n in 0..400_u32 {
            let id = format!("{:03}", n * 7919 % 331);
            let data = format!("{{\"text\":\"{}\"}}", "x".repeat(3000));
            let values = (id, tie(n), data);
            let sql =
                "INSERT INTO events (id, timestamp, data, event_type) VALUES (?, ?, ?, 'stop')";
            database.execute(sql, values).unwrap();
        }
        database.execute_batch(change).unwrap();
        let sql =
            "SELECT id FROM events ORDER BY timestamp COLLATE BINARY, id COLLATE BINARY, rowid";
        let expected: Vec<String> = (database.prepare(sql).unwrap())
            .query_map([], |row| Ok(format!("\"{}\"", row.get::<_, String>(0)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        drop(database);
        assert_eq!(event_keys(&path), expected, "{name}");
    }
}
