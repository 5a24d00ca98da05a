//! One row on its way into its table.

use rusqlite::types::{ToSqlOutput, Value as SqlValue};
use rusqlite::{CachedStatement, Connection, ErrorCode, ToSql, ffi, params_from_iter};

use super::batch::BatchColumn;
use super::keys::Keys;
use super::references::ReferenceCheck;
use crate::catalog::CatalogTable;
use crate::error::{Code, Error, Result};
use crate::load::bench_skip::{Step, skips};
use crate::load::{Cause, Rows};
use crate::plan::{TablePlan, key_of};
use crate::sqlite::{extended_code, failed, quoted, to_sqlite};
use chronicle_archive::{Batch, Value};

/// A value that binds itself.
pub(super) struct Bound<'a>(pub(super) Value<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(to_sqlite(self.0))
    }
}

pub(super) fn insert_sql(stream: &TablePlan, table: &CatalogTable, keys: &Keys) -> String {
    let columns: Vec<String> =
        stream.columns.iter().map(|c| quoted(&table.columns[c.target].physical)).collect();
    // never OR REPLACE: it deletes the row that is in the way, and with it its children
    format!(
        "INSERT INTO {} ({}) VALUES ({}){}{}",
        quoted(&table.name),
        columns.join(", "),
        vec!["?"; columns.len()].join(", "),
        if skips(Step::Conflicts) { "" } else { " ON CONFLICT DO NOTHING" },
        match keys.has_rowid {
            true => String::new(),
            false => format!(" RETURNING {}", keys.place_columns()),
        }
    )
}

/// The result of inserting a row.
pub(super) enum Inserted {
    /// It is at this place.
    At(Vec<SqlValue>),
    /// An existing row has one of its unique values.
    UniqueValueTaken,
    /// The database does not take it.
    Rejected(Cause),
}

/// One row on its way into its table.
pub(super) struct IncomingRow<'a> {
    pub(super) connection: &'a Connection,
    pub(super) stream: &'a TablePlan,
    pub(super) table: &'a CatalogTable,
    pub(super) keys: &'a Keys,
    pub(super) rows: &'a Rows<'a>,
    pub(super) row: usize,
    /// Its values, where references name existing rows by the keys that the target has for them.
    pub(super) batch: &'a Batch,
    pub(super) at: usize,
    pub(super) batch_column: Option<&'a BatchColumn>,
}

impl IncomingRow<'_> {
    pub(super) fn physical(&self, column: usize) -> String {
        let target = self.stream.columns[column].target;
        quoted(&self.table.columns[target].physical)
    }

    pub(super) fn value(&self, column: usize) -> Value<'_> {
        self.batch.value(self.at, column)
    }

    /// The key of the row in the archive.
    pub(super) fn key(&self) -> String {
        key_of(&self.stream.source, self.rows.source, self.rows.from[self.row])
    }

    /// The row's number in the archive and its key, for messages.
    fn described(&self) -> String {
        let number = self.rows.source.first_row() + self.rows.from[self.row] as u64;
        format!("{}: row {number} (key {})", self.table.name, self.key())
    }

    /// Whether any column of the key is NULL: then nothing keeps it unique.
    pub(super) fn key_is_null(&self) -> bool {
        self.stream.key.iter().any(|k| self.value(*k) == Value::Null)
    }

    /// Notes the place of the row, if its table holds rows of others, too.
    pub(super) fn note_loaded(&self, note: Option<&str>, place: &[SqlValue]) -> Result<()> {
        let Some(note) = note else { return Ok(()) };
        (self.connection.prepare_cached(note))
            .and_then(|mut note| note.execute(params_from_iter(place)))
            .map(|_| ())
            .map_err(|e| self.failed(e))
    }

    pub(super) fn failed(&self, cause: rusqlite::Error) -> Error {
        failed(Code::Target, format!("{}: cannot be written", self.described()), cause)
    }

    /// Inserts the row.
    pub(super) fn insert(&self, insert: &mut CachedStatement<'_>) -> Result<Inserted> {
        match self.insert_and_locate(insert) {
            Ok(Some(place)) => Ok(Inserted::At(place)),
            Ok(None) => Ok(Inserted::UniqueValueTaken),
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                let (words, columns) = (e.to_string(), self.columns_of(&e));
                Ok(Inserted::Rejected(Cause::Database { words, columns }))
            }
            Err(e) if extended_code(&e) == ffi::SQLITE_MISMATCH => {
                Ok(Inserted::Rejected(Cause::KeyIsNoInteger))
            }
            Err(e) => Err(self.failed(e)),
        }
    }

    /// The columns that an error of SQLite is about: it says a column, an expression, or the name of a
    /// constraint.
    pub(super) fn columns_of(&self, e: &rusqlite::Error) -> Vec<String> {
        let said = e.to_string();
        let named =
            self.keys.named_checks.iter().find(|(name, _)| said.ends_with(&format!(": {name}")));
        let words: Vec<&str> = match named {
            Some((_, words)) => words.iter().map(String::as_str).collect(),
            None => said.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect(),
        };
        let is_meant = |n: &usize| {
            let physical = &self.table.columns[self.stream.columns[*n].target].physical;
            words.iter().any(|word| word.eq_ignore_ascii_case(physical))
        };
        let columns = (0..self.stream.columns.len()).filter(is_meant);
        columns.map(|n| self.stream.columns[n].name.clone()).collect()
    }

    fn insert_and_locate(
        &self,
        insert: &mut CachedStatement<'_>,
    ) -> rusqlite::Result<Option<Vec<SqlValue>>> {
        for column in 0..self.stream.columns.len() {
            insert.raw_bind_parameter(column + 1, Bound(self.inserted(column)))?;
        }
        if self.keys.has_rowid {
            let inserted = insert.raw_execute()? > 0;
            let rowid = || vec![SqlValue::Integer(self.connection.last_insert_rowid())];
            return Ok(inserted.then(rowid));
        }
        let mut returned = insert.raw_query();
        let Some(place) = returned.next()? else { return Ok(None) };
        (0..self.keys.place_width())
            .map(|n| place.get(n))
            .collect::<rusqlite::Result<_>>()
            .map(Some)
    }

    /// Whether a row without a key was in the target, equal in every column, before this import.
    pub(super) fn was_there_before(&self, last_rowid: Option<i64>) -> Result<bool> {
        let before = match (self.keys.has_rowid, last_rowid) {
            (true, None) => return Ok(false),
            (true, Some(last)) => format!(" AND {} <= {last}", self.keys.place_columns()),
            // its primary key distinguishes it from any other row, loaded or existing
            (false, _) => String::new(),
        };
        let same: Vec<String> = (0..self.stream.columns.len())
            .map(|n| {
                let (column, value) = (self.content(n), n + 1);
                format!(
                    "{column} IS ?{value} COLLATE BINARY AND typeof({column}) = typeof(?{value})"
                )
            })
            .collect();
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {} AS t WHERE {}{before})",
            quoted(&self.table.name),
            same.join(" AND ")
        );
        let values = (0..self.stream.columns.len()).map(|n| Bound(self.value(n)));
        (self.connection.prepare_cached(&sql))
            .and_then(|mut found| found.query_row(params_from_iter(values), |r| r.get(0)))
            .map_err(|e| self.failed(e))
    }

    pub(super) fn position(&self, physical: &str) -> Option<usize> {
        let same = |name: &str| name.eq_ignore_ascii_case(physical);
        let target = self.table.columns.iter().position(|c| same(&c.physical))?;
        self.stream.columns.iter().position(|c| c.target == target)
    }

    /// Notes every reference of the row whose parent is not loaded yet.
    pub(super) fn check_references(
        &self,
        checks: &mut [ReferenceCheck],
        place: &[SqlValue],
    ) -> Result<()> {
        if skips(Step::References) {
            return Ok(());
        }
        for check in checks {
            if check.finds_parent(self.connection, |n| self.value(n)).map_err(|e| self.failed(e))? {
                continue;
            }
            let key = self.key();
            check.note(self.connection, &key, place).map_err(|e| self.failed(e))?;
        }
        Ok(())
    }
}
