//! Rows that a rollback cannot bring back, since other rows have their unique values now.

use super::*;

both! {
    a_deleted_row_whose_unique_value_is_taken_stops_a_rollback
    a_changed_row_whose_unique_value_is_taken_stops_a_rollback
    a_value_that_only_a_partial_index_keeps_unique_is_named
    rows_get_their_unique_values_back_from_each_other
}

/// A database with the good rows.
fn filled(backend: Backend, test_name: &str) -> Store {
    let store = backend.make(test_name);
    store.import(&store.archive(&good()), &["--no-undo"]).success();
    store
}

/// Enters a session by hand.
fn by_hand(store: &Store, backend: Backend, number: u32, claude: &str) {
    store.run(&format!(
        "INSERT INTO {} (id, claude_session_id, start_time, project_path) \
         VALUES ('{}', '{claude}', '2025-08-19T10:00:00Z', '/hand')",
        backend.sessions(),
        id(number)
    ));
}

#[track_caller]
fn count(store: &Store, table: &str, number: u32) -> String {
    store.one(&format!("SELECT count(*) FROM {table} WHERE id = '{}'", id(number)))
}

fn a_deleted_row_whose_unique_value_is_taken_stops_a_rollback(backend: Backend) {
    let store = filled(backend, "taken_deleted");
    let (sessions, events) = (backend.sessions(), backend.events());
    let less = store.archive(&(session(1, "cs-1") + &event(11, 1, "pre_tool_use", "NULL")));
    store.import(&less, &["--clear"]).success();
    by_hand(&store, backend, 90, "cs-2");
    let before = store.everything();
    store
        .rollback("last", &[])
        .fails_with(11)
        .stderr_has("2 rows cannot come back")
        .stderr_has(&format!(
            "{sessions}: 1 row cannot come back, since other rows have their claude_session_id now: {}",
            id(2)
        ))
        .stderr_has(&format!(
            "{events}: 1 row cannot come back, since what they refer to does not come back: {}",
            id(13)
        ))
        .stderr_has("nothing was changed")
        .stderr_has("--force");
    assert_same_rows(&before, &store.everything());
    let dry = json_of(&store.rollback("last", &["--dry-run", "--json"]).fails_with(11));
    let taken = &dry["tables"][0]["taken"];
    assert_eq!((&taken["rows"], &taken["columns"]), (&json!(1), &json!(["claude_session_id"])));
    store.rollback("last", &["--force"]).success().stdout_has("2 rows left unchanged");
    assert_eq!([count(&store, sessions, 2), count(&store, sessions, 90)], ["0", "1"]);
    assert_eq!([12, 13].map(|number| count(&store, events, number)), ["1", "0"]);
    // and that is undone as any other rollback
    store.rollback(&store.newest(), &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn a_changed_row_whose_unique_value_is_taken_stops_a_rollback(backend: Backend) {
    let store = filled(backend, "taken_changed");
    let (sessions, events) = (backend.sessions(), backend.events());
    let renamed = store.archive(
        &(session(1, "cs-1") + &session(2, "cs-new") + &event(12, 1, "post_tool_use", "99")),
    );
    store.import(&renamed, &["--on-conflict=update"]).success();
    by_hand(&store, backend, 90, "cs-2");
    let before = store.everything();
    store
        .rollback("last", &[])
        .fails_with(11)
        .stderr_has("1 row cannot come back")
        .stderr_has("claude_session_id")
        .stderr_has(&id(2));
    assert_same_rows(&before, &store.everything());
    store.rollback("last", &["--force"]).success().stdout_has("1 row left unchanged");
    let claude = format!("SELECT claude_session_id FROM {sessions} WHERE id = '{}'", id(2));
    assert_eq!(store.one(&claude), "cs-new");
    let duration = format!("SELECT duration_ms FROM {events} WHERE id = '{}'", id(12));
    assert_eq!(store.one(&duration), "12", "the rest is undone");
    store.rollback(&store.newest(), &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn a_value_that_only_a_partial_index_keeps_unique_is_named(backend: Backend) {
    let store = filled(backend, "taken_partial");
    let events = backend.events();
    store.run(&format!(
        "CREATE UNIQUE INDEX one_stop ON {events} (event_type) WHERE event_type = 'stop'"
    ));
    let less = store.archive(&(session(1, "cs-1") + &event(11, 1, "pre_tool_use", "NULL")));
    store.import(&less, &["--clear"]).success();
    store.run(&format!("UPDATE {events} SET event_type = 'stop', duration_ms = 5"));
    let before = store.everything();
    let rollback = store.rollback("last", &["--force"]).fails_with(11);
    rollback.stderr_has(events).stderr_has("nothing was changed").stderr_has("roll back");
    assert_same_rows(&before, &store.everything());
}

fn rows_get_their_unique_values_back_from_each_other(backend: Backend) {
    // each gets the value of another one, which is free by then; whatever the order in which a database updates rows, one
    // of the two has to be undone in another one
    for shift in [[(3, "cs-4"), (2, "cs-3"), (1, "cs-2")], [(1, "cs-0"), (2, "cs-1"), (3, "cs-2")]]
    {
        let store = filled(backend, "taken_in_turn");
        store.import(&store.archive(&session(3, "cs-3")), &[]).success();
        let before = store.everything();
        let archives = shift
            .map(|(number, claude)| store.archive(&session(number, claude)).display().to_string());
        let url = store.url();
        let options = ["--to", &url, "--strict", "--on-conflict=update"];
        let words = archives.iter().map(String::as_str).chain(options);
        Program::new(std::iter::once("import").chain(words)).run().success();
        let after = store.everything();
        assert_ne!(before, after);
        store.rollback("last", &[]).success();
        assert_same_rows(&before, &store.everything());
        store.rollback(&store.newest(), &[]).success();
        assert_same_rows(&after, &store.everything());
    }
}
