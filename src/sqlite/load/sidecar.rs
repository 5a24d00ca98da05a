//! What the tables cannot hold of their rows, on its way into our own two tables.

use rusqlite::{Connection, OptionalExtension};

use super::SqliteTarget;
use super::loading::{Done, SqliteLoading, Written};
use crate::error::{Code, Result};
use crate::load::{Cause, Decision, Rejected, Rows};
use crate::plan::{Plan, TablePlan, UnmappedPlan};
use crate::policy::{OnConflict, OwnRows};
use crate::sidecar::{
    COLUMNS, NAMELESS, SIDECAR, SidecarEntry, exactly, joined, replaced, without,
};
use crate::sqlite::{failed, time_text};

impl SqliteLoading {
    /// Stores whole rows. Those that exist already stay unchanged, as in a table, unless the policy
    /// replaces them.
    pub(super) fn write_whole(
        &mut self,
        unmapped: &UnmappedPlan,
        rows: &Rows<'_>,
        refused: &[Rejected],
    ) -> Result<()> {
        let progress = &mut self.streams[rows.stream];
        let (name, policy) = (&unmapped.table_name, unmapped.on_conflict);
        for entry in rows.whole_rows {
            progress.note_entry(&self.db.connection, &entry.key)?;
            match join_entry(&self.db.connection, name, entry, policy)? {
                Joined::New => progress.loaded.inserted_rows += 1,
                Joined::Same => progress.loaded.skipped_rows += 1,
                Joined::Kept => progress.loaded.conflicting_rows += 1,
                Joined::Updated => progress.loaded.updated_rows += 1,
                Joined::Refused(cause) => {
                    progress.conflicts.note(&unmapped.stream, cause, &entry.key);
                }
            }
        }
        for entry in rows.also_whole.iter().filter(|e| !refused.iter().any(|r| r.row == e.row)) {
            progress.note_entry(&self.db.connection, &entry.key)?;
            if let Joined::Refused(cause) = join_entry(&self.db.connection, name, entry, policy)? {
                progress.conflicts.note(&unmapped.stream, cause, &entry.key);
            }
        }
        Ok(())
    }

    /// Stores the entries of rows that were just written.
    pub(super) fn store_sidecar(
        &mut self,
        stream: &TablePlan,
        rows: &Rows<'_>,
        written: &[Written],
    ) -> Result<()> {
        let cannot = |e| failed(Code::Target, "cannot write the sidecar table", e);
        let name = &stream.table_name;
        if self.sidecar || self.db.has_sidecar().map_err(cannot)? {
            self.forget_replaced(stream, rows, written).map_err(cannot)?;
            if self.plan.options.own_rows == OwnRows::Replaced {
                self.replace_entries(stream, rows, written).map_err(cannot)?;
            }
        }
        if rows.sidecar.is_empty() {
            return Ok(());
        }
        if !self.sidecar {
            // only now: a database that needs no table of ours gets none
            note_columns(&self.db.connection, &self.plan).map_err(cannot)?;
            self.sidecar = true;
        }
        let connection = &self.db.connection;
        let is_new = |entry: &&SidecarEntry| {
            matches!(written.get(entry.row), Some((Done::Inserted | Done::Updated, None)))
        };
        store(connection, name, rows.sidecar.iter().filter(is_new)).map_err(cannot)?;
        let conflicts = &mut self.streams[rows.stream].conflicts;
        for entry in rows.sidecar.iter().filter(|entry| !is_new(entry)) {
            let Some((Done::Present | Done::Updated, other_key)) = written.get(entry.row) else {
                continue;
            };
            let Some(entry) = under_key(entry, other_key.as_deref(), stream) else { continue };
            let joined = join_entry(connection, name, &entry, stream.on_conflict)?;
            if let Joined::Refused(cause) = joined {
                conflicts.note(&stream.stream, cause, &entry.key);
            }
        }
        Ok(())
    }

    /// Makes the entries of rows that are equal what the archive says; values by default stay, of which it knows nothing.
    fn replace_entries(
        &self,
        stream: &TablePlan,
        rows: &Rows<'_>,
        written: &[Written],
    ) -> rusqlite::Result<()> {
        for (row, (done, _)) in written.iter().enumerate() {
            if !matches!(done, Done::Present) {
                continue;
            }
            let key =
                crate::identity::key_text(stream.key.iter().map(|n| rows.rows.value(row, *n)));
            let Some(stored) = stored_entry(&self.db.connection, &stream.table_name, &key)? else {
                continue;
            };
            let arriving = rows.sidecar.iter().find(|entry| entry.row == row);
            let exact = exactly(&stored, arriving.map(|entry| entry.text.as_str()));
            if exact.as_ref() == Some(&stored) {
                continue;
            }
            let name = &stream.table_name;
            match exact {
                Some(text) => {
                    let entry = SidecarEntry { row, key, text };
                    store(&self.db.connection, name, std::iter::once(&entry))?;
                }
                None => {
                    let sql = format!("DELETE FROM {SIDECAR} WHERE table_name = ? AND key = ?");
                    self.db.connection.prepare_cached(&sql)?.execute((name, key))?;
                }
            }
        }
        Ok(())
    }

    /// Deletes the entries of rows that have new values: those belong to the old ones.
    fn forget_replaced(
        &self,
        stream: &TablePlan,
        rows: &Rows<'_>,
        written: &[Written],
    ) -> rusqlite::Result<()> {
        let sql = format!("DELETE FROM {SIDECAR} WHERE table_name = ? AND key = ?");
        for (row, (done, other_key)) in written.iter().enumerate() {
            // under another key, the entry says where the row itself comes from
            if !matches!(done, Done::Updated) || other_key.is_some() {
                continue;
            }
            let parts = stream.key.iter().map(|n| rows.rows.value(row, *n));
            let key = crate::identity::key_text(parts);
            self.db.connection.prepare_cached(&sql)?.execute((&stream.table_name, key))?;
        }
        Ok(())
    }
}

/// An entry as it belongs to a row that the target has under another key: without the ids that the row
/// has in the archive.
fn under_key(
    entry: &SidecarEntry,
    other_key: Option<&str>,
    stream: &TablePlan,
) -> Option<SidecarEntry> {
    let Some(key) = other_key else { return Some(entry.clone()) };
    let mut names = vec![NAMELESS.to_owned()];
    names.extend(stream.origin.clone());
    let own = stream.key.iter().map(|n| stream.columns[*n].name.clone());
    names.extend(own);
    let text = without(&entry.text, &names)?;
    Some(SidecarEntry { key: key.to_owned(), text, ..entry.clone() })
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

/// Whether one of our own tables exists.
fn exists(connection: &Connection, own: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?)";
    connection.prepare_cached(sql)?.query_row([own], |row| row.get(0))
}

impl SqliteTarget {
    /// Whether there is a sidecar table.
    pub(super) fn has_sidecar(&self) -> rusqlite::Result<bool> {
        exists(&self.connection, SIDECAR)
    }
}

/// Deletes the entries of our own tables for a table without rows: those rows are gone, perhaps with the whole
/// table.
pub(super) fn forget_gone_rows(connection: &Connection, table: &str) -> rusqlite::Result<()> {
    for own in [SIDECAR, COLUMNS] {
        if exists(connection, own)? {
            connection.execute(&format!("DELETE FROM {own} WHERE table_name = ?"), [table])?;
        }
    }
    Ok(())
}

/// Deletes the entry of a row.
pub(super) fn forget_entry(
    connection: &Connection,
    table: &str,
    key: &str,
) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM {SIDECAR} WHERE table_name = ? AND key = ?");
    connection.prepare_cached(&sql)?.execute((table, key)).map(|_| ())
}

/// The entry of a row.
pub(super) fn stored_entry(
    connection: &Connection,
    table: &str,
    key: &str,
) -> rusqlite::Result<Option<String>> {
    let sql = format!("SELECT entry FROM {SIDECAR} WHERE table_name = ? AND key = ?");
    connection.prepare_cached(&sql)?.query_row((table, key), |row| row.get(0)).optional()
}

/// What came of an entry that arrives for a row which may have one.
pub(super) enum Joined {
    /// There was none.
    New,
    /// It adds nothing that was stored otherwise.
    Same,
    /// What was stored otherwise stays.
    Kept,
    /// What was stored otherwise is replaced.
    Updated,
    /// Nothing decides which of two originals stays.
    Refused(Cause),
}

/// Joins the stored entry of an existing row with the one that arrives with it.
pub(super) fn join_entry(
    connection: &Connection,
    table: &str,
    entry: &SidecarEntry,
    policy: OnConflict,
) -> Result<Joined> {
    let cannot = |e| failed(Code::Target, "cannot write the sidecar table", e);
    let stored = stored_entry(connection, table, &entry.key).map_err(cannot)?;
    let Some(stored) = stored else {
        store(connection, table, std::iter::once(entry)).map_err(cannot)?;
        return Ok(Joined::New);
    };
    let (text, joined) = match joined(&stored, &entry.text) {
        Ok(text) => (text, Joined::Same),
        Err(column) => match Decision::of(policy, || None) {
            Decision::Refuse => return Ok(Joined::Refused(Cause::OriginalDiffers { column })),
            Decision::Keep => (None, Joined::Kept),
            Decision::Update => (Some(replaced(&stored, &entry.text)), Joined::Updated),
        },
    };
    if let Some(text) = text {
        let entry = SidecarEntry { text, ..entry.clone() };
        store(connection, table, std::iter::once(&entry)).map_err(cannot)?;
    }
    Ok(joined)
}

/// Stores what the table cannot hold of rows.
pub(super) fn store<'a>(
    connection: &Connection,
    table: &str,
    entries: impl Iterator<Item = &'a SidecarEntry>,
) -> rusqlite::Result<()> {
    // never OR REPLACE: what it deletes would be no one's to note
    let sql = format!(
        "INSERT INTO {SIDECAR} VALUES (?, ?, ?) \
         ON CONFLICT (table_name, key) DO UPDATE SET entry = excluded.entry"
    );
    let mut insert = connection.prepare_cached(&sql)?;
    for entry in entries {
        insert.execute((table, &entry.key, &entry.text))?;
    }
    Ok(())
}
