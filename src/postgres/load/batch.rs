//! The column for the id of the batch that has brought a row: filled in rows that are new, and no content.

use uuid::Uuid;

use super::PgTarget;
use crate::catalog::{CatalogTable, ColumnType};
use crate::error::{Code, Result};
use crate::plan::{Plan, TablePlan};
use crate::postgres::batch::OpenBatch;
use crate::postgres::history::HistoryTables;
use crate::postgres::{literal, quoted};
use chronicle_archive::Value;

/// The id that new rows get.
pub(super) struct BatchId {
    id: Uuid,
    text: String,
}

impl BatchId {
    pub(super) fn new(id: Uuid) -> BatchId {
        BatchId { id, text: id.to_string() }
    }

    /// The id as a value of a type.
    pub(super) fn value(&self, ty: &ColumnType) -> Value<'_> {
        match ty {
            ColumnType::Uuid => Value::Uuid(self.id.into_bytes()),
            _ => Value::Text(self.text.as_bytes()),
        }
    }

    /// The id as SQL, of a type.
    fn sql(&self, ty: &ColumnType) -> String {
        match ty {
            ColumnType::Uuid => format!("'{}'::uuid", self.text),
            _ => literal(&self.text),
        }
    }
}

impl PgTarget {
    /// Looks where the history is, if a table has ids of batches: those of its own are no content.
    pub(super) async fn find_own_batches(&mut self, plan: &Plan) -> Result<()> {
        if self.own_batches.is_none() && plan.tables().any(|(_, stream)| stream.batch.is_some()) {
            let schema = &self.found.schema;
            self.own_batches =
                HistoryTables::readable(&self.connection, Code::Target, schema).await?;
        }
        Ok(())
    }

    /// The id that new rows get. A column may refuse NULL also in a dry run, which has no batch.
    pub(super) fn batch_id(&self) -> BatchId {
        BatchId::new(self.batch.as_ref().map_or(Uuid::nil(), OpenBatch::id))
    }

    /// SQL for a column of stored rows as content: the id of a batch of their own history is none.
    pub(super) fn content(&self, stream: &TablePlan, column: usize, stored: &str) -> String {
        match (&self.own_batches, stream.batch == Some(column)) {
            (Some(tables), true) => {
                format!("CASE WHEN {} THEN NULL ELSE {stored} END", tables.is_own(stored))
            }
            _ => stored.to_owned(),
        }
    }

    /// SQL for the value that a new row gets in a column, given that of its staged one.
    pub(super) fn inserted(&self, stream: &TablePlan, column: usize, staged: String) -> String {
        match stream.batch == Some(column) {
            true => {
                let id = self.batch_id().sql(&stream.columns[column].ty);
                format!("coalesce({staged}, {id})")
            }
            false => staged,
        }
    }

    /// SQL for the value that a stored row gets in a column with those of a staged one: it keeps its own batch.
    pub(super) fn updated(&self, stream: &TablePlan, column: usize, staged: String) -> String {
        let stored = || {
            let name = &self.catalog.tables[stream.table].columns[stream.columns[column].target];
            format!("t.{}", quoted(&name.physical))
        };
        match (&self.own_batches, stream.batch == Some(column)) {
            (Some(tables), true) => {
                let stored = stored();
                let own = tables.is_own(&stored);
                format!("CASE WHEN {staged} IS NULL AND {own} THEN {stored} ELSE {staged} END")
            }
            _ => staged,
        }
    }

    /// SQL for a column of rows as they are read back: where the batch has filled it, it is as the archive has it.
    pub(super) fn read_back(&self, stream: &TablePlan, column: usize, all_new: bool) -> String {
        let name = &self.catalog.tables[stream.table].columns[stream.columns[column].target];
        let stored = format!("c.{}", quoted(&name.physical));
        match stream.batch == Some(column) && all_new {
            // a gap that was not filled is no gap of the archive
            true => {
                let id = self.batch_id();
                let ty = &stream.columns[column].ty;
                let gap = if *ty == ColumnType::Uuid {
                    "'00000000-0000-0000-0000-000000000000'"
                } else {
                    "''"
                };
                format!("nullif(coalesce({stored}, {gap}), {})", id.sql(ty))
            }
            false => self.content(stream, column, &stored),
        }
    }

    /// The column of a table for the id of the batch, and this id, as SQL.
    pub(super) fn filled_column(&self, table: &CatalogTable) -> Option<(String, String)> {
        let column = &table.columns[table.batch_column()?];
        Some((quoted(&column.physical), self.batch_id().sql(&column.ty)))
    }
}
