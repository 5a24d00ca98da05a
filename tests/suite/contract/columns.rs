//! Columns that an import has added: what keeps them, in which order batches go because of them, and nothing silent.

use super::*;

both! {
    batches_with_a_new_column_are_undone_in_any_order
    a_batch_that_changed_nothing_needs_no_column
    a_later_new_column_is_named
    what_was_made_on_a_new_column_stops_a_rollback
    forced_a_used_column_stays_and_is_said
    values_of_others_keep_a_new_column
    a_new_column_comes_back_as_a_dry_run_says
}

const ADD: [&str; 2] = ["--on-missing-column=add", "-q"];

/// An archive of one session and one event with a column that no target has.
fn with_column(store: &Store, number: u32, column: &str) -> PathBuf {
    let more = format!(
        "ALTER TABLE events ADD COLUMN {column} TEXT; UPDATE events SET {column} = 'n{number}';"
    );
    let name = format!("cs-{number}");
    store.archive(&(session(number, &name) + &event(10 + number, number, "stop", "1") + &more))
}

/// A database of our own rows, and what it holds.
fn filled(backend: Backend, test_name: &str) -> (Store, Vec<String>) {
    let store = backend.make(test_name);
    store.import(&store.archive(&good()), &["--no-undo"]).success();
    let before = store.everything();
    (store, before)
}

/// Imports an archive, and gives the id of the batch.
#[track_caller]
fn imported(store: &Store, archive: &Path) -> String {
    store.import(archive, &ADD).success();
    store.newest()
}

/// Runs a rollback behind its dry run, which ends as it does; the exit code.
#[track_caller]
fn foreseen(store: &Store, batch: &str, options: &[&str]) -> Output {
    let before = store.everything();
    let dry = store.rollback(batch, &[options, &["--dry-run"]].concat());
    assert_same_rows(&before, &store.everything());
    let real = store.rollback(batch, options);
    assert_eq!(dry.code, real.code, "{}{}", dry.stderr, real.stderr);
    if real.code != Some(0) {
        assert_same_rows(&before, &store.everything());
    }
    real
}

fn batches_with_a_new_column_are_undone_in_any_order(backend: Backend) {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (store, before) = filled(backend, "columns_order");
        let other = store.archive(&(session(7, "cs-7") + &event(17, 7, "stop", "1")));
        let batches = [
            imported(&store, &with_column(&store, 5, "note")),
            imported(&store, &with_column(&store, 6, "note")),
            imported(&store, &other),
        ];
        let mut left: Vec<&String> = order.iter().map(|n| &batches[*n]).collect();
        while !left.is_empty() {
            let tried = left.len();
            left.retain(|batch| {
                let done = foreseen(&store, batch, &[]);
                let later = batches.iter().filter(|b| b > batch);
                if done.code != Some(0) {
                    assert_eq!(done.code, Some(11), "{}", done.stderr);
                    assert!(later.clone().any(|b| done.stderr.contains(b)), "{}", done.stderr);
                }
                done.code != Some(0)
            });
            assert!(left.len() < tried, "none of the rest can be undone: {order:?}");
        }
        assert_same_rows(&before, &store.everything());
    }
}

fn a_batch_that_changed_nothing_needs_no_column(backend: Backend) {
    let (store, before) = filled(backend, "columns_nothing");
    let archive = with_column(&store, 5, "note");
    let first = imported(&store, &archive);
    let second = imported(&store, &archive);
    assert_ne!(first, second);
    foreseen(&store, &first, &[]).success().stdout_has("column note of");
    assert_same_rows(&before, &store.everything());
    foreseen(&store, &second, &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn a_later_new_column_is_named(backend: Backend) {
    let (store, before) = filled(backend, "columns_later");
    let first = imported(&store, &with_column(&store, 5, "note"));
    let second = imported(&store, &with_column(&store, 6, "other"));
    for options in [&[][..], &["--force"]] {
        foreseen(&store, &first, options).fails_with(11).stderr_has(&second);
    }
    foreseen(&store, &second, &[]).success();
    foreseen(&store, &first, &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn what_was_made_on_a_new_column_stops_a_rollback(backend: Backend) {
    let (store, before) = filled(backend, "columns_uses");
    let batch = imported(&store, &with_column(&store, 5, "note"));
    let table = backend.events();
    let made = [
        (format!("CREATE INDEX by_note ON {table} (note)"), "DROP INDEX by_note".to_owned()),
        (
            format!("CREATE INDEX by_note ON {table} (id) WHERE note IS NOT NULL"),
            "DROP INDEX by_note".into(),
        ),
        (format!("CREATE VIEW by_note AS SELECT note FROM {table}"), "DROP VIEW by_note".into()),
        match backend {
            Backend::Sqlite => (
                format!(
                    "CREATE TRIGGER by_note AFTER UPDATE OF note ON {table} BEGIN SELECT 1; END"
                ),
                "DROP TRIGGER by_note".into(),
            ),
            Backend::Postgres => (
                format!(
                    "CREATE TRIGGER by_note AFTER UPDATE OF note ON {table} FOR EACH ROW \
                     EXECUTE FUNCTION suppress_redundant_updates_trigger()"
                ),
                format!("DROP TRIGGER by_note ON {table}"),
            ),
        },
    ];
    for (make, drop) in &made {
        store.run(make);
        foreseen(&store, &batch, &[]).fails_with(9).stderr_has("by_note").stderr_has("drop ");
        store.run(drop);
    }
    let stored = match backend {
        Backend::Sqlite => "",
        Backend::Postgres => "STORED",
    };
    let computed = format!(
        "ALTER TABLE {table} ADD COLUMN by_note text GENERATED ALWAYS AS (note || 'x') {stored}"
    );
    store.run(&computed);
    let named = if backend == Backend::Sqlite { "computed column" } else { "by_note" };
    foreseen(&store, &batch, &[]).fails_with(9).stderr_has(named);
    store.run(&format!("ALTER TABLE {table} DROP COLUMN by_note"));
    if backend == Backend::Postgres {
        for (make, drop, named) in [
            ("ADD CONSTRAINT by_note CHECK (note <> '')", "DROP CONSTRAINT by_note", "by_note"),
            ("ALTER note SET DEFAULT 'd'", "ALTER note DROP DEFAULT", "default"),
        ] {
            store.run(&format!("ALTER TABLE {table} {make}"));
            foreseen(&store, &batch, &[]).fails_with(9).stderr_has(named);
            store.run(&format!("ALTER TABLE {table} {drop}"));
        }
    }
    foreseen(&store, &batch, &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn forced_a_used_column_stays_and_is_said(backend: Backend) {
    let (store, before) = filled(backend, "columns_forced");
    let batch = imported(&store, &with_column(&store, 5, "note"));
    store.run(&format!("CREATE INDEX by_note ON {} (note)", backend.events()));
    let with_index = store.everything();
    foreseen(&store, &batch, &["--force"])
        .success()
        .stderr_has("the column note, added by the batch, stays")
        .stderr_has("by_note");
    foreseen(&store, &store.newest(), &[]).success();
    assert_same_rows(&with_index, &store.everything());
    store.run("DROP INDEX by_note");
    foreseen(&store, &batch, &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn values_of_others_keep_a_new_column(backend: Backend) {
    let (store, before) = filled(backend, "columns_values");
    let batch = imported(&store, &with_column(&store, 5, "note"));
    let write = |value: &str| {
        let table = backend.events();
        store.run(&format!("UPDATE {table} SET note = {value} WHERE id = '{}'", id(11)));
    };
    write("'mine'");
    let after = store.everything();
    foreseen(&store, &batch, &[])
        .success()
        .stderr_has("the column note, added by the batch, stays: rows that are not undone");
    let sql = format!("SELECT note FROM {} WHERE id = '{}'", backend.events(), id(11));
    assert_eq!(store.one(&sql), "mine");
    foreseen(&store, &store.newest(), &[]).success();
    assert_same_rows(&after, &store.everything());
    write("NULL");
    foreseen(&store, &batch, &[]).success();
    assert_same_rows(&before, &store.everything());
}

fn a_new_column_comes_back_as_a_dry_run_says(backend: Backend) {
    let (store, before) = filled(backend, "columns_back");
    let batch = imported(&store, &with_column(&store, 5, "note"));
    let after = store.everything();
    foreseen(&store, &batch, &[]).success();
    assert_same_rows(&before, &store.everything());
    let undo = store.newest();
    // rows of a later batch would get the column
    let other = store.archive(&(session(7, "cs-7") + &event(17, 7, "stop", "1")));
    let later = imported(&store, &other);
    foreseen(&store, &undo, &["--force"]).fails_with(11).stderr_has(&later);
    foreseen(&store, &later, &[]).success();
    foreseen(&store, &undo, &[]).success();
    assert_same_rows(&after, &store.everything());
}
