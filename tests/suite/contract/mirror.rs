//! A table `migration_history` of the user's own gets each batch, and is named if it refuses one.

use super::*;

both! {
    a_table_of_the_user_gets_each_batch
    a_table_of_the_user_that_refuses_a_batch_is_named
    a_table_of_the_user_of_another_shape_is_named
}

/// The table as Chronicle's migration tutorial creates it, with something more.
fn with_mirror(backend: Backend, test_name: &str, more: &str) -> Store {
    let store = backend.make(test_name);
    store.run(&format!(
        "CREATE TABLE migration_history (migration_type TEXT NOT NULL, source_backend TEXT NOT NULL, target_backend TEXT NOT NULL, \
         batch_id TEXT NOT NULL, records_migrated INTEGER, status TEXT, error_message TEXT{more})"
    ));
    store
}

fn a_table_of_the_user_gets_each_batch(backend: Backend) {
    let store = with_mirror(backend, "mirror", "");
    let done = store.import(&store.archive(&good()), &[]).success();
    done.stderr_lacks("migration_history");
    let row =
        "SELECT migration_type || ' ' || status || ' ' || records_migrated FROM migration_history";
    assert_eq!(store.one(row), "import completed 5");
    store.rollback("last", &[]).success();
    let first = format!("{row} WHERE migration_type = 'import'");
    assert_eq!(store.one(&first), "import rolled_back 5");
    let second = format!("{row} WHERE migration_type = 'rollback'");
    assert_eq!(store.one(&second), "rollback completed 5");
}

fn a_table_of_the_user_that_refuses_a_batch_is_named(backend: Backend) {
    for (more, why) in [
        (", team TEXT NOT NULL", "team"),
        (", CHECK (status = 'never')", "check constraint"),
        // one that takes the start, and not the end
        (", CHECK (status <> 'completed')", "check constraint"),
    ] {
        let store = with_mirror(backend, "mirror_refuses", more);
        let done = store.import(&store.archive(&good()), &["--json"]).success();
        let notices = json_of(&done)["notices"].to_string();
        let lower = notices.to_lowercase();
        let said = "the batch is not recorded in migration_history, which refuses it: ";
        assert!(notices.contains(said) && lower.contains(why), "{more}: {notices}");
        assert_eq!(notices.matches(said).count(), 1, "{more}: {notices}");
        assert_eq!(store.history()[0]["status"], "completed");
        store.rollback("last", &[]).success();
        assert_eq!(store.one(&format!("SELECT count(*) FROM {}", backend.events())), "0");
    }
}

fn a_table_of_the_user_of_another_shape_is_named(backend: Backend) {
    for (columns, lacks) in [
        ("id integer PRIMARY KEY, x text NOT NULL", "lacks batch_id, migration_type, status"),
        ("batch_id text, status text", "lacks migration_type"),
    ] {
        let store = backend.make("mirror_shape");
        store.run(&format!("CREATE TABLE migration_history ({columns})"));
        let done = store.import(&store.archive(&good()), &[]).success();
        let own = match backend {
            Backend::Sqlite => "chronicle_dump_migration_history",
            Backend::Postgres => "chronicle_dump.migration_history",
        };
        done.stderr_has("the batch is not recorded in migration_history, which ")
            .stderr_has(lacks)
            .stderr_has(&format!("it is recorded in {own}"));
        assert_eq!(store.one("SELECT count(*) FROM migration_history"), "0");
        store.rollback("last", &[]).success();
    }
}
