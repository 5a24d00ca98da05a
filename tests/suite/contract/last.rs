//! Which batch `last` means: the newest one that has changed anything, whatever came after it in vain.

use super::*;

both! {
    last_passes_over_batches_without_changes
    last_means_one_that_has_changed_a_column_or_an_entry
    without_any_change_there_is_no_last_batch
}

impl Store {
    /// The id of the batch that `last` means, and what was said of others.
    #[track_caller]
    fn last(&self) -> (String, Output) {
        let output = Program::new(["history", &self.url(), "last", "--json"]).run().success();
        let id = json_of(&output)["batches"][0]["batch_id"].as_str().expect("an id").to_owned();
        (id, output)
    }
}

/// The good rows, an event of which has a value in a column that targets lack.
fn with_a_note(store: &Store) -> PathBuf {
    let note = "ALTER TABLE events ADD COLUMN note TEXT; UPDATE events SET note = 'x' WHERE id = ";
    store.archive(&(good() + note + &format!("'{}';", id(12))))
}

fn last_passes_over_batches_without_changes(backend: Backend) {
    let store = backend.make("last_unchanged");
    let archive = with_a_note(&store);
    let again = ["--on-missing-column=preserve", "--on-conflict=update"];
    store.import(&archive, &again).success();
    let (batch, url) = (store.newest(), store.url());
    let (last, said) = store.last();
    assert_eq!(last, batch);
    said.stderr_lacks("passed over");
    store.import(&archive, &again).success();
    store.last().1.stderr_has("note: 1 newer batch changed nothing and was passed over");
    let path = archive.to_str().expect("a path in UTF-8");
    let restore = ["restore", path, "--to", &url, "--strict", "--on-missing-column=preserve"];
    Program::new(restore).run().success();
    let (last, said) = store.last();
    assert_eq!(last, batch, "{:?}", store.history());
    let note = "note: 2 newer batches changed nothing and were passed over";
    said.stderr_has(note);
    let done = store.rollback("last", &["--json"]).success().stderr_has(note);
    assert_eq!(json_of(&done)["undone"], batch.as_str());
    for table in [backend.sessions(), backend.events()] {
        assert_eq!(store.one(&format!("SELECT count(*) FROM {table}")), "0");
    }
}

fn last_means_one_that_has_changed_a_column_or_an_entry(backend: Backend) {
    let store = backend.make("last_beside");
    store.import(&store.archive(&good()), &[]).success();
    // our own tables are there before, so that they are compared
    let other = "ALTER TABLE sessions ADD COLUMN mood TEXT; UPDATE sessions SET mood = 'good';";
    let first = store.archive(&(session(5, "cs-5") + other));
    store.import(&first, &["--on-missing-column=preserve"]).success();
    let (before, archive) = (store.everything(), with_a_note(&store));
    for (options, key) in [
        (["--on-missing-column=add", "--on-conflict=skip"], "columns"),
        (["--on-missing-column=preserve", "--on-conflict=update"], "sidecar_entries"),
    ] {
        store.import(&archive, &options).success();
        assert_eq!(store.last().0, store.newest(), "{options:?}");
        let history = store.history();
        let batch = history.last().expect("a batch");
        assert!(batch[key].as_u64().is_some_and(|n| n > 0), "{batch}");
        store.rollback("last", &[]).success();
        assert_same_rows(&before, &store.everything());
    }
}

fn without_any_change_there_is_no_last_batch(backend: Backend) {
    let store = backend.make("last_none");
    store.rollback("last", &[]).fails_with(7).stderr_has("there is no batch to undo");
    let archive = store.archive(&good());
    store.import(&archive, &["--no-undo"]).success();
    store.rollback("last", &[]).fails_with(2).stderr_has("--no-undo");
    let store = backend.make("last_nothing");
    let empty = store.archive("");
    for (count, words) in [(1, "the only one has changed nothing"), (2, "none of 2 has changed")] {
        store.import(&empty, &[]).success();
        assert_eq!(store.history().len(), count);
        store.rollback("last", &[]).fails_with(7).stderr_has(words);
    }
}
