//! What goes into an archive comes out of it, in every direction that the program knows.

pub(crate) mod postgres;
mod same_bytes;
mod sqlite;

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
    Program::new(["export", from, "--force", "--output", words(&archive)]).run().success();
    archive
}

fn import(archive: &Path, to: &str, options: &[&str]) -> Output {
    Program::new(
        ["import", words(archive), "--to", to, "--strict", "--trust-zone"].iter().chain(options),
    )
    .run()
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
