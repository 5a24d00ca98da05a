//! The history of a SQLite file: two tables of our own, the batches and the pieces of their receipts, and the user's
//! own `migration_history` where there is one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};
use uuid::Uuid;

use super::snapshot::{BUSY, connect, harden};
use super::writable::require_writable;
use super::{failed, quoted};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::history::{
    BatchKind, BatchRecord, BatchStatus, Details, MIRROR, PartDigest, ReceiptsDigest,
    missing_of_mirror, not_mirrored,
};
use crate::notice::Notice;
use crate::undo::{DeletedRows, PIECE, verified};
use chronicle_archive::Written;

/// The batches.
const HISTORY: &str = "chronicle_dump_migration_history";
/// The pieces of their receipts.
const RECEIPTS: &str = "chronicle_dump_receipts";
/// The columns of that table which get a value.
const SEED: [&str; 10] = [
    "id",
    "migration_type",
    "source_backend",
    "target_backend",
    "batch_id",
    "records_migrated",
    "status",
    "error_message",
    "started_at",
    "completed_at",
];

fn cannot(e: rusqlite::Error) -> Error {
    failed(Code::Target, "cannot write the history", e)
}

/// SQL that is true if a value, as SQL, is the id of a batch in the history; none without our tables.
pub(super) fn is_own(connection: &Connection, value: &str) -> rusqlite::Result<Option<String>> {
    let there = connection.table_exists(Some("main"), HISTORY)?;
    Ok(there.then(|| format!("EXISTS (SELECT 1 FROM main.{HISTORY} AS h WHERE h.id = {value})")))
}

/// Makes the tables where they are missing.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {HISTORY} (id TEXT PRIMARY KEY, migration_type TEXT NOT NULL, \
             source_backend TEXT, target_backend TEXT, batch_id TEXT NOT NULL, \
             records_migrated INTEGER, status TEXT NOT NULL \
             CHECK (status IN ('started', 'completed', 'failed', 'rolled_back')), \
             error_message TEXT, started_at TEXT, completed_at TEXT, details TEXT NOT NULL); \
         CREATE TABLE IF NOT EXISTS {RECEIPTS} (batch_id TEXT NOT NULL, number INTEGER NOT NULL, \
             piece BLOB NOT NULL, PRIMARY KEY (batch_id, number)) WITHOUT ROWID;"
    ))
}

/// Enters a batch that begins, in a transaction of its own; batches that are `started` have ended unexpectedly,
/// since nobody else writes.
pub(super) fn start(
    connection: &Connection,
    record: &BatchRecord,
    write_lock: &WriteLock,
) -> Result<()> {
    let enter = || -> Result<()> {
        create(connection).map_err(cannot)?;
        let is_dead =
            |b: &BatchRecord| b.status == BatchStatus::Started && b.batch_id != record.batch_id;
        for mut dead in read(connection)?.into_iter().filter(is_dead) {
            dead.end_unexpectedly();
            put(connection, &dead)?;
        }
        if record.is_half() {
            require_half(connection, record)?;
        }
        put(connection, record)?;
        fault::point("history: in the start")
    };
    fault::point("history: before the start")?;
    write_lock.begin(connection)?;
    let entered = enter().and_then(|()| connection.execute_batch("COMMIT").map_err(cannot));
    if entered.is_err() {
        // the error has the reason
        let _ = connection.execute_batch("ROLLBACK");
    }
    entered.and_then(|()| fault::point("history: after the start"))
}

/// Requires that a batch which is committed in groups is as it was left.
pub(super) fn require_half(connection: &Connection, record: &BatchRecord) -> Result<()> {
    let history = read(connection)?;
    record.require_same_half(history.iter().find(|b| b.batch_id == record.batch_id))
}

/// How long a batch waits for whoever writes the file, and what ends it before.
#[derive(Debug, Clone, Default)]
pub(super) struct WriteLock {
    /// How long.
    pub(super) wait: Duration,
    /// A request to stop.
    pub(super) cancel: Cancel,
}

impl WriteLock {
    /// As long as is asked for, or as usual.
    pub(super) fn new(wait: Option<Duration>, cancel: &Cancel) -> WriteLock {
        WriteLock { wait: wait.unwrap_or(BUSY), cancel: cancel.clone() }
    }

    /// Starts a transaction that writes. SQLite itself would wait without looking at anything else.
    pub(super) fn begin(&self, connection: &Connection) -> Result<()> {
        const STEP: Duration = Duration::from_millis(50);
        if let Some(file) = connection.path().filter(|path| !path.is_empty()) {
            require_writable(Path::new(file))?;
        }
        let began = Instant::now();
        connection.busy_timeout(STEP).map_err(cannot)?;
        let begun = loop {
            let tried = connection.execute_batch("BEGIN IMMEDIATE");
            match tried {
                Err(e) if is_busy(&e) && began.elapsed() < self.wait => self.cancel.check()?,
                tried => break tried,
            }
        };
        connection.busy_timeout(self.wait).map_err(cannot)?;
        begun.map_err(|e| held(connection, e))
    }
}

fn is_busy(e: &rusqlite::Error) -> bool {
    e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// The error of a file that another process writes; it names the batch that does.
fn held(connection: &Connection, e: rusqlite::Error) -> Error {
    let error = failed(Code::Target, "cannot start to write", e);
    let started = read(connection).unwrap_or_default();
    match started.iter().rfind(|b| b.status == BatchStatus::Started) {
        Some(batch) => {
            let by = batch.details.process.as_ref();
            let by =
                by.map_or_else(String::new, |p| format!(" by process {} on {}", p.pid, p.host));
            error
                .at(format_args!("held by {batch}{by}"))
                .hint("wait until it has ended, or give it more time: --wait SECONDS")
        }
        None => error,
    }
}

/// Writes a batch as it is now, in the user's table, too; gives why that one refuses it.
pub(super) fn put(connection: &Connection, record: &BatchRecord) -> Result<Option<Notice>> {
    let details = serde_json::to_string(&record.details)
        .map_err(|e| Error::new(Code::Internal, "cannot describe the batch").because(e))?;
    let sql = format!(
        "INSERT INTO {HISTORY} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET source_backend = excluded.source_backend, \
             records_migrated = excluded.records_migrated, status = excluded.status, \
             error_message = excluded.error_message, completed_at = excluded.completed_at, \
             details = excluded.details"
    );
    let mut values = seed_values(record);
    values.push(SqlValue::Text(details));
    connection.execute(&sql, rusqlite::params_from_iter(values)).map_err(cannot)?;
    mirror(connection, record).map_err(cannot)
}

/// Says in the history of a file that a batch has failed. What the batch did is taken back already: if this cannot be
/// written, the next batch says it.
pub(super) fn note_failure(file: &Path, record: &BatchRecord) {
    let written = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(cannot);
    let _ = written.and_then(|connection| {
        harden(&connection).map_err(cannot)?;
        put(&connection, record).map(|_| ())
    });
}

fn seed_values(record: &BatchRecord) -> Vec<SqlValue> {
    let text = |text: &str| SqlValue::Text(text.to_owned());
    let maybe = |text: &Option<String>| text.clone().map_or(SqlValue::Null, SqlValue::Text);
    let id = record.batch_id.to_string();
    let rows = i64::try_from(record.records_migrated).unwrap_or(i64::MAX);
    vec![
        text(&id),
        text(record.kind.word()),
        maybe(&record.source_backend),
        text(&record.target_backend),
        text(&id),
        SqlValue::Integer(rows),
        text(record.status.word()),
        maybe(&record.error_message),
        text(&record.started_at),
        maybe(&record.completed_at),
    ]
}

/// Enters a batch into the user's own table, as far as it has the columns; whether it is refused does not matter, but is
/// said.
fn mirror(connection: &Connection, record: &BatchRecord) -> rusqlite::Result<Option<Notice>> {
    let mut columns = connection.prepare_cached("SELECT name FROM pragma_table_info(?)")?;
    let columns: Vec<String> =
        columns.query_map([MIRROR], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let has = |name: &str| columns.iter().any(|c| c.eq_ignore_ascii_case(name));
    if columns.is_empty() {
        return Ok(None);
    }
    let missing = missing_of_mirror(has);
    if !missing.is_empty() {
        return Ok(Some(not_mirrored(&format!("lacks {}", missing.join(", ")), HISTORY)));
    }
    let values = SEED.into_iter().zip(seed_values(record)).filter(|(name, _)| has(name));
    let (names, values): (Vec<&str>, Vec<SqlValue>) = values.unzip();
    let set: Vec<String> = names.iter().map(|name| format!("{} = ?", quoted(name))).collect();
    let id = record.batch_id.to_string();
    connection.execute_batch("SAVEPOINT mirror")?;
    let written = || -> rusqlite::Result<()> {
        let update = format!("UPDATE {MIRROR} SET {} WHERE batch_id = ?", set.join(", "));
        let all = values.iter().cloned().chain([SqlValue::Text(id)]);
        if connection.execute(&update, rusqlite::params_from_iter(all))? == 0 {
            let insert = format!(
                "INSERT INTO {MIRROR} ({}) VALUES ({})",
                names.join(", "),
                vec!["?"; names.len()].join(", ")
            );
            connection.execute(&insert, rusqlite::params_from_iter(values))?;
        }
        Ok(())
    };
    let refused = written().err();
    if refused.is_some() {
        connection.execute_batch("ROLLBACK TO mirror")?;
    }
    connection.execute_batch("RELEASE mirror")?;
    Ok(refused.map(|e| not_mirrored(&format!("refuses it: {e}"), HISTORY)))
}

/// The batches, the oldest first; none without our tables.
pub(super) fn read(connection: &Connection) -> Result<Vec<BatchRecord>> {
    let cannot = |e| failed(Code::Target, "cannot read the history", e);
    if !connection.table_exists(Some("main"), HISTORY).map_err(cannot)? {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT * FROM {HISTORY} ORDER BY id");
    let mut statement = connection.prepare(&sql).map_err(cannot)?;
    let rows = statement.query_map([], record).map_err(cannot)?;
    let rows: Vec<Option<BatchRecord>> = rows.collect::<rusqlite::Result<_>>().map_err(cannot)?;
    let unreadable = || {
        Error::new(Code::Source, format!("{HISTORY} has a row that cannot be read"))
            .hint("another program or a later version has written it")
    };
    rows.into_iter().map(|row| row.ok_or_else(unreadable)).collect()
}

fn record(row: &Row<'_>) -> rusqlite::Result<Option<BatchRecord>> {
    let text = |name: &str| row.get::<_, Option<String>>(name);
    let details: Option<Details> =
        text("details")?.and_then(|details| serde_json::from_str(&details).ok());
    let id = text("batch_id")?.and_then(|id| Uuid::from_str(&id).ok());
    let kind = text("migration_type")?.and_then(|word| BatchKind::from_word(&word));
    let status = text("status")?.and_then(|word| BatchStatus::from_word(&word));
    let (Some(details), Some(batch_id), Some(kind), Some(status)) = (details, id, kind, status)
    else {
        return Ok(None);
    };
    let rows: i64 = row.get("records_migrated")?;
    Ok(Some(BatchRecord {
        batch_id,
        kind,
        source_backend: text("source_backend")?,
        target_backend: text("target_backend")?.unwrap_or_default(),
        records_migrated: u64::try_from(rows).unwrap_or(0),
        status,
        error_message: text("error_message")?,
        started_at: text("started_at")?.unwrap_or_default(),
        completed_at: text("completed_at")?,
        details,
    }))
}

/// Stores receipts in pieces behind those of the batch, with the rows that it has deleted behind them, and reads all back.
pub(super) fn store_receipts(
    connection: &Connection,
    batch: Uuid,
    (file, written): (File, Written),
    mut deleted: Option<DeletedRows>,
) -> Result<ReceiptsDigest> {
    fault::point("receipts: before they are stored")?;
    let first = next_piece(connection, batch)?;
    let pieces = store_pieces(connection, batch, first, &file)?;
    if let Some(deleted) = &mut deleted {
        store_pieces(connection, batch, pieces, deleted.file()?)?;
    }
    fault::point("receipts: before they are read back")?;
    let not_stored = || {
        let what = "the receipts are not what was written; nothing was changed";
        Error::new(Code::Readback, what)
    };
    let digest = verified(Pieces::new(connection, batch, first, pieces))?;
    if digest != written.digest {
        return Err(not_stored());
    }
    let mut receipts = ReceiptsDigest::new(digest, written.compressed_bytes);
    receipts.deleted = match deleted {
        // their file is read back by itself: it is left to see that its very bytes are stored
        Some(mut deleted) => {
            let stored = Pieces::new(connection, batch, pieces, i64::MAX);
            if !same_bytes(stored, deleted.file()?)? {
                return Err(not_stored());
            }
            let Written { digest, compressed_bytes, .. } = deleted.written.clone();
            deleted.prove()?;
            receipts.bytes += compressed_bytes;
            Some(PartDigest { digest, bytes: compressed_bytes })
        }
        None => None,
    };
    fault::point("receipts: after they are read back")?;
    Ok(receipts)
}

/// The number of the next piece of a batch's receipts.
fn next_piece(connection: &Connection, batch: Uuid) -> Result<i64> {
    let sql = format!("SELECT coalesce(max(number) + 1, 0) FROM {RECEIPTS} WHERE batch_id = ?");
    connection
        .query_row(&sql, [batch.to_string()], |row| row.get(0))
        .map_err(|e| failed(Code::Target, "cannot write the receipts", e))
}

fn unreadable(e: std::io::Error) -> Error {
    Error::new(Code::Output, "the temporary file cannot be read").because(e)
}

/// Stores a file in pieces with numbers from one on; the number behind the last one.
fn store_pieces(connection: &Connection, batch: Uuid, from: i64, mut file: &File) -> Result<i64> {
    let cannot = |e| failed(Code::Target, "cannot write the receipts", e);
    let sql = format!("INSERT INTO {RECEIPTS} VALUES (?, ?, ?)");
    let batch = batch.to_string();
    let mut insert = connection.prepare(&sql).map_err(cannot)?;
    let (mut number, mut piece) = (from, Vec::with_capacity(PIECE));
    loop {
        piece.clear();
        let read = Read::by_ref(&mut file).take(PIECE as u64).read_to_end(&mut piece);
        if read.map_err(unreadable)? == 0 {
            return Ok(number);
        }
        insert.execute(params![batch, number, piece]).map_err(cannot)?;
        number += 1;
    }
}

/// Whether two inputs have the same bytes.
fn same_bytes(mut one: impl Read, mut other: impl Read) -> Result<bool> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    loop {
        a.clear();
        b.clear();
        Read::by_ref(&mut one).take(PIECE as u64).read_to_end(&mut a).map_err(unreadable)?;
        Read::by_ref(&mut other).take(PIECE as u64).read_to_end(&mut b).map_err(unreadable)?;
        if a != b || a.is_empty() {
            return Ok(a == b);
        }
    }
}

/// The receipts of a batch in a nameless temporary file.
pub(super) fn receipts(connection: &Connection, batch: Uuid) -> Result<File> {
    let cannot = |e| Error::new(Code::Output, "the receipts cannot be read").because(e);
    let mut file = tempfile::tempfile().map_err(cannot)?;
    let mut pieces = Pieces::new(connection, batch, 0, i64::MAX);
    std::io::copy(&mut pieces, &mut file).map_err(cannot)?;
    file.flush().and_then(|()| file.seek(SeekFrom::Start(0))).map_err(cannot)?;
    Ok(file)
}

/// Removes the receipts of a batch, and says so in the history.
pub(super) fn prune(connection: &Connection, batch: &BatchRecord) -> Result<()> {
    let sql = format!("DELETE FROM {RECEIPTS} WHERE batch_id = ?");
    connection.execute(&sql, [batch.batch_id.to_string()]).map_err(cannot)?;
    let mut record = batch.clone();
    if let Some(receipts) = &mut record.details.receipts {
        receipts.pruned = true;
    }
    put(connection, &record).map(|_| ())
}

/// Pieces of a batch's receipts, one after the other.
struct Pieces<'c> {
    connection: &'c Connection,
    batch: String,
    next: i64,
    end: i64,
    piece: std::io::Cursor<Vec<u8>>,
}

impl<'c> Pieces<'c> {
    fn new(connection: &'c Connection, batch: Uuid, next: i64, end: i64) -> Pieces<'c> {
        let piece = std::io::Cursor::default();
        Pieces { connection, batch: batch.to_string(), next, end, piece }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = self.piece.read(buffer)?;
            if read > 0 || buffer.is_empty() || self.next >= self.end {
                return Ok(read);
            }
            let sql = format!("SELECT piece FROM {RECEIPTS} WHERE batch_id = ? AND number = ?");
            let piece: Option<Vec<u8>> = (self.connection.prepare_cached(&sql))
                .and_then(|mut find| {
                    find.query_row(params![self.batch, self.next], |row| row.get(0)).optional()
                })
                .map_err(std::io::Error::other)?;
            let Some(piece) = piece else { return Ok(0) };
            self.next += 1;
            self.piece = std::io::Cursor::new(piece);
        }
    }
}
