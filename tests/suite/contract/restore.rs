//! A restore makes the archive's tables hold exactly what the archive holds, and touches nothing else.

use super::*;

both! {
    a_restore_gives_back_what_was_edited_added_and_deleted
    a_restore_of_an_unchanged_snapshot_writes_no_row
    a_restore_is_undone
    a_restore_takes_unique_values_from_rows_that_go
    rows_of_other_tables_keep_what_they_refer_to
    a_dry_run_shows_the_differences
    a_part_of_a_database_is_not_restored
    a_backup_is_made_before
    a_restore_gives_back_the_stored_originals
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
    assert_same_rows(&before, &store.everything());
}

fn a_part_of_a_database_is_not_restored(backend: Backend) {
    let (store, archive, _) = edited(backend, "restore_part");
    let rejects = store.folder.path().join("rejects.zst");
    let bad = store.archive(&bad_last_event());
    let set_aside = ["--on-unrepresentable=reject", "--on-conflict=skip", "--rejects"];
    let options: Vec<&str> = set_aside.into_iter().chain(rejects.to_str()).collect();
    store.import(&bad, &options).fails_with(14);
    let before = store.everything();
    restore(&store, &rejects, &[]).fails_with(9).stderr_has("a part of its database");
    restore(&store, &archive, &["--on-conflict=skip"]).fails_with(2);
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
