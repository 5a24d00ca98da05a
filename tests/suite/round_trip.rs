//! What goes into an archive comes out of it, in every direction that the program knows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDateTime, Utc};
use proptest::prelude::*;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params_from_iter};

use crate::support::cluster::{Cluster, Database};
use crate::support::files::{
    assert_same_rows, fixture, postgres_dump, sqlite_dump, sqlite_from, workdir,
};
use crate::support::generate::{hooks_database, hostile_hooks_database, server_database};
use crate::support::program::{Output, Program};

/// The names of what both kinds of tables hold, and what is compared of them.
const SESSION_COLUMNS: [(&str, Compared); 8] = [
    ("id", Compared::Exactly),
    ("claude_session_id", Compared::Exactly),
    ("project_path", Compared::Exactly),
    ("git_branch", Compared::Exactly),
    ("start_time", Compared::AsLocalInstant),
    ("end_time", Compared::AsLocalInstant),
    ("metadata", Compared::AsJson),
    ("created_at", Compared::AsUtcInstant),
];
const EVENT_COLUMNS: [(&str, Compared); 8] = [
    ("id", Compared::Exactly),
    ("session_id", Compared::Exactly),
    ("event_type", Compared::Exactly),
    ("timestamp", Compared::AsLocalInstant),
    ("data", Compared::AsJson),
    ("tool_name", Compared::Exactly),
    ("duration_ms", Compared::Exactly),
    ("created_at", Compared::AsUtcInstant),
];

#[derive(Clone, Copy, PartialEq)]
enum Compared {
    Exactly,
    /// A time without a zone is that of the machine which wrote it.
    AsLocalInstant,
    AsUtcInstant,
    AsJson,
}

fn words(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Exports a database into a file of this name.
#[track_caller]
fn export(from: &str, folder: &Path, name: &str) -> PathBuf {
    let archive = folder.join(name);
    Program::new(["export", from, "--output", words(&archive)]).run().success();
    archive
}

fn import(archive: &Path, to: &str, options: &[&str]) -> Output {
    Program::new(["import", words(archive), "--to", to].iter().chain(options)).run()
}

/// Moves a database into another through an archive.
#[track_caller]
fn shift(from: &str, to: &str, folder: &Path, options: &[&str]) {
    let name = format!("{}.archive", std::fs::read_dir(folder).expect("the folder").count());
    let archive = export(from, folder, &name);
    import(&archive, to, options).success();
}

#[track_caller]
fn postgres(layout: &str, test_name: &str) -> Database {
    let database = Cluster::get().database(test_name);
    database.apply_file(fixture(layout));
    database
}

/// Rows by their ids, of each the columns in a form in which equal things are equal.
type Rows = BTreeMap<String, Vec<String>>;

fn instant(text: &str, zoneless_east: i64) -> String {
    let moment = match DateTime::parse_from_rfc3339(text) {
        Ok(moment) => moment.with_timezone(&Utc),
        Err(_) => {
            let zone_rule = NaiveDateTime::parse_from_str(&text.replace('T', " "), "%F %T%.f")
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            zone_rule.and_utc() - chrono::Duration::hours(zoneless_east)
        }
    };
    moment.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn json(text: &str) -> String {
    let value: serde_json::Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    value.to_string()
}

fn canonical(class: &str, text: &str, compared: Compared, zoneless_east: i64) -> String {
    match compared {
        Compared::Exactly => format!("{class}:{text}"),
        Compared::AsLocalInstant => instant(text, zoneless_east),
        Compared::AsUtcInstant => instant(text, 0),
        Compared::AsJson => json(text),
    }
}

/// The rows of a SQLite table, its local times read `zoneless_east` hours east of Greenwich.
#[track_caller]
fn sqlite_rows(
    path: &Path,
    table: &str,
    columns: &[(&str, Compared)],
    payload: &str,
    zoneless_east: i64,
) -> Rows {
    let database = Connection::open(path).expect("open the file");
    let names: Vec<&str> =
        columns.iter().map(|(name, _)| if *name == "data" { payload } else { *name }).collect();
    let mut statement =
        database.prepare(&format!("SELECT {} FROM {table}", names.join(", "))).expect("the table");
    let mut found = statement.query([]).expect("its rows");
    let mut rows = Rows::new();
    while let Some(row) = found.next().expect("a row") {
        let value = |(at, (_, compared)): (usize, &(&str, Compared))| match row.get_ref(at) {
            Ok(ValueRef::Null) => "null".to_owned(),
            Ok(ValueRef::Integer(number)) => {
                canonical("number", &number.to_string(), *compared, zoneless_east)
            }
            Ok(ValueRef::Text(text)) => {
                let text = std::str::from_utf8(text).expect("UTF-8");
                canonical("text", text, *compared, zoneless_east)
            }
            other => panic!("{other:?}"),
        };
        let values: Vec<String> = columns.iter().enumerate().map(value).collect();
        assert!(rows.insert(values[0].clone(), values).is_none(), "two rows of one id");
    }
    rows
}

/// The rows of a table in Postgres.
#[track_caller]
fn postgres_rows(database: &Database, table: &str, columns: &[(&str, Compared)]) -> Rows {
    let texts: Vec<String> = (columns.iter())
        .map(|(name, compared)| match (*name, compared) {
            ("data", _) => "metadata::text".to_owned(),
            (name, Compared::AsLocalInstant | Compared::AsUtcInstant) => {
                format!("to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
            }
            (name, _) => format!("{name}::text"),
        })
        .collect();
    let mut rows = Rows::new();
    for row in database.rows(&format!("SELECT {} FROM {table}", texts.join(", "))) {
        let values: Vec<String> = (columns.iter().zip(row))
            .map(|((name, compared), value)| match value {
                None => "null".to_owned(),
                Some(text) => {
                    let class = if *name == "duration_ms" { "number" } else { "text" };
                    canonical(class, &text, *compared, 0)
                }
            })
            .collect();
        rows.insert(values[0].clone(), values);
    }
    rows
}

fn lines(rows: &Rows) -> Vec<String> {
    rows.values().map(|values| values.join(" | ")).collect()
}

#[track_caller]
fn same(left: &Rows, right: &Rows) {
    assert!(!left.is_empty(), "nothing to compare");
    assert_same_rows(&lines(left), &lines(right));
}

/// Half the rows of the generated databases get what the hooks leave empty.
fn fill_in(path: &Path) {
    let database = Connection::open(path).expect("open the file");
    database
        .execute_batch(
            "UPDATE sessions SET end_time = start_time, git_branch = 'main', \
                    metadata = '{\"a\": [1, 2.5, \"é\", null], \"b\": {\"c\": true}}' \
              WHERE rowid % 2 = 0; \
             UPDATE events SET duration_ms = rowid % 977 WHERE rowid % 3 = 0; \
             UPDATE events SET created_at = NULL WHERE rowid % 50 = 0;",
        )
        .expect("fill in");
}

fn into_an_existing_file_and_equal(from: &Path, layout: &[&str], folder: &Path) {
    let target = folder.join("target.db");
    sqlite_from(layout, &target, "wal");
    shift(words(from), words(&target), folder, &[]);
    let expected = sqlite_dump(from);
    assert!(!expected.is_empty());
    assert_same_rows(&expected, &sqlite_dump(&target));
}

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
fn a_server_file_comes_back_byte_for_byte_and_its_triggers_do_not_touch_it() {
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

/// Columns of every type that people add, and rows with the values that break programs.
const EXTRA_COLUMNS: &str = "\
    CREATE TYPE mood AS ENUM ('calm', 'hurried', 'it''s \"odd\"');
    ALTER TABLE chronicle_sessions
        ADD x_int2 int2, ADD x_int8 int8, ADD x_float4 float4, ADD x_float8 float8, ADD x_numeric numeric,
        ADD x_bool bool, ADD x_date date, ADD x_time time, ADD x_timestamp timestamp, ADD x_interval interval,
        ADD x_texts text[], ADD x_inet inet, ADD x_money money, ADD x_bytea bytea, ADD x_json json,
        ADD x_varchar varchar(20), ADD x_mood mood, ADD x_instant timestamptz, ADD x_char char(5),
        ADD \"X odd 'name\" text;";

const EXTRA_VALUES: &[(&str, &[&str])] = &[
    ("x_int2", &["-32768", "32767", "0"]),
    ("x_int8", &["-9223372036854775808", "9223372036854775807", "9007199254740993"]),
    (
        "x_float4",
        &["NaN", "Infinity", "-Infinity", "-0", "0.1", "16777216", "3.4028235e38", "1e-45"],
    ),
    (
        "x_float8",
        &["NaN", "Infinity", "-Infinity", "-0", "0.1", "1e22", "1.7976931348623157e308", "5e-324"],
    ),
    (
        "x_numeric",
        &["NaN", "1.10", "-0.00", "123456789012345678901234567890.000", "1e-100", "1e400"],
    ),
    ("x_bool", &["true", "false"]),
    ("x_date", &["infinity", "-infinity", "0044-03-15 BC", "2025-02-28", "5874897-12-31"]),
    ("x_time", &["00:00:00", "23:59:59.999999", "24:00:00"]),
    ("x_timestamp", &["infinity", "-infinity", "2025-01-02 03:04:05.000001", "0044-03-15 BC"]),
    ("x_interval", &["1 mon -2 days +03:04:05.678901", "-178000000 years", "0"]),
    (
        "x_texts",
        &["{}", "{NULL,\"NULL\",\"\",\"a,b\",\"\\\"\\\\\"}", "{{a,b},{c,d}}", "[2:3]={x,y}"],
    ),
    ("x_inet", &["192.168.0.1/24", "::1", "10.0.0.1"]),
    ("x_money", &["-92233720368547758.08", "0.10"]),
    ("x_bytea", &["\\x", "\\x00ff0a5c"]),
    (
        "x_json",
        &[
            "{\"a\": 1, \"a\": 2,  \"b\":1.10}",
            " null ",
            "1e400",
            "\"\\u0000\"",
            "{\"a\":\"\\ud800\"}",
        ],
    ),
    ("x_varchar", &["", "twenty characters éé", "tab\tline\nend"]),
    ("x_mood", &["calm", "it's \"odd\""]),
    (
        "x_instant",
        &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00+00 BC",
            "0044-03-15 12:00:00.5+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "1969-12-31 23:59:59.999999+00",
        ],
    ),
    ("x_char", &["", "ab", "abcde"]),
    ("X odd 'name", &["\\N", "\u{feff}", "NULL"]),
    (
        "metadata",
        &[
            "null",
            "0",
            "\"text\"",
            "true",
            "[]",
            "1e400",
            "1.10",
            "-0.0",
            "{\"a\": {\"\": [1.10, 1e3, null]}}",
            "\"é \\u00e9 \\\" \\\\ \\n\"",
        ],
    ),
    ("project_path", &["", "a\u{2028}b", "\u{10ffff}", "\\."]),
];

/// The statement that makes a session for each odd value, and an event of each.
fn odd_rows() -> String {
    let mut sql = String::new();
    let mut number = 0;
    let columns = EXTRA_VALUES.iter();
    for (column, value) in columns.flat_map(|(c, values)| values.iter().map(move |v| (c, v))) {
        number += 1;
        writeln!(
            sql,
            "INSERT INTO chronicle_sessions (id, claude_session_id, start_time, \"{}\") VALUES \
             ('00000000-0000-4000-8000-{number:012}', 'claude {number}', '2025-01-02 03:04:05.{number:06}+02', '{}'); \
             INSERT INTO chronicle_events (session_id, event_type, timestamp, metadata, duration_ms) VALUES \
             ('00000000-0000-4000-8000-{number:012}', 'stop', '2025-01-02 03:04:06+00', '[{number}]', {number});",
            column,
            value.replace('\'', "''"),
        )
        .expect("write to a string");
    }
    sql
}

#[test]
fn a_supabase_database_comes_back_with_columns_of_any_type_that_people_added() {
    let folder = workdir("round-trip-upstream");
    let make = || {
        let database = postgres("postgres-upstream.sql", "round_trip_upstream");
        database.psql(EXTRA_COLUMNS);
        database
    };
    let (source, target) = (make(), make());
    source.psql(&odd_rows());
    source.psql(
        "INSERT INTO chronicle_sessions (claude_session_id, start_time, end_time, metadata, created_at) VALUES \
            ('a', 'infinity', '-infinity', NULL, NULL), ('b', '0044-03-15 BC', '294276-12-31 23:59:59.999999+00', 'null', 'epoch'); \
         INSERT INTO chronicle_events (session_id, event_type, timestamp, tool_name, duration_ms, created_at) \
         SELECT id, 'pre_tool_use', '-infinity', '', 2147483647, NULL FROM chronicle_sessions;",
    );
    let expected = postgres_dump(&source);
    assert!(expected.len() > 200);
    shift(&source.url(), &target.url(), folder.path(), &[]);
    assert_same_rows(&expected, &postgres_dump(&target));
}

#[test]
fn a_plain_supabase_database_comes_back_into_tables_that_the_program_makes() {
    let folder = workdir("round-trip-create");
    let source = postgres("postgres-upstream.sql", "round_trip_create_source");
    let target = Cluster::get().database("round_trip_create_target");
    source.psql(
        "INSERT INTO chronicle_sessions (claude_session_id, start_time, metadata) \
         SELECT 'claude ' || n, timestamptz '2025-01-02 03:04:05+00' + n * interval '1 s 1 us', to_jsonb(n) \
           FROM generate_series(1, 40) AS n; \
         INSERT INTO chronicle_events (session_id, event_type, timestamp, metadata) \
         SELECT id, 'notification', start_time, '{\"a\": 1.10}' FROM chronicle_sessions, generate_series(1, 20);",
    );
    shift(&source.url(), &target.url(), folder.path(), &["--create"]);
    let expected = postgres_dump(&source);
    assert_eq!(expected.len(), 840);
    assert_same_rows(&expected, &postgres_dump(&target));
}

#[test]
fn the_tutorials_postgres_comes_back_as_it_was() {
    let folder = workdir("round-trip-tutorial-postgres");
    let source = postgres("postgres-seed.sql", "round_trip_seed_source");
    let target = postgres("postgres-seed.sql", "round_trip_seed_target");
    source.psql(
        "INSERT INTO chronicle_sessions (original_sqlite_id, project_path, git_branch, status, event_count, user_id, \
                                         migration_batch, updated_at) \
         SELECT n::text, '/p/' || n, nullif('b' || n % 3, 'b0'), (ARRAY['active', 'completed', 'error'])[1 + n % 3], \
                n, CASE n % 2 WHEN 0 THEN 'robin' END, 'batch', timestamptz '2020-01-01 00:00:00+00' + n * interval '1 day' \
           FROM generate_series(1, 40) AS n; \
         INSERT INTO chronicle_events (original_sqlite_id, session_id, type, timestamp, data, created_at) \
         SELECT original_sqlite_id, id, 'tool_use', '2021-01-01 00:00:00.000001+00', '{\"a\": [1.10, \"é\"]}', 'epoch' \
           FROM chronicle_sessions, generate_series(1, 5);",
    );
    let expected = postgres_dump(&source);
    assert_eq!(expected.len(), 240);
    shift(&source.url(), &target.url(), folder.path(), &[]);
    assert_same_rows(&expected, &postgres_dump(&target));
}

#[test]
fn hooks_data_go_to_supabase_and_back_unharmed() {
    let folder = workdir("round-trip-there-and-back");
    let source = folder.path().join("source.db");
    hooks_database(&source, 40, 1_500, 5).expect("a database");
    fill_in(&source);
    let middle = postgres("postgres-upstream.sql", "round_trip_there_and_back");
    shift(words(&source), &middle.url(), folder.path(), &["--assume-tz", "+02:00"]);
    let back = folder.path().join("back.db");
    shift(&middle.url(), words(&back), folder.path(), &["--create"]);
    for (hooks, upstream, columns) in [
        ("sessions", "chronicle_sessions", &SESSION_COLUMNS),
        ("events", "chronicle_events", &EVENT_COLUMNS),
    ] {
        let expected = sqlite_rows(&source, hooks, columns, "data", 2);
        same(&expected, &postgres_rows(&middle, upstream, columns));
        // What comes from Postgres has its zone in it.
        same(&expected, &sqlite_rows(&back, hooks, columns, "data", 99));
    }
}

#[test]
fn supabase_data_go_to_the_hooks_layout_and_back_unharmed() {
    let folder = workdir("round-trip-back-and-there");
    let generated = folder.path().join("generated.db");
    hooks_database(&generated, 40, 1_500, 6).expect("a database");
    fill_in(&generated);
    let source = postgres("postgres-upstream.sql", "round_trip_back_and_there_1");
    shift(words(&generated), &source.url(), folder.path(), &["--assume-tz", "Europe/Berlin"]);
    let middle = folder.path().join("middle.db");
    shift(&source.url(), words(&middle), folder.path(), &["--create"]);
    let target = postgres("postgres-upstream.sql", "round_trip_back_and_there_2");
    // No --assume-tz: nothing is without a zone any more.
    shift(words(&middle), &target.url(), folder.path(), &[]);
    let expected = postgres_dump(&source);
    assert_eq!(expected.len(), 1_540);
    assert_same_rows(&expected, &postgres_dump(&target));
}

#[test]
fn the_sample_goes_to_supabase_and_only_what_it_cannot_hold_is_adapted() {
    let folder = workdir("round-trip-sample-upstream");
    let source = folder.path().join("source.db");
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &source, "wal");
    let removed = Connection::open(&source)
        .and_then(|database| {
            database
                .execute("DELETE FROM events WHERE session_id NOT IN (SELECT id FROM sessions)", [])
        })
        .expect("remove the orphan");
    assert_eq!(removed, 1);
    let target = postgres("postgres-upstream.sql", "round_trip_sample");
    let archive = export(words(&source), folder.path(), "sample.archive");
    import(&archive, &target.url(), &["--assume-tz", "UTC"])
        .fails_with(10)
        .stderr_has("chronicle_")
        .stderr_has("(key ");
    assert_eq!(postgres_dump(&target).len(), 0, "a failed import left rows");
    let options = ["--assume-tz", "UTC", "--on-unrepresentable=adapt"];
    import(&archive, &target.url(), &options).success();
    assert_eq!(postgres_dump(&target).len(), 8 + 119);
    let sessions = &SESSION_COLUMNS;
    same(
        &sqlite_rows(&source, "sessions", &sessions[1..], "data", 0),
        &postgres_rows(&target, "chronicle_sessions", &sessions[1..]),
    );
    // Payloads that are JSON to Postgres too are what they were.
    let holds = |text: &str| {
        !text.contains("\\u0000") && serde_json::from_str::<serde_json::Value>(text).is_ok()
    };
    let database = Connection::open(&source).expect("open the file");
    let mut statement = database.prepare("SELECT lower(id), data FROM events").expect("events");
    let payloads = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        .expect("the payloads");
    let there: BTreeMap<String, String> = target
        .rows("SELECT id::text, metadata::text FROM chronicle_events")
        .into_iter()
        .map(|row| (row[0].clone().expect("an id"), row[1].clone().expect("a payload")))
        .collect();
    let mut kept = 0;
    for (id, payload) in payloads.iter().filter(|(_, payload)| holds(payload)) {
        assert_eq!(json(payload), json(&there[id]), "the payload of {id}");
        kept += 1;
    }
    assert!((110..119).contains(&kept), "{kept} payloads were kept");
}

#[test]
fn a_server_file_goes_to_supabase_and_to_the_hooks_layout_unharmed() {
    let folder = workdir("round-trip-server-elsewhere");
    let source = folder.path().join("source.db");
    server_database(&source, 40, 1_500, 7).expect("a database");
    let upstream = postgres("postgres-upstream.sql", "round_trip_server");
    let hooks = folder.path().join("hooks.db");
    let archive = export(words(&source), folder.path(), "server.archive");
    import(&archive, &upstream.url(), &[]).success();
    import(&archive, words(&hooks), &["--create"]).success();
    for (table, short, columns) in [
        ("chronicle_sessions", "sessions", SESSION_COLUMNS),
        ("chronicle_events", "events", EVENT_COLUMNS),
    ] {
        let expected = sqlite_rows(&source, table, &columns, "metadata", 99);
        same(&expected, &postgres_rows(&upstream, table, &columns));
        // From SQLite to SQLite every text stays as it is.
        let exact = columns.map(|(name, _)| (name, Compared::Exactly));
        same(
            &sqlite_rows(&source, table, &exact, "metadata", 99),
            &sqlite_rows(&hooks, short, &exact, "data", 99),
        );
    }
}

#[test]
fn the_bare_lines_of_an_archive_import_as_the_archive_does() {
    let folder = workdir("round-trip-lines");
    let source = folder.path().join("source.db");
    hostile_hooks_database(&source, 300, 8).expect("a database");
    let archive = export(words(&source), folder.path(), "source.archive");
    let compressed = std::fs::read(&archive).expect("the archive");
    let text = zstd::decode_all(compressed.as_slice()).expect("zstd");
    assert!(text.starts_with(b"{") && text.ends_with(b"\n"));
    let from_zstd = folder.path().join("from-zstd.db");
    let from_lines = folder.path().join("from-lines.db");
    import(&archive, words(&from_zstd), &["--create"]).success();
    Program::new(["import", "-", "--to", words(&from_lines), "--create"])
        .stdin(text)
        .run()
        .success();
    assert_same_rows(&sqlite_dump(&from_zstd), &sqlite_dump(&from_lines));
    assert_same_rows(&sqlite_dump(&source), &sqlite_dump(&from_lines));
}

/// The digest and the decompressed text of a reproducible export.
#[track_caller]
fn reproducible(from: &Path, options: &[&str]) -> (String, Vec<u8>) {
    let args = ["export", words(from), "--reproducible", "--json"];
    let output = Program::new(args.iter().chain(options)).run().success();
    let said: serde_json::Value = (output.stderr.lines())
        .find_map(|line| serde_json::from_str(line).ok())
        .unwrap_or_else(|| panic!("no JSON on stderr: {}", output.stderr));
    let digest = said["digest"].as_str().unwrap_or_else(|| panic!("no digest: {said}")).to_owned();
    (digest, zstd::decode_all(output.stdout.as_slice()).expect("zstd"))
}

#[test]
fn the_same_rows_give_the_same_digest_and_text_however_they_lie_on_the_disk() {
    let folder = workdir("round-trip-reproducible");
    let usual = folder.path().join("usual.db");
    // More than one chunk, so that threads have something to share.
    hooks_database(&usual, 40, 4_000, 9).expect("a database");
    let (digest, text) = reproducible(&usual, &[]);
    assert!(digest.starts_with("sha256:"), "{digest}");
    let reversed = folder.path().join("reversed.db");
    sqlite_from(&["sqlite-hooks.sql"], &reversed, "wal");
    let database = Connection::open(&reversed).expect("open the file");
    database.pragma_update(None, "foreign_keys", "off").expect("foreign keys off");
    database.execute("ATTACH ? AS usual", [words(&usual)]).expect("attach");
    database
        .execute_batch(
            "INSERT INTO main.events SELECT * FROM usual.events ORDER BY rowid DESC; \
             INSERT INTO main.sessions SELECT * FROM usual.sessions ORDER BY claude_session_id; \
             DELETE FROM main.events WHERE rowid % 3 = 0; \
             INSERT INTO main.events SELECT * FROM usual.events WHERE id NOT IN (SELECT id FROM main.events);",
        )
        .expect("copy");
    drop(database);
    let vacuumed = folder.path().join("vacuumed.db");
    std::fs::copy(&reversed, &vacuumed).expect("copy the file");
    Connection::open(&vacuumed)
        .and_then(|database| {
            database.execute_batch(
                "PRAGMA journal_mode = delete; PRAGMA page_size = 8192; VACUUM; ANALYZE;",
            )
        })
        .expect("vacuum");
    let ways: [(&Path, &[&str]); 7] = [
        (&usual, &["--level", "1", "--threads", "1"]),
        (&usual, &["--level", "12", "--threads", "7"]),
        (&reversed, &[]),
        (&reversed, &["--threads", "1"]),
        (&reversed, &["--level", "1", "--threads", "4"]),
        (&vacuumed, &[]),
        (&vacuumed, &["--level", "9", "--threads", "2"]),
    ];
    for (path, options) in ways {
        let (other_digest, other_text) = reproducible(path, options);
        let way = format!("{} {options:?}", path.display());
        assert_eq!(digest, other_digest, "the digest of {way}");
        assert!(text == other_text, "the text of {way} differs");
    }
    let archive = |path: &Path| {
        Program::new(["export", words(path), "--reproducible"]).run().success().stdout
    };
    assert!(archive(&usual) == archive(&reversed), "the archives differ");
}

#[test]
fn other_rows_give_another_digest() {
    let folder = workdir("round-trip-other-digest");
    let source = folder.path().join("source.db");
    hooks_database(&source, 5, 50, 10).expect("a database");
    let (before, _) = reproducible(&source, &[]);
    Connection::open(&source)
        .and_then(|database| {
            database.execute_batch("UPDATE events SET data = CAST(data AS BLOB) WHERE rowid = 1")
        })
        .expect("change one value");
    assert_ne!(before, reproducible(&source, &[]).0);
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

/// A value of any storage class; a text is its bytes.
#[derive(Debug, Clone)]
enum Stored {
    Text(Vec<u8>),
    Other(Value),
}

fn stored() -> impl Strategy<Value = Stored> {
    const EDGE: f64 = 9_223_372_036_854_775_808.0;
    let reals = prop_oneof![
        any::<f64>(),
        proptest::sample::select(vec![
            EDGE,
            -EDGE,
            EDGE.next_down(),
            EDGE.next_up(),
            9.25e18,
            -0.0,
            1e15,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ]),
        any::<i64>().prop_map(|number| number as f64),
    ];
    let texts = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        ".{0,30}".prop_map(String::into_bytes),
        "[ +-]?[0-9]{1,25}(\\.[0-9]{0,9})?(e[+-]?[0-9]{1,3})? ?".prop_map(String::into_bytes),
        "\\{\"[a-z\\\\]{0,3}\": ?[0-9a-z\\[\\]\"]{0,9}\\}".prop_map(String::into_bytes),
    ];
    prop_oneof![
        1 => Just(Stored::Other(Value::Null)),
        2 => any::<i64>().prop_map(|number| Stored::Other(Value::Integer(number))),
        1 => (-3_i64..30).prop_map(|number| Stored::Other(Value::Integer(number))),
        3 => reals.prop_map(|number| Stored::Other(Value::Real(number))),
        5 => texts.prop_map(Stored::Text),
        2 => proptest::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| Stored::Other(Value::Blob(bytes))),
    ]
}

/// Inserts rows; what the table does not admit is left out.
fn insert(database: &Connection, table: &str, rows: &[Vec<Stored>]) -> rusqlite::Result<()> {
    for row in rows {
        let slots: Vec<&str> = (row.iter())
            .map(|value| match value {
                Stored::Text(_) => "CAST(? AS TEXT)",
                Stored::Other(_) => "?",
            })
            .collect();
        let values = row.iter().map(|value| match value {
            Stored::Text(bytes) => Value::Blob(bytes.clone()),
            Stored::Other(value) => value.clone(),
        });
        let sql = format!("INSERT OR IGNORE INTO {table} VALUES ({})", slots.join(", "));
        database.execute(&sql, params_from_iter(values))?;
    }
    Ok(())
}

fn table(width: usize) -> impl Strategy<Value = Vec<Vec<Stored>>> {
    proptest::collection::vec(proptest::collection::vec(stored(), width), 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_that_the_hooks_layout_admits_come_back_byte_for_byte(
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
