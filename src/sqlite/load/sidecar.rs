//! What the tables cannot hold of their rows, on its way into our own two tables.

use rusqlite::{Connection, OptionalExtension};

use super::loading::SqliteLoading;
use crate::error::{Code, Result};
use crate::load::{Rejected, Rows};
use crate::plan::{Plan, UnmappedPlan};
use crate::sidecar::{COLUMNS, SIDECAR, SidecarEntry, conflicting_original, joined};
use crate::sqlite::{failed, time_text};

impl SqliteLoading {
    /// Stores whole rows; those that exist already stay unchanged, as in a table.
    pub(super) fn write_whole(
        &mut self,
        unmapped: &UnmappedPlan,
        rows: &Rows<'_>,
        refused: &[Rejected],
    ) -> Result<()> {
        let loaded = &mut self.streams[rows.stream].loaded;
        let (all, mut new) = (rows.whole_rows.len() as u64, 0);
        for entry in rows.whole_rows {
            new += u64::from(join_entry(&self.db.connection, &unmapped.table_name, entry)?);
        }
        loaded.inserted_rows += new;
        loaded.skipped_rows += all.saturating_sub(new);
        for entry in rows.also_whole.iter().filter(|e| !refused.iter().any(|r| r.row == e.row)) {
            join_entry(&self.db.connection, &unmapped.table_name, entry)?;
        }
        Ok(())
    }

    /// Stores the entries of rows that were just written: `refused` ones do not exist, `present`
    /// ones were there before.
    pub(super) fn store_sidecar(
        &mut self,
        name: &str,
        rows: &Rows<'_>,
        refused: &[Rejected],
        present: &[usize],
    ) -> Result<()> {
        if rows.sidecar.is_empty() {
            return Ok(());
        }
        let cannot = |e| failed(Code::Target, "cannot write the sidecar table", e);
        if !self.sidecar {
            // only now: a database that needs no table of ours gets none
            note_columns(&self.db.connection, &self.plan).map_err(cannot)?;
            self.sidecar = true;
        }
        let lost = |row: usize| refused.iter().any(|r| r.row == row);
        let new = rows.sidecar.iter().filter(|r| !lost(r.row) && !present.contains(&r.row));
        store(&self.db.connection, name, new).map_err(cannot)?;
        for entry in rows.sidecar.iter().filter(|r| present.contains(&r.row)) {
            join_entry(&self.db.connection, name, entry)?;
        }
        Ok(())
    }
}

/// Makes our own tables where they are missing, and notes the columns that the archive has.
pub(super) fn note_columns(connection: &Connection, plan: &Plan) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {SIDECAR} (table_name TEXT NOT NULL, key TEXT NOT NULL, \
             entry TEXT NOT NULL, PRIMARY KEY (table_name, key)) WITHOUT ROWID; \
         CREATE TABLE IF NOT EXISTS {COLUMNS} (table_name TEXT NOT NULL, name TEXT NOT NULL, \
             place INTEGER NOT NULL, kind TEXT NOT NULL, time_text TEXT NOT NULL, \
             PRIMARY KEY (table_name, name)) WITHOUT ROWID;"
    ))?;
    let sql = format!("INSERT OR IGNORE INTO {COLUMNS} VALUES (?, ?, ?, ?, ?)");
    let mut insert = connection.prepare(&sql)?;
    for (table, place, column) in plan.original_columns() {
        let place = i64::try_from(place).unwrap_or(i64::MAX);
        let time_text = time_text(column.time_text);
        insert.execute((table, &column.name, place, column.kind.word(), time_text))?;
    }
    Ok(())
}

/// Deletes the entries of our own tables for a table without rows: those rows are gone, perhaps with the whole
/// table.
pub(super) fn forget_gone_rows(connection: &Connection, table: &str) -> rusqlite::Result<()> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?)";
    for own in [SIDECAR, COLUMNS] {
        if connection.query_row(exists, [own], |row| row.get(0))? {
            connection.execute(&format!("DELETE FROM {own} WHERE table_name = ?"), [table])?;
        }
    }
    Ok(())
}

/// Joins the stored entry of an existing row with the one that arrives with it; true if
/// nothing was stored before.
pub(super) fn join_entry(
    connection: &Connection,
    table: &str,
    entry: &SidecarEntry,
) -> Result<bool> {
    let cannot = |e| failed(Code::Target, "cannot write the sidecar table", e);
    let sql = format!("SELECT entry FROM {SIDECAR} WHERE table_name = ? AND key = ?");
    let stored: Option<String> = (connection.prepare_cached(&sql))
        .and_then(|mut found| found.query_row((table, &entry.key), |row| row.get(0)).optional())
        .map_err(cannot)?;
    let is_new = stored.is_none();
    let text = match stored {
        None => Some(entry.text.clone()),
        Some(stored) => joined(&stored, &entry.text)
            .map_err(|column| conflicting_original(table, &entry.key, &column))?,
    };
    if let Some(text) = text {
        let entry = SidecarEntry { text, ..entry.clone() };
        store(connection, table, std::iter::once(&entry)).map_err(cannot)?;
    }
    Ok(is_new)
}

/// Stores what the table cannot hold of rows.
pub(super) fn store<'a>(
    connection: &Connection,
    table: &str,
    entries: impl Iterator<Item = &'a SidecarEntry>,
) -> rusqlite::Result<()> {
    let sql = format!("INSERT OR REPLACE INTO {SIDECAR} VALUES (?, ?, ?)");
    let mut insert = connection.prepare_cached(&sql)?;
    for entry in entries {
        insert.execute((table, &entry.key, &entry.text))?;
    }
    Ok(())
}
