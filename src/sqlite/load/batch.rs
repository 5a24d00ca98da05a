//! The column for the id of the batch that has brought a row: filled in rows that are new, and no content.

use std::sync::Arc;

use rusqlite::types::Value as SqlValue;
use uuid::Uuid;

use super::SqliteTarget;
use super::row::IncomingRow;
use crate::catalog::CatalogTable;
use crate::plan::TablePlan;
use crate::sqlite::{history, literal, quoted};
use chronicle_archive::{Batch, Value};

/// The column of one table for the id of the batch.
#[derive(Debug)]
pub(super) struct BatchColumn {
    /// Its position among the columns that are written.
    column: usize,
    /// The id that new rows get.
    id: String,
    /// SQL that is true if a row `t` of the table has the id of a batch of its own history.
    is_own: String,
}

impl SqliteTarget {
    /// The column for the id of the batch that a stream's rows get, if its table has one.
    pub(super) fn batch_column(
        &self,
        stream: &TablePlan,
    ) -> rusqlite::Result<Option<Arc<BatchColumn>>> {
        let Some(column) = stream.batch else { return Ok(None) };
        let table = &self.catalog.tables[stream.table];
        let name = format!("t.{}", quoted(&table.columns[stream.columns[column].target].physical));
        let id = self.batch_id();
        // a new file has no history until it is whole
        let mut is_own = format!("{name} = {}", literal(&id));
        if let Some(earlier) = history::is_own(&self.connection, &name)? {
            is_own.push_str(&format!(" OR {earlier}"));
        }
        Ok(Some(Arc::new(BatchColumn { column, id, is_own })))
    }

    /// The id that new rows get. A column may refuse NULL also in a dry run, which has no batch.
    fn batch_id(&self) -> String {
        self.batch.as_ref().map_or(Uuid::nil(), |batch| batch.record.batch_id).to_string()
    }

    /// The column of a table for the id of the batch, and this id, as SQL.
    pub(super) fn filled_column(&self, table: &CatalogTable) -> Option<(String, String)> {
        let column = &table.columns[table.batch_column()?];
        Some((quoted(&column.physical), literal(&self.batch_id())))
    }
}

impl IncomingRow<'_> {
    /// The value that the row is inserted with.
    pub(super) fn inserted(&self, column: usize) -> Value<'_> {
        match (self.value(column), self.batch_column) {
            (Value::Null, Some(own)) if own.column == column => Value::Text(own.id.as_bytes()),
            (value, _) => value,
        }
    }

    /// The row as it is inserted, if that is not as it came.
    pub(super) fn filled(&self) -> Option<Batch> {
        let own = self.batch_column?;
        (self.value(own.column) == Value::Null).then(|| {
            let mut one = Batch::default();
            let width = self.stream.columns.len();
            one.start(0, width, 1);
            (0..width).for_each(|n| one.push(self.inserted(n)));
            one
        })
    }

    /// A column of existing rows `t` as content, as SQL: the id of a batch of their own history is none.
    pub(super) fn content(&self, column: usize) -> String {
        let name = format!("t.{}", self.physical(column));
        match self.batch_column {
            Some(own) if own.column == column => {
                format!("CASE WHEN {} THEN NULL ELSE {name} END", own.is_own)
            }
            _ => name,
        }
    }

    /// SQL for the id of a batch of their own history that existing rows `t` have; NULL if they have none.
    pub(super) fn own_batch(&self) -> String {
        match self.batch_column {
            Some(own) => {
                format!("CASE WHEN {} THEN t.{} END", own.is_own, self.physical(own.column))
            }
            None => "NULL".into(),
        }
    }

    /// The column whose value an existing row keeps when it gets the others of this one, with that value.
    pub(super) fn kept_batch<'v>(&self, own: &'v SqlValue) -> Option<(usize, &'v str)> {
        let column = self.batch_column.map(|own| own.column)?;
        match own {
            SqlValue::Text(id) if self.value(column) == Value::Null => Some((column, id)),
            _ => None,
        }
    }
}
