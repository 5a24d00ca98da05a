//! Opening a SQLite file for one consistent reading that never holds up its writers.
//!
//! A file in WAL mode is read in place: its readers and writers do not wait for each other. In
//! every other journal mode a reader would stop the writers for as long as it reads, so the file
//! is first copied by SQLite's online backup, in slices between which the lock is let go. What
//! cannot be opened read-only without changing it (a hot journal to roll back, a WAL in a
//! directory that we cannot write) is copied to a private place and opened there.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::{extended_code, failed};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::record::show_path;

/// How long we wait for a lock that a writer holds.
pub const BUSY: Duration = Duration::from_secs(10);
/// The pages of one slice of a backup: 16 MiB of 4 KiB pages, some tens of milliseconds.
const SLICE: i32 = 4096;
/// How often a backup may start anew because the file was written meanwhile, before it takes the
/// lock for one pass.
const RESTARTS: u32 = 5;
/// What SQLite keeps beside a database file.
const BESIDE: [&str; 3] = ["", "-wal", "-journal"];

/// A connection that sees one moment of a database, in a read transaction that is open already.
pub struct Snapshot {
    /// The connection.
    pub connection: Connection,
    /// How it had to be opened, if that is worth a word.
    pub notice: Option<String>,
}

/// Opens a snapshot of the file at `path`.
///
/// # Errors
/// If there is no such file, it is not a SQLite database, or it stays locked.
pub fn open(path: &Path, cancel: &Cancel) -> Result<Snapshot> {
    let path = resolve(path)?;
    let head = Head::read(&path)?;
    let mut snapshot = if head.empty {
        Err(Error::new(Code::Layout, "this is no Chronicle database: the file is empty"))
    } else if head.wal {
        in_place(&path).or_else(|e| private_copy(&path, e, cancel))
    } else {
        backup(&path, cancel).or_else(|e| private_copy(&path, e, cancel))
    }?;
    let stop = cancel.clone();
    // looked at every ten thousand steps of SQLite's machine: often enough to feel immediate
    (snapshot.connection.progress_handler(10_000, Some(move || stop.is_set())))
        .and_then(|()| harden(&snapshot.connection))
        .map_err(|e| failed(Code::Connect, "cannot open the database", e))?;
    Ok(snapshot)
}

/// A writable copy of the file at `path` as it is at one moment, which SQLite deletes by itself.
///
/// # Errors
/// As [`open`], or if there is no room for the copy.
pub(super) fn scratch(path: &Path, cancel: &Cancel) -> Result<Connection> {
    let Snapshot { connection, notice } = open(path, cancel)?;
    let copied = |e| failed(Code::Connect, "cannot copy the database", e);
    if notice.is_some() {
        // it is a private copy already
        connection.execute_batch("ROLLBACK").map_err(copied)?;
        return Ok(connection);
    }
    let mut copy = Connection::open("").map_err(copied)?;
    Backup::new(&connection, &mut copy)
        .and_then(|backup| run_backup(&backup, cancel))
        .map_err(copied)?;
    Ok(copy)
}

/// The file's absolute path: SQLite gives names like `:memory:` and `file:x` a meaning of its own.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let missing = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Code::NotFound, format!("{}: no such file", show_path(path.display())))
        }
        _ => Error::new(Code::NotFound, format!("{}: cannot be opened", show_path(path.display())))
            .because(e),
    };
    let resolved = fs::canonicalize(path).map_err(missing)?;
    if resolved.is_dir() {
        return Err(Error::new(
            Code::NotFound,
            format!("{} is a directory, not a database file", show_path(path.display())),
        ));
    }
    Ok(resolved)
}

/// What the first bytes of a database file say (<https://www.sqlite.org/fileformat.html>, 1.3).
pub(super) struct Head {
    pub(super) empty: bool,
    wal: bool,
}

impl Head {
    pub(super) fn read(path: &Path) -> Result<Head> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(100).read_to_end(&mut bytes))
            .map_err(|e| Error::new(Code::Connect, "the file cannot be read").because(e))?;
        let archive = bytes.starts_with(&[0x28, 0xB5, 0x2F, 0xFD])
            || bytes.starts_with(crate::archive::line::HEADER_PREFIX.as_bytes());
        if archive {
            return Err(Error::new(Code::Connect, "this is an archive, not a database").hint(
                "look into it with `chronicle-dump inspect`, load it with `chronicle-dump import`",
            ));
        }
        if !bytes.is_empty() && !bytes.starts_with(b"SQLite format 3\0") {
            return Err(Error::new(Code::Connect, "this is not a SQLite database")
                .hint("give Chronicle's .db file or a postgresql:// URL"));
        }
        // byte 19 is the version needed to read: 2 means write-ahead log
        Ok(Head { empty: bytes.is_empty(), wal: bytes.get(19) == Some(&2) })
    }
}

pub(super) fn harden(connection: &Connection) -> rusqlite::Result<()> {
    // the file may come from anywhere: nothing that its schema says is to be run
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.pragma_update(None, "cache_size", -8192)
}

pub(super) fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// Starts the read transaction: from here on the connection sees one moment.
fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN")?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

fn in_place(path: &Path) -> rusqlite::Result<Snapshot> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    begin(&connection)?;
    Ok(Snapshot { connection, notice: None })
}

/// Copies the file by SQLite's online backup into a temporary database that SQLite deletes by
/// itself, also when we are killed.
fn backup(path: &Path, cancel: &Cancel) -> rusqlite::Result<Snapshot> {
    let source = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // each try for a lock is short, so that a stop is seen soon
    source.busy_timeout(Duration::from_millis(100))?;
    // no name: a private file in the temporary directory that has no name either
    let mut copy = Connection::open("")?;
    let longest = {
        let backup = Backup::new(&source, &mut copy)?;
        run_backup(&backup, cancel)?
    };
    begin(&copy)?;
    let notice = format!(
        "copied the file first, since readers of its journal mode block writers; the longest time \
         without letting writers in was {} ms",
        longest.as_millis()
    );
    Ok(Snapshot { connection: copy, notice: Some(notice) })
}

/// Runs a backup to its end; returns the longest time that the lock was held.
fn run_backup(backup: &Backup<'_, '_>, cancel: &Cancel) -> rusqlite::Result<Duration> {
    let mut longest = Duration::ZERO;
    let mut waiting_since = Instant::now();
    let (mut restarts, mut left) = (0, i32::MAX);
    loop {
        if cancel.is_set() {
            return Err(rusqlite::Error::SqliteFailure(
                ffi::Error::new(ffi::SQLITE_INTERRUPT),
                None,
            ));
        }
        let started = Instant::now();
        let step = backup.step(if restarts > RESTARTS { -1 } else { SLICE })?;
        match step {
            StepResult::Done => return Ok(longest.max(started.elapsed())),
            StepResult::More => {
                longest = longest.max(started.elapsed());
                waiting_since = Instant::now();
                // fewer pages copied than before: SQLite began anew because the file was written
                let remaining = backup.progress().remaining;
                if remaining > left {
                    restarts += 1;
                }
                left = remaining;
                // a waiting writer holds SQLite's PENDING lock and so goes first
                std::thread::sleep(Duration::from_millis(1));
            }
            _ if waiting_since.elapsed() > BUSY => {
                return Err(rusqlite::Error::SqliteFailure(
                    ffi::Error::new(ffi::SQLITE_BUSY),
                    None,
                ));
            }
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Copies the file with what belongs to it, because it could not be opened read-only.
fn private_copy(path: &Path, refused: rusqlite::Error, cancel: &Cancel) -> Result<Snapshot> {
    let recoverable =
        matches!(refused.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
            || extended_code(&refused) == ffi::SQLITE_READONLY_ROLLBACK;
    if !recoverable {
        return Err(failed(Code::Connect, "cannot open the database", refused));
    }
    let directory = private_directory()?;
    let copy = directory.path().join("copy.db");
    copy_unchanged(path, &copy, cancel)?;
    let opened = connect(&copy, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|connection| begin(&connection).map(|()| connection));
    let connection = opened.map_err(|e| failed(Code::Connect, "cannot open a copy of it", e))?;
    // an open file needs no name; without one nothing is left behind when we are killed
    drop(directory);
    let notice = "read a private copy, since the file could not be opened without writing beside \
                  it (an unfinished transaction, or a directory that cannot be written)";
    Ok(Snapshot { connection, notice: Some(notice.into()) })
}

fn private_directory() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .prefix("chronicle-dump-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|e| Error::new(Code::Connect, "cannot make a temporary directory").because(e))
}

/// Copies until nothing changed meanwhile: what was copied then is of one moment.
fn copy_unchanged(path: &Path, copy: &Path, cancel: &Cancel) -> Result<()> {
    for _ in 0..RESTARTS {
        cancel.check()?;
        let before = BESIDE.map(|end| stamp(&beside(path, end)));
        for end in BESIDE {
            let (from, to) = (beside(path, end), beside(copy, end));
            let _ = fs::remove_file(&to);
            if from.exists() {
                fs::copy(&from, &to).map_err(|e| {
                    Error::new(Code::Connect, "cannot copy the database").because(e)
                })?;
            }
        }
        if before == BESIDE.map(|end| stamp(&beside(path, end))) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(Error::new(
        Code::Connect,
        "the database is being written and cannot be locked: its directory is not writable for us",
    )
    .hint("run as the user who owns the file, or try again when nobody writes"))
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn stamp(path: &Path) -> Option<(u64, Option<SystemTime>)> {
    let data = fs::metadata(path).ok()?;
    Some((data.len(), data.modified().ok()))
}
