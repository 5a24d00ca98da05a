//! What random walks of the undo law have found, each as a law of its own.

use super::several::loose;
use super::*;

both! {
    deleted_rows_whose_keys_new_rows_have_come_back
    a_column_that_was_added_again_meanwhile_is_there_once
    rows_that_a_batch_leaves_equal_do_not_stop_its_rollback
    rows_without_a_key_come_back_as_often_as_they_were_there
}

/// Undoes a batch and its rollback in turn, and compares.
#[track_caller]
fn there_and_back(store: &Store, before: &[String]) {
    let after = store.everything();
    store.rollback("last", &[]).success();
    assert_same_rows(before, &store.everything());
    store.rollback(&store.newest(), &[]).success();
    assert_same_rows(&after, &store.everything());
    store.rollback("last", &[]).success();
    assert_same_rows(before, &store.everything());
}

fn deleted_rows_whose_keys_new_rows_have_come_back(backend: Backend) {
    let store = backend.make("walked_keys");
    store.import(&store.archive(&good()), &["--no-undo"]).success();
    // so that in a file the rows with these keys get other numbers
    for number in [11, 12] {
        let (events, id, other) = (backend.events(), id(number), id(number + 40));
        store.run(&format!("UPDATE {events} SET id = '{other}' WHERE id = '{id}'"));
    }
    let before = store.everything();
    let swapped = session(1, "cs-1")
        + &event(51, 1, "stop", "1")
        + &event(13, 1, "stop", "2")
        + &event(52, 1, "stop", "3");
    store.import(&store.archive(&swapped), &["--clear"]).success();
    there_and_back(&store, &before);
}

fn a_column_that_was_added_again_meanwhile_is_there_once(backend: Backend) {
    let store = backend.make("walked_columns");
    store.import(&store.archive(&good()), &[]).success();
    let noted = |number: u32, text: &str| {
        let rows = session(number, &format!("cs-{number}")) + &event(number, number, "stop", "1");
        let note =
            format!("ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = '{text}';");
        store.import(&store.archive(&(rows + &note)), &["--on-missing-column=add"]).success();
    };
    noted(31, "one");
    store.rollback("last", &[]).success();
    let rollback = store.newest();
    noted(32, "two");
    // its column is there already
    store.rollback(&rollback, &[]).success();
    let notes =
        format!("SELECT count(DISTINCT note) || ' of ' || count(note) FROM {}", backend.events());
    assert_eq!(store.one(&notes), "2 of 2");
    store.rollback("last", &[]).success();
    assert_eq!(store.one(&notes), "1 of 1", "it stays as long as it holds a value");
}

fn rows_that_a_batch_leaves_equal_do_not_stop_its_rollback(backend: Backend) {
    let store = backend.make("walked_equal");
    match backend {
        // an event whose session the batch brings
        Backend::Sqlite => store.run(&event(41, 6, "stop", "1")),
        Backend::Postgres => {
            store.import(&store.archive(&session(6, "cs-6")), &[]).success();
            store.run(
                "ALTER TABLE chronicle_events DROP CONSTRAINT chronicle_events_session_id_fkey",
            );
            let rows = store.archive(&(session(6, "cs-6") + &event(41, 6, "stop", "1")));
            store.import(&rows, &["--no-undo"]).success();
            store.run("DELETE FROM chronicle_sessions");
        }
    }
    let before = store.everything();
    let rows = store.archive(&(session(6, "cs-6") + &event(41, 6, "stop", "1")));
    store.import(&rows, &["--clear"]).success();
    store.rollback("last", &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn rows_without_a_key_come_back_as_often_as_they_were_there(backend: Backend) {
    let (store, layout, archives) =
        loose(backend, "walked_loose", &["(1, 'a'), (1, 'a'), (2, NULL), (NULL, 'b')", "(3, 'c')"]);
    let import =
        |archive: &Path| store.import(archive, &["--layout", &layout, "--clear"]).success();
    import(&archives[0]);
    let before = store.everything();
    import(&archives[1]);
    there_and_back(&store, &before);
    // the rows of the first one are found again by what they hold
    store.rollback("last", &[]).success();
    assert_eq!(store.one("SELECT count(*) FROM loose"), "0");
}

#[test]
fn a_rollback_gives_no_number_to_a_table_that_had_none() {
    let (store, layout, archives) =
        loose(Backend::Sqlite, "walked_numbers", &["(1, 'a')", "(NULL, NULL); DELETE FROM loose"]);
    store.run("DROP TABLE loose; CREATE TABLE loose (n INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)");
    let before = store.everything();
    for archive in &archives {
        store.import(archive, &["--layout", &layout]).success();
        there_and_back(&store, &before);
    }
    assert_eq!(store.one("SELECT count(*) FROM sqlite_sequence"), "0");
}

#[test]
fn a_number_that_rows_alone_do_not_tell_comes_back() {
    let (store, layout, archives) =
        loose(Backend::Sqlite, "walked_gone", &["(2, 'a'), (7, 'b')", "(9, 'c')"]);
    store.run("DROP TABLE loose; CREATE TABLE loose (n INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)");
    // what has gone since is not inserted again, so that the rows give a lower number or none
    for (archive, gone, last) in [(0, "n = 7", "7"), (1, "n = 9", "9")] {
        store.import(&archives[archive], &["--layout", &layout]).success();
        store.run(&format!("DELETE FROM loose WHERE {gone}"));
        let after = store.everything();
        store.rollback("last", &["--force"]).success();
        let rollback = store.newest();
        store.rollback(&rollback, &[]).success();
        assert_same_rows(&after, &store.everything());
        assert_eq!(store.one("SELECT seq FROM sqlite_sequence"), last);
    }
}
