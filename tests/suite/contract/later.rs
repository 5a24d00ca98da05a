//! Which later batches a rollback names: those that build on the rows of the batch, and no others.

use super::*;

both! {
    a_later_batch_of_other_rows_is_not_named
    a_later_batch_that_changed_the_rows_is_named
    a_later_batch_that_refers_to_the_rows_is_named
    a_later_batch_that_has_their_unique_values_is_named
    without_receipts_the_tables_decide
    a_later_batch_that_is_rolled_back_is_not_named
}

/// A database with a batch that inserts session 3 and event 21; and the id of the batch.
fn with_a_batch(backend: Backend, test_name: &str) -> (Store, String) {
    let store = backend.make(test_name);
    store.import(&store.archive(&good()), &[]).success();
    let rows = session(3, "cs-3") + &event(21, 3, "stop", "7");
    store.import(&store.archive(&rows), &[]).success();
    let batch = store.newest();
    (store, batch)
}

/// The batches that a rollback names as later ones.
#[track_caller]
fn later(store: &Store, batch: &str) -> Vec<String> {
    let dry = store.rollback(batch, &["--dry-run", "--json"]);
    assert!(matches!(dry.code, Some(0 | 11)), "{}", dry.stderr);
    let named = json_of(&dry)["later"].as_array().expect("batches").clone();
    named.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

/// Imports rows, and gives the id of the batch.
#[track_caller]
fn import_more(store: &Store, rows: &str, options: &[&str]) -> String {
    store.import(&store.archive(rows), options).success();
    store.newest()
}

fn a_later_batch_of_other_rows_is_not_named(backend: Backend) {
    let (store, batch) = with_a_batch(backend, "later_others");
    let other = import_more(&store, &(session(5, "cs-5") + &event(25, 5, "stop", "1")), &[]);
    assert_eq!(later(&store, &batch), [""; 0]);
    let events = backend.events();
    store.run(&format!("UPDATE {events} SET duration_ms = 1000 WHERE id = '{}'", id(21)));
    store.rollback(&batch, &[]).fails_with(11).stderr_lacks(&other).stderr_has("--force");
    store.run(&format!("UPDATE {events} SET duration_ms = 7 WHERE id = '{}'", id(21)));
    store.rollback(&batch, &[]).success();
}

fn a_later_batch_that_changed_the_rows_is_named(backend: Backend) {
    let (store, batch) = with_a_batch(backend, "later_changed");
    let rows = session(3, "cs-3") + &event(21, 3, "stop", "9");
    let update = import_more(&store, &rows, &["--on-conflict=update"]);
    let other = import_more(&store, &session(5, "cs-5"), &[]);
    assert_eq!(later(&store, &batch), [update.as_str()]);
    store
        .rollback(&batch, &[])
        .fails_with(11)
        .stderr_has("a later batch has changed rows of this one since, or refers to them: import")
        .stderr_has(&update)
        .stderr_lacks(&other);
    // one that deletes them has changed them, too
    let gone = import_more(&store, &session(1, "cs-1"), &["--clear"]);
    assert_eq!(later(&store, &batch), [update.as_str(), gone.as_str()]);
}

fn a_later_batch_that_refers_to_the_rows_is_named(backend: Backend) {
    let (store, batch) = with_a_batch(backend, "later_refers");
    let rows = session(3, "cs-3") + &event(22, 3, "stop", "9");
    let refers = import_more(&store, &rows, &[]);
    let other = import_more(&store, &(session(1, "cs-1") + &event(23, 1, "stop", "9")), &[]);
    assert_eq!(later(&store, &batch), [refers.as_str()]);
    store.rollback(&batch, &[]).fails_with(11).stderr_has(&refers).stderr_lacks(&other);
}

fn a_later_batch_that_has_their_unique_values_is_named(backend: Backend) {
    let (store, _) = with_a_batch(backend, "later_unique");
    let deletes = import_more(&store, &session(1, "cs-1"), &["--clear"]);
    let takes = import_more(&store, &session(90, "cs-3"), &[]);
    let other = import_more(&store, &session(91, "cs-91"), &[]);
    assert_eq!(later(&store, &deletes), [takes.as_str()]);
    store
        .rollback(&deletes, &[])
        .fails_with(11)
        .stderr_has("claude_session_id")
        .stderr_has(&takes)
        .stderr_lacks(&other);
    store.rollback(&takes, &[]).success();
    store.rollback(&deletes, &[]).success();
}

fn without_receipts_the_tables_decide(backend: Backend) {
    let (store, batch) = with_a_batch(backend, "later_tables");
    let unknown = import_more(&store, &session(5, "cs-5"), &["--no-undo"]);
    import_more(&store, &session(6, "cs-6"), &[]);
    assert_eq!(later(&store, &batch), [unknown.as_str()]);
    let named = store.rollback(&batch, &["--dry-run"]).success();
    named
        .stderr_has("a later batch has changed the same tables since: import")
        .stderr_has(&unknown);
}

fn a_later_batch_that_is_rolled_back_is_not_named(backend: Backend) {
    let (store, batch) = with_a_batch(backend, "later_undone");
    let rows = session(3, "cs-3") + &event(21, 3, "stop", "9");
    let update = import_more(&store, &rows, &["--on-conflict=update"]);
    store.rollback(&update, &[]).success();
    let rollback = store.newest();
    assert_eq!(later(&store, &batch), [""; 0]);
    // what the rollback has undone is there again
    store.rollback(&rollback, &[]).success();
    assert_eq!(later(&store, &batch), [update.as_str()]);
    store.rollback(&update, &[]).success();
    store.rollback(&batch, &[]).success();
}
