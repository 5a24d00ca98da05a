//! A restore makes the archive's tables hold exactly what the archive holds, and touches nothing else.

use super::*;

both! {
    a_restore_gives_back_what_was_edited_added_and_deleted
    a_restore_of_an_unchanged_snapshot_writes_no_row
    a_restore_is_undone
    a_restore_takes_unique_values_from_rows_that_go
    a_restore_moves_unique_values_from_row_to_row
    a_restore_of_two_streams_of_one_table_keeps_both
    rows_of_other_tables_keep_what_they_refer_to
    a_dry_run_shows_the_differences
    rejected_rows_are_not_restored
    a_backup_is_made_before
    a_restore_gives_back_the_stored_originals
    rows_created_for_orphans_stay_in_a_restore
    a_restore_creates_rows_for_orphans
    a_restore_leaves_orphans_out_if_asked
    rows_of_the_target_that_orphans_need_are_named_or_kept
    clearing_deletes_the_rows_created_for_orphans
    a_restore_points_rows_back_to_their_parents
    a_restore_of_no_rows_empties_the_tables
}

/// A database and its snapshot, which it differs from since.
fn edited(backend: Backend, test_name: &str) -> (Store, PathBuf, Vec<String>) {
    let store = backend.make(test_name);
    store.import(&store.archive(&good()), &[]).success();
    let snapshot = snapshot(&store, "snapshot.zst");
    let before = store.everything();
    let (sessions, events) = (backend.sessions(), backend.events());
    store.run(&format!("UPDATE {events} SET duration_ms = 99 WHERE id = '{}'", id(12)));
    store.run(&format!("DELETE FROM {events} WHERE id = '{}'", id(13)));
    store.run(&format!("DELETE FROM {sessions} WHERE id = '{}'", id(2)));
    let more = store.archive(&(session(3, "cs-3") + &event(21, 3, "stop", "7")));
    store.import(&more, &[]).success();
    (store, snapshot, before)
}

#[track_caller]
fn snapshot(store: &Store, name: &str) -> PathBuf {
    let path = store.folder.path().join(name);
    let export = ["export".to_owned(), store.url(), "-o".into(), path.display().to_string()];
    Program::new(export).run().success();
    path
}

#[track_caller]
fn restore(store: &Store, from: &Path, options: &[&str]) -> Output {
    let (from, url) = (from.to_str().expect("a path in UTF-8"), store.url());
    Program::new(["restore", from, "--to", &url].iter().chain(options).copied()).run()
}

/// Without the order of rows in a file, which tells nothing.
fn rows(mut everything: Vec<String>) -> Vec<String> {
    for line in &mut everything {
        if let Some((table, rest)) = line.clone().split_once(' ')
            && let Some((number, row)) = rest.split_once(": ")
            && number.chars().all(|c| c.is_ascii_digit())
        {
            *line = format!("{table} {row}");
        }
    }
    everything.sort();
    everything
}

fn a_restore_gives_back_what_was_edited_added_and_deleted(backend: Backend) {
    let (store, archive, before) = edited(backend, "restore_all");
    let done = json_of(&restore(&store, &archive, &["--json"]).success());
    assert_same_rows(&rows(before), &rows(store.everything()));
    let counts = |n: usize| {
        let stream = &done["streams"][n];
        ["inserted_rows", "updated_rows", "deleted_rows", "skipped_rows"]
            .map(|key| stream[key].as_u64().expect("a number"))
    };
    assert_eq!((counts(0), counts(1)), ([1, 0, 1, 1], [1, 1, 1, 1]));
    let url = store.url();
    Program::new(["diff", archive.to_str().expect("a path"), &url]).run().success();
}

fn a_restore_of_an_unchanged_snapshot_writes_no_row(backend: Backend) {
    let store = backend.make("restore_none");
    store.import(&store.archive(&good()), &[]).success();
    let archive = snapshot(&store, "snapshot.zst");
    let places = |store: &Store| {
        match &store.place {
        Place::File(_) => String::new(),
        Place::Server(database) => database.psql(
            "SELECT ctid, xmin FROM chronicle_sessions UNION ALL SELECT ctid, xmin FROM chronicle_events",
        ),
    }
    };
    let (before, at) = (store.everything(), places(&store));
    restore(&store, &archive, &[]).success().stdout_has("2 unchanged");
    assert_same_rows(&before, &store.everything());
    assert_eq!(at, places(&store), "no row was written again");
    assert_eq!(store.history().last().expect("a batch")["records_migrated"], json!(0));
}

fn a_restore_is_undone(backend: Backend) {
    let (store, archive, _) = edited(backend, "restore_undone");
    let before = store.everything();
    restore(&store, &archive, &[]).success();
    let after = store.everything();
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &store.everything());
    store.rollback(&store.newest(), &[]).success();
    assert_same_rows(&after, &store.everything());
}

fn a_restore_takes_unique_values_from_rows_that_go(backend: Backend) {
    let (store, archive, before) = edited(backend, "restore_unique");
    // the session that was deleted has been recorded again, under another id
    let again = store.archive(&(session(9, "cs-2") + &event(29, 9, "stop", "1")));
    store.import(&again, &[]).success();
    let edit = store.everything();
    restore(&store, &archive, &[]).success();
    assert_same_rows(&rows(before), &rows(store.everything()));
    store.rollback("last", &[]).success();
    assert_same_rows(&edit, &store.everything());
}

fn a_restore_moves_unique_values_from_row_to_row(backend: Backend) {
    let store = backend.make("restore_moved");
    let all: String =
        (1..5).map(|n| session(n, &format!("cs-{n}")) + &event(10 + n, n, "stop", "1")).collect();
    store.import(&store.archive(&all), &[]).success();
    let archive = snapshot(&store, "snapshot.zst");
    let before = store.everything();
    let sessions = backend.sessions();
    // one is deleted and its value taken, two others swap theirs, and the taker's own value went to a new session
    let move_to = |n: u32, value: &str| {
        store.run(&format!(
            "UPDATE {sessions} SET claude_session_id = '{value}' WHERE id = '{}'",
            id(n)
        ));
    };
    store.run(&format!("DELETE FROM {} WHERE session_id = '{}'", backend.events(), id(4)));
    store.run(&format!("DELETE FROM {sessions} WHERE id = '{}'", id(4)));
    for (n, value) in [(1, "cs-4"), (2, "away"), (3, "cs-2"), (2, "cs-3")] {
        move_to(n, value);
    }
    store.import(&store.archive(&session(5, "cs-1")), &[]).success();
    let edit = store.everything();
    restore(&store, &archive, &["--dry-run"]).success();
    assert_same_rows(&edit, &store.everything());
    let done = json_of(&restore(&store, &archive, &["--json"]).success());
    assert_same_rows(&rows(before), &rows(store.everything()));
    let counts = ["inserted_rows", "updated_rows", "deleted_rows"]
        .map(|key| done["streams"][0][key].clone());
    assert_eq!(counts, [json!(1), json!(3), json!(1)]);
    let batch = store.history().last().expect("a batch").clone();
    let tables = batch["tables"].as_array().expect("tables");
    let of = tables.iter().find(|table| table["table"] == sessions).expect("the table");
    let noted = ["inserted", "updated", "deleted"].map(|what| of[what].clone());
    assert_eq!(noted, counts, "{batch}");
    store.rollback("last", &[]).success();
    assert_same_rows(&rows(edit), &rows(store.everything()));
}

#[test]
fn a_rule_against_any_other_value_is_said_by_a_rollback() {
    let store = Backend::Postgres.make("restore_ruled");
    let all: String = (1..4).map(|n| session(n, &format!("cs-{n}"))).collect();
    store.import(&store.archive(&all), &[]).success();
    let set = |n: u32, value: &str| {
        store.run(&format!(
            "UPDATE chronicle_sessions SET claude_session_id = '{value}' WHERE id = '{}'",
            id(n)
        ));
    };
    [(1, "away"), (2, "cs-1"), (1, "cs-2")].into_iter().for_each(|(n, value)| set(n, value));
    let archive = snapshot(&store, "swapped.zst");
    [(1, "away"), (2, "cs-2"), (1, "cs-1")].into_iter().for_each(|(n, value)| set(n, value));
    restore(&store, &archive, &[]).success();
    store.run("ALTER TABLE chronicle_sessions ADD CHECK (claude_session_id LIKE 'cs-%')");
    let swapped = store.everything();
    store
        .rollback("last", &[])
        .fails_with(11)
        .stderr_has("chronicle_sessions: rows have each other's former unique values")
        .stderr_has(&format!("{}; {}", id(1), id(2)))
        .stderr_has("give one of these rows another unique value by hand");
    assert_same_rows(&swapped, &store.everything());
    // one that looks at the end of a statement lets them change all at once
    let unique = "ALTER TABLE chronicle_sessions DROP CONSTRAINT chronicle_sessions_claude_session_id_key, \
                  ADD CONSTRAINT chronicle_sessions_claude_session_id_key UNIQUE (claude_session_id)";
    store.run(&format!("{unique} DEFERRABLE"));
    store.rollback("last", &[]).success();
    let values = "SELECT string_agg(claude_session_id, ' ' ORDER BY id) FROM chronicle_sessions";
    assert_eq!(store.one(values), "cs-1 cs-2 cs-3");
    store.rollback(&store.newest(), &[]).success();
    assert_same_rows(&swapped, &store.everything());
    store.run(unique);
    set(1, "cs-9");
    store.rollback("last", &["--force"]).success();
    assert_eq!(store.one(values), "cs-9 cs-2 cs-3");
}

fn a_restore_of_two_streams_of_one_table_keeps_both(backend: Backend) {
    let store = backend.make("restore_two_streams");
    let of_the_server = |number: u32| {
        format!(
            "INSERT INTO chronicle_sessions (id, claude_session_id, start_time) \
             VALUES ('{}', 'cs-{number}', '2025-08-19T10:00:00Z');",
            id(number)
        )
    };
    let rows_of_both =
        session(1, "cs-1") + &session(2, "cs-2") + &of_the_server(3) + &of_the_server(4);
    let folder = store.folder.path();
    let archive = archive_of(folder, &["sqlite-hooks.sql", "sqlite-server.sql"], &rows_of_both);
    let options = ["--on-missing-column=preserve", "--on-unrepresentable=preserve"];
    store.import(&archive, &options).success();
    let before = without_names(store.everything());
    restore(&store, &archive, &options).success();
    assert_same_rows(&before, &without_names(store.everything()));
    // values move from row to row, in a file also from a row of one stream to one of the other
    let sessions = backend.sessions();
    let moves = match backend {
        Backend::Sqlite => [(1, "away"), (3, "cs-1"), (1, "cs-3"), (4, "gone")],
        Backend::Postgres => [(1, "away"), (2, "cs-1"), (1, "cs-2"), (4, "gone")],
    };
    for (number, value) in moves {
        let id = id(number);
        store
            .run(&format!("UPDATE {sessions} SET claude_session_id = '{value}' WHERE id = '{id}'"));
    }
    store.import(&store.archive(&session(5, "cs-4")), &[]).success();
    let edit = without_names(store.everything());
    let done = json_of(&restore(&store, &archive, &[&options[..], &["--json"]].concat()).success());
    assert_same_rows(&before, &without_names(store.everything()));
    let sums = ["inserted_rows", "updated_rows", "deleted_rows", "skipped_rows"].map(|key| {
        let streams = done["streams"].as_array().expect("streams");
        streams.iter().map(|stream| stream[key].as_u64().expect("a number")).sum::<u64>()
    });
    assert_eq!(sums, [0, 3, 1, 1], "{done:#}");
    store.rollback("last", &[]).success();
    assert_same_rows(&edit, &without_names(store.everything()));
}

fn rows_of_other_tables_keep_what_they_refer_to(backend: Backend) {
    let (store, archive, _) = edited(backend, "restore_outside");
    let ty = if backend == Backend::Sqlite { "TEXT" } else { "uuid" };
    let (sessions, third) = (backend.sessions(), id(3));
    store.run(&format!(
        "CREATE TABLE notes (n INTEGER PRIMARY KEY, session {ty} REFERENCES {sessions} (id) ON DELETE CASCADE)"
    ));
    store.run(&format!("INSERT INTO notes VALUES (1, '{}'), (2, '{third}')", id(1)));
    let before = store.everything();
    let message = |output: Output| {
        output
            .fails_with(12)
            .stderr_has("notes")
            .stderr_has(&third)
            .stderr_has("nothing was changed")
    };
    message(restore(&store, &archive, &[]));
    message(store.import(&archive, &["--clear"]));
    assert_same_rows(&before, &store.everything());
    store.run("DELETE FROM notes WHERE n = 2");
    restore(&store, &archive, &[]).success();
    match backend {
        Backend::Sqlite => drop(store.import(&archive, &["--clear"]).success()),
        // for this role the server would act on the key as soon as the session goes
        Backend::Postgres => {
            store.import(&archive, &["--clear"]).fails_with(12).stderr_has("public.notes");
        }
    }
    assert_eq!(store.one("SELECT count(*) FROM notes"), "1", "nothing cascades");
}

fn a_dry_run_shows_the_differences(backend: Backend) {
    let (store, archive, _) = edited(backend, "restore_dry");
    let before = store.everything();
    restore(&store, &archive, &["--dry-run"])
        .success()
        .stdout_has(&id(13))
        .stdout_has("1 changed (1 in duration_ms)")
        .stdout_has("different: ");
    let json = json_of(&restore(&store, &archive, &["--dry-run", "--json"]).success());
    assert_eq!((&json["command"], &json["equal"]), (&json!("restore"), &json!(false)));
    assert_same_rows(&before, &store.everything());
}

fn rejected_rows_are_not_restored(backend: Backend) {
    let (store, archive, _) = edited(backend, "restore_part");
    let rejects = store.folder.path().join("rejects.zst");
    let bad = store.archive(&bad_last_event());
    let set_aside = ["--on-unrepresentable=reject", "--on-conflict=skip", "--rejects"];
    let options: Vec<&str> = set_aside.into_iter().chain(rejects.to_str()).collect();
    store.import(&bad, &options).fails_with(14);
    let before = store.everything();
    restore(&store, &rejects, &[]).fails_with(9).stderr_has("a part of its database");
    // rows that differ become what the archive says, whatever was chosen elsewhere
    restore(&store, &archive, &["--on-conflict=skip"]).fails_with(2).stderr_has("--on-conflict");
    let help = Program::new(["restore", "--help"]).run().success();
    assert!(!help.text().contains("--on-conflict"), "{}", help.text());
    assert_same_rows(&before, &store.everything());
}

fn a_backup_is_made_before(backend: Backend) {
    let (store, archive, _) = edited(backend, "restore_backup");
    let before = store.everything();
    let backup = store.folder.path().join("before.zst");
    let copy = store.folder.path().join("before.db");
    let mut options = vec!["--backup", backup.to_str().expect("a path")];
    if backend == Backend::Sqlite {
        options.extend(["--backup-db", copy.to_str().expect("a path")]);
    }
    restore(&store, &archive, &options).success();
    let named = store.history().last().expect("a batch")["backup"].to_string();
    assert!(named.contains("before.zst"), "{named}");
    restore(&store, &archive, &options[..2]).fails_with(2).stderr_has("--backup");
    let from = if backend == Backend::Sqlite { &copy } else { &backup };
    restore(&store, from, &[]).success();
    assert_same_rows(&rows(before), &rows(store.everything()));
}

/// Without the names of columns that archives had, of which each import notes its own.
fn without_names(everything: Vec<String>) -> Vec<String> {
    rows(everything).into_iter().filter(|line| !line.contains("sidecar_columns")).collect()
}

fn a_restore_gives_back_the_stored_originals(backend: Backend) {
    let store = backend.make("restore_originals");
    let note = "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = 'x';";
    store.import(&store.archive(&(good() + note)), &["--on-missing-column=preserve"]).success();
    let archive = snapshot(&store, "snapshot.zst");
    let before = without_names(store.everything());
    restore(&store, &archive, &[]).success();
    assert_same_rows(&before, &without_names(store.everything()));
    store.run(&format!("DELETE FROM {} WHERE id = '{}'", backend.events(), id(12)));
    restore(&store, &archive, &[]).success();
    assert_same_rows(&before, &without_names(store.everything()));
    let url = store.url();
    Program::new(["diff", archive.to_str().expect("a path"), &url]).run().success();
}

/// Creates rows for orphans, and notes which ones.
const ADOPTS: [&str; 3] =
    ["--orphans=adopt", "--on-missing-column=preserve", "--on-unrepresentable=preserve"];

/// The good rows, an event without its session, and a column that the target lacks, so that originals are stored.
fn with_an_orphan(store: &Store) -> PathBuf {
    let note = "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = 'x';";
    store.archive(&(good() + &event(41, 7, "stop", "1") + note))
}

/// Whether the session of that event is there, and the event.
#[track_caller]
fn session_and_event(store: &Store, backend: Backend) -> [String; 2] {
    [(backend.sessions(), 7), (backend.events(), 41)].map(|(table, number)| {
        store.one(&format!("SELECT count(*) FROM {table} WHERE id = '{}'", id(number)))
    })
}

fn rows_created_for_orphans_stay_in_a_restore(backend: Backend) {
    created_rows_stay(&backend.make("restore_created"), backend);
}

fn created_rows_stay(store: &Store, backend: Backend) {
    store.import(&with_an_orphan(store), &ADOPTS).success();
    let archive = snapshot(store, "snapshot.zst");
    let before = without_names(store.everything());
    for options in [&[][..], &["--orphans=adopt"], &["--orphans=keep"]] {
        restore(store, &archive, options).success();
        assert_same_rows(&before, &without_names(store.everything()));
        assert_eq!(store.history().last().expect("a batch")["records_migrated"], json!(0));
    }
    restore(store, &archive, &["--orphans=fail"]).fails_with(12).stderr_has(&id(41));
    assert_same_rows(&before, &without_names(store.everything()));
    // without the event nothing needs it
    restore(store, &store.archive(&good()), &[]).success();
    assert_eq!(session_and_event(store, backend), ["0", "0"]);
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &without_names(store.everything()));
}

fn a_restore_creates_rows_for_orphans(backend: Backend) {
    let store = backend.make("restore_adopts");
    store.import(&store.archive(&(good() + &session(5, "cs-5"))), &[]).success();
    let before = without_names(store.everything());
    let archive = with_an_orphan(&store);
    restore(&store, &archive, &["--orphans=adopt"]).success();
    assert_eq!(session_and_event(&store, backend), ["1", "1"]);
    let after = store.everything();
    restore(&store, &archive, &["--orphans=adopt"]).success();
    assert_same_rows(&after, &store.everything());
    store.rollback("last", &[]).success();
    store.rollback("last", &[]).success();
    assert_same_rows(&rows(before), &rows(without_own(store.everything())));
}

/// Without our own tables, which stay.
fn without_own(mut everything: Vec<String>) -> Vec<String> {
    everything.retain(|line| !line.contains("chronicle_dump"));
    everything
}

fn a_restore_leaves_orphans_out_if_asked(backend: Backend) {
    orphans_are_left_out(&backend.make("restore_skips"), backend);
}

fn orphans_are_left_out(store: &Store, backend: Backend) {
    let archive = with_an_orphan(store);
    store.import(&archive, &ADOPTS).success();
    let before = without_names(store.everything());
    let done = json_of(&restore(store, &archive, &["--orphans=skip", "--json"]).success());
    assert_eq!(session_and_event(store, backend), ["0", "0"]);
    let counts = ["inserted_rows", "skipped_rows", "deleted_rows", "skipped_orphans"]
        .map(|key| done["streams"][1][key].as_u64().expect("a number"));
    assert_eq!(counts, [0, 3, 1, 1]);
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &without_names(store.everything()));
}

fn rows_of_the_target_that_orphans_need_are_named_or_kept(backend: Backend) {
    needed_rows_are_named(&backend.make("restore_needed"), backend);
}

fn needed_rows_are_named(store: &Store, backend: Backend) {
    store.import(&with_an_orphan(store), &ADOPTS).success();
    let archive = snapshot(store, "snapshot.zst");
    let sessions = backend.sessions();
    store.run(&format!("UPDATE {sessions} SET project_path = '/mine' WHERE id = '{}'", id(7)));
    let before = without_names(store.everything());
    restore(store, &archive, &["--orphans=adopt"]).success();
    assert_same_rows(&before, &without_names(store.everything()));
    match backend {
        // references are not enforced there
        Backend::Sqlite => {
            restore(store, &archive, &[]).success();
            assert_eq!(session_and_event(store, backend), ["0", "1"]);
        }
        Backend::Postgres => {
            let refused = restore(store, &archive, &[]).fails_with(12).stderr_has(&id(7));
            refused.stderr_has("--orphans adopt");
            assert_same_rows(&before, &without_names(store.everything()));
        }
    }
}

fn clearing_deletes_the_rows_created_for_orphans(backend: Backend) {
    let store = backend.make("restore_cleared");
    let archive = with_an_orphan(&store);
    store.import(&archive, &ADOPTS).success();
    let before = without_names(store.everything());
    for (policy, left) in [("adopt", ["1", "1"]), ("skip", ["0", "0"])] {
        let options = [&ADOPTS[1..], &["--clear", "--orphans", policy]].concat();
        store.import(&archive, &options).success();
        assert_eq!(session_and_event(&store, backend), left, "{policy}");
        store.rollback("last", &[]).success();
        assert_same_rows(&before, &without_names(store.everything()));
    }
    match backend {
        Backend::Sqlite => {
            let options = [&ADOPTS[1..], &["--clear"]].concat();
            store.import(&archive, &options).success();
            assert_eq!(session_and_event(&store, backend), ["0", "1"]);
        }
        Backend::Postgres => {
            let options = [&ADOPTS[1..], &["--clear"]].concat();
            store.import(&archive, &options).fails_with(12).stderr_has(&id(7));
            assert_same_rows(&before, &without_names(store.everything()));
        }
    }
}

fn a_restore_points_rows_back_to_their_parents(backend: Backend) {
    let store = backend.make("restore_moved");
    store.import(&store.archive(&good()), &[]).success();
    let (archive, before) = (snapshot(&store, "snapshot.zst"), store.everything());
    store.import(&store.archive(&session(3, "cs-3")), &[]).success();
    let move_it = |to: u32| {
        store.run(&format!(
            "UPDATE {} SET session_id = '{}' WHERE id = '{}'",
            backend.events(),
            id(to),
            id(13)
        ));
    };
    for keep in ["", "NO ACTION", "RESTRICT"] {
        if let (Place::Server(database), false) = (&store.place, keep.is_empty()) {
            database.psql(&format!(
                "ALTER TABLE chronicle_events DROP CONSTRAINT chronicle_events_session_id_fkey; \
                 ALTER TABLE chronicle_events ADD CONSTRAINT chronicle_events_session_id_fkey \
                 FOREIGN KEY (session_id) REFERENCES chronicle_sessions (id) ON DELETE {keep}"
            ));
        }
        move_it(3);
        let moved = store.everything();
        restore(&store, &archive, &[]).success();
        assert_same_rows(&rows(before.clone()), &rows(store.everything()));
        store.rollback("last", &[]).success();
        assert_same_rows(&rows(moved), &rows(store.everything()));
    }
}

fn a_restore_of_no_rows_empties_the_tables(backend: Backend) {
    let store = backend.make("restore_empty");
    store.import(&store.archive(&good()), &[]).success();
    let before = rows(store.everything());
    for (archive, left) in [(session(1, "cs-1"), ["1", "0"]), (String::new(), ["0", "0"])] {
        restore(&store, &store.archive(&archive), &[]).success();
        let counts = [backend.sessions(), backend.events()]
            .map(|table| store.one(&format!("SELECT count(*) FROM {table}")));
        assert_eq!(counts, left);
        store.rollback("last", &[]).success();
        assert_same_rows(&before, &rows(without_own(store.everything())));
    }
}

#[test]
fn a_role_that_checks_no_references_restores_orphans_too() {
    created_rows_stay(&server_of(SUPA, "restore_created_supa"), Backend::Postgres);
    orphans_are_left_out(&server_of(SUPA, "restore_skips_supa"), Backend::Postgres);
    needed_rows_are_named(&server_of(SUPA, "restore_needed_supa"), Backend::Postgres);
}
