//! Opening a SQLite file for one consistent reading that never holds up its writers.
//!
//! A file in WAL mode is read in place: its readers and writers do not wait for each other. In
//! every other journal mode a reader would stop the writers for as long as it reads, so the file
//! is first copied, under SQLite's own lock and in slices between which the lock is let go; where the
//! file system shares blocks between files, the copy takes neither time nor room. What cannot be opened read-only without changing it (a hot journal to roll back, a WAL in a
//! directory that we cannot write) is copied to a private place and opened there.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::{extended_code, failed};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result, is_full};
use crate::notice::{Notice, NoticeKind};
use crate::temporary::{self, Registered};
use chronicle_archive::show_path;

/// How long we wait for a lock that a writer holds.
pub const BUSY: Duration = Duration::from_secs(10);
/// How long a copy holds the lock before it lets writers in.
const SLICE: Duration = Duration::from_millis(20);
/// What is copied before the time is looked at, in bytes.
const STEP: u64 = 4 << 20;
/// The pages that are copied before a stop is looked for.
const PAGES: i32 = 4096;
/// How often a copy may restart because the file was written meanwhile, before it keeps the
/// lock for one pass.
const RESTARTS: u32 = 5;
/// The files that SQLite keeps next to a database file.
const SUFFIXES: [&str; 3] = ["", "-wal", "-journal"];

/// A connection that sees one moment of a database, in a read transaction that is open already.
pub struct Snapshot {
    /// The connection.
    pub connection: Connection,
    /// How it had to be opened, if that is worth a word.
    pub notice: Option<Notice>,
}

/// Opens a snapshot of the file at `path`.
///
/// # Errors
/// If there is no such file, it is not a SQLite database, or it stays locked.
pub fn open(path: &Path, cancel: &Cancel) -> Result<Snapshot> {
    let path = resolve(path)?;
    let head = Head::read(&path)?;
    let mut snapshot = if head.empty {
        Err(Error::new(Code::Layout, "not a Chronicle database: the file is empty"))
    } else if head.wal {
        in_place(&path).or_else(|e| private_copy(&path, e, cancel))
    } else {
        locked_copy(&path, cancel)
    }?;
    let stop = cancel.clone();
    // looked at every ten thousand steps of SQLite's machine: often enough to feel immediate
    (snapshot.connection.progress_handler(10_000, Some(move || stop.is_set())))
        .and_then(|()| harden(&snapshot.connection))
        .map_err(|e| failed(Code::Connect, "cannot open the database", e))?;
    Ok(snapshot)
}

/// A writable copy of the file at `path` at one moment, which SQLite deletes by itself.
///
/// # Errors
/// As [`open`], or if there is no room for the copy.
pub(super) fn scratch(path: &Path, cancel: &Cancel) -> Result<Connection> {
    let Snapshot { connection, .. } = open(path, cancel)?;
    let copied = |e: rusqlite::Error| match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            temporary::no_room(&temporary::sqlite_folder(), Some(size(path)))
        }
        _ => failed(Code::Connect, "cannot copy the database", e),
    };
    let mut copy = Connection::open("").map_err(copied)?;
    {
        let backup = Backup::new(&connection, &mut copy).map_err(copied)?;
        // what we read does not change meanwhile: nothing restarts, and nobody waits for us
        while backup.step(PAGES).map_err(copied)? != StepResult::Done {
            cancel.check()?;
        }
    }
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
    require_file(&resolved).map_err(|e| e.at(show_path(path.display())))?;
    Ok(resolved)
}

/// Refuses what is no plain file, before it is opened: opening a pipe waits for its other end.
pub(super) fn require_file(path: &Path) -> Result<()> {
    let Ok(data) = path.metadata() else { return Ok(()) };
    let kind = data.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    let error = Error::new(Code::NotFound, format!("this is {what}, not a database file"));
    Err(match kind.is_fifo() {
        true => {
            error.hint("only an archive comes through a pipe: chronicle-dump import PIPE --to …")
        }
        false => error,
    })
}

/// What the first bytes of a database file say (<https://www.sqlite.org/fileformat.html>, 1.3).
pub(super) struct Head {
    pub(super) empty: bool,
    wal: bool,
}

impl Head {
    pub(super) fn read(path: &Path) -> Result<Head> {
        require_file(path)?;
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(100).read_to_end(&mut bytes))
            .map_err(|e| Error::new(Code::Connect, "the file cannot be read").because(e))?;
        let archive = bytes.starts_with(&[0x28, 0xB5, 0x2F, 0xFD])
            || bytes.starts_with(chronicle_archive::control::HEADER_PREFIX.as_bytes());
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
    // the file may come from anywhere: no code of its schema may run
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.pragma_update(None, "cache_size", -4096)?;
    super::add_functions(connection)
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

/// Copies the file while SQLite's lock keeps its writers out, slice by slice; they are let in
/// between two slices, and if one has written, the copy restarts.
fn locked_copy(path: &Path, cancel: &Cancel) -> Result<Snapshot> {
    // closed after the connection that locks: with any handle of a file its locks go too
    let from = File::open(path).map_err(not_copied)?;
    let source = match connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY) {
        Ok(source) => source,
        Err(refused) => return private_copy(path, refused, cancel),
    };
    if let Some((directory, place, to)) = sharing_place(path) {
        if let Err(refused) = lock(&source, cancel)? {
            return private_copy(path, refused, cancel);
        }
        let shared = rustix::fs::ioctl_ficlone(&to, &from);
        let unlocked = source.execute_batch("COMMIT");
        unlocked.map_err(|e| failed(Code::Connect, "cannot open the database", e))?;
        if shared.is_ok() {
            return open_copy(directory, &place, None);
        }
    }
    let directory = Private::in_folder(&temporary::folder())?;
    let place = directory.path().join("copy.db");
    require_room(path)?;
    let to = File::create_new(&place).map_err(not_copied)?;
    let mut copy = Copy { from, to, stamp: None };
    let (mut longest, mut restarts) = (Duration::ZERO, 0);
    loop {
        if let Err(refused) = lock(&source, cancel)? {
            return private_copy(path, refused, cancel);
        }
        let locked = Instant::now();
        if copy.is_wal().map_err(not_copied)? {
            // somebody has changed its journal mode just now
            return in_place(path).or_else(|e| private_copy(path, e, cancel));
        }
        restarts += u32::from(copy.restart_if_written().map_err(not_copied)?);
        let slice = if restarts > RESTARTS { Duration::MAX } else { SLICE };
        let more = copy.advance(slice, cancel).map_err(|e| for_want_of_room(e, path))?;
        let unlocked = source.execute_batch("COMMIT");
        unlocked.map_err(|e| failed(Code::Connect, "cannot open the database", e))?;
        longest = longest.max(locked.elapsed());
        if !more {
            break;
        }
        // a waiting writer holds SQLite's PENDING lock and so goes first
        std::thread::sleep(Duration::from_millis(1));
    }
    let notice = format!(
        "reading from a temporary copy; writers were blocked for {} ms at most",
        longest.as_millis()
    );
    open_copy(directory, &place, Some(Notice::new(NoticeKind::TemporaryCopy, notice)))
}

/// A new file beside a database whose file system shares blocks between files, if it is of such a
/// kind.
#[cfg(target_os = "linux")]
fn sharing_place(path: &Path) -> Option<(Private, PathBuf, File)> {
    /// btrfs, XFS and bcachefs (<https://man7.org/linux/man-pages/man2/statfs.2.html>)
    const SHARING: [u64; 3] = [0x9123_683e, 0x5846_5342, 0xca45_1a4e];
    let kind = rustix::fs::statfs(path).ok()?.f_type;
    if !u64::try_from(kind).is_ok_and(|kind| SHARING.contains(&kind)) {
        return None;
    }
    let directory = Private::in_folder(path.parent()?).ok()?;
    let place = directory.path().join("copy.db");
    let file = File::create_new(&place).ok()?;
    Some((directory, place, file))
}

/// Where the system has no call for it, nothing is shared.
#[cfg(not(target_os = "linux"))]
fn sharing_place(_: &Path) -> Option<(Private, PathBuf, File)> {
    None
}

/// The bytes of a database file with what belongs to it.
fn size(path: &Path) -> u64 {
    let size = |end: &&str| fs::metadata(with_suffix(path, end)).map_or(0, |data| data.len());
    SUFFIXES.iter().map(size).sum()
}

/// Refuses a copy that will not fit, before it is begun.
fn require_room(path: &Path) -> Result<()> {
    let (folder, needed) = (temporary::folder(), size(path));
    match temporary::free_bytes(&folder) {
        Some(free) if free < needed => Err(temporary::no_room(&folder, Some(needed))),
        _ => Ok(()),
    }
}

/// The error of a copy: that there is no room for it is told with the size that it needs.
fn for_want_of_room(error: Error, path: &Path) -> Error {
    match error.is_full() {
        true => temporary::no_room(&temporary::folder(), Some(size(path))),
        false => error,
    }
}

/// Starts a read transaction, which keeps writers out; what is not a lock of theirs is in the inner
/// result.
fn lock(source: &Connection, cancel: &Cancel) -> Result<rusqlite::Result<()>> {
    let started = Instant::now();
    loop {
        cancel.check()?;
        // each try is short, so that a stop is seen soon
        let begun = source.busy_timeout(Duration::from_millis(100)).and_then(|()| begin(source));
        let Err(refused) = begun else { return Ok(Ok(())) };
        let busy = refused.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        if !busy || started.elapsed() > BUSY {
            return Ok(Err(refused));
        }
        // the transaction is open though it holds no lock
        let _ = source.execute_batch("ROLLBACK");
    }
}

/// A file and how far it is copied.
struct Copy {
    from: File,
    to: File,
    /// The file's header when the copy began.
    stamp: Option<[u8; 16]>,
}

impl Copy {
    /// Whether the file is in WAL mode by now.
    fn is_wal(&self) -> io::Result<bool> {
        let mut version = [0];
        self.from.read_exact_at(&mut version, 19)?;
        Ok(version == [2])
    }

    /// Goes back to the start if the file was written since; true if it had to. As SQLite itself
    /// does it: the bytes from 24 on count the transactions and the pages (1.3.7 of its format).
    fn restart_if_written(&mut self) -> io::Result<bool> {
        let mut stamp = [0; 16];
        self.from.read_exact_at(&mut stamp, 24)?;
        let written = self.stamp.is_some_and(|before| before != stamp);
        if written {
            self.from.rewind()?;
            self.to.rewind()?;
            self.to.set_len(0)?;
        }
        self.stamp = Some(stamp);
        Ok(written)
    }

    /// Copies for about as long as it may; false if that was the rest.
    fn advance(&mut self, time: Duration, cancel: &Cancel) -> Result<bool> {
        let started = Instant::now();
        while started.elapsed() < time {
            cancel.check()?;
            // by the kernel, where it can: then no byte comes through here
            let mut step = (&self.from).take(STEP);
            if io::copy(&mut step, &mut self.to).map_err(not_copied)? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
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
    let directory = Private::in_folder(&temporary::folder())?;
    let copy = directory.path().join("copy.db");
    require_room(path)?;
    copy_unchanged(path, &copy, cancel).map_err(|e| for_want_of_room(e, path))?;
    let notice = "reading from a temporary copy: the file has an unfinished transaction, or its \
         directory cannot be written";
    open_copy(directory, &copy, Some(Notice::new(NoticeKind::TemporaryCopy, notice)))
}

fn open_copy(directory: Private, copy: &Path, notice: Option<Notice>) -> Result<Snapshot> {
    let connection = connect(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|connection| begin(&connection).map(|()| connection))
        .map_err(|e| failed(Code::Connect, "cannot open a copy of it", e))?;
    // an open file needs no name; without one nothing is left behind when we are killed
    drop(directory);
    Ok(Snapshot { connection, notice })
}

fn not_copied(error: io::Error) -> Error {
    Error::new(Code::Connect, "cannot copy the database").because(error)
}

/// A folder that only we can read, which goes away with the value, whatever ends the process.
struct Private {
    folder: tempfile::TempDir,
    _registered: Registered,
}

impl Private {
    fn in_folder(folder: &Path) -> Result<Private> {
        use std::os::unix::fs::PermissionsExt;
        let made = tempfile::Builder::new()
            .prefix(".chronicle-dump-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(folder);
        let folder = made.map_err(|e| match is_full(&e) {
            true => temporary::no_room(folder, None),
            false => {
                let shown = show_path(folder.display());
                Error::new(Code::Output, format!("{shown}: cannot create a temporary folder"))
                    .hint("name a folder that can be written: TMPDIR=FOLDER")
                    .because(e)
            }
        })?;
        let registered = Registered::new(folder.path());
        Ok(Private { folder, _registered: registered })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Copies until nothing changed meanwhile: what was copied then is of one moment.
fn copy_unchanged(path: &Path, copy: &Path, cancel: &Cancel) -> Result<()> {
    for _ in 0..RESTARTS {
        cancel.check()?;
        let before = SUFFIXES.map(|end| stamp(&with_suffix(path, end)));
        for end in SUFFIXES {
            let (from, to) = (with_suffix(path, end), with_suffix(copy, end));
            let _ = fs::remove_file(&to);
            if from.exists() {
                fs::copy(&from, &to).map_err(not_copied)?;
            }
        }
        if before == SUFFIXES.map(|end| stamp(&with_suffix(path, end))) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(Error::new(
        Code::Connect,
        "the database is being written and cannot be locked: its directory is not writable",
    )
    .hint("run as the user who owns the file, or try again when nobody writes"))
}

/// The file that SQLite keeps next to a database under this ending.
pub(super) fn with_suffix(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn stamp(path: &Path) -> Option<(u64, Option<SystemTime>)> {
    let data = fs::metadata(path).ok()?;
    Some((data.len(), data.modified().ok()))
}
