//! What the SQL of receipts and rollbacks needs of a database.

use futures::future::BoxFuture;

use super::{AddedColumn, ShapeTable};
use crate::error::{Code, Error, Result};
use chronicle_archive::Batch;

/// What takes the rows of a query, each by its number in a batch.
pub type EachRow<'a> = &'a mut (dyn FnMut(&Batch, usize) -> Result<()> + Send);

/// The names of the columns of a table, with their types; `None` if the table is gone.
pub type NamesAndTypes = Option<Vec<(String, String)>>;

/// Columns that are unique together, each with the collation by which it is, as SQL that follows a value.
pub type UniqueColumns = Vec<(String, String)>;

/// The error of a statement of a rollback that a unique value, or a reference, of another row stands against.
pub fn in_the_way(code: Code, error: Error) -> Error {
    let what = format!("{}; nothing was changed", error.full());
    Error::new(code, what).hint(match code {
        Code::Orphan => "rows were added or changed since the batch: undo that first, or roll back the later batch first",
        _ => "give the other row another value first, or roll back the later batch first; then roll back again",
    })
}

/// A database in the transaction of a batch, as the SQL of receipts and rollbacks sees it: what differs between the two
/// kinds of databases.
pub trait UndoSql: Send {
    /// A table of the data as SQL writes it.
    fn full(&self, schema: Option<&str>, table: &str) -> String;

    /// The columns of a temporary table that address a row of table `t` of the shape, as SQL.
    fn place(&self, table: &ShapeTable, alias: &str) -> Vec<String>;

    /// What tells the rows of a table `t` apart while a batch runs, as SQL.
    fn identity(&self, table: &ShapeTable, alias: &str) -> Vec<String>;

    /// SQL for the text that names a row in the sidecar table, from the columns of its key.
    fn key_text(&self, columns: &[String], alias: &str) -> String;

    /// SQL for a value in the form in which receipts hold it.
    fn text(&self, value: &str) -> String;

    /// SQL for no value of a type.
    fn null(&self, ty: &str) -> String;

    /// SQL for the fingerprint of some values.
    fn fingerprint(&self, values: &[String]) -> String;

    /// SQL for a text that says of each of some values whether it is another one then, to the byte: `1`, or else `0`.
    fn changed(&self, now: &[String], then: &[String]) -> String;

    /// As [`text`](UndoSql::text) of the value then, which may be left out if it is the same now.
    fn text_if_changed(&self, now: &str, then: &str) -> String;

    /// SQL for a staged value as one of a column's type.
    fn cast(&self, value: &str, ty: &str) -> String;

    /// What stands between the columns and the values of an INSERT.
    fn overriding(&self) -> &'static str;

    /// Whether changed rows may be deleted and inserted again, so that no two are in each other's way: nothing acts by
    /// itself then.
    fn replaces(&self) -> bool;

    /// The columns of a table that hold data now, with their types; `None` if the table is gone.
    fn columns<'a>(&'a mut self, table: &'a ShapeTable) -> BoxFuture<'a, Result<NamesAndTypes>>;

    /// What a table keeps unique by plain columns.
    fn unique<'a>(&'a mut self, table: &'a ShapeTable)
    -> BoxFuture<'a, Result<Vec<UniqueColumns>>>;

    /// What was made on a column that a batch has added, in words: what goes with the column, or keeps it from going.
    fn uses<'a>(&'a mut self, column: &'a AddedColumn) -> BoxFuture<'a, Result<Vec<String>>>;

    /// Makes an empty temporary table with columns of whole numbers and, behind them, of values as receipts hold them.
    fn stage<'a>(
        &'a mut self,
        name: &'a str,
        numbers: &'a [&'a str],
        values: &'a [String],
    ) -> BoxFuture<'a, Result<()>>;

    /// Prepares a temporary table for looking rows up by some of its columns; a number `n` is that of the row itself.
    fn index<'a>(&'a mut self, name: &'a str, columns: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Inserts rows into it.
    fn insert<'a>(&'a mut self, name: &'a str, rows: &'a Batch) -> BoxFuture<'a, Result<()>>;

    /// Makes the temporary table of the rows that were found, from the columns of a query and what follows them, where `t`
    /// is a table of the shape. Those in the state `same` that are not restored may be written now for
    /// [`about_to_delete`](UndoSql::about_to_delete), as they are read anyway.
    fn find<'a>(
        &'a mut self,
        what: &'a str,
        table: &'a ShapeTable,
        found: &'a str,
        query: (&'a str, &'a str),
    ) -> BoxFuture<'a, Result<()>>;

    /// Hands over the rows of a query, each in a batch: a number, then as many values as `texts` says, each as
    /// [`text`](UndoSql::text) gives it.
    fn select<'a>(
        &'a mut self,
        what: &'a str,
        sql: &'a str,
        texts: usize,
        each: EachRow<'a>,
    ) -> BoxFuture<'a, Result<()>>;

    /// Runs a statement; the number of rows that it wrote.
    fn run<'a>(&'a mut self, what: &'a str, sql: &'a str) -> BoxFuture<'a, Result<u64>>;

    /// SQL for a value that no row of a table has in a column, by SQL for the number of a row that gets it for a moment; `None`
    /// if none is known, or rows never need one.
    fn free_value(&self, table: &ShapeTable, column: usize, number: &str) -> Option<String>;

    /// Runs a statement that updates rows, unless two rows would have the same unique value, if only for a moment, a rule of
    /// the table refuses a value, or a column takes values only in new rows; whether it did.
    fn run_unless_refused<'a>(
        &'a mut self,
        what: &'a str,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<bool>>;

    /// Runs a query; its rows as texts.
    fn rows<'a>(
        &'a mut self,
        what: &'a str,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Vec<Option<String>>>>>;

    /// Notes the rows that are about to be written, for the receipts of this batch: those of table `number` of the shape
    /// whose places the query gives.
    fn about_to_change<'a>(
        &'a mut self,
        table: &'a ShapeTable,
        places: &'a str,
    ) -> BoxFuture<'a, Result<()>>;

    /// Notes all the rows that are about to be deleted, table by table of the shape; the queries give their places. They
    /// are among those that were found.
    fn about_to_delete<'a>(
        &'a mut self,
        rows: &'a [(&'a ShapeTable, String)],
    ) -> BoxFuture<'a, Result<()>>;

    /// Deletes rows that were noted.
    fn delete<'a>(
        &'a mut self,
        what: &'a str,
        table: &'a ShapeTable,
        places: &'a str,
    ) -> BoxFuture<'a, Result<()>>;

    /// Notes the rows that were inserted: their keys, as values of the key's columns.
    fn has_inserted<'a>(
        &'a mut self,
        table: &'a ShapeTable,
        keys: &'a str,
    ) -> BoxFuture<'a, Result<()>>;
}

/// SQL that deletes the rows of a table whose places a query gives.
pub fn delete_sql(database: &dyn UndoSql, table: &ShapeTable, places: &str) -> String {
    let full = database.full(table.schema.as_deref(), &table.name);
    let place = database.place(table, "t").join(", ");
    format!("DELETE FROM {full} AS t WHERE ({place}) IN ({places})")
}

/// A text as SQL writes it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// SQL that is true of the entries `t` for rows of a table.
pub(super) fn entries_of(sidecar: &ShapeTable, table: &ShapeTable) -> String {
    let mut of = format!("t.table_name = {}", literal(&table.name));
    if sidecar.columns.iter().any(|c| c.name == "schema_name") {
        let schema = literal(table.schema.as_deref().unwrap_or_default());
        of.push_str(&format!(" AND t.schema_name = {schema}"));
    }
    of
}

/// A name as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The one number that a query gives.
pub(super) async fn count(database: &mut dyn UndoSql, what: &str, sql: &str) -> Result<u64> {
    let rows = database.rows(what, sql).await?;
    let text = rows.first().and_then(|row| row.first().cloned().flatten());
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::new(Code::Internal, "the database counted nothing"))
}
