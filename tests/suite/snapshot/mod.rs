//! A SQLite or Postgres source is read as one moment, its writers go on, and not a byte of it changes.

#![allow(clippy::print_stdout, reason = "a test tells how long the writer waited")]

mod files;
mod moment;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value as Json;

use crate::archive::{Found, Owned, read};
use crate::support::cluster::Cluster;
use crate::support::files::{sqlite_from, workdir};
use crate::support::generate::hooks_database;
use crate::support::program::{Output, Program, as_anybody, mode, program_for_anybody};

/// The session whose metadata count its events.
const COUNTED: &str = "11111111-2222-4333-8444-555555555555";
/// A writer that waits longer than this for one insert is held up.
const HELD_UP: Duration = Duration::from_secs(2);
const SAMPLE: [&str; 2] = ["sqlite-hooks.sql", "sample-hooks.sql"];

// ---- what the tests look at ------------------------------------------------------------------

fn export<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Program {
    let words = args.into_iter().map(Into::into);
    Program::new(std::iter::once(OsString::from("export")).chain(words))
}

#[track_caller]
fn rows_of(output: &Output) -> BTreeMap<String, usize> {
    let found = read(output.stdout.as_slice()).unwrap();
    found.streams.iter().map(|s| s.name.clone()).zip(found.rows.iter().map(Vec::len)).collect()
}

/// The rows of the sample, and what a test added to its events.
fn sample_and(more_events: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([("sessions".into(), 8), ("events".into(), 120 + more_events)])
}

/// The values of a column, with the stream's ids.
fn column<'a>(found: &'a Found, stream: &str, column: &str) -> Vec<(String, &'a Owned)> {
    let at = found.streams.iter().position(|s| s.name == stream).unwrap();
    let (id, value) =
        (found.streams[at].column("id").unwrap(), found.streams[at].column(column).unwrap());
    found.rows[at].iter().map(|row| (text(&row[id]), &row[value])).collect()
}

fn text(value: &Owned) -> String {
    match value {
        Owned::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Owned::Uuid(bytes) => uuid::Uuid::from_bytes(*bytes).to_string(),
        other => format!("{other:?}"),
    }
}

/// The counter of the counted session and its events, from the archive.
fn counted(archive: &[u8], sessions: &str, events: &str) -> (u64, u64) {
    let found = read(archive).unwrap();
    let counters = column(&found, sessions, "metadata");
    let (_, metadata) = counters.iter().find(|(id, _)| id == COUNTED).unwrap();
    let metadata: Json = serde_json::from_str(&text(metadata)).unwrap();
    let refers = column(&found, events, "session_id");
    let has = refers.iter().filter(|(_, session)| text(session) == COUNTED).count();
    (metadata["count"].as_u64().unwrap(), has as u64)
}

/// Every file of a folder with its bytes and the time of its last change.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, i64, i64)> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let data = fs::metadata(&path).unwrap();
            (path.clone(), (fs::read(&path).unwrap(), data.mtime(), data.mtime_nsec()))
        })
        .collect()
}

#[track_caller]
fn assert_untouched(folder: &Path, before: &BTreeMap<PathBuf, (Vec<u8>, i64, i64)>) {
    let after = contents(folder);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "the files");
    for (path, was) in before {
        assert!(after[path] == *was, "{} was changed", path.display());
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

// ---- a writer that never stops ---------------------------------------------------------------

/// What a writer did.
#[derive(Debug, Default)]
struct Written {
    inserts: u64,
    longest: Duration,
}

// ---- what a writer left behind ----------------------------------------------------------------

/// Adds events to an open database.
fn add_events(database: &Connection, prefix: &str, count: usize, payload: &str) {
    let session: String =
        database.query_row("SELECT min(id) FROM sessions", [], |row| row.get(0)).unwrap();
    let mut insert = database
        .prepare(
            "INSERT INTO events (id, session_id, event_type, timestamp, data) \
             VALUES (?1, ?2, 'notification', '2025-09-08T09:58:05', ?3)",
        )
        .unwrap();
    for number in 0..count {
        let data = format!("{{\"text\": \"{payload}\"}}");
        insert.execute((format!("{prefix}-{number}"), &session, data)).unwrap();
    }
}

/// A WAL database whose last rows are in the -wal alone, as its open connection keeps it.
fn pending_wal(path: &Path) -> Connection {
    sqlite_from(&SAMPLE, path, "wal");
    let database = Connection::open(path).unwrap();
    database.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    add_events(&database, "pending", 7, "x");
    assert!(fs::metadata(beside(path, "-wal")).unwrap().len() > 0);
    database
}
