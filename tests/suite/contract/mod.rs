//! What an import does, and above all what it refuses: one contract for both kinds of database.

mod batches;
mod between_groups;
mod columns;
mod conflicts;
mod content;
mod groups;
mod later;
mod mirror;
mod moved;
mod orphans;
mod parts;
mod postgres;
mod refused;
mod restore;
mod several;
mod shared;
mod side_by_side;
mod sqlite;
mod taken;
mod undo;
mod walked;
mod writes;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::cluster::{ADMIN, Cluster, Database, OWNER, PASSWORD, SUPA};
use super::support::files::{
    assert_same_rows, fixture, postgres_dump, sqlite_dump, sqlite_from, workdir,
};
use super::support::migrate::ask;
use super::support::program::{Output, Program, as_anybody, mode, program_for_anybody};

/// Each law as two tests, one for each kind of database.
macro_rules! both {
    ($($law:ident)*) => {
        mod sqlite {
            $(#[test]
            fn $law() {
                super::$law(super::Backend::Sqlite);
            })*
        }
        mod postgres {
            $(#[test]
            fn $law() {
                super::$law(super::Backend::Postgres);
            })*
        }
    };
}
use both;

/// Which kind of database a law is tried with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Sqlite,
    Postgres,
}

/// A database of the layout that `--create` makes there, and the folder of its test.
struct Store {
    folder: TempDir,
    place: Place,
}

enum Place {
    File(PathBuf),
    Server(Database),
}

impl Backend {
    /// An empty database.
    #[track_caller]
    fn make(self, test_name: &str) -> Store {
        let store = self.nothing(test_name);
        match &store.place {
            Place::File(path) => sqlite_from(&["sqlite-hooks.sql"], path, "delete"),
            Place::Server(database) => database.apply_file(fixture("postgres-upstream.sql")),
        }
        store
    }

    /// A database that `--create` has yet to make.
    fn nothing(self, test_name: &str) -> Store {
        let folder = workdir(test_name);
        let place = match self {
            Backend::Sqlite => Place::File(folder.path().join("target.db")),
            Backend::Postgres => Place::Server(Cluster::get().database(test_name)),
        };
        Store { folder, place }
    }

    fn sessions(self) -> &'static str {
        match self {
            Backend::Sqlite => "sessions",
            Backend::Postgres => "chronicle_sessions",
        }
    }

    fn events(self) -> &'static str {
        match self {
            Backend::Sqlite => "events",
            Backend::Postgres => "chronicle_events",
        }
    }
}

impl Store {
    fn url(&self) -> String {
        match &self.place {
            Place::File(path) => path.to_str().expect("a path in UTF-8").to_owned(),
            Place::Server(database) => database.url(),
        }
    }

    #[track_caller]
    fn dump(&self) -> Vec<String> {
        match &self.place {
            Place::File(path) => sqlite_dump(path),
            Place::Server(database) => postgres_dump(database),
        }
    }

    #[track_caller]
    fn run(&self, sql: &str) {
        match &self.place {
            Place::File(path) => fill(path, sql),
            Place::Server(database) => drop(database.psql(sql)),
        }
    }

    /// The one value that a query gives, as text.
    #[track_caller]
    fn one(&self, sql: &str) -> String {
        match &self.place {
            Place::File(path) => {
                let connection = Connection::open(path).expect("the file");
                let text = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
                match connection.query_row(sql, [], text).expect(sql) {
                    rusqlite::types::Value::Text(text) => text,
                    rusqlite::types::Value::Integer(number) => number.to_string(),
                    other => format!("{other:?}"),
                }
            }
            Place::Server(database) => database.psql(sql),
        }
    }

    /// The server's database.
    #[track_caller]
    fn server(&self) -> &Database {
        match &self.place {
            Place::Server(database) => database,
            Place::File(path) => panic!("{} is on no server", path.display()),
        }
    }

    /// An archive of a hooks file with these rows.
    #[track_caller]
    fn archive(&self, sql: &str) -> PathBuf {
        archive_of(self.folder.path(), &["sqlite-hooks.sql"], sql)
    }

    #[track_caller]
    fn import(&self, archive: &Path, options: &[&str]) -> Output {
        import(archive, &self.url(), options)
    }

    /// Panics unless there is nothing: no file and no unfinished one, or no table.
    #[track_caller]
    fn is_nothing(&self) {
        match &self.place {
            Place::File(_) => {
                let names: Vec<String> = fs::read_dir(self.folder.path())
                    .expect("the folder")
                    .map(|entry| {
                        entry.expect("an entry").file_name().to_string_lossy().into_owned()
                    })
                    .filter(|name| name.starts_with("target"))
                    .collect();
                assert_eq!(names, Vec::<String>::new());
            }
            Place::Server(database) => {
                let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
                assert_eq!(database.psql(tables), "0");
            }
        }
    }
}

/// Runs SQL in a file; it may break a CHECK, as other programs' rows do.
#[track_caller]
fn fill(path: &Path, sql: &str) {
    let run = || {
        let database = Connection::open(path)?;
        database
            .execute_batch("PRAGMA foreign_keys = off; PRAGMA ignore_check_constraints = on;")?;
        database.execute_batch(sql)
    };
    run().unwrap_or_else(|error: rusqlite::Error| panic!("{}: {error}\n{sql}", path.display()));
}

/// An archive of a new SQLite file with these tables and rows.
#[track_caller]
fn archive_of(folder: &Path, fixtures: &[&str], sql: &str) -> PathBuf {
    let made =
        tempfile::Builder::new().prefix("source-").tempdir_in(folder).expect("a folder").keep();
    let path = made.join("source.db");
    sqlite_from(fixtures, &path, "delete");
    fill(&path, sql);
    let archive = made.join("archive.ndjson.zst");
    let export: [&std::ffi::OsStr; 4] =
        ["export".as_ref(), path.as_os_str(), "-o".as_ref(), archive.as_os_str()];
    Program::new(export).run().success();
    archive
}

fn importing(archive: &Path, to: &str, options: &[&str]) -> Program {
    let start: [&std::ffi::OsStr; 5] =
        ["import".as_ref(), "--strict".as_ref(), archive.as_os_str(), "--to".as_ref(), to.as_ref()];
    options.iter().fold(Program::new(start), |program, option| program.arg(*option))
}

#[track_caller]
fn import(archive: &Path, to: &str, options: &[&str]) -> Output {
    importing(archive, to, options).run()
}

/// The JSON of a run's stdout.
#[track_caller]
fn json_of(output: &Output) -> Value {
    serde_json::from_str(output.text()).expect("one JSON object")
}

/// A UUID that ends with a number.
fn id(number: u32) -> String {
    format!("0000000a-0000-4000-8000-{number:012}")
}

fn session(number: u32, claude: &str) -> String {
    session_of(&id(number), claude)
}

fn session_of(id: &str, claude: &str) -> String {
    format!(
        "INSERT INTO sessions (id, claude_session_id, start_time, project_path, created_at, updated_at) \
         VALUES ('{id}', '{claude}', '2025-08-19T10:00:00Z', '/home/kim/greenhouse', '2025-08-19 10:00:00', \
         '2025-08-19 10:00:00');"
    )
}

/// An event; its number orders it, too.
fn event(number: u32, session: u32, event_type: &str, duration: &str) -> String {
    event_at(number, session, event_type, &format!("2025-08-19T10:00:{number:02}Z"), duration)
}

fn event_at(number: u32, session: u32, event_type: &str, time: &str, duration: &str) -> String {
    format!(
        "INSERT INTO events (id, session_id, event_type, timestamp, data, tool_name, duration_ms, created_at) \
         VALUES ('{}', '{}', '{event_type}', '{time}', '{{\"a\": {number}}}', 'Bash', {duration}, \
         '2025-08-19 10:00:00');",
        id(number),
        id(session)
    )
}

/// Two sessions and three events that every target takes.
fn good() -> String {
    session(1, "cs-1")
        + &session(2, "cs-2")
        + &event(11, 1, "pre_tool_use", "NULL")
        + &event(12, 1, "post_tool_use", "12")
        + &event(13, 2, "stop", "NULL")
}

fn bad_last_event() -> String {
    good() + &event(14, 2, "notification", "-1")
}

/// Chronicle's own layout on the server, owned by this role.
#[track_caller]
fn server_of(owner: &str, test_name: &str) -> Store {
    let database = Cluster::get().database_of(owner, test_name);
    database.apply_file(fixture("postgres-upstream.sql"));
    Store { folder: workdir(test_name), place: Place::Server(database) }
}
