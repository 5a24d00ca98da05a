//! `inspect --stats` counts what SQL counts, in archives of every kind, and fails as `verify` does.

use std::fs;
use std::path::Path;

use chronicle_archive::control::Header;
use chronicle_archive::{ArchiveWriter, Batch, Column, Kind, Origin, Stream, TimeText, Value};
use chronicle_archive::{WriterOptions, escape::is_unprintable};
use rusqlite::Connection;
use serde_json::{Value as Json, json};

use crate::archive::frames;
use crate::cli_output::in_a_terminal;
use crate::support::cluster::Cluster;
use crate::support::files::{fixture, sqlite_from, workdir};
use crate::support::generate::{hooks_database, server_database};
use crate::support::program::{Output, Program};

fn run(folder: &Path, args: &[&str]) -> Output {
    Program::new(args.iter().copied()).current_dir(folder).run()
}

/// What is counted in an archive, as JSON.
fn stats(folder: &Path, archive: &str) -> Json {
    let output = run(folder, &["inspect", "--stats", "--json", archive]).success();
    let mut result: Json = serde_json::from_str(output.text()).unwrap();
    assert_eq!(result["verified"], true);
    result["stats"].take()
}

/// What is counted in a database, by way of an archive.
fn stats_of(folder: &Path, database: &str) -> Json {
    run(folder, &["export", database, "-o", "stats.zst", "--force"]).success();
    stats(folder, "stats.zst")
}

/// The pairs of a query: a text and a count, the most frequent first.
fn pairs(database: &Path, sql: &str) -> Vec<(String, u64)> {
    let database = Connection::open(database).unwrap();
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)));
    rows.unwrap().map(Result::unwrap).collect()
}

fn number(database: &Path, sql: &str) -> u64 {
    let database = Connection::open(database).unwrap();
    database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

/// The same of a result: the texts or days of a list.
fn listed(list: &Json, name: &str) -> Vec<(String, u64)> {
    let entries = list.as_array().unwrap_or_else(|| panic!("no list: {list}")).iter();
    let pair =
        |entry: &Json| (entry[name].as_str().unwrap().to_owned(), entry["rows"].as_u64().unwrap());
    entries.map(pair).collect()
}

/// Compares a list of texts with the values of a column.
#[track_caller]
fn same_texts(counted: &Json, database: &Path, table: &str, value: &str) {
    let sql = format!(
        "SELECT CAST({value} AS TEXT), count(*) FROM {table} WHERE {value} IS NOT NULL \
         GROUP BY 1 ORDER BY 2 DESC, CAST(1 AS BLOB), 1"
    );
    let expected = pairs(database, &sql);
    assert_eq!(listed(&counted["top"], "text"), expected, "{table}.{value}");
    assert_eq!(
        (&counted["different"], &counted["undercount"]),
        (&json!(expected.len()), &json!(0))
    );
    let none = format!("SELECT count(*) FROM {table} WHERE {value} IS NULL");
    assert_eq!(counted["without"], number(database, &none), "{table}.{value}");
}

/// Compares days with those of texts that start with a date.
#[track_caller]
fn same_days(counted: &Json, database: &Path, table: &str, column: &str) {
    let date = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]";
    let sql = format!(
        "SELECT substr({column}, 1, 10), count(*) FROM {table} \
         WHERE {column} GLOB '{date}[T ]*' OR {column} GLOB '{date}' GROUP BY 1 ORDER BY 1"
    );
    assert_eq!(counted["column"], column);
    assert_eq!(counted["days_per_entry"], 1);
    assert_eq!(listed(&counted["days"], "day"), pairs(database, &sql), "{table}.{column}");
    let rows = number(database, &format!("SELECT count(*) FROM {table}"));
    let read: u64 = pairs(database, &sql).iter().map(|(_, rows)| rows).sum();
    assert_eq!(counted["unreadable_time_rows"], rows - read, "{table}.{column}");
}

#[test]
fn what_is_counted_of_the_hooks_is_what_sql_counts() {
    let folder = workdir("stats-hooks");
    let path = folder.path().join("h.db");
    hooks_database(&path, 40, 3_000, 5).unwrap();
    let odd = "UPDATE sessions SET end_time = start_time WHERE rowid % 3 = 0; \
               UPDATE sessions SET project_path = NULL WHERE rowid % 7 = 0; \
               UPDATE events SET tool_name = 12 WHERE rowid % 50 = 0; \
               UPDATE events SET tool_name = '' WHERE rowid % 51 = 0; \
               UPDATE events SET timestamp = 'now' WHERE rowid % 100 = 0; \
               UPDATE events SET timestamp = substr(timestamp, 1, 10) WHERE rowid % 101 = 0;";
    Connection::open(&path).unwrap().execute_batch(odd).unwrap();
    let stats = stats_of(folder.path(), "h.db");
    same_texts(&stats["projects"], &path, "sessions", "project_path");
    same_texts(&stats["tools"], &path, "events", "tool_name");
    same_texts(&stats["event_types"], &path, "events", "event_type");
    same_days(&stats["streams"][0], &path, "sessions", "start_time");
    same_days(&stats["streams"][1], &path, "events", "timestamp");
    assert_eq!(stats["sessions"], 40);
    let open = number(&path, "SELECT count(*) FROM sessions WHERE end_time IS NULL");
    assert!(open > 0 && stats["open_sessions"] == open, "{stats}");
}

#[test]
fn tables_with_other_names_are_counted_by_their_meaning() {
    let folder = workdir("stats-layouts");
    let path = |name: &str| folder.path().join(name);
    server_database(&path("server.db"), 12, 500, 3).unwrap();
    let stats = stats_of(folder.path(), "server.db");
    same_texts(&stats["tools"], &path("server.db"), "chronicle_events", "tool_name");
    same_days(&stats["streams"][1], &path("server.db"), "chronicle_events", "timestamp");
    // a type is called `type`, and only the payload names a tool
    let sql = "INSERT INTO chronicle_sessions (id, project_path, start_time) VALUES \
                 (1, '/a', '2025-08-01T10:00:00'), (2, '/a', '2025-08-02T10:00:00'); \
               UPDATE chronicle_sessions SET end_time = '2025-08-03T10:00:00' WHERE id = 2; \
               INSERT INTO chronicle_events (id, session_id, type, timestamp, data) VALUES \
                 (1, 1, 'tool_use', '2025-08-01T10:00:00', '{\"tool_name\": \"Bash\"}'), \
                 (2, 1, 'tool_use', '2025-08-01T11:00:00', '{\"a\": {\"tool_name\": \"no\"}}'), \
                 (3, 2, 'prompt', '2025-08-02T10:00:00', NULL);";
    sqlite_from(&["sqlite-seed.sql"], &path("seed.db"), "delete");
    Connection::open(path("seed.db")).unwrap().execute_batch(sql).unwrap();
    let stats = stats_of(folder.path(), "seed.db");
    same_texts(&stats["event_types"], &path("seed.db"), "chronicle_events", "type");
    let tool = "json_extract(data, '$.tool_name')";
    same_texts(&stats["tools"], &path("seed.db"), "chronicle_events", tool);
    assert_eq!((&stats["sessions"], &stats["open_sessions"]), (&json!(2), &json!(1)));
    // a layout without most of it
    sqlite_from(&["../../schemas/ddl/sqlite-stub.sql"], &path("stub.db"), "delete");
    let stats = stats_of(folder.path(), "stub.db");
    assert_eq!(stats["projects"], Json::Null);
    assert_eq!(stats["open_sessions"], Json::Null);
    assert_eq!(stats["event_types"]["different"], 0);
}

#[test]
fn the_same_rows_are_counted_alike_in_postgres() {
    let folder = workdir("stats-postgres");
    let path = folder.path().join("h.db");
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &path, "delete");
    let server = Cluster::get().database("stats");
    server.apply_file(fixture("postgres-upstream.sql"));
    run(folder.path(), &["export", "h.db", "-o", "h.zst"]).success();
    let url = server.url();
    let import = ["import", "h.zst", "--to", &url, "--assume-tz", "UTC", "--trust-zone"];
    run(folder.path(), &[&import[..], &["--orphans", "skip"]].concat()).success();
    // without what the import may restore from its sidecar table
    server.psql("DROP SCHEMA IF EXISTS chronicle_dump CASCADE");
    let stats = stats_of(folder.path(), &url);
    let server_pairs = |sql: &str| -> Vec<(String, u64)> {
        let pair =
            |line: &str| line.rsplit_once('|').map(|(t, n)| (t.to_owned(), n.parse().unwrap()));
        server.psql(sql).lines().filter_map(pair).collect()
    };
    let types = server_pairs(
        "SELECT event_type, count(*) FROM chronicle_events GROUP BY 1 ORDER BY 2 DESC, event_type COLLATE \"C\"",
    );
    assert!(types.len() > 3 && listed(&stats["event_types"]["top"], "text") == types, "{stats}");
    let days = server_pairs(
        "SELECT (timestamp AT TIME ZONE 'UTC')::date, count(*) FROM chronicle_events GROUP BY 1 ORDER BY 1",
    );
    assert_eq!(listed(&stats["streams"][1]["days"], "day"), days);
    let open = server.psql("SELECT count(*) FROM chronicle_sessions WHERE end_time IS NULL");
    assert_eq!(stats["open_sessions"].to_string(), open);
}

/// An archive of rows with a text and a time each.
fn archive(
    stream: &str,
    columns: [&str; 3],
    rows: impl Iterator<Item = (String, String)>,
) -> Vec<u8> {
    let mut columns = columns.map(|name| Column::new(name, Kind::Text));
    columns[2].time_text = TimeText::Local;
    let streams = vec![Stream::new(stream, columns.to_vec())];
    let origin = Origin { backend: "sqlite".into(), ..Origin::default() };
    let header = Header::new(origin, &streams, 1 << 20);
    let mut writer =
        ArchiveWriter::create(Vec::new(), &header, streams, WriterOptions::default()).unwrap();
    let mut batch = Batch::default();
    for (n, (text, time)) in rows.enumerate() {
        batch.start(0, 3, n as u64 + 1);
        let id = format!("{n:08}");
        [&id, &text, &time].iter().for_each(|v| batch.push(Value::Text(v.as_bytes())));
        writer.write(&batch).unwrap();
    }
    writer.finish().unwrap().0
}

#[test]
fn an_archive_of_other_tables_gets_what_applies() {
    let folder = workdir("stats-other");
    let rows = (0..5).map(|n| (format!("letter {n}"), format!("2025-08-{:02}T10:00:00", n + 1)));
    let bytes = archive("letters", ["id", "project_path", "sent"], rows);
    fs::write(folder.path().join("a.zst"), bytes).unwrap();
    let stats = stats(folder.path(), "a.zst");
    assert_eq!(stats["streams"][0]["column"], "sent");
    assert_eq!(stats["streams"][0]["days"].as_array().unwrap().len(), 5);
    for none in ["projects", "tools", "event_types", "sessions", "open_sessions"] {
        assert_eq!(stats[none], Json::Null, "{none}: a stream of another meaning");
    }
    let output = run(folder.path(), &["inspect", "--stats", "a.zst"]).success();
    output.stdout_has("letters by day (sent): 2025-08-01 to 2025-08-05").stdout_has("    █████\n");
}

#[test]
fn many_projects_and_days_are_counted_in_bounded_memory() {
    let folder = workdir("stats-many");
    let long = "x".repeat(2_000);
    // every tenth session belongs to one project, on days of two thousand years
    let rows = (0..30_000_u32).map(|n| {
        let project = if n % 10 == 0 { "/the/one".to_owned() } else { format!("/{n:05}/{long}") };
        (project, format!("{:04}-{:02}-{:02}T10:00:00", 1 + n / 15, 1 + n % 12, 1 + n % 28))
    });
    let bytes = archive("sessions", ["id", "project_path", "start_time"], rows);
    fs::write(folder.path().join("a.zst"), bytes).unwrap();
    let stats = stats(folder.path(), "a.zst");
    let projects = &stats["projects"];
    assert_eq!((&projects["different"], &projects["without"]), (&Json::Null, &json!(0)));
    let (text, rows) = listed(&projects["top"], "text").remove(0);
    let undercount = projects["undercount"].as_u64().unwrap();
    assert_eq!(text, "/the/one");
    assert!(
        rows <= 3_000 && 3_000 <= rows + undercount && undercount < 100,
        "{rows}, {undercount}"
    );
    let days = &stats["streams"][0];
    assert!(days["days_per_entry"].as_u64().unwrap() > 1, "{}", days["days_per_entry"]);
    assert_eq!(listed(&days["days"], "day").iter().map(|(_, rows)| rows).sum::<u64>(), 30_000);
    let output = run(folder.path(), &["inspect", "--stats", "a.zst"]).success();
    let peak = output.peak_memory.unwrap_or_default();
    assert!(peak < 64 << 20, "{} MiB", peak >> 20);
    output.stdout_has("  projects by sessions: more than 2,048; ").stdout_has("days in each bar");
}

#[test]
fn bars_are_never_wider_than_the_terminal() {
    let folder = workdir("stats-width");
    let path = folder.path().join("h.db");
    hooks_database(&path, 40, 2_000, 5).unwrap();
    run(folder.path(), &["export", "h.db", "-o", "h.zst"]).success();
    let bars = |text: &str| -> Vec<usize> {
        let is_bars = |line: &&str| line.contains(['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']);
        text.lines().filter(is_bars).map(|line| line.chars().count()).collect()
    };
    for columns in [1, 12, 20, 80, 1_000] {
        let program = Program::new(["inspect", "--stats", "h.zst"]).current_dir(folder.path());
        let output = program.env("COLUMNS", columns.to_string()).run().success();
        let widths = bars(output.text());
        assert_eq!(widths.len(), 2, "{}", output.text());
        assert!(widths.iter().all(|width| *width < columns.max(6)), "{columns}: {widths:?}");
    }
    let archive = folder.path().join("h.zst");
    let (code, shown) = in_a_terminal(&["inspect", "--stats", archive.to_str().unwrap()]);
    assert_eq!((code, bars(&shown).len()), (Some(0), 2), "{shown}");
}

#[test]
fn a_damaged_archive_is_refused_as_by_verify() {
    let folder = workdir("stats-damage");
    let path = |name: &str| folder.path().join(name);
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &path("h.db"), "delete");
    run(folder.path(), &["export", "h.db", "-o", "h.zst"]).success();
    let bytes = fs::read(path("h.zst")).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    let mut index = bytes.clone();
    let last = index.len() - 12;
    index[last] ^= 1;
    fs::write(path("flipped.zst"), flipped).unwrap();
    fs::write(path("cut.zst"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(path("tableless.zst"), &bytes[..frames(&bytes).last().unwrap().end]).unwrap();
    fs::write(path("index.zst"), index).unwrap();
    fs::write(path("text.zst"), "Dear diary").unwrap();
    for (name, code) in [
        ("flipped.zst", 3),
        ("cut.zst", 4),
        ("tableless.zst", 6),
        ("index.zst", 6),
        ("text.zst", 3),
        ("gone.zst", 7),
    ] {
        let verified = run(folder.path(), &["verify", name]).fails_with(code);
        let output = run(folder.path(), &["inspect", "--stats", name]).fails_with(code);
        assert_eq!(output.stderr.replace("inspect", "verify"), verified.stderr, "{name}");
        assert_eq!(output.stdout.is_empty(), code != 6, "{name}: {output:?}");
        let piped = Program::new(["inspect", "--stats", "-"]);
        if name != "gone.zst" {
            piped.stdin(fs::read(path(name)).unwrap()).run().fails_with(code);
        }
    }
}

#[test]
fn archives_that_are_kept_are_counted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/archives");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_none_or(|end| end != "zst") {
            continue;
        }
        seen += 1;
        let stats = stats(&folder, entry.file_name().unwrap().to_str().unwrap());
        let verified = Program::new(["verify", "--json"]).arg(&entry).run().success();
        let verified: Json = serde_json::from_str(verified.text()).unwrap();
        for stream in stats["streams"].as_array().unwrap() {
            let days: u64 = listed(&stream["days"], "day").iter().map(|(_, rows)| rows).sum();
            let rows = days + stream["unreadable_time_rows"].as_u64().unwrap();
            let name = stream["stream"].as_str().unwrap();
            assert_eq!(verified["rows"][name], rows, "{}: {name}", entry.display());
        }
        let types = &stats["event_types"];
        let events: u64 = listed(&types["top"], "text").iter().map(|(_, rows)| rows).sum();
        let events = events + types["without"].as_u64().unwrap();
        assert_eq!(verified["rows"]["events"], events, "{}", entry.display());
    }
    assert!(seen > 5, "only {seen} archives");
}

#[test]
fn more_is_listed_if_asked_for_and_nothing_raw() {
    let folder = workdir("stats-verbose");
    let path = folder.path().join("h.db");
    sqlite_from(&["sqlite-hooks.sql"], &path, "delete");
    let sql = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30) \
               INSERT INTO sessions (id, claude_session_id, start_time, project_path) \
               SELECT 's' || n, 'c' || n, '2025-08-19T10:00:00', '/p/' || n || char(27) || '[31m' FROM n";
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    run(folder.path(), &["export", "h.db", "-o", "h.zst"]).success();
    let few = run(folder.path(), &["inspect", "--stats", "h.zst"]).success();
    let few = few.stdout_has("  projects by sessions: the first 10 of 30\n");
    assert_eq!(few.text().matches("/p/").count(), 10);
    let all = run(folder.path(), &["inspect", "--stats", "-v", "h.zst"]).success();
    assert_eq!(all.text().matches("/p/").count(), 30);
    assert!(!all.text().contains(|c| is_unprintable(c) && c != '\n'), "{}", all.text());
    all.stdout_has("/p/7\\u{1b}[31m")
        .stdout_has("  open sessions: 30 of 30 sessions without an end\n");
    run(folder.path(), &["inspect", "--stats", "-q", "h.zst"]).success().stderr_lacks("chronicle");
}
