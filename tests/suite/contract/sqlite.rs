//! What a SQLite file keeps of an import, and what it does not.

use super::*;

#[test]
fn triggers_of_a_sqlite_file_do_not_fire() {
    let folder = workdir("sqlite_triggers");
    let made = |name: &str| {
        let path = folder.path().join(name);
        sqlite_from(&["sqlite-server.sql"], &path, "wal");
        path
    };
    let (source, target) = (made("source.db"), made("target.db"));
    let rows = good()
        .replace("INTO sessions", "INTO chronicle_sessions")
        .replace("INTO events", "INTO chronicle_events")
        .replace("timestamp, data,", "timestamp, metadata,");
    fill(
        &source,
        &(rows
            + "DROP TRIGGER trigger_sessions_updated_at; \
               UPDATE chronicle_sessions SET event_count = 70, updated_at = '2001-01-01 00:00:00'; \
               UPDATE chronicle_events SET metadata = '{\"session_termination\": true}';"),
    );
    let archive = folder.path().join("archive.ndjson.zst");
    Program::new(["export".as_ref(), source.as_os_str(), "-o".as_ref(), archive.as_os_str()])
        .run()
        .success();
    import(&archive, target.to_str().expect("a path in UTF-8"), &[]).success();
    assert_same_rows(&sqlite_dump(&source), &sqlite_dump(&target));
    let triggers: u32 = Connection::open(&target)
        .and_then(|database| {
            let count = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'";
            database.query_row(count, [], |row| row.get(0))
        })
        .expect("the triggers");
    assert_eq!(triggers, 3);
}

#[test]
fn autoincrement_goes_on_behind_the_largest_loaded_number() {
    let store = Backend::Sqlite.make("autoincrement");
    let numbered = "DROP TABLE events; CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, \
        session_id TEXT, event_type TEXT, timestamp TEXT, data TEXT);";
    let add = |id: u32| {
        format!(
            "INSERT INTO events VALUES ({id}, '{}', 'stop', '2025-08-19T10:00:00Z', '{{}}');",
            self::id(1)
        )
    };
    store.run(numbered);
    let archive = store.archive(&(numbered.to_owned() + &session(1, "cs-1") + &add(5) + &add(9)));
    let next = || {
        let Place::File(path) = &store.place else { panic!("a file") };
        let database = Connection::open(path).expect("the target");
        let sql = "INSERT INTO events (session_id) VALUES (NULL) RETURNING id";
        database.query_row(sql, [], |row| row.get::<_, u32>(0)).expect("the next number")
    };
    store.import(&archive, &[]).success();
    assert_eq!(next(), 10);
    store.run("DELETE FROM events WHERE id = 10");
    store.import(&archive, &[]).success();
    assert_eq!(next(), 11);
}

#[test]
fn a_new_file_replaces_none_and_is_for_its_owner_alone() {
    let store = Backend::Sqlite.nothing("new_file");
    let archive = store.archive(&good());
    store.import(&archive, &["--create"]).success();
    let Place::File(path) = &store.place else { panic!("a file") };
    let mode = fs::metadata(path).expect("the new file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read(path).expect("the new file");
    store
        .import(&archive, &["--create"])
        .fails_with(2)
        .stderr_has("exists already")
        .stderr_has("hint: name a new file, or omit --create");
    assert!(before == fs::read(path).expect("the file"), "the file was changed");
}

#[test]
fn tables_that_are_there_are_not_created_again() {
    let store = Backend::Postgres.make("tables_there");
    store
        .import(&store.archive(&good()), &["--create"])
        .fails_with(2)
        .stderr_has("the schema public has Chronicle's tables already");
    assert_eq!(store.dump(), Vec::<String>::new());
}

#[test]
fn a_table_of_more_columns_than_sql_passes_is_undone() {
    let store = Backend::Sqlite.make("undo_wide");
    let columns: Vec<String> =
        (0..250).map(|n| format!("ALTER TABLE events ADD COLUMN c{n} TEXT;")).collect();
    store.run(&columns.concat());
    store.import(&store.archive(&good()), &[]).success();
    let values =
        format!("UPDATE events SET c7 = 'x', c149 = 'y', c249 = 'z' WHERE id = '{}';", id(12));
    store.run(&values);
    store.rollback("last", &[]).fails_with(11).stderr_has(&id(12));
    store.run(&format!(
        "UPDATE events SET c7 = NULL, c149 = NULL, c249 = NULL WHERE id = '{}';",
        id(12)
    ));
    let before = store.everything();
    store.import(&store.archive(&(good() + &event(15, 1, "stop", "1"))), &[]).success();
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &store.everything());
    store.rollback(store.history()[0]["batch_id"].as_str().expect("an id"), &[]).success();
}

#[test]
fn a_table_that_takes_no_batch_is_in_the_history() {
    let store = Backend::Sqlite.make("undo_not_unique");
    store.import(&store.archive(&good()), &[]).success();
    store.run(
        "CREATE TABLE copy AS SELECT * FROM events; DROP TABLE events; \
         ALTER TABLE copy RENAME TO events;",
    );
    store.import(&store.archive(&good()), &[]).fails_with(9).stderr_has("not a unique key");
    let history = store.history();
    let last = history.last().expect("a batch");
    assert_eq!(last["status"], "failed", "{last}");
    assert!(last["error_message"].to_string().contains("not a unique key"), "{last}");
}

#[test]
fn a_copy_of_the_file_replaces_none_and_is_named_whole() {
    let store = Backend::Sqlite.make("backup_db");
    let archive = store.archive(&good());
    let name = format!("{}.db", "long".repeat(30));
    let copy = store.folder.path().join(&name);
    let options = ["--backup-db", copy.to_str().expect("a path in UTF-8")];
    store.import(&archive, &options).success();
    let shown = Program::new(["history", &store.url(), "last"]).run().success();
    shown.stdout_has(&name);
    store
        .import(&archive, &options)
        .fails_with(2)
        .stderr_has("exists already")
        .stderr_has("name a file that is not there yet")
        .stderr_lacks("--create");
}

#[test]
fn a_batch_that_waits_for_another_writer_is_interrupted() {
    let store = Backend::Sqlite.make("sqlite_stop");
    let archive = store.archive(&good());
    store.import(&archive, &[]).success();
    let (before, url) = (store.history(), store.url());
    let writer = Connection::open(&url).expect("the file");
    writer.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let rollback = Program::new(["rollback", "last", "--from", &url, "--wait", "30"]);
    for program in [importing(&archive, &url, &["--wait", "30"]), rollback] {
        let mut waiting = program.spawn();
        // SQLite sleeps between two attempts
        let sleeps = |task: fs::DirEntry| {
            let place = fs::read_to_string(task.path().join("wchan")).unwrap_or_default();
            place.contains("nanosleep")
        };
        let tasks = format!("/proc/{}/task", waiting.id());
        while !fs::read_dir(&tasks).expect("the threads").flatten().any(sleeps) {
            assert!(waiting.is_running());
            std::thread::yield_now();
        }
        waiting.signal("INT");
        waiting.wait().fails_with(130).stderr_has("interrupted; nothing was changed");
    }
    drop(writer);
    assert_eq!(store.history(), before);
}

#[test]
fn a_file_that_cannot_be_written_is_named_before_anything() {
    let store = Backend::Sqlite.make("sqlite_closed");
    let program = program_for_anybody(store.folder.path());
    let archive = store.folder.path().join("archive.zst");
    fs::copy(store.archive(&good()), &archive).expect("a copy");
    mode(&archive, 0o644);
    store.import(&archive, &[]).success();
    let folder = store.folder.path().join("closed");
    fs::create_dir(&folder).expect("a folder");
    let file = folder.join("target.db");
    fs::copy(store.url(), &file).expect("a copy");
    let before = fs::read(&file).expect("the file");
    let (file_text, archive) = (file.to_str().expect("a path"), archive.to_str().expect("a path"));
    for (of_file, of_folder, closed) in [(0o444, 0o777, &file), (0o666, 0o555, &folder)] {
        mode(&file, of_file);
        mode(&folder, of_folder);
        for args in [
            &["import", archive, "--to", file_text, "--strict"][..],
            &["import", archive, "--to", file_text, "--strict", "--dry-run"],
            &["restore", archive, "--to", file_text, "--strict"],
            &["rollback", "last", "--from", file_text],
            &["rollback", "last", "--from", file_text, "--dry-run"],
            &["history", file_text, "--prune", "--keep", "0"],
        ] {
            let done = as_anybody(&program, store.folder.path()).args(args).output();
            let done = done.expect("the program");
            let said = String::from_utf8_lossy(&done.stderr);
            assert_eq!(done.status.code(), Some(8), "{args:?}: {said}");
            assert!(said.contains(&format!("{file_text} cannot be written")), "{args:?}: {said}");
            let hint = format!("chmod u+w {}", closed.display());
            assert!(said.contains(&hint), "{args:?}: {said}");
        }
    }
    mode(&folder, 0o755);
    assert!(fs::read(&file).expect("the file") == before);
}

#[test]
fn the_text_of_a_rollback_counts_sidecar_entries() {
    let store = Backend::Sqlite.make("sqlite_entries");
    let note = |text: &str| {
        let rows = session(5, "cs-5") + &event(15, 5, "stop", "1") + &event(16, 5, "stop", "1");
        let note = "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = ";
        store.archive(&(rows + note + text))
    };
    let options = ["--on-missing-column=preserve", "--on-conflict=update"];
    store.import(&note("'x'"), &options).success();
    store.import(&note("'y'"), &options).success();
    store.rollback("last", &[]).success().stdout_has(": 2 sidecar entries restored;");
    // they go with their rows, and no receipt lists them
    let first = store.rollback("last", &["--dry-run"]).success();
    first.stdout_has("2 events removed, 2 sidecar entries removed");
    store.rollback("last", &[]).success().stdout_has("2 sidecar entries removed");
    assert_eq!(store.one("SELECT count(*) FROM chronicle_dump_sidecar"), "0");
    store.rollback(&store.newest(), &[]).success().stdout_has("2 sidecar entries brought back");
}

#[test]
fn a_row_with_a_key_is_found_under_any_row_number() {
    let store = Backend::Sqlite.make("sqlite_rowid");
    store.import(&store.archive(&good()), &[]).success();
    let batch = store.newest();
    store.rollback(&batch, &[]).success();
    let undo = store.newest();
    // its row number is the first free one
    store.run(&session(9, "cs-9"));
    store.rollback(&undo, &[]).success();
    store.rollback(&batch, &[]).success();
    assert_eq!(store.one("SELECT group_concat(claude_session_id) FROM sessions"), "cs-9");
}
