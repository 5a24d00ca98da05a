//! The indexes of a Postgres table while rows are loaded into it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::support::cluster::{ADMIN, Cluster, Database};
use super::support::files::{fixture, sqlite_from, workdir};
use super::support::generate::hooks_database;
use super::support::program::{Output, Program};

/// A database with upstream's empty tables.
fn upstream(test_name: &str) -> Database {
    let database = Cluster::get().database(test_name);
    database.apply_file(fixture("postgres-upstream.sql"));
    database
}

/// An archive of two sessions and three events; one has a tool with this name.
fn archive(folder: &Path, tool: &str) -> PathBuf {
    let path = folder.join("source.db");
    sqlite_from(&["sqlite-hooks.sql"], &path, "delete");
    let session = |n: u32| {
        format!(
            "INSERT INTO sessions (id, claude_session_id, start_time, project_path) VALUES \
             ('0000000a-0000-4000-8000-00000000000{n}', 'cs-{n}', '2025-08-19T10:00:00Z', '/home/kim');"
        )
    };
    let event = |n: u32, tool: &str| {
        format!(
            "INSERT INTO events (id, session_id, event_type, timestamp, data, tool_name) VALUES \
             ('0000000b-0000-4000-8000-00000000000{n}', '0000000a-0000-4000-8000-000000000001', \
              'pre_tool_use', '2025-08-19T10:00:0{n}Z', '{{\"n\": {n}}}', '{tool}');"
        )
    };
    let rows = session(1) + &session(2) + &event(1, "Bash") + &event(2, tool) + &event(3, "Read");
    rusqlite::Connection::open(&path).unwrap().execute_batch(&rows).unwrap();
    exported(&path)
}

/// The archive of a file.
fn exported(path: &Path) -> PathBuf {
    let archive = path.with_extension("ndjson.zst");
    let words = ["export".as_ref(), path.as_os_str(), "-o".as_ref(), archive.as_os_str()];
    Program::new(words).run().success();
    archive
}

#[track_caller]
fn import(archive: &Path, database: &Database) -> Output {
    let words = [
        "import".as_ref(),
        "--strict".as_ref(),
        "--trust-zone".as_ref(),
        archive.as_os_str(),
        "--to".as_ref(),
        database.url().as_ref(),
    ]
    .map(std::ffi::OsStr::to_owned);
    Program::new(words).arg("--assume-tz=UTC").run()
}

/// Every index with all its properties except its number.
fn indexes(database: &Database) -> String {
    database.psql(
        "SELECT c.relname, pg_get_indexdef(c.oid), c.reloptions, c.relowner, c.reltablespace, \
                obj_description(c.oid, 'pg_class'), i.indisclustered, i.indisreplident, i.indisvalid \
           FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
          WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1",
    )
}

/// The numbers of the indexes that have one of these names: a new one is another index.
fn numbers(database: &Database, like: &str) -> String {
    database.psql(&format!(
        "SELECT oid FROM pg_class WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace AND relname LIKE '{like}' ORDER BY relname"
    ))
}

#[test]
fn indexes_of_an_empty_table_are_rebuilt_exactly() {
    let (folder, database) = (workdir("indexes"), upstream("indexes"));
    database.psql(
        "CREATE INDEX moved_partial ON chronicle_events (tool_name DESC NULLS LAST, duration_ms) \
             INCLUDE (event_type) WITH (fillfactor = 71, deduplicate_items = off) WHERE \"tool_name\" IS NOT NULL; \
         CREATE INDEX \"moved \"\"odd\"\" Näme\" ON chronicle_events (event_type text_pattern_ops, tool_name COLLATE \"C\"); \
         COMMENT ON INDEX moved_partial IS 'it''s \\ \"for\" the dashboard'; \
         CREATE INDEX kept_hash ON chronicle_events USING hash (event_type); \
         CREATE INDEX kept_condition ON chronicle_events (tool_name) WHERE 1 / (coalesce(duration_ms, 1)) > 0; \
         CREATE INDEX kept_expression ON chronicle_events (lower(tool_name)); \
         CREATE UNIQUE INDEX kept_unique ON chronicle_events (id, event_type); \
         CREATE INDEX kept_clustered ON chronicle_events (timestamp); \
         ALTER TABLE chronicle_events CLUSTER ON kept_clustered",
    );
    let before = indexes(&database);
    let (moved, kept) = (numbers(&database, "moved%"), numbers(&database, "kept%"));
    let gin = numbers(&database, "%gin");
    import(&archive(folder.path(), "Bash"), &database).success();
    assert_eq!(indexes(&database), before);
    assert_ne!(numbers(&database, "moved%"), moved, "they were not made again");
    assert_eq!(numbers(&database, "kept%"), kept);
    assert_eq!(numbers(&database, "%gin"), gin);
    // they hold the rows
    let found = "SET enable_seqscan = off; SELECT count(*) FROM chronicle_events WHERE event_type LIKE 'pre%'";
    assert_eq!(database.psql(found).lines().last(), Some("3"));
}

#[test]
fn a_table_with_rows_keeps_its_indexes() {
    let (folder, database) = (workdir("indexes_rows"), upstream("indexes_rows"));
    let archive = archive(folder.path(), "Bash");
    import(&archive, &database).success();
    database.psql("DELETE FROM chronicle_events WHERE tool_name = 'Read'");
    let before = numbers(&database, "%");
    import(&archive, &database).success().stdout_has("1 event");
    assert_eq!(numbers(&database, "%"), before);
}

#[test]
fn an_empty_table_with_readers_keeps_its_indexes() {
    let (folder, database) = (workdir("indexes_read"), upstream("indexes_read"));
    let archive = archive(folder.path(), "Bash");
    let before = numbers(&database, "idx_chronicle_events%");
    std::thread::scope(|scope| {
        let reader = "BEGIN; SELECT count(*) FROM chronicle_events; SELECT pg_sleep(5); COMMIT";
        let reader = scope.spawn(|| database.psql(reader));
        let reads = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessShareLock' \
                     AND relation = 'chronicle_events'::regclass";
        while database.psql(reads) == "0" {}
        import(&archive, &database).success();
        reader.join().expect("the reader");
    });
    assert_eq!(numbers(&database, "idx_chronicle_events%"), before);
    assert_eq!(database.psql("SELECT count(*) FROM chronicle_events"), "3");
}

#[test]
fn a_role_that_cannot_create_indexes_never_drops_them() {
    let (folder, database) = (workdir("indexes_role"), upstream("indexes_role"));
    database.psql_as(
        ADMIN,
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC, pg_database_owner; \
         ALTER SCHEMA public OWNER TO CURRENT_USER",
    );
    let before = numbers(&database, "%");
    import(&archive(folder.path(), "Bash"), &database).success();
    assert_eq!(numbers(&database, "%"), before);
}

#[test]
fn a_server_that_would_rebuild_an_index_differently_keeps_it() {
    let (folder, database) = (workdir("indexes_otherwise"), upstream("indexes_otherwise"));
    // what watches over the schema may refuse or change what is made
    database.psql_as(
        ADMIN,
        "CREATE FUNCTION no_indexes() RETURNS event_trigger LANGUAGE plpgsql AS \
           $$ BEGIN RAISE EXCEPTION 'not here'; END $$; \
         CREATE EVENT TRIGGER no_indexes ON ddl_command_end WHEN TAG IN ('CREATE INDEX') \
           EXECUTE FUNCTION no_indexes(); ALTER EVENT TRIGGER no_indexes ENABLE ALWAYS",
    );
    let before = numbers(&database, "%");
    import(&archive(folder.path(), "Bash"), &database).success();
    assert_eq!(numbers(&database, "%"), before);
}

#[test]
fn a_value_that_is_too_long_for_an_index_is_refused_by_its_row() {
    let (folder, database) = (workdir("indexes_long"), upstream("indexes_long"));
    // nothing in it repeats: compressed it is too long, too
    let mut state = 1_u64;
    let long: String = (0..9000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(
                b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
                    [(state >> 58) as usize],
            )
        })
        .collect();
    let before = indexes(&database);
    import(&archive(folder.path(), &long), &database)
        .fails_with(10)
        .stderr_has("is too long for the index idx_chronicle_events_tool_name")
        .stderr_has("(key 0000000b-0000-4000-8000-000000000002)")
        .stderr_has("hint: ");
    assert_eq!(indexes(&database), before);
    assert_eq!(database.psql("SELECT count(*) FROM chronicle_sessions"), "0");
}

#[test]
fn a_dry_run_keeps_no_reader_out_and_leaves_no_statistics() {
    let (folder, database) = (workdir("indexes_dry"), upstream("indexes_dry"));
    database.psql("VACUUM ANALYZE");
    let told = "SELECT oid, reltuples, relpages FROM pg_class WHERE relname LIKE '%chronicle%' ORDER BY relname";
    let before = database.psql(told);
    let archive = archive(folder.path(), "Bash");
    let words = [
        "import".as_ref(),
        "--strict".as_ref(),
        "--trust-zone".as_ref(),
        archive.as_os_str(),
        "--to".as_ref(),
        database.url().as_ref(),
    ]
    .map(std::ffi::OsStr::to_owned);
    Program::new(words).arg("--assume-tz=UTC").arg("--dry-run").run().success();
    assert_eq!(database.psql(told), before);
}

#[test]
fn a_reader_of_two_tables_waits_and_is_never_a_victim() {
    let (folder, database) = (workdir("indexes_readers"), upstream("indexes_readers"));
    let path = folder.path().join("many.db");
    hooks_database(&path, 30_000, 2_000, 4).unwrap();
    let archive = exported(&path);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let view = "SELECT count(*) FROM chronicle_events e JOIN chronicle_sessions s ON s.id = e.session_id";
        let readers = [
            view,
            "SELECT (SELECT count(*) FROM chronicle_sessions), count(*) FROM chronicle_events",
        ];
        let reading = readers.map(|sql| {
            let (database, done) = (&database, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    // a reader that the server has chosen to end fails here
                    database.psql(sql);
                    std::thread::sleep(Duration::from_millis(100));
                }
            })
        });
        import(&archive, &database).success();
        done.store(true, Ordering::Relaxed);
        reading.into_iter().for_each(|reader| reader.join().expect("a reader"));
    });
    assert_eq!(database.psql("SELECT count(*) FROM chronicle_events"), "2000");
}

#[test]
fn an_index_is_built_where_no_process_may_write_temporary_files() {
    let (folder, database) = (workdir("indexes_files"), upstream("indexes_files"));
    let limit = "ALTER DATABASE :d SET temp_file_limit = '10kB'";
    database.psql_as(ADMIN, &limit.replace(":d", &format!("\"{}\"", database.name())));
    let path = folder.path().join("many.db");
    hooks_database(&path, 200, 20_000, 4).unwrap();
    let archive = exported(&path);
    let before = (indexes(&database), numbers(&database, "idx_chronicle_events_type"));
    import(&archive, &database).success();
    assert_eq!(indexes(&database), before.0);
    assert_ne!(numbers(&database, "idx_chronicle_events_type"), before.1);
}
