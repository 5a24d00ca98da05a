//! `verify --against`: what an import has loaded is found, and whatever was changed since.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::cluster::{Cluster, Database};
use super::support::files::{fixture, sqlite_from, workdir};
use super::support::generate::hostile_hooks_database;
use super::support::program::{Output, Program};

/// A database that archives are loaded into.
enum Store {
    File(PathBuf),
    Server(Database),
}

impl Store {
    #[track_caller]
    fn file(folder: &Path, name: &str, fixtures: &[&str]) -> Store {
        let path = folder.join(name);
        sqlite_from(fixtures, &path, "delete");
        Store::File(path)
    }

    #[track_caller]
    fn server(test_name: &str, layout: &str) -> Store {
        let database = Cluster::get().database(test_name);
        database.apply_file(fixture(layout));
        Store::Server(database)
    }

    fn url(&self) -> String {
        match self {
            Store::File(path) => path.to_str().unwrap().to_owned(),
            Store::Server(database) => database.url(),
        }
    }

    #[track_caller]
    fn run(&self, sql: &str) {
        match self {
            Store::File(path) => {
                let database = Connection::open(path).unwrap();
                let free = "PRAGMA foreign_keys = off; PRAGMA ignore_check_constraints = on;";
                database.execute_batch(&format!("{free} {sql}")).unwrap();
            }
            Store::Server(database) => drop(database.psql(sql)),
        }
    }
}

#[track_caller]
fn export(database: &Path, archive: &Path) {
    Program::new(["export".as_ref(), database.as_os_str(), "-o".as_ref(), archive.as_os_str()])
        .run()
        .success();
}

fn call(command: &str, archive: &Path, flag: &str, store: &Store, options: &[&str]) -> Output {
    let start =
        [command, "--strict", "--trust-zone", archive.to_str().unwrap(), flag, &store.url()]
            .map(str::to_owned);
    options.iter().fold(Program::new(start), |program, option| program.arg(*option)).run()
}

fn import(archive: &Path, store: &Store, options: &[&str]) -> Output {
    call("import", archive, "--to", store, options)
}

fn verify(archive: &Path, store: &Store, options: &[&str]) -> Output {
    call("verify", archive, "--against", store, options)
}

/// The result, as JSON.
#[track_caller]
fn result(archive: &Path, store: &Store, options: &[&str], code: i32) -> Value {
    let options = [options, &["--json", "--quiet"]].concat();
    let output = verify(archive, store, &options).fails_with(code);
    serde_json::from_str(output.text()).expect("one JSON object")
}

/// Rows that each column of the hooks' layout has a value in.
const ROWS: &str = r#"
INSERT INTO sessions (id, claude_session_id, start_time, end_time, project_path, git_branch, created_at, updated_at)
VALUES ('0000000a-0000-4000-8000-000000000001', 'cs-1', '2025-08-19T10:00:00', NULL, '/p', 'main', '2025-08-19 10:00:00', '2025-08-19 10:00:00'),
       ('0000000A-0000-4000-8000-00000000000B', 'cs-2', '2025-08-19T11:00:00', '2025-08-19T12:00:00', '/q', 'x', '2025-08-19 10:00:00', '2025-08-19 10:00:00');
INSERT INTO events (id, session_id, event_type, timestamp, data, tool_name, duration_ms, created_at)
VALUES ('0000000a-0000-4000-8000-000000000011', '0000000a-0000-4000-8000-000000000001', 'stop', '2025-08-19T10:00:01', '{"a": 1}', 'Bash', 3, '2025-08-19 10:00:00'),
       ('not a uuid', '0000000a-0000-4000-8000-000000000001', 'stop', '2025-08-19T10:00:02', '{"b": "\u0000"}', 'Bash', 4, '2025-08-19 10:00:00');
"#;

fn source(folder: &TempDir) -> PathBuf {
    let Store::File(path) = Store::file(folder.path(), "source.db", &["sqlite-hooks.sql"]) else {
        unreachable!("a file")
    };
    Connection::open(&path).unwrap().execute_batch(ROWS).unwrap();
    let archive = folder.path().join("archive.ndjson.zst");
    export(&path, &archive);
    archive
}

const PRESERVE: [&str; 3] = ["--on-unrepresentable=preserve", "--assume-tz", "Europe/Berlin"];

#[test]
fn imported_rows_are_verified_in_every_kind_of_database() {
    let folder = workdir("against");
    let archive = source(&folder);
    let zone = ["--assume-tz", "Europe/Berlin"];
    for (number, policy) in [
        &["--on-unrepresentable=adapt"][..],
        &["--on-unrepresentable=preserve"],
        &["--on-unrepresentable=adapt", "--on-missing-column=fold"],
        &[
            "--on-unrepresentable=preserve",
            "--on-missing-column=drop",
            "--map-event-types=upstream",
        ],
        &["--on-unrepresentable=adapt", "--on-missing-column=add"],
    ]
    .into_iter()
    .enumerate()
    {
        let options = [policy, &zone].concat();
        let name = format!("against_{number}");
        let fold = number > 1;
        let mut stores = vec![
            Store::file(folder.path(), &format!("hooks-{number}.db"), &["sqlite-hooks.sql"]),
            Store::server(&name, "postgres-upstream.sql"),
        ];
        if fold {
            let file = format!("server-{number}.db");
            stores.push(Store::file(folder.path(), &file, &["sqlite-server.sql"]));
            let file = format!("tutorial-{number}.db");
            stores.push(Store::file(folder.path(), &file, &["sqlite-seed.sql"]));
            stores.push(Store::server(&format!("{name}_seed"), "postgres-seed.sql"));
        }
        for store in stores {
            import(&archive, &store, &options).success();
            let said = result(&archive, &store, &options, 0);
            let streams = said["against"]["streams"].as_array().unwrap();
            assert_eq!(said["against"]["matches"], json!(true), "{}", store.url());
            assert_eq!([&streams[0]["equal_rows"], &streams[1]["equal_rows"]], [2, 2], "{said}");
        }
    }
}

/// Loads the rows with everything kept, changes something, and gives what is found.
#[track_caller]
fn changed(store: &Store, archive: &Path, sql: &str) -> Vec<(String, Vec<String>)> {
    store.run(sql);
    let said = result(archive, store, &PRESERVE, 15);
    let streams = said["against"]["streams"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    streams
        .iter()
        .flat_map(|stream| stream["differences"].as_array().unwrap().clone())
        .map(|difference| {
            let columns = difference["columns"].as_array().unwrap();
            (text(&difference["kind"]), columns.iter().map(|c| text(&c["column"])).collect())
        })
        .collect()
}

#[test]
fn every_later_change_of_a_value_is_found_in_sqlite() {
    let folder = workdir("against_sqlite");
    let archive = source(&folder);
    let empty = folder.path().join("target.db");
    for (sql, kind, columns) in [
        ("UPDATE events SET data = '{\"a\":1}' WHERE duration_ms = 3", "changed", &["data"][..]),
        (
            "UPDATE events SET timestamp = '2025-08-19 10:00:01' WHERE duration_ms = 3",
            "changed",
            &["timestamp"],
        ),
        ("UPDATE events SET tool_name = NULL WHERE duration_ms = 3", "changed", &["tool_name"]),
        (
            "UPDATE sessions SET git_branch = 'Main' WHERE claude_session_id = 'cs-1'",
            "changed",
            &["git_branch"],
        ),
        ("DELETE FROM events WHERE duration_ms = 4", "only_a", &[]),
    ] {
        let _ = std::fs::remove_file(&empty);
        let store = Store::file(folder.path(), "target.db", &["sqlite-hooks.sql"]);
        import(&archive, &store, &PRESERVE).success();
        let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
        assert_eq!(changed(&store, &archive, sql), [(kind.to_owned(), columns)], "{sql}");
    }
}

#[test]
fn every_later_change_of_a_value_is_found_in_postgres() {
    let folder = workdir("against_postgres");
    let archive = source(&folder);
    for (sql, kind, columns) in [
        (
            "UPDATE chronicle_events SET metadata = '{\"a\":2}' WHERE duration_ms = 3",
            "changed",
            &["data"][..],
        ),
        (
            "UPDATE chronicle_events SET timestamp = timestamp + '1 us' WHERE duration_ms = 3",
            "changed",
            &["timestamp"],
        ),
        (
            "UPDATE chronicle_events SET tool_name = NULL WHERE duration_ms = 3",
            "changed",
            &["tool_name"],
        ),
        (
            "UPDATE chronicle_dump.sidecar SET entry = '{}' WHERE entry LIKE '%u0000%'",
            "changed",
            &["chronicle_dump_sidecar"],
        ),
        (
            "DELETE FROM chronicle_dump.sidecar WHERE entry LIKE '%not a uuid%'",
            "changed",
            &["chronicle_dump_sidecar"],
        ),
        ("DELETE FROM chronicle_events WHERE duration_ms = 4", "only_a", &[]),
    ] {
        let store = Store::server("against_postgres", "postgres-upstream.sql");
        import(&archive, &store, &PRESERVE).success();
        let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
        assert_eq!(changed(&store, &archive, sql), [(kind.to_owned(), columns)], "{sql}");
    }
}

#[test]
fn what_the_database_alone_has_is_counted_and_no_difference() {
    let folder = workdir("against_more");
    let archive = source(&folder);
    let store = Store::file(folder.path(), "target.db", &["sqlite-hooks.sql"]);
    import(&archive, &store, &[]).success();
    store.run("INSERT INTO sessions (id, claude_session_id, start_time) VALUES ('x', 'cs-x', '2025-08-19T10:00:00Z')");
    let said = result(&archive, &store, &["--row-digests"], 0);
    let sessions = &said["against"]["streams"][0];
    assert_eq!([&sessions["equal_rows"], &sessions["extra_rows"]], [2, 1]);
    assert_eq!(said["row_digests"].as_object().unwrap().len(), 2);
    verify(&archive, &store, &[])
        .success()
        .stdout_has("sessions: 2 rows match, 1 only in the database")
        .stdout_has("every row matches");
}

#[test]
fn differences_are_shown_bounded_and_all_are_counted() {
    let folder = workdir("against_bounded");
    let archive = source(&folder);
    let store = Store::file(folder.path(), "target.db", &["sqlite-hooks.sql"]);
    import(&archive, &store, &[]).success();
    store.run("UPDATE events SET tool_name = 'Read'");
    verify(&archive, &store, &["--limit", "1"])
        .fails_with(15)
        .stdout_has(
            "~ events 0000000a-0000-4000-8000-000000000011: tool_name: \"Bash\" -> \"Read\"",
        )
        .stdout_has("… events: 1 more difference (--limit N shows N)")
        .stdout_has("2 changed (2 in tool_name)")
        .stdout_has("rows are missing or changed");
    let said = result(&archive, &store, &["--limit", "0"], 15);
    let events = &said["against"]["streams"][1];
    assert_eq!([&events["changed_rows"], &events["changed_columns"]["tool_name"]], [2, 2]);
    assert_eq!(events["differences"], json!([]));
}

#[test]
fn rows_that_an_import_leaves_out_are_no_difference() {
    let folder = workdir("against_left_out");
    let archive = source(&folder);
    let rejects = folder.path().join("rejects.ndjson.zst");
    let policy = ["--on-unrepresentable=reject", "--assume-tz=UTC"];
    let store = Store::server("against_left_out", "postgres-upstream.sql");
    import(&archive, &store, &[&policy[..], &["--rejects", rejects.to_str().unwrap()]].concat())
        .fails_with(14);
    let said = result(&archive, &store, &policy, 0);
    assert_eq!(said["against"]["streams"][1]["left_out_rows"], json!(1), "{said}");

    let orphans = folder.path().join("orphans.db");
    std::fs::copy(folder.path().join("source.db"), &orphans).unwrap();
    let free = "PRAGMA foreign_keys = off; DELETE FROM sessions WHERE claude_session_id = 'cs-1';";
    Connection::open(&orphans).unwrap().execute_batch(free).unwrap();
    let archive = folder.path().join("orphans.ndjson.zst");
    export(&orphans, &archive);
    for policy in ["--orphans=skip", "--orphans=adopt", "--orphans=keep"] {
        let name = format!("{policy}.db");
        let store = Store::file(folder.path(), &name, &["sqlite-hooks.sql"]);
        import(&archive, &store, &[policy]).success();
        let said = result(&archive, &store, &[policy], 0);
        let left_out = if policy == "--orphans=skip" { 2 } else { 0 };
        assert_eq!(said["against"]["streams"][1]["left_out_rows"], json!(left_out), "{said}");
    }
}

#[test]
fn two_pairs_of_tables_in_one_are_distinguished() {
    let folder = workdir("against_both");
    let both = Store::file(folder.path(), "both.db", &["sqlite-hooks.sql", "sqlite-server.sql"]);
    both.run(ROWS);
    both.run(
        "INSERT INTO chronicle_sessions (id, claude_session_id, start_time) \
         VALUES ('0000000a-0000-4000-8000-000000000099', 'cs-9', '2025-08-19T10:00:00Z')",
    );
    let archive = folder.path().join("both.ndjson.zst");
    export(Path::new(&both.url()), &archive);
    let store = Store::server("against_both", "postgres-upstream.sql");
    let options = [&PRESERVE[..], &["--on-missing-column=fold"]].concat();
    import(&archive, &store, &options).success();
    let said = result(&archive, &store, &options, 0);
    let more: Vec<&Value> =
        said["against"]["streams"].as_array().unwrap().iter().map(|s| &s["extra_rows"]).collect();
    assert!(more.iter().all(|rows| **rows == json!(0)), "{said}");
}

#[test]
fn hostile_rows_that_were_imported_are_found() {
    let folder = workdir("against_hostile");
    for seed in 1..4 {
        let path = folder.path().join(format!("hostile-{seed}.db"));
        hostile_hooks_database(&path, 1_500, seed).unwrap();
        let archive = path.with_extension("ndjson.zst");
        export(&path, &archive);
        for policy in ["preserve", "reject"] {
            let policy = format!("--on-unrepresentable={policy}");
            let options = [&policy, "--on-missing-column=fold", "--orphans=adopt"];
            let options =
                [&options[..], &["--assume-tz=UTC", "--map-event-types=upstream"]].concat();
            let rejects = path.with_extension("rejects");
            let rejects = ["--rejects", rejects.to_str().unwrap()];
            let file = format!("{seed}{policy}.db");
            let store = match policy.contains("reject") {
                false => Store::file(folder.path(), &file, &["sqlite-hooks.sql"]),
                true => Store::server(&format!("hostile_{seed}"), "postgres-upstream.sql"),
            };
            if let Store::Server(database) = &store {
                // a text may be too long for an index
                database.psql("DROP INDEX idx_chronicle_events_tool_name");
                import(&archive, &store, &[&options[..], &rejects].concat()).fails_with(14);
            } else {
                import(&archive, &store, &options).success();
            }
            result(&archive, &store, &options, 0);
        }
    }
}

#[test]
fn options_of_an_import_are_refused_where_nothing_is_imported() {
    Program::new(["verify", "x.ndjson.zst", "--assume-tz=UTC"])
        .run()
        .fails_with(2)
        .stderr_has("--against DATABASE");
}
