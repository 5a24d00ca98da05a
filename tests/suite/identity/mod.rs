//! Laws about ids, what refers to them, origins, types of events and orphans: the same thing becomes the same thing again.

mod duplicates;
mod event_types;
mod integers;
mod machines;
mod numbers;
mod orphans;
mod uuids;

use serde_json::json;

use crate::support::files::{assert_same_rows, postgres_dump, sqlite_dump};
use crate::support::migrate::{
    Scratch, ask, event, fill, id, import, json_of, postgres, records, session, words,
};
use crate::support::program::Program;

const HOOKS: &[&str] = &["sqlite-hooks.sql"];
const TUTORIAL: &[&str] = &["sqlite-seed.sql"];
/// What the two ends of the tutorial need of each other.
const TUTORIAL_OPTIONS: &[&str] = &["--on-missing-column=fold", "--on-unrepresentable=preserve"];

/// Sessions and events with integers as ids, in the tutorial's SQLite layout.
fn numbered(first: i64, project: &str) -> String {
    (first..first + 3)
        .map(|n| {
            format!(
                "INSERT INTO chronicle_sessions VALUES ({n}, '{project}', 'main', \
                   '2025-08-19T10:00:00Z', NULL, 'active', 1, '2025-08-19 10:00:00', '2025-08-19 10:00:01'); \
                 INSERT INTO chronicle_events VALUES ({}, {n}, 'prompt', '2025-08-19T10:00:0{}Z', \
                   '{{\"of\": \"{project}\"}}', '2025-08-19 10:00:00');",
                n + 100,
                n % 10
            )
        })
        .collect()
}

/// Chronicle's hooks and local server in one file.
const BOTH: &[&str] = &["sqlite-hooks.sql", "sqlite-server.sql"];
/// What such a file needs of a server.
const KEEPING: &[&str] = &["--on-missing-column=fold", "--on-unrepresentable=preserve"];

/// The tutorial's tables with numbers for ids, and no column for those of before, in Postgres.
const NUMBERED_SERVER: &str = "DROP TABLE chronicle_events, chronicle_sessions CASCADE; \
    CREATE TABLE chronicle_sessions (id bigint PRIMARY KEY, project_path text, \
        start_time timestamptz, status text); \
    CREATE TABLE chronicle_events (id bigint PRIMARY KEY, session_id bigint, type text, \
        timestamp timestamptz, data jsonb)";

/// A database, and how to ask it.
type Asked = (String, Box<dyn Fn(&str) -> String>);
