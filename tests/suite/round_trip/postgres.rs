//! Postgres databases come back, also by way of files.

use super::*;

/// Columns of every type that people add, and rows with the values that break programs.
pub(crate) const EXTRA_COLUMNS: &str = "\
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
pub(crate) fn odd_rows() -> String {
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
fn a_supabase_database_comes_back_with_added_columns() {
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
fn a_supabase_database_comes_back_into_created_tables() {
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
    // rows without a batch get that of the import
    let own = "migration_batch = (SELECT batch_id::text FROM chronicle_dump.migration_history)";
    assert_eq!(target.psql(&format!("SELECT count(*) FROM chronicle_events WHERE {own}")), "200");
    target.psql(&format!("UPDATE chronicle_events SET migration_batch = NULL WHERE {own}"));
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
fn the_sample_reaches_supabase_with_few_values_adapted() {
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
fn a_server_file_reaches_supabase_and_hooks_unharmed() {
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
        // From SQLite to SQLite every text stays unchanged.
        let exact = columns.map(|(name, _)| (name, Compared::Exactly));
        same(
            &sqlite_rows(&source, table, &exact, "metadata", 99),
            &sqlite_rows(&hooks, short, &exact, "data", 99),
        );
    }
}
