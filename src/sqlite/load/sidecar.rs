//! What is kept beside the rows, on its way into our own two tables.

use rusqlite::{Connection, OptionalExtension};

use super::{SqliteTarget, not_begun};
use crate::error::{Code, Result};
use crate::load::{Purpose, Refused, Rows};
use crate::plan::{Plan, UnmappedPlan};
use crate::sidecar::{COLUMNS, SIDECAR, SidecarEntry, joined, kept_otherwise};
use crate::sqlite::failed;
use chronicle_archive::TimeText;

impl SqliteTarget {
    /// Stores rows whole; those that are there already stay as they are, as in a table.
    pub(super) fn write_whole(
        &mut self,
        unmapped: &UnmappedPlan,
        rows: &Rows<'_>,
        refused: &[Refused],
    ) -> Result<()> {
        let loading = self.loading.as_mut().ok_or_else(not_begun)?;
        let loaded = &mut loading.streams[rows.stream].loaded;
        let (all, mut new) = (rows.whole_rows.len() as u64, 0);
        if self.purpose == Purpose::Check {
            loaded.inserted_rows += all;
            return Ok(());
        }
        for entry in rows.whole_rows {
            new += u64::from(keep_again(&self.connection, &unmapped.table_name, entry)?);
        }
        loaded.inserted_rows += new;
        loaded.skipped_rows += all.saturating_sub(new);
        for entry in rows.also_whole.iter().filter(|e| !refused.iter().any(|r| r.row == e.row)) {
            keep_again(&self.connection, &unmapped.table_name, entry)?;
        }
        Ok(())
    }
}

/// Makes our own tables where they are missing, and notes the columns that are original_columns.
pub(super) fn remember(connection: &Connection, plan: &Plan) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {SIDECAR} (table_name TEXT NOT NULL, key TEXT NOT NULL, \
             sidecar TEXT NOT NULL, PRIMARY KEY (table_name, key)) WITHOUT ROWID; \
         CREATE TABLE IF NOT EXISTS {COLUMNS} (table_name TEXT NOT NULL, name TEXT NOT NULL, \
             place INTEGER NOT NULL, kind TEXT NOT NULL, instant INTEGER NOT NULL, \
             utc INTEGER NOT NULL, PRIMARY KEY (table_name, name)) WITHOUT ROWID;"
    ))?;
    let sql = format!("INSERT OR IGNORE INTO {COLUMNS} VALUES (?, ?, ?, ?, ?, ?)");
    let mut insert = connection.prepare(&sql)?;
    for (table, place, column) in plan.original_columns() {
        let place = i64::try_from(place).unwrap_or(i64::MAX);
        let kind = column.kind.word();
        let is_time = column.time_text.is_time();
        let is_utc = column.time_text == TimeText::Utc;
        insert.execute((table, &column.name, place, kind, is_time, is_utc))?;
    }
    Ok(())
}

/// Joins what is kept beside a row that is there already with what comes with it again; true if
/// nothing was kept before.
pub(super) fn keep_again(
    connection: &Connection,
    table: &str,
    kept: &SidecarEntry,
) -> Result<bool> {
    let cannot = |e| failed(Code::Target, "cannot write what is kept beside the rows", e);
    let sql = format!("SELECT sidecar FROM {SIDECAR} WHERE table_name = ? AND key = ?");
    let there: Option<String> = (connection.prepare_cached(&sql))
        .and_then(|mut found| found.query_row((table, &kept.key), |row| row.get(0)).optional())
        .map_err(cannot)?;
    let is_new = there.is_none();
    let text = match there {
        None => Some(kept.text.clone()),
        Some(there) => joined(&there, &kept.text)
            .map_err(|column| kept_otherwise(table, &kept.key, &column))?,
    };
    if let Some(text) = text {
        let kept = SidecarEntry { text, ..kept.clone() };
        keep(connection, table, std::iter::once(&kept)).map_err(cannot)?;
    }
    Ok(is_new)
}

/// Writes what is kept beside rows.
pub(super) fn keep<'a>(
    connection: &Connection,
    table: &str,
    sidecar: impl Iterator<Item = &'a SidecarEntry>,
) -> rusqlite::Result<()> {
    let sql = format!("INSERT OR REPLACE INTO {SIDECAR} VALUES (?, ?, ?)");
    let mut insert = connection.prepare_cached(&sql)?;
    for kept in sidecar {
        insert.execute((table, &kept.key, &kept.text))?;
    }
    Ok(())
}
