//! `diff` finds every difference and nothing else, whatever the two are and however they are sorted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use chronicle_archive::{Batch, Column, Kind, Stream, TimeText, Value};
use chronicle_dump::cancel::Cancel;
use chronicle_dump::diff::{ChangedColumn, DifferenceKind};
use chronicle_dump::error::Code;
use chronicle_dump::policy::AssumeZone;
use chronicle_dump::progress::Progress;
use chronicle_dump::{CompareOptions, Compared, Difference, Result, Side, compare};
use futures::future::BoxFuture;
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::Value as Json;
use tempfile::TempDir;

use super::support::cluster::{Cluster, Database};
use super::support::files::{fixture, sqlite_from, workdir};
use super::support::generate::{hooks_database, hostile_hooks_database};
use super::support::program::{Output, Program, pipe};

/// A folder with a database of the hooks, and another one beside it that is the same.
struct Scratch {
    folder: TempDir,
}

impl Scratch {
    fn new(test_name: &str) -> Scratch {
        let desk = Scratch { folder: workdir(test_name) };
        hooks_database(&desk.path("a.db"), 5, 60, 11).unwrap();
        fs::copy(desk.path("a.db"), desk.path("b.db")).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes the second database.
    fn change(&self, sql: &str) {
        let database = Connection::open(self.path("b.db")).unwrap();
        database.execute_batch(&format!("PRAGMA foreign_keys = off; {sql}")).unwrap();
    }

    /// Exports a database of the desk into an archive of this name.
    fn export(&self, from: &str, name: &str, options: &[&str]) {
        let export = Program::new(["export", from, "-o", name].iter().chain(options));
        export.current_dir(self.folder.path()).run().success();
    }

    fn diff(&self, args: &[&str]) -> Output {
        let program = Program::new(["diff"].iter().chain(args));
        program.current_dir(self.folder.path()).run()
    }

    /// The ids of the first events by time.
    fn events(&self, count: usize) -> Vec<String> {
        let database = Connection::open(self.path("a.db")).unwrap();
        let mut ids = database.prepare("SELECT id FROM events ORDER BY timestamp, id").unwrap();
        ids.query_map([], |row| row.get(0)).unwrap().take(count).map(|id| id.unwrap()).collect()
    }
}

fn postgres(name: &str) -> Database {
    let database = Cluster::get().database(name);
    database.apply_file(fixture("postgres-upstream.sql"));
    database
}

fn json(output: &Output) -> Json {
    serde_json::from_str(output.text()).unwrap_or_else(|e| panic!("{e}: {}", output.text()))
}

// ---- what is equal ----------------------------------------------------------------------------

#[test]
fn a_database_equals_its_archives_sorted_or_not_from_a_file_or_a_pipe() {
    let desk = Scratch::new("diff-equal");
    // any order on the disk
    desk.change(
        "CREATE TABLE other AS SELECT * FROM events ORDER BY substr(id, 7); DELETE FROM events; \
         INSERT INTO events SELECT * FROM other; DROP TABLE other",
    );
    desk.export("a.db", "sorted.zst", &[]);
    desk.export("b.db", "unsorted.zst", &["--unsorted"]);
    let sides = ["a.db", "b.db", "sqlite:a.db", "sorted.zst", "unsorted.zst"];
    for a in sides {
        for b in sides {
            desk.diff(&[a, b]).success().stdout_has("events: 60 equal\nequal: A is ");
        }
    }
    let export = Program::new(["export"]).arg(desk.path("a.db"));
    let to = Program::new(["diff", "-"]).arg(desk.path("unsorted.zst"));
    let (from, to) = pipe(export, to);
    from.success();
    to.success().stdout_has("A is stdin");
    let bare = zstd::decode_all(&*fs::read(desk.path("sorted.zst")).unwrap()).unwrap();
    fs::write(desk.path("bare.ndjson"), bare).unwrap();
    desk.diff(&["bare.ndjson", "a.db"]).success();
}

#[test]
fn whatever_a_hooks_file_can_hold_equals_its_archive() {
    let folder = workdir("diff-hostile");
    let (database, archive) = (folder.path().join("a.db"), folder.path().join("a.zst"));
    hostile_hooks_database(&database, 1_500, 5).unwrap();
    Program::new(["export", "-o"]).arg(&archive).arg(&database).arg("--unsorted").run().success();
    let same = Program::new(["diff", "--json"]).arg(&database).arg(&archive).run().success();
    let rows = json(&same)["streams"][1]["equal_rows"].as_u64().unwrap();
    assert!(rows >= 1_500, "{rows}");
    // and each of its rows is missing in an empty one
    let empty = folder.path().join("empty.db");
    sqlite_from(&["sqlite-hooks.sql"], &empty, "delete");
    let all = Program::new(["diff", "--json"]).arg(&archive).arg(&empty).run().fails_with(15);
    assert_eq!(json(&all)["streams"][1]["only_a_rows"], rows);
}

#[test]
fn what_was_moved_into_postgres_equals_where_it_came_from() {
    let desk = Scratch::new("diff-postgres");
    let database = postgres("diff_postgres");
    let url = database.url();
    desk.export("a.db", "a.zst", &[]);
    let zone = ["--assume-tz", "Europe/Berlin"];
    let import = ["import", "a.zst", "--to", &url];
    Program::new(import.iter().chain(&zone)).current_dir(desk.folder.path()).run().success();
    for local in ["a.db", "a.zst"] {
        for sides in [[local, &url], [&url, local]] {
            let equal = desk.diff(&[sides.as_slice(), &zone].concat()).success();
            equal.stdout_has("sessions: 5 equal\nevents: 60 equal\n");
        }
    }
    // nothing says which instants the local times are
    desk.diff(&["a.zst", &url])
        .fails_with(15)
        .stdout_has("60 changed (60 in timestamp)")
        .stderr_has("events: timestamp has local times without a zone")
        .stderr_has("--assume-tz Europe/Berlin");
    desk.diff(&["a.zst", &url, "--assume-tz", "UTC"]).fails_with(15).stderr_lacks("--assume-tz");
    let event = &desk.events(1)[0];
    database.psql(&format!("UPDATE chronicle_events SET tool_name = 'X' WHERE id = '{event}'"));
    desk.diff(&[["a.db", &url].as_slice(), &zone].concat())
        .fails_with(15)
        .stdout_has(&format!("~ events {event}: tool_name: "))
        .stdout_has("events: 59 equal, 1 changed (1 in tool_name)\n");
}

#[test]
fn what_was_moved_out_of_postgres_equals_where_it_came_from() {
    let folder = workdir("diff-from-postgres");
    let (archive, copy) = (folder.path().join("a.zst"), folder.path().join("copy.db"));
    let source = postgres("diff_from_postgres");
    source.psql(
        "INSERT INTO chronicle_sessions (claude_session_id, start_time, end_time, metadata) \
         SELECT 'c' || n, timestamptz '2025-01-02 03:04:05+00' + n * interval '1 s 1 us', \
                CASE n WHEN 1 THEN timestamptz 'infinity' WHEN 2 THEN '0044-03-15 BC' END, to_jsonb(n) FROM generate_series(1, 40) n; \
         INSERT INTO chronicle_events (session_id, event_type, timestamp, metadata, duration_ms) \
         SELECT id, 'stop', start_time, '{\"a\": [1.10, \"é\", 1e30]}', n FROM chronicle_sessions, generate_series(1, 5) n",
    );
    Program::new(["export", &source.url(), "--unsorted", "-o"]).arg(&archive).run().success();
    let import = Program::new(["import", "--create", "--to"]).arg(&copy);
    import.arg(&archive).run().success();
    for local in [&archive, &copy] {
        let program = Program::new(["diff", &source.url()]).arg(local);
        program.run().success().stdout_has("sessions: 40 equal\nevents: 200 equal\n");
    }
}

#[test]
fn a_boolean_is_its_integer_and_an_integer_its_text_where_the_other_side_has_no_such_kind() {
    let of_kind = |kind| {
        let mut stream = stream("s", &[0], &[0]);
        stream.columns[0].kind = kind;
        stream
    };
    let row = |cell| vec![cell, Cell::Null, Cell::Null];
    for (a, b, equal) in [
        ((Kind::Bool, Cell::Bool(true)), (Kind::Int, Cell::Int(1)), true),
        ((Kind::Bool, Cell::Bool(true)), (Kind::Int, Cell::Int(0)), false),
        ((Kind::Int, Cell::Int(7)), (Kind::Text, Cell::Text("7")), true),
        ((Kind::Int, Cell::Int(7)), (Kind::Text, Cell::Text("07")), false),
        ((Kind::Text, Cell::Int(7)), (Kind::Text, Cell::Text("7")), false),
    ] {
        let what = format!("{a:?} {b:?}");
        let [a, b] =
            [a, b].map(|(kind, cell)| Rows::new(vec![of_kind(kind)], &[vec![row(cell)]], 1));
        let (compared, _) = compare_rows(a, b, &CompareOptions::default());
        assert_eq!(compared.is_equal(), equal, "{what}");
    }
}

#[test]
fn json_and_times_are_compared_by_what_they_say() {
    let desk = Scratch::new("diff-meaning");
    let id = &desk.events(1)[0];
    let a = Connection::open(desk.path("a.db")).unwrap();
    let set = |database: &Connection, data: &str, time: &str| {
        let sql = "UPDATE events SET data = ?1, timestamp = ?2 WHERE id = ?3";
        database.execute(sql, [data, time, id]).unwrap();
    };
    set(&a, r#"{"a": 1.0, "b": "é"}"#, "2025-01-01T12:00:00+02:00");
    let b = Connection::open(desk.path("b.db")).unwrap();
    set(&b, r#"{"b":"\u00e9","a":1}"#, "2025-01-01 10:00:00.000Z");
    desk.diff(&["a.db", "b.db"]).success();
    set(&b, r#"{"b":"\u00e8","a":1}"#, "2025-01-01 10:00:00.001Z");
    desk.diff(&["a.db", "b.db"])
        .fails_with(15)
        .stdout_has(r#"data: {"a":1,"b":"é"} -> {"a":1,"b":"è"}"#)
        .stdout_has("1 changed (1 in timestamp, 1 in data)");
}

#[test]
fn null_and_the_json_null_are_two_values() {
    let folder = workdir("diff-null");
    let paths = ["NULL", "'null'"].map(|value| {
        let path = folder.path().join(format!("{value}.db"));
        sqlite_from(&["sqlite-server.sql"], &path, "delete");
        let sql = format!(
            "INSERT INTO chronicle_sessions \
                 (id, claude_session_id, start_time, metadata, created_at, updated_at) \
             VALUES ('s', 'c', '2025-08-19T10:00:00Z', {value}, '2025-08-19', '2025-08-19')"
        );
        Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
        path
    });
    let server = postgres("diff_null");
    let insert = "INSERT INTO chronicle_sessions (id, claude_session_id, start_time, metadata) \
                  VALUES ('0000000a-0000-4000-8000-000000000001', 'c', now(), 'null')";
    server.psql(insert);
    let archive = folder.path().join("json.zst");
    Program::new(["export", &server.url(), "-o"]).arg(&archive).run().success();
    let diff = |a: &Path, b: &str| Program::new(["diff"]).arg(a).arg(b).run();
    diff(&archive, &server.url()).success();
    diff(&paths[0], paths[0].to_str().unwrap()).success();
    diff(&paths[0], paths[1].to_str().unwrap())
        .fails_with(15)
        .stdout_has("metadata: NULL -> null\n");
    server.psql("UPDATE chronicle_sessions SET metadata = NULL");
    diff(&archive, &server.url()).fails_with(15).stdout_has("metadata: null -> NULL");
}

// ---- what is different ------------------------------------------------------------------------

#[test]
fn every_kind_of_difference_is_told_by_stream_key_and_column() {
    let desk = Scratch::new("diff-kinds");
    let events = desk.events(4);
    let [changed, missing, later, _] = events.as_slice() else { unreachable!() };
    desk.change(&format!(
        "UPDATE events SET tool_name = 'Other', duration_ms = 1500 WHERE id = '{changed}'; \
         DELETE FROM events WHERE id = '{missing}'; \
         UPDATE events SET timestamp = '2099-01-01T00:00:00' WHERE id = '{later}'; \
         INSERT INTO events (id, session_id, event_type, timestamp, data) \
         VALUES ('new', 's', 'stop', '2000-01-01T00:00:00', '{{}}'); \
         ALTER TABLE sessions ADD COLUMN note TEXT"
    ));
    desk.export("b.db", "b.zst", &[]);
    desk.export("b.db", "u.zst", &["--unsorted"]);
    for b in ["b.db", "b.zst", "u.zst"] {
        let found = desk.diff(&["a.db", b]).fails_with(15);
        let lines: BTreeSet<&str> = found.text().lines().collect();
        assert!(lines.contains(&*format!("- events {missing}")), "{lines:?}");
        assert!(lines.contains("+ events new"), "{lines:?}");
        let line = |id: &str| {
            let start = format!("~ events {id}: ");
            lines.iter().find_map(|line| line.strip_prefix(&start)).unwrap_or_default().to_owned()
        };
        assert!(line(changed).contains(" -> \"Other\"; duration_ms: "), "{lines:?}");
        assert!(line(changed).ends_with(" -> 1500"), "{lines:?}");
        assert!(line(later).ends_with(" -> \"2099-01-01T00:00:00\""), "{lines:?}");
        assert!(lines.contains("sessions: 5 equal"), "{lines:?}");
        let events = "events: 57 equal, 2 changed (1 in timestamp, 1 in tool_name, 1 in duration_ms), \
                      1 only in A, 1 only in B";
        assert!(lines.contains(events), "{lines:?}");
        let found = found.stderr_has("sessions: only B has note: not compared");
        assert!(found.text().ends_with(&format!("different: A is a.db, B is {b}\n")));
        // turned round
        desk.diff(&[b, "a.db"]).fails_with(15).stdout_has(&format!("+ events {missing}\n"));
    }
    let ignored = ["--ignore", "timestamp", "--ignore", "TOOL_NAME", "--ignore", "duration_ms"];
    desk.diff(&[["a.db", "b.db", "--summary"].as_slice(), &ignored].concat())
        .fails_with(15)
        .stdout_has("events: 59 equal, 1 only in A, 1 only in B\n");
}

#[test]
fn a_summary_and_a_limit_show_less_and_count_all() {
    let desk = Scratch::new("diff-limit");
    desk.change("DELETE FROM events WHERE event_type <> ''; DELETE FROM sessions");
    let whole = desk.diff(&["a.db", "b.db"]).fails_with(15);
    assert_eq!(whole.text().lines().filter(|line| line.starts_with("- ")).count(), 65);
    let some = desk.diff(&["a.db", "b.db", "--limit", "2"]).fails_with(15);
    assert_eq!(some.text().lines().filter(|line| line.starts_with("- ")).count(), 4);
    let some = some.stdout_has("events: 58 more").stdout_has("events: 0 equal, 60 only in A\n");
    let summary = desk.diff(&["a.db", "b.db", "--summary"]).fails_with(15);
    assert_eq!(summary.text().lines().count(), 3, "{}", summary.text());
    assert!(some.text().ends_with(summary.text()));
    let object = json(&desk.diff(&["a.db", "b.db", "--limit", "2", "--json"]).fails_with(15));
    assert_eq!(object["streams"][1]["differences"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&object["streams"][1]["only_a_rows"], &object["equal"]),
        (&60.into(), &false.into())
    );
}

#[test]
fn a_stream_that_one_side_lacks_is_missing_with_all_its_rows() {
    let folder = workdir("diff-streams");
    let (both, hooks) = (folder.path().join("both.db"), folder.path().join("hooks.db"));
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql", "sqlite-server.sql"], &both, "delete");
    sqlite_from(&["sqlite-hooks.sql", "sample-hooks.sql"], &hooks, "delete");
    let diff = |a: &Path, b: &Path| Program::new(["diff"]).arg(a).arg(b).run();
    diff(&both, &hooks).success().stderr_has("server_events: B has no such stream");
    let more =
        "INSERT INTO chronicle_sessions (id, claude_session_id, start_time) VALUES ('x', 'y', 'z')";
    Connection::open(&both).unwrap().execute(more, []).unwrap();
    diff(&both, &hooks).fails_with(15).stdout_has("- server_sessions x\n");
    diff(&hooks, &both).fails_with(15).stdout_has("+ server_sessions x\n");
}

#[test]
fn a_cut_or_damaged_archive_is_told_as_such_and_nothing_is_said_of_its_rows() {
    let desk = Scratch::new("diff-damage");
    desk.change("DELETE FROM sessions");
    desk.export("b.db", "b.zst", &[]);
    let bytes = fs::read(desk.path("b.zst")).unwrap();
    fs::write(desk.path("cut.zst"), &bytes[..bytes.len() - 200]).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 4;
    fs::write(desk.path("flipped.zst"), flipped).unwrap();
    for (archive, code) in [("cut.zst", 4), ("flipped.zst", 3)] {
        for sides in [["a.db", archive], [archive, "a.db"], [archive, archive]] {
            let failed = desk.diff(&sides).fails_with(code).stderr_has(archive);
            assert_eq!(failed.text(), "");
        }
    }
}

#[test]
fn what_cannot_be_compared_has_its_exit_code_and_a_hint() {
    let desk = Scratch::new("diff-refused");
    desk.diff(&["-", "-"]).fails_with(2).stderr_has("hint: name the other one");
    desk.diff(&["a.db", "missing.db"]).fails_with(7).stderr_has("missing.db: no such file");
    desk.diff(&["a.db", "."]).fails_with(7).stderr_has("is a directory");
    desk.diff(&["a.db", "b.db", "--ignore", "nothing"]).fails_with(2).stderr_has("hint: ");
    desk.diff(&["a.db", "b.db", "--ignore", "id"]).fails_with(2).stderr_has("the key of sessions");
    desk.diff(&["a.db", "b.db", "--assume-tz", "Mars"]).fails_with(2).stderr_has("not a time zone");
    fs::write(desk.path("text"), "neither").unwrap();
    desk.diff(&["a.db", "text"]).fails_with(3).stderr_has("text: neither an archive nor");
}

#[test]
fn hostile_text_never_reaches_the_terminal_raw() {
    let desk = Scratch::new("diff-terminal");
    desk.change(
        "UPDATE events SET event_type = 'x' || char(27) || '[31m' || char(10) || char(155); \
         INSERT INTO sessions (id, claude_session_id, start_time) \
         VALUES ('id' || char(10) || char(27) || ']0;', 'c', 't'); \
         ALTER TABLE sessions ADD COLUMN \"bad\x1b\nname\" TEXT",
    );
    for options in [&["a.db", "b.db"][..], &["--json", "a.db", "b.db"]] {
        let found = desk.diff(options).fails_with(15);
        let control = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
        assert!(!control(found.text()) && !control(&found.stderr), "{}", found.text());
        assert!(found.text().lines().all(|line| !line.starts_with("name")), "{}", found.text());
    }
}

#[test]
fn memory_does_not_grow_with_the_rows_whatever_their_order() {
    let folder = workdir("diff-memory");
    let path = |name: &str| folder.path().join(name);
    hooks_database(&path("a.db"), 50, 40_000, 3).unwrap();
    fs::copy(path("a.db"), path("b.db")).unwrap();
    let reorder = "PRAGMA foreign_keys = off; PRAGMA synchronous = off; \
         CREATE TABLE other AS SELECT * FROM events ORDER BY substr(id, 7); DELETE FROM events; \
         INSERT INTO events SELECT * FROM other; DROP TABLE other";
    Connection::open(path("b.db")).unwrap().execute_batch(reorder).unwrap();
    for (from, to, options) in
        [("a.db", "a.zst", &[][..]), ("a.db", "same.zst", &[]), ("b.db", "b.zst", &["--unsorted"])]
    {
        let export = Program::new(["export", "-o"]).arg(path(to)).arg(path(from));
        options.iter().fold(export, |export, option| export.arg(*option)).run().success();
    }
    // the two hold 90 MB of rows each
    for (other, most) in [("same.zst", 100 << 20), ("b.zst", 140 << 20)] {
        let same = Program::new(["diff"]).arg(path("a.zst")).arg(path(other)).run().success();
        let peak = same.peak_memory.unwrap_or_default();
        assert!(peak < most, "{other}: {} MiB", peak >> 20);
    }
}

// ---- against a comparison that holds everything in memory --------------------------------------

/// A value of a generated row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Text(&'static str),
    Uuid([u8; 16]),
}

impl Cell {
    fn value(&self) -> Value<'_> {
        match self {
            Cell::Null => Value::Null,
            Cell::Bool(v) => Value::Bool(*v),
            Cell::Int(v) => Value::Int(*v),
            Cell::Uuid(v) => Value::Uuid(*v),
            Cell::Text(text) => Value::Text(text.as_bytes()),
        }
    }
}

type Row = Vec<Cell>;

/// A side in memory: rows in batches of some size, sorted or only said to be.
struct Rows {
    streams: Vec<Stream>,
    batches: Vec<(usize, Vec<Row>)>,
    zone: Option<&'static str>,
}

impl Rows {
    fn new(streams: Vec<Stream>, rows: &[Vec<Row>], size: usize) -> Rows {
        let mut batches: Vec<(usize, Vec<Row>)> = (rows.iter().enumerate())
            .flat_map(|(n, rows)| rows.chunks(size).map(move |rows| (n, rows.to_vec())))
            .collect();
        batches.reverse();
        Rows { streams, batches, zone: None }
    }
}

impl Side for Rows {
    fn streams(&self) -> &[Stream] {
        &self.streams
    }

    fn time_zone(&self) -> Option<&str> {
        self.zone
    }

    fn next_batch<'a>(&'a mut self, batch: &'a mut Batch) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let Some((stream, rows)) = self.batches.pop() else { return Ok(false) };
            batch.start(stream, self.streams[stream].columns.len(), 1);
            rows.iter().flatten().for_each(|cell| batch.push(cell.value()));
            Ok(true)
        })
    }
}

fn stream(name: &str, key: &[usize], order: &[usize]) -> Stream {
    let columns = ["id", "part", "content"].map(|name| Column {
        name: name.into(),
        physical: name.into(),
        kind: Kind::Text,
        nullable: true,
        time_text: TimeText::None,
    });
    let (key, order) = (key.to_vec(), order.to_vec());
    Stream { name: name.into(), table: name.into(), columns: columns.into(), key, order }
}

fn compare_rows(a: Rows, b: Rows, options: &CompareOptions) -> (Compared, Vec<Difference>) {
    try_to_compare(a, b, options).unwrap()
}

fn try_to_compare(
    mut a: Rows,
    mut b: Rows,
    options: &CompareOptions,
) -> Result<(Compared, Vec<Difference>)> {
    let mut told = Vec::new();
    let mut tell = |difference| {
        told.push(difference);
        Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (progress, cancel) = (Progress::default(), Cancel::default());
    let compared =
        runtime.block_on(compare(&mut a, &mut b, options, &mut tell, &progress, &cancel))?;
    Ok((compared, told))
}

/// Equal, changed, only in A, only in B, as a multiset in memory counts them.
fn zone_rule(a: &[Row], b: &[Row], key: &[usize]) -> [u64; 4] {
    let mut rows: BTreeMap<&Row, [u64; 2]> = BTreeMap::new();
    a.iter().for_each(|row| rows.entry(row).or_default()[0] += 1);
    b.iter().for_each(|row| rows.entry(row).or_default()[1] += 1);
    let mut counts = [0; 4];
    let mut left: BTreeMap<Vec<&Cell>, [u64; 2]> = BTreeMap::new();
    for (row, [in_a, in_b]) in rows {
        let equal = in_a.min(in_b);
        counts[0] += equal;
        let of_key = left.entry(key.iter().map(|k| &row[*k]).collect()).or_default();
        of_key[0] += in_a - equal;
        of_key[1] += in_b - equal;
    }
    for [in_a, in_b] in left.into_values() {
        let changed = if key.is_empty() { 0 } else { in_a.min(in_b) };
        counts[1] += changed;
        counts[2] += in_a - changed;
        counts[3] += in_b - changed;
    }
    counts
}

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        Just(Cell::Null),
        (0..4_i64).prop_map(Cell::Int),
        prop_oneof![Just("a"), Just("b\n"), Just("")].prop_map(Cell::Text),
    ]
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    proptest::collection::vec(proptest::collection::vec(cell(), 3), 0..25)
}

/// A second side that is like the first one, but for some rows, and in another order.
fn sides() -> impl Strategy<Value = [Vec<Row>; 2]> {
    (rows(), rows(), proptest::collection::vec(any::<bool>(), 25)).prop_flat_map(
        |(a, other, kept)| {
            let mut b: Vec<Row> =
                a.iter().zip(kept).filter(|(_, k)| *k).map(|(r, _)| r.clone()).collect();
            b.extend(other.into_iter().take(6));
            (Just(a), Just(b).prop_shuffle()).prop_map(|(a, b)| [a, b])
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_counts_are_those_of_multisets_in_memory(
        one in sides(),
        two in sides(),
        key in proptest::sample::select(vec![&[0_usize][..], &[0, 1], &[]]),
        orders in proptest::sample::select(vec![[&[0_usize, 1, 2][..]; 2], [&[], &[0]], [&[], &[]]]),
        sort in any::<[bool; 2]>(),
        sizes in [1..9_usize, 1..9],
        swapped in any::<bool>(),
    ) {
        let mut sides: [Vec<Vec<Row>>; 2] =
            [0, 1].map(|side| vec![one[side].clone(), two[side].clone()]);
        for (side, sort) in sides.iter_mut().zip(sort) {
            side.iter_mut().filter(|_| sort).for_each(|rows| rows.sort());
        }
        let mut counts = BTreeMap::new();
        for (n, name) in ["one", "two"].into_iter().enumerate() {
            counts.insert(name.to_owned(), zone_rule(&sides[0][n], &sides[1][n], key));
        }
        let streams = |order| vec![stream("one", key, order), stream("two", key, order)];
        let (mut streams_b, mut rows_b) = (streams(orders[1]), sides[1].clone());
        if swapped {
            streams_b.reverse();
            rows_b.reverse();
        }
        let a = Rows::new(streams(orders[0]), &sides[0], sizes[0]);
        let b = Rows::new(streams_b, &rows_b, sizes[1]);
        let (compared, told) = compare_rows(a, b, &CompareOptions::default());
        for s in &compared.streams {
            let found = [s.equal_rows, s.changed_rows, s.only_a_rows, s.only_b_rows];
            prop_assert_eq!(found, counts[&s.stream], "{}", s.stream);
            let told_as = |is: fn(&DifferenceKind) -> bool| {
                told.iter().filter(|d| d.stream == s.stream && is(&d.kind)).count() as u64
            };
            prop_assert_eq!(told_as(|k| matches!(k, DifferenceKind::Changed(c) if !c.is_empty())), found[1]);
            prop_assert_eq!(told_as(|k| *k == DifferenceKind::OnlyA), found[2]);
            prop_assert_eq!(told_as(|k| *k == DifferenceKind::OnlyB), found[3]);
        }
        let different = counts.values().any(|c| c[1..] != [0; 3]);
        prop_assert_eq!(compared.is_equal(), !different);
    }
}

#[test]
fn more_rows_in_b_may_be_counted_without_being_told() {
    let row = |id, content| vec![Cell::Int(id), Cell::Null, Cell::Text(content)];
    let side = |rows: &[Row]| Rows::new(vec![stream("s", &[0], &[0])], &[rows.to_vec()], 2);
    let options = CompareOptions { more_in_b: true, ..CompareOptions::default() };
    let one = [row(1, "a"), row(3, "a")];
    let (compared, told) =
        compare_rows(side(&one), side(&[row(1, "a"), row(2, "a"), row(3, "a")]), &options);
    assert!(told.is_empty() && compared.b_holds_a() && !compared.is_equal());
    let (compared, told) = compare_rows(side(&one), side(&[row(1, "b"), row(2, "a")]), &options);
    assert!(!compared.b_holds_a() && compared.streams[0].only_b_rows == 1);
    let column = ChangedColumn { column: "content".into(), a: "\"a\"".into(), b: "\"b\"".into() };
    let difference = |key: &str, kind| Difference { stream: "s".into(), key: key.into(), kind };
    assert_eq!(
        told,
        [
            difference("1", DifferenceKind::Changed(vec![column])),
            difference("3", DifferenceKind::OnlyA)
        ]
    );
}

#[test]
fn keys_of_uuids_equal_their_usual_text_and_no_other_spelling() {
    const ID: &str = "6bcead65-ea06-42cc-95a8-96aeaf78f72d";
    let id = Cell::Uuid(*uuid::Uuid::parse_str(ID).unwrap().as_bytes());
    let side = |id| {
        let rows = vec![vec![id, Cell::Null, Cell::Text("x")]];
        Rows::new(vec![stream("s", &[0], &[0])], &[rows], 1)
    };
    for (text, equal) in [(ID, true), ("6BCEAD65-EA06-42CC-95A8-96AEAF78F72D", false)] {
        let (a, b) = (side(id.clone()), side(Cell::Text(text)));
        let (compared, _) = compare_rows(a, b, &CompareOptions::default());
        assert_eq!(compared.is_equal(), equal, "{text}");
    }
}

#[test]
fn local_times_of_two_zones_are_the_same_instants_or_not_by_their_zones() {
    let side = |zone, time| {
        let mut stream = stream("s", &[0], &[0]);
        stream.columns[2].time_text = TimeText::Local;
        let rows = vec![vec![Cell::Int(1), Cell::Null, Cell::Text(time)]];
        Rows { zone, ..Rows::new(vec![stream], &[rows], 1) }
    };
    let options = CompareOptions { assume_zone: AssumeZone::Archive, ..CompareOptions::default() };
    let (noon, one) = ("2025-01-01T12:00:00", "2025-01-01 13:00");
    for (a, b, equal) in [
        ((Some("+01:00"), noon), (Some("+02:00"), noon), false),
        ((Some("+01:00"), noon), (Some("+02:00"), one), true),
        // a side that does not say takes the other's
        ((Some("+01:00"), noon), (None, noon), true),
        ((None, noon), (Some("+02:00"), "2025-01-01T10:00:00Z"), true),
    ] {
        let (compared, _) = compare_rows(side(a.0, a.1), side(b.0, b.1), &options);
        assert_eq!(compared.is_equal(), equal, "{a:?} {b:?}");
    }
    let error = try_to_compare(side(None, noon), side(None, noon), &options).unwrap_err();
    assert!(error.code() == Code::Plan && error.next_step().is_some(), "{error:?}");
}
