//! SQLite files come back from their archives.

use super::*;

#[test]
fn a_hooks_file_comes_back_byte_for_byte_from_its_archive() {
    let folder = workdir("round-trip-hooks");
    let source = folder.path().join("source.db");
    hooks_database(&source, 40, 1_500, 1).expect("a database");
    fill_in(&source);
    let made = folder.path().join("made.db");
    shift(words(&source), words(&made), folder.path(), &["--create"]);
    assert_same_rows(&sqlite_dump(&source), &sqlite_dump(&made));
    into_an_existing_file_and_equal(&source, &["sqlite-hooks.sql"], folder.path());
}

#[test]
fn the_sample_comes_back_byte_for_byte_with_its_oddities() {
    let folder = workdir("round-trip-sample");
    let source = folder.path().join("source.db");
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &source, "delete");
    let made = folder.path().join("made.db");
    shift(words(&source), words(&made), folder.path(), &["--create"]);
    assert_same_rows(&sqlite_dump(&source), &sqlite_dump(&made));
}

#[test]
fn whatever_a_hooks_file_can_hold_comes_back_byte_for_byte() {
    for seed in [1, 2] {
        let folder = workdir("round-trip-hostile");
        let source = folder.path().join("source.db");
        hostile_hooks_database(&source, 1_400, seed).expect("a database");
        let made = folder.path().join("made.db");
        shift(words(&source), words(&made), folder.path(), &["--create"]);
        assert_same_rows(&sqlite_dump(&source), &sqlite_dump(&made));
        into_an_existing_file_and_equal(&source, &["sqlite-hooks.sql"], folder.path());
    }
}

#[test]
fn a_server_file_comes_back_unchanged_by_its_triggers() {
    let folder = workdir("round-trip-server");
    let source = folder.path().join("source.db");
    server_database(&source, 40, 1_500, 2).expect("a database");
    into_an_existing_file_and_equal(&source, &["sqlite-server.sql"], folder.path());
}

#[test]
fn a_tutorial_file_with_integer_ids_comes_back_byte_for_byte() {
    let folder = workdir("round-trip-tutorial");
    let source = folder.path().join("source.db");
    sqlite_from(&["sqlite-seed.sql"], &source, "delete");
    Connection::open(&source)
        .and_then(|database| {
            database.execute_batch(
                "PRAGMA foreign_keys = off; \
                 INSERT INTO chronicle_sessions VALUES \
                   (1, '/a', NULL, '2025-01-02T03:04:05', NULL, 'active', 2, '2025-01-02 03:04:05', NULL), \
                   (-9223372036854775808, '', 'main', 'never', x'00ff', 7, 'many', 1.5, ''), \
                   (9223372036854775807, 'é', '', 20250102, 1e300, NULL, -1, NULL, 'x'); \
                 INSERT INTO chronicle_events VALUES \
                   (10, 1, 'prompt', '2025-01-02T03:04:06', '{\"a\": 1.10}', '2025-01-02 03:04:06'), \
                   (2, 9223372036854775807, 'tool_use', NULL, NULL, NULL), \
                   (9, NULL, NULL, '', '{\"a\": NaN}', x''), \
                   (100, 404, 'no such session', 'x', 1.5, 2);",
            )
        })
        .expect("its rows");
    into_an_existing_file_and_equal(&source, &["sqlite-seed.sql"], folder.path());
}

#[test]
fn a_file_with_both_layouts_comes_back_byte_for_byte_with_both() {
    let folder = workdir("round-trip-both");
    let (source, server) = (folder.path().join("source.db"), folder.path().join("server.db"));
    hooks_database(&source, 15, 400, 3).expect("a database");
    server_database(&server, 15, 400, 4).expect("a database");
    let ddl = std::fs::read_to_string(fixture("sqlite-server.sql")).expect("the server's tables");
    let database = Connection::open(&source).expect("open the file");
    database.execute_batch(&ddl).expect("the server's tables");
    database.execute("ATTACH ? AS server", [words(&server)]).expect("attach");
    database
        .execute_batch(
            "INSERT INTO main.chronicle_sessions SELECT * FROM server.chronicle_sessions; \
             INSERT INTO main.chronicle_events SELECT * FROM server.chronicle_events;",
        )
        .expect("copy");
    drop(database);
    assert_eq!(sqlite_dump(&source).len(), 2 * (15 + 400));
    let both = ["sqlite-hooks.sql", "sqlite-server.sql"];
    into_an_existing_file_and_equal(&source, &both, folder.path());
}

#[test]
fn hostile_data_go_to_supabase_whole_or_not_at_all() {
    for (seed, rows) in [(11, 2), (12, 40), (13, 300)] {
        let folder = workdir("round-trip-hostile-upstream");
        let source = folder.path().join("source.db");
        hostile_hooks_database(&source, rows, seed).expect("a database");
        let target = postgres("postgres-upstream.sql", "round_trip_hostile");
        let archive = export(words(&source), folder.path(), "source.archive");
        let options = ["--on-unrepresentable=adapt", "--assume-tz", "UTC"];
        let output = import(&archive, &target.url(), &options);
        let there = postgres_dump(&target).len();
        match output.code {
            Some(0) => assert_eq!(there, sqlite_dump(&source).len()),
            Some(10..=12) => {
                assert_eq!(there, 0, "a failed import left rows");
                let named = output.stderr.contains("chronicle_sessions")
                    || output.stderr.contains("chronicle_events");
                assert!(named && output.stderr.contains("key"), "{}", output.stderr);
            }
            code => panic!("seed {seed}: code {code:?}: {}", output.stderr),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_of_the_hooks_layout_come_back_byte_for_byte(
        sessions in table(9),
        events in table(8),
    ) {
        let folder = workdir("round-trip-any");
        let source = folder.path().join("source.db");
        sqlite_from(&["sqlite-hooks.sql"], &source, "delete");
        let database = Connection::open(&source).expect("open the file");
        database.pragma_update(None, "foreign_keys", "off").expect("foreign keys off");
        insert(&database, "sessions", &sessions).expect("sessions");
        insert(&database, "events", &events).expect("events");
        drop(database);
        let made = folder.path().join("made.db");
        shift(words(&source), words(&made), folder.path(), &["--create"]);
        assert_same_rows(&sqlite_dump(&source), &sqlite_dump(&made));
    }
}
