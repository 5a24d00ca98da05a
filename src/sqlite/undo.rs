//! A SQLite file as the SQL of receipts and rollbacks sees it.

use std::ops::Range;

use futures::future::BoxFuture;
use rusqlite::{Connection, Row};

use super::catalog::{UniqueKey, read_every_table};
use super::column_uses::uses_of;
use super::noting::{Deleted, Noting, place_of};
use super::{
    UNIQUE, changed_of, extended_code, failed, fingerprint_of, from_sqlite, key_text, literal,
    quoted, to_sqlite,
};
use crate::error::{Code, Error, Result};
use crate::undo::{
    AddedColumn, EachRow, NamesAndTypes, ShapeTable, UndoSql, UniqueColumns, delete_sql, in_the_way,
};
use chronicle_archive::{Batch, Value};

/// A connection in the transaction of a batch.
pub(super) struct SqliteUndo<'c> {
    pub(super) connection: &'c mut Connection,
    /// Of a rollback, what it notes and the rows that it deletes.
    pub(super) deletes: Option<(&'c Noting, &'c mut Deleted)>,
    /// Of a rehearsal, the columns that would come back: views have them in their tables' stead.
    pub(super) returning: &'c [AddedColumn],
}

impl SqliteUndo<'_> {
    /// Makes the table of the rows that were found; of a rollback, writes those that it will delete unless something speaks
    /// against it.
    fn find_now(
        &mut self,
        what: &str,
        table: &ShapeTable,
        found: &str,
        (columns, from): (&str, &str),
    ) -> Result<()> {
        let create = format!("CREATE TEMP TABLE {found} AS SELECT {columns} FROM {from}");
        let Some((noting, deleted)) = &mut self.deletes else {
            return self.run_now(what, &create).map(|_| ());
        };
        let cannot = |e| failed(Code::Target, what, e);
        self.connection.execute_batch(&format!("{create} LIMIT 0")).map_err(cannot)?;
        let (number, shape) = noted_shape(noting, table)?;
        let values = columns_of(&shape).join(", ");
        let sql = format!("SELECT {columns}, {values} FROM {from}");
        let mut statement = self.connection.prepare(&sql).map_err(cannot)?;
        let width = statement.column_count() - shape.columns.len();
        let place = |name| statement.column_index(name).map_err(cannot);
        let (state, restores) = (place("state")?, place("restores")?);
        let insert = format!("INSERT INTO temp.{found} VALUES ({})", vec!["?"; width].join(", "));
        let mut insert = self.connection.prepare(&insert).map_err(cannot)?;
        let mut rows = statement.query([]).map_err(cannot)?;
        while let Some(row) = rows.next().map_err(cannot)? {
            let values = values_of(row, 0..width + shape.columns.len()).map_err(cannot)?;
            let found = values[..width].iter().map(|value| to_sqlite(*value));
            insert.execute(rusqlite::params_from_iter(found)).map_err(cannot)?;
            if values[state] == Value::Text(b"same") && values[restores] == Value::Int(0) {
                deleted.writer(noting)?.row(number, values[width..].iter().copied())?;
            }
        }
        Ok(())
    }

    /// Writes the rows that are about to be deleted, unless they were written when they were found.
    fn write_deleted(&mut self, rows: &[(&ShapeTable, String)]) -> Result<()> {
        let Some((noting, deleted)) = &mut self.deletes else { return Ok(()) };
        let mut counts = vec![0; noting.shapes().len()];
        for (table, places) in rows {
            let count = format!("SELECT count(*) FROM ({places})");
            let count = self.connection.query_row(&count, [], |row| row.get::<_, i64>(0));
            counts[noted_shape(noting, table)?.0] = count.map_err(not_written)?.unsigned_abs();
        }
        // some of them may stay
        if !deleted.has(&counts) {
            **deleted = Deleted::None;
            for (table, places) in rows {
                self.write_rows(table, places)?;
            }
        }
        Ok(())
    }

    /// Writes the rows of a table that are about to be deleted.
    fn write_rows(&mut self, table: &ShapeTable, places: &str) -> Result<()> {
        let place = self.place(table, "t").join(", ");
        let Some((noting, deleted)) = &mut self.deletes else { return Ok(()) };
        let (number, shape) = noted_shape(noting, table)?;
        let sql = format!(
            "SELECT {} FROM main.{} AS t WHERE ({place}) IN ({places})",
            columns_of(&shape).join(", "),
            quoted(&shape.name)
        );
        let mut statement = self.connection.prepare(&sql).map_err(not_written)?;
        let mut rows = statement.query([]).map_err(not_written)?;
        while let Some(row) = rows.next().map_err(not_written)? {
            let values = values_of(row, 0..shape.columns.len()).map_err(not_written)?;
            deleted.writer(noting)?.row(number, values.into_iter())?;
        }
        Ok(())
    }

    /// Deletes rows that were written.
    fn delete_now(&mut self, what: &str, table: &ShapeTable, places: &str) -> Result<()> {
        if let Some((_, deleted)) = &mut self.deletes {
            **deleted = match std::mem::take(*deleted) {
                Deleted::Writing(writer) => Deleted::Written(Box::new(writer.finish()?)),
                other => other,
            };
        }
        let full = self.full(None, &table.name);
        let are_all =
            format!("SELECT (SELECT count(*) FROM {full}) = (SELECT count(*) FROM ({places}))");
        let are_all = self.connection.query_row(&are_all, [], |row| row.get(0));
        let sql = match are_all.map_err(|e| failed(Code::Target, what, e))? {
            // without a condition, SQLite drops the pages and looks at no row
            true => format!("DELETE FROM {full}"),
            false => delete_sql(self, table, places),
        };
        let noted = self.deletes.as_ref().and_then(|(noting, _)| noting.deletes(&table.name));
        let Some((trigger, create)) = noted else { return self.run_now(what, &sql).map(|_| ()) };
        self.run_now(what, &format!("DROP TRIGGER temp.{trigger}"))?;
        self.run_now(what, &sql)?;
        self.run_now(what, &create).map(|_| ())
    }

    fn run_now(&self, what: &str, sql: &str) -> Result<u64> {
        let written = self.connection.prepare(sql).and_then(|mut s| s.execute([]));
        written.map(|rows| rows as u64).map_err(|e| {
            let taken = UNIQUE.contains(&extended_code(&e));
            let error = failed(Code::Target, what, e);
            if taken { in_the_way(Code::Conflict, error) } else { error }
        })
    }

    fn unique_now(&self, table: &ShapeTable) -> rusqlite::Result<Vec<UniqueColumns>> {
        let all = read_every_table(self.connection)?;
        let found = all.into_iter().find(|t| t.name == table.name);
        let collated = |(name, collation): (String, String)| {
            (name, format!(" COLLATE {}", quoted(&collation)))
        };
        let columns = |unique: UniqueKey| unique.columns.into_iter().map(collated).collect();
        Ok(found.map_or_else(Vec::new, |t| t.unique.into_iter().map(columns).collect()))
    }

    fn rows_now(&self, sql: &str) -> rusqlite::Result<Vec<Vec<Option<String>>>> {
        let mut statement = self.connection.prepare(sql)?;
        let width = statement.column_count();
        let text = |row: &rusqlite::Row<'_>, n: usize| {
            Ok(match from_sqlite(row.get_ref(n)?) {
                Value::Null => None,
                Value::Int(number) => Some(number.to_string()),
                Value::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
                other => Some(chronicle_archive::show(other)),
            })
        };
        let rows = statement.query_map([], |row| (0..width).map(|n| text(row, n)).collect())?;
        rows.collect()
    }

    fn select_now(&self, what: &str, sql: &str, texts: usize, each: EachRow<'_>) -> Result<()> {
        let cannot = |e| failed(Code::Target, what, e);
        let mut statement = self.connection.prepare(sql).map_err(cannot)?;
        let mut rows = statement.query([]).map_err(cannot)?;
        let mut batch = Batch::default();
        while let Some(row) = rows.next().map_err(cannot)? {
            batch.start(0, texts + 1, 1);
            for n in 0..=texts {
                batch.push(from_sqlite(row.get_ref(n).map_err(cannot)?));
            }
            each(&batch, 0)?;
        }
        Ok(())
    }

    fn insert_now(&self, name: &str, rows: &Batch) -> rusqlite::Result<()> {
        let width = rows.cells() / rows.rows().max(1);
        let sql = format!("INSERT INTO temp.{name} VALUES ({})", vec!["?"; width].join(", "));
        let mut insert = self.connection.prepare_cached(&sql)?;
        for row in 0..rows.rows() {
            let values = (0..width).map(|n| to_sqlite(rows.value(row, n)));
            insert.execute(rusqlite::params_from_iter(values))?;
        }
        Ok(())
    }

    fn columns_now(&self, table: &ShapeTable) -> rusqlite::Result<NamesAndTypes> {
        let all = read_every_table(self.connection)?;
        let found = all.iter().find(|t| t.name == table.name);
        let returning = self.returning.iter().filter(|column| column.table == table.name);
        let returning = returning.map(|column| (column.column.clone(), column.ty.clone()));
        Ok(found.map(|table| {
            let stored = table.stored().map(|c| (c.name.clone(), c.declared.clone()));
            stored.chain(returning).collect()
        }))
    }
}

impl UndoSql for SqliteUndo<'_> {
    fn full(&self, _: Option<&str>, table: &str) -> String {
        match self.returning.iter().any(|column| column.table == table) {
            true => format!("temp.{}", quoted(&rehearsed(table))),
            false => format!("main.{}", quoted(table)),
        }
    }

    fn place(&self, table: &ShapeTable, alias: &str) -> Vec<String> {
        place_of(table).iter().map(|name| format!("{alias}.{}", quoted(name))).collect()
    }

    fn identity(&self, table: &ShapeTable, alias: &str) -> Vec<String> {
        self.place(table, alias)
    }

    fn key_text(&self, columns: &[String], alias: &str) -> String {
        let columns: Vec<String> = columns.iter().map(|name| format!("{alias}.{name}")).collect();
        key_text(&columns)
    }

    fn text(&self, value: &str) -> String {
        value.to_owned()
    }

    fn null(&self, _: &str) -> String {
        "NULL".into()
    }

    fn fingerprint(&self, values: &[String]) -> String {
        fingerprint_of(values)
    }

    fn changed(&self, now: &[String], then: &[String]) -> String {
        changed_of(now, then)
    }

    fn text_if_changed(&self, _: &str, then: &str) -> String {
        then.to_owned()
    }

    fn cast(&self, value: &str, _: &str) -> String {
        value.to_owned()
    }

    fn overriding(&self) -> &'static str {
        ""
    }

    fn replaces(&self) -> bool {
        true
    }

    // rows are deleted and inserted instead
    fn free_value(&self, _: &ShapeTable, _: usize, _: &str) -> Option<String> {
        None
    }

    fn columns<'a>(&'a mut self, table: &'a ShapeTable) -> BoxFuture<'a, Result<NamesAndTypes>> {
        let found = self.columns_now(table);
        let found = found.map_err(|e| failed(Code::Target, "cannot read the tables", e));
        Box::pin(async { found })
    }

    fn uses<'a>(&'a mut self, column: &'a AddedColumn) -> BoxFuture<'a, Result<Vec<String>>> {
        let found = uses_of(self.connection, &column.table, &column.column);
        let found =
            found.map_err(|e| failed(Code::Target, "cannot look for what was made on a column", e));
        Box::pin(async { found })
    }

    fn unique<'a>(
        &'a mut self,
        table: &'a ShapeTable,
    ) -> BoxFuture<'a, Result<Vec<UniqueColumns>>> {
        let found = self.unique_now(table);
        let found = found.map_err(|e| failed(Code::Target, "cannot read the tables", e));
        Box::pin(async { found })
    }

    fn stage<'a>(
        &'a mut self,
        name: &'a str,
        numbers: &'a [&'a str],
        values: &'a [String],
    ) -> BoxFuture<'a, Result<()>> {
        let columns = numbers.iter().copied().chain(values.iter().map(String::as_str));
        let key = |name: &str| if name == "n" { " INTEGER PRIMARY KEY" } else { "" };
        let columns: Vec<String> =
            columns.map(|name| format!("{}{}", quoted(name), key(name))).collect();
        let sql = format!("CREATE TEMP TABLE {name} ({})", columns.join(", "));
        let staged = self.run_now("cannot stage the receipts", &sql).map(|_| ());
        Box::pin(async { staged })
    }

    fn index<'a>(&'a mut self, name: &'a str, columns: &'a str) -> BoxFuture<'a, Result<()>> {
        // by their numbers they are found as they are
        if columns == "n" {
            return Box::pin(async { Ok(()) });
        }
        let sql = format!("CREATE INDEX temp.{name}_index ON {name} ({columns})");
        let done = self.run_now("cannot look for the rows of the batch", &sql).map(|_| ());
        Box::pin(async { done })
    }

    fn insert<'a>(&'a mut self, name: &'a str, rows: &'a Batch) -> BoxFuture<'a, Result<()>> {
        let inserted = self.insert_now(name, rows);
        let inserted = inserted.map_err(|e| failed(Code::Target, "cannot stage the receipts", e));
        Box::pin(async { inserted })
    }

    fn find<'a>(
        &'a mut self,
        what: &'a str,
        table: &'a ShapeTable,
        found: &'a str,
        query: (&'a str, &'a str),
    ) -> BoxFuture<'a, Result<()>> {
        let done = self.find_now(what, table, found, query);
        Box::pin(async { done })
    }

    fn select<'a>(
        &'a mut self,
        what: &'a str,
        sql: &'a str,
        texts: usize,
        each: EachRow<'a>,
    ) -> BoxFuture<'a, Result<()>> {
        let done = self.select_now(what, sql, texts, each);
        Box::pin(async { done })
    }

    fn run<'a>(&'a mut self, what: &'a str, sql: &'a str) -> BoxFuture<'a, Result<u64>> {
        let done = self.run_now(what, sql);
        Box::pin(async { done })
    }

    fn run_unless_refused<'a>(
        &'a mut self,
        what: &'a str,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<bool>> {
        // a statement that fails has changed nothing
        let done = match self.connection.prepare(sql).and_then(|mut s| s.execute([])) {
            Ok(_) => Ok(true),
            Err(e) if UNIQUE.contains(&extended_code(&e)) => Ok(false),
            Err(e) => Err(failed(Code::Target, what, e)),
        };
        Box::pin(async { done })
    }

    fn rows<'a>(
        &'a mut self,
        what: &'a str,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Vec<Option<String>>>>> {
        let rows = self.rows_now(sql).map_err(|e| failed(Code::Target, what, e));
        Box::pin(async { rows })
    }

    // triggers note it
    fn about_to_change<'a>(
        &'a mut self,
        _: &'a ShapeTable,
        _: &'a str,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn about_to_delete<'a>(
        &'a mut self,
        rows: &'a [(&'a ShapeTable, String)],
    ) -> BoxFuture<'a, Result<()>> {
        let written = self.write_deleted(rows);
        Box::pin(async { written })
    }

    fn delete<'a>(
        &'a mut self,
        what: &'a str,
        table: &'a ShapeTable,
        places: &'a str,
    ) -> BoxFuture<'a, Result<()>> {
        let deleted = self.delete_now(what, table, places);
        Box::pin(async { deleted })
    }

    fn has_inserted<'a>(&'a mut self, _: &'a ShapeTable, _: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

fn not_written(e: rusqlite::Error) -> Error {
    failed(Code::Target, "cannot write the rows that are about to be deleted", e)
}

/// A table as it was when the rollback began, with its number among those that are noted.
fn noted_shape(noting: &Noting, table: &ShapeTable) -> Result<(usize, ShapeTable)> {
    let found = noting.shapes().into_iter().enumerate().find(|(_, shape)| shape.name == table.name);
    found.ok_or_else(|| Error::new(Code::Internal, "a table is not noted"))
}

/// The columns of a table `t`.
fn columns_of(table: &ShapeTable) -> Vec<String> {
    table.columns.iter().map(|c| format!("t.{}", quoted(&c.name))).collect()
}

/// Some values of a row.
fn values_of<'r>(row: &'r Row<'_>, columns: Range<usize>) -> rusqlite::Result<Vec<Value<'r>>> {
    columns.map(|n| row.get_ref(n).map(from_sqlite)).collect()
}

/// The temporary view of a table with the columns that would come back.
pub(super) fn rehearsed(table: &str) -> String {
    format!("undo_rehearsed_{table}")
}

/// SQL that gives an AUTOINCREMENT table the number back that it gave last.
pub(super) fn set_sequence(table: &str, number: Option<i64>) -> String {
    let table = literal(table);
    match number {
        None => format!("DELETE FROM sqlite_sequence WHERE name = {table}"),
        Some(number) => format!(
            "UPDATE sqlite_sequence SET seq = {number} WHERE name = {table}; \
             INSERT INTO sqlite_sequence (name, seq) SELECT name, {number} FROM sqlite_schema \
              WHERE type = 'table' AND name = {table} \
                AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = {table})"
        ),
    }
}
