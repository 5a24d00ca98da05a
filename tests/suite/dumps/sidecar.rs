//! What the sidecar in a dump stores is restored as from a server.

use chronicle_dump::layout;
use rusqlite::Connection;

use super::*;
use crate::support::files::fixture;
use crate::support::generate::hostile_hooks_database;
use crate::support::migrate::{event, postgres, session};

/// What keeps everything of a row, wherever it goes.
const KEEP: [&str; 2] = ["--on-unrepresentable=preserve", "--assume-tz=UTC"];

/// A new database with what a file holds, or what of it can be loaded.
#[track_caller]
fn imported(scratch: &Scratch, file: &str, options: &[&str]) -> Database {
    let database = Cluster::get().database("dump_sidecar");
    database.apply_file(fixture(LAYOUT));
    let import = Program::new(["import", words(&scratch.export(file)), "--to", &database.url()]);
    let import = KEEP.iter().chain(options).fold(import, |import, option| import.arg(*option));
    let rejects = format!("rejects-{}", std::fs::read_dir(scratch.path("")).unwrap().count());
    let output = import.arg("--rejects").arg(scratch.path(&rejects)).run();
    assert!(matches!(output.code, Some(0 | 14)), "{}", output.stderr);
    database
}

#[test]
fn originals_come_back_from_a_dump() {
    let scratch = scratch("dump_originals");
    let file = scratch.path("hooks.db");
    hostile_hooks_database(&file, 20, 7).unwrap();
    for option in ["--on-missing-column=preserve", "--on-missing-column=fold"] {
        let database = imported(&scratch, words(&file), &[option, "--orphans=skip"]);
        let whole = dump(&database, &[]);
        assert!(memchr::memmem::find(&whole, b"COPY chronicle_dump.sidecar ").is_some());
        let lines = assert_same(&database, &whole, &[]);
        assert!(lines.len() > 10, "{lines:?}");
        // edited rows keep their new values
        let edit = "UPDATE chronicle_sessions SET git_branch = 'edited', metadata = NULL, start_time = now()";
        database.psql(edit);
        assert_ne!(assert_same(&database, &dump(&database, &[]), &[]), lines);
    }
}

#[test]
fn defaults_that_came_with_the_table_are_left_out() {
    let scratch = scratch("dump_defaults");
    let rows = [session(1), session(2), event(1, 1, "stop")].concat();
    let file = scratch.sqlite("hooks.db", &["sqlite-hooks.sql"], &rows);
    let database = Cluster::get().database("dump_defaults");
    let create = ["--create=dashboard-guide", "--on-missing-column=preserve"];
    let import = Program::new(["import", words(&scratch.export(&file)), "--to", &database.url()]);
    KEEP.iter().chain(&create).fold(import, |import, o| import.arg(*o)).run().success();
    let before = assert_same(&database, &dump(&database, &[]), &[]);
    let first = "(SELECT min(id::text)::uuid FROM chronicle_sessions)";
    database.psql(&format!("UPDATE chronicle_sessions SET status = 'done' WHERE id = {first}"));
    let after = assert_same(&database, &dump(&database, &[]), &[]);
    let has = |lines: &[String]| lines.iter().any(|line| line.contains("\"status\":\"done\""));
    assert!(!has(&before) && has(&after), "{after:?}");
}

#[test]
fn streams_without_a_table_come_back_from_a_dump() {
    let scratch = scratch("dump_unmapped");
    let many = layout::named("uv-manager", None).unwrap().layout;
    let file = scratch.path("many.db");
    let from = Connection::open(&file).unwrap();
    from.execute_batch(many.ddl().unwrap()).unwrap();
    for table in ["sessions", "events", "tool_events"] {
        from.execute_batch(&crate::layouts::sqlite_rows(&from, table)).unwrap();
    }
    drop(from);
    let database = imported(&scratch, words(&file), &["--on-missing-column=fold"]);
    let lines = assert_same(&database, &dump(&database, &[]), &[]);
    assert!(lines.iter().any(|l| l.contains("\"stream\":\"tool_events\",")), "{lines:?}");
}

#[test]
fn rows_that_an_import_created_are_left_out_until_edited() {
    let scratch = scratch("dump_adopted");
    let rows = [session(1), event(1, 1, "stop"), event(2, 7, "stop"), event(3, 8, "stop")].concat();
    let file = scratch.sqlite("hooks.db", &["sqlite-hooks.sql"], &rows);
    let database = imported(&scratch, &file, &["--orphans=adopt", "--on-missing-column=preserve"]);
    assert_eq!(database.psql("SELECT count(*) FROM chronicle_sessions"), "3");
    let sessions = |lines: &[String]| {
        lines
            .iter()
            .filter(|l| l.contains("RECORD") && l.contains("\"stream\":\"sessions\""))
            .count()
    };
    let lines = assert_same(&database, &dump(&database, &[]), &[]);
    assert_eq!(sessions(&lines), 1, "{lines:?}");
    database.psql(
        "UPDATE chronicle_sessions SET metadata = '{\"b\": null, \"a\": [1.50, \"\\u00e9\\n\"]}' \
                    WHERE id::text LIKE '%7'",
    );
    assert_eq!(sessions(&assert_same(&database, &dump(&database, &[]), &[])), 2);
}

#[test]
fn ids_of_our_own_batches_are_no_data_in_a_dump() {
    let scratch = scratch("dump_batches");
    let rows = [session(1), event(1, 1, "stop")].concat();
    let file = scratch.sqlite("hooks.db", &["sqlite-hooks.sql"], &rows);
    let database = Cluster::get().database("dump_batches");
    let create = [
        "--create=tutorial-postgres",
        "--on-missing-column=preserve",
        "--map-event-types=tutorial",
    ];
    let import = Program::new(["import", words(&scratch.export(&file)), "--to", &database.url()]);
    KEEP.iter().chain(&create).fold(import, |import, o| import.arg(*o)).run().success();
    database.psql(
        "INSERT INTO chronicle_sessions (project_path, start_time, status, migration_batch) \
                   VALUES ('/x', now(), 'active', gen_random_uuid())",
    );
    let batches = database.psql("SELECT count(DISTINCT migration_batch) FROM chronicle_sessions");
    assert_eq!(batches, "2", "ours and another one");
    assert_same(&database, &dump(&database, &[]), &[]);
}

#[test]
fn our_own_tables_next_to_the_data_are_read_from_a_dump() {
    let scratch = scratch("dump_beside");
    let database = postgres(LAYOUT, "dump_beside", "");
    let rows = [session(1), event(1, 1, "stop")].concat();
    let file = scratch.sqlite("hooks.db", &["sqlite-hooks.sql"], &rows);
    // a role that may not create a schema
    database.psql_as(
        ADMIN,
        &format!(
            "REVOKE CREATE ON DATABASE \"{}\" FROM PUBLIC, chronicle; \
        ALTER DATABASE \"{0}\" OWNER TO supabase_admin; GRANT CREATE ON SCHEMA public TO chronicle",
            database.name()
        ),
    );
    let import = Program::new(["import", words(&scratch.export(&file)), "--to", &database.url()]);
    KEEP.iter()
        .fold(import, |import, o| import.arg(*o))
        .arg("--on-missing-column=preserve")
        .run()
        .success();
    let whole = dump(&database, &[]);
    assert!(memchr::memmem::find(&whole, b"COPY public.chronicle_dump_sidecar ").is_some());
    assert_same(&database, &whole, &[]);
}
