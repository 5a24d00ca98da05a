//! One row on its way into its table: inserted, or compared with the one that is in its way.

use rusqlite::types::{ToSqlOutput, Value as SqlValue};
use rusqlite::{CachedStatement, Connection, ErrorCode, ToSql, ffi, params_from_iter};

use super::keys::{Keys, collate};
use super::references::ReferenceCheck;
use crate::catalog::CatalogTable;
use crate::error::{Code, Error, Result};
use crate::load::Rows;
use crate::load::bench_skip::{Step, skips};
use crate::plan::{TablePlan, key_of};
use crate::sqlite::{extended_code, failed, from_sqlite, quoted, to_sqlite};
use chronicle_archive::{Value, show};

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

/// One row on its way into its table.
pub(super) struct IncomingRow<'a> {
    pub(super) connection: &'a Connection,
    pub(super) stream: &'a TablePlan,
    pub(super) table: &'a CatalogTable,
    pub(super) keys: &'a Keys,
    pub(super) rows: &'a Rows<'a>,
    pub(super) row: usize,
}

impl IncomingRow<'_> {
    fn physical(&self, column: usize) -> String {
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

    fn failed(&self, cause: rusqlite::Error) -> Error {
        let row = self.described();
        if cause.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) {
            return Error::new(Code::Value, format!("{row}: the target refuses it"))
                .because(cause)
                .hint("mend the value in the source and export again");
        }
        if extended_code(&cause) == ffi::SQLITE_MISMATCH {
            return Error::new(Code::Value, format!("{row}: the key is no integer"));
        }
        failed(Code::Target, format!("{row}: cannot be written"), cause)
    }

    /// Inserts the row and says what its place is; none if one of its unique values is taken.
    pub(super) fn insert(&self, insert: &mut CachedStatement<'_>) -> Result<Option<Vec<SqlValue>>> {
        self.insert_and_locate(insert).map_err(|e| self.failed(e))
    }

    fn insert_and_locate(
        &self,
        insert: &mut CachedStatement<'_>,
    ) -> rusqlite::Result<Option<Vec<SqlValue>>> {
        for column in 0..self.stream.columns.len() {
            insert.raw_bind_parameter(column + 1, Bound(self.value(column)))?;
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
            // its primary key tells it from any other row, whenever that came
            (false, _) => String::new(),
        };
        let same: Vec<String> = (0..self.stream.columns.len())
            .map(|n| {
                let (column, value) = (self.physical(n), n + 1);
                format!(
                    "{column} IS ?{value} COLLATE BINARY AND typeof({column}) = typeof(?{value})"
                )
            })
            .collect();
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {} WHERE {}{before})",
            quoted(&self.table.name),
            same.join(" AND ")
        );
        let values = (0..self.stream.columns.len()).map(|n| Bound(self.value(n)));
        (self.connection.prepare_cached(&sql))
            .and_then(|mut found| found.query_row(params_from_iter(values), |r| r.get(0)))
            .map_err(|e| self.failed(e))
    }

    /// Compares the row with the one that is in its way: equal in every column, or an error. SQLite
    /// says whose key is equal; all values have to be so to the byte.
    pub(super) fn compare(&self) -> Result<()> {
        let columns: Vec<String> =
            (0..self.stream.columns.len()).map(|n| self.physical(n)).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE {}",
            columns.join(", "),
            quoted(&self.table.name),
            self.keys.key_is_bound()
        );
        let key = self.stream.key.iter().map(|k| Bound(self.value(*k)));
        let mut statement = self.connection.prepare_cached(&sql).map_err(|e| self.failed(e))?;
        let mut found = statement.query(params_from_iter(key)).map_err(|e| self.failed(e))?;
        let Some(there) = found.next().map_err(|e| self.failed(e))? else {
            return Err(self.taken());
        };
        for n in 0..columns.len() {
            let stored = from_sqlite(there.get_ref(n).map_err(|e| self.failed(e))?);
            if same(stored, self.value(n)) {
                continue;
            }
            let name = &self.stream.columns[n].name;
            return Err(self.conflict(&match self.stream.key.contains(&n) {
                true => format!(
                    "the target has a row whose key is the same to the database, but spelled \
                     differently: \"{name}\" is \"{}\" there and \"{}\" here",
                    show(stored),
                    show(self.value(n))
                ),
                false => {
                    format!("the target has this row already, with another value in \"{name}\"")
                }
            }));
        }
        Ok(())
    }

    /// The error of a row whose key is free but another unique value of which is taken.
    fn taken(&self) -> Error {
        let width = self.stream.key.len();
        for unique in &self.keys.unique {
            let given: Option<Vec<usize>> =
                unique.columns.iter().map(|(name, _)| self.position(name)).collect();
            let Some(given) = given else { continue };
            let same: Vec<String> = (given.iter().zip(&unique.columns))
                .map(|(n, (_, collation))| {
                    format!("{} = ?{}", self.physical(*n), collate(Some(collation)))
                })
                .collect();
            let sql = format!(
                "SELECT {} FROM {} WHERE {}",
                self.keys.key("").join(", "),
                quoted(&self.table.name),
                same.join(" AND ")
            );
            let values = given.iter().map(|n| Bound(self.value(*n)));
            let other = self.connection.query_row(&sql, params_from_iter(values), |found| {
                let part = |n| Ok(show(from_sqlite(found.get_ref(n)?)));
                (0..width).map(part).collect::<rusqlite::Result<Vec<String>>>()
            });
            match other {
                Ok(other) => {
                    let names: Vec<&str> =
                        unique.columns.iter().map(|(name, _)| name.as_str()).collect();
                    return self.conflict(&format!(
                        "its {} belongs to the row with key {} already",
                        names.join(", "),
                        other.join(", ")
                    ));
                }
                Err(rusqlite::Error::QueryReturnedNoRows) => {}
                Err(cause) => return self.failed(cause),
            }
        }
        self.conflict("one of its unique values is taken by another row")
    }

    fn position(&self, physical: &str) -> Option<usize> {
        let same = |name: &str| name.eq_ignore_ascii_case(physical);
        let target = self.table.columns.iter().position(|c| same(&c.physical))?;
        self.stream.columns.iter().position(|c| c.target == target)
    }

    fn conflict(&self, what: &str) -> Error {
        Error::new(Code::Conflict, format!("{}: {what}", self.described()))
            .hint("import into an empty database, or remove that row from the target first")
    }

    /// Notes every reference of the row whose parent is not there yet.
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

/// Whether two values are the same in class and bytes; of reals also in sign and NaN.
pub(super) fn same(a: Value<'_>, b: Value<'_>) -> bool {
    match (a, b) {
        (Value::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}
