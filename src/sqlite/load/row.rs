//! One row on its way into its table: inserted, or compared with the one that is in its way.

use std::collections::HashSet;

use rusqlite::types::ToSqlOutput;
use rusqlite::{CachedStatement, Connection, ErrorCode, ToSql, ffi};

use super::references::parent_exists;
use crate::catalog::{Catalog, CatalogTable};
use crate::error::{Code, Error, Result};
use crate::load::Rows;
use crate::load::bench_skip::{Step, skips};
use crate::plan::{TablePlan, key_of};
use crate::sqlite::{extended_code, failed, from_sqlite, quoted, to_sqlite};
use chronicle_archive::{Value, show};

/// The parents original_columns as there, so that most references need no look-up.
const PARENTS: usize = 8192;

/// A value that binds itself.
pub(super) struct Bound<'a>(pub(super) Value<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(to_sqlite(self.0))
    }
}

pub(super) fn insert_sql(stream: &TablePlan, table: &CatalogTable) -> String {
    let columns: Vec<String> =
        stream.columns.iter().map(|c| quoted(&table.columns[c.target].physical)).collect();
    // never OR REPLACE: it deletes the row that is in the way, and with it its children
    format!(
        "INSERT INTO {} ({}) VALUES ({}){}",
        quoted(&table.name),
        columns.join(", "),
        vec!["?"; columns.len()].join(", "),
        if skips(Step::Conflicts) { "" } else { " ON CONFLICT DO NOTHING" }
    )
}

/// One row on its way into its table.
pub(super) struct Place<'a> {
    pub(super) connection: &'a Connection,
    pub(super) stream: &'a TablePlan,
    pub(super) table: &'a CatalogTable,
    pub(super) rows: &'a Rows<'a>,
    pub(super) row: usize,
}

impl Place<'_> {
    pub(super) fn physical(&self, column: usize) -> String {
        let target = self.stream.columns[column].target;
        quoted(&self.table.columns[target].physical)
    }

    fn value(&self, column: usize) -> Value<'_> {
        self.rows.rows.value(self.row, column)
    }

    /// The key of the row in the archive.
    pub(super) fn key(&self) -> String {
        key_of(&self.stream.source, self.rows.source, self.rows.from[self.row])
    }

    /// The row's place in the archive and its key, for messages.
    fn place(&self) -> String {
        let number = self.rows.source.first_row() + self.rows.from[self.row] as u64;
        format!("{}: row {number} (key {})", self.table.name, self.key())
    }

    pub(super) fn key_is_null(&self) -> bool {
        self.stream.key.iter().any(|k| self.value(*k) == Value::Null)
    }

    /// Notes which row was inserted last, if rows of others stand in the table too.
    pub(super) fn note_loaded(
        &self,
        alone: bool,
        found_again: &rusqlite::types::Value,
    ) -> Result<()> {
        if alone {
            return Ok(());
        }
        let stream = i64::try_from(self.rows.stream).unwrap_or(0);
        let note = (self.connection).prepare_cached("INSERT INTO temp.loaded VALUES (?, ?)");
        note.and_then(|mut note| note.execute((stream, found_again)))
            .map(|_| ())
            .map_err(|e| self.failed(e))
    }

    /// What finds the row that was inserted last again.
    pub(super) fn found_again(&self, has_rowid: bool) -> rusqlite::types::Value {
        match (has_rowid, self.stream.key.first()) {
            (false, Some(key)) => match to_sqlite(self.value(*key)) {
                ToSqlOutput::Borrowed(value) => {
                    value.try_into().unwrap_or(rusqlite::types::Value::Null)
                }
                _ => rusqlite::types::Value::Null,
            },
            _ => rusqlite::types::Value::Integer(self.connection.last_insert_rowid()),
        }
    }

    fn failed(&self, cause: rusqlite::Error) -> Error {
        let place = self.place();
        if cause.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) {
            return Error::new(Code::Value, format!("{place}: the target refuses it"))
                .because(cause)
                .hint("mend the value in the source and export again");
        }
        if extended_code(&cause) == ffi::SQLITE_MISMATCH {
            return Error::new(Code::Value, format!("{place}: the key is no integer"));
        }
        failed(Code::Target, format!("{place}: cannot be written"), cause)
    }

    /// Inserts the row; false if one of its unique values is taken.
    pub(super) fn insert(&self, insert: &mut CachedStatement<'_>) -> Result<bool> {
        for column in 0..self.stream.columns.len() {
            insert
                .raw_bind_parameter(column + 1, Bound(self.value(column)))
                .map_err(|e| self.failed(e))?;
        }
        insert.raw_execute().map(|changed| changed > 0).map_err(|e| self.failed(e))
    }

    /// Whether a row without a key was in the target, equal in every column, before this import.
    pub(super) fn was_there_before(&self, last_rowid: Option<i64>) -> Result<bool> {
        let Some(last_rowid) = last_rowid else { return Ok(false) };
        let same: Vec<String> = (0..self.stream.columns.len())
            .map(|n| format!("{} IS ?{}", self.physical(n), n + 1))
            .collect();
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {} WHERE {} AND rowid <= {last_rowid})",
            quoted(&self.table.name),
            same.join(" AND ")
        );
        let values = (0..self.stream.columns.len()).map(|n| Bound(self.value(n)));
        (self.connection.prepare_cached(&sql))
            .and_then(|mut found| found.query_row(rusqlite::params_from_iter(values), |r| r.get(0)))
            .map_err(|e| self.failed(e))
    }

    /// Compares the row with the one that is in its way: equal in every column, or an error.
    pub(super) fn compare(&self, unique: &[Vec<String>]) -> Result<()> {
        let Some(key) = self.stream.key.first() else { return Ok(()) };
        let columns: Vec<String> =
            (0..self.stream.columns.len()).map(|n| self.physical(n)).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {} = ?",
            columns.join(", "),
            quoted(&self.table.name),
            self.physical(*key)
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(|e| self.failed(e))?;
        let mut found = statement.query([Bound(self.value(*key))]).map_err(|e| self.failed(e))?;
        let Some(there) = found.next().map_err(|e| self.failed(e))? else {
            return Err(self.taken(unique));
        };
        for n in 0..columns.len() {
            let stored = from_sqlite(there.get_ref(n).map_err(|e| self.failed(e))?);
            if !same(stored, self.value(n)) {
                return Err(self.conflict(&format!(
                    "the target has this row already, with another value in \"{}\"",
                    self.stream.columns[n].name
                )));
            }
        }
        Ok(())
    }

    /// The error of a row whose key is free but another unique value of which is taken.
    fn taken(&self, unique: &[Vec<String>]) -> Error {
        let Some(key) = self.stream.key.first() else { return self.conflict("it is there") };
        for columns in unique {
            let given: Option<Vec<usize>> = columns.iter().map(|c| self.position(c)).collect();
            let Some(given) = given else { continue };
            let same: Vec<String> =
                given.iter().map(|n| format!("{} = ?", self.physical(*n))).collect();
            let sql = format!(
                "SELECT {} FROM {} WHERE {}",
                self.physical(*key),
                quoted(&self.table.name),
                same.join(" AND ")
            );
            let values = given.iter().map(|n| Bound(self.value(*n)));
            let other =
                self.connection.query_row(&sql, rusqlite::params_from_iter(values), |found| {
                    Ok(show(from_sqlite(found.get_ref(0)?)))
                });
            if let Ok(other) = other {
                return self.conflict(&format!(
                    "its {} belongs to the row with key {other} already",
                    columns.join(", ")
                ));
            }
        }
        self.conflict("one of its unique values is taken by another row")
    }

    fn position(&self, physical: &str) -> Option<usize> {
        let target = self.table.columns.iter().position(|c| c.physical == physical)?;
        self.stream.columns.iter().position(|c| c.target == target)
    }

    fn conflict(&self, what: &str) -> Error {
        Error::new(Code::Conflict, format!("{}: {what}", self.place()))
            .hint("import into an empty database, or remove that row from the target first")
    }

    /// Notes every reference of the row whose parent is not there yet.
    pub(super) fn check_references(
        &self,
        catalog: &Catalog,
        parents: &mut HashSet<(usize, Vec<u8>)>,
        found_again: &rusqlite::types::Value,
    ) -> Result<()> {
        if skips(Step::References) {
            return Ok(());
        }
        for (n, reference) in self.table.references.iter().enumerate() {
            let column = self.stream.columns.iter().position(|c| c.target == reference.columns[0]);
            let Some(column) = column else { continue };
            let value = self.value(column);
            let original_columns = match value {
                Value::Null => continue,
                Value::Text(bytes) => Some((reference.table, bytes.to_vec())),
                _ => None,
            };
            if original_columns.as_ref().is_some_and(|r| parents.contains(r)) {
                continue;
            }
            let parent = &catalog.tables[reference.table];
            if parent_exists(self.connection, parent, value).map_err(|e| self.failed(e))? {
                if parents.len() >= PARENTS {
                    parents.clear();
                }
                parents.extend(original_columns);
                continue;
            }
            let key = self.key();
            (self.connection)
                .prepare_cached("INSERT INTO temp.orphan VALUES (?, ?, ?, ?, ?, ?)")
                .and_then(|mut note| {
                    let reference = i64::try_from(n).unwrap_or(0);
                    note.execute(rusqlite::params![
                        self.stream.stream,
                        reference,
                        key,
                        Bound(value),
                        show(value),
                        found_again
                    ])
                })
                .map_err(|e| self.failed(e))?;
        }
        Ok(())
    }
}

/// Whether two values are the same in class and bytes; of reals also in sign and NaN.
pub(super) fn same(a: Value<'_>, b: Value<'_>) -> bool {
    match (a, b) {
        (Value::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}
