//! A SQLite file whose history is read and whose batches are undone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::BoxFuture;
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use super::history::{self, WriteLock};
use super::noting::{Deleted, Noting, sequence};
use super::snapshot::{self, connect, harden, resolve};
use super::undo::{SqliteUndo, rehearsed, set_sequence};
use super::writable::require_writable;
use super::{CACHE_KIB, failed, quoted};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::history::BatchRecord;
use crate::notice::Notice;
use crate::undo::{AddedColumn, HistoryDatabase, Shape, ShapeReference, UndoSql, Undoing};

fn cannot(e: rusqlite::Error) -> Error {
    failed(Code::Target, "cannot undo the batch", e)
}

/// The history of a file.
pub struct SqliteHistory {
    connection: Connection,
    file: PathBuf,
    write_lock: WriteLock,
}

impl SqliteHistory {
    /// Opens a file for reading, or for undoing batches.
    ///
    /// # Errors
    /// If there is no such file, or it cannot be opened.
    pub fn open(
        path: &Path,
        writes: bool,
        wait: Option<Duration>,
        cancel: &Cancel,
    ) -> Result<SqliteHistory> {
        let file = resolve(path)?;
        snapshot::Head::read(&file)?;
        let cannot = |e| failed(Code::Connect, "cannot open the database", e);
        let mut connection = match writes {
            true => connect(&file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(cannot)?,
            false => readable(&file, cancel)?,
        };
        let prepare = || -> rusqlite::Result<()> {
            harden(&connection)?;
            connection.pragma_update(None, "foreign_keys", false)?;
            connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
            wait.map_or(Ok(()), |wait| connection.busy_timeout(wait))
        };
        prepare().map_err(cannot)?;
        let stop = cancel.clone();
        let handler = Some(move || stop.is_set());
        connection.progress_handler(10_000, handler).map_err(cannot)?;
        Ok(SqliteHistory { connection, file, write_lock: WriteLock::new(wait, cancel) })
    }

    fn begin_now(self, rollback: Option<&BatchRecord>, shape: &Shape) -> Result<SqliteUndoing> {
        let connection = self.connection;
        let Some(record) = rollback else {
            require_writable(&self.file)?;
            connection.execute_batch("BEGIN").map_err(cannot)?;
            let returning = dropped_columns(&connection, shape).map_err(cannot)?;
            rehearse(&connection, shape, &returning).map_err(cannot)?;
            return Ok(SqliteUndoing {
                connection,
                returning,
                noting: None,
                deleted: Deleted::None,
                dropped: Vec::new(),
                record: None,
            });
        };
        history::start(&connection, record, &self.write_lock)?;
        self.write_lock.begin(&connection)?;
        let added = add_dropped(&connection, shape).map_err(cannot)?;
        // entries of a table that was emptied since are listed one by one
        let tables: Vec<(String, Vec<String>)> =
            shape.tables.iter().map(|t| (t.name.clone(), Vec::new())).collect();
        let mut noting = Noting::start(&connection, &tables)?;
        noting.added = added;
        let moved = shape.sequences.iter().map(|moved| moved.name.as_str());
        noting.note_sequences(&connection, moved).map_err(cannot)?;
        let noting = Some((noting, references(shape)));
        let record = Some((record.clone(), self.file));
        let deleted = Deleted::None;
        Ok(SqliteUndoing {
            connection,
            returning: Vec::new(),
            noting,
            deleted,
            dropped: Vec::new(),
            record,
        })
    }
}

/// A connection that only reads: in place if that changes nothing, else over a copy.
fn readable(file: &Path, cancel: &Cancel) -> Result<Connection> {
    let opened = connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(|connection| {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    });
    match opened {
        Ok(connection) => Ok(connection),
        Err(_) => snapshot::open(file, cancel).map(|snapshot| snapshot.connection),
    }
}

/// The columns that a rollback has dropped, which is undone now, unless they are there again.
fn dropped_columns(connection: &Connection, shape: &Shape) -> rusqlite::Result<Vec<AddedColumn>> {
    let mut dropped = Vec::new();
    for column in shape.added_columns.iter().filter(|c| c.dropped) {
        if !connection.column_exists(Some("main"), &column.table, &column.column)? {
            dropped.push(column.clone());
        }
    }
    Ok(dropped)
}

/// Makes views of tables with columns that would come back.
fn rehearse(
    connection: &Connection,
    shape: &Shape,
    returning: &[AddedColumn],
) -> rusqlite::Result<()> {
    for table in &shape.tables {
        let of_table = returning.iter().filter(|column| column.table == table.name);
        let nothing = of_table.map(|c| format!("NULL AS {}", quoted(&c.column)));
        let nothing: Vec<String> = nothing.collect();
        if nothing.is_empty() {
            continue;
        }
        let rowid = table.columns.iter().find(|c| c.rowid).map(|c| quoted(&c.name));
        let rowid = rowid.map_or_else(String::new, |name| format!("t.{name} AS {name}, "));
        let sql = format!(
            "CREATE TEMP VIEW {} AS SELECT {rowid}t.*, {} FROM main.{} AS t",
            quoted(&rehearsed(&table.name)),
            nothing.join(", "),
            quoted(&table.name)
        );
        connection.execute_batch(&sql)?;
    }
    Ok(())
}

/// Adds columns again that a rollback has dropped; gives them as added.
fn add_dropped(connection: &Connection, shape: &Shape) -> rusqlite::Result<Vec<AddedColumn>> {
    let mut added = Vec::new();
    for column in dropped_columns(connection, shape)? {
        let (table, name) = (quoted(&column.table), quoted(&column.column));
        let sql = format!("ALTER TABLE {table} ADD COLUMN {name} {}", column.ty);
        connection.execute_batch(&sql)?;
        added.push(AddedColumn { dropped: false, ..column });
    }
    Ok(added)
}

/// The references of a shape, each with the table that it refers to.
fn references(shape: &Shape) -> Vec<(String, ShapeReference)> {
    let of = |t: &crate::undo::ShapeTable| {
        t.referred.iter().map(|r| (t.name.clone(), r.clone())).collect::<Vec<_>>()
    };
    shape.tables.iter().flat_map(of).collect()
}

impl HistoryDatabase for SqliteHistory {
    fn notices(&self) -> Vec<Notice> {
        Vec::new()
    }

    fn history(&mut self) -> BoxFuture<'_, Result<Vec<BatchRecord>>> {
        let read = history::read(&self.connection);
        Box::pin(async { read })
    }

    fn receipts(&mut self, batch: Uuid) -> BoxFuture<'_, Result<File>> {
        let read = history::receipts(&self.connection, batch);
        Box::pin(async { read })
    }

    fn prune<'a>(&'a mut self, batches: &'a [BatchRecord]) -> BoxFuture<'a, Result<()>> {
        let prune = || -> Result<()> {
            let cannot = |e| failed(Code::Target, "cannot remove the receipts", e);
            self.write_lock.begin(&self.connection)?;
            batches.iter().try_for_each(|batch| history::prune(&self.connection, batch))?;
            self.connection.execute_batch("COMMIT").map_err(cannot)
        };
        let pruned = prune();
        Box::pin(async { pruned })
    }

    fn begin<'a>(
        self: Box<Self>,
        rollback: Option<&'a BatchRecord>,
        shape: &'a Shape,
    ) -> BoxFuture<'a, Result<Box<dyn Undoing>>> {
        Box::pin(async move { Ok(Box::new(self.begin_now(rollback, shape)?) as Box<dyn Undoing>) })
    }
}

/// The transaction of a rollback.
struct SqliteUndoing {
    connection: Connection,
    /// Of a rehearsal, the columns that would come back.
    returning: Vec<AddedColumn>,
    /// What the rollback changes, and what refers to its tables; nothing of a rehearsal.
    noting: Option<(Noting, Vec<(String, ShapeReference)>)>,
    /// The rows that it deletes.
    deleted: Deleted,
    /// The columns that go when the receipts are written.
    dropped: Vec<AddedColumn>,
    /// The batch and its file; none of a rehearsal.
    record: Option<(BatchRecord, PathBuf)>,
}

impl SqliteUndoing {
    fn undo_objects_now(&mut self, shape: &Shape) -> rusqlite::Result<Shape> {
        let at_first: &[(String, Option<i64>)] =
            self.noting.as_ref().map_or(&[], |(noting, _)| &noting.sequences);
        // SQLite enters a number for every INSERT, even one of no rows
        for (table, _) in at_first.iter().filter(|(_, before)| before.is_none()) {
            if sequence(&self.connection, table)? == Some(0) {
                self.connection.execute_batch(&set_sequence(table, None))?;
            }
        }
        // the rows that came back may have moved a number that nobody else has moved since
        for moved in &shape.sequences {
            let is_untouched = |(name, number): &(String, Option<i64>)| {
                *name == moved.name && *number == moved.after
            };
            if at_first.iter().any(is_untouched) {
                self.connection.execute_batch(&set_sequence(&moved.name, moved.before))?;
            }
        }
        for column in shape.added_columns.iter().filter(|c| !c.dropped) {
            self.dropped.push(AddedColumn { dropped: true, ..column.clone() });
        }
        Ok(Shape { added_columns: self.dropped.clone(), ..Shape::default() })
    }

    fn commit_now(self) -> Result<()> {
        let cannot = |e| failed(Code::Target, "cannot commit, nothing was changed", e);
        let committed = fault::point("commit: before")
            .and_then(|()| self.connection.execute_batch("COMMIT").map_err(cannot));
        match committed {
            Ok(()) => fault::point("commit: after"),
            Err(error) => Err(self.give_up(error)),
        }
    }

    /// Takes everything back, and says in the history why.
    fn give_up(self, error: Error) -> Error {
        let SqliteUndoing { connection, record, .. } = self;
        // this rolls back
        drop(connection);
        if let Some((mut record, file)) = record {
            record.fail(&error.full());
            history::note_failure(&file, &record);
        }
        error
    }

    fn drop_columns(&self) -> rusqlite::Result<()> {
        for column in &self.dropped {
            let (table, name) = (quoted(&column.table), quoted(&column.column));
            let sql = format!("ALTER TABLE {table} DROP COLUMN {name}");
            self.connection.execute_batch(&sql)?;
        }
        Ok(())
    }

    async fn seal_now(
        &mut self,
        rollback: &mut BatchRecord,
        others: &[BatchRecord],
        objects: Shape,
    ) -> Result<()> {
        let Some((noting, references)) = &self.noting else { return Ok(()) };
        let deleted = std::mem::take(&mut self.deleted);
        noting.seal(&mut self.connection, rollback, references, Some(objects), deleted).await?;
        self.drop_columns().map_err(cannot)?;
        others.iter().try_for_each(|other| history::put(&self.connection, other).map(|_| ()))
    }
}

impl Undoing for SqliteUndoing {
    fn history(&mut self) -> BoxFuture<'_, Result<Vec<BatchRecord>>> {
        let read = match self.record {
            Some(_) => history::read(&self.connection),
            None => Ok(Vec::new()),
        };
        Box::pin(async { read })
    }

    fn sql(&mut self) -> Box<dyn UndoSql + '_> {
        let deletes = self.noting.as_ref().map(|(noting, _)| (noting, &mut self.deleted));
        Box::new(SqliteUndo {
            connection: &mut self.connection,
            deletes,
            returning: &self.returning,
        })
    }

    fn undo_objects<'a>(&'a mut self, shape: &'a Shape) -> BoxFuture<'a, Result<Shape>> {
        let undone = self.undo_objects_now(shape).map_err(cannot);
        Box::pin(async { undone })
    }

    fn seal<'a>(
        &'a mut self,
        rollback: &'a mut BatchRecord,
        others: &'a [BatchRecord],
        shape: Shape,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.seal_now(rollback, others, shape))
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.commit_now() })
    }

    fn abort(self: Box<Self>, error: Option<Error>) -> BoxFuture<'static, Option<Error>> {
        // dropped, it rolls back
        let error = error.map(|error| self.give_up(error));
        Box::pin(async { error })
    }
}
