//! A batch on its way into the history of a file: started before its transaction, noted while it writes, completed with
//! its receipts.

use super::loading::SqliteLoading;
use super::{Recorded, SqliteTarget};
use crate::catalog::CatalogTable;
use crate::error::{Code, Error, Result};
use crate::history::{BatchRecord, TableChanges};
use crate::load::add_changes;
use crate::notice::Notice;
use crate::plan::StreamPlan;
use crate::sqlite::noting::{Deleted, Noting};
use crate::sqlite::{failed, history};
use crate::undo::{AddedColumn, ShapeReference};

impl SqliteTarget {
    /// Begins a batch. A new file that has no name yet has no history until it is whole.
    pub(super) fn open_batch_now(&mut self, batch: &BatchRecord, receipts: bool) -> Result<bool> {
        if self.created.is_none() {
            history::start(&self.connection, batch, &self.write_lock)?;
        }
        self.batch = Some(Recorded { record: batch.clone(), receipts, noting: None });
        Ok(true)
    }

    /// Notes from now on what the batch changes.
    pub(super) fn start_noting(&mut self) -> Result<()> {
        let key = |t: &CatalogTable| t.key.iter().map(|k| t.columns[*k].physical.clone()).collect();
        let tables: Vec<(String, Vec<String>)> =
            self.catalog.tables.iter().map(|t| (t.name.clone(), key(t))).collect();
        if let Some(batch) = self.batch.as_mut().filter(|batch| batch.receipts) {
            batch.noting = Some(Noting::start(&self.connection, &tables)?);
        }
        Ok(())
    }

    /// Notes a column that was added to a table.
    pub(super) fn note_column(&mut self, table: &str, column: &str, ty: &str) {
        if let Some(noting) = self.batch.as_mut().and_then(|batch| batch.noting.as_mut()) {
            noting.added.push(AddedColumn {
                schema: None,
                table: table.to_owned(),
                column: column.to_owned(),
                ty: ty.to_owned(),
                dropped: false,
            });
        }
    }

    /// The references of the layout between the tables, each with the table that it refers to.
    fn references(&self) -> Vec<(String, ShapeReference)> {
        let mut all = Vec::new();
        for table in &self.catalog.tables {
            for reference in &table.references {
                let parent = &self.catalog.tables[reference.table];
                let to =
                    reference.parent_columns.iter().map(|c| parent.columns[*c].physical.clone());
                let columns = reference.columns.iter().map(|c| table.columns[*c].physical.clone());
                let reference = ShapeReference {
                    schema: None,
                    table: table.name.clone(),
                    columns: columns.collect(),
                    to: to.collect(),
                };
                all.push((parent.name.clone(), reference));
            }
        }
        all
    }

    /// Says in the history that the batch has failed.
    pub(super) fn note_failure(batch: Option<Recorded>, file: &std::path::Path, error: &Error) {
        if let Some(mut batch) = batch {
            batch.record.fail(&error.full());
            history::note_failure(file, &batch.record);
        }
    }
}

impl SqliteLoading {
    /// Completes the batch in the history, with its receipts.
    pub(super) async fn seal_now(&mut self, record: &mut BatchRecord) -> Result<Option<Notice>> {
        let references = self.db.references();
        let connection = &mut self.db.connection;
        let cannot = |e| failed(Code::Target, "cannot write the history", e);
        if self.db.created.is_some() {
            history::create(connection).map_err(cannot)?;
        }
        let begun = self.db.batch.as_ref().map(|batch| &batch.record);
        if let Some(begun) = begun.filter(|record| record.is_half()) {
            history::require_half(connection, begun)?;
        }
        if let Some(noting) = self.db.batch.as_ref().and_then(|batch| batch.noting.as_ref()) {
            return noting.seal(connection, record, &references, None, Deleted::None).await;
        }
        record.seal(self.written(), None);
        history::put(&self.db.connection, record)
    }
    /// What this archive of the batch and earlier ones have done, as far as they were counted.
    pub(super) fn written(&self) -> Vec<TableChanges> {
        let mut all = self.db.written.clone();
        let streams = self.streams.iter().map(|progress| &progress.loaded);
        add_changes(&mut all, self.plan.streams.iter().map(StreamPlan::table_name).zip(streams));
        all
    }
}
