//! Rows that the target has already: equal ones are skipped, others wait for a choice, and a session is the same one under
//! any id.

use super::*;

both! {
    rows_that_differ_stop_the_import_counted_and_named
    skip_keeps_the_rows_of_the_target
    update_takes_the_rows_of_the_archive
    a_choice_may_be_of_one_stream
    a_choice_of_an_unknown_stream_is_refused
    newer_stops_where_no_row_says_when_it_changed
    a_session_under_another_id_keeps_it_and_takes_its_events
    such_a_session_may_differ_as_any_other
    a_check_finds_the_conflicts_that_an_import_meets
    an_update_replaces_the_originals_too
    an_update_that_changes_nothing_updates_nothing
}

/// What was done to a stream.
#[track_caller]
fn counts(output: &Output, stream: &str) -> [u64; 5] {
    let json = json_of(output);
    let streams = json["streams"].as_array().expect("streams");
    let found = streams.iter().find(|s| s["stream"] == stream).expect("the stream");
    ["inserted_rows", "updated_rows", "skipped_rows", "conflicting_rows", "matched_rows"]
        .map(|key| found[key].as_u64().expect("a number"))
}

/// The sum of the durations of all events, and how many there are.
fn durations(store: &Store, backend: Backend) -> String {
    let sql = format!(
        "SELECT coalesce(sum(duration_ms), 0) || ' of ' || count(*) FROM {}",
        backend.events()
    );
    store.one(&sql)
}

/// A database with the good rows, of which two events have another duration since.
fn edited(backend: Backend, test_name: &str) -> Store {
    let store = backend.make(test_name);
    store.import(&store.archive(&good()), &[]).success();
    for (number, duration) in [(11, "5"), (12, "99")] {
        let (events, id) = (backend.events(), id(number));
        store.run(&format!("UPDATE {events} SET duration_ms = {duration} WHERE id = '{id}'"));
    }
    store
}

/// The good rows and a new event before them.
fn with_a_new_event(store: &Store) -> PathBuf {
    store.archive(&(good() + &event(10, 1, "notification", "NULL")))
}

fn rows_that_differ_stop_the_import_counted_and_named(backend: Backend) {
    let store = edited(backend, "conflicts_named");
    let before = store.dump();
    let archive = with_a_new_event(&store);
    for options in [&[][..], &["--on-conflict=fail"]] {
        store
            .import(&archive, options)
            .fails_with(11)
            .stderr_has("events: 2 rows: ")
            .stderr_has("another value in \"duration_ms\"")
            .stderr_has(&id(11))
            .stderr_has("nothing was changed")
            .stderr_has("--on-conflict skip");
        assert_same_rows(&before, &store.dump());
    }
    // NULL is content, too
    store.run(&format!("UPDATE {} SET duration_ms = NULL", backend.events()));
    store.import(&archive, &[]).fails_with(11).stderr_has("events: 1 row: ").stderr_has(&id(12));
}

fn skip_keeps_the_rows_of_the_target(backend: Backend) {
    let store = edited(backend, "conflicts_skip");
    let archive = with_a_new_event(&store);
    let done = store.import(&archive, &["--on-conflict", "skip", "--json"]).success();
    assert_eq!(counts(&done, "sessions"), [0, 0, 2, 0, 0]);
    assert_eq!(counts(&done, "events"), [1, 0, 1, 2, 0]);
    assert_eq!(durations(&store, backend), "104 of 4");
}

fn update_takes_the_rows_of_the_archive(backend: Backend) {
    let store = edited(backend, "conflicts_update");
    let archive = with_a_new_event(&store);
    let done = store.import(&archive, &["--on-conflict=update", "--json"]).success();
    assert_eq!(counts(&done, "sessions"), [0, 0, 2, 0, 0]);
    assert_eq!(counts(&done, "events"), [1, 2, 1, 0, 0]);
    assert_eq!(durations(&store, backend), "12 of 4");
    let again = store.import(&archive, &["--json"]).success();
    assert_eq!(counts(&again, "events"), [0, 0, 4, 0, 0], "everything is as in the archive now");
}

fn an_update_that_changes_nothing_updates_nothing(backend: Backend) {
    let store = backend.make("conflicts_none");
    let archive = store.archive(&good());
    store.import(&archive, &[]).success();
    let before = store.dump();
    let done = store.import(&archive, &["--on-conflict=update", "--json"]).success();
    assert_eq!(counts(&done, "events"), [0, 0, 3, 0, 0]);
    assert_same_rows(&before, &store.dump());
}

fn a_choice_may_be_of_one_stream(backend: Backend) {
    let store = edited(backend, "conflicts_one_stream");
    let sessions = backend.sessions();
    store.run(&format!("UPDATE {sessions} SET project_path = '/other' WHERE id = '{}'", id(1)));
    let archive = with_a_new_event(&store);
    store
        .import(&archive, &["--on-conflict", "events=update"])
        .fails_with(11)
        .stderr_has("sessions: 1 row: ")
        .stderr_has("\"project_path\"");
    let both = ["--on-conflict", "sessions=skip,events=update", "--json"];
    let done = store.import(&archive, &both).success();
    assert_eq!(counts(&done, "sessions"), [0, 0, 1, 1, 0]);
    assert_eq!(counts(&done, "events"), [1, 2, 1, 0, 0]);
    let path = format!("SELECT project_path FROM {sessions} WHERE id = '{}'", id(1));
    assert_eq!(store.one(&path), "/other");
}

fn a_choice_of_an_unknown_stream_is_refused(backend: Backend) {
    let store = backend.make("conflicts_unknown");
    let archive = store.archive(&good());
    store
        .import(&archive, &["--on-conflict", "steps=skip"])
        .fails_with(2)
        .stderr_has("no stream \"steps\"")
        .stderr_has("sessions, events");
    store
        .import(&archive, &["--on-conflict", "replace"])
        .fails_with(2)
        .stderr_has("\"replace\"")
        .stderr_has("fail, skip, update, newer");
}

fn newer_stops_where_no_row_says_when_it_changed(backend: Backend) {
    let store = edited(backend, "conflicts_newer_unknown");
    let before = store.dump();
    store
        .import(&with_a_new_event(&store), &["--on-conflict", "newer"])
        .fails_with(11)
        .stderr_has("events: 2 rows: ")
        .stderr_has("newer decides nothing")
        .stderr_has("--on-conflict newer,events=skip");
    assert_same_rows(&before, &store.dump());
}

/// The session of "cs-1" under an id of another machine, with an event of its own.
fn of_another_machine() -> String {
    session(8, "cs-8")
        + &session(9, "cs-1")
        + &event(10, 9, "stop", "NULL")
        + &event(15, 8, "stop", "7")
}

fn a_session_under_another_id_keeps_it_and_takes_its_events(backend: Backend) {
    let store = backend.make("known_as");
    store.import(&store.archive(&good()), &[]).success();
    let archive = store.archive(&of_another_machine());
    let done = store.import(&archive, &["--json"]).success();
    assert_eq!(counts(&done, "sessions"), [1, 0, 1, 0, 1]);
    assert_eq!(counts(&done, "events"), [2, 0, 0, 0, 0]);
    let (events, sessions) = (backend.events(), backend.sessions());
    let of = |number| {
        let id = id(number);
        store.one(&format!("SELECT session_id FROM {events} WHERE id = '{id}'"))
    };
    assert_eq!((of(10), of(15)), (id(1), id(8)));
    assert_eq!(store.one(&format!("SELECT count(*) FROM {sessions}")), "3");
    let before = store.dump();
    let again = store.import(&archive, &["--json"]).success();
    assert_eq!(counts(&again, "sessions"), [0, 0, 2, 0, 1]);
    assert_eq!(counts(&again, "events"), [0, 0, 2, 0, 0]);
    assert_same_rows(&before, &store.dump());
}

fn such_a_session_may_differ_as_any_other(backend: Backend) {
    let store = backend.make("known_as_differs");
    store.import(&store.archive(&good()), &[]).success();
    let sessions = backend.sessions();
    store.run(&format!("UPDATE {sessions} SET git_branch = 'old' WHERE id = '{}'", id(1)));
    let branch = || store.one(&format!("SELECT git_branch FROM {sessions} WHERE id = '{}'", id(1)));
    let archive = store.archive(
        &(of_another_machine()
            + "UPDATE sessions SET git_branch = 'new' WHERE claude_session_id = 'cs-1';"),
    );
    store.import(&archive, &[]).fails_with(11).stderr_has("\"git_branch\"");
    let skipped = store.import(&archive, &["--on-conflict=skip", "--json"]).success();
    assert_eq!(counts(&skipped, "sessions"), [1, 0, 0, 1, 1]);
    assert_eq!(branch(), "old");
    let updated = store.import(&archive, &["--on-conflict=update", "--json"]).success();
    assert_eq!(counts(&updated, "sessions"), [0, 1, 1, 0, 1]);
    assert_eq!(branch(), "new");
}

fn a_check_finds_the_conflicts_that_an_import_meets(backend: Backend) {
    let store = edited(backend, "conflicts_checked");
    let archive = with_a_new_event(&store);
    let archive = archive.to_str().expect("a path in UTF-8");
    let check = |options: &[&str]| {
        let url = store.url();
        let start = ["check", archive, "--to", &url, "--json"];
        Program::new(start.iter().chain(options).copied()).run()
    };
    let found = check(&[]).fails_with(11);
    let problems = &json_of(&found)["problems"];
    assert_eq!((&problems[0]["rows"], &problems[1]), (&json!(2), &Value::Null));
    assert!(problems[0]["remedy"].as_str().expect("a remedy").contains("--on-conflict"));
    for choice in ["skip", "update"] {
        check(&["--on-conflict", choice]).success();
    }
}

fn an_update_replaces_the_originals_too(backend: Backend) {
    let store = backend.make("conflicts_originals");
    let with = |text: &str| {
        let note = format!(
            "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = '{text}' WHERE id = '{}';",
            id(12)
        );
        store.archive(&(good() + &note))
    };
    let exported = || {
        let copy = store.folder.path().join("again.ndjson.zst");
        let copy = copy.to_str().expect("a path in UTF-8");
        Program::new(["export", &store.url(), "-o", copy, "--force"]).run().success();
        Program::new(["cat", copy, "--stream", "events"]).run().success().text().to_owned()
    };
    let preserve = "--on-missing-column=preserve";
    store.import(&with("a while"), &[preserve]).success();
    assert!(exported().contains("a while"));
    store.import(&with("an hour"), &[preserve]).fails_with(11);
    store.import(&with("an hour"), &[preserve, "--on-conflict=update"]).success();
    let now = exported();
    assert!(now.contains("an hour") && !now.contains("a while"), "{now}");
    store.import(&with("a week"), &[preserve, "--on-conflict=skip"]).success();
    assert_eq!(exported(), now);
}

#[test]
fn a_wrong_zone_is_not_taken_for_conflicts() {
    let store = Backend::Postgres.make("conflicts_zone");
    let archive = archive_of(store.folder.path(), &["sqlite-hooks.sql", "sample-hooks.sql"], "");
    let import = |zone: &str| {
        let options =
            ["--orphans=skip", "--on-unrepresentable=adapt", "--on-missing-column=drop", zone];
        store.import(&archive, &options)
    };
    import("--assume-tz=America/Los_Angeles").success();
    import("--assume-tz=UTC").fails_with(10).stderr_has("contradicts --assume-tz");
    import("--assume-tz=America/Los_Angeles").success();
}

#[test]
fn a_row_of_the_target_is_never_left_out_as_an_orphan() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let store = backend.make("conflicts_orphan");
        store.import(&store.archive(&good()), &[]).success();
        let before = store.dump();
        let edit = format!(
            "UPDATE events SET session_id = '{}', duration_ms = 99 WHERE id = '{}';",
            id(7),
            id(12)
        );
        let archive = store.archive(&(good() + &edit));
        let done = store.import(&archive, &["--on-conflict=update", "--orphans=skip"]);
        match backend {
            Backend::Sqlite => drop(done.fails_with(12).stderr_has("orphans cannot be left out")),
            Backend::Postgres => drop(done.success()),
        }
        assert_same_rows(&before, &store.dump());
    }
}

#[test]
fn a_comparison_takes_no_choice_about_conflicts() {
    let store = Backend::Sqlite.make("conflicts_against");
    let archive = store.archive(&good());
    let archive = archive.to_str().expect("a path in UTF-8");
    let url = store.url();
    let verify = ["verify", archive, "--against", &url, "--on-conflict", "skip"];
    Program::new(verify).run().fails_with(2).stderr_has("has no effect");
}

#[test]
fn newer_takes_the_row_that_was_changed_last() {
    let store = Backend::Sqlite.make("conflicts_newer");
    let changed = |time: &str, branch: &str| {
        store.archive(
            &(good()
                + &format!("UPDATE sessions SET git_branch = '{branch}', updated_at = '{time}';")),
        )
    };
    store.import(&changed("2025-08-20 10:00:00", "first"), &[]).success();
    let newer = ["--on-conflict=newer", "--json"];
    let older = store.import(&changed("2025-08-19 23:00:00", "older"), &newer).success();
    assert_eq!(counts(&older, "sessions"), [0, 0, 0, 2, 0]);
    // the same column in another spelling
    let later = store.import(&changed("2025-08-20T10:00:01Z", "later"), &newer).success();
    assert_eq!(counts(&later, "sessions"), [0, 2, 0, 0, 0]);
    assert_eq!(store.one("SELECT group_concat(DISTINCT git_branch) FROM sessions"), "later");
    store
        .import(&changed("2025-08-20T10:00:01Z", "same time"), &newer)
        .fails_with(11)
        .stderr_has("\"updated_at\" is the same or no time");
}
