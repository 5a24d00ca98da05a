//! Laws about values and columns: what a target cannot hold is refused, told, or kept and given back, and never lost unsaid.

mod columns;
mod targets;
mod times;
mod values;

use std::path::Path;

use serde_json::json;

use crate::support::cluster::{ADMIN, PASSWORD};
use crate::support::files::{assert_same_rows, fixture, postgres_dump, sqlite_dump};
use crate::support::generate::{hooks_database, hostile_hooks_database};
use crate::support::migrate::{
    Scratch, ask, event, fill, id, import, json_of, postgres, records, session, words,
};
use crate::support::program::Program;

const HOOKS: &[&str] = &["sqlite-hooks.sql"];
const SERVER: &[&str] = &["sqlite-server.sql"];
const MANAGER: &[&str] = &["../../schemas/ddl/sqlite-uv-manager.sql"];
const UPSTREAM: &str = "postgres-upstream.sql";
/// Nothing is lost.
const KEEP: &[&str] = &["--on-missing-column=fold", "--on-unrepresentable=preserve"];

fn good() -> String {
    session(1) + &event(11, 1, "pre_tool_use") + &event(12, 1, "stop")
}

/// Moves a file into Chronicle's Postgres layout and back, and panics unless it is the same to the last byte.
#[track_caller]
fn there_and_back(scratch: &Scratch, source: &str, fixtures: &[&str], options: &[&str]) {
    // what no program can get round
    let loose = match options.contains(&"--orphans=keep") {
        true => "ALTER TABLE chronicle_events DROP CONSTRAINT chronicle_events_session_id_fkey",
        false => "",
    };
    let server = postgres(UPSTREAM, "there_and_back", loose);
    scratch.shift(source, &server.url(), &[KEEP, options].concat()).success();
    let back = scratch.sqlite("there-and-back.db", fixtures, "");
    scratch.shift(&server.url(), &back, &["--on-missing-column=add"]).success();
    assert_same_rows(&sqlite_dump(source.as_ref()), &sqlite_dump(back.as_ref()));
    std::fs::remove_file(&back).expect("remove the file");
}

// columns

#[test]
fn a_missing_column_stops_an_import_unless_it_is_derived() {
    let scratch = Scratch::new("missing_column");
    let more = "ALTER TABLE sessions ADD COLUMN git_commit TEXT;".to_owned()
        + &good()
        + "UPDATE sessions SET git_commit = 'abc';";
    let plain = scratch.sqlite("plain.db", HOOKS, &good());
    let source = scratch.sqlite("source.db", HOOKS, &more);
    let server = postgres(UPSTREAM, "missing_column", "");
    scratch
        .shift(&source, &server.url(), &[])
        .fails_with(9)
        .stderr_has("column \"git_commit\": the target has no column for it")
        .stderr_lacks("updated_at")
        .stderr_has("--on-missing-column preserve");
    assert_eq!(postgres_dump(&server), Vec::<String>::new());
    scratch.shift(&plain, &server.url(), &["-v"]).success().stderr_has("updated_at");
}

// values

/// Rows with values that no Postgres column can store, by the hooks' columns.
fn odd() -> String {
    let mut sql = session(1) + &session(2);
    let odd: [(&str, &str); 16] = [
        ("data", "'{\"a\": \"\\u0000\"}'"),
        ("data", "'{\"a\": NaN}'"),
        ("data", "'{\"a\": \"\\ud800\"}'"),
        ("data", "'{\"a\":1,\"a\":2,  \"b\": 1E5}'"),
        ("data", "'not json'"),
        ("data", "x'7b7d'"),
        ("data", "CAST(x'7b2261223a2022ff227d' AS TEXT)"),
        ("tool_name", "CAST(x'610062' AS TEXT)"),
        ("tool_name", "x'00ff'"),
        ("tool_name", "1.5"),
        ("duration_ms", "1.5"),
        ("duration_ms", "'soon'"),
        ("duration_ms", "9223372036854775807"),
        ("timestamp", "'2025-08-19T10:00:00.1234567Z'"),
        ("timestamp", "'2025-08-19T10:00:00'"),
        ("created_at", "'yesterday'"),
    ];
    for (n, (column, value)) in odd.iter().enumerate() {
        let n = n as u32 + 10;
        sql += &event(n, 1, "stop");
        sql += &format!("UPDATE events SET {column} = {value} WHERE id = '{}';", id(n));
    }
    sql + &format!("UPDATE sessions SET start_time = 20250102 WHERE id = '{}';", id(2))
}
