//! The program compares archives and databases.

use super::*;

#[test]
fn whatever_a_hooks_file_can_hold_equals_its_archive() {
    let folder = workdir("diff-hostile");
    let (database, archive) = (folder.path().join("a.db"), folder.path().join("a.zst"));
    hostile_hooks_database(&database, 1_500, 5).unwrap();
    Program::new(["export", "-o"]).arg(&archive).arg(&database).arg("--unsorted").run().success();
    let same = Program::new(["diff", "--json"]).arg(&database).arg(&archive).run().success();
    let rows = json(&same)["streams"][1]["equal_rows"].as_u64().unwrap();
    assert!(rows >= 1_500, "{rows}");
    // and each of its rows is missing in an empty one
    let empty = folder.path().join("empty.db");
    sqlite_from(&["sqlite-hooks.sql"], &empty, "delete");
    let all = Program::new(["diff", "--json"]).arg(&archive).arg(&empty).run().fails_with(15);
    assert_eq!(json(&all)["streams"][1]["only_a_rows"], rows);
}

#[test]
fn what_was_moved_into_postgres_equals_where_it_came_from() {
    let scratch = Scratch::new("diff-postgres");
    let database = postgres("diff_postgres");
    let url = database.url();
    scratch.export("a.db", "a.zst", &[]);
    let zone = ["--assume-tz", "Europe/Berlin"];
    let import = ["import", "--strict", "--trust-zone", "a.zst", "--to", &url];
    Program::new(import.iter().chain(&zone)).current_dir(scratch.folder.path()).run().success();
    for local in ["a.db", "a.zst"] {
        for sides in [[local, &url], [&url, local]] {
            let equal = scratch.diff(&[sides.as_slice(), &zone].concat()).success();
            equal.stdout_has("sessions: 5 equal\nevents: 60 equal\n");
        }
    }
    // nothing says which instants the local times are
    scratch
        .diff(&["a.zst", &url])
        .fails_with(15)
        .stdout_has("60 changed (60 in timestamp)")
        .stderr_has("events: local times without a zone in timestamp")
        .stderr_has("--assume-tz Europe/Berlin");
    scratch.diff(&["a.zst", &url, "--assume-tz", "UTC"]).fails_with(15).stderr_lacks("--assume-tz");
    let event = &scratch.events(1)[0];
    database.psql(&format!("UPDATE chronicle_events SET tool_name = 'X' WHERE id = '{event}'"));
    scratch
        .diff(&[["a.db", &url].as_slice(), &zone].concat())
        .fails_with(15)
        .stdout_has(&format!("~ events {event}: tool_name: "))
        .stdout_has("events: 59 equal, 1 changed (1 in tool_name)\n");
}

#[test]
fn what_was_moved_out_of_postgres_equals_where_it_came_from() {
    let folder = workdir("diff-from-postgres");
    let (archive, copy) = (folder.path().join("a.zst"), folder.path().join("copy.db"));
    let source = postgres("diff_from_postgres");
    source.psql(
        "INSERT INTO chronicle_sessions (claude_session_id, start_time, end_time, metadata) \
         SELECT 'c' || n, timestamptz '2025-01-02 03:04:05+00' + n * interval '1 s 1 us', \
                CASE n WHEN 1 THEN timestamptz 'infinity' WHEN 2 THEN '0044-03-15 BC' END, to_jsonb(n) FROM generate_series(1, 40) n; \
         INSERT INTO chronicle_events (session_id, event_type, timestamp, metadata, duration_ms) \
         SELECT id, 'stop', start_time, '{\"a\": [1.10, \"é\", 1e30]}', n FROM chronicle_sessions, generate_series(1, 5) n",
    );
    Program::new(["export", &source.url(), "--unsorted", "-o"]).arg(&archive).run().success();
    let import = Program::new(["import", "--create", "--to"]).arg(&copy);
    import.arg(&archive).run().success();
    for local in [&archive, &copy] {
        let program = Program::new(["diff", &source.url()]).arg(local);
        program.run().success().stdout_has("sessions: 40 equal\nevents: 200 equal\n");
    }
}

#[test]
fn booleans_and_integers_equal_their_forms_of_the_other_kind() {
    let of_kind = |kind| {
        let mut stream = stream("s", &[0], &[0]);
        stream.columns[0].kind = kind;
        stream
    };
    let row = |cell| vec![cell, Cell::Null, Cell::Null];
    for (a, b, equal) in [
        ((Kind::Bool, Cell::Bool(true)), (Kind::Int, Cell::Int(1)), true),
        ((Kind::Bool, Cell::Bool(true)), (Kind::Int, Cell::Int(0)), false),
        ((Kind::Int, Cell::Int(7)), (Kind::Text, Cell::Text("7")), true),
        ((Kind::Int, Cell::Int(7)), (Kind::Text, Cell::Text("07")), false),
        ((Kind::Text, Cell::Int(7)), (Kind::Text, Cell::Text("7")), false),
    ] {
        let what = format!("{a:?} {b:?}");
        let [a, b] =
            [a, b].map(|(kind, cell)| Rows::new(vec![of_kind(kind)], &[vec![row(cell)]], 1));
        let (compared, _) = compare_rows(a, b, &CompareOptions::default());
        assert_eq!(compared.is_equal(), equal, "{what}");
    }
}

#[test]
fn json_and_times_are_compared_by_what_they_say() {
    let scratch = Scratch::new("diff-meaning");
    let id = &scratch.events(1)[0];
    let a = Connection::open(scratch.path("a.db")).unwrap();
    let set = |database: &Connection, data: &str, time: &str| {
        let sql = "UPDATE events SET data = ?1, timestamp = ?2 WHERE id = ?3";
        database.execute(sql, [data, time, id]).unwrap();
    };
    set(&a, r#"{"a": 1.0, "b": "é"}"#, "2025-01-01T12:00:00+02:00");
    let b = Connection::open(scratch.path("b.db")).unwrap();
    set(&b, r#"{"b":"\u00e9","a":1}"#, "2025-01-01 10:00:00.000Z");
    scratch.diff(&["a.db", "b.db"]).success();
    set(&b, r#"{"b":"\u00e8","a":1}"#, "2025-01-01 10:00:00.001Z");
    scratch
        .diff(&["a.db", "b.db"])
        .fails_with(15)
        .stdout_has(r#"data: {"a":1,"b":"é"} -> {"a":1,"b":"è"}"#)
        .stdout_has("1 changed (1 in timestamp, 1 in data)");
}

#[test]
fn null_and_the_json_null_are_two_values() {
    let folder = workdir("diff-null");
    let paths = ["NULL", "'null'"].map(|value| {
        let path = folder.path().join(format!("{value}.db"));
        sqlite_from(&["sqlite-server.sql"], &path, "delete");
        let sql = format!(
            "INSERT INTO chronicle_sessions \
                 (id, claude_session_id, start_time, metadata, created_at, updated_at) \
             VALUES ('s', 'c', '2025-08-19T10:00:00Z', {value}, '2025-08-19', '2025-08-19')"
        );
        Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
        path
    });
    let server = postgres("diff_null");
    let insert = "INSERT INTO chronicle_sessions (id, claude_session_id, start_time, metadata) \
                  VALUES ('0000000a-0000-4000-8000-000000000001', 'c', now(), 'null')";
    server.psql(insert);
    let archive = folder.path().join("json.zst");
    Program::new(["export", &server.url(), "-o"]).arg(&archive).run().success();
    let diff = |a: &Path, b: &str| Program::new(["diff"]).arg(a).arg(b).run();
    diff(&archive, &server.url()).success();
    diff(&paths[0], paths[0].to_str().unwrap()).success();
    diff(&paths[0], paths[1].to_str().unwrap())
        .fails_with(15)
        .stdout_has("metadata: NULL -> null\n");
    server.psql("UPDATE chronicle_sessions SET metadata = NULL");
    diff(&archive, &server.url()).fails_with(15).stdout_has("metadata: null -> NULL");
}

// ---- what is different ------------------------------------------------------------------------

#[test]
fn every_kind_of_difference_names_stream_key_and_column() {
    let scratch = Scratch::new("diff-kinds");
    let events = scratch.events(4);
    let [changed, missing, later, _] = events.as_slice() else { unreachable!() };
    scratch.change(&format!(
        "UPDATE events SET tool_name = 'Other', duration_ms = 1500 WHERE id = '{changed}'; \
         DELETE FROM events WHERE id = '{missing}'; \
         UPDATE events SET timestamp = '2099-01-01T00:00:00' WHERE id = '{later}'; \
         INSERT INTO events (id, session_id, event_type, timestamp, data) \
         VALUES ('new', 's', 'stop', '2000-01-01T00:00:00', '{{}}'); \
         ALTER TABLE sessions ADD COLUMN note TEXT"
    ));
    scratch.export("b.db", "b.zst", &[]);
    scratch.export("b.db", "u.zst", &["--unsorted"]);
    for b in ["b.db", "b.zst", "u.zst"] {
        let found = scratch.diff(&["a.db", b]).fails_with(15);
        let lines: BTreeSet<&str> = found.text().lines().collect();
        assert!(lines.contains(&*format!("- events {missing}")), "{lines:?}");
        assert!(lines.contains("+ events new"), "{lines:?}");
        let line = |id: &str| {
            let start = format!("~ events {id}: ");
            lines.iter().find_map(|line| line.strip_prefix(&start)).unwrap_or_default().to_owned()
        };
        assert!(line(changed).contains(" -> \"Other\"; duration_ms: "), "{lines:?}");
        assert!(line(changed).ends_with(" -> 1500"), "{lines:?}");
        assert!(line(later).ends_with(" -> \"2099-01-01T00:00:00\""), "{lines:?}");
        assert!(lines.contains("sessions: 5 equal"), "{lines:?}");
        let events = "events: 57 equal, 2 changed (1 in timestamp, 1 in tool_name, 1 in duration_ms), \
                      1 only in A, 1 only in B";
        assert!(lines.contains(events), "{lines:?}");
        let found = found.stderr_has("sessions: not compared, only in B: note");
        assert!(found.text().ends_with(&format!("different: A is a.db, B is {b}\n")));
        // turned round
        scratch.diff(&[b, "a.db"]).fails_with(15).stdout_has(&format!("+ events {missing}\n"));
    }
    let ignored = ["--ignore", "timestamp", "--ignore", "TOOL_NAME", "--ignore", "duration_ms"];
    scratch
        .diff(&[["a.db", "b.db", "--summary"].as_slice(), &ignored].concat())
        .fails_with(15)
        .stdout_has("events: 59 equal, 1 only in A, 1 only in B\n");
}

#[test]
fn a_summary_and_a_limit_show_less_and_count_all() {
    let scratch = Scratch::new("diff-limit");
    scratch.change("DELETE FROM events WHERE event_type <> ''; DELETE FROM sessions");
    let whole = scratch.diff(&["a.db", "b.db"]).fails_with(15);
    assert_eq!(whole.text().lines().filter(|line| line.starts_with("- ")).count(), 65);
    let some = scratch.diff(&["a.db", "b.db", "--limit", "2"]).fails_with(15);
    assert_eq!(some.text().lines().filter(|line| line.starts_with("- ")).count(), 4);
    let some = some.stdout_has("events: 58 more").stdout_has("events: 0 equal, 60 only in A\n");
    let summary = scratch.diff(&["a.db", "b.db", "--summary"]).fails_with(15);
    assert_eq!(summary.text().lines().count(), 3, "{}", summary.text());
    assert!(some.text().ends_with(summary.text()));
    let object = json(&scratch.diff(&["a.db", "b.db", "--limit", "2", "--json"]).fails_with(15));
    assert_eq!(object["streams"][1]["differences"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&object["streams"][1]["only_a_rows"], &object["equal"]),
        (&60.into(), &false.into())
    );
}

#[test]
fn a_stream_that_one_side_lacks_is_missing_with_all_its_rows() {
    let folder = workdir("diff-streams");
    let (both, hooks) = (folder.path().join("both.db"), folder.path().join("hooks.db"));
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql", "sqlite-server.sql"], &both, "delete");
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &hooks, "delete");
    let diff = |a: &Path, b: &Path| Program::new(["diff"]).arg(a).arg(b).run();
    diff(&both, &hooks).success().stderr_has("server_events: B has no such stream");
    let more =
        "INSERT INTO chronicle_sessions (id, claude_session_id, start_time) VALUES ('x', 'y', 'z')";
    Connection::open(&both).unwrap().execute(more, []).unwrap();
    diff(&both, &hooks).fails_with(15).stdout_has("- server_sessions x\n");
    diff(&hooks, &both).fails_with(15).stdout_has("+ server_sessions x\n");
}

#[test]
fn a_damaged_archive_is_reported_without_its_rows() {
    let scratch = Scratch::new("diff-damage");
    scratch.change("DELETE FROM sessions");
    scratch.export("b.db", "b.zst", &[]);
    let bytes = fs::read(scratch.path("b.zst")).unwrap();
    fs::write(scratch.path("cut.zst"), &bytes[..bytes.len() - 200]).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 4;
    fs::write(scratch.path("flipped.zst"), flipped).unwrap();
    for (archive, code) in [("cut.zst", 4), ("flipped.zst", 3)] {
        for sides in [["a.db", archive], [archive, "a.db"], [archive, archive]] {
            let failed = scratch.diff(&sides).fails_with(code).stderr_has(archive);
            assert_eq!(failed.text(), "");
        }
    }
}

#[test]
fn what_cannot_be_compared_has_its_exit_code_and_a_hint() {
    let scratch = Scratch::new("diff-refused");
    scratch.diff(&["-", "-"]).fails_with(2).stderr_has("hint: name the other one");
    scratch.diff(&["a.db", "missing.db"]).fails_with(7).stderr_has("missing.db: no such file");
    scratch.diff(&["a.db", "."]).fails_with(7).stderr_has("is a directory");
    scratch.diff(&["a.db", "b.db", "--ignore", "nothing"]).fails_with(2).stderr_has("hint: ");
    scratch
        .diff(&["a.db", "b.db", "--ignore", "id"])
        .fails_with(2)
        .stderr_has("the key of sessions");
    scratch
        .diff(&["a.db", "b.db", "--assume-tz", "Mars"])
        .fails_with(2)
        .stderr_has("not a time zone");
    fs::write(scratch.path("text"), "neither").unwrap();
    scratch.diff(&["a.db", "text"]).fails_with(3).stderr_has("text: neither an archive nor");
}

#[test]
fn hostile_text_never_reaches_the_terminal_raw() {
    let scratch = Scratch::new("diff-terminal");
    scratch.change(
        "UPDATE events SET event_type = 'x' || char(27) || '[31m' || char(10) || char(155); \
         INSERT INTO sessions (id, claude_session_id, start_time) \
         VALUES ('id' || char(10) || char(27) || ']0;', 'c', 't'); \
         ALTER TABLE sessions ADD COLUMN \"bad\x1b\nname\" TEXT",
    );
    for options in [&["a.db", "b.db"][..], &["--json", "a.db", "b.db"]] {
        let found = scratch.diff(options).fails_with(15);
        let control = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
        assert!(!control(found.text()) && !control(&found.stderr), "{}", found.text());
        assert!(found.text().lines().all(|line| !line.starts_with("name")), "{}", found.text());
    }
}

#[test]
fn memory_does_not_grow_with_the_rows_whatever_their_order() {
    let folder = workdir("diff-memory");
    let path = |name: &str| folder.path().join(name);
    hooks_database(&path("a.db"), 50, 40_000, 3).unwrap();
    fs::copy(path("a.db"), path("b.db")).unwrap();
    let reorder = "PRAGMA foreign_keys = off; PRAGMA synchronous = off; \
         CREATE TABLE other AS SELECT * FROM events ORDER BY substr(id, 7); DELETE FROM events; \
         INSERT INTO events SELECT * FROM other; DROP TABLE other";
    Connection::open(path("b.db")).unwrap().execute_batch(reorder).unwrap();
    for (from, to, options) in
        [("a.db", "a.zst", &[][..]), ("a.db", "same.zst", &[]), ("b.db", "b.zst", &["--unsorted"])]
    {
        let export = Program::new(["export", "-o"]).arg(path(to)).arg(path(from));
        options.iter().fold(export, |export, option| export.arg(*option)).run().success();
    }
    // the two hold 90 MB of rows each
    for (other, most) in [("same.zst", 100 << 20), ("b.zst", 140 << 20)] {
        let same = Program::new(["diff"]).arg(path("a.zst")).arg(path(other)).run().success();
        let peak = same.peak_memory.unwrap_or_default();
        assert!(peak < most, "{other}: {} MiB", peak >> 20);
    }
}
