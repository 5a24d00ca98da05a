//! Moving databases with the program: files and databases with rows, exports, imports, and what they hold then.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use super::cluster::{Cluster, Database};
use super::files::{fixture, sqlite_from, workdir};
use super::program::{Output, Program};

/// The databases and archives of one test.
pub(crate) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// A scratch for a test.
    pub(crate) fn new(test_name: &str) -> Scratch {
        Scratch { folder: workdir(test_name) }
    }

    /// The path of a file on it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new SQLite file from fixtures, with what the SQL puts into it.
    #[track_caller]
    pub(crate) fn sqlite(&self, name: &str, fixtures: &[&str], sql: &str) -> String {
        let path = self.path(name);
        sqlite_from(fixtures, &path, "delete");
        let file = words(&path).to_owned();
        fill(&file, sql);
        file
    }

    /// Exports a database into a new archive.
    #[track_caller]
    pub(crate) fn export(&self, from: &str) -> PathBuf {
        let count = std::fs::read_dir(self.folder.path()).expect("the folder").count();
        let archive = self.path(&format!("{count}.ndjson.zst"));
        Program::new(["export", from, "--force", "--output", words(&archive)]).run().success();
        archive
    }

    /// Moves a database into another one.
    #[track_caller]
    pub(crate) fn shift(&self, from: &str, to: &str, options: &[&str]) -> Output {
        import(&self.export(from), to, options)
    }
}

/// A new Postgres database from a fixture, with what the SQL puts into it.
#[track_caller]
pub(crate) fn postgres(layout: &str, test_name: &str, sql: &str) -> Database {
    let database = Cluster::get().database(test_name);
    database.apply_file(fixture(layout));
    database.psql(sql);
    database
}

/// Imports an archive; what the options do not say is refused.
#[track_caller]
pub(crate) fn import(archive: &Path, to: &str, options: &[&str]) -> Output {
    Program::new(
        ["import", words(archive), "--to", to, "--strict", "--trust-zone"].iter().chain(options),
    )
    .run()
}

/// Runs SQL in a file that enforces nothing.
#[track_caller]
pub(crate) fn fill(file: &str, sql: &str) {
    let run = || {
        let database = Connection::open(file)?;
        database
            .execute_batch("PRAGMA foreign_keys = off; PRAGMA ignore_check_constraints = on;")?;
        database.execute_batch(sql)
    };
    run().unwrap_or_else(|error: rusqlite::Error| panic!("{file}: {error}\n{sql}"));
}

/// The rows of a query in a file: `|` between values, NULL is nothing, blobs are `x'..'`.
#[track_caller]
pub(crate) fn ask(file: &str, query: &str) -> String {
    use rusqlite::types::ValueRef;
    let run = || -> rusqlite::Result<String> {
        let database = Connection::open(file)?;
        let mut statement = database.prepare(query)?;
        let width = statement.column_count();
        let (mut rows, mut lines) = (statement.query([])?, Vec::new());
        while let Some(row) = rows.next()? {
            let mut values = Vec::new();
            for n in 0..width {
                values.push(match row.get_ref(n)? {
                    ValueRef::Null => String::new(),
                    ValueRef::Integer(v) => v.to_string(),
                    ValueRef::Real(v) => format!("{v:?}"),
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    ValueRef::Blob(bytes) => format!("x'{bytes:02x?}'"),
                });
            }
            lines.push(values.join("|"));
        }
        Ok(lines.join("\n"))
    };
    run().unwrap_or_else(|error| panic!("{file}: {error}\n{query}"))
}

/// The JSON of a run's stdout.
#[track_caller]
pub(crate) fn json_of(output: &Output) -> Value {
    serde_json::from_str(output.text()).expect("one JSON object")
}

/// A path as text.
pub(crate) fn words(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The records of an archive's stream, as `cat` prints them.
#[track_caller]
pub(crate) fn records(archive: &Path, stream: &str) -> Vec<Value> {
    let output = Program::new(["cat", "--stream", stream, words(archive)]).run().success();
    let read = |line: &str| serde_json::from_str(line).expect("a record");
    output.text().lines().map(read).collect()
}

/// A UUID that ends with a number.
pub(crate) fn id(number: u32) -> String {
    format!("0000000a-0000-4000-8000-{number:012}")
}

/// A session of the hooks.
pub(crate) fn session(number: u32) -> String {
    format!(
        "INSERT INTO sessions (id, claude_session_id, start_time, project_path, created_at, updated_at) \
         VALUES ('{}', 'cs-{number}', '2025-08-19T10:00:00Z', '/home/kim/tea', '2025-08-19 10:00:00', \
         '2025-08-19 10:00:01');",
        id(number)
    )
}

/// An event of the hooks; its number orders it, too.
pub(crate) fn event(number: u32, session: u32, event_type: &str) -> String {
    format!(
        "INSERT INTO events (id, session_id, event_type, timestamp, data, tool_name, created_at) \
         VALUES ('{}', '{}', '{event_type}', '2025-08-19T10:00:{number:02}Z', '{{\"n\": {number}}}', \
         'Bash', '2025-08-19 10:00:00');",
        id(number),
        id(session)
    )
}
