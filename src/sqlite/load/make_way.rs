//! Rows that have unique values which rows of the archive get: they give these up at once for values that nobody has, until
//! the archive says what they get instead.
//!
//! SQLite keeps values unique from row to row, and rows come in the archive's order. Where a batch leads is a legal state;
//! the way there must not matter. So which rows have only been in the way is known when all have come: those that are
//! still noted here have got nothing from the archive.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, ErrorCode, ffi, params_from_iter};

use super::conflict::Met;
use super::loading::{Progress, SqliteLoading};
use super::repoint::numbered;
use super::row::IncomingRow;
use crate::error::{Code, Error, Result};
use crate::load::Cause;
use crate::policy::OnConflict;
use crate::sqlite::catalog::UniqueKey;
use crate::sqlite::{extended_code, failed, quoted};

fn cannot(e: rusqlite::Error) -> Error {
    failed(Code::Target, "cannot move unique values from row to row", e)
}

/// The rows of a stream's table that have given up unique values and got none from the archive yet.
pub(super) struct Moved {
    /// The temporary table: their places, and which row of the archive has got which value of them.
    pub(super) name: String,
    /// Whether there is this table.
    pub(super) any: bool,
}

impl Moved {
    /// Nothing, of a stream.
    pub(super) fn of(number: usize) -> Moved {
        Moved { name: format!("temp.moved_{number}"), any: false }
    }

    fn create(&mut self, incoming: &IncomingRow<'_>) -> rusqlite::Result<()> {
        if self.any {
            return Ok(());
        }
        let name = self.name.trim_start_matches("temp.");
        let sql = format!(
            "CREATE TEMP TABLE {name} AS SELECT {}, '' AS taker, '' AS giver, 0 AS key \
               FROM {} AS t WHERE false; \
             CREATE INDEX temp.{name}_index ON {name} ({})",
            incoming.keys.places("t"),
            quoted(&incoming.table.name),
            numbered("p", incoming.keys.place_width())
        );
        incoming.connection.execute_batch(&sql)?;
        self.any = true;
        Ok(())
    }

    /// Notes that a row of the archive gets the values of a unique key from an existing row.
    fn note(&self, incoming: &IncomingRow<'_>, unique: usize, met: &Met) -> rusqlite::Result<()> {
        let values = vec!["?"; met.place.len() + 2].join(", ");
        let sql = format!("INSERT INTO {} VALUES ({values}, {unique})", self.name);
        let giver = met.known_as.as_ref().map(|(_, text)| SqlValue::Text(text.clone()));
        let rows = [SqlValue::Text(incoming.key()), giver.unwrap_or(SqlValue::Null)];
        let mut note = incoming.connection.prepare_cached(&sql)?;
        note.execute(params_from_iter(met.place.iter().chain(&rows))).map(|_| ())
    }

    /// Forgets a row that has got its values from the archive.
    pub(super) fn forget(&self, connection: &Connection, place: &[SqlValue]) -> Result<()> {
        if !self.any {
            return Ok(());
        }
        let same: Vec<String> = (0..place.len()).map(|n| format!("p{n} = ?")).collect();
        let sql = format!("DELETE FROM {} WHERE {}", self.name, same.join(" AND "));
        (connection.prepare_cached(&sql))
            .and_then(|mut forget| forget.execute(params_from_iter(place)))
            .map(|_| ())
            .map_err(cannot)
    }
}

impl Progress {
    /// Writes a row that others are in the way of, once these have given up the unique values that it gets, but for the
    /// row that it becomes. Gives why it cannot be written; then all is as before.
    pub(super) fn make_way<T>(
        &mut self,
        incoming: &IncomingRow<'_>,
        own: Option<&[SqlValue]>,
        write: impl FnOnce() -> Result<std::result::Result<T, Cause>>,
    ) -> Result<std::result::Result<T, Cause>> {
        let run = |sql: &str| incoming.connection.execute_batch(sql).map_err(cannot);
        self.moved.create(incoming).map_err(cannot)?;
        let deleted_rows = self.loaded.deleted_rows;
        run("SAVEPOINT make_way")?;
        let written = match self.move_others(incoming, own)? {
            Ok(()) => write()?,
            Err(cause) => Err(cause),
        };
        if written.is_err() {
            run("ROLLBACK TO make_way")?;
            self.loaded.deleted_rows = deleted_rows;
        }
        run("RELEASE make_way")?;
        Ok(written)
    }

    fn move_others(
        &mut self,
        incoming: &IncomingRow<'_>,
        own: Option<&[SqlValue]>,
    ) -> Result<std::result::Result<(), Cause>> {
        for (number, unique) in incoming.keys.unique.iter().enumerate() {
            let Some(met) = incoming.in_the_way(unique)? else { continue };
            if own == Some(&met.place) {
                continue;
            }
            let is_final = match &self.seen {
                Some(seen) => seen.has(incoming.connection, &met.place)?,
                None => self.has_loaded(incoming, &met.place)?,
            };
            let moves = !is_final && incoming.give_up(unique, &met.place).map_err(cannot)?;
            if moves {
                self.moved.note(incoming, number, &met).map_err(cannot)?;
            } else if self.seen.is_some() && !is_final {
                // only its key or its place could move, which say what row it is: the archive's with that key is new
                incoming.delete_at(&met.place).map_err(cannot)?;
                self.loaded.deleted_rows += 1;
            } else {
                return Ok(Err(taken(unique, met.known_as.map(|(_, text)| text))));
            }
        }
        Ok(Ok(()))
    }
}

fn taken(unique: &UniqueKey, by: Option<String>) -> Cause {
    Cause::Taken { columns: unique.columns.iter().map(|(name, _)| name.clone()).collect(), by }
}

impl IncomingRow<'_> {
    /// The row that has the values of a unique key which this one gets.
    fn in_the_way(&self, unique: &UniqueKey) -> Result<Option<Met>> {
        let columns = unique.columns.iter().map(|(name, _)| self.position(name));
        match columns.collect::<Option<Vec<usize>>>() {
            Some(columns) => self.find(&self.same_unique(unique, &columns), &columns),
            None => Ok(None),
        }
    }

    /// Has the row at a place give up its values of a unique key; whether it could.
    fn give_up(&self, unique: &UniqueKey, place: &[SqlValue]) -> rusqlite::Result<bool> {
        let decides = |column: usize| match self.stream.on_conflict {
            OnConflict::Newer => self.stream.changed == Some(column),
            _ => false,
        };
        let is_free = |column: &usize| {
            let target = self.stream.columns[*column].target;
            !self.stream.key.contains(column)
                && !self.keys.addresses_by(&self.table.columns[target].physical)
                && self.stream.batch != Some(*column)
                && !decides(*column)
        };
        let columns = unique.columns.iter().filter_map(|(name, _)| self.position(name));
        for column in columns.filter(is_free) {
            if self.give_up_column(&self.physical(column), place)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn give_up_column(&self, column: &str, place: &[SqlValue]) -> rusqlite::Result<bool> {
        // a STRICT table takes another value of the same class; no text of this kind is a number to SQLite
        let sql = format!(
            "UPDATE {} SET {column} = CASE typeof({column}) WHEN 'integer' THEN random() \
               WHEN 'real' THEN CAST(random() AS REAL) WHEN 'blob' THEN randomblob(16) \
               ELSE 'x' || hex(randomblob(16)) END WHERE {}",
            quoted(&self.table.name),
            self.keys.is_at_bound()
        );
        let connection = self.connection;
        let write = || connection.prepare_cached(&sql)?.execute(params_from_iter(place));
        let mut written = write();
        if let Err(e) = &written
            && extended_code(e) == ffi::SQLITE_CONSTRAINT_CHECK
        {
            // a CHECK holds for what the row gets in the end
            connection.pragma_update(None, "ignore_check_constraints", true)?;
            written = write();
            connection.pragma_update(None, "ignore_check_constraints", false)?;
        }
        match written {
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(false),
            written => written.map(|_| true),
        }
    }
}

impl SqliteLoading {
    /// Refuses the rows that have got unique values of rows which have got nothing from the archive: those keep theirs.
    pub(super) fn settle_moved(&mut self) -> Result<()> {
        let plan = self.plan.clone();
        for (number, stream) in plan.tables() {
            let progress = &mut self.streams[number];
            // of a restore, such rows are gone
            if !progress.moved.any || progress.seen.is_some() {
                continue;
            }
            let (connection, keys) = (&self.db.connection, &self.db.keys[stream.table]);
            for (n, unique) in keys.unique.iter().enumerate() {
                let sql =
                    format!("SELECT taker, giver FROM {} WHERE key = {n}", progress.moved.name);
                let mut left = connection.prepare(&sql).map_err(cannot)?;
                let mut left = left.query([]).map_err(cannot)?;
                while let Some(row) = left.next().map_err(cannot)? {
                    let (taker, giver): (String, Option<String>) =
                        row.get(0).and_then(|taker| Ok((taker, row.get(1)?))).map_err(cannot)?;
                    progress.conflicts.note(&stream.stream, taken(unique, giver), &taker);
                }
            }
        }
        Ok(())
    }
}
